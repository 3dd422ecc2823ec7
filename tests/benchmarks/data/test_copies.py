"""Copies on either strand: counted, and taken out of what trains."""

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from gengram.benchmarks.data.checks import survey_rows
from gengram.benchmarks.data.copies import count_copies, drop_copies, name_rows, number_labels
from gengram.benchmarks.data.load import read_task
from gengram.genome.alphabet import reverse_complement

FEATURES = Features({"sequence": Value("string"), "label": ClassLabel(names=["a", "b"])})


def make(*rows, features=FEATURES):
    return Dataset.from_dict(dict(zip(features, map(list, zip(*rows)))), features=features)


def test_either_strand_and_case_are_one_row():
    names = name_rows(make(("AACCG", 0), ("CGGTT", 0), ("aaccg", 1), ("AACCC", 1)))
    assert count_copies(names, np.array([0, 0, 1, 1])) == (2, 3)


def test_a_pair_is_the_same_where_both_sequences_are():
    features = Features({"sequence": Value("string"), "alternative": Value("string"), "label": Value("float32")})
    rows = make(
        ("AACCG", "AACTG", 1.0), ("AACCG", "AACGG", 1.0), ("CGGTT", "CAGTT", 1.0), ("AACTG", "AACCG", 1.0),
        features=features,
    )  # fmt: skip
    assert count_copies(name_rows(rows), number_labels(rows)) == (1, 0)


def test_what_dedup_takes_out():
    train = make(
        ("AACCG", 0),  # in the test, as it is
        ("GGTTT", 0),  # in the test, on the other strand
        ("ACACA", 0),  # in validation
        ("AAAAC", 1), ("GTTTT", 1),  # the same and agreed: the first stays
        ("CCCAA", 0), ("CCCAA", 1),  # the same and not agreed: both go
        ("TTCCC", 0),
    )  # fmt: skip
    splits = {
        "train": train,
        "validation": make(("ACACA", 0), ("CGGTT", 1), ("AGAGA", 1)),
        "test": make(("AACCG", 0), ("AAACC", 1), ("AAACC", 1)),
    }
    kept, counts = drop_copies(splits)
    assert kept["train"]["sequence"][:] == ["AAAAC", "TTCCC"] and kept["train"]["label"][:] == [1, 0]
    assert kept["validation"]["sequence"][:] == ["ACACA", "AGAGA"] and len(kept["test"]) == 3
    assert counts == {
        "validation": {"in_judged_rows": 1},
        "train": {"in_judged_rows": 3, "copies": 1, "copies_that_disagree": 2},
    }
    assert all(rows.features == FEATURES for rows in kept.values())


def test_dedup_of_a_folder_is_told_and_leaves_nothing_shared(write, capsys):
    sequence = "ACGTTGCAAACC"
    write("train.csv", f"seq,label\n{sequence},0\nAAAAAAAAAACG,1\nCCCCCCCCCACG,0\n")
    folder = write("test.csv", f"seq,label\n{reverse_complement(sequence)},0\nGGGGGAGGGGGG,1\n")
    before = read_task("any", data=folder)
    assert before.survey.shared["train and test"] == {"exact": 0, "reverse_complement": 1} and before.removed == {}
    loaded = read_task("any", data=folder, dedup=True)
    assert loaded.removed["train"]["in_judged_rows"] == 1 and len(loaded.splits["train"]) == 2
    assert loaded.survey.shared["train and test"] == {"exact": 0, "reverse_complement": 0}
    assert "--dedup takes 1 rows out of train" in capsys.readouterr().err


def test_what_a_survey_warns_of():
    rows = make(*[("ACGTAC" * (1 + row), 0) for row in range(19)], ("ACGNN", 1))
    survey = survey_rows(
        {"train": rows, "test": make(("AAAC", 0), ("AACC", 0))},
        {"train": "train.csv", "test": "test.csv"},
        "single_label",
        ("a", "b"),
        {"train": 20, "test": 3},
        (6, 100),
    )
    assert survey.splits["train"].classes == {"a": 19, "b": 1} and survey.splits["train"].longest == 114
    told = "\n".join(survey.warnings)
    for part in (
        "train: sequences of 5 to 114 bp, the published ones have 6 to 100 bp",
        "train: 2 of 1,145 letters are not A, C, G or T",
        "train: 95% of the rows are of class 'a'",
        "test: 2 rows where 3 are listed",
        "test: all rows are of class 'a'; AUROC and MCC are not defined",
    ):
        assert part in told, told
    assert "train: 20 rows" not in told
