"""A slice of `make fuzz`: changed copies of sound files are read or refused, and nothing else comes of them."""

import random

import pytest
from functions import READERS
from mutations import mutate
from program import MOST_BYTES, fuzz, make_input, read_contents

CHEAP = {"text", "gzip"}


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(sound, name):
    inputs = 100 if READERS[name].form in CHEAP else 20
    tally = fuzz(name, sound, 0, inputs)
    assert not tally.crashes, f"input {tally.crashes[0].number} of {name}:\n{tally.crashes[0].said}"
    assert tally.accepted + tally.refused == inputs
    assert tally.refused > 0


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
