"""Several processes do one command: the one that has started them watches them; there is one message."""

import subprocess
import sys
import time

import pytest

from gengram import phases
from gengram.command_line import Told
from gengram.errors import InputError
from gengram.pipelines import processes as module
from gengram.pipelines.processes import run_processes


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


class TestWatching:
    """`run_processes`, with processes that do nothing else than what is tried."""

    @pytest.fixture
    def run(self, monkeypatch):
        def run(code: str, count: int = 2) -> None:
            head = "import os, signal, sys, time; rank = int(os.environ['RANK']); path = {path!r}\n"
            monkeypatch.setattr(module, "_CODE", head + code.replace("{", "{{").replace("}", "}}"))
            run_processes(["verb", "word"], ["cpu"] * count)

        return run

    def test_all_end_well(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "5")  # somebody's own choice
        run(f"open('{tmp_path}/' + str(rank), 'w').write(os.environ['OMP_NUM_THREADS'] + ' ' + sys.argv[2])", 3)
        assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["5 word"] * 3

    def test_the_processors_are_divided(self, run, tmp_path, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(module, "_count_processors", lambda: 7)
        for count, threads in ((2, "3"), (9, "1")):
            run(f"open('{tmp_path}/' + str(rank), 'w').write(os.environ['OMP_NUM_THREADS'])", count)
            assert (tmp_path / "1").read_text() == threads

    @pytest.mark.parametrize(
        ("end", "message"),
        [
            ("os.kill(os.getpid(), signal.SIGKILL)", r"process 2 of 2 \(cpu\) was ended by SIGKILL: the memory"),
            ("sys.exit(3)", "process 2 of 2 .cpu. has ended with exit code 3, without a message"),
        ],
    )
    def test_one_that_ends_in_silence_is_told_and_the_others_end(self, end, message, run):
        begun = time.monotonic()
        with pytest.raises(InputError, match=message):
            run(f"time.sleep(0.2)\nif rank: {end}\ntime.sleep(60)")
        assert time.monotonic() - begun < 30

    def test_what_a_process_has_told_is_not_told_again(self, run):
        with pytest.raises(Told) as caught:
            run(
                "sys.path[:] = path\nfrom gengram.team import join\n"
                "if rank: join().claim('error'); sys.exit(1)\ntime.sleep(60)"
            )
        assert caught.value.code == 1

    def test_nobody_reads_the_answer(self, run):
        with pytest.raises(Told) as caught:
            run("sys.exit(141)")
        assert caught.value.code == 141

    def test_an_interrupt_ends_all(self, run, tmp_path, monkeypatch):
        def interrupt(processes):
            while len(list(tmp_path.glob("started-*"))) < 2:
                time.sleep(0.02)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(
                f"signal.signal(signal.SIGTERM, lambda *_: (open('{tmp_path}/ended-' + str(rank), 'w'), sys.exit()))\n"
                f"open('{tmp_path}/started-' + str(rank), 'w')\ntime.sleep(60)"
            )
        assert len(list(tmp_path.glob("ended-*"))) == 2

    def test_one_that_does_not_end_is_killed(self, run, monkeypatch):
        monkeypatch.setattr(module, "_GRACE", 0.5)
        with pytest.raises(InputError, match="exit code 3"):
            run("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif rank: time.sleep(0.5); sys.exit(3)\ntime.sleep(60)")

    def test_nothing_is_said_of_a_command_that_others_do(self, run, monkeypatch, capsys):
        with phases.recording() as recorded:
            run("pass")
            monkeypatch.setattr(phases, "MINUTE", 0.0)
            recorded.tell_of_silence()
        assert capsys.readouterr().err == ""

    def test_processes_end_with_the_one_that_has_started_them(self, tmp_path):
        code = (
            f"from gengram.pipelines import processes\n"
            f"processes._CODE = {_ORPHAN.replace('FOLDER', str(tmp_path))!r}\n"
            "processes.run_processes([], ['cpu', 'cpu'])"
        )
        parent = subprocess.Popen([sys.executable, "-c", code])
        while len(list(tmp_path.glob("started-*"))) < 2:
            time.sleep(0.05)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("ended-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(tmp_path.glob("ended-*"))) == 2


_ORPHAN = (
    "import os, signal, sys, time; sys.path[:] = {path!r}\n"
    "from gengram.pipelines.processes import watch_starter\n"
    "signal.signal(signal.SIGTERM, lambda *_: (open('FOLDER/ended-' + os.environ['RANK'], 'w'), sys.exit()))\n"
    "watch_starter()\n"
    "open('FOLDER/started-' + os.environ['RANK'], 'w')\n"
    "time.sleep(60)"
)
