"""The `gengram` command: help, version and wrong command lines."""

import subprocess
import sys

import pytest

from gengram import __version__
from gengram.cli import VERBS, main


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"gengram {__version__}"


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"  {name} " in text and verb.__doc__ in text


@pytest.mark.parametrize("argv", [[], ["fine-tune"], ["--verb"]])
def test_a_wrong_command_line_exits_with_2_and_says_what_is_right(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: gengram" in capsys.readouterr().err


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "gengram.cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"gengram {__version__}")
