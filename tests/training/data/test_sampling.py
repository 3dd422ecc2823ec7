"""Steps of the training: every row once an epoch, the same on any number of processes, repeatable, within limits."""

import itertools
import json

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import TrainerState

from gengram.errors import InputError
from gengram.training.arguments import FinetuneArguments
from gengram.training.command import finetune as main
from gengram.training.data.sampling import EpochCallback, StepBatches
from gengram.training.losses import StepLoss
from gengram.training.trainer import FillingCollator

KINDS = [{"order": "random"}, {"order": "sequential"}, {"order": "group_by_length"}, {"max_tokens": 70}]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


def draw_lengths(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(3, 30, rows)


@given(
    rows=st.integers(1, 60),
    sequences=st.integers(1, 20),
    processes=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    epoch=st.integers(0, 3),
    kind=st.sampled_from(KINDS),
)
def test_steps_do_not_depend_on_processes_and_accumulation(rows, sequences, processes, accumulation, epoch, kind):
    lengths = draw_lengths(rows)
    alone = StepBatches(lengths, sequences, **kind)
    alone.set_epoch(epoch)
    steps = list(alone)
    assert len(steps) == len(alone) and sorted(itertools.chain(*steps)) == list(range(rows))
    if "max_tokens" not in kind:
        assert [len(step) for step in steps[:-1]] == [sequences] * (len(steps) - 1)

    dealt = []
    for process in range(processes):
        batches = StepBatches(
            lengths, sequences, processes=processes, process=process, accumulation=accumulation, **kind
        )
        batches.set_epoch(epoch)
        assert len(batches) == len(steps) * accumulation
        dealt.append(list(batches))
        assert len(dealt[-1]) == len(batches)
    for number, step in enumerate(steps):
        parts = [part for own in dealt for part in own[number * accumulation : (number + 1) * accumulation]]
        assert sorted(itertools.chain(*parts)) == sorted(step)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_seed_and_epoch_decide_the_order_and_nothing_else(kind):
    lengths = draw_lengths(50)

    def draw(seed: int, epoch: int) -> list[list[int]]:
        torch.rand(1)
        np.random.rand()
        batches = StepBatches(lengths, 8, seed=seed, **kind)
        batches.set_epoch(epoch)
        return list(batches)

    assert draw(0, 0) == draw(0, 0)
    assert (draw(0, 0) == draw(0, 1)) is (draw(0, 0) == draw(5, 0)) is (kind.get("order") == "sequential")


@given(rows=st.integers(1, 80), max_tokens=st.integers(29, 300), epoch=st.integers(0, 2))
def test_a_step_never_has_more_tokens_than_asked_for(rows, max_tokens, epoch):
    lengths = draw_lengths(rows)
    batches = StepBatches(lengths, 1, max_tokens=max_tokens)
    batches.set_epoch(epoch)
    steps = list(batches)
    assert all(len(step) * lengths[step].max() <= max_tokens for step in steps)
    # No step could take the shortest row of the next one too.
    ordered = sorted(steps, key=lambda step: (lengths[step].min(), lengths[step].max(), -len(step)))
    for step, following in itertools.pairwise(ordered):
        assert (len(step) + 1) * lengths[following].min() > max_tokens


def test_rows_of_one_length_are_mixed_anew_in_each_epoch():
    batches = StepBatches(np.full(40, 10), 1, max_tokens=80)
    first = {frozenset(step) for step in batches}
    batches.set_epoch(1)
    assert first != {frozenset(step) for step in batches}


def test_a_row_that_no_step_can_hold():
    with pytest.raises(InputError, match="max_tokens_per_step=20: the longest training sequence has 21 tokens"):
        StepBatches([5, 21, 7], 1, max_tokens=20)


def test_similar_lengths_come_together():
    lengths = draw_lengths(400)

    def count_padding(order: str) -> int:
        return sum(
            len(step) * lengths[step].max() - lengths[step].sum() for step in StepBatches(lengths, 8, order=order)
        )

    assert count_padding("group_by_length") < 0.3 * count_padding("random")


@pytest.mark.parametrize("skipped", [0, 1, 5])
def test_a_loader_that_skips_batches_goes_on_where_the_epoch_was(skipped):
    batches = StepBatches(draw_lengths(30), 4, accumulation=2)
    EpochCallback(batches).on_epoch_begin(None, TrainerState(epoch=2.7), None)
    whole = [batch.tolist() for batch in DataLoader(range(30), batch_sampler=batches)]
    rest = skip_first_batches(DataLoader(range(30), batch_sampler=batches), skipped)
    assert [batch.tolist() for batch in rest] == whole[skipped:]
    assert batches.epoch == 2


def test_a_batch_without_rows_becomes_one_that_does_not_count():
    collate = FillingCollator(lambda rows: {"labels": torch.tensor(rows)}, 7)
    assert collate([1, 2])["labels"].tolist() == [1, 2] and "is_filler" not in collate([1, 2])
    assert collate([]) == {"labels": torch.tensor([7]), "is_filler": True}


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression", "token"])
def test_parts_of_the_loss_add_up_to_its_mean(problem):
    torch.manual_seed(0)
    logits = torch.randn((6, 5, 3) if problem == "token" else (6, 3), dtype=torch.float32)
    labels = torch.randint(0, 3, logits.shape[:-1])
    if problem in ("multi_label", "regression"):
        labels = torch.randint(0, 2, logits.shape).float()
    if problem == "token":
        labels[2, :] = -100
        labels[0, 3:] = -100
    loss = StepLoss(problem)
    count = labels.numel() if labels.is_floating_point() else int((labels != -100).sum())
    parts = [
        loss({"logits": logits[part]}, labels[part], num_items_in_batch=count) for part in ([0], [1, 2, 3], [4, 5])
    ]
    whole = {
        "single_label": torch.nn.CrossEntropyLoss(),
        "token": lambda x, y: torch.nn.functional.cross_entropy(x.transpose(1, 2), y),
        "multi_label": torch.nn.BCEWithLogitsLoss(),
        "regression": torch.nn.MSELoss(),
    }[problem](logits, labels)
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(loss({"logits": logits}, labels), whole)


def test_sequences_of_a_step_are_divided_among_the_processes(monkeypatch, tmp_path):
    def plan(processes: int, **changes) -> tuple[int, int]:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        arguments = object.__new__(FinetuneArguments)
        settings = {"sequences_per_step": 64, "per_device_train_batch_size": 10, "gradient_accumulation_steps": 1}
        settings |= {"max_tokens_per_step": None, "train_sampling_strategy": "random", **changes}
        settings["_largest_batch"] = settings["per_device_train_batch_size"]  # noted before it is changed
        for name, value in settings.items():
            setattr(arguments, name, value)
        arguments._plan_steps()
        return arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps

    assert [plan(processes) for processes in (1, 2, 4, 8, 64)] == [(10, 7), (8, 4), (8, 2), (8, 1), (1, 1)]
    assert plan(2, sequences_per_step=None, gradient_accumulation_steps=3) == (10, 3)
    with pytest.raises(ValueError, match="give either sequences_per_step or gradient_accumulation_steps"):
        plan(1, gradient_accumulation_steps=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences_per_step": 0}, "sequences_per_step=0: give 1 or more"),
        ({"sequences_per_step": 8, "max_tokens_per_step": 100}, "max_tokens_per_step decides how many sequences"),
        ({"train_sampling_strategy": "group_by_length", "max_tokens_per_step": 9}, "max_tokens_per_step decides"),
        ({"train_sampling_strategy": "batch_rebalance"}, "choose random, sequential, group_by_length"),
        ({"early_stopping_patience": 0}, "early_stopping_patience=0"),
        ({"overwrite": True, "resume_from_checkpoint": True}, "give one of the two"),
    ],
)
def test_steps_that_exclude_each_other(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        FinetuneArguments(output_dir=str(tmp_path), **changes)


def read_run(folder) -> tuple[dict, bytes]:
    return json.loads((folder / "report.json").read_text()), (folder / "seed-0" / "model.safetensors").read_bytes()


def test_accumulated_batches_give_the_gradient_of_the_step(command, task, tmp_path, draw_table):
    """transformers divides the loss of several labels by nothing: three batches would have three times the gradient."""
    table = draw_table(60, 0)
    for base in "ac":
        table[f"label_{base}"] = (table["seq"].str.count(base.upper()) > 7).astype(int)
    table.drop(columns="label").to_csv(task["train_file"], index=False)
    shared = {"test_file": None, "sequences_per_step": 18, "logging_strategy": "steps", "logging_steps": 1}
    for size in (18, 5):
        argv = command(**shared, per_device_train_batch_size=size, output_dir=tmp_path / f"{size}")
        assert main([*argv, "--problem", "multi_label"]) == 0
    (one, _), (other, _) = read_run(tmp_path / "18"), read_run(tmp_path / "5")
    assert other["arguments"]["training"]["gradient_accumulation_steps"] == 4
    for line, other_line in zip(one["history"][0], other["history"][0]):
        for name in {"loss", "grad_norm"} & set(line):
            assert other_line[name] == pytest.approx(line[name], rel=1e-4)


def test_early_stopping_takes_the_best_checkpoint(command, run_folder):
    rates = {"learning_rate": 0.1, "lr_scheduler_type": "constant"}
    assert main(command(num_train_epochs=19, early_stopping_patience=2, metric_for_best_model="loss", **rates)) == 0
    report, _ = read_run(run_folder)
    losses = [line["eval_loss"] for line in report["history"][0] if "eval_loss" in line]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 19, losses
    assert report["validation"]["loss"]["mean"] == pytest.approx(min(losses), abs=1e-6)


@pytest.mark.parametrize(
    "flags", [{"bf16": True}, {"gradient_checkpointing": True}], ids=lambda flags: next(iter(flags))
)
def test_half_precision_and_checkpointed_gradients_on_a_cpu(flags, command, run_folder, tmp_path):
    shared = {"memory": True, "use_cpu": True, "test_file": None}
    assert main(command(**shared, **flags)) == 0
    assert main(command(**shared, output_dir=tmp_path / "plain")) == 0
    (report, weights), (plain, plain_weights) = read_run(run_folder), read_run(tmp_path / "plain")
    tolerance = 1e-2 if "bf16" in flags else 1e-6
    assert report["validation"]["loss"]["mean"] == pytest.approx(plain["validation"]["loss"]["mean"], abs=tolerance)
    assert (weights == plain_weights) is ("bf16" not in flags)


def test_a_budget_of_tokens_trains_and_is_reported(command, run_folder):
    assert main(command(max_tokens_per_step=200, test_file=None)) == 0
    arguments = read_run(run_folder)[0]["arguments"]["training"]
    assert arguments["max_tokens_per_step"] == 200 and arguments["sequences_per_step"] is None
