"""One seed: measuring does not touch what is saved, and what goes wrong afterwards does not cost the training."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, TrainerState
from transformers.utils import ModelOutput

from gengram.errors import InputError
from gengram.phases import recording
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training import train_seed
from gengram.training.checkpoints import CheckpointSeal
from gengram.training.command import finetune as main
from gengram.training.losses import StepLoss
from gengram.training.problems import IGNORED
from gengram.training.trainer import StepTrainer


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


@pytest.fixture
def base(tmp_path, small) -> Path:
    """A checkpoint, in the precision that it is published in."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **small))
    model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def read_weights(folder: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    """All weights of a seed, or of its adapter."""
    file = next((folder / f"seed-{seed}").glob("*model.safetensors"))
    weights = load_file(file)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    return weights


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("flag", ["bf16_full_eval", "fp16_full_eval"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seeds": [0, 1]},
        {"load_best_model_at_end": True, "num_train_epochs": 2},
        {"eval_on_start": True, "save_strategy": "epoch"},
        {"average_strands": True, "validation_fraction": 0},
        {"peft": "lora"},
    ],
    ids=["plain", "two seeds", "best", "checkpoints", "both strands", "adapter"],
)
def test_evaluation_in_half_precision_leaves_the_weights_alone(flag, changes, command, run_folder, tmp_path, base):
    model = {"model_name_or_path": base} if "peft" in changes else {"backbone": "bert", "memory": True}
    given = {**model, "max_steps": 3, "use_cpu": True, **changes}
    assert main(command(**given, output_dir=tmp_path / "whole")) == 0
    assert main(command(**given, **{flag: True})) == 0
    for seed in changes.get("seeds", [0]):
        assert_same(read_weights(run_folder, seed), read_weights(tmp_path / "whole", seed))
    for checkpoint in (run_folder / "seed-0").glob("checkpoint-*"):
        assert {weight.dtype for weight in load_file(checkpoint / "model.safetensors").values()} == {torch.float32}
    figures = [json.loads((folder / "report.json").read_text()) for folder in (run_folder, tmp_path / "whole")]
    assert figures[0]["test"]["loss"] != figures[1]["test"]["loss"]


@pytest.mark.parametrize(
    "changes", [{}, {"reverse_complement": 0.5}, {"problem": "token"}], ids=["plain", "strands", "bases"]
)
def test_columns_that_are_called_like_inputs_of_the_model_are_not_read(changes, command, draw_table, tmp_path):
    table = draw_table(40, 0).rename(columns={"seq": "sequence"})[["sequence", "label"]]
    if "problem" in changes:
        table["label"] = [[int(base in "CG") for base in sequence] for sequence in table["sequence"]]
    for name in ("plain", "more"):
        table.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
        given = {"train_file": tmp_path / f"{name}.jsonl", "test_file": tmp_path / f"{name}.jsonl", "backbone": "bert"}
        assert main(command(**given, max_steps=2, use_cpu=True, output_dir=tmp_path / name, **changes)) == 0
        table = table.assign(labels="x", input_ids="y", output_attentions=True)
        ids = [[3] * (len(sequence) + 2) for sequence in table["sequence"]]
        table = table.assign(position_ids=ids, token_type_ids=ids)
    assert_same(read_weights(tmp_path / "more"), read_weights(tmp_path / "plain"))


@pytest.mark.parametrize("flag", ["bf16", "fp16"])
def test_mixed_precision_and_a_checkpoint_in_half_precision_give_weights_in_float32(flag, command, run_folder, base):
    given = {"model_name_or_path": base, "max_steps": 2, "use_cpu": True, flag: True}
    assert main(command(**given)) == 0
    trained = read_weights(run_folder)
    # More digits than bfloat16 has.
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in trained.values())


def break_once(monkeypatch, name: str, error: BaseException) -> None:
    """Let a function of the room fail at its first call."""
    function, calls = getattr(train_seed, name), []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(train_seed, name, fail)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("score", RuntimeError("no such metric")),
        ("predict_split", torch.OutOfMemoryError("out of memory")),
        ("write_predictions", OSError(28, "No space left on device")),
        ("write_scores", ZeroDivisionError("division by zero")),
    ],
)
@pytest.mark.parametrize("peft", [None, "lora"])
def test_a_model_that_could_not_be_measured_is_kept_and_measured_later(
    name, error, peft, command, run_folder, tmp_path, monkeypatch, capsys, base
):
    model = {"model_name_or_path": base, "peft": peft} if peft else {"backbone": "bert", "memory": True}
    argv = command(**model, seeds=[0, 1], max_steps=2)
    assert main(command(**model, seeds=[0, 1], max_steps=2, output_dir=tmp_path / "whole")) == 0
    break_once(monkeypatch, name, error)
    capsys.readouterr()
    assert main(argv) == 1
    message = capsys.readouterr().err
    assert f"the model is trained and saved in {run_folder / 'seed-0.partial'}, but it could not be measured" in message
    assert str(error.args[-1]) in message and "--resume_from_checkpoint" in message and "Traceback" not in message
    kept = load_file(next((run_folder / "seed-0.partial").glob("*model.safetensors")))
    assert main(argv) == 1 and "seed 0 is trained and not measured" in capsys.readouterr().err

    monkeypatch.setattr(StepTrainer, "train", lambda *_, **__: pytest.fail("trained again"))
    with pytest.raises(BaseException, match="trained again"):  # of seed 1
        main([*argv, "--resume_from_checkpoint", "--per_device_eval_batch_size", "7"])
    assert_same(read_weights(run_folder), kept)
    monkeypatch.undo()
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])
    assert main([*argv, "--resume_from_checkpoint"]) == 0
    reports = [json.loads((folder / "report.json").read_text()) for folder in (run_folder, tmp_path / "whole")]
    for part in ("history", "parameters", "model"):
        assert reports[0][part] == reports[1][part]
    assert reports[0]["test"]["loss"]["mean"] == pytest.approx(reports[1]["test"]["loss"]["mean"], rel=1e-6)
    for seed in (0, 1):
        assert_same(read_weights(run_folder, seed), read_weights(tmp_path / "whole", seed))
    assert not list(run_folder.rglob("*.partial")) and not list(run_folder.rglob("trained.json"))


def test_a_loss_that_is_not_finite_stops_the_run_with_the_step(command, run_folder, capsys):
    argv = command(learning_rate=1e30, warmup_steps=0, validation_fraction=0, test_file=None)
    assert main([*argv, "--per_device_train_batch_size", "16"]) == 1
    message = capsys.readouterr().err
    assert re.search(r"step [23]: the training diverged: the loss is (nan|inf)\. Lower --learning_rate", message)
    assert not run_folder.exists()


def test_weights_that_are_not_finite_are_not_saved(command, run_folder, monkeypatch, capsys):
    def spoil(self, *args, **kwargs):
        with torch.no_grad():
            next(self.model.parameters()).fill_(float("nan"))

    monkeypatch.setattr(StepTrainer, "train", spoil)
    assert main(command(test_file=None)) == 1
    message = capsys.readouterr().err
    assert "tensors have values that are not finite" in message and not run_folder.exists()


def test_what_fails_inside_the_training_is_told_with_the_step(command, run_folder, monkeypatch, capsys):
    monkeypatch.setattr(StepTrainer, "compute_loss", lambda *_, **__: 1 / 0)
    assert main(command()) == 1
    message = capsys.readouterr().err
    assert "step 1: the training stopped: ZeroDivisionError: division by zero" in message
    assert not run_folder.exists()


def test_a_checkpoint_of_weights_that_are_not_finite_is_not_sealed(tmp_path):
    model = torch.nn.Linear(2, 1)
    (tmp_path / "checkpoint-3").mkdir()
    waits = SimpleNamespace(wait_for_everyone=lambda: None)
    arguments = SimpleNamespace(output_dir=str(tmp_path), save_only_model=False, distributed_state=waits)
    state = TrainerState(global_step=3, is_world_process_zero=True)
    CheckpointSeal().on_save(arguments, state, None, model=model)
    assert (tmp_path / "checkpoint-3" / "complete.json").is_file()
    (tmp_path / "checkpoint-3" / "complete.json").unlink()
    with torch.no_grad():
        model.bias.fill_(float("inf"))
    with pytest.raises(InputError, match=r"step 3: 1 tensors have values that are not finite .*, e\.g\. bias"):
        CheckpointSeal().on_save(arguments, state, None, model=model)
    assert not (tmp_path / "checkpoint-3" / "complete.json").exists()


def test_a_metric_that_is_never_defined_chooses_no_checkpoint(command, run_folder, monkeypatch, capsys):
    measure = train_seed.measure
    monkeypatch.setattr(train_seed, "measure", lambda *args: {**measure(*args), "mcc": float("nan")})
    assert main(command(load_best_model_at_end=True, metric_for_best_model="mcc", max_steps=2)) == 0
    assert "no validation had a mcc to choose the best checkpoint by: the last weights are kept" in (
        capsys.readouterr().err
    )


def test_a_step_without_a_label_has_the_loss_zero():
    logits = torch.randn(1, 4, 2, requires_grad=True)
    loss = StepLoss("token")(ModelOutput(logits=logits), torch.full((1, 4), IGNORED))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


_BEST = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}


@pytest.fixture
def forwards(monkeypatch) -> list[int]:
    """Rows of each batch that a validation or a prediction has read."""
    read = []
    step = StepTrainer.prediction_step

    def count(self, model, inputs, *args, **kwargs):
        read.append(len(inputs["input_ids"]))
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StepTrainer, "prediction_step", count)
    return read


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({"max_steps": 2}, 1),
        # No class changes, so the first is the best.
        (
            {
                "num_train_epochs": 3,
                "load_best_model_at_end": True,
                "metric_for_best_model": "accuracy",
                "learning_rate": 1e-5,
            },
            3,
        ),
        ({"max_steps": 3, "eval_strategy": "steps", "eval_steps": 2}, 2),
        ({"max_steps": 2, "eval_strategy": "no"}, 1),
        ({"max_steps": 2, "average_strands": True}, 2),
        ({"max_steps": 2, "bf16_full_eval": True}, 2),
        ({"max_steps": 2, "problem": "token"}, 1),
    ],
    ids=["end", "best", "steps", "never", "both strands", "half precision", "bases"],
)
def test_validation_rows_are_predicted_once(changes, times, command, draw_table, tmp_path, forwards, monkeypatch):
    given = {"backbone": "bert", "test_file": None, "use_cpu": True, "per_device_eval_batch_size": 5}
    if "problem" in changes:
        table = draw_table(60, 0).rename(columns={"seq": "sequence"})
        table["label"] = [[int(base in "CG") for base in sequence] for sequence in table["sequence"]]
        table.to_json(tmp_path / "bases.jsonl", orient="records", lines=True)
        given["train_file"] = tmp_path / "bases.jsonl"
    with recording() as recorded:
        assert main(command(**given, **changes, output_dir=tmp_path / "once")) == 0
    counts = {one.name: one.count for one in recorded.list_phases()}
    assert counts.get("Validating", 0) + counts.get("Predicting", 0) == sum(forwards)
    report = json.loads((tmp_path / "once" / "report.json").read_text())
    assert sum(forwards) == times * report["data"]["validation"]["rows"]
    if changes.get("load_best_model_at_end"):
        state = TrainerState.load_from_json(str(tmp_path / "once" / "seed-0" / "trainer_state.json"))
        assert state.best_global_step < state.global_step, "the best is the last: nothing is seen here"
    monkeypatch.setattr(StepTrainer, "take_outputs", lambda self: None)
    assert main(command(**given, **changes, output_dir=tmp_path / "twice")) == 0
    again = json.loads((tmp_path / "twice" / "report.json").read_text())
    assert again["validation"] == report["validation"] and again["intervals"] == report["intervals"]
    file = Path("seed-0", "predictions-validation.parquet")
    assert (tmp_path / "twice" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()


def test_predictions_are_in_the_order_of_the_rows_whatever_the_order_of_training(command, draw_table, tmp_path):
    written = []
    for order in ("random", "group_by_length"):
        given = {"backbone": "bert", "max_steps": 1, "learning_rate": 0, "use_cpu": True}
        argv = command(**given, train_sampling_strategy=order, output_dir=tmp_path / order)
        assert main([*argv, "--per_device_eval_batch_size", "4"]) == 0
        written.append(pd.read_parquet(tmp_path / order / "seed-0" / "predictions-test.parquet"))
    assert written[0]["data_row"].tolist() == list(range(1, 21))
    assert written[0]["label"].nunique() == 2
    pd.testing.assert_frame_equal(*written, atol=1e-5)
