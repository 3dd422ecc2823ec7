"""Runs the shards of a verb as processes of their own, at once; one of them is killed and started again."""

import json
import subprocess
import sys
from pathlib import Path

import torch

COUNT = 3
_KILLED = Path(__file__).with_name("killed_in_blocks.py")


def run_shards(verb: str, setup: str, argv: list[str]) -> None:
    """Run all shards of a verb.

    Args:
        verb: `embed` or `predict`.
        setup: what each process does first: small blocks.
        argv: of the verb.
    """

    def start(index: int, is_killed: bool = False) -> subprocess.Popen:
        words = [*argv, "--shard", f"{index}/{COUNT}", "--json"]
        work = f"runpy.run_path({str(_KILLED)!r}, dict(verb={verb!r}, argv={words!r}, part=1))"
        if not is_killed:
            work = f"from gengram.pipelines import command; sys.exit(command.{verb}({words!r}))"
        code = f"import runpy, sys, torch; torch.set_num_threads({torch.get_num_threads()}); {setup}; {work}"
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    processes = [start(index, is_killed=index == 2) for index in range(1, COUNT + 1)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, -9, 0], answers
    out = Path(argv[-1])
    assert not out.exists()
    for answer, _ in (answers[0], answers[2]):
        assert json.loads(answer)["parts"] == f"{out}.parts"
    again = start(2)
    answer, told = again.communicate()
    assert again.returncode == 0, told
    assert json.loads(answer)["out"] == str(out) and "parts" not in json.loads(answer)
    assert not Path(f"{out}.parts").exists() and not list(out.parent.glob("*.partial"))
