"""The job script: what it asks for, that a shell reads it, and what it does when SLURM says that the time is over."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.training.accelerate_configs import CONFIGS
from gengram.training.pretraining.slurm import CONFIG_OF, Job, render_job, write_job

COMMAND = ("human.yaml", "--corpus", "corpora/human", "--out", "runs/my model")


def make(**fields) -> Job:
    return Job(**{"command": COMMAND, "out": "runs/my model", **fields})


def read_by_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def read_options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_what_it_asks_for():
    script = render_job(make(gpus=32, gpus_per_node=8, hours=36.5, cpus_per_gpu=6, sharding="fsdp2"))
    read_by_bash(script)
    told = read_options(script)
    assert told["job-name"] == "my_model" and told["nodes"] == "4" and told["gpus-per-node"] == "8"
    assert told["ntasks-per-node"] == "1" and told["cpus-per-task"] == "48" and told["time"] == "1-12:30:00"
    assert "requeue" in told and told["signal"] == "B:USR1@300"
    words = shlex.split(script.split("accelerate.commands.launch", 1)[1].split("&\n")[0].replace("\\\n", " "))
    assert words[words.index("--num_processes") + 1] == "32"
    end = words[words.index("-m", words.index("--main_process_port")) :]
    assert end == ["-m", "gengram", "pretrain", *COMMAND, "--max_hours", "36.25", "--resume_from_checkpoint"]
    assert 'gengram.training.accelerate_configs fsdp2)"' in script


def test_one_gpu_needs_no_configuration():
    script = render_job(make(gpus=1, hours=0.5))
    read_by_bash(script)
    told = read_options(script)
    assert (told["nodes"], told["gpus-per-node"], told["time"]) == ("1", "1", "0-00:30:00")
    assert "--config_file" not in script and "--max_hours 0.45 " in script


def test_every_way_to_divide_has_a_shipped_configuration():
    assert set(CONFIG_OF.values()) == set(CONFIGS)
    for sharding in CONFIG_OF:
        read_by_bash(render_job(make(gpus=8, sharding=sharding)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_whatever_the_words_are_a_shell_gives_them_back(words):
    script = render_job(make(command=words, out="o"))
    read_by_bash(script)
    body = script.split("-m gengram ", 1)[1].rsplit(" --max_hours", 1)[0]
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {body}"], capture_output=True, check=True).stdout
    assert printed.decode().split("\0")[:-1] == ["pretrain", *words]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hours": 0}, "hours=0"),
        ({"hours": float("nan")}, "hours=nan"),
        ({"gpus": 12}, "12 GPUs are no whole machines of 8"),
        ({"gpus": 0}, "gpus=0"),
        ({"sharding": "zero1"}, "there are configurations for ddp, zero2, zero3, fsdp2"),
        ({"out": "a\nb"}, "line break"),
    ],
)
def test_what_cannot_be_asked_for(fields, message):
    with pytest.raises(InputError, match=message):
        make(**fields)


_LAUNCHER = f"""#!{sys.executable}
import json, os, signal, subprocess, sys
if sys.argv[2] != "accelerate.commands.launch":
    print("config of", sys.argv[3])
    sys.exit()
def die(*_):
    open("launcher-told", "w").close()
    sys.exit(1)
signal.signal(signal.SIGTERM, die)
child = subprocess.Popen([sys.executable, "-c", '''
import signal, sys, time
def save(*_):
    time.sleep(0.2)
    open("checkpoint", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open("started", "w").close()
time.sleep({{seconds}})
open("run/pretraining.json", "w").close()
'''.replace("{{seconds}}", os.environ["SECONDS_OF_RUN"])], start_new_session=True)
json.dump(sys.argv, open("argv.json", "w"))
sys.exit(1 if child.wait() else 0)
"""
_SRUN = """#!/bin/bash
while [ "$1" != bash ]; do shift; done
echo $$ > srun-pid
export SLURM_NODEID=0
exec setsid "$@"
"""
# As with SLURM's process tracking by groups: whatever has the task's group is told.
_SCANCEL = '#!/bin/bash\necho "$@" >> scancel\nkill -TERM -- "-$(cat srun-pid)"\n'
_SCONTROL = '#!/bin/bash\nif [ "$1" = show ]; then echo node-1; else echo "$@" >> scontrol; fi\n'


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with the commands of SLURM, as far as the script calls them, and a job script in it."""
    if not all(map(shutil.which, ("bash", "setsid", "pkill", "ps"))):
        pytest.skip("bash, setsid, pkill or ps is not here")
    for name, text in {"python": _LAUNCHER, "srun": _SRUN, "scancel": _SCANCEL, "scontrol": _SCONTROL}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "run").mkdir()
    write_job(Job(["r.yaml", "--out", "run"], "run", gpus=2, folder=str(tmp_path)), tmp_path / "job.sh")
    variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": str(tmp_path / "bin" / "python")}
    slurm = {"SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "node-[1]", "SLURM_NNODES": "1"}

    def start(seconds: str) -> subprocess.Popen:
        environment = {**os.environ, **variables, **slurm, "SECONDS_OF_RUN": seconds}
        return subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    return tmp_path, start


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.02)


def test_a_run_that_ends_by_itself_is_done(cluster):
    folder, start = cluster
    job = start("0")
    assert "the run is done" in job.communicate(timeout=60)[0] and job.returncode == 0
    assert not (folder / "scontrol").exists()
    argv = json.loads((folder / "argv.json").read_text())
    assert argv[argv.index("--config_file") + 1] == "config of ddp"
    assert argv[argv.index("--main_process_ip") + 1] == "node-1"
    assert argv[argv.index("--main_process_port") + 1] == "20041"
    again = start("0")
    assert "the run is done" in again.communicate(timeout=60)[0] and again.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_when_the_time_is_over_the_run_saves_and_queues_again(cluster, number):
    folder, start = cluster
    job = start("60")
    wait_for(folder / "started")
    job.send_signal(number)
    assert "back into the queue" in job.communicate(timeout=60)[0] and job.returncode == 0
    assert (folder / "checkpoint").exists() and not (folder / "launcher-told").exists()
    assert (folder / "scontrol").read_text() == "requeue 41\n"
    assert (folder / "scancel").read_text() == "--signal=TERM 41\n"


def test_a_run_that_fails_is_not_queued_again(cluster):
    folder, start = cluster
    job = start("no number")
    job.communicate(timeout=60)
    assert job.returncode == 1 and not (folder / "scontrol").exists()
