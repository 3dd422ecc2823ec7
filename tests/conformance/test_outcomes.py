"""The plugin keeps an outcome a test, and is strict about what is listed as not applicable."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIST = """
- suite: models
  test: test_listed_*
  families: [gengram-*]
  reason: nobody could want it
  instead: tests/conformance/test_outcomes.py::test_outcomes
"""
MODULE = """
import unittest
from standin import Mixin

class Tests(Mixin):
    def test_passes(self): pass
    def test_fails(self): assert 1 == 2
    def test_skips(self): self.skipTest("no GPU")
    def test_parts(self):
        for part in range(3):
            with self.subTest(part): assert part != 1
    def test_listed_fails(self): assert 1 == 2
    def test_listed_passes(self): pass
    def test_listed_skips(self): self.skipTest("no GPU")
    def test_listed_parts(self):
        for part in range(3):
            with self.subTest(part): assert part != 1

class Test_llama(Tests, unittest.TestCase): family = "gengram-llama"
class Test_bert(Tests, unittest.TestCase): family = "gena_bert"
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[tuple[str, str], dict]:
    """Family and test -> outcome, of a module with every kind."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "conftest.py").write_text(
        f"from conformance import outcomes\noutcomes.LIST = outcomes.Path({str(folder)!r}, 'list.yaml')\n"
    )
    (folder / "list.yaml").write_text(LIST)
    (folder / "standin.py").write_text("class Mixin:\n    def test_of_ours(self): pass\n")
    (folder / "test_module.py").write_text(MODULE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\nstandins = standin.py\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conformance.outcomes", "--suite", "models"]
    command += ["--outcomes", str(folder / "told.jsonl"), "--family", "gen*", str(folder / "test_module.py")]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
    assert len(told) == 18 and all(one["suite"] == "models" and one["seconds"] >= 0 for one in told)
    return {(one["family"], one["test"]): one for one in told}


@pytest.mark.parametrize(
    ("family", "test", "outcome", "reason"),
    [
        ("gengram-llama", "test_passes", "passed", ""),
        ("gengram-llama", "test_fails", "failed", "assert 1 == 2"),
        ("gengram-llama", "test_skips", "skipped", "no GPU"),
        ("gengram-llama", "test_parts", "failed", "assert 1 != 1"),
        ("gengram-llama", "test_listed_fails", "not applicable", "nobody could want it"),
        ("gengram-llama", "test_listed_parts", "not applicable", "nobody could want it"),
        ("gengram-llama", "test_listed_passes", "failed", "lists test_listed_* for gengram-*, but it passes"),
        ("gengram-llama", "test_listed_skips", "skipped", "no GPU"),
        ("gena_bert", "test_listed_fails", "failed", "assert 1 == 2"),
        ("gena_bert", "test_listed_passes", "passed", ""),
    ],
)
def test_outcomes(outcomes, family, test, outcome, reason):
    one = outcomes[family, test]
    assert one["outcome"] == outcome
    assert reason in one.get("reason", "")


def test_stand_ins_are_told_apart(outcomes):
    assert {name for (_, name), one in outcomes.items() if one["standin"]} == {"test_of_ours"}
