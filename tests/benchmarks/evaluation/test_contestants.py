"""What a cell is kept under: the settings as they come to on a task, too."""

import dataclasses
from types import SimpleNamespace

import pytest

from gengram.benchmarks.evaluation.cells import make_key
from gengram.benchmarks.evaluation.contestants import enter_baseline, enter_model
from gengram.benchmarks.protocols.baselines import BASELINES
from gengram.benchmarks.protocols.probe_settings import GenosProbeSettings, LinearProbeSettings
from gengram.benchmarks.protocols.table import PROTOCOLS
from gengram.benchmarks.protocols.tuning_settings import FinetuneSettings, LoraSettings, TenfoldSettings

MODEL = SimpleNamespace(name="m", fingerprint="a" * 64, source="m", revision=None, random=None)


@dataclasses.dataclass(frozen=True)
class Task:
    """What settings may read of a task."""

    name: str = "GUE/prom_core_tata"
    head: str = "mlp"


def find_key(protocol: str, settings, task: Task) -> str:
    contestant = enter_model(MODEL, PROTOCOLS[protocol], settings, [0])
    return make_key(contestant.list_inputs(task, "b" * 64, "mcc"))


@pytest.mark.parametrize(
    ("protocol", "settings", "other"),
    [
        ("finetune", FinetuneSettings(preset="gue"), Task("GUE/prom_core_all")),
        ("lora", LoraSettings(preset="gue-lora"), Task("GUE/prom_core_all")),
        ("nt-10fold", TenfoldSettings(method="finetune", preset="gue"), Task("GUE/prom_core_all")),
        ("genos-probe", GenosProbeSettings(), Task(head="xgboost")),
        ("genos-probe-compat", GenosProbeSettings(), Task(head="xgboost")),
    ],
)
def test_the_same_rows_under_another_name_are_another_cell_where_that_decides_settings(protocol, settings, other):
    assert find_key(protocol, settings, Task()) != find_key(protocol, settings, other)
    assert find_key(protocol, settings, Task()) == find_key(protocol, settings, Task())


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        ("finetune", FinetuneSettings(preset="gue", epochs=2)),
        ("lora", LoraSettings()),
        ("nt-10fold", TenfoldSettings(method="logistic")),
        ("linear-probe", LinearProbeSettings()),
        ("genos-probe", GenosProbeSettings(head="mlp")),
    ],
)
def test_a_name_that_decides_nothing_changes_nothing(protocol, settings):
    assert find_key(protocol, settings, Task()) == find_key(protocol, settings, Task("GUE/prom_core_all", "xgboost"))


def test_another_recipe_of_the_same_preset_is_another_cell(monkeypatch):
    before = find_key("finetune", FinetuneSettings(preset="gue"), Task())
    module = "gengram.benchmarks.protocols.tuning_settings"
    monkeypatch.setattr(f"{module}.read_preset", lambda name, task: {"learning_rate": 1.0})
    assert find_key("finetune", FinetuneSettings(preset="gue"), Task()) != before


def test_a_baseline_is_the_same_on_the_same_rows():
    baseline = enter_baseline(next(iter(BASELINES.values())), [0])
    assert baseline.list_inputs(Task(), "b" * 64, "mcc") == baseline.list_inputs(Task("own"), "b" * 64, "mcc")
