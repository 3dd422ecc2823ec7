"""Two processes (gloo, on the CPU) train as one does: losses, metrics, resuming; configurations for more of them."""

import json
import multiprocessing
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from packaging.version import Version

from gengram.training.accelerate_configs import CONFIGS
from gengram.training.command import finetune as main

# 61 rows, of which 54 or so train: neither the steps nor the batches come out even.
SHARED = {
    "num_train_epochs": 1,
    "sequences_per_step": 12,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "use_cpu": True,
    "memory": True,
}
CASES = {
    "single_label": {"num_train_epochs": 2},
    "no row for a process": {"sequences_per_step": 53, "per_device_train_batch_size": 1},
    "class weights": {"class_weights": "balanced"},
    "multi_label": {"train_file": "multi_label"},
    "regression": {"train_file": "regression"},
    "token": {"train_file": "token", "backbone": "modernbert"},
    "both strands, shifted": {"reverse_complement": 0.5, "max_shift": 3, "num_train_epochs": 2},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "tokens": {"max_tokens_per_step": 300, "sequences_per_step": None},
}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


def run_together(commands: list[list[str]], script: str = "two_processes.py", **names) -> list[int]:
    """Run commands of `gengram finetune` in two processes that know of each other; returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gengram.training.finetune"])
    path = str(Path(__file__).with_name(script))
    processes = [
        context.Process(target=runpy.run_path, args=(path, {"rank": rank, "port": port, "commands": commands, **names}))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    return [process.exitcode for process in processes]


@pytest.fixture
def tables(tmp_path, draw_table, task):
    """Training files by problem, of sequences of different lengths."""
    rows = draw_table(61, 0)
    rows.to_csv(task["train_file"], index=False)
    sequences = rows["seq"]
    share = np.array([[(sequence.count(base) / len(sequence)) for base in "AC"] for sequence in sequences])
    frames = {
        "multi_label": {"label_a": (share[:, 0] > 0.3).astype(int), "label_c": (share[:, 1] > 0.3).astype(int)},
        "regression": {"target_a": 5 * share[:, 0], "target_c": 5 * share[:, 1]},
        "token": {"label": ["".join("01"[base == "A"] for base in sequence) for sequence in sequences]},
    }
    for name, columns in frames.items():
        table = pd.DataFrame({"sequence": sequences, **columns})
        table.to_csv(tmp_path / f"{name}.csv", index=False, quoting=2)
        table.head(21).to_csv(tmp_path / f"{name}-test.csv", index=False, quoting=2)
    return tmp_path


def read_run(folder: Path) -> tuple[dict, list[dict]]:
    report = json.loads((folder / "report.json").read_text())
    return report, report["history"][0]


def compare(one: Path, two: Path) -> None:
    (report, history), (other, others) = read_run(one), read_run(two)
    assert other["arguments"]["training"]["processes"] == 2
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (history, others)]
    assert len(losses[0]) >= 2 and losses[1] == pytest.approx(losses[0], abs=1e-5)
    norms = [[line["grad_norm"] for line in lines if "grad_norm" in line] for lines in (history, others)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3), "a gradient of another size would be hidden by Adam"
    for split in ("validation", "test"):
        for metric, values in report[split].items():
            assert other[split][metric]["mean"] == pytest.approx(values["mean"], abs=1e-5), metric
    evaluated = [[line["eval_loss"] for line in lines if "eval_loss" in line] for lines in (history, others)]
    assert evaluated[1] == pytest.approx(evaluated[0], abs=1e-5)


def test_two_processes_train_as_one(command, tables, tmp_path):
    commands = {}
    for name, changes in CASES.items():
        settings = {**SHARED, **changes}
        if "train_file" in settings:
            problem = settings["train_file"]
            files = {"train_file": tables / f"{problem}.csv", "test_file": tables / f"{problem}-test.csv"}
            settings |= {**files, "problem": problem}
        commands[name] = settings
    two = [
        command(**{"per_device_train_batch_size": 3, **one}, ddp_backend="gloo", output_dir=tmp_path / f"two {name}")
        for name, one in commands.items()
    ]
    assert run_together(two) == [0, 0]
    for name, settings in commands.items():
        settings["per_device_train_batch_size"] = 32
        assert main(command(**settings, output_dir=tmp_path / f"one {name}")) == 0
        compare(tmp_path / f"one {name}", tmp_path / f"two {name}")


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason="transformers 5.17 loads the optimizer of several CPU processes to 'cpu:0', which torch refuses",
)
def test_two_killed_processes_go_on_together(command, tmp_path):
    settings = {**SHARED, "backbone": "bert", "save_strategy": "steps", "save_steps": 2, "ddp_backend": "gloo"}
    settings |= {"memory": None, "per_device_train_batch_size": 3}
    whole, argv = command(**settings, output_dir=tmp_path / "whole"), command(**settings)
    assert run_together([whole]) == [0, 0]
    assert run_together([], script="killed_run.py", argv=argv, moment=("step", 8)) == [-9, -9]
    assert (tmp_path / "run" / "seed-0.partial" / "checkpoint-2" / "rng_state_1.pth").is_file()
    assert run_together([[*argv, "--resume_from_checkpoint"]]) == [0, 0]
    weights = [(tmp_path / run / "seed-0" / "model.safetensors").read_bytes() for run in ("whole", "run")]
    assert weights[0] == weights[1]


def test_accelerate_launches_two_processes(command, run_folder):
    # Without an accelerator --use_cpu need not be said: each process would train alone otherwise.
    use_cpu = True if torch.accelerator.is_available() else None
    argv = command(use_cpu=use_cpu, ddp_backend="gloo", sequences_per_step=16, memory=True)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS["ddp"])]
    launch += ["--num_processes", "2", "--main_process_port", "0"]
    done = subprocess.run([*launch, "-m", "gengram.training.finetune", *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    report, _ = read_run(run_folder)
    arguments = report["arguments"]["training"]
    assert (arguments["processes"], arguments["sequences_per_step"]) == (2, 16)
    assert arguments["per_device_train_batch_size"] == 8 and arguments["gradient_accumulation_steps"] == 1
    assert done.stdout.count("report.json") == 1, "only the main process prints"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the page says what happens without an accelerator")
@pytest.mark.parametrize(
    ("words", "launcher", "processes"),
    [
        (["--config_file", str(CONFIGS["ddp"]), "--num_processes", "2"], "multi_gpu_launcher", 2),
        (["--multi_gpu", "--num_processes", "2"], "multi_gpu_launcher", 2),
        ([], "simple_launcher", 1),
        (["--cpu"], "simple_launcher", 1),
        (["--num_processes", "2"], "simple_launcher", 1),
        (["--cpu", "--num_processes", "2"], "simple_launcher", 1),
        (["--cpu", "--config_file", str(CONFIGS["ddp"]), "--num_processes", "2"], "simple_launcher", 1),
    ],
)
def test_how_many_processes_accelerate_starts_on_cpus(monkeypatch, tmp_path, words, launcher, processes):
    """As docs/finetuning.md has it: the simple launcher starts one process, whatever the number is."""
    monkeypatch.setattr(launch, "default_config_file", str(tmp_path / "none.yaml"))
    started = []
    for name in ("multi_gpu_launcher", "simple_launcher", "deepspeed_launcher", "tpu_launcher"):
        monkeypatch.setattr(launch, name, lambda arguments, name=name: started.append((name, arguments.num_processes)))
    launch.launch_command(launch_command_parser().parse_args([*words, "x.py"]))
    assert [name for name, _ in started] == [launcher]
    assert processes == 1 or started[0][1] == processes


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("ddp", "multi_gpu"),
        ("fsdp2", "use_fsdp"),
        ("deepspeed_zero2", "use_deepspeed"),
        ("deepspeed_zero3", "use_deepspeed"),
    ],
)
def test_accelerate_reads_the_configurations(name, flag):
    config = load_config_from_file(str(CONFIGS[name]))
    assert config.num_processes == -1, "left to the command line"
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(CONFIGS[name]), "--num_processes", "4", "x.py"]
    )
    arguments, *_ = _validate_launch_command(arguments)
    assert getattr(arguments, flag) and arguments.num_processes == 4
    assert flag != "use_fsdp" or arguments.fsdp_version == 2
    assert flag != "use_deepspeed" or arguments.zero_stage == int(name[-1])


def test_every_configuration_is_tested():
    assert set(CONFIGS) == {"ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"}


def test_the_path_of_a_configuration_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["accelerate_configs", "fsdp2"])
    runpy.run_module("gengram.training.accelerate_configs", run_name="__main__")
    assert capsys.readouterr().out.strip() == str(CONFIGS["fsdp2"])
