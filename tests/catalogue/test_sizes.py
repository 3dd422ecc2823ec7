"""Rows that say `sizes`: the number of parameters is that of the checkpoint's list of tensors."""

import json
import math

import pytest

from gengram.catalogue import list_models

SIZED = {row.id.partition("/")[2]: row for row in list_models() if row.verified == "sizes"}


def test_there_are_such_rows():
    assert len(SIZED) >= 8


@pytest.mark.parametrize("name", SIZED)
def test_the_tensors_have_as_many_numbers_as_the_row_says(name, shared):
    file = shared / "golden" / "nt" / "keys" / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    listed = json.loads(file.read_text())
    # Frequencies of the rotation are numbers of the file, but no parameters.
    shapes = [shape for key, shape in listed["keys"].items() if not key.endswith("inv_freq")]
    assert sum(map(math.prod, shapes)) == listed["parameters"] == SIZED[name].parameters
