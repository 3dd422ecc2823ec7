"""Whole runs: what is written, that a run is a function of its arguments, stages, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import gengram
from gengram.training.corpus.store import open_corpus
from gengram.training.pretraining.command import PRETRAINING_RECIPES, pretrain
from gengram.training.pretraining.logs import read_log
from gengram.training.recipe import list_recipes
from tests.training.pretraining.commands import SMALL, draw_letters, make_words


def read_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def are_equal(first: Path, second: Path) -> bool:
    one, other = read_weights(first), read_weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def read_losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_log(out / "log.jsonl") if "loss" in line]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    assert pretrain(make_words(corpus, out)) == 0
    return out


def test_a_run_leaves_a_model_a_report_and_a_log(run, corpus):
    model = AutoModelForCausalLM.from_pretrained(run)
    tokenizer = AutoTokenizer.from_pretrained(run)
    assert model.config.memory_layers == [1] and tokenizer("ACGT")["input_ids"] == [8, 5, 6, 7]
    assert torch.isfinite(model(torch.tensor([[8, 5, 6, 7]])).logits).all()
    report = json.loads((run / "pretraining.json").read_text())
    assert report["corpus"]["name"] == "made" and report["corpus"]["licence"] == "cc0-1.0"
    contigs = report["corpus"]["contigs"]["made up"]
    assert contigs == {"train": ["chr1", "chr2"], "validation": ["chr3"], "left_out": ["chr4"]}
    assert report["tokens"] == report["bases"] == 6 * 5 * 24
    assert report["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert report["results"][0]["loss"] > 0 and report["seconds"] > 0
    assert report["evaluation"]["bits_per_base"] > 1
    references = report["references"]
    assert references["markov"]["one_for_all"]["best"] == pytest.approx(2, abs=0.1)  # The letters are random.
    assert references["compression"]["bases"] == references["held_out_bases"] > 100
    assert "| Markov model of order" in (run / "pretraining.md").read_text()
    assert not (run / "unfinished.json").exists() and "| 1 | 6 | 24 |" in (run / "pretraining.md").read_text()


def test_the_log_has_a_line_a_step_and_one_an_evaluation(run):
    lines = read_log(run / "log.jsonl")
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert [line["tokens"] for line in losses] == [120 * step for step in range(1, 7)]
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6]
    for line in losses:
        assert line["bits_per_base"] == pytest.approx(line["loss"] / np.log(2), rel=1e-6)
        assert line["tokens_per_second"] > 0 and line["grad_norm"] > 0
        assert line["table_learning_rate"] == line["learning_rate"]


def test_the_same_run_gives_the_same_weights_and_another_seed_others(run, corpus, tmp_path):
    assert pretrain(make_words(corpus, tmp_path / "again")) == 0
    assert are_equal(run, tmp_path / "again")
    assert pretrain(make_words(corpus, tmp_path / "other", seed=1)) == 0
    assert not are_equal(run, tmp_path / "other")


def test_batches_and_workers_change_nothing_but_roundings(run, corpus, tmp_path):
    words = make_words(corpus, tmp_path / "whole", per_device_train_batch_size=5, dataloader_num_workers=2)
    assert pretrain(words) == 0
    assert read_losses(tmp_path / "whole") == pytest.approx(read_losses(run), abs=1e-5)


def test_stages_go_on_with_the_weights_and_change_positions(corpus, tmp_path):
    recipe = {
        "config": {**SMALL, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        "stages": [
            {"steps": 3, "block_size": 24},
            {"tokens": 480, "block_size": 96, "rope_theta": 5000, "max_position_embeddings": 128, "strand": "forward"},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = make_words(corpus, tmp_path / "out", config=None, memory=None, steps=None, block_size=None)
    assert pretrain([str(tmp_path / "recipe.yaml"), *words]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] == 5000 and config["max_position_embeddings"] == 128
    first = json.loads((tmp_path / "out" / "stage-1" / "model" / "config.json").read_text())
    assert first["rope_parameters"]["rope_theta"] == 100 and first["max_position_embeddings"] == 64
    report = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert [(stage["steps"], stage["block_size"]) for stage in report["stages"]] == [(3, 24), (1, 96)]
    assert report["tokens"] == 3 * 5 * 24 + 5 * 96
    rates = [line["learning_rate"] for line in read_log(tmp_path / "out" / "log.jsonl") if "loss" in line]
    assert len(rates) == 4  # each stage has its own schedule


def test_a_checkpoint_goes_on_and_a_memory_is_added_to_one_without(corpus, tmp_path):
    assert pretrain(make_words(corpus, tmp_path / "plain", without_memory=True, steps=2)) == 0
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["model_type"] == "llama"
    start = {"config": None, "model": tmp_path / "plain", "steps": 1, "learning_rate": 1e-9, "warmup_steps": 0}
    assert pretrain(make_words(corpus, tmp_path / "on", **start, memory=None)) == 0
    before, after = read_weights(tmp_path / "plain"), read_weights(tmp_path / "on")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert pretrain(make_words(corpus, tmp_path / "more", **start)) == 0
    model = gengram.auto(tmp_path / "more", "causal_lm")
    assert model.config.memory_layers == [1]
    name = "model.layers.0.mlp.up_proj.weight"
    added = dict(model.named_parameters())["model.backbone." + name.removeprefix("model.")]
    assert torch.allclose(before[name], added, atol=1e-6)


@pytest.mark.parametrize(
    ("tokenizer", "objective", "config"),
    [
        ("bases", "masked", {"model_type": "bert"}),
        ("kmer6", "nucleotide_transformer", {"model_type": "esm", "position_embedding_type": "rotary"}),
        ("bases", "next_sentence", {"model_type": "bert", "max_position_embeddings": 64}),
    ],
)
def test_encoders_learn_masked_tokens(tokenizer, objective, config, corpus, tmp_path):
    config = {**SMALL, **config}
    options = {"objective_options": {"sentence": [5, 9]}} if objective == "next_sentence" else {}
    options |= {"tokenizer": tokenizer, "objective": objective, "steps": 2}
    assert pretrain(make_words(corpus, tmp_path / "out", config=config, memory=None, **options)) == 0
    report = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert np.isfinite(report["results"][0]["loss"]) and report["results"][0]["bits_per_base"] is None


def test_packed_blocks_and_experts_are_trained(corpus, tmp_path):
    experts = {**SMALL, "model_type": "mixtral", "num_local_experts": 4, "num_key_value_heads": 2}
    words = make_words(corpus, tmp_path / "out", config=experts, pack=True, window=10, steps=2)
    assert pretrain(words) == 0
    line = read_log(tmp_path / "out" / "log.jsonl")[0]
    assert line["loss"] > line["bits_per_base"] * np.log(2)  # the balance of the experts is a loss, too


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block_size": 65}, "longer than the 64 positions"),
        ({"block_size": 4}, "a block needs 8 tokens"),
        ({"steps": None}, "give steps or tokens"),
        ({"tokens": 100}, "either steps or tokens"),
        ({"objective": "masked"}, "cannot learn it"),
        ({"objective": "cusal"}, "causal"),
        ({"objective_options": {"share": 0.2}}, "has no option"),
        ({"config": {**SMALL, "hidden": 3}}, "no field 'hidden'"),
        ({"config": {**SMALL, "model_type": "lama"}}, "llama"),
        ({"config": {"hidden_size": 3}}, "exactly one of config"),
        ({"size": "0.3b-dense-mha"}, "exactly one of config"),
        ({"config": None, "size": "0.3b"}, "none of the paper"),
        ({"tokenizer": "kmer6"}, "one token a base"),
        ({"stages": [{"steps": 1}, {"stps": 1}]}, "stps"),
        ({"stages": [{"steps": 1, "tokens": 5}]}, "either steps or tokens"),
        ({"stages": [{"steps": 1}, {"steps": 1, "block_size": 100}]}, "stage 2: blocks of 100"),
        ({"stages": [{"steps": 0}]}, "1 or more"),
        ({"stages": [{"steps": 1, "strand": "both"}]}, "forward or random"),
        ({"stages": [{"steps": 1, "learning_rate": "fast"}]}, "learning_rate"),
        ({"stages": {"steps": 1}}, "list of mappings"),
        ({"stages": [{"steps": 1, "learning_rate": None}]}, "stage 1: learning_rate has no value"),
        ({"stages": [{"steps": 1, "block_size": 24.5}]}, "block_size=24.5: give a whole number"),
        ({"stages": [{"steps": 1, "rope_theta": float("inf")}]}, "rope_theta=inf"),
        ({"steps": None, "stages": [{"tokens": float("inf")}]}, "tokens=inf"),
        ({"steps": None, "stages": [{"tokens": 1e30}]}, "more than can be counted"),
        ({"stages": [{"steps": 1}, {"steps": 1, "lr_scheduler_type": "cosin"}]}, "stage 2: lr_scheduler_type=cosin"),
        ({"stages": [{"steps": 1}, {"steps": 1, "lr_scheduler_kwargs": [1]}]}, "lr_scheduler_kwargs must be a mapping"),
        (
            {
                "config": {**SMALL, "model_type": "bert"},
                "memory": None,
                "objective": "masked",
                "stages": [{"steps": 1}, {"steps": 1, "max_position_embeddings": 128}],
            },
            "stage 2: the model would have other weights",
        ),
        ({"fsdp": "full_shard"}, "silently run DDP"),
        ({"num_train_epochs": 2}, "give --steps or --tokens"),
        ({"stride": 5}, "covering only"),
        ({"rope_theta": -1}, "above 0"),
        ({"corpus": "/nowhere"}, "/nowhere"),
        ({"max_hours": 0}, "above 0"),
        ({"seed": -1}, "seed=-1"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_bases": 0}, "is not measured"),
        ({"memory": {"memory_layers": [7]}}, "layer 7"),
        ({"config": None, "model": "/nowhere/model"}, "/nowhere/model"),
        ({"tokenizer": "/nowhere/tokenizer"}, "/nowhere/tokenizer"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(changes, said, corpus, tmp_path, capsys):
    out, changes = tmp_path / "out", dict(changes)
    try:
        code = pretrain(make_words(changes.pop("corpus", corpus), out, **changes))
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr().err
    assert code in (1, 2) and said in shown and "Traceback" not in shown, shown
    assert not out.exists()


def test_the_learning_rate_of_a_stage_may_follow_what_is_measured(corpus, tmp_path):
    stages = [{"steps": 4, "lr_scheduler_type": "reduce_lr_on_plateau", "eval_steps": 2}]
    assert pretrain(make_words(corpus, tmp_path / "out", steps=None, stages=stages)) == 0


def test_blocks_longer_than_every_contig_are_refused(corpus, tmp_path, capsys):
    config = {**SMALL, "max_position_embeddings": 9999}
    assert pretrain(make_words(corpus, tmp_path / "out", config=config, block_size=3000)) == 1
    assert "longer than every stretch" in capsys.readouterr().err


def test_an_unknown_key_of_a_recipe_is_told_with_its_line(corpus, tmp_path, capsys):
    for text, line, name in (
        ("steps: 3\nbock_size: 8\n", 2, "bock_size"),
        ("stages:\n  - steps: 3\n    strnd: random\n", 3, "strnd"),
    ):
        (tmp_path / "recipe.yaml").write_text(text)
        words = make_words(corpus, tmp_path / "out")
        assert pretrain([str(tmp_path / "recipe.yaml"), *words]) == 1
        shown = capsys.readouterr().err
        assert f"line {line}" in shown and name in shown


def test_nothing_is_replaced_unless_asked_for(run, corpus, tmp_path, capsys):
    assert pretrain(make_words(corpus, run)) == 1
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert pretrain(make_words(corpus, tmp_path / "mine")) == 1
    assert "config.json is there already" in capsys.readouterr().err
    before = (run / "pretraining.json").read_bytes()
    assert pretrain([*make_words(corpus, run), "--resume_from_checkpoint"]) == 0  # it is done
    assert (run / "pretraining.json").read_bytes() == before
    assert pretrain([*make_words(corpus, run, learning_rate=0.1), "--resume_from_checkpoint"]) == 1
    assert "learning_rate was 0.001 and is 0.1" in capsys.readouterr().err


def test_overwriting_leaves_other_files(corpus, tmp_path):
    out = tmp_path / "out"
    assert pretrain(make_words(corpus, out, steps=2)) == 0
    (out / "notes.txt").write_text("mine")
    assert pretrain(make_words(corpus, out, steps=3, overwrite=True)) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "pretraining.json").read_text())["stages"][0]["steps"] == 3


def test_a_contig_that_is_left_out_is_not_read(corpus):
    assert draw_letters(300, 3) not in "".join(
        open_corpus(corpus).read(contig, 0, 600).tobytes().decode() for contig in range(3)
    )


@pytest.mark.parametrize("name", list_recipes(PRETRAINING_RECIPES))
def test_recipes_of_the_package_are_read(name, corpus, tmp_path):
    from gengram.training.pretraining.command import parse_arguments
    from gengram.training.pretraining.stages import read_stages

    arguments = parse_arguments([name, "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--use_cpu"])
    assert all(stage.tokens > 0 for stage in read_stages(*arguments))
    assert (PRETRAINING_RECIPES / f"{name}.yaml").read_text().startswith("# ")
