"""Rows of which some are chosen, read block by block: the same as datasets itself reads."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datasets import Dataset, concatenate_datasets

from gengram.genome import columns
from gengram.genome.columns import count_letters, list_texts, make_rows, read_column, read_columns, view_letters


def draw_rows(number: int = 57) -> Dataset:
    """Rows of several pieces in memory, with an empty text and letters of several bytes."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ACGTNné"), random.integers(9))) for _ in range(number)]
    rows = Dataset.from_dict({"sequence": texts, "label": list(range(number)), "ids": [[1, 2]] * number})
    return concatenate_datasets([rows.select(range(20)), rows.select(range(20, number))])


@pytest.mark.parametrize(
    "choose",
    [
        lambda rows: rows,
        lambda rows: rows.select(range(3, 30)),
        lambda rows: rows.select([0, 5, 6, 19, 20, 56]),
        lambda rows: rows.select([56, 3, 3, 20]),
        lambda rows: rows.select([]),
    ],
)
@pytest.mark.parametrize("most", [1, 4, 10_000])
def test_chosen_rows_are_those_of_datasets(choose, most, monkeypatch):
    monkeypatch.setattr(columns, "_ROWS", most)
    rows = choose(draw_rows())
    blocks = list(read_columns(rows, ["sequence", "label"]))
    assert all(block.column_names == ["sequence", "label"] and len(block) <= most for block in blocks)
    assert [text for block in blocks for text in block["sequence"].to_pylist()] == list(rows["sequence"])
    assert list(list_texts(rows)) == list(rows["sequence"])
    assert read_column(rows, "label").to_pylist() == list(rows["label"])
    assert read_column(rows, "ids").to_pylist() == list(rows["ids"])


def test_a_block_has_some_megabytes(monkeypatch):
    monkeypatch.setattr(columns, "_BYTES", 1000)
    rows = Dataset.from_dict({"sequence": ["A" * 300] * 10})
    assert [len(block) for block in read_columns(rows, ["sequence"])] == [3, 3, 3, 1]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_letters_are_the_bytes_of_a_slice(kind):
    texts = pa.array(["skipped", "ACé", "", "GT"], kind).slice(1)
    letters, bounds = view_letters(texts)
    assert letters.tobytes() == "ACéGT".encode() and bounds.tolist() == [0, 4, 4, 6]
    counts = count_letters(pa.chunked_array([texts, texts]))
    assert counts.sum() == 12 and counts[ord("A")] == 2 and counts[0xC3] == 2
    assert not count_letters(pa.chunked_array([], kind)).any()


def test_rows_in_memory_are_not_copied():
    table = pa.table({"sequence": ["ACGT"] * 1000})
    rows = make_rows(table)
    assert rows.data.table["sequence"].chunk(0).buffers()[2].address == table["sequence"].chunk(0).buffers()[2].address
    assert rows._fingerprint != make_rows(table)._fingerprint
    assert pc.all(pc.equal(read_column(rows, "sequence"), "ACGT")).as_py()
