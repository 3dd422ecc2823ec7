"""Runs that are killed with kill -9 go on as if nothing had happened: the same weights and figures, bit for bit."""

import json
import multiprocessing
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, TrainerState

from gengram import RmtConfig, RmtForSequenceClassification
from gengram.errors import InputError
from gengram.training.checkpoints import check_names, clear_unusable, find_checkpoint
from gengram.training.command import finetune as main
from gengram.training.trainer import StepTrainer

SEEDS = (0, 3)
# BERT has dropout, so that the state of the generator matters. 54 training rows: 4 steps an epoch.
RUN = {
    "backbone": "bert",
    "memory": True,
    "seeds": list(SEEDS),
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 7,
    "gradient_accumulation_steps": 2,
    "reverse_complement": 0.5,
}
BY_STEPS = {**RUN, "save_strategy": "steps", "save_steps": 2}
# Seed 0 is best in epoch 2 and stops after epoch 4.
BY_EPOCH = {**RUN, "num_train_epochs": 8, "early_stopping_patience": 2, "metric_for_best_model": "mcc"}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


@pytest.fixture(scope="module")
def kill():
    """Start a run in a process of its own, in which it dies at the given moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gengram.training.finetune"])

    def start(argv: list[str], moment: tuple[str, int]) -> None:
        script = str(Path(__file__).with_name("killed_run.py"))
        process = context.Process(target=runpy.run_path, args=(script, {"argv": argv, "moment": moment}))
        process.start()
        process.join(timeout=120)
        assert process.exitcode == -9, process.exitcode

    return start


@pytest.fixture(scope="module")
def uninterrupted():
    """What the runs give that nobody kills; by their arguments, one after the other."""
    return {}


def collect(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text())
    figures = {name: report[name] for name in ("test", "validation", "intervals", "per_class", "model", "parameters")}
    # What was validated, and when; not how long it took.
    validations = [
        [(line["step"], line["eval_loss"]) for line in one if "eval_loss" in line] for one in report["history"]
    ]
    return (
        figures
        | {"validations": validations}
        | {seed: (folder / f"seed-{seed}" / "model.safetensors").read_bytes() for seed in SEEDS}
    )


@pytest.mark.parametrize(
    ("settings", "moment", "progress"),
    [
        (BY_STEPS, ("step", 3), []),  # a batch of the second step, before any checkpoint
        (BY_STEPS, ("step", 6), ["seed 0 has come to step 2"]),
        (BY_STEPS, ("weights", 2), ["seed 0 has come to step 2"]),  # half of the second checkpoint's weights
        (BY_STEPS, ("evaluate", 3), ["seed 0 is finished", "seed 3 has come to step 2"]),  # at the end of an epoch
        # All is written but the scores.
        (BY_STEPS, ("scores", 2), ["seed 0 is finished", "seed 3 is trained and not measured"]),
        (BY_STEPS, ("report", 1), ["seed 0 is finished", "seed 3 is finished"]),
        (BY_EPOCH, ("torch.save", 14), ["seed 0 has come to step 12"]),  # half of the optimizer, before an early stop
        (BY_EPOCH, ("scores", 1), ["seed 0 is trained and not measured"]),  # after it
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_killed_run_gives_the_weights_of_one_that_nobody_killed(
    settings, moment, progress, command, run_folder, tmp_path, kill, uninterrupted, capsys
):
    key = id(settings)
    if key not in uninterrupted:
        assert main(command(**settings, output_dir=tmp_path / "whole")) == 0
        uninterrupted[key] = collect(tmp_path / "whole")
    argv = command(**settings)
    kill(argv, moment)
    assert not (run_folder / "report.json").exists()
    capsys.readouterr()
    assert main(argv) == 1
    message = capsys.readouterr().err
    assert all(one in message for one in progress) and "--resume_from_checkpoint" in message

    assert main([*argv, "--resume_from_checkpoint"]) == 0
    assert collect(run_folder) == uninterrupted[key]
    assert not list(run_folder.glob("*.partial")) and not list(run_folder.rglob("*unfinished*"))
    assert not list(run_folder.rglob("scores.json")) and not list(run_folder.rglob("training_args.bin"))


@pytest.fixture
def interrupted(command, run_folder, monkeypatch):
    """A run that was stopped with Ctrl-C after its second checkpoint: its command."""
    settings = {"seeds": [0], "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 14}

    def interrupt(**changes) -> list[str]:
        step, calls = StepTrainer.training_step, []

        def stop(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        argv = command(**{**settings, **changes})
        with monkeypatch.context() as patch:
            patch.setattr(StepTrainer, "training_step", stop)
            assert main(argv) == 130
        return argv

    return interrupt


def test_ctrl_c_keeps_checkpoints_where_there_are_any(interrupted, run_folder):
    interrupted()
    assert sorted(path.name for path in run_folder.rglob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    assert (run_folder / "unfinished.json").is_file()


def test_ctrl_c_leaves_nothing_without_checkpoints(interrupted, run_folder):
    interrupted(save_strategy="no")
    assert not run_folder.exists()


def test_a_seed_whose_checkpoints_have_no_optimizer_begins_anew(command, run_folder, tmp_path, kill, capsys):
    settings = {**BY_STEPS, "seeds": [0], "save_only_model": True}
    assert main(command(**settings, output_dir=tmp_path / "whole")) == 0
    argv = command(**settings)
    kill(argv, ("step", 6))
    capsys.readouterr()
    assert main(argv) == 1 and "has come to step" not in capsys.readouterr().err
    assert main([*argv, "--resume_from_checkpoint"]) == 0
    weights = [(folder / "seed-0" / "model.safetensors").read_bytes() for folder in (run_folder, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_an_unfinished_run_is_replaced_when_asked(interrupted, run_folder):
    argv = interrupted()
    assert main([*argv, "--overwrite"]) == 0
    assert sorted(path.name for path in (run_folder / "seed-0").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in (1, 2, 3, 4)
    ]
    assert not (run_folder / "unfinished.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "arguments.training.learning_rate was 0.001 and is 0.5"),
        ({"seeds": [0, 1]}, "seeds was [0] and is [0, 1]"),
        ({"backbone": "esm"}, "arguments.model.backbone was 'llama' and is 'esm'"),
        ({"train_file": None}, "data.train.sha256 was"),
    ],
)
def test_another_run_is_not_resumed(changes, message, interrupted, command, task, capsys):
    interrupted()
    if changes == {"train_file": None}:
        Path(task["train_file"]).write_text(Path(task["train_file"]).read_text().replace("CCC", "CGC", 1))
        changes = {}
    settings = {"seeds": [0], "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 14}
    assert main([*command(**{**settings, **changes}), "--resume_from_checkpoint"]) == 1
    error = capsys.readouterr().err
    assert message in error and "--overwrite" in error, error


def test_another_checkpoint_of_the_same_name_is_not_resumed(interrupted, command, run_folder, tmp_path, capsys):
    assert main(command(output_dir=tmp_path / "base")) == 0
    base = tmp_path / "base" / "seed-0"
    argv = interrupted(model_name_or_path=base)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    assert main([*argv, "--resume_from_checkpoint"]) == 1
    assert "checkpoint.model.safetensors was" in capsys.readouterr().err


def test_resuming_needs_no_earlier_run_and_a_finished_one_is_left_alone(command, run_folder, capsys):
    argv = [*command(seeds=[0]), "--resume_from_checkpoint"]
    assert main(argv) == 0
    weights, first = run_folder / "seed-0" / "model.safetensors", capsys.readouterr().out
    written = weights.stat().st_mtime_ns
    assert main(argv) == 0
    assert weights.stat().st_mtime_ns == written and capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]


def test_a_run_that_was_moved_finds_its_best_checkpoint(interrupted, command, run_folder, tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 1}
    interrupted(**best)
    shutil.move(run_folder, tmp_path / "elsewhere")
    clear_unusable(tmp_path / "elsewhere" / "seed-0.partial")
    checkpoint = find_checkpoint(tmp_path / "elsewhere" / "seed-0.partial")
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    assert checkpoint.name == "checkpoint-2" and Path(state.best_model_checkpoint).is_dir()


def test_a_checkpoint_counts_only_with_all_it_refers_to(interrupted, run_folder):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 1}
    interrupted(**best, learning_rate=1e-9)
    partial = run_folder / "seed-0.partial"
    last = find_checkpoint(partial)
    state = json.loads((last / "trainer_state.json").read_text())
    (last / "scheduler.pt").write_bytes((last / "scheduler.pt").read_bytes()[:-1])
    assert find_checkpoint(partial).name == "checkpoint-1"
    assert Path(state["best_model_checkpoint"]).parent == partial
    clear_unusable(partial)
    assert [path.name for path in partial.iterdir()] == ["checkpoint-1"]
    (partial / "checkpoint-1" / "complete.json").unlink()
    assert find_checkpoint(partial) is None


def test_a_checkpoint_whose_optimizer_counts_otherwise_is_refused(tmp_path):
    """Two memory tokens and two classes have weights of one shape: nobody would notice that they are exchanged."""
    encoder = BertConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = RmtForSequenceClassification(RmtConfig(backbone_config=encoder, num_memory_tokens=2, segment_length=9))
    model.save_pretrained(tmp_path)
    check_names(tmp_path, model)
    check_names(tmp_path, torch.nn.Linear(1, 1))
    old = {"memory_tokens.weight": model.memory_tokens.weight.detach(), "model.bert.x": torch.zeros(1)}
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model\.safetensors: a checkpoint of an earlier version .* start anew"):
        check_names(tmp_path, model)
