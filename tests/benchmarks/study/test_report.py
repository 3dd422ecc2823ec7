"""The report of a study, from made-up figures of its windows: what it says follows from them."""

import json

import numpy as np
import pytest

from gengram.benchmarks.study.models import find_arms, list_models
from gengram.benchmarks.study.plots import CURVES, DIFFERENCES
from gengram.benchmarks.study.presets import ARCHITECTURES, TINY
from gengram.benchmarks.study.published import LOSSES, find_published
from gengram.benchmarks.study.report import make_report, render_markdown, tabulate_study, write_report

WINDOWS = 40
HELD_OUT = {
    "split": "test",
    "windows": WINDOWS,
    "bases": WINDOWS * 128,
    "contigs": ["chr|2"],
    "species": ["yeast"],
}
MARKOV = {"bases": 1_000_000, "bits_per_base": {"1": 1.97, "2": 1.95, "3": 1.96}}


def make_scores(models, effects, noise=0.0):
    """Bits that differ by an effect of each architecture, and by the seed; experts where there are some."""
    random = np.random.default_rng(0)
    hardness = random.normal(1.9, 0.05, WINDOWS)
    scores = {}
    for model in models:
        effect = effects[model.architecture] if model.arm.memory else 0.0
        drawn = random.normal(0, noise) if noise else 0.0
        bits = (hardness + effect + drawn + 0.001 * random.normal(size=WINDOWS) + 0.01 * model.seed) * 128
        mean = float(bits.sum() / 128 / WINDOWS)
        scores[model.name] = {
            "recipe": model.checksum,
            "bits": bits.tolist(),
            "bases": [128.0] * WINDOWS,
            "parameters": model.arm.parameters,
            "seconds": 20.0 if model.arm.memory else 10.0,
            "cpu_seconds": 30.0,
            "peak_bytes": 10**9,
            "balance": {"experts/balance_mean": 1.1, "experts/balance_max": 1.5} if "moe" in model.architecture else {},
            "training": [[step, mean + 10 / step] for step in range(16, 257, 16)],
            "held_out": [[step, mean + 5 / step] for step in (64, 128, 192, 256)],
        }
    return scores


def complete(report):
    return {**report, "corpus": "yeast *and* others", "held_out": HELD_OUT, "markov": MARKOV}


def test_a_study_trains_each_arm_once():
    models = list_models(TINY, ARCHITECTURES, range(2), ["tokens"])
    assert len(models) == 24 and len({model.name for model in models}) == 24  # twelve models, two seeds
    assert {model.arm.name for model in models} == {"none", "memory"}
    models = list_models(TINY, ["dense-mha"], range(1), ["tokens", "flops", "parameters"])
    assert [model.arm.name for model in models] == ["none", "memory", "memory-equal-flops", "none-wider"]
    assert len({model.checksum for model in models}) == 4


def test_arms_of_a_seed_differ_in_nothing_but_what_they_are():
    none, memory, equal, wider = list_models(TINY, ["moe-mla"], [3], ["tokens", "flops", "parameters"])
    recipes = [model.describe() for model in (none, memory, equal, wider)]
    for recipe in recipes[1:]:
        changed = {name for name in recipe if recipe[name] != recipes[0][name]}
        assert changed <= {"config", "blocks_per_step", "per_device_train_batch_size"}
        assert recipe["seed"] == 3
    assert recipes[1]["blocks_per_step"] == recipes[3]["blocks_per_step"] > recipes[2]["blocks_per_step"]


def test_a_memory_of_less_than_half_a_block_is_the_same_model():
    import dataclasses

    few = dataclasses.replace(TINY, blocks_per_step=2)
    ours, plain = find_arms(few, "dense-mha", "flops")
    assert (ours.name, plain.name) == ("memory", "none")
    assert len(list_models(few, ["dense-mha"], [0], ["tokens", "flops"])) == 2


def test_what_is_found_is_what_was_there(tmp_path):
    models = list_models(TINY, ARCHITECTURES, range(2), ["tokens", "flops"])
    effects = dict(zip(ARCHITECTURES, (-0.05, 0.03, 0.0, -0.02, -0.01, 0.0)))
    report = complete(make_report(models, ["tokens", "flops"], make_scores(models, effects), {}))
    assert report["complete"] and report["seeds"] == [0, 1]
    for architecture, effect in effects.items():
        for comparison in ("tokens", "flops"):
            one = report["architectures"][architecture]["differences"][comparison]
            assert one["difference"]["mean"] == pytest.approx(effect, abs=0.001)
            meant = "helps" if effect < 0 else "hurts" if effect > 0 else "cannot be told"
            assert one["verdict"] == meant, (architecture, one)
    assert report["all"]["tokens"]["difference"]["mean"] == pytest.approx(np.mean(list(effects.values())), abs=0.001)
    arms = report["architectures"]["dense-mha"]["arms"]
    assert arms["none"]["tokens_per_second"] == 256 * 16 * 128 / 10
    one = report["architectures"]["dense-mha"]["differences"]["flops"]
    assert one["tokens_ratio"] == 13 / 16 and one["flops_ratio"] == pytest.approx(1, abs=0.03)
    assert one["parameters_ratio"] == pytest.approx(2_228_864 / 279_104)

    write_report(report, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text()) == json.loads(json.dumps(report))
    text = (tmp_path / "study.md").read_text()
    assert "Of 6 architectures the memory helps in 3, hurts in 1; of 2 it cannot be told." in text
    assert "- dense-gqa: The memory hurts: 0.0" in text and "bits per base more with memory, with either" in text
    assert "1.9700, 1.9500, 1.9600 bits per base for the same windows: the best, of order 2, 1.9500." in text
    assert "chr&#124;2" in text and r"yeast \*and\* others" in text
    assert (tmp_path / CURVES).stat().st_size > 10_000 and (tmp_path / DIFFERENCES).stat().st_size > 10_000
    shown = tabulate_study(report, tmp_path)
    assert "dense-mha" in shown and "helps" in shown and "study.md" in shown


def test_noise_between_seeds_is_no_effect():
    models = list_models(TINY, ["dense-mha"], range(2), ["tokens"])
    report = make_report(models, ["tokens"], make_scores(models, {"dense-mha": -0.01}, noise=0.05), {})
    assert report["architectures"]["dense-mha"]["differences"]["tokens"]["verdict"] == "cannot be told"


def test_a_failed_model_is_told_and_its_seed_left_out_of_the_pair():
    models = list_models(TINY, ["dense-mha", "moe-gqa"], range(2), ["tokens"])
    scores = make_scores(models, {"dense-mha": -0.05, "moe-gqa": -0.05})
    scores["dense-mha-memory-seed-1"] = {}
    failed = {"dense-mha-memory-seed-1": "ended by SIGKILL"}
    report = complete(make_report(models, ["tokens"], scores, failed))
    assert not report["complete"] and report["failed"] == failed
    one = report["architectures"]["dense-mha"]["differences"]["tokens"]
    assert one["seeds"] == [0] and one["verdict"] == "cannot be told"
    assert report["architectures"]["moe-gqa"]["differences"]["tokens"]["verdict"] == "helps"
    assert report["all"]["tokens"]["seeds"] == [0]
    assert "**Not complete.**" in render_markdown(report)


def test_a_study_of_which_everything_has_failed_has_a_report(tmp_path):
    models = list_models(TINY, ["dense-mha"], range(1), ["tokens"])
    failed = {model.name: "no | memory" for model in models}
    report = complete(make_report(models, ["tokens"], {}, failed))
    write_report(report, tmp_path)
    assert "No seed of any architecture has both models." in (tmp_path / "study.md").read_text()
    assert not list(tmp_path.glob("*.png"))


def test_the_papers_losses():
    assert set(LOSSES) == set(ARCHITECTURES)
    # 0.9764 to 0.9634: 0.0130 nats are 0.0188 bits.
    assert find_published("dense-mha") == {
        "none": 0.9764, "memory": 0.9634, "difference": -0.013, "difference_in_bits": -0.0188
    }  # fmt: skip


def test_the_papers_losses_are_those_of_its_figure(shared):
    path = shared / "specs" / "gengram_figures.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    figure = json.loads(path.read_text())["fig4"]
    found = {f"{kind}-{name.lower()}": tuple(figure[kind][name]) for kind in ("dense", "moe") for name in figure[kind]}
    assert found == LOSSES
