"""Splits: what is similar stays on one side, every class is on both sides, the same for every training seed."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.tokenization import reverse_complement
from gengram.training.data.duplicates import fold_strands
from gengram.training.data.splits import split_chromosomes, split_validation

DNA = st.text("ACGT", min_size=1, max_size=12)


def make_rows(sequences: list[str], labels: list[int], classes: int = 2) -> Dataset:
    rows = Dataset.from_dict({"sequence": sequences, "label": labels, "row": list(range(len(labels)))})
    return rows.cast_column("label", ClassLabel(names=[f"class {label}" for label in range(classes)]))


def draw_rows(rows: int, classes: int = 2, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 30)) for _ in range(rows)]
    return make_rows(sequences, random.integers(0, classes, rows).tolist(), classes)


@settings(max_examples=30, deadline=None)
@given(st.lists(DNA, min_size=12, max_size=40, unique_by=fold_strands), st.integers(0, 5))
def test_copies_and_reverse_complements_stay_together(distinct, seed):
    copies = [*distinct, *distinct, *map(reverse_complement, distinct)]
    labels = [index % 2 for index in range(len(distinct))] * 3
    train, validation = split_validation(make_rows(copies, labels), 0.25, seed, similarity=1)
    assert sorted(train["row"][:] + validation["row"][:]) == list(range(len(copies)))
    assert not set(map(fold_strands, train["sequence"])) & set(map(fold_strands, validation["sequence"]))
    for side in (train, validation):
        assert set(side["label"]) == {0, 1} and side["row"][:] == sorted(side["row"])


def test_the_split_is_stratified_and_has_the_asked_size():
    rows = make_rows(draw_rows(200)["sequence"][:], [0] * 150 + [1] * 50)
    train, validation = split_validation(rows, 0.2, seed=0)
    assert (len(train), len(validation)) == (160, 40)
    assert np.bincount(validation["label"]).tolist() == [30, 10]


def test_the_seed_decides_the_split():
    rows = draw_rows(100)
    first, again, other = (split_validation(rows, 0.2, seed)[1]["row"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_with_one_sequence_cannot_be_on_both_sides():
    copies = make_rows(["ACGTT", "AACGT", "GGGA", "GGGT", "GGGC", "GGCC"], [1, 1, 0, 0, 0, 0])
    with pytest.raises(InputError, match=r"'class 1', has 1\); near-duplicates, .* Give a validation_file"):
        split_validation(copies, 0.5, seed=0)


def test_a_fraction_too_small_for_the_classes_is_refused():
    with pytest.raises(InputError, match=r"validation_fraction=0\.05: cannot put every class on both sides"):
        split_validation(draw_rows(20, classes=3), 0.05, seed=0)


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_stay_together(seed):
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 400)) for _ in range(40)]
    # One base longer at one end and one shorter at the other, and every second one on the other strand.
    shifted = [sequence[1:] + "ACGT"[index % 4] for index, sequence in enumerate(sequences)]
    shifted = [reverse_complement(one) if index % 2 else one for index, one in enumerate(shifted)]
    rows = make_rows([*sequences, *shifted], [0, 1] * 40)
    train, validation = split_validation(rows, 0.3, seed)
    assert len(validation) == 24
    assert not {row % 40 for row in train["row"]} & {row % 40 for row in validation["row"]}
    train, validation = split_validation(rows, 0.3, seed, similarity=1)
    assert {row % 40 for row in train["row"]} & {row % 40 for row in validation["row"]}


def test_rows_without_classes_are_split_too():
    rows = draw_rows(50).remove_columns("label")
    train, validation = split_validation(rows, 0.2, seed=0)
    assert (len(train), len(validation)) == (40, 10)
    with pytest.raises(InputError, match="cannot put rows on both sides of a split of 1 distinct sequences;"):
        split_validation(Dataset.from_dict({"sequence": ["ACGT", "ACGT"]}), 0.5, seed=0)


def test_rows_of_one_value_stay_together_with_their_near_duplicates():
    rows = draw_rows(60)
    rows = rows.add_column("gene", [f"g{row // 6}" for row in range(60)])
    copied = concatenate_datasets([rows, rows.select([0]).map(lambda row: {"gene": "g9", "row": 60})])
    train, validation = split_validation(copied, 0.25, 0, group_column="gene", path="t.csv")
    together = [
        {"g0", "g9"} if {"g0", "g9"} & side else set() for side in (set(train["gene"]), set(validation["gene"]))
    ]
    assert not set(train["gene"]) & set(validation["gene"]) and sorted(map(len, together)) == [0, 2]
    assert len(set(validation["gene"])) >= 3 and sorted([*train["row"], *validation["row"]]) == list(range(61))


def test_a_column_of_groups_that_is_not_there_or_has_gaps():
    rows = draw_rows(12).add_column("parent", ["a", None, *"bcdefghijk"])
    numbered = rows.add_column("data_row", list(range(1, 13))).add_column("input_ids", [[5]] * 12)  # not of the file
    with pytest.raises(
        InputError, match=r"t\.csv: --group_column: .* 'parnet'; did you mean 'parent'\? .* has 'row'"
    ) as told:
        split_validation(numbered, 0.25, 0, group_column="parnet", path="t.csv")
    assert "data_row" not in str(told.value) and "input_ids" not in str(told.value)
    with pytest.raises(InputError, match=r"no column 'gene'\. Beside sequences and labels, the file has none\."):
        split_validation(draw_rows(12).remove_columns("row"), 0.25, 0, group_column="gene", path="t.csv")
    with pytest.raises(InputError, match=r"t\.csv, data row 2"):
        split_validation(rows, 0.25, 0, group_column="parent", path="t.csv")


def test_a_library_of_one_sequence_is_told_what_to_do():
    parent = "".join(draw_rows(8)["sequence"])
    variants = [parent[:place] + "ACGT"[place % 4] + parent[place + 1 :] for place in range(0, 240, 3)]
    with pytest.raises(
        InputError, match=r"variants of a few sequences.*--group_column COLUMN.*--group_similarity 1 lets"
    ):
        split_validation(make_rows(variants, [0, 1] * 40), 0.2, 0)
    train, validation = split_validation(make_rows(variants, [0, 1] * 40), 0.2, 0, similarity=1)
    assert len(train) > len(validation) > 10


@pytest.mark.parametrize("column", ["chrom", "CHR", "contig"])
def test_chromosomes(column):
    rows = Dataset.from_dict(
        {"sequence": ["A", "C", "G", "T"], column: ["chr1", "chr8", "chr1", "chrX"], "row": [0, 1, 2, 3]}
    )
    train, validation, renamed = split_chromosomes(rows, ["chr8", "chrX"], "t.csv", "validation_chromosomes")
    assert train["row"][:] == [0, 2] and validation["row"][:] == [1, 3] and renamed == {}


def test_chromosomes_under_other_names(capsys):
    rows = Dataset.from_dict({"sequence": list("ACGT"), "chrom": ["chr1", "chr8", "chrM", "chrX"], "row": range(4)})
    train, validation, renamed = split_chromosomes(rows, ["8", "MT"], "t.csv", "test_chromosomes")
    assert train["row"][:] == [0, 3] and validation["row"][:] == [1, 2]
    assert renamed == {"8": "chr8", "MT": "chrM"}
    told = "t.csv: test_chromosomes: chromosomes have other names there: 8 is chr8, MT is chrM\n"
    assert capsys.readouterr().err == told


def test_one_chromosome_under_two_names_is_not_divided():
    rows = Dataset.from_dict({"sequence": list("ACGT"), "chrom": ["chr8", "8", "1", "Chr9"], "row": range(4)})
    for names in (["8"], ["chr8"]):
        with pytest.raises(
            InputError, match=r"t.csv: test_chromosomes: rows are on '(chr)?8' and on '(chr)?8'; if both"
        ):
            split_chromosomes(rows, names, "t.csv", "test_chromosomes")
    train, test, renamed = split_chromosomes(rows, ["8", "chr8"], "t.csv", "test_chromosomes")
    assert train["row"][:] == [2, 3] and test["row"][:] == [0, 1] and renamed == {}
    with pytest.raises(InputError, match=r"no row is on 'CHR8'\. It may be '8' or 'chr8': give it the name of the one"):
        split_chromosomes(rows, ["CHR8"], "t.csv", "test_chromosomes")
    _, test, renamed = split_chromosomes(rows, ["chr9", "9"], "t.csv", "test_chromosomes")
    assert test["row"][:] == [3] and renamed == {"chr9": "Chr9", "9": "Chr9"}


@pytest.mark.parametrize(
    ("chromosomes", "message"),
    [
        (["9"], r"t\.csv: validation_chromosomes: no row is on '9'.* The column 'chrom' has 'chr1', 'chr8'"),
        (["chr08"], "did you mean 'chr8'"),
        (["chr1", "chr8"], "all rows are on 'chr1', 'chr8', none are left for training"),
    ],
)
def test_chromosomes_that_cannot_be_taken_out(chromosomes, message):
    rows = Dataset.from_dict({"sequence": ["A", "C"], "chrom": ["chr1", "chr8"]})
    with pytest.raises(InputError, match=message):
        split_chromosomes(rows, chromosomes, "t.csv", "validation_chromosomes")
    with pytest.raises(InputError, match=r"needs a column 'chrom' or .*; the columns are 'sequence'"):
        split_chromosomes(rows.remove_columns("chrom"), ["chr1"], "t.csv", "validation_chromosomes")
