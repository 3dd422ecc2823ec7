"""Processes that were started together: which one this is, what they agree on, and who tells an error."""

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
    import socket

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


def test_a_launcher_that_is_gone(monkeypatch, capsys):
    class Gone:
        def add(self, name, step):
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(InputError, match="what has started the 2 processes does not answer any more"):
        Team(0, 2, Gone()).claim("a")
    monkeypatch.setattr(team, "_team", Team(0, 2, Gone()))
    assert speaks()  # the main one tells it
