"""The recipes of the package: each runs on a small sample, with its own numbers where nothing has to be smaller."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from transformers import BertConfig

from gengram import GengramConfig, GengramForMaskedLM
from gengram.cli import main
from gengram.tokenization import EMBEDDING_ROWS, build_nucleotide_tokenizer
from gengram.training.command import parse_arguments
from gengram.training.losses import choose_loss
from gengram.training.recipe import RECIPES, list_recipes

LENGTH = 24  # bp
# What makes a run small; everything else is the recipe's.
SMALL = {"max_steps": 2, "eval_steps": 1, "seeds": 0, "sequences_per_step": 4, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A saved Gengram for longer sequences than the samples' are."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = build_nucleotide_tokenizer()
    backbone = BertConfig(
        vocab_size=EMBEDDING_ROWS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    )
    memory = {"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
    GengramForMaskedLM(GengramConfig(backbone_config=backbone, **memory)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def draw_sequences(rows: int) -> list[str]:
    return ["".join(letters) for letters in np.random.default_rng(0).choice(list("ACGT"), (rows, LENGTH))]


def write_sample(problem: str, folder, recipe: dict) -> list[str]:
    """A small table in the published layout of the problem's benchmark, as arguments."""
    random, sequences = np.random.default_rng(1), draw_sequences(24)
    if problem == "single_label":
        pd.DataFrame({"sequence": sequences, "label": np.arange(24) % 2}).to_csv(folder / "train.csv", index=False)
        return ["--train_file", str(folder / "train.csv")]
    if problem == "multi_label":
        table = pd.DataFrame(random.integers(0, 2, (24, 5)))
        table.insert(0, "sequence", sequences)
        table.to_csv(folder / "train.csv.gz", index=False, header=False)
        return ["--train_file", str(folder / "train.csv.gz")]
    if "sequence_column" in recipe:
        table = pd.DataFrame({recipe["sequence_column"]: sequences, recipe["label_column"][0]: random.random(24)})
        table.to_csv(folder / "train.csv", index=False)
        return ["--train_file", str(folder / "train.csv")]
    if problem == "regression":
        names = [f"chr2R_{row}_{row + LENGTH}_+_peaks" for row in range(24)]
        (folder / "train.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in zip(names, sequences)))
        targets = pd.DataFrame(random.normal(size=(24, 2)), columns=["Dev_log2_enrichment", "Hk_log2_enrichment"])
        targets.assign(Dev_log2_enrichment_scaled=0.5).to_csv(folder / "activity.txt", sep="\t", index=False)
        return ["--train_file", str(folder / "train.fa"), "--label_files", str(folder / "activity.txt")]
    # The labels are those of the bases 8 to 15.
    table = pd.DataFrame(random.integers(0, 3, (24, 8)))
    table.insert(0, "sequence", sequences)
    table.to_csv(folder / "train.csv", index=False, header=False)
    return ["--train_file", str(folder / "train.csv"), "--label_start", "8"]


def run_recipe(name: str, arguments: list[str], **changes) -> int:
    flags = {**SMALL, **changes}
    return main(["finetune", name, *arguments, *(text for flag in flags for text in (f"--{flag}", str(flags[flag])))])


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_a_saved_gengram_on_a_sample(name, base, tmp_path):
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    sample = write_sample(recipe["problem"], tmp_path, recipe)
    run = tmp_path / "run"

    assert run_recipe(name, sample, model_name_or_path=base, output_dir=run, disable_tqdm=True) == 0

    report = json.loads((run / "report.json").read_text())
    assert report["data"]["problem"] == recipe["problem"]
    assert (report["adapter"] is not None) == ("peft" in recipe)
    used = {**report["arguments"]["model"], **report["arguments"]["data"], **report["arguments"]["training"]}
    kept = set(recipe) - set(SMALL) - {"num_train_epochs", "label_start", "peft", "pos_weight", "class_weights"}
    assert {key: used[key] for key in kept} == {key: recipe[key] for key in kept}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_whose_numbers_it_has_and_how_it_is_used(name):
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    assert lines[: len(comment)] == comment and lines[0].startswith("# ") and lines[1].startswith("# Source: ")
    assert any(line.startswith(f"#   gengram finetune {name} ") for line in comment)
    assert any("Published: " in line for line in comment)


def test_flags_win_over_a_recipe_and_the_file_can_be_copied(tmp_path, base):
    given = ["--train_file", "train.csv", "--model_name_or_path", base]
    _, _, named = parse_arguments(["gue", *given, "--learning_rate", "1e-3"])
    assert (named.learning_rate, named.num_train_epochs, named.sequences_per_step) == (1e-3, 3, 32)
    copy = tmp_path / "mine.yaml"
    copy.write_text((RECIPES / "gue.yaml").read_text())
    _, _, copied = parse_arguments([str(copy), *given])
    assert copied.learning_rate == 3e-5


def test_an_unknown_recipe_is_told_with_the_nearest_name(capsys):
    assert main(["finetune", "spliceia", "--train_file", "train.csv"]) == 1
    message = capsys.readouterr().err
    assert "no recipe is called 'spliceia'; did you mean 'spliceai'?" in message and "deepsea" in message


def test_the_help_lists_every_recipe(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and all(f"  {name} " in shown for name in list_recipes())


def test_one_pos_weight_is_that_of_all_labels(base):
    class Data:
        problem, classes = "multi_label", ["a", "b"]
        report = {"train": {"rows": 4, "rows_per_class": {"a": 1, "b": 2}}}

    given = ["--train_file", "train.csv", "--model_name_or_path", base, "--pos_weight"]
    for value, weights in (("8", {"a": 8, "b": 8}), ("balanced", {"a": 3, "b": 1}), ('{"b": 2}', {"a": 1, "b": 2})):
        _, _, training = parse_arguments([*given, value])
        assert choose_loss(training, Data).weights == weights
    with pytest.raises(SystemExit):
        parse_arguments([*given, "0"])


def test_real_samples_of_several_labels_and_of_two_targets(shared, base, tmp_path):
    folder = shared / "data" / "gena"
    enhancers = ["--train_file", str(folder / "deepstarr" / "test_Sequences.fa")]
    enhancers += ["--label_files", str(folder / "deepstarr" / "test_Sequences_activity.txt"), "--too_long", "center"]
    chromatin = ["--train_file", str(folder / "deepsea" / "test.dataset.csv.gz")]
    fixed = {"model_name_or_path": base, "disable_tqdm": True}

    assert run_recipe("deepstarr", enhancers, output_dir=tmp_path / "a", validation_fraction=0.3, **fixed) == 0
    assert run_recipe("deepsea", chromatin, output_dir=tmp_path / "b", **fixed) == 0

    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["data"]["classes"] == ["Dev_log2_enrichment", "Hk_log2_enrichment"]
    assert report["data"]["train"]["label_file"].endswith("test_Sequences_activity.txt")
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert len(report["data"]["classes"]) == 919 and set(report["loss_weights"].values()) == {8}
