"""The validation split: both strands on one side, every class on both sides, the same for every training seed."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.tokenization import reverse_complement
from gengram.training.errors import InputError
from gengram.training.splits import fold_strands, split_validation

DNA = st.text("ACGT", min_size=1, max_size=12)


def make_rows(sequences: list[str], labels: list[int], classes: int = 2) -> Dataset:
    rows = Dataset.from_dict({"sequence": sequences, "label": labels, "row": list(range(len(labels)))})
    return rows.cast_column("label", ClassLabel(names=[f"class {label}" for label in range(classes)]))


def draw_rows(rows: int, classes: int = 2, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 30)) for _ in range(rows)]
    return make_rows(sequences, random.integers(0, classes, rows).tolist(), classes)


@given(DNA)
def test_both_strands_have_one_name(sequence):
    assert fold_strands(sequence) == fold_strands(reverse_complement(sequence))
    assert fold_strands(sequence) == fold_strands(sequence.lower().replace("t", "u"))


def test_a_text_without_complement_stands_for_itself():
    assert fold_strands("ac-gt*") == "AC-GT*"


@settings(max_examples=30, deadline=None)
@given(st.lists(DNA, min_size=12, max_size=40, unique_by=fold_strands), st.integers(0, 5))
def test_copies_and_reverse_complements_stay_together(distinct, seed):
    copies = [*distinct, *distinct, *map(reverse_complement, distinct)]
    labels = [index % 2 for index in range(len(distinct))] * 3
    train, validation = split_validation(make_rows(copies, labels), 0.25, seed)
    assert sorted(train["row"][:] + validation["row"][:]) == list(range(len(copies)))
    assert not set(map(fold_strands, train["sequence"])) & set(map(fold_strands, validation["sequence"]))
    for side in (train, validation):
        assert set(side["label"]) == {0, 1} and side["row"][:] == sorted(side["row"])


def test_the_split_is_stratified_and_has_the_asked_size():
    rows = make_rows([f"{'ACGT' * 5}{'A' * index}" for index in range(1, 201)], [0] * 150 + [1] * 50)
    train, validation = split_validation(rows, 0.2, seed=0)
    assert (len(train), len(validation)) == (160, 40)
    assert np.bincount(validation["label"]).tolist() == [30, 10]


def test_the_seed_decides_the_split():
    rows = draw_rows(100)
    first, again, other = (split_validation(rows, 0.2, seed)[1]["row"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_with_one_sequence_cannot_be_on_both_sides():
    copies = make_rows(["ACGTT", "AACGT", "GGGA", "GGGT", "GGGC", "GGCC"], [1, 1, 0, 0, 0, 0])
    with pytest.raises(InputError, match=r"'class 1', has 1\)\. Give a validation_file"):
        split_validation(copies, 0.5, seed=0)


def test_a_fraction_too_small_for_the_classes_is_refused():
    with pytest.raises(InputError, match=r"validation_fraction=0\.05: cannot put every class on both sides"):
        split_validation(draw_rows(20, classes=3), 0.05, seed=0)
