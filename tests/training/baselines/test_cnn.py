"""The small convolutional network: what it learns, and what must not change what it says."""

import numpy as np
import pytest
import torch

from gengram.training.baselines.cnn import CnnSettings, SmallCnn, train_cnn
from gengram.training.metrics.scores import measure_outputs

QUICK = CnnSettings((32, 16), (11, 5), hidden=32, dropout=0.1, epochs=8, patience=8, batch=16, learning_rate=5e-3)


def draw_rows(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Sequences of 40 to 80 bp; half of them have a motif, within 10 bp of the middle."""
    random = np.random.default_rng(seed)
    rows, classes = [], np.arange(count) % 2
    for each in classes:
        bp = int(random.integers(40, 80))
        sequence = "".join(random.choice(list("ACGT"), bp))
        start = bp // 2 - 6 + random.integers(-10, 10)
        rows.append(f"{sequence[:start]}GATTACAGATTA{sequence[start + 12 :]}" if each else sequence)
    return rows, classes


def train(problem, outputs, train_rows, validation_rows, metric, settings=QUICK, seed=0):
    rows, labels = validation_rows
    return train_cnn(
        problem,
        outputs,
        train_rows,
        rows,
        lambda found: measure_outputs(problem, found, labels),
        metric,
        seed,
        settings,
    )


@pytest.fixture(scope="module")
def trained():
    return train("single_label", 2, draw_rows(240, 0), draw_rows(80, 1), "auroc")


def test_it_finds_a_motif(trained):
    rows, classes = draw_rows(100, 2)
    assert measure_outputs("single_label", trained.predict(rows), classes)["auroc"] > 0.9
    assert trained.tried[trained.epoch - 1]["auroc"] == max(one["auroc"] for one in trained.tried)


def test_rows_do_not_depend_on_each_other(trained):
    rows, _ = draw_rows(12, 3)
    together = trained.predict(rows)
    np.testing.assert_allclose(together, np.concatenate([trained.predict([row]) for row in rows]), atol=1e-5)
    assert together.dtype == np.float64


def test_case_and_letters_that_are_no_bases(trained):
    rows = ["acgtacgtgattacagaacgt", "ACGTACGTGATTACAGAACGT", "ACGUACGUGAUUACAGAACGU"]
    found = trained.predict(rows)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.isfinite(trained.predict(["NNNN", "A", "RYKM-", "ä" * 9])).all()
    np.testing.assert_array_equal(*trained.predict(["ACNNGT", "ACRYGT"]))


def test_one_seed_is_one_training_and_moves_no_other_generator():
    rows = draw_rows(60, 0), draw_rows(20, 1)
    before = torch.random.get_rng_state()
    first, second = (train("single_label", 2, *rows, "auroc", seed=4).predict(rows[1][0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not np.array_equal(first, train("single_label", 2, *rows, "auroc", seed=5).predict(rows[1][0]))


def test_it_stops_where_validation_rows_gain_nothing():
    rows, classes = draw_rows(60, 0)
    random = np.random.default_rng(0)
    settings = CnnSettings(channels=(8,), kernels=(5,), hidden=8, epochs=30, patience=2)
    found = train("single_label", 2, (rows, random.permutation(classes)), draw_rows(30, 1), "auroc", settings)
    assert len(found.tried) == found.epoch + 2 < 30


def test_labels_numbers_and_pairs():
    rows, classes = draw_rows(200, 0)
    held, others = draw_rows(60, 1)
    labels, truth = np.stack([classes, 1 - classes], axis=1), np.stack([others, 1 - others], axis=1)
    found = train("multi_label", 2, (rows, labels), (held, truth), "auroc")
    assert measure_outputs("multi_label", found.predict(held), truth.astype(np.float32))["auroc"] > 0.8
    found = train(
        "regression", 1, (rows, 500 + 100.0 * classes[:, None]), (held, 500 + 100.0 * others[:, None]), "pearson"
    )
    assert abs(found.predict(held).mean() - 550) < 40
    pairs, sides = [(row, row[::-1]) for row in rows], [(row, row[::-1]) for row in held]
    found = train("single_label", 2, (pairs, classes), (sides, others), "auroc")
    assert measure_outputs("single_label", found.predict(sides), others)["auroc"] > 0.8


def test_a_metric_that_is_not_defined_leaves_the_choice_to_the_loss():
    rows = draw_rows(40, 0)
    held = rows[0][:10], np.zeros(10, dtype=int)
    found = train_cnn(
        "single_label", 2, rows, held[0], lambda outputs: {"loss": float(np.abs(outputs).mean())}, "auroc", 0, QUICK
    )
    assert found.tried[found.epoch - 1]["loss"] == min(one["loss"] for one in found.tried)


def test_long_rows_are_read_around_the_middle():
    settings = CnnSettings(channels=(8,), kernels=(5,), hidden=8, epochs=1, longest=20)
    found = train("single_label", 2, draw_rows(20, 0), draw_rows(10, 1), "auroc", settings)
    middle = "ACGTTGCAACGTTGCATTAA"
    np.testing.assert_array_equal(*found.predict([middle, f"{'C' * 50}{middle}{'G' * 50}"]))


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = SmallCnn(2, QUICK).train()
    codes = torch.randint(0, 4, (3, 21))
    padded = torch.nn.functional.pad(codes, (0, 14), value=5)
    torch.testing.assert_close(_without_dropout(model)(codes), _without_dropout(model)(padded), atol=1e-5, rtol=1e-4)


def _without_dropout(model: SmallCnn) -> SmallCnn:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    return model
