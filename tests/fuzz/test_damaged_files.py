"""Every reader on every kind of damage, through the verbs: named in a message, exit code 1, and nothing left.

The table of docs/damaged_files.md is what comes of it; `python tests/fuzz/damaged_files.py --write` makes it anew.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMANDS
from damaged_files import draw_table, read_table, start_server, try_all, try_damage
from damages import DAMAGES

READERS = ["CSV", "JSON lines", "FASTA", "BED", "recipe", "config.json", "safetensors", "adapter's labels.json"]
READERS += ["Megatron, torch", "VCF"]
KINDS = ["empty", "magic", "nul", "deep", "pipe", "forbidden"]


def tell_faults(outcomes) -> str:
    return "\n".join(
        f"{name} x {kind}: {outcome.answer}, {'; '.join(outcome.faults)}\n    {outcome.said[-400:]}"
        for (name, kind), outcome in outcomes.items()
        if outcome.faults
    )


def test_some_readers_on_some_damages(sound):
    # In a process of its own, whose fork server imports the package once; that of this one may be without it.
    program = str(Path(__file__).with_name("damaged_files.py"))
    command = [sys.executable, program, *READERS, "--damages", *KINDS, "--sound", str(sound)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cells, faulty = done.stdout.splitlines()[-1].split(" cells, ")
    assert int(cells) > 40 and faulty == "0 with faults"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_sound_files_are_read(sound, name):
    outcome = try_damage(start_server(), sound, COMMANDS[name], None)
    assert (outcome.answer, outcome.faults) == ("read", []), outcome.said[-1000:]


@pytest.mark.slow
def test_every_reader_on_every_damage_is_as_the_page_says(sound):
    outcomes = try_all(sound, COMMANDS, DAMAGES)
    assert not (faults := tell_faults(outcomes)), faults
    assert draw_table(outcomes) == read_table()


def test_the_page_has_every_reader_and_every_damage():
    head, _, *rows = read_table().splitlines()
    assert head.strip("| ").split(" | ") == ["reader", *(damage.said for damage in DAMAGES.values())]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(COMMANDS)
