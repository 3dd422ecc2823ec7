"""A slice of `make fuzz`: changed copies of sound files are read or refused, and nothing else comes of them."""

import random

import pytest
from functions import READERS
from mutations import mutate
from program import fuzz, make_input

CHEAP = {"text", "gzip"}


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(sound, name):
    inputs = 100 if READERS[name].form in CHEAP else 20
    tally = fuzz(name, sound, 0, inputs)
    assert not tally.crashes, f"input {tally.crashes[0].number} of {name}:\n{tally.crashes[0].said}"
    assert tally.accepted + tally.refused == inputs
    assert tally.refused > 0


def test_the_same_number_gives_the_same_copy():
    content = b"sequence,label\nACGT,0\n"
    assert make_input("csv", 7, content) == make_input("csv", 7, content)
    assert len({make_input("csv", number, content) for number in range(50)}) > 30


@pytest.mark.parametrize("form", ["text", "json", "yaml", "binary"])
def test_copies_differ_from_the_sound_file(form):
    content = b'{"a": 1, "b": [true, "x"]}\n'
    copies = [mutate(content, form, random.Random(number)) for number in range(60)]
    assert sum(copy != content for copy in copies) > 45
