"""The logistic regressions: what they see, what they cannot see, what they refuse."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import matthews_corrcoef

from gengram.benchmarks.builders.splice_sites import write_splice_sites
from gengram.training.baselines.linear import make_kmer_classifier, make_position_classifier


def compute_features(sequences: list[str], k: int) -> np.ndarray:
    return make_kmer_classifier(k)[:-1].fit_transform(sequences).toarray()


def test_kmer_features_are_square_roots_of_counts_with_unit_norm():
    (row,) = compute_features(["ACACACG"], k=2)
    order = ["".join(letters) for letters in product("ACGT", repeat=2)]
    counts = np.zeros(16)
    counts[order.index("AC")], counts[order.index("CA")], counts[order.index("CG")] = 3, 2, 1
    np.testing.assert_allclose(row, np.sqrt(counts / 6))


def test_kmers_ignore_case_and_skip_other_letters():
    np.testing.assert_array_equal(*compute_features(["acgnact", "ACGRACT"], k=3))
    assert compute_features(["acgnact"], k=3).astype(bool).sum() == 2
    assert compute_features(["NNNN", "A"], k=3).sum() == 0


def test_kmer_classifier_takes_sequences_of_any_length():
    sequences = ["A" * 20 + "C" * length for length in range(5, 15)] + ["G" * 20 + "T" * n for n in range(5, 15)]
    labels = [0] * 10 + [1] * 10
    assert make_kmer_classifier(3).fit(sequences, labels).score(["AAAAAA", "GGGGGGTTT"], [0, 1]) == 1


def test_position_classifier_sees_one_base():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 12)) for _ in range(400)]
    labels = [int(sequence[7] == "G") for sequence in sequences]
    model = make_position_classifier().fit(sequences[:300], labels[:300])
    assert matthews_corrcoef(labels[300:], model.predict(sequences[300:])) == 1
    # the same base elsewhere means nothing, a letter never seen nothing either
    assert list(model.predict(["GGGGGGGAGGGG", "AAAAAAAGAAAA", "aaaaaaagaaaa", "NNNNNNNGNNNN"])) == [0, 1, 1, 1]


def test_position_classifier_refuses_unequal_lengths():
    with pytest.raises(ValueError, match=r"sequence 2 has 3 bp and sequence 0 has 4.*make_kmer_classifier"):
        make_position_classifier().fit(["ACGT", "ACGA", "ACG"], [0, 1, 0])


def test_three_classes_and_named_labels():
    sequences = ["A" * 8, "C" * 8, "G" * 8] * 4
    labels = ["a", "c", "g"] * 4
    for model in (make_kmer_classifier(2), make_position_classifier()):
        fitted = clone(model).fit(sequences, labels)
        assert list(fitted.predict(["CCCCCCCC"])) == ["c"]
        np.testing.assert_allclose(fitted.predict_proba(sequences).sum(axis=1), 1)


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> dict[str, tuple[list[str], list[int]]]:
    paths = write_splice_sites(tmp_path_factory.mktemp("task"), 300, 1, 150)
    data = {}
    for split, path in paths.items():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        data[split] = ([row["sequence"] for row in rows], [int(row["label"]) for row in rows])
    return data


def test_kmers_are_at_chance_on_decoys_with_equal_counts(task):
    model = make_kmer_classifier().fit(*task["train"])
    sequences, labels = task["test"]
    predicted = model.predict(sequences)
    assert list(predicted[::2]) == list(predicted[1::2]), "a site and its decoy are one vector"
    assert matthews_corrcoef(labels, predicted) == 0


def test_positions_tell_sites_from_decoys(task):
    model = make_position_classifier().fit(*task["train"])
    sequences, labels = task["test"]
    assert matthews_corrcoef(labels, model.predict(sequences)) > 0.5


@pytest.mark.parametrize("name", ["uci_primate_splice_60"])
def test_reference_figure_on_real_data(name):
    folder = Path(__file__).parents[4] / "shared" / "data" / "benchmarks" / "other" / name
    reference = folder.parents[3] / "specs" / "kmer_baseline.csv"
    if not folder.is_dir() or not reference.is_file():
        pytest.skip(f"no real data at {folder}")
    pandas = pytest.importorskip("pandas")
    train, test = (pandas.read_csv(folder / f"{split}.csv.gz") for split in ("train", "test_shared"))
    order = np.random.default_rng(0).permutation(len(train))[:10_000]
    model = make_kmer_classifier().fit(train.seq[order], train.label[order])
    with open(reference, newline="") as file:
        expected = next(row for row in csv.DictReader(file) if row["task"] == f"other/{name}")
    assert matthews_corrcoef(test.label, model.predict(test.seq)) == pytest.approx(float(expected["mcc"]), abs=0.005)
