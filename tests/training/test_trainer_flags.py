"""Every argument of transformers' `TrainingArguments`: what a run with another value than the default does.

The table is docs/training_arguments.md. `GENGRAM_WRITE_DOCS=1 pytest -m "" tests/training/test_trainer_flags.py` writes
it anew; without that word the test compares. An argument that transformers adds has no row, and fails here: try it, and
then say what it does.
"""

import dataclasses
import json
import multiprocessing
import os
import runpy
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import TrainingArguments

from gengram.training.command import finetune as main

PAGE = Path(__file__).parents[2] / "docs" / "training_arguments.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


class Trial(NamedTuple):
    """Flags that are tried beside those that are `given` in both runs; `note` says what the table cannot."""

    tried: str
    given: str = ""
    note: str = ""


ONE_PROCESS = "for several processes"
ELSEWHERE = "not on a CPU"
BY_STEPS = "--save_strategy steps --save_steps 1"
FOLLOWS = "read with --report_to only, and no such package is installed"

TRIALS = {
    "accelerator_config": Trial("--accelerator_config '{\"split_batches\": true}'"),
    "activation_checkpointing": Trial(
        "--activation_checkpointing true", note="less memory, the same numbers; from 5.23 on"
    ),
    "activation_checkpointing_kwargs": Trial(
        "--activation_checkpointing_kwargs '{\"use_reentrant\": true}'",
        "--activation_checkpointing true",
        "the same numbers; from 5.23 on",
    ),
    "adam_beta1": Trial("--adam_beta1 0.5"),
    "adam_beta2": Trial("--adam_beta2 0.5"),
    "adam_epsilon": Trial("--adam_epsilon 0.1"),
    "auto_find_batch_size": Trial("--auto_find_batch_size"),
    "average_tokens_across_devices": Trial("--average_tokens_across_devices false"),
    "batch_eval_metrics": Trial("--batch_eval_metrics"),
    "bf16": Trial("--bf16", note="mixed precision; the weights stay float32"),
    "bf16_full_eval": Trial("--bf16_full_eval", note="the final scores alone"),
    "data_seed": Trial("--data_seed 3"),
    "dataloader_drop_last": Trial("--dataloader_drop_last"),
    "dataloader_in_order": Trial("--dataloader_in_order false"),
    "dataloader_multiprocessing_context": Trial(
        "--dataloader_multiprocessing_context forkserver", "--dataloader_num_workers 1", "the same rows"
    ),
    "dataloader_num_workers": Trial("--dataloader_num_workers 1", note="the same rows"),
    "dataloader_persistent_workers": Trial(
        "--dataloader_persistent_workers", "--dataloader_num_workers 1", "the same rows"
    ),
    "dataloader_pin_memory": Trial("--dataloader_pin_memory false", note=ELSEWHERE),
    "dataloader_prefetch_factor": Trial(
        "--dataloader_prefetch_factor 3", "--dataloader_num_workers 1", "the same rows"
    ),
    "ddp_backend": Trial("--ddp_backend gloo"),
    "ddp_broadcast_buffers": Trial("--ddp_broadcast_buffers true", note=ONE_PROCESS),
    "ddp_bucket_cap_mb": Trial("--ddp_bucket_cap_mb 1", note=ONE_PROCESS),
    "ddp_find_unused_parameters": Trial("--ddp_find_unused_parameters true", note=ONE_PROCESS),
    "ddp_static_graph": Trial("--ddp_static_graph true", note=ONE_PROCESS),
    "ddp_timeout": Trial("--ddp_timeout 10", note=ONE_PROCESS),
    "debug": Trial("--debug underflow_overflow"),
    "deepspeed": Trial("--deepspeed ds.json"),
    "disable_tqdm": Trial("--disable_tqdm false", note="bars on a terminal"),
    "do_eval": Trial("--do_eval false"),
    "do_predict": Trial("--do_predict false"),
    "do_train": Trial("--do_train false"),
    "enable_jit_checkpoint": Trial("--enable_jit_checkpoint"),
    "eval_accumulation_steps": Trial("--eval_accumulation_steps 1", note="less memory, the same scores"),
    "eval_delay": Trial("--eval_delay 2"),
    "eval_do_concat_batches": Trial("--eval_do_concat_batches false"),
    "eval_on_start": Trial("--eval_on_start", note="a validation draws from the generator that dropout draws from"),
    "eval_steps": Trial("--eval_steps 2", "--eval_strategy steps --logging_steps 1", "as for eval_on_start"),
    "eval_strategy": Trial("--eval_strategy no"),
    "eval_use_gather_object": Trial("--eval_use_gather_object", note=ONE_PROCESS),
    "fp16": Trial("--fp16", note="mixed precision; the weights stay float32"),
    "fp16_full_eval": Trial("--fp16_full_eval", note="the final scores alone"),
    "fsdp": Trial("--fsdp full_shard"),
    "fsdp_config": Trial("--fsdp_config '{\"version\": 2}'"),
    "full_determinism": Trial("--full_determinism", note="a run on a CPU can be repeated without it"),
    "gradient_accumulation_steps": Trial("--gradient_accumulation_steps 2"),
    "gradient_checkpointing": Trial("--gradient_checkpointing", note="less memory, the same numbers"),
    "gradient_checkpointing_kwargs": Trial(
        "--gradient_checkpointing_kwargs '{\"use_reentrant\": true}'", "--gradient_checkpointing", "the same numbers"
    ),
    "greater_is_better": Trial("--greater_is_better false", "--metric_for_best_model mcc"),
    "hub_always_push": Trial("--hub_always_push"),
    "hub_model_id": Trial("--hub_model_id lab/x"),
    "hub_private_repo": Trial("--hub_private_repo true"),
    "hub_revision": Trial("--hub_revision x"),
    "hub_strategy": Trial("--hub_strategy checkpoint"),
    "hub_token": Trial("--hub_token x"),
    "ignore_data_skip": Trial("--ignore_data_skip"),
    "include_for_metrics": Trial("--include_for_metrics inputs"),
    "include_num_input_tokens_seen": Trial("--include_num_input_tokens_seen non_padding"),
    "label_names": Trial("--label_names y"),
    "label_smoothing_factor": Trial("--label_smoothing_factor 0.1", note="classes only"),
    "learning_rate": Trial("--learning_rate 1e-4"),
    "length_column_name": Trial("--length_column_name n"),
    "liger_kernel_config": Trial("--liger_kernel_config '{\"rope\": true}'"),
    "load_best_model_at_end": Trial("--load_best_model_at_end", "--num_train_epochs 2 --learning_rate 0.05"),
    "local_rank": Trial("--local_rank 0", note="what torchrun says counts"),
    "log_level": Trial("--log_level error", note="what the libraries print"),
    "log_level_replica": Trial("--log_level_replica error", note=ONE_PROCESS),
    "log_on_each_node": Trial("--log_on_each_node false", note=ONE_PROCESS),
    "logging_first_step": Trial("--logging_first_step", "--logging_steps 2"),
    "logging_nan_inf_filter": Trial(
        "--logging_nan_inf_filter false", note="a loss that is not finite stops a run in any case"
    ),
    "logging_steps": Trial("--logging_steps 2"),
    "logging_strategy": Trial("--logging_strategy no"),
    "lr_scheduler_kwargs": Trial(
        "--lr_scheduler_kwargs '{\"num_cycles\": 2}'", "--lr_scheduler_type cosine_with_restarts"
    ),
    "lr_scheduler_type": Trial("--lr_scheduler_type cosine"),
    "max_grad_norm": Trial("--max_grad_norm 0.01", note="0: gradients are not clipped"),
    "max_steps": Trial("--max_steps 2"),
    "metric_for_best_model": Trial(
        "--metric_for_best_model mcc",
        "--load_best_model_at_end --num_train_epochs 2 --learning_rate 0.05",
        "which checkpoint is kept; here both metrics choose the same",
    ),
    "neftune_noise_alpha": Trial("--neftune_noise_alpha 5"),
    "num_train_epochs": Trial("--num_train_epochs 2"),
    "optim": Trial("--optim sgd", note="one whose package is not installed is refused, with the package"),
    "optim_args": Trial("--optim_args momentum=0.9", "--optim sgd", "what the optimizer does not read is refused"),
    "optim_target_modules": Trial("--optim_target_modules q"),
    "output_dir": Trial("--output_dir other", note="where to"),
    "parallelism_config": Trial("--parallelism_config x"),
    "per_device_eval_batch_size": Trial("--per_device_eval_batch_size 3", note="the same scores, up to rounding"),
    "per_device_train_batch_size": Trial("--per_device_train_batch_size 8"),
    "prediction_loss_only": Trial("--prediction_loss_only"),
    "project": Trial("--project x", note=FOLLOWS),
    "push_to_hub": Trial("--push_to_hub", note="publishes as `gengram push` does"),
    "remove_unused_columns": Trial("--remove_unused_columns false"),
    "report_to": Trial("--report_to wandb"),
    "restore_callback_states_from_checkpoint": Trial("--restore_callback_states_from_checkpoint", note="always on"),
    "resume_from_checkpoint": Trial("--resume_from_checkpoint", note="nothing to resume yet: the run begins"),
    "run_name": Trial("--run_name x", note=FOLLOWS),
    "save_on_each_node": Trial("--save_on_each_node"),
    "save_only_model": Trial("--save_only_model", BY_STEPS),
    "save_steps": Trial("--save_steps 2", "--save_strategy steps"),
    "save_strategy": Trial("--save_strategy epoch"),
    "save_total_limit": Trial("--save_total_limit 1", BY_STEPS),
    "seed": Trial("--seed 3"),
    "skip_memory_metrics": Trial("--skip_memory_metrics false"),
    "tf32": Trial("--tf32 true"),
    "torch_compile": Trial("--torch_compile", "--torch_compile_backend eager", "the same up to rounding"),
    "torch_compile_backend": Trial(
        "--torch_compile_backend eager", note="turns torch_compile on; the same up to rounding"
    ),
    "torch_compile_mode": Trial("--torch_compile_mode default", "--torch_compile_backend eager", "for inductor"),
    "torch_empty_cache_steps": Trial("--torch_empty_cache_steps 1", note=ELSEWHERE),
    "trackio_bucket_id": Trial("--trackio_bucket_id x", note=FOLLOWS),
    "trackio_space_id": Trial("--trackio_space_id x", note=FOLLOWS),
    "trackio_static_space_id": Trial("--trackio_static_space_id x", note=FOLLOWS),
    "train_sampling_strategy": Trial("--train_sampling_strategy group_by_length"),
    "use_cache": Trial("--use_cache", note="of generation; a classifier has none"),
    "use_cpu": Trial("--use_cpu false", note="an accelerator is taken where there is one"),
    "use_liger_kernel": Trial("--use_liger_kernel"),
    "warmup_steps": Trial("--warmup_steps 2"),
    "weight_decay": Trial("--weight_decay 0.5"),
}
NAMES = [entry.name for entry in dataclasses.fields(TrainingArguments) if entry.init]
PRELOADED = [
    "gengram.training.finetune",
    "gengram.training.command",
    "gengram.gengram.modeling_gengram",
    "transformers.models.bert.modeling_bert",
    "datasets",
    "pyarrow.parquet",
    "sklearn.metrics",
    "peft",
]
"""What every run imports: once, and not in each process."""

FAST = ["bf16", "bf16_full_eval", "include_num_input_tokens_seen", "save_total_limit", "neftune_noise_alpha"]
"""Runs that `make test` makes; the slow test makes all."""


@pytest.fixture(scope="module")
def trained():
    """Results of the runs without what is tried; by the flags that are given."""
    return {}


@pytest.fixture
def start(command, tmp_path):
    """Start a run of a small BERT with dropout and memory, in its own process; returns exit code, words, result."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = 0

    def run(flags: list[str]) -> tuple[int, str, dict | None]:
        nonlocal started
        started += 1
        out, said = tmp_path / f"run-{started}", tmp_path / f"said-{started}"
        argv = command(backbone="bert", memory=True, per_device_train_batch_size=16, use_cpu=True, output_dir=out)
        if "--output_dir" in flags:
            flags = ["--output_dir", str(out)]
        script = str(Path(__file__).with_name("flag_run.py"))
        process = context.Process(target=runpy.run_path, args=(script, {"argv": [*argv, *flags], "said": str(said)}))
        process.start()
        process.join(timeout=300)
        assert process.exitcode is not None, flags
        return process.exitcode, said.read_text(), collect(out) if process.exitcode == 0 else None

    return run


def collect(folder: Path) -> dict:
    """What a run gives, in the words of the table."""
    report = json.loads((folder / "report.json").read_text())
    model = folder / "seed-0" / "model.safetensors"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    timed = ("_mem_", "_speed", "total_flos")
    history = [
        [(key, value) for key, value in line.items() if not any(part in key for part in timed)]
        for line in report["history"][0]
    ]
    memory = [key for line in report["history"][0] for key in line if "_mem_" in key]
    return {
        "weights": model.read_bytes(),
        "scores": (report["test"], report["validation"]),
        "log": (history, memory),
        "files": sorted(files),
    }


def write_row(name: str, outcome: str) -> str:
    tried, given, note = TRIALS[name]
    flags = f"`{tried}`" + (f" with `{given}`" if given else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (flags, outcome, note)) + " |\n"


def say_refused(said: str) -> str:
    assert "Traceback" not in said, said
    return "refused: " + next(line for line in said.splitlines() if ": error: " in line).split(": error: ")[1]


def try_flag(name: str, start, trained: dict) -> str:
    """Try an argument, and return its row of the table."""
    tried, given, note = TRIALS[name]
    code, said, result = start([*shlex.split(given), *shlex.split(tried)])
    if result is None:
        assert code in (1, 2), said
        return write_row(name, say_refused(said))
    if given not in trained:
        trained[given] = start(shlex.split(given))[2]
    changed = [what for what in result if result[what] != trained[given][what]]
    assert changed or note, f"{name} changes nothing, and the table does not say why"
    return write_row(name, f"works: other {', '.join(changed)}" if changed else "works: the same result")


def read_rows() -> dict[str, str]:
    """The rows of the page, by argument."""
    lines = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines(keepends=True)[2:]
    return {line[len("| `--") :].split("`")[0].split(" ")[0]: line for line in lines}


def list_refused() -> list[str]:
    rows = read_rows()
    return [name for name in NAMES if "| refused: " in rows.get(name, "")]


def test_every_argument_of_transformers_has_a_row():
    assert set(NAMES) <= set(TRIALS), "try the new ones, and say in TRIALS what they do"
    assert list(read_rows()) == sorted(TRIALS)
    assert set(TRIALS) - set(NAMES) <= {"activation_checkpointing", "activation_checkpointing_kwargs"}


@pytest.mark.parametrize("name", list_refused())
def test_what_has_no_place_here_is_refused_before_anything_is_written(name, command, run_folder, capsys):
    tried, given, _ = TRIALS[name]
    argv = command(backbone="bert", memory=True, per_device_train_batch_size=16, use_cpu=True)
    try:
        code = main([*argv, *shlex.split(given), *shlex.split(tried)])
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2) and not run_folder.exists()
    assert write_row(name, say_refused(capsys.readouterr().err)) == read_rows()[name]


@pytest.mark.parametrize("name", FAST)
def test_what_an_argument_changes(name, start, trained):
    assert try_flag(name, start, trained) == read_rows()[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_row(name, start, trained):
    row, rows = try_flag(name, start, trained), read_rows()
    if os.environ.get("GENGRAM_WRITE_DOCS"):
        rows[name] = row
        before, _, rest = PAGE.read_text().partition(BEGIN)
        table = "| flag | a run | |\n| --- | --- | --- |\n" + "".join(rows[known] for known in sorted(rows))
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2])
    assert read_rows().get(name) == row
