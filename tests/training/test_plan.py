"""`gengram finetune --plan`: what it says is what the run then has, and it leaves nothing behind."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training import devices
from gengram.training import plan as module
from gengram.training.arguments import FinetuneArguments
from gengram.training.command import finetune as main
from gengram.training.devices import _read_limit
from gengram.training.memory_estimate import ADAM_BYTES, measure_optimizer_state


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])
    monkeypatch.setattr(module, "measure_products", lambda *_: (1e10, 1024))
    monkeypatch.setattr(module, "measure_bandwidth", lambda *_: 1e9)


@pytest.fixture
def plan(command, capsys):
    """The plan as JSON."""

    def plan(*more: str, **changes) -> dict:
        capsys.readouterr()
        code = main([*command(**changes), *more, "--plan", "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return plan


@pytest.fixture
def checkpoint(tmp_path):
    """A language model without a pooler, and its tokenizer."""
    config = BertConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=16, pad_token_id=0
    )
    tokenizer = build_nucleotide_tokenizer(template="cls_sep")
    config.pad_token_id = tokenizer.pad_token_id
    BertForMaskedLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_products_are_as_large_as_the_time_allows(monkeypatch):
    taken = []

    def take(call, device, least=0.0):
        taken.append(call().shape[0])
        return 1.0

    monkeypatch.setattr(devices, "_time", take)
    assert devices.measure_products(torch.device("cpu"), torch.float32, 300) == (2 * 300**3, 300)
    monkeypatch.setattr(devices, "_LONG", 0.0)
    assert devices.measure_products(torch.device("cpu"), torch.float32)[1] == 256 and taken == [256, 300, 256]


def test_it_is_what_the_run_has_and_writes_nothing(plan, command, run_folder):
    told = plan()
    assert not Path(run_folder).exists()
    assert main(command()) == 0
    report = json.loads((Path(run_folder) / "report.json").read_text())
    assert told["parameters"]["total"] == told["parameters"]["trained"] == report["parameters"]
    for split, rows in told["rows"].items():
        assert rows["rows"] == report["data"][split]["rows"]
    state = json.loads((Path(run_folder) / "seed-0" / "trainer_state.json").read_text())
    assert told["steps"]["in_all"] == state["max_steps"] and told["memory"]["counted"] == "step"
    weights = (Path(run_folder) / "seed-0" / "model.safetensors").stat().st_size
    assert told["disk"]["model"] == pytest.approx(weights, rel=0.2)


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_an_adapter_trains_as_many_as_the_report_says(method, plan, command, checkpoint, run_folder):
    base = {"model_name_or_path": checkpoint, "backbone": None, "backbone_config": None, "memory": None}
    changes = {**base, "peft": method}
    told = plan(**changes)
    assert main(command(**changes)) == 0
    report = json.loads((Path(run_folder) / "report.json").read_text())
    assert told["parameters"]["trained"] == report["adapter"]["trained"] < told["parameters"]["total"]
    assert told["parameters"]["total"] == report["parameters"]
    assert told["memory"]["optimizer"] == ADAM_BYTES * told["parameters"]["trained"]


@pytest.mark.parametrize(
    "more",
    [
        ["--gradient_checkpointing", "true"],
        ["--bf16", "true", "--use_cpu", "true"],
        ["--max_tokens_per_step", "200"],
        ["--rmt", '{"num_memory_tokens": 2, "segment_length": 16}'],
        ["--save_strategy", "epoch", "--seeds", "0", "1"],
    ],
)
@pytest.mark.filterwarnings("ignore:.*checkpointing")
def test_other_ways_to_train_are_counted_too(more, plan):
    told = plan(*more)
    assert told["memory"]["counted"] == "step" and told["notes"] == []
    assert told["memory"]["total"] > told["memory"]["model"] > told["memory"]["weights"] > 0
    assert told["time"]["seconds"] > 0 and told["fits"]
    if "--seeds" in more:
        assert told["disk"]["total"] == 2 * (told["disk"]["model"] + told["disk"]["checkpoints"]) > 0


def test_what_does_not_fit_is_told_with_what_would(plan, monkeypatch):
    whole = plan()["memory"]
    room = whole["total"] - whole["step"] // 3
    monkeypatch.setattr(module, "measure_resident", lambda: whole["base"])
    monkeypatch.setattr(module, "measure_available_memory", lambda device: room)
    told = plan()
    assert not told["fits"] and told["remedies"]
    gives = [remedy["give"] for remedy in told["remedies"]]
    assert any(give.startswith("--per_device_train_batch_size") and "--sequences_per_step" in give for give in gives)
    assert any(give == "--gradient_checkpointing" for give in gives)
    assert all(remedy["fits"] == (remedy["total"] <= room) for remedy in told["remedies"])
    assert told["remedies"][0]["fits"]


def test_a_model_that_asks_for_numbers_is_estimated_by_a_formula(plan, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("what is the number of this tensor?")

    monkeypatch.setattr(module, "run_dry", fail)
    told = plan()
    assert told["memory"]["counted"] == "formula" and told["memory"]["activations"] > 0
    assert "what is the number of this tensor?" in told["notes"][0]


def test_what_stops_the_run_stops_the_plan(command, task, capsys, run_folder):
    assert main([*command(train_file="nowhere.csv"), "--plan"]) == 1
    assert "nowhere.csv: there is no such file" in capsys.readouterr().err and not Path(run_folder).exists()


def test_the_text_has_every_part(command, capsys):
    assert main([*command(), "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "train", "test", "validation", "steps", "parameters", "memory", "time", "disk", "fits",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("adamw_torch", 8), ("sgd", 0), ("adagrad", 4), ("adafactor", 0.03)]
)
def test_an_optimizer_says_itself_what_it_keeps(optimizer, expected, tmp_path):
    arguments = FinetuneArguments(output_dir=str(tmp_path), optim=optimizer, learning_rate=1e-3, use_cpu=True)
    assert measure_optimizer_state(arguments, torch.nn.Linear(2, 2)) == pytest.approx(expected, abs=0.01)


_MEASURED = """
import json, resource, sys
from gengram.training import finetune as module
from gengram.training.command import parse_arguments
from gengram.training.devices import measure_resident
seen, build = {}, module.build_classifier
def note(*arguments, **options):
    seen["before"] = measure_resident()
    return build(*arguments, **options)
module.build_classifier, module.write_plots = note, lambda *_: []
module.finetune(*parse_arguments(sys.argv[1:]))
print(json.dumps({**seen, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss, and an allocator, of Linux")
@pytest.mark.parametrize(
    "more",
    [
        ["--backbone", "bert"],
        [
            "--backbone",
            "llama",
            "--memory",
            '{"memory_layers": [1], "memory_dim": 64}',
            "--gradient_checkpointing",
            "1",
        ],
    ],
    ids=["bert", "memory"],
)
def test_the_memory_is_that_of_the_process(more, tmp_path):
    """Peak of a process of its own, whose allocator leaves no gaps, less what it has before there is a model."""
    letters = random.Random(0)
    rows = ["".join(letters.choices("ACGT", k=500)) + f",{row % 2}" for row in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    size = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
    words = ["--train_file", str(tmp_path / "train.csv"), "--backbone_config", json.dumps(size), *more]
    words += [
        "--per_device_train_batch_size",
        "8",
        "--per_device_eval_batch_size",
        "4",
        "--max_steps",
        "3",
        "--use_cpu",
    ]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576", "GENGRAM_QUIET": "1"}

    def call(*command: str) -> dict:
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    told = call("-m", "gengram.cli", "finetune", *words, "--plan", "--json")["memory"]
    seen = call("-c", _MEASURED, *words, "--out", str(tmp_path / "run"), "--disable_tqdm", "1")
    assert told["model"] > 200 << 20 and told["heap"] == 0
    assert told["model"] == pytest.approx(seen["peak"] - seen["before"], rel=0.3)
    assert told["total"] == pytest.approx(seen["peak"], rel=0.3)


def test_limits_of_control_groups(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert _read_limit(tmp_path) == [450]
    (tmp_path / "memory.max").write_text("max\n")
    assert _read_limit(tmp_path) == [] == _read_limit(tmp_path / "nowhere")
