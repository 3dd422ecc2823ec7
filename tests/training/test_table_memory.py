"""Tables that do not fit into memory are refused before they are read."""

import gzip

import pytest

from gengram.errors import InputError
from gengram.training import table_memory
from gengram.training.table_memory import HELD, check_table_memory


@pytest.fixture
def available(monkeypatch):
    """Set the memory that is free, in bytes."""
    return lambda count: monkeypatch.setattr(table_memory, "measure_available_memory", lambda device: count)


def test_the_sum_of_all_tables_counts(tmp_path, available):
    files = [tmp_path / name for name in ("train.csv", "validation.tsv", "test.jsonl")]
    for file, size in zip(files, (4000, 1000, 1000)):
        file.write_bytes(b"A" * size)
    given = [str(file) for file in files]
    available(int(6000 * HELD))
    check_table_memory(given)
    check_table_memory([given[0], None, None])
    available(int(6000 * HELD) - 1)
    with pytest.raises(InputError, match=r"train\.csv: .*a part of the rows, fewer label columns"):
        check_table_memory(given)


def test_compressed_tables_are_larger_than_their_files(tmp_path, available):
    file = tmp_path / "train.csv.gz"
    file.write_bytes(gzip.compress(bytes(range(256)) * 100))
    available(int(file.stat().st_size * HELD * 2))
    with pytest.raises(InputError, match=r"train\.csv\.gz"):
        check_table_memory([str(file)])


def test_other_formats_are_left_to_their_readers(tmp_path, available):
    available(0)
    file = tmp_path / "train.parquet"
    file.write_bytes(b"PAR1" * 100)
    check_table_memory([str(file), None])
