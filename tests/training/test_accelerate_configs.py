"""The shipped configurations, key by key, as they are read: by accelerate's launcher and plugins, DeepSpeed's parser.

What a reader does not know it drops without a word. DeepSpeed is no dependency: its tests skip where it is not there.
"""

import dataclasses
import importlib.util
import json
import os
import socket
import subprocess
import sys

import pytest
import yaml
from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.fsdp import OffloadPolicy

from gengram.training.accelerate_configs import CONFIGS

ZERO = ["deepspeed_zero2", "deepspeed_zero3"]
needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")


def read_arguments(name: str, *more: str):
    words = ["--config_file", str(CONFIGS[name]), "--num_processes", "2", *more, "x.py"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_one_of_the_launcher(name):
    written = yaml.safe_load(CONFIGS[name].read_text())
    assert set(written) <= {field.name for field in dataclasses.fields(ClusterConfig)}
    known = set(vars(launch_command_parser().parse_args(["x.py"])))
    for section in ("fsdp_config", "deepspeed_config"):
        inner = written.get(section, {})
        assert set(inner) <= known, "a key that the launcher drops"
        arguments = vars(read_arguments(name))
        for key, value in inner.items():
            assert str(arguments[key]).lower() == str(value).lower(), key


def test_fsdp2_becomes_the_plugin_that_it_describes(monkeypatch):
    for key, value in prepare_multi_gpu_env(read_arguments("fsdp2")).items():
        if key.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(key, value)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.state_dict_type.name == "FULL_STATE_DICT" and plugin.cpu_ram_efficient_loading is False
    assert type(plugin.cpu_offload) is OffloadPolicy, "which leaves everything where it is"
    named = {key.removeprefix("fsdp_") for key in yaml.safe_load(CONFIGS["fsdp2"].read_text())["fsdp_config"]}
    fields = {field.name for field in dataclasses.fields(FullyShardedDataParallelPlugin)}
    assert named - fields == {"version", "offload_params"}, "which are `fsdp_version` and `cpu_offload` there"


def make_deepspeed_config(name: str, monkeypatch, tmp_path) -> dict:
    """What DeepSpeed is given, as launcher, accelerate and Trainer make it of the file."""
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

    arguments = read_arguments(name)
    fields = yaml.safe_load(CONFIGS[name].read_text())["deepspeed_config"]
    arguments.deepspeed_fields_from_accelerate_config = ",".join(fields)  # as `launch_command` does
    for key, value in prepare_deepspeed_cmd_env(arguments)[1].items():
        if key.startswith("ACCELERATE_"):
            monkeypatch.setenv(key, str(value))
    written = DeepSpeedPlugin().deepspeed_config
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")  # The arguments below are those of one process.
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, bf16=True, max_grad_norm=1.0,
        per_device_train_batch_size=4, gradient_accumulation_steps=3, learning_rate=1e-3,
    )  # fmt: skip
    try:
        config = HfTrainerDeepSpeedConfig(written)
        config.trainer_config_process(arguments)
    finally:
        unset_hf_deepspeed_config()
    return config.config


@needs_deepspeed
@pytest.mark.parametrize("name", ZERO)
def test_deepspeeds_own_parser_reads_what_it_is_given(name, monkeypatch, tmp_path):
    from deepspeed.runtime.config import DeepSpeedConfig

    given = make_deepspeed_config(name, monkeypatch, tmp_path)
    zero = given["zero_optimization"]
    assert zero["stage"] == int(name[-1])
    given = {key: value for key, value in given.items() if not (isinstance(value, str) and value == "auto")}
    given["zero_optimization"] = {key: value for key, value in zero.items() if value != "auto"}
    given |= {"train_batch_size": 24, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 6}
    read = DeepSpeedConfig(given)
    assert read.zero_enabled and read.zero_optimization_stage == int(name[-1])
    assert read.zero_config.offload_optimizer is None or read.zero_config.offload_optimizer.device == "none"
    if name == "deepspeed_zero3":
        assert read.zero_config.gather_16bit_weights_on_model_save
    with pytest.raises(Exception, match="stage"):
        DeepSpeedConfig({**given, "zero_optimization": {"stage": 7}})


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO)
def test_deepspeed_trains_on_two_cpu_processes_as_one_does(name, command, tmp_path):
    """Its CPU accelerator, with gloo: the same losses as one process without it."""
    # ZeRO-3 draws new weights layer by layer, so that another model would begin: both begin with the same one.
    first = {"memory": True, "max_steps": 1, "baselines": False, "use_cpu": True, "output_dir": tmp_path / "first"}
    subprocess.run([sys.executable, "-m", "gengram", "finetune", *command(**first)], capture_output=True, check=True)
    start = {"backbone": None, "backbone_config": None, "memory": None, "model_name_or_path": tmp_path / "first/seed-0"}
    settings = {**start, "sequences_per_step": 8, "max_steps": 4, "logging_steps": 1, "baselines": False}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS[name])]
    launch += ["--num_processes", "2", "--main_process_port", port, "-m", "gengram", "finetune"]
    done = subprocess.run(
        [*launch, *command(**settings, output_dir=tmp_path / "two")],
        capture_output=True, text=True, env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    one = [sys.executable, "-m", "gengram", "finetune", *command(**settings, use_cpu=True, output_dir=tmp_path / "one")]
    subprocess.run(one, capture_output=True, check=True)
    losses = []
    for folder in ("one", "two"):
        (history,) = json.loads((tmp_path / folder / "report.json").read_text())["history"]
        losses.append([line["loss"] for line in history if "loss" in line])
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], abs=1e-5)
