"""The recipes of the package: each runs on a small sample, with its own numbers where nothing has to be smaller."""

import argparse
import contextlib
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertConfig

from gengram import GengramConfig, GengramForMaskedLM
from gengram.cli import main
from gengram.errors import InputError
from gengram.tokenization import EMBEDDING_ROWS, build_nucleotide_tokenizer
from gengram.training.command import parse_arguments
from gengram.training.losses import choose_loss
from gengram.training.recipe import RECIPES, list_recipes, read_recipe

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
    flags = ["--train_file", "train.csv", "--model_name_or_path", base]
    _, _, named = parse_arguments(["gue", *flags, "--learning_rate", "1e-3"])
    assert (named.learning_rate, named.num_train_epochs, named.sequences_per_step) == (1e-3, 3, 32)
    copy = tmp_path / "mine.yaml"
    copy.write_text((RECIPES / "gue.yaml").read_text())
    _, _, copied = parse_arguments([str(copy), *flags])
    assert copied.learning_rate == 3e-5


@pytest.fixture
def read(tmp_path):
    """Write a recipe and read it as the command does: the three groups of arguments."""

    def read(text: str | bytes, *flags: str):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else f"train_file: t.csv\nbackbone: bert\n{text}\n".encode())
        return parse_arguments([str(path), *flags])

    return read


def test_a_recipe_is_read_as_flags_are(read):
    model, data, training = read(
        """
learning_rate: 1e-5
num_train_epochs: "2"
weight_decay:
eval_strategy: no
gradient_checkpointing: yes
seeds: 3
label_column: [0001, NO]
validation_chromosomes: [1, 0x1]
mask_labels: [-1, .]
memory: {memory_layers: [0, 1], gate: no, rate: 1e-3}
class_weights: {yes: 2, no: 1, 0001: 3}
rmt: '{"segment_length": 8}'
output_dir: 2024-13-45
"""
    )
    assert (training.learning_rate, training.num_train_epochs, training.weight_decay) == (1e-5, 2.0, 0.01)
    assert training.eval_strategy == "no" and training.gradient_checkpointing is True and training.seeds == [3]
    assert data.label_column == ["0001", "NO"] and data.validation_chromosomes == ["1", "0x1"]
    assert data.mask_labels == ["-1", "."] and model.rmt == {"segment_length": 8}
    assert model.memory == {"memory_layers": [0, 1], "gate": "no", "rate": 0.001}
    assert training.class_weights == {"yes": 2.0, "no": 1.0, "0001": 3.0} and training.output_dir == "2024-13-45"


def test_a_recipe_may_begin_with_a_byte_order_mark_and_flags_win(read):
    _, _, training = read(
        b"\xef\xbb\xbftrain_file: t.csv\nmodel: x\nseeds: [0, 1]\nlearning_rate: 1", "--learning_rate", "2"
    )
    assert training.seeds == [0, 1] and training.learning_rate == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1\nlearning_rate: 2", "line 4: learning_rate is given twice"),
        ("out: a\noutput_dir: b", "line 4: output_dir is given twice"),
        ("memory: {gate: a, gate: b}", "line 3: memory: ConstructorError: 'gate' is given twice"),
        ("\tbf16: true", "found character '\\t' that cannot start any token"),
        ("lerning_rate: 3", "line 3: no argument is called 'lerning_rate'; did you mean 'learning_rate'?"),
        ("quiet: true", "no argument is called 'quiet'"),
        ("seed: 3", "no argument is called 'seed'; did you mean 'seeds'?"),
        ("seeds: [0, x]", "line 3: seeds: invalid int value: 'x'"),
        ("seeds: [[0]]", "line 3: seeds: one value is needed here, and this is a list"),
        ("num_train_epochs: [1, 2]", "line 3: num_train_epochs: one value is needed here, and this is a list"),
        ("output_dir: {a: b}", "line 3: output_dir: one value is needed here, and this is a mapping"),
        ("max_length: 1.5", "line 3: max_length: invalid int value: '1.5'"),
        ("bf16: maybe", "line 3: bf16: Truthy value expected"),
        ("problem: ranking", "line 3: problem: invalid choice: 'ranking'"),
        ("? [a, b]\n: 3", "line 3: no argument is called '[...]'"),
        ("memory: " + "[" * 5000, "cannot be read as YAML"),
        ("memory: !!python/object/apply:os.system ['ls']", "line 3: memory: "),
        (b"", "a recipe is a mapping"),
        (b"# nothing", "a recipe is a mapping"),
        ('output_dir: "a\\0"', r"line 3: output_dir: '\x00' is no letter"),
        ('output_dir: "\\ud800"', r"line 3: output_dir: '\ud800' is no letter"),
        ('train_file: "\\UFFFFFFFF"', "cannot be read as YAML: OverflowError"),
        ("memory: {a: !!timestamp x}", "line 3: memory: AttributeError"),
        ("memory: {a: !!int ''}", "line 3: memory: IndexError"),
        (b"a: b\n---\nc: d", "line 2, column 1: cannot be read as YAML: but found another document"),
        (b"a: b\n c: d", "recipe.yaml, line 2, column 3: cannot be read as YAML: mapping values are not allowed here"),
        (b"train_file: caf\xe9.csv", "cannot be read as YAML: 'utf-8' codec can't decode"),
        ("train_file: t.csv".encode("utf-16"), "cannot be read as YAML: 'utf-8' codec can't decode"),
        (b"train_file: t\x00.csv", "cannot be read as YAML: ReaderError: unacceptable character"),
    ],
)
def test_a_damaged_recipe_is_told_with_the_line(text, message, read):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        read(text)
    assert "recipe.yaml" in str(raised.value)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_recipe_that_is_no_file(kind, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert main(["finetune", str(path)]) == 1
    assert f"{path}: " in capsys.readouterr().err


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(), st.binary(), st.from_regex(r"(seeds|memory|bf16|x): [\[{'\"&*!|>\n a-z0-9:,]{0,20}")))
def test_any_text_is_a_recipe_or_an_error_of_ours(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    parser = argparse.ArgumentParser()
    for name, options in {"seeds": {"type": int, "nargs": "+"}, "memory": {}, "bf16": {"type": bool}}.items():
        parser.add_argument(f"--{name}", **options)
    with contextlib.suppress(InputError):
        read_recipe(str(path), parser, {"seeds": False, "memory": True, "bf16": False})


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

    flags = ["--train_file", "train.csv", "--model_name_or_path", base, "--pos_weight"]
    for value, weights in (("8", {"a": 8, "b": 8}), ("balanced", {"a": 3, "b": 1}), ('{"b": 2}', {"a": 1, "b": 2})):
        _, _, training = parse_arguments([*flags, value])
        assert choose_loss(training, Data).weights == weights
    with pytest.raises(SystemExit):
        parse_arguments([*flags, "0"])


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
