"""`finetune`, `lora` and `nt-10fold`: chosen on validation rows, the test rows are read at the end."""

import contextlib
import dataclasses
import gc
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from gengram import GengramConfig, GengramForMaskedLM
from gengram.benchmarks.protocols import tenfold
from gengram.benchmarks.protocols import train as training
from gengram.benchmarks.protocols.entrants import open_entrant
from gengram.benchmarks.protocols.finetune import run_finetune
from gengram.benchmarks.protocols.lora import run_lora
from gengram.benchmarks.protocols.presets import PRESETS, read_preset
from gengram.benchmarks.protocols.table import PROTOCOLS
from gengram.benchmarks.protocols.tenfold import divide_rows, run_nt_10fold
from gengram.benchmarks.protocols.tuning_settings import FinetuneSettings, LoraSettings, TenfoldSettings
from gengram.errors import InputError
from gengram.tokenization import EMBEDDING_ROWS, build_nucleotide_tokenizer
from gengram.training import finetune as finetuning

SIZE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": EMBEDDING_ROWS,
    # So that a training is the same however its steps are divided.
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
QUICK = {"max_steps": 2, "batch_size": 16}


@dataclasses.dataclass(frozen=True)
class Rows:
    sequences: list
    alternatives: list | None
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
    """What the protocols read of a prepared task."""

    problem: str
    classes: tuple
    train: Rows
    validation: Rows
    test: Rows
    all_train: Rows
    fingerprint: str = "0" * 64
    task: object = dataclasses.field(default_factory=lambda: types.SimpleNamespace(name="NTB/H3", metric="auroc"))


def draw_rows(count: int, seed: int, problem: str = "single_label") -> Rows:
    """Sequences of 30 bp, half of them rich in G and C; the label says which."""
    random = np.random.default_rng(seed)
    rich = np.arange(count) % 2
    shares = [[0.4, 0.1, 0.1, 0.4], [0.1, 0.4, 0.4, 0.1]]
    sequences = ["".join(random.choice(list("ACGT"), 30, p=shares[each])) for each in rich]
    gc_share = np.array([sum(base in "GC" for base in sequence) / 30 for sequence in sequences])
    labels = {
        "single_label": rich.astype(np.int64),
        "multi_label": np.stack([rich == 1, gc_share > 0.3, gc_share < 0.4], axis=1),
        "regression": np.stack([gc_share, 1 - gc_share], axis=1),
    }[problem]
    return Rows(sequences, None, labels)


def make_task(problem: str = "single_label", **changes) -> Task:
    train, validation = draw_rows(48, 0, problem), draw_rows(16, 1, problem)
    joined = Rows(train.sequences + validation.sequences, None, np.concatenate([train.labels, validation.labels]))
    classes = {"single_label": ("poor", "rich"), "multi_label": ("rich", "some", "few")}.get(problem, ("gc", "at"))
    return dataclasses.replace(Task(problem, classes, train, validation, draw_rows(20, 2, problem), joined), **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BERT; beside it the same with a head, and a Gengram."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = build_nucleotide_tokenizer(template="cls_sep")
    config = BertConfig(**SIZE, pad_token_id=tokenizer.pad_token_id)
    memory = {"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2], "window_size": 3}
    for name, model in (
        ("bert", BertForMaskedLM(config)),
        ("classifier", BertForSequenceClassification(config)),
        ("gengram", GengramForMaskedLM(GengramConfig(backbone_config=config, **memory))),
    ):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def entrant(folder):
    return open_entrant(folder / "bert")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Plots are tested elsewhere; waiting for the disk and accelerate's collecting of garbage take longer than these
    trainings."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])
    monkeypatch.setattr("os.fsync", lambda _: None)
    gc.freeze()
    yield
    gc.unfreeze()


def test_a_model_learns_the_task_and_each_seed_says_something_else(entrant, tmp_path):
    task = make_task()
    outcomes = run_finetune(entrant, task, FinetuneSettings(learning_rate=1e-2, epochs=4, batch_size=8), [0, 3], None)
    assert [outcome.seed for outcome in outcomes] == [0, 3]
    for outcome in outcomes:
        assert outcome.outputs.shape == (20, 2) and outcome.outputs.dtype == np.float64
        assert np.allclose(np.exp(outcome.outputs).sum(axis=1), 1, atol=1e-6)  # the columns are the classes, by id
        assert roc_auc_score(task.test.labels, outcome.outputs[:, 1]) > 0.9
        assert set(outcome.validation) >= {"auroc", "mcc", "loss"} and outcome.validation["auroc"] > 0.9
    first, second = (outcome.chosen for outcome in outcomes)
    assert first["metric"] == "auroc" and first["learning_rate"] == 1e-2 and first["sequences_per_step"] == 8
    best = max(first["tried"], key=lambda one: one["auroc"])
    assert first["epoch"] == best["epoch"] and len(first["tried"]) == 4
    assert outcomes[0].validation["auroc"] == pytest.approx(best["auroc"])
    assert not np.array_equal(outcomes[0].outputs, outcomes[1].outputs) and second["seconds"]["training"] > 0


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_other_problems(entrant, problem):
    task = make_task(problem)
    (outcome,) = run_finetune(entrant, task, FinetuneSettings(learning_rate=1e-2, epochs=6, batch_size=8), [0], None)
    assert outcome.outputs.shape == (20, len(task.classes)) and np.isfinite(outcome.outputs).all()
    if problem == "regression":
        assert np.corrcoef(outcome.outputs[:, 0], task.test.labels[:, 0])[0, 1] > 0.5
    else:
        assert roc_auc_score(task.test.labels[:, 0], outcome.outputs[:, 0]) > 0.8


def test_the_test_rows_change_nothing_and_are_read_by_finished_models_only(entrant, monkeypatch):
    read = []
    original = finetuning.prepare_run

    def watch(model, data, arguments):
        ready = original(model, data, arguments)
        read.append((data.test_file, sorted(ready.data.splits), ready.data.report["train"]["rows"]))
        return ready

    monkeypatch.setattr(finetuning, "prepare_run", watch)
    task, settings = make_task(), FinetuneSettings(**QUICK)
    (one,) = run_finetune(entrant, task, settings, [0], None)
    turned = Rows(task.test.sequences[::-1], None, 1 - task.test.labels[::-1])
    (other,) = run_finetune(entrant, dataclasses.replace(task, test=turned), settings, [0], None)
    assert read == [(None, ["train", "validation"], 48)] * 2
    assert one.validation == other.validation and one.chosen["tried"] == other.chosen["tried"]
    assert np.allclose(one.outputs, other.outputs[::-1], atol=1e-6)


BASE = {"max_steps": 3, "batch_size": 16, "learning_rate": 1e-2, "warmup": 0.0}
CHANGES = [
    {"learning_rate": 1e-3},
    {"batch_size": 8},
    {"max_steps": None, "epochs": 2},
    {"weight_decay": 5.0},
    {"warmup": 0.9},
    {"too_long": "truncate", "max_length": 12},
    {"too_long": "center", "max_length": 12},
    {"preset": "genos", "learning_rate": None},
    {"search": True, "search_space": '{"learning_rate": [2e-2]}'},
    {"search": True, "search_space": '{"weight_decay": [0.5, 0.7]}', "search_trials": 1},
    {"dtype": "bfloat16"},
    {"patience": 1},
    {"device_batch_size": 4},
    {"gradient_checkpointing": True},
]
OF_ADAPTERS = [
    {},
    {"lora_r": 2},
    {"lora_alpha": 64},
    {"lora_dropout": 0.5},
    {"target_modules": ("key",)},
    {"adapter": "ia3"},
    {"preset": "gue-lora", "learning_rate": None},
]


@pytest.mark.parametrize(
    ("run", "kind", "changes"),
    [(run_finetune, FinetuneSettings, [{}, *CHANGES]), (run_lora, LoraSettings, OF_ADAPTERS)],
)
def test_every_setting_reaches_the_training(run, kind, changes, entrant, monkeypatch):
    given = []

    def stop(*groups):
        given.append(tuple(repr(sorted(vars(group).items(), key=str)) for group in groups))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "finetune", stop)
    monkeypatch.setattr(training, "make_scratch", lambda: contextlib.nullcontext(Path(entrant.folder).parent / "work"))
    (Path(entrant.folder).parent / "work").mkdir(exist_ok=True)
    for change in changes:
        with pytest.raises(KeyboardInterrupt):
            run(entrant, make_task(), kind(**{**BASE, **change}), [0], None)
    assert len(set(given)) == len(changes)
    tested = {name for change in changes for name in change} | set(BASE)
    assert {entry.name for entry in dataclasses.fields(kind)} - tested <= (set() if run is run_finetune else SHARED)


SHARED = {entry.name for entry in dataclasses.fields(FinetuneSettings)}


@pytest.mark.slow
def test_every_setting_changes_what_comes_out(entrant):
    task = make_task()
    found = [run_finetune(entrant, task, FinetuneSettings(**{**BASE, **change}), [0], None)[0] for change in CHANGES]
    plain = run_finetune(entrant, task, FinetuneSettings(**BASE), [0], None)[0].outputs
    *changed, _, parts, checkpointed = (outcome.outputs for outcome in found)
    outputs = [plain, *changed]
    assert len({each.tobytes() for each in outputs}) == len(outputs)
    for same in (parts, checkpointed):  # How it is computed changes nothing.
        assert same == pytest.approx(plain, abs=1e-3)
    adapted = [run_lora(entrant, task, LoraSettings(**{**BASE, **change}), [0], None)[0] for change in OF_ADAPTERS]
    assert len({outcome.outputs.tobytes() for outcome in adapted}) == len(adapted)


def test_a_search_chooses_on_validation_rows_and_tells_its_cost(entrant):
    settings = FinetuneSettings(**{**BASE, "search": True, "search_space": '{"learning_rate": [1e-4, 2e-2]}'})
    (outcome,) = run_finetune(entrant, make_task(), settings, [0], None)
    search = outcome.chosen["search"]
    values = [trial["value"] for trial in search["trials"]]
    best = search["trials"][values.index(max(values))]["settings"]
    assert len(values) == 2 and search["metric"] == "auroc" and outcome.chosen["learning_rate"] == best["learning_rate"]
    assert outcome.chosen["seconds"]["search"] > 0 and outcome.chosen["seconds"]["search_cpu"] > 0


def test_early_stopping_and_the_best_epoch(entrant, monkeypatch):
    (outcome,) = run_finetune(
        entrant, make_task(), FinetuneSettings(learning_rate=0.03, epochs=12, batch_size=8, patience=2), [0], None
    )
    values = [one["auroc"] for one in outcome.chosen["tried"]]
    assert len(values) < 12 and outcome.validation["auroc"] == pytest.approx(max(values))


def test_a_killed_training_goes_on_and_leaves_nothing(entrant, tmp_path, monkeypatch):
    task, settings = make_task(), FinetuneSettings(**QUICK)
    whole = run_finetune(entrant, task, settings, [0, 1], tmp_path / "whole")
    assert not list((tmp_path / "whole").iterdir())
    trained, original = [], finetuning.train_seed

    def stop(*args, **kwargs):
        trained.append(args[3].seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(finetuning, "train_seed", stop)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(entrant, task, settings, [0, 1], tmp_path / "cache")
    again = run_finetune(entrant, task, settings, [0, 1], tmp_path / "cache")
    assert trained == [0, 1, 1] and not list((tmp_path / "cache").iterdir())
    for one, other in zip(whole, again):
        assert np.array_equal(one.outputs, other.outputs) and one.validation == other.validation
    # Other settings, rows or weights are another training.
    by_mcc = types.SimpleNamespace(name="NTB/H3", metric="mcc")
    others = [
        (entrant, task, FinetuneSettings(max_steps=3)),
        (entrant, dataclasses.replace(task, task=by_mcc), settings),
        (entrant, make_task(fingerprint="1" * 64), settings),
        (open_entrant(entrant.folder, random_weights=1), task, settings),
    ]
    folders = set()
    for each in [(entrant, task, settings), *others]:
        with training.open_work("finetune 1", *each, tmp_path / "keys") as work:
            folders.add(work.name)
    assert len(folders) == 5


def test_heads_of_other_tasks_are_not_used(folder, monkeypatch):
    """A classifier of two classes takes part with its encoder, as every other model does."""
    starts, original = [], training.finetune

    def watch(model, *arguments):
        starts.append(model.model_name_or_path)
        return original(model, *arguments)

    monkeypatch.setattr(training, "finetune", watch)
    task, settings = make_task(), FinetuneSettings(**QUICK)
    run_finetune(open_entrant(folder / "classifier"), task, settings, [0], None)
    (outcome,) = run_finetune(open_entrant(folder / "gengram", random_weights=2), task, settings, [0], None)
    run_finetune(open_entrant(folder / "gengram"), task, settings, [0], None)
    assert [start.endswith("/start") for start in starts] == [True, True, False]
    assert outcome.chosen["learning_rate"] == 1e-3  # random weights learn from nothing


def test_an_adapter_of_random_weights_too(entrant, folder):
    task, settings = make_task(), LoraSettings(**BASE, lora_r=2, target_modules=("key",))
    (trained,) = run_lora(entrant, task, settings, [0], None)
    (random,) = run_lora(open_entrant(folder / "bert", random_weights=0), task, settings, [0], None)
    assert trained.chosen["adapter"]["r"] == 2 and trained.chosen["adapter"]["target_modules"] == ["key"]
    assert not np.array_equal(random.outputs, trained.outputs)


def test_ten_folds_of_training_rows(entrant, tmp_path, monkeypatch):
    task = make_task()
    folds = divide_rows(task)
    assert len(folds) == 10
    validated = [sequence for _, validation in folds for sequence in validation.sequences]
    assert sorted(validated) == sorted(task.all_train.sequences)
    for train, validation in folds:
        assert len(train.sequences) + len(validation.sequences) == 64
        assert not set(train.sequences) & set(validation.sequences)
        assert abs(validation.labels.mean() - 0.5) <= 1 / 12  # stratified


def test_killed_folds_go_on(entrant, tmp_path, monkeypatch):
    monkeypatch.setattr(tenfold, "FOLDS", 3)
    task, settings = make_task(), TenfoldSettings(**BASE, lora_r=2)
    calls, original = [], finetuning.train_seed

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(finetuning, "train_seed", stop)
    with pytest.raises(KeyboardInterrupt):
        run_nt_10fold(entrant, task, settings, [0, 1], tmp_path)
    outcomes = run_nt_10fold(entrant, task, settings, [0, 1], tmp_path)
    assert len(calls) == 4 and not list(tmp_path.iterdir())
    assert [outcome.seed for outcome in outcomes] == [0, 1, 2]
    assert len({outcome.outputs.tobytes() for outcome in outcomes}) == 3
    assert all(outcome.outputs.shape == (20, 2) and outcome.validation for outcome in outcomes)


def test_a_logistic_regression_on_each_fold(entrant):
    task = make_task()
    outcomes = run_nt_10fold(entrant, task, TenfoldSettings(method="logistic", layers="all"), [0], None)
    assert [outcome.seed for outcome in outcomes] == list(range(10))
    assert {outcome.chosen["layer"] for outcome in outcomes} <= {0, 1, 2}
    assert np.mean([roc_auc_score(task.test.labels, outcome.outputs[:, 1]) for outcome in outcomes]) > 0.9


def test_a_class_that_few_rows_have(entrant, capsys):
    """A class that only validation and test rows have is never predicted, and the others are in their places."""
    task = make_task(classes=("poor", "rich", "odd"))
    odd = dataclasses.replace(task.validation, labels=np.where(np.arange(16) == 0, 2, task.validation.labels))
    task = dataclasses.replace(task, validation=odd)
    (outcome,) = run_finetune(entrant, task, FinetuneSettings(**QUICK), [0], None)
    assert outcome.outputs.shape == (20, 3) and (outcome.outputs[:, 2] < outcome.outputs[:, :2].min()).all()
    assert "1 validation rows are of classes that no training row has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": Rows(["A"], ["C"], np.array([0]))}, "genos-probe and linear-probe take pairs"),
        ({"problem": "token"}, "a label for each base"),
        ({"validation": Rows([], None, np.zeros(0, np.int64))}, "the best epoch is never chosen on test rows"),
    ],
)
def test_tasks_that_cannot_be_trained(entrant, changes, message):
    for run, settings in ((run_finetune, FinetuneSettings()), (run_lora, LoraSettings())):
        with pytest.raises(InputError, match=message):
            run(entrant, dataclasses.replace(make_task(), **changes), settings, [0], None)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (FinetuneSettings, {"preset": "dnabert"}, "preset='dnabert': there is none"),
        (FinetuneSettings, {"preset": "gue-lora"}, "it is for the protocol lora"),
        (LoraSettings, {"preset": "gue"}, "it is for the protocol finetune"),
        (LoraSettings, {"preset": "nucleotide-transformer-ia3"}, "give adapter=ia3 too"),
        (LoraSettings, {"adapter": "ia3", "lora_r": 4}, "lora_r is read with adapter=lora only"),
        (LoraSettings, {"lora_dropout": 1.0}, "lora_dropout=1"),
        (FinetuneSettings, {"learning_rate": -1.0}, "learning_rate=-1: give a number above 0"),
        (FinetuneSettings, {"batch_size": 0}, "batch_size=0: give a number above 0"),
        (FinetuneSettings, {"warmup": -1.0}, "warmup=-1: give a number of at least 0"),
        (FinetuneSettings, {"epochs": 1, "max_steps": 1}, "give one of the two"),
        (FinetuneSettings, {"too_long": "window"}, "a training reads a row as a whole"),
        (FinetuneSettings, {"search_trials": 3}, "read with search only"),
        (FinetuneSettings, {"search": True, "search_space": "moderngen"}, "did you mean 'moderngena'"),
        (FinetuneSettings, {"search": True, "search_space": '{"lora_r": [1]}'}, "they are for the protocol lora"),
        (LoraSettings, {"adapter": "ia3", "search": True, "search_space": '{"lora_r": [1]}'}, "with adapter=lora only"),
        (TenfoldSettings, {"method": "logistic", "learning_rate": 1.0}, "learning_rate is not read"),
        (TenfoldSettings, {"layers": "all"}, "layers is not read with method=adapter"),
        (TenfoldSettings, {"method": "finetune", "lora_r": 2}, "lora_r is not read"),
        (TenfoldSettings, {"preset": "nucleotide-transformer-moderngena"}, "give method=finetune too"),
    ],
)
def test_settings_that_make_no_sense(kind, fields, message):
    with pytest.raises(InputError) as refused:
        kind(**fields)
    assert message in str(refused.value)


def test_presets_are_the_published_numbers():
    for name in PRESETS:
        preset = read_preset(name, "NTB/H3")
        assert preset["learning_rate"] > 0 and "validation_fraction" not in preset
    epochs = {
        task: read_preset("gue", f"GUE/{task}")["num_train_epochs"]
        for task in ("prom_core_tata", "prom_300_notata", "tf_0", "splice_reconstructed", "mouse_1", "EMP_H3")
    }
    assert epochs == {
        "prom_core_tata": 10,
        "prom_300_notata": 4,
        "tf_0": 3,
        "splice_reconstructed": 5,
        "mouse_1": 5,
        "EMP_H3": 3,
    }
    zero = FinetuneSettings(preset="genomic-benchmarks-hyenadna", weight_decay=0.0, warmup=0.0).choose_arguments("GB/x")
    assert (zero["weight_decay"], zero["warmup_steps"]) == (0, 0)
    assert FinetuneSettings(preset="genos").choose_arguments("GB/x")["gradient_checkpointing"] is True
    arguments = FinetuneSettings(preset="genomic-benchmarks-hyenadna", epochs=5).choose_arguments("GB/x")
    assert (
        arguments["num_train_epochs"] == 5 and arguments["weight_decay"] == 0.1 and arguments["learning_rate"] == 6e-4
    )
    assert arguments["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    steps = FinetuneSettings(preset="nucleotide-transformer-moderngena").choose_arguments("NTB/H3")
    assert (steps["max_steps"], steps["eval_steps"], steps["early_stopping_patience"]) == (20000, 30, 50)
    lora = LoraSettings(preset="nucleotide-transformer-lora").choose_arguments("NTB/H3")
    assert (lora["peft"], lora["lora_r"], lora["max_steps"]) == ("lora", 1, 1000)


def test_the_protocols_are_in_the_table():
    assert {name: PROTOCOLS[name].settings for name in ("finetune", "lora", "nt-10fold")} == {
        "finetune": FinetuneSettings,
        "lora": LoraSettings,
        "nt-10fold": TenfoldSettings,
    }
    for name in ("finetune", "lora", "nt-10fold"):
        assert not PROTOCOLS[name].frozen and PROTOCOLS[name].settings()
