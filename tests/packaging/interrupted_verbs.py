"""A process that runs verbs and interrupts them: a line of JSON in, a line of JSON out.

Each verb runs in a fork, so that the libraries are imported once. What the fields of a request are, says `run_verb`.
"""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet
from safetensors import safe_open

WORK = [
    "gengram.training.finetune",
    "gengram.training.command",
    "gengram.training.pretraining.command",
    "gengram.training.pretraining.pretrain",
    "gengram.training.publishing.command",
    "gengram.training.publishing.dataset",
    "gengram.training.publishing.upload",
    "gengram.pipelines.command",
    "gengram.pipelines.predict",
    "gengram.pipelines.scan_file",
    "gengram.pipelines.embed_file",
    "gengram.pipelines.segment_genome",
    "gengram.tokenization.command",
    "gengram.tokenization.train_tokenizer",
    "gengram.conversion.command",
    "gengram.conversion.megatron",
    "gengram.conversion.to_megatron",
    "gengram.benchmarks.command",
    "gengram.benchmarks.quickstart",
]
# What is written, renamed or removed in Python is announced, and can be counted.
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}


def run_verb(words, folder, limit=None, number=None, moment=None, closed=False):
    """Run a verb in a folder.

    Args:
        words: of the command line; paths are relative to the folder, which also has the folder `tmp` for what is
            temporary.
        limit: of the size of a file, bytes.
        number, moment: the signal that it gets when it is about to change the folder for the moment-th time.
        closed: whether nobody reads the answer.

    Returns:
        Exit code (minus the signal's number where one has ended it), what was printed on standard error, how often it
        has changed the folder, and what is in there.
    """
    streams = {name: os.pipe() for name in ("out", "err", "count")}
    if closed:
        os.close(streams["out"][0])
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.dup2(streams["out"][1], 1)
            os.dup2(streams["err"][1], 2)
            sys.stdout, sys.stderr = (open(number, "w", 1, closefd=False) for number in (1, 2))  # noqa: SIM115
            code = call(words, folder, limit, number, moment, streams["count"][1])
        except BaseException:
            os.write(2, traceback.format_exc().encode())  # what `main` lets through
        finally:
            os._exit(code)
    for _, write in streams.values():
        os.close(write)
    told = {name: drain(read) for name, (read, _) in streams.items() if not (closed and name == "out")}
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {
        "code": code,
        "told": told["err"].decode(errors="replace"),
        "changes": len(told["count"]),
        "files": list_files(Path(folder)),
    }


def drain(stream):
    with open(stream, "rb") as file:
        return file.read()


def call(words, folder, limit, number, moment, count):
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = f"{folder}/tmp"
    home = f"{folder}/"
    done = 0

    def watch(event, arguments):
        nonlocal done
        if event not in EVENTS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if isinstance(arguments[0], int) or not os.path.abspath(os.fsdecode(arguments[0])).startswith(home):
            return
        done += 1
        os.write(count, b".")
        if done == moment:
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from gengram.benchmarks import command, quickstart

    def simulate(output):
        return small(output, train_pairs=8, validation_pairs=4, test_pairs=4, num_train_epochs=1, seeds=(0,))

    small, quickstart.run_quickstart = quickstart.run_quickstart, simulate
    assert command
    try:
        return import_module("gengram.cli").main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def list_files(folder):
    """Name -> what is known of each file below: size, hash, and whether it is whole."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            fault = None if "partial" in str(path.relative_to(folder)) else find_fault(path)
            files[str(path.relative_to(folder))] = (len(content), hashlib.sha256(content).hexdigest(), fault)
    return files


def find_fault(path):
    """Why a file is not whole, of the formats that can be cut off."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                list(file.keys())
        elif path.suffix == ".parquet":
            pyarrow.parquet.read_table(path)
        elif path.suffix == ".npy":
            np.load(path)
        elif path.suffix in (".npz", ".pt", ".pth"):
            zipfile.ZipFile(path).close()  # The list of what is inside is written last.
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.suffix in (".csv", ".bed", ".bedgraph", ".tsv"):
            assert path.read_bytes().endswith(b"\n") or not path.stat().st_size
    except Exception as error:
        return repr(error)
    return None


def main():
    for name in WORK:
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        kind = request.pop("do")
        if kind == "mount":  # in this process's own name space: gone when it ends
            command = ["mount", "-t", "tmpfs", "-o", request["options"], "none", request["folder"]]
            done = subprocess.run(command, capture_output=True, text=True)
            answer = {"fault": done.stderr if done.returncode else None}
        elif kind == "shell":
            answer = {"code": subprocess.run(["sh", "-c", request["line"]]).returncode}
        else:
            answer = run_verb(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
