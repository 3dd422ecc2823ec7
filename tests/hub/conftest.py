"""A Hub of its own for the tests of this folder, and two users of it: one has the package, one does not."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Test folders are no packages: a neighbouring file is loaded by its path.
_specification = importlib.util.spec_from_file_location("loopback_hub", Path(__file__).with_name("loopback.py"))
loopback = importlib.util.module_from_spec(_specification)
sys.modules["loopback_hub"] = loopback
_specification.loader.exec_module(loopback)

# Runs one function after the other, so that the libraries are imported once. huggingface_hub waits 1 + 2 + 4 + 8 + 8
# seconds between six attempts; the attempts are made, the waiting is not.
_DRIVER = """
import contextlib, io, json, os, sys, time, traceback, types
if sys.argv[1] == "stranger":
    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("gengram", "modeling_gengram"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Blocker())
import huggingface_hub.utils._http
huggingface_hub.utils._http.time = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    call = json.loads(line)
    out, err, names = io.StringIO(), io.StringIO(), {"__name__": "user"}
    answer = {}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exec(compile(call["source"], call["name"], "exec"), names)
            answer["result"] = names[call["name"]](**call["arguments"])
    except BaseException:
        answer["error"] = traceback.format_exc()
    answer |= {"out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer), file=channel, flush=True)
"""


class User:
    """A process with its own cache, token and imports, in which functions of a test run.

    A function is sent as source text: it imports what it needs, takes and returns what JSON can hold.
    """

    def __init__(self, kind: str, hub, home: Path, **variables: str):
        self.home = home
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home / "hf"),
            "HF_TOKEN": loopback.WRITER,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HOME": str(home),
            **variables,
        }
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "stderr.txt").open("w"),
            text=True,
            env=environment,
            cwd=home,
        )

    def call(self, function, **arguments):
        """Run the function there and return what it returns; `out` and `err` keep what it printed."""
        source = textwrap.dedent(inspect.getsource(function))
        call = {"source": source, "name": function.__name__, "arguments": arguments}
        self.process.stdin.write(json.dumps(call, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the user's process ended:\n{(self.home / 'stderr.txt').read_text()[-3000:]}"
        answer = json.loads(line)
        self.out, self.err = answer["out"], answer["err"]
        assert "error" not in answer, f"{answer['error']}\n{self.err[-2000:]}"
        return answer["result"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def hub_server():
    with loopback.LoopbackHub() as hub:
        yield hub


@pytest.fixture
def hub(hub_server, request):
    """The Hub, with empty counters and no failures ordered; repositories stay from test to test.

    What a test asked of it since it last cleared the counter is shown where the test fails, and with `pytest -rA`.
    """
    hub_server.recover()
    hub_server.requests.clear()
    hub_server.paths.clear()
    yield hub_server
    asked = "\n".join([f"{count:4} {route}" for route, count in hub_server.requests.most_common()] + hub_server.paths)
    request.node.add_report_section("teardown", "requests to the Hub", asked)


@pytest.fixture(scope="session")
def user(hub_server, tmp_path_factory):
    """A user with the package and a token that may write."""
    user = User("user", hub_server, tmp_path_factory.mktemp("user"))
    yield user
    user.close()


@pytest.fixture
def offline_user(hub_server, user, tmp_path_factory):
    """A user without a network but with the cache of `user`: the libraries read that variable once, when imported."""
    cache = user.environment["HF_HOME"]
    offline = User("user", hub_server, tmp_path_factory.mktemp("offline"), HF_HOME=cache, HF_HUB_OFFLINE="1")
    yield offline
    offline.close()


@pytest.fixture(scope="session")
def stranger(hub_server, tmp_path_factory):
    """A user to whom the package does not exist."""
    stranger = User("stranger", hub_server, tmp_path_factory.mktemp("stranger"))
    yield stranger
    stranger.close()
