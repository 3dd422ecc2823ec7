"""Any number of processes: the same numbers, to the last bit."""

import json
import multiprocessing
import runpy
from pathlib import Path

import pytest

from gengram.training.evaluation.processes import find_place

SCRIPT = str(Path(__file__).with_name("two_processes.py"))


@pytest.mark.slow
def test_two_processes_and_one_find_the_same_numbers(corpus, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gengram.training.evaluation.evaluate"])
    started = []
    for processes in (1, 2):
        for rank in range(processes):
            names = {
                "rank": rank,
                "processes": processes,
                "meet": str(tmp_path / f"meet_{processes}"),
                "folder": str(corpus.folder),
                "out": str(tmp_path),
            }
            started.append(context.Process(target=runpy.run_path, args=(SCRIPT, names)))
            started[-1].start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0]
    alone, *together = [
        json.loads((tmp_path / name).read_text()) for name in ("0_of_1.json", "0_of_2.json", "1_of_2.json")
    ]
    assert alone["bases"] > 1_000 and alone["strand/gap"] > 0
    assert together == [alone, alone]


def test_one_process_is_alone():
    assert find_place() == (0, 1)
