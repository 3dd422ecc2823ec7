"""Processes that were started together: which one this is, what they agree on, and who tells an error."""

import datetime
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from torch.distributed import FileStore

from gengram import team
from gengram.command_line import complain
from gengram.errors import InputError
from gengram.progress import tell
from gengram.team import STORE, Team, is_main, join, speaks


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", STORE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(team, "_team", None)
    monkeypatch.setattr(team, "_is_lost", False)


def start(monkeypatch, rank: int, **variables: str) -> None:
    for name, value in {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", **variables}.items():
        monkeypatch.setenv(name, value)


def test_without_a_launcher_there_is_no_team(monkeypatch):
    assert join() is None and is_main() and speaks()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join() is None


def test_one_is_the_first_and_the_main_one_waits(monkeypatch, tmp_path):
    start(monkeypatch, 1, **{STORE: str(tmp_path / "store")})
    second = join()
    assert second is not None and (second.rank, second.size, second.local_rank) == (1, 2, 1) and not is_main()
    first = Team(0, 2, FileStore(str(tmp_path / "store"), 2))
    assert second.claim("a") and not first.claim("a") and first.claim("b") and not first.claim("b")
    first.leave()
    waiting = threading.Thread(target=first.wait, daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    second.leave()
    waiting.join(10)
    assert not waiting.is_alive()


def test_the_first_one_to_fail_tells_it_and_notes_are_of_the_main_one(monkeypatch, tmp_path, capsys):
    start(monkeypatch, 1, **{STORE: str(tmp_path / "store")})
    join()
    tell("a note")
    assert complain("gengram try", "mend this") == 1 and complain("gengram try", "and that") == 1
    assert capsys.readouterr().err == "gengram try: error: mend this\n"


def test_before_they_have_joined_the_main_one_tells_what_all_find(monkeypatch, capsys):
    for rank in (1, 0):
        start(monkeypatch, rank)
        complain("gengram try", f"{rank}")
    assert capsys.readouterr().err == "gengram try: error: 0\n"


def test_the_store_of_a_launcher_is_found_and_counts_each_command_anew(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found: list[Team | None] = []
    start(monkeypatch, 0, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    opening = threading.Thread(target=lambda: found.append(join()), daemon=True)
    opening.start()  # the main one has the store, and waits for the others
    other = Team(1, 2, open_client(port))
    opening.join(30)
    (first,) = found
    assert first is not None and first.claim("a")
    again = join()
    assert again is not None and again.claim("a") and other.claim("a")


def open_client(port: int):
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", port, 2, is_master=False)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "MASTER_ADDR expected.*accelerate launch, torchrun or --devices"),
        ({"RANK": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "-1"}, "RANK is -1"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment is no number"),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "no"}, "the other processes cannot be found"),
        ({STORE: "/no/such/folder/store"}, "the other processes cannot be found"),
    ],
)
def test_variables_that_make_no_sense(variables, message, monkeypatch):
    start(monkeypatch, 0, **variables)
    with pytest.raises(InputError, match=message):
        join()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1"}, "mend this"),  # no WORLD_SIZE: it is alone
        ({"RANK": "one"}, "RANK='one' in the environment is no number"),
        ({"RANK": "1", "WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({"RANK": "5", "WORLD_SIZE": "2"}, "RANK is 5 and WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "WORLD_SIZE is 2 .* there is no RANK"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "the other processes cannot be found"),
    ],
)
def test_who_has_no_team_tells_its_errors_itself(variables, message, monkeypatch, capsys):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        join()
        complain("gengram try", "mend this")
    except InputError as error:
        complain("gengram try", str(error))
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_do_not_come_are_waited_for_aloud_and_not_for_ever(rank, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start(monkeypatch, rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    monkeypatch.setattr(team, "_SOON", 0.1)
    monkeypatch.setattr(team, "_PATIENCE", datetime.timedelta(seconds=2))
    said = f"process {rank + 1} of 2 waits for the others at 127.0.0.1:{port}"
    with pytest.raises(InputError, match="the other processes cannot be found"), pytest.warns(UserWarning, match=said):
        join()
    assert speaks()


def test_the_wait_for_others_can_be_interrupted(tmp_path):
    # A program that was started in the background may have inherited that SIGINT does nothing.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from gengram import cli, team; team._SOON = 0.1; sys.exit(cli.main())"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "rows.fa").write_text(">a\nACGT\n")
    words = ["embed", str(tmp_path / "rows.fa"), "--model", str(tmp_path), "--out", str(tmp_path / "out.npz")]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}
    waiting = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, env={**os.environ, **places}
    )
    assert waiting.stderr is not None
    try:
        said = waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert "waits for the others" in said and "interrupted" in waiting.communicate(timeout=60)[1]
        assert waiting.returncode == 130
    finally:
        waiting.kill()


def test_a_launcher_that_is_gone(monkeypatch, capsys):
    class Gone:
        def add(self, name, step):
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(InputError, match="what has started the 2 processes does not answer any more"):
        Team(0, 2, Gone()).claim("a")
    monkeypatch.setattr(team, "_team", Team(0, 2, Gone()))
    assert speaks()  # the main one tells it
