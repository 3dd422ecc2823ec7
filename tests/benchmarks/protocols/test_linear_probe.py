"""The linear probe: fitted on training rows, chosen on validation rows, and nothing of the test rows."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from gengram.benchmarks.protocols.baselines import measure_rows
from gengram.benchmarks.protocols.embeddings import embed_rows
from gengram.benchmarks.protocols.linear_probe import PENALTIES, STRENGTHS, fit_strengths, run_linear_probe
from gengram.benchmarks.protocols.probe_settings import LinearProbeSettings
from gengram.errors import InputError

SETTINGS = LinearProbeSettings(layers="all")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("problem", "classes", "metric"),
    [
        ("single_label", 2, "auroc"),
        ("single_label", 3, "auroc"),
        ("multi_label", 2, "auroc"),
        ("regression", 2, "pearson"),
    ],
)
def test_it_learns_every_problem_and_a_seed_changes_nothing(problem, classes, metric, causal, draw_task, cache):
    task = draw_task(problem, classes)
    (outcome,) = run_linear_probe(causal, task, SETTINGS, [5, 6, 7], cache)
    assert outcome.seed == 5 and outcome.outputs.shape == (60, classes) and outcome.outputs.dtype == np.float64
    assert measure_rows(task, outcome.outputs, task.test)[metric] > 0.8
    chosen = outcome.chosen
    assert chosen["head"] == "linear" and len(chosen["tried"]) == 3 * len(STRENGTHS)
    assert max(one[metric] for one in chosen["tried"]) == outcome.validation[metric]
    strength = "alpha" if problem == "regression" else "C"
    assert {one[strength] for one in chosen["tried"]} == set(PENALTIES if problem == "regression" else STRENGTHS)
    (again,) = run_linear_probe(causal, task, SETTINGS, [9], cache)
    np.testing.assert_array_equal(again.outputs, outcome.outputs)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_penalised_likelihood_of_standardised_training_rows(classes, causal, draw_task, cache):
    task = draw_task("single_label", classes)
    (outcome,) = run_linear_probe(causal, task, LinearProbeSettings(layers=(1,)), [0], cache)
    train, test = (embed_rows(causal, rows.sequences, [1], cache=cache)[1] for rows in (task.train, task.test))
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, deviation = train.mean(0), train.std(0)
    x, y = (train - mean) / deviation, np.eye(classes)[task.train.labels]
    # Of two classes there is one vector of weights, whose penalty is that of both halves.
    width = 1 if classes == 2 else classes

    def read(flat, inputs):
        weights = flat.reshape(width, -1)
        logits = inputs @ weights[:, :-1].T + weights[:, -1]
        return np.concatenate([0 * logits, logits], axis=1) if classes == 2 else logits

    def lose(flat):
        shares = log_softmax(read(flat, x), axis=1)
        weights = flat.reshape(width, -1)[:, :-1]
        return -(y * shares).sum() + (weights**2).sum() / 2 / outcome.chosen["C"]

    best = minimize(
        lose,
        np.zeros(width * 17),
        method="L-BFGS-B",
        options={"maxiter": 500, "maxfun": 10**6, "ftol": 1e-13, "gtol": 1e-8},
    ).x
    expected = log_softmax(read(best, (test - mean) / deviation), axis=1)
    np.testing.assert_allclose(outcome.outputs, expected, atol=1e-3)


def test_numbers_are_the_closed_form_of_a_ridge_regression(draw_task):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 4)), generator.normal(size=(30, 2))
    x -= x.mean(0)
    for setting, predict in fit_strengths("regression", x, y, 2, "a task"):
        weights = np.linalg.solve(x.T @ x + setting["alpha"] * np.eye(4), x.T @ (y - y.mean(0)))
        np.testing.assert_allclose(predict(x), x @ weights + y.mean(0), atol=1e-10)


def test_neither_test_rows_nor_their_labels_change_what_is_chosen(causal, draw_task, cache):
    task = draw_task()
    (outcome,) = run_linear_probe(causal, task, SETTINGS, [0], cache)
    half = dataclasses.replace(task.test, sequences=task.test.sequences[:20], labels=1 - task.test.labels[:20])
    (other,) = run_linear_probe(causal, dataclasses.replace(task, test=half), SETTINGS, [0], cache)
    assert {**other.chosen, "seconds": 0} == {**outcome.chosen, "seconds": 0}
    np.testing.assert_allclose(other.outputs, outcome.outputs[:20], atol=1e-4)


def test_validation_rows_choose(causal, draw_task, cache):
    task = draw_task()
    turned = dataclasses.replace(task.validation, labels=1 - task.validation.labels)
    (outcome,) = run_linear_probe(causal, dataclasses.replace(task, validation=turned), SETTINGS, [0], cache)
    scores = [one["auroc"] for one in outcome.chosen["tried"]]
    assert outcome.validation["auroc"] == max(scores) < 0.5


def test_classes_and_labels_without_a_training_row(causal, draw_task, cache):
    task = draw_task()
    named = dataclasses.replace(task, classes=("a", "b", "c"))
    (outcome,) = run_linear_probe(causal, named, SETTINGS, [0], cache)
    assert outcome.outputs.shape == (60, 3) and np.isfinite(outcome.outputs).all()
    assert (outcome.outputs.argmax(1) < 2).all()
    task = draw_task("multi_label")
    task.train.labels[:, 1] = True
    (outcome,) = run_linear_probe(causal, task, SETTINGS, [0], cache)
    assert (outcome.outputs[:, 1] > 10).all() and np.ptp(outcome.outputs[:, 0]) > 1
    task = draw_task()
    task.train.labels[:] = 1
    with pytest.raises(InputError, match=r"other/share: all training rows are of one class"):
        run_linear_probe(causal, task, SETTINGS, [0], cache)


def test_labels_of_bases_and_splits_without_rows_are_refused(causal, draw_task, cache):
    task = draw_task()
    with pytest.raises(InputError, match="take finetune"):
        run_linear_probe(causal, dataclasses.replace(task, problem="token"), SETTINGS, [0], cache)
    empty = dataclasses.replace(task.train, sequences=[], labels=task.train.labels[:0])
    with pytest.raises(InputError, match="the validation split has no rows"):
        run_linear_probe(causal, dataclasses.replace(task, validation=empty), SETTINGS, [0], cache)


def test_pairs(causal, draw_task, cache):
    task = draw_task(pairs=True)
    (outcome,) = run_linear_probe(causal, task, SETTINGS, [0], cache)
    assert measure_rows(task, outcome.outputs, task.test)["auroc"] > 0.8
