"""What a protocol gets: caps in the order of numpy's permutation, validation, arrays, one fingerprint."""

import dataclasses

import numpy as np
import pytest

from gengram.benchmarks.data.load import read_task
from gengram.benchmarks.data.prepared import prepare_task
from gengram.errors import InputError


@pytest.fixture
def loaded(write, table):
    write("train.csv", table(60))
    return read_task("any", data=write("test.csv", table(20)))


def test_rows_are_capped_by_a_permutation_before_validation_is_split_off(loaded):
    sequences = loaded.splits["train"]["sequence"][:]
    prepared = prepare_task(loaded, max_train_rows=40, max_test_rows=7)
    expected = np.random.default_rng(0).permutation(60)[:40]
    assert prepared.all_train.sequences == [sequences[row] for row in expected]
    assert prepared.all_train.labels.tolist() == [row % 2 for row in expected]
    both = set(prepared.train.sequences) | set(prepared.validation.sequences)
    assert both == set(prepared.all_train.sequences) and (len(prepared.train), len(prepared.validation)) == (36, 4)
    places = [prepared.all_train.sequences.index(each) for each in prepared.train.sequences]
    assert places == sorted(places)
    chosen = np.sort(np.random.default_rng(0).permutation(20)[:7])
    assert prepared.test.sequences == [loaded.splits["test"]["sequence"][int(row)] for row in chosen]
    assert prepared.report["rows"] == {"train": 36, "validation": 4, "test": 7}
    assert prepare_task(loaded).all_train.sequences == sequences


def test_the_fingerprint_is_of_rows_labels_and_classes(loaded, write, table):
    first = prepare_task(loaded)
    assert first.fingerprint == prepare_task(loaded).fingerprint and len(first.fingerprint) == 64
    others = [prepare_task(loaded, seed=1), prepare_task(loaded, max_train_rows=59)]
    others.append(prepare_task(dataclasses.replace(loaded, classes=("0", "one"))))
    assert len({first.fingerprint, *(each.fingerprint for each in others)}) == 4


def test_a_validation_split_of_the_task_is_taken(write, table):
    write("train.csv", table(10))
    write("dev.csv", table(6))
    prepared = prepare_task(read_task("any", data=write("test.csv", table(4))))
    assert (len(prepared.train), len(prepared.validation), len(prepared.all_train)) == (10, 6, 16)
    assert prepared.all_train.sequences == prepared.train.sequences + prepared.validation.sequences


def test_validation_chromosomes_of_the_task_are_taken(write, draw):
    def rows(count):
        return "seq,label,chrom\n" + "".join(f"{draw()},{row % 2},chr{20 + row % 3}\n" for row in range(count))

    write("train.csv", rows(30))
    write("task.yaml", "validation_chromosomes: [chr22]\n")
    prepared = prepare_task(read_task("any", data=write("test.csv", rows(6))))
    assert (len(prepared.train), len(prepared.validation)) == (20, 10)
    assert prepared.report["validation"] == "chromosomes chr22 of train"


@pytest.mark.parametrize(
    "labels, dtype, shape",
    [(["0.5", "1.25"], np.float64, (20, 1)), (["0.5;1", "1.25;2"], np.float64, (20, 2)), (["a;b", "b"], bool, (20, 2))],
)
def test_arrays_of_other_problems(write, draw, labels, dtype, shape):
    text = "seq,label\n" + "".join(f"{draw()},{labels[row % 2]}\n" for row in range(20))
    write("train.csv", text)
    prepared = prepare_task(read_task("any", data=write("test.csv", text)))
    assert (prepared.test.labels.dtype, prepared.test.labels.shape) == (dtype, shape)


def test_what_cannot_be_prepared(loaded, write, table):
    for options, message in (
        ({"max_train_rows": 0}, "max_train_rows=0: give 1 or more"),
        ({"max_train_rows": 1}, r"all rows of train among the first 1 of them.*nothing can be learned"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_task(loaded, **options)
    folder = write("val.csv", table(4), "sample")
    with pytest.raises(InputError, match="any: the split 'train' is missing"):
        prepare_task(read_task("any", data=folder))
