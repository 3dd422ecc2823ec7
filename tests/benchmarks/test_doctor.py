"""`gengram doctor`: what it finds, and that it survives whatever is broken."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from gengram.benchmarks.command import doctor
from gengram.benchmarks.doctor import devices, extras, facts, folders, kernels, libraries, report, threads
from gengram.benchmarks.doctor.apart import examine_apart
from gengram.benchmarks.doctor.facts import Fact, describe_facts, tabulate_facts
from gengram.benchmarks.doctor.hub import name_endpoint
from gengram.files import describe_size

ROOT = Path(__file__).parents[2]
PACKAGE = "gengram.benchmarks.doctor"


def examine(*parts: str) -> dict[str, Fact]:
    return {fact.name: fact for fact in examine_apart([f"{PACKAGE}.{part}" for part in parts])}


@pytest.fixture
def hide(tmp_path, monkeypatch):
    """Let processes that start from now on begin with some lines of Python."""

    def begin_with(code: str) -> None:
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "sitecustomize.py").write_text(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    return begin_with


@pytest.fixture
def small(monkeypatch):
    """The parts that take no time."""
    monkeypatch.setattr(report, "PARTS", ("compiler", "folders"))


def test_its_answer_here(capsys, tmp_path):
    """The whole of it: a table, the same as JSON, and the exit code that follows from it."""
    path = tmp_path / "doctor.json"
    code = doctor(["--quiet", "--json", str(path)])
    told = json.loads(path.read_text())
    found = {fact["name"]: fact for fact in told["facts"]}
    table = capsys.readouterr().out
    assert code == int(not told["healthy"]) and told["healthy"] == (not told["verdicts"]["fails"])
    assert sum(told["verdicts"].values()) == len(told["facts"])
    assert {"gengram", "Python", "processor", "CUDA", "threads", "BigBird, gathered blocks"} <= found.keys()
    assert set(libraries.REQUIRED) | {"triton"} | {name for _, name in extras.EXTRAS} <= found.keys()
    assert found["torch"]["verdict"] == "ok" and found["torch"]["data"]["version"] == torch.__version__
    assert found["BigBird, gathered blocks"]["verdict"] == "ok"
    for fact in told["facts"]:
        assert set(fact) == set(Fact._fields) and fact["verdict"] in ("ok", "note", "fails")
        assert f"  {fact['verdict']:<6}{fact['name']}" in table
        assert fact["verdict"] != "fails" or fact["remedy"]
    if shutil.which("c++"):
        errors = found["C++ memory, float32"]["data"]["errors"]["released"]
        assert 0 < errors[0] < 1e-5 and 0 < errors[1] < 1e-3
    if not torch.cuda.is_available():
        assert found["Triton memory"]["verdict"] == "note"


def test_a_compiler_that_is_none_fails_with_a_remedy_and_exit_code_1(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr(report, "PARTS", ("compiler", "kernels"))
    assert doctor(["--quiet"]) == 1
    table = capsys.readouterr().out
    for name in ("C++ compiler", "C++ memory, float32", "C++ memory, float64"):
        assert f"  fails {name}" in table
    assert "ten times slower" in table and "-> Name a compiler" in table and "Traceback" not in table


@pytest.mark.parametrize(("built", "verdict"), [(None, "note"), ("13.0", "fails")])
def test_triton_is_missed_where_pytorch_is_built_for_gpus(built, verdict, hide, tmp_path, monkeypatch):
    step = "Step('libraries', 'triton', examine_triton)"
    imports = f"from {PACKAGE}.libraries import examine_triton\nfrom {PACKAGE}.facts import Step\n"
    (tmp_path / "only_triton.py").write_text(f"{imports}def list_steps():\n    return [{step}]\n")
    monkeypatch.syspath_prepend(tmp_path)
    hide(
        f"""
        import sys
        from importlib.machinery import PathFinder
        sys.modules["triton"] = None

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name != "torch.version":
                    return None
                spec = PathFinder.find_spec(name, path)
                run = spec.loader.exec_module
                spec.loader.exec_module = lambda module: (run(module), setattr(module, "cuda", {built!r}))
                return spec

        sys.meta_path.insert(0, Finder())
        """
    )
    (found,) = examine_apart(["only_triton"])
    assert found.verdict == verdict
    assert ("pip install triton" in found.remedy) == (verdict == "fails")


def test_what_this_process_does_without_is_missing_for_its_processes_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = examine("extras")["matplotlib"]
    assert found.verdict == "fails" and "cannot be imported" in found.found


def test_a_broken_library_is_told_and_the_others_are_examined(tmp_path, monkeypatch):
    """numba raises an error of its own, pysam takes the process with it."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise SystemError('no entry point')")
    (tmp_path / "pysam.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine("extras")
    assert "SystemError: no entry point" in found["numba"].found and found["numba"].verdict == "fails"
    if found["pysam"].data == {}:  # it is installed, and was imported
        assert "ended by SIGKILL" in found["pysam"].found and "pip uninstall pysam" in found["pysam"].remedy
    assert "onnxruntime" in found


def test_steps_that_raise_crash_exit_hang_or_print(tmp_path, monkeypatch):
    (tmp_path / "made_steps.py").write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from gengram.benchmarks.doctor.facts import Fact, Step

            def crash(): os.abort()
            def leave(): sys.exit(0)
            def fail(): raise KeyError("what is this")
            def hang(): time.sleep(60)
            def talk():
                print("noise"); os.write(1, b"noise\\n")
                return Fact("made", "talk", str(os.getpid()))

            def list_steps():
                steps = [Step("made", name, globals()[name], 1.0 if name == "hang" else 60.0)
                         for name in ("talk", "crash", "leave", "fail", "hang")]
                return [*steps, Step("made", "spoilt", fail, spoils=True), Step("made", "last", talk)]
            """
        )
    )
    (tmp_path / "no_steps.py").write_text("import no_such_module")
    (tmp_path / "fatal_steps.py").write_text("import os; os._exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    found = list(examine_apart(["made_steps", "no_steps", "fatal_steps", "made_steps"]))
    names = ["talk", "crash", "leave", "fail", "hang", "spoilt", "talk"]
    assert [fact.name for fact in found] == [*names, "no_steps", "fatal_steps", *names]
    told = {fact.name: fact.found for fact in found}
    assert "SIGABRT" in told["crash"] and "exit code 0" in told["leave"] and "what is this" in told["fail"]
    assert told["hang"] == "no answer within 1 s"
    assert "no_such_module" in told["no_steps"] and "exit code 3" in told["fatal_steps"]
    assert [fact.verdict for fact in found[:7]] == ["ok", "fails", "fails", "fails", "fails", "fails", "ok"]
    assert found[0].found != found[6].found  # behind what may have spoilt it, another process


def test_a_process_that_cannot_start_pytorch(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine("libraries", "devices", "threads", "kernels")
    assert "libtorch_cpu.so" in found["torch"].found and "pip install --force-reinstall" in found["torch"].remedy
    assert all(
        found[name].verdict == "fails" and found[name].remedy for name in ("processor", "GPUs", "threads", "kernels")
    )
    assert found["numpy"].verdict == "ok"


def test_versions_that_do_not_suit(monkeypatch):
    monkeypatch.setattr(libraries, "find_bounds", lambda: {"numpy": ">=99,<100"})
    found = libraries.examine_library("numpy")
    assert found.verdict == "fails" and ">=99,<100 is needed" in found.found
    assert found.remedy == "pip install 'numpy>=99,<100'"
    monkeypatch.setattr(libraries, "find_bounds", dict)
    assert [fact.verdict for fact in libraries.examine_package()] == ["note", "ok"]
    missing = libraries.examine_library("no-such-library")
    assert missing.verdict == "fails" and missing.found.startswith("missing: ")


def test_bounds_are_those_of_the_package_and_everything_it_needs_is_examined():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = setup["options"]["install_requires"].split()
    assert {name.split(">")[0] for name in needed} == set(libraries.REQUIRED)
    assert libraries.find_bounds()["torch"].startswith(">=2.")
    brought = {
        (extra, line.split(";")[0].strip())
        for extra, lines in setup["options.extras_require"].items() if extra != "dev"
        for line in lines.strip().splitlines() if not line.strip().startswith("#")
    }  # fmt: skip
    assert brought == set(extras.EXTRAS)


@pytest.fixture
def examine_in(tmp_path):
    return lambda place, verdict="note": folders.examine_folder("HF_HOME", place, verdict, "models")


def test_folders_that_can_be_written_to(examine_in, tmp_path):
    assert examine_in(tmp_path).verdict == "ok"
    new = examine_in(tmp_path / "not" / "yet")
    assert "not made yet" in new.found and new.data["writable"] and list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written_to(examine_in, tmp_path, monkeypatch):
    """A file in the place of a folder, no folder at all, a full disk, a file system that is read-only."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", None):
        found = examine_in(place, "fails")
        assert found.verdict == "fails" and "set HF_HOME to a folder that can be written to" in found.remedy
        assert not found.data["writable"]
    for number in (28, 30, 13):
        fault = OSError(number, os.strerror(number))
        monkeypatch.setattr(folders, "_write", lambda folder, fault=fault: (_ for _ in ()).throw(fault))
        assert os.strerror(number) in examine_in(tmp_path).found


def test_a_small_disk_is_a_note(examine_in, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda place: usage._replace(free=1000))
    assert examine_in(tmp_path).verdict == "note" and describe_size(1000) in examine_in(tmp_path).found


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(examine_in, tmp_path):
    (tmp_path / "theirs").mkdir(0o500)
    assert "cannot be written to" in examine_in(tmp_path / "theirs" / "cache").found


def test_a_read_only_home():
    """By a mount in a name space of its own, as root may write where permissions forbid it."""
    apart = ["unshare", "-Urm"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no name spaces here")
    code = f"import json; from {PACKAGE}.folders import list_steps; print(json.dumps([s.run() for s in list_steps()]))"
    line = f"mount -t tmpfs -o ro tmpfs /mnt && cd / && HOME=/mnt {sys.executable} -c '{code}'"
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([*apart, "sh", "-c", line], capture_output=True, text=True, env=environment)
    if "mount" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    found = {name: (verdict, text) for _, name, text, verdict, *_ in json.loads(done.stdout)}
    for name in ("HF_HOME", "gengram", "TRITON_CACHE_DIR"):
        assert found[name][0] == "note" and "Read-only file system" in found[name][1]
    assert found["temporary files"][0] == "ok"


def test_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("HF_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(folders.Path, "home", homeless)
    found = {fact.name: fact for fact in (step.run() for step in folders.list_steps())}
    assert found["HF_HOME"].found == found["gengram"].found == "there is no such folder"


@pytest.mark.parametrize(
    ("policy", "times", "verdict"),
    [
        ("", (0.01, 0.5), "note"),
        ("ACTIVE", (0.01, 0.02), "note"),
        ("PASSIVE", (0.01, 0.5), "ok"),
        ("", (0.01, 0.008), "ok"),
    ],
)
def test_threads_that_wait_actively(policy, times, verdict, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr(threads, "count_cores", lambda: 64 if times[1] < times[0] else 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(threads, "_time_training", lambda count: times[count > 1])
    found = threads.examine_threads()[1]
    assert found.verdict == verdict
    assert ("OMP_WAIT_POLICY=PASSIVE" in found.remedy) == (verdict == "note")


def test_more_threads_than_cores_are_a_note(monkeypatch):
    monkeypatch.setattr(threads, "count_cores", lambda: 1.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(threads, "_time_training", lambda count: 0.01)
    assert threads.examine_threads()[0].remedy == "export OMP_NUM_THREADS=1"


@pytest.fixture
def gpus(monkeypatch):
    """As if PyTorch was built for GPUs, and there were so many."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        named = type("Properties", (), {"name": "NVIDIA H100", "major": 9, "minor": 0})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: named)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (70 * 10**9 if index else 10**9, 80 * 10**9))

    return pretend


def test_gpus_are_listed_with_what_is_free(gpus):
    gpus(2)
    found = {fact.name: fact for fact in devices.examine_gpus()}
    assert found["CUDA"].data["devices"] == 2 and "13.0" in found["CUDA"].found
    assert found["cuda:0"].verdict == "note" and found["cuda:1"].verdict == "ok"
    assert found["cuda:1"].data["capability"] == "9.0" and "70 GB of 80 GB free" in found["cuda:1"].found
    gpus(0)
    assert devices.examine_gpus()[0].verdict == "note" or list(Path("/dev").glob("nvidia[0-9]*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_every_kernel_is_tried_on_every_gpu_and_one_that_does_not_run_fails(gpus, monkeypatch):
    gpus(2)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    names = [step.name for step in kernels.list_steps() if step.spoils]
    assert len(names) == len(set(names)) == 12 and sum("Triton memory, cuda:1" in name for name in names) == 3
    found = kernels.examine_triton_memory("cuda:0", "bfloat16")
    assert found.verdict == "fails" and "does not run" in found.found and "ten times slower" in found.remedy


def test_wrong_results_fail():
    right = kernels._judge("one", "float32", {"a": (1e-7, 1e-5)}, "do this")
    wrong = kernels._judge("one", "float32", {"a": (1e-7, 1e-5), "b": (float("inf"), 1e-5)}, "do this")
    assert right.verdict == "ok" and wrong.verdict == "fails" and "(b)" in wrong.found and "do this" in wrong.remedy
    json.dumps(describe_facts([right, wrong]), allow_nan=False)


class Hub(BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self):
        self.send_response(self.status)
        self.end_headers()

    def do_GET(self):
        known = self.headers.get("Authorization") == "Bearer hf_known"
        body = json.dumps({"name": "somebody", "type": "user"} if known else {"error": "Invalid credentials"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on this machine, and a home without a token."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("token", "verdict"), [(None, "note"), ("hf_known", "ok"), ("hf_stranger", "fails")])
def test_the_hub_is_asked_and_no_token_is_shown(token, verdict, hub, small, monkeypatch, capsys):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    code = doctor(["--hub", "--json"])
    out, err = capsys.readouterr()
    found = {fact["name"]: fact for fact in json.loads(out)["facts"]}
    assert found["endpoint"]["verdict"] == "ok" and found["token"]["verdict"] == verdict
    assert found["token"]["data"]["token"] == bool(token)
    assert not token or token not in out + err
    assert code == int(verdict == "fails")


def test_a_hub_that_is_not_there_or_must_not_be_asked(hub, small, monkeypatch, capsys):
    hub.shutdown()
    hub.server_close()
    assert doctor(["--hub", "--quiet"]) == 1
    assert "cannot be reached" in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor(["--hub", "--quiet"]) == 0
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().out


def test_the_network_is_left_alone_without_the_flag(hub, small, monkeypatch, capsys):
    assert doctor(["--quiet", "--json"]) == 0
    assert not [fact for fact in json.loads(capsys.readouterr().out)["facts"] if fact["group"] == "Hub"]


def test_a_password_in_an_address_is_not_shown():
    assert name_endpoint("https://me:secret@hub.lab:8443/hf?key=1#x") == "https://hub.lab:8443/hf"


def test_names_are_printed_in_one_line():
    table = tabulate_facts([Fact("group", "na\nme", "\x1b[31mred\n" + "x" * 9999, "fails", "do\nthis")])
    assert "\x1b" not in table and all(len(line) < 600 for line in table.splitlines())
    assert table.splitlines()[-1] == "1 line with something to be done; 0 notes" and len(table.splitlines()) == 5
    assert facts.tabulate_facts([]).strip()
