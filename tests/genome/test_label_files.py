"""Labels that are in another file than the sequences."""

import pytest

from gengram.errors import InputError
from gengram.training.arguments import DataArguments
from gengram.training.data.sources import read_sources

FASTA = ">one\nACGT\n>two\nACGA\n>three\nACGC\n"


def read(folder, labels: str, name: str = "labels.tsv", fasta: str = FASTA):
    (folder / "rows.fa").write_text(fasta)
    (folder / name).write_text(labels)
    return read_sources(DataArguments(train_file=str(folder / "rows.fa"), label_files=[str(folder / name)]))["train"]


@pytest.mark.parametrize("name", ["labels.txt", "labels.tsv"])
def test_rows_go_together_by_order(tmp_path, name):
    source = read(tmp_path, "dev\thk\n1.5\t0\n2.5\t1\n3.5\t2\n", name)
    assert source.rows["sequence"][:] == ["ACGT", "ACGA", "ACGC"] and source.rows["dev"][:] == [1.5, 2.5, 3.5]
    assert source.label_file == str(tmp_path / name) and source.label_sha256 != source.sha256


def test_rows_go_together_by_name(tmp_path):
    labels = "name,label\nthree,c\nspare,d\none,a\ntwo,b\n"
    assert read(tmp_path, labels, "labels.csv").rows["label"][:] == ["a", "b", "c"]


def test_names_that_are_numbers_are_names(tmp_path):
    fasta = ">01\nACGT\n>2\nACGA\n"
    assert read(tmp_path, "name,label\n2,b\n01,a\n", "labels.csv", fasta).rows["label"][:] == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("dev\n1\n2\n", "labels.tsv has 2 rows, but .*rows.fa has 3 sequences"),
        ("name\tdev\none\t1\ntwo\t2\n", "no row is called 'three', as a sequence of .*rows.fa is"),
        ("name\tdev\none\t1\ntwo\t2\ntwo\t3\nthree\t3\n", "several rows are called 'two'"),
        ("sequence\tdev\nA\t1\nC\t2\nG\t3\n", "rows.fa has a column 'sequence', too"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, labels)


def test_every_file_of_sequences_needs_its_labels():
    with pytest.raises(ValueError, match="label_files: 1 for 2 files"):
        DataArguments(train_file="a.fa", test_file="b.fa", label_files=["a.txt"])
    assert DataArguments(train_file="a.fa", label_files="a.txt").label_files == ["a.txt"]
