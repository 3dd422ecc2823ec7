"""The Genos papers' probe: the same numbers as a plain loop of PyTorch, and the choices that are sound."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from gengram.benchmarks.protocols import genos_probe, probe_mlp
from gengram.benchmarks.protocols.baselines import measure_rows
from gengram.benchmarks.protocols.genos_probe import run_compatible_probe, run_genos_probe
from gengram.benchmarks.protocols.probe_mlp import list_widths, train_networks
from gengram.benchmarks.protocols.probe_settings import GenosProbeSettings
from gengram.errors import InputError

H, N, EPOCHS = 24, 70, 3
SETTINGS = GenosProbeSettings(layers="all")
PROBLEMS = {
    "single_label": (3, nn.CrossEntropyLoss()),
    "multi_label": (2, nn.BCEWithLogitsLoss()),
    "regression": (2, nn.HuberLoss()),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def short(monkeypatch):
    """Fewer epochs, with a rate at which they are enough."""
    train = probe_mlp.train_networks
    monkeypatch.setattr(probe_mlp, "RATE", 3e-3)
    calls = []

    def train_shortly(*arguments, **options):
        calls.append(options)
        return train(*arguments, **options, epochs=30)

    monkeypatch.setattr(genos_probe, "train_networks", train_shortly)
    return calls


def draw(problem, layers=2):
    generator = np.random.default_rng(0)
    inputs = [generator.normal(size=(N, H)).astype(np.float32) for _ in range(layers)]
    outputs = PROBLEMS[problem][0]
    if problem == "single_label":
        return inputs, generator.integers(0, outputs, N)
    labels = generator.normal(size=(N, outputs)) * 2
    return inputs, labels > 0 if problem == "multi_label" else labels


class Dropped(nn.Module):
    """Dropout whose zeros are given."""

    def forward(self, x):
        return x * self.kept if self.training else x


def train_plainly(problem, inputs, labels, seed, dropout_epochs):
    """The published network in PyTorch, one alone; random numbers are drawn as documented."""
    outputs, loss = PROBLEMS[problem]
    sizes = [H, H // 2, H // 4, min(H // 8, 128), outputs]
    drops = [Dropped() for _ in range(3)]
    parts = []
    generator = torch.Generator().manual_seed(seed)
    for place, (inner, outer) in enumerate(pairwise(sizes)):
        linear = nn.Linear(inner, outer, dtype=torch.float64)
        bound = 1 / inner**0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        parts += [linear, nn.ReLU(), drops[place]] if place < 3 else [linear]
    network = nn.Sequential(*parts)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, foreach=False, fused=False)
    x = torch.from_numpy(inputs).double()
    y = torch.from_numpy(labels)
    y = y if problem == "single_label" else y.double()
    generator = torch.Generator().manual_seed(seed + 2**32)
    for epoch in range(EPOCHS):
        network.train(epoch < dropout_epochs)
        order = torch.randperm(N, generator=generator)
        for first in range(0, N, 64):
            rows = order[first : first + 64]
            if network.training:
                drawn = torch.rand(len(rows), sum(sizes[1:4]), generator=generator)
                for drop, part in zip(drops, drawn.split(sizes[1:4], dim=1), strict=True):
                    drop.kept = (part >= 0.2).double() / 0.8
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return network.eval()(x).numpy()


@pytest.mark.parametrize("dropout_epochs", [None, 1])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_networks_trained_together_are_those_of_a_plain_loop(problem, dropout_epochs):
    inputs, labels = draw(problem)
    options = {"dropout_epochs": dropout_epochs, "epochs": EPOCHS, "dtype": torch.float64}
    trained = train_networks(problem, inputs, labels, PROBLEMS[problem][0], [3, 4], **options)
    for number, (layer, seed) in enumerate([(0, 3), (0, 4), (1, 3), (1, 4)]):
        expected = train_plainly(problem, inputs[layer], labels, seed, dropout_epochs or EPOCHS)
        np.testing.assert_allclose(trained.predict(number, inputs[layer]), expected, rtol=0, atol=1e-9)
    alone = train_networks(problem, inputs[1:], labels, PROBLEMS[problem][0], [4], **options)
    np.testing.assert_allclose(alone.predict(0, inputs[1]), trained.predict(3, inputs[1]), rtol=0, atol=1e-9)


def test_the_numbers_as_published():
    assert (probe_mlp.RATE, probe_mlp.BATCH, probe_mlp.EPOCHS, probe_mlp.DROPOUT) == (1e-4, 64, 100, 0.2)
    assert genos_probe.TREES == {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 6}
    assert list_widths(1024) == (512, 256, 128) and list_widths(4096) == (2048, 1024, 128)
    assert list_widths(100) == (50, 25, 12) and list_widths(3) == (1, 1, 1) and list_widths(1) == (1, 1, 1)


def test_global_random_numbers_are_left_alone():
    inputs, labels = draw("single_label", 1)
    state = torch.get_rng_state()
    train_networks("single_label", inputs, labels, 3, [0], epochs=1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("problem", "metric"), [("single_label", "auroc"), ("multi_label", "auroc"), ("regression", "pearson")]
)
def test_the_network_learns_every_problem_from_every_seed(problem, metric, wide, draw_task, cache, short):
    task = draw_task(problem)
    outcomes = run_genos_probe(wide, task, SETTINGS, [0, 1, 2], cache)
    assert [one.seed for one in outcomes] == [0, 1, 2] and short[0]["dropout_epochs"] is None
    assert not np.allclose(outcomes[0].outputs, outcomes[1].outputs)
    for outcome in outcomes:
        assert outcome.outputs.shape == (60, 2) and outcome.outputs.dtype == np.float64
        assert measure_rows(task, outcome.outputs, task.test)[metric] > 0.7
        tried = outcome.chosen["tried"]
        assert [one["layer"] for one in tried] == [0, 1, 2] and outcome.chosen["chosen_on"] == "validation"
        assert outcome.chosen["head"] == "mlp"
        assert max(one[metric] for one in tried) == outcome.validation[metric]
    (alone,) = run_genos_probe(wide, task, GenosProbeSettings(layers=(outcomes[1].chosen["layer"],)), [1], cache)
    np.testing.assert_allclose(alone.outputs, outcomes[1].outputs, atol=1e-4)


def test_test_rows_choose_in_the_compatible_form_only(wide, draw_task, cache, short):
    task = draw_task()
    turned = dataclasses.replace(task.test, labels=1 - task.test.labels)
    other = dataclasses.replace(task, test=turned)
    sound, sound_other = (run_genos_probe(wide, one, SETTINGS, [0], cache)[0] for one in (task, other))
    np.testing.assert_array_equal(sound.outputs, sound_other.outputs)
    compatible = run_compatible_probe(wide, other, SETTINGS, [0], cache)[0]
    assert short[-1]["dropout_epochs"] == 1
    assert compatible.chosen["chosen_on"] == "test"
    scores = {one["layer"]: one["auroc"] for one in compatible.chosen["tried"]}
    assert measure_rows(other, compatible.outputs, turned)["auroc"] == max(scores.values())
    assert scores[compatible.chosen["layer"]] == max(scores.values()) < 0.5


def test_layers_that_need_more_memory_are_trained_in_turns(wide, draw_task, cache, short, monkeypatch):
    task = draw_task()
    together = run_genos_probe(wide, task, SETTINGS, [0, 1], cache)
    monkeypatch.setattr(genos_probe, "_MEMORY", 1)
    apart = run_genos_probe(wide, task, SETTINGS, [0, 1], cache)
    assert len(short) == 4
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-4)


@pytest.mark.parametrize(
    ("problem", "classes", "metric"),
    [
        ("single_label", 2, "auroc"),
        ("single_label", 3, "auroc"),
        ("multi_label", 2, "auroc"),
        ("regression", 2, "pearson"),
    ],
)
def test_trees_learn_every_problem_and_a_seed_changes_nothing(problem, classes, metric, wide, draw_task, cache):
    xgboost = pytest.importorskip("xgboost")
    task = draw_task(problem, classes)
    settings = GenosProbeSettings(layers=(2,), head="xgboost")
    (outcome,) = run_genos_probe(wide, task, settings, [0, 1], cache)
    assert outcome.outputs.shape == (60, classes) and outcome.chosen["head"] == "xgboost"
    assert measure_rows(task, outcome.outputs, task.test)[metric] > 0.7
    (other,) = run_genos_probe(wide, task, settings, [1], cache)
    np.testing.assert_array_equal(other.outputs, outcome.outputs)
    if problem == "single_label":
        features = genos_probe.embed_task(wide, task, settings, cache)
        model = xgboost.XGBClassifier(n_estimators=100, learning_rate=0.1, max_depth=6, random_state=0)
        model.fit(features.take("train", 2), task.train.labels)
        shares = np.exp(outcome.outputs) / np.exp(outcome.outputs).sum(1, keepdims=True)
        np.testing.assert_allclose(shares, model.predict_proba(features.take("test", 2)), atol=1e-5)


def test_trees_and_classes_or_labels_without_a_training_row(wide, draw_task, cache):
    pytest.importorskip("xgboost")
    task, settings = draw_task("single_label", 3), GenosProbeSettings(head="xgboost")
    task.train.labels[task.train.labels == 0] = 2
    (outcome,) = run_genos_probe(wide, task, settings, [0], cache)
    assert (outcome.outputs.argmax(1) > 0).all() and np.isfinite(outcome.outputs).all()
    task = draw_task("multi_label")
    task.train.labels[:, 0] = True
    (outcome,) = run_genos_probe(wide, task, settings, [0], cache)
    assert (outcome.outputs[:, 0] > 10).all() and np.ptp(outcome.outputs[:, 1]) > 1


def test_the_task_says_which_head(wide, draw_task, cache, monkeypatch):
    task = draw_task()
    monkeypatch.setattr(genos_probe, "find_spec", lambda name: None)
    trees = dataclasses.replace(task, task=dataclasses.replace(task.task, head="xgboost"))
    with pytest.raises(InputError, match=r"pip install 'gengram\[probes\]'"):
        run_genos_probe(wide, trees, SETTINGS, [0], cache)
    task.train.labels[:] = 0
    with pytest.raises(InputError, match="all training rows are of one class"):
        run_genos_probe(wide, task, SETTINGS, [0], cache)
