"""A slice of `make fuzz`: changed copies of sound files are read or refused, and nothing else comes of them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from functions import READERS
from mutations import mutate
from program import MOST_BYTES, fuzz, make_input, read_contents

CHEAP = {"text", "gzip"}


@pytest.mark.parametrize(("inputs", "cheap"), [(50, True), (20, False)])
def test_changed_files_are_read_or_refused(sound, inputs, cheap):
    # In a process of its own, whose fork server imports the package once; that of this one may be without it.
    names = [name for name, reader in READERS.items() if (reader.form in CHEAP) == cheap]
    program = str(Path(__file__).with_name("program.py"))
    command = [sys.executable, program, *names, "--inputs", str(inputs), "--sound", str(sound), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.rsplit(maxsplit=5) for line in done.stdout.splitlines()[1:]]
    tallies = {name: list(map(int, counts)) for name, *counts in rows}
    assert list(tallies) == names
    for name, (read, accepted, refused, crashes, _) in tallies.items():
        assert (read, accepted + refused, crashes) == (inputs, inputs, 0), name
        assert refused > 0, name


def test_the_same_number_gives_the_same_copy():
    contents = [b"sequence,label\nACGT,0\n"]
    assert make_input("csv", 7, contents) == make_input("csv", 7, contents)
    assert len({make_input("csv", number, contents) for number in range(50)}) > 30


def test_copies_are_made_of_the_corpus_too(sound, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "other.csv").write_bytes(b"sequence,kind\nACGT,a\n")
    (tmp_path / "large.csv").write_bytes(b"A" * (MOST_BYTES + 1))
    (tmp_path / "other.tsv").write_bytes(b"")
    contents = read_contents(READERS["csv"], sound, tmp_path)
    assert contents == [(sound / "table.csv").read_bytes(), b"sequence,kind\nACGT,a\n"]
    tally = fuzz("csv", sound, 0, 40, tmp_path)
    assert tally.accepted > 0 and tally.refused > 0 and not tally.crashes


@pytest.mark.parametrize("form, content", [("json", b'{"a": 1}\n{"b": \n'), ("yaml", b"a: [\n"), ("json", b"\xff\n")])
def test_files_that_are_not_of_their_form_are_changed_as_lines(form, content):
    assert len({mutate(content, form, random.Random(number)) for number in range(60)}) > 20


@pytest.mark.parametrize("form", ["text", "json", "yaml", "binary"])
def test_copies_differ_from_the_sound_file(form):
    content = b'{"a": 1, "b": [true, "x"]}\n'
    copies = [mutate(content, form, random.Random(number)) for number in range(60)]
    assert sum(copy != content for copy in copies) > 45
