"""`gengram finetune` from the command line and from Python: what a run writes, and that it can be repeated."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    TrainerState,
)

from gengram import GengramConfig, GengramForCausalLM, GengramForSequenceClassification
from gengram.tokenization import build_nucleotide_tokenizer, reverse_complement
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.command import finetune as main
from gengram.training.command import parse_arguments
from gengram.training.finetune import finetune


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def without_times(report: dict) -> dict:
    return {name: value for name, value in report.items() if name != "seconds"}


@pytest.fixture
def bert_folder(tmp_path, small) -> Path:
    """A masked language model that knows nothing of gengram, with a nucleotide tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **small)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_a_run_writes_a_report_and_models_that_give_its_figures(command, task, run_folder, capsys, draw_table):
    assert main(command(seeds=[0, 7], memory=True)) == 0
    report = read_report(run_folder)
    names = {path.name for path in run_folder.iterdir()} - {"plots"}
    assert names == {"report.json", "report.md", "seed-0", "seed-7"}
    assert report["seeds"] == [0, 7] and report["model_folders"] == ["seed-0", "seed-7"]
    assert report["seconds"] > 0

    test = report["data"]["test"]
    assert test["file"] == task["test_file"] and test["rows"] == 20
    assert test["sha256"] == hashlib.sha256(Path(task["test_file"]).read_bytes()).hexdigest()
    assert test["rows_per_class"] == {"with": 10, "without": 10}
    assert (report["data"]["train"]["rows"], report["data"]["validation"]["rows"]) == (54, 6)
    assert report["data"]["classes"] == ["with", "without"]
    assert report["model"]["memory_layers"] == [0, 1] and report["model"]["backbone"] == "llama"
    assert report["arguments"]["training"]["learning_rate"] == 1e-3
    assert report["arguments"]["training"]["sequences_per_step"] == 32

    references = [report["data"]["classes"].index(label) for label in draw_table(20, 1)["label"]]
    for position, folder in enumerate(report["model_folders"]):
        assert "training_args.bin" not in {path.name for path in (run_folder / folder).iterdir()}
        model = AutoModelForSequenceClassification.from_pretrained(run_folder / folder)
        tokenizer = AutoTokenizer.from_pretrained(run_folder / folder)
        assert isinstance(model, GengramForSequenceClassification)
        assert model.config.id2label == {0: "with", 1: "without"} and model.config.label2id == {"with": 0, "without": 1}
        assert model.config.problem_type == "single_label_classification"
        assert tokenizer.model_max_length == 2048
        assert sum(parameter.numel() for parameter in model.parameters()) == report["parameters"]
        batch = tokenizer(draw_table(20, 1)["seq"].tolist(), padding=True, return_tensors="pt")
        with torch.no_grad():
            output = model(**batch, labels=torch.tensor(references))
        predictions = output.logits.argmax(-1)
        assert matthews_corrcoef(references, predictions) == pytest.approx(report["test"]["mcc"]["per_seed"][position])
        assert output.loss.item() == pytest.approx(report["test"]["loss"]["per_seed"][position], abs=1e-6)
        share = (predictions.numpy() == references).mean()
        assert share == pytest.approx(report["test"]["accuracy"]["per_seed"][position])

    for split in ("test", "validation"):
        for metric in ("mcc", "accuracy", "auroc", "loss"):
            values = report[split][metric]["per_seed"]
            assert report[split][metric]["mean"] == pytest.approx(np.mean(values))
            assert report[split][metric]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert report["test"]["loss"]["per_seed"][0] != report["test"]["loss"]["per_seed"][1]
    out = capsys.readouterr().out
    assert "mcc" in out and f"{report['test']['mcc']['mean']:.4f} ±" in out and str(run_folder / "report.json") in out


def test_the_same_command_twice_gives_the_same_report_and_weights(command, run_folder):
    argv = command(seeds=[1, 2], memory=True)
    assert main(argv) == 0
    first = read_report(run_folder)
    weights = [(run_folder / f"seed-{seed}/model.safetensors").read_bytes() for seed in (1, 2)]
    assert main([*argv, "--overwrite"]) == 0
    again = read_report(run_folder)
    assert again["arguments"]["training"].pop("overwrite") and not first["arguments"]["training"].pop("overwrite")
    assert without_times(first) == without_times(again)
    assert weights == [(run_folder / f"seed-{seed}/model.safetensors").read_bytes() for seed in (1, 2)]
    assert weights[0] != weights[1]


def test_a_seed_gives_the_same_model_alone_and_among_others(command, run_folder, tmp_path):
    assert main(command(seeds=[4, 5])) == 0
    assert main(command(seeds=[5], output_dir=tmp_path / "alone")) == 0
    both, alone = read_report(run_folder), read_report(tmp_path / "alone")
    assert both["data"] == alone["data"]
    assert both["test"]["loss"]["per_seed"][1:] == alone["test"]["loss"]["per_seed"]
    assert alone["test"]["loss"]["sd"] is None


def test_the_task_is_learnt(command, task, run_folder, draw_table):
    draw_table(240, 0).to_csv(task["train_file"], index=False)
    draw_table(100, 1).to_csv(task["test_file"], index=False)
    assert main(command(memory=True, num_train_epochs=8, learning_rate=1e-2)) == 0
    report = read_report(run_folder)
    assert report["test"]["mcc"]["mean"] > 0.7 and report["test"]["auroc"]["mean"] > 0.9


@pytest.mark.parametrize("backbone", ["bert", "esm", "llama", "mixtral", "modernbert"])
@pytest.mark.parametrize("with_memory", [False, True], ids=["no memory", "memory"])
def test_every_backbone_from_scratch(backbone, with_memory, command, run_folder):
    assert main(command(backbone=backbone, memory=with_memory or None)) == 0
    report = read_report(run_folder)
    assert report["model"] == {
        "class": "GengramForSequenceClassification",
        "model_type": "gengram",
        "backbone": backbone,
        "memory_layers": [0, 1] if with_memory else [],
        "checkpoint": None,
        "checkpoint_is_folder": False,
        "new_weights": "all",
    }
    config = GengramConfig.from_pretrained(run_folder / "seed-0").backbone_config
    assert config.vocab_size == 128 and config.pad_token_id == 0


def test_the_memory_adds_to_the_same_backbone(command, run_folder, tmp_path):
    assert main(command(memory=True)) == 0
    assert main(command(output_dir=tmp_path / "plain")) == 0
    with_memory, plain = read_report(run_folder), read_report(tmp_path / "plain")
    assert plain["model"]["memory_layers"] == [] and with_memory["parameters"] > plain["parameters"]
    shapes = [
        {
            name: value.shape
            for name, value in AutoModelForSequenceClassification.from_pretrained(folder).named_parameters()
        }
        for folder in (tmp_path / "plain/seed-0", run_folder / "seed-0")
    ]
    assert shapes[0].items() <= shapes[1].items()


def test_a_checkpoint_without_a_head(bert_folder, command, run_folder):
    assert main(command(model_name_or_path=bert_folder)) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "BertForSequenceClassification"
    assert {name.split(".")[0] for name in report["model"]["new_weights"]} == {"bert", "classifier"}
    assert all("pooler" in name for name in report["model"]["new_weights"] if name.startswith("bert."))
    assert report["arguments"]["training"]["learning_rate"] == 3e-5
    assert report["data"]["max_length"] == 64


def test_a_checkpoint_that_gets_a_memory(bert_folder, command, run_folder):
    assert main(command(model_name_or_path=bert_folder, memory=True, learning_rate=0.0)) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "GengramForSequenceClassification" and report["model"]["backbone"] == "bert"
    assert any(".memory." in name for name in report["model"]["new_weights"])
    trained = GengramForSequenceClassification.from_pretrained(run_folder / "seed-0")
    assert trained.config.id2label == {0: "with", 1: "without"}
    source = BertForMaskedLM.from_pretrained(bert_folder).bert.state_dict()
    for name, value in trained.model.backbone.state_dict().items():
        assert torch.equal(value, source[name]), name


def test_a_gengram_language_model_becomes_a_classifier(command, run_folder, tmp_path, small, memory):
    torch.manual_seed(0)
    backbone = {"model_type": "llama", "vocab_size": 128, "pad_token_id": 0, **small}
    GengramForCausalLM(GengramConfig(backbone_config=backbone, **memory)).save_pretrained(tmp_path / "lm")
    build_nucleotide_tokenizer(model_max_length=512).save_pretrained(tmp_path / "lm")
    assert main(command(model_name_or_path=tmp_path / "lm")) == 0
    report = read_report(run_folder)
    assert report["model"]["new_weights"] == ["classifier.bias", "classifier.weight"]
    assert report["data"]["max_length"] == 512


def test_a_classifier_keeps_the_ids_of_its_class_names(bert_folder, command, run_folder, tmp_path):
    names = {0: "without", 1: "with"}
    model = BertForSequenceClassification.from_pretrained(
        bert_folder, id2label=names, label2id={name: label for label, name in names.items()}
    )
    model.save_pretrained(tmp_path / "classifier")
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "classifier")
    assert main(command(model_name_or_path=tmp_path / "classifier", learning_rate=0.0)) == 0
    report = read_report(run_folder)
    assert report["data"]["classes"] == ["without", "with"] and report["model"]["new_weights"] == []
    trained = BertForSequenceClassification.from_pretrained(run_folder / "seed-0")
    assert torch.equal(trained.classifier.weight, model.classifier.weight)


def test_a_head_of_another_size_is_made_anew(bert_folder, command, run_folder, tmp_path):
    model = BertForSequenceClassification.from_pretrained(bert_folder, num_labels=5)
    model.save_pretrained(tmp_path / "classifier")
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "classifier")
    assert main(command(model_name_or_path=tmp_path / "classifier")) == 0
    assert read_report(run_folder)["model"]["new_weights"] == ["classifier.bias", "classifier.weight"]


def test_integer_classes_and_several_of_them(command, task, run_folder, tmp_path, draw_table):
    for name, rows in (("train", 60), ("test", 21)):
        draw_table(rows, 5, classes=(0, 1, 2)).to_csv(task[f"{name}_file"], index=False)
    assert main(command()) == 0
    report = read_report(run_folder)
    assert report["data"]["classes"] == ["0", "1", "2"]
    assert AutoModelForSequenceClassification.from_pretrained(run_folder / "seed-0").config.num_labels == 3


def test_a_class_that_is_absent_from_the_test_rows(command, task, run_folder, draw_table):
    table = draw_table(20, 1)
    table[table["label"] == "with"].to_csv(task["test_file"], index=False)
    assert main(command()) == 0
    report = read_report(run_folder)
    assert report["test"]["auroc"] == {"mean": None, "sd": None, "per_seed": [None]}
    assert report["test"]["mcc"]["mean"] == 0.0
    assert report["data"]["test"]["rows_per_class"] == {"with": 10, "without": 0}


def test_own_validation_rows_or_none(command, task, run_folder, tmp_path, draw_table):
    draw_table(12, 9).to_csv(tmp_path / "validation.csv", index=False)
    assert main(command(validation_file=tmp_path / "validation.csv", test_file=None)) == 0
    report = read_report(run_folder)
    assert (report["data"]["train"]["rows"], report["data"]["validation"]["rows"]) == (60, 12)
    assert report["test"] is None and report["data"]["test"] is None
    assert main(command(validation_fraction=0, output_dir=tmp_path / "none")) == 0
    report = read_report(tmp_path / "none")
    assert report["validation"] is None and report["data"]["train"]["rows"] == 60


def test_contigs_of_other_names_and_slices_give_the_same_run(command, tmp_path, capsys):
    contigs = {name: "".join(np.random.default_rng(seed).choice(list("ACGT"), 400)) for seed, name in enumerate("789")}
    rows = [(name, 10 + 12 * row, 40 + 12 * row, "ab"[row % 2]) for name in contigs for row in range(20)]
    (tmp_path / "train.bed").write_text("".join("chr{}\t{}\t{}\t{}\n".format(*row) for row in rows))
    genomes = {
        "same": "".join(f">chr{name}\n{bases}\n" for name, bases in contigs.items()),
        "bare": "".join(f">{name}\n{bases}\n" for name, bases in contigs.items()),
        "slices": "".join(f">{name}:5-390\n{bases[4:390]}\n" for name, bases in contigs.items()),
    }
    reports, weights = {}, set()
    for name, fasta in genomes.items():
        (tmp_path / f"{name}.fa").write_text(fasta)
        files = {"train_file": tmp_path / "train.bed", "test_file": None, "genome": tmp_path / f"{name}.fa"}
        asked = {"test_chromosomes": ["chr9" if name == "same" else "9"], "validation_chromosomes": ["chr8"]}
        flags = ["--slices"] if name == "slices" else []
        assert main([*command(**files, **asked, output_dir=tmp_path / name), *flags]) == 0
        said, reports[name] = capsys.readouterr().err, read_report(tmp_path / name)
        assert ("train.bed: contigs have other names in" in said) == (name != "same")
        assert ("test_chromosomes: chromosomes have other names there: 9 is chr9" in said) == (name != "same")
        weights.add((tmp_path / name / "seed-0" / "model.safetensors").read_bytes())
    assert len(weights) == 1
    renamed = {f"chr{name}": name for name in contigs}
    for name, report in reports.items():
        assert (report["test"], report["data"]["test"]) == (reports["same"]["test"], reports["same"]["data"]["test"])
        assert report["data"]["renamed_contigs"] == ({} if name == "same" else renamed)
        assert report["data"]["renamed_chromosomes"] == ({} if name == "same" else {"9": "chr9"})
    written = (tmp_path / "slices" / "report.md").read_text()
    assert "Contigs that have other names in the genome: chr7 is 7, chr8 is 8, chr9 is 9." in written
    assert "--slices true" in written
    # One chromosome is not in two splits, whatever it is called.
    with pytest.raises(SystemExit):
        main(command(**files, test_chromosomes=["chr8"], validation_chromosomes=["8"]))
    assert "8, which is chr8: in validation_chromosomes and in test_chromosomes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command(), "--slices"])
    assert "slices are records of a genome: give its FASTA file with genome" in capsys.readouterr().err


def test_validation_and_test_rows_by_chromosome(command, run_folder):
    argv = command(validation_chromosomes=["chr1"], test_chromosomes=["chr2"], test_file=None)
    assert main(argv) == 0
    report = read_report(run_folder)
    assert [report["data"][split]["rows"] for split in ("train", "validation", "test")] == [20, 20, 20]
    assert report["test"] is not None and report["intervals"] is not None


def test_duplicates_across_splits_are_counted(command, task, run_folder, draw_table, capsys):
    train, table = draw_table(60, 0), draw_table(20, 1)
    table.loc[0, "seq"] = train["seq"][3].lower()
    table.loc[1, "seq"] = reverse_complement(train["seq"][4])
    table.loc[2, "seq"] = reverse_complement(train["seq"][4])
    table.to_csv(task["test_file"], index=False)
    assert main(command(validation_fraction=0)) == 0
    assert read_report(run_folder)["data"]["duplicates"] == {"test_in_train": {"exact": 1, "reverse_complement": 2}}
    assert "3 of 20 test rows are in train too (2 of them as the reverse complement)" in capsys.readouterr().out
    assert main(command(output_dir=run_folder.with_name("validated"))) == 0
    duplicates = read_report(run_folder.with_name("validated"))["data"]["duplicates"]
    assert duplicates["validation_in_train"] == {"exact": 0, "reverse_complement": 0}
    assert list(duplicates) == ["validation_in_train", "test_in_train", "test_in_validation"]


def test_letters_that_are_no_bases_are_counted(command, task, run_folder, draw_table):
    table = draw_table(20, 1)
    table.loc[0, "seq"] = "ACGTNRacgun-*" + "A" * 7
    table.to_csv(task["test_file"], index=False)
    assert main(command()) == 0
    described = read_report(run_folder)["data"]["test"]
    assert described["characters"] == table["seq"].str.len().sum()
    assert described["non_acgt_share"] == pytest.approx(5 / described["characters"])
    assert described["unknown_token_share"] == pytest.approx(2 / described["characters"])


def test_letters_that_are_no_dna_are_told_and_proteins_are_refused(command, task, run_folder, draw_table, capsys):
    table = draw_table(20, 1)
    table["seq"] = "MKVLAAGIVGLLLA"
    table.to_csv(task["test_file"], index=False)
    assert main(command()) == 1
    error = capsys.readouterr().err
    assert "test.csv: 180 of 280 letters are not DNA" in error and "the first is 'M' at position 0 (from 0)" in error
    assert "does not look like DNA" in error and not run_folder.exists()
    table["seq"] = "ACGTACGTACGTX"
    table.to_csv(task["test_file"], index=False)
    with pytest.warns(UserWarning, match=r"test\.csv: 20 of 260 tokens are unknown to the tokenizer"):
        assert main(command()) == 0
    assert "the first is 'X' at position 12 (from 0) of data row 1" in capsys.readouterr().err


def test_a_tokenizer_of_its_own_decides_the_vocabulary(command, run_folder, tmp_path):
    build_nucleotide_tokenizer(template="cls_sep").save_pretrained(tmp_path / "tokenizer")
    assert main(command(memory=True, tokenizer_name_or_path=tmp_path / "tokenizer")) == 0
    config = GengramConfig.from_pretrained(run_folder / "seed-0")
    assert config.vocab_size == 16 and config.base_token_ids == [8, 5, 6, 7, 9]
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "seed-0")
    assert tokenizer.convert_ids_to_tokens(tokenizer("AC")["input_ids"]) == ["[CLS]", "A", "C", "[SEP]"]


def test_pooling_of_the_first_token_brings_the_token(command, run_folder):
    assert main(command(backbone="bert", memory={"pooling": "cls"})) == 0
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "seed-0")
    assert tokenizer.convert_ids_to_tokens(tokenizer("AC")["input_ids"]) == ["[CLS]", "A", "C", "[SEP]"]


def test_long_sequences_are_cut_when_asked(command, task, run_folder, draw_table):
    assert main(command(max_length=25, too_long="truncate")) == 0
    described = read_report(run_folder)["data"]["test"]
    assert described["truncated_rows_in_file"] == (draw_table(20, 1)["seq"].str.len() > 25).sum() > 0


def test_a_checkpoint_of_the_training_is_kept_where_asked(command, run_folder):
    argv = command(save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="mcc", num_train_epochs=2)
    assert main(argv) == 0
    checkpoints = sorted(path.name for path in (run_folder / "seed-0").glob("checkpoint-*"))
    assert checkpoints == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.parametrize(("given", "steps"), [({"eval_steps": 7}, 7), ({"logging_steps": 100}, 100), ({}, 500)])
def test_a_checkpoint_is_written_whenever_the_best_is_looked_for(given, steps, tmp_path):
    arguments = FinetuneArguments(
        output_dir=str(tmp_path), eval_strategy="steps", load_best_model_at_end=True, report_to="none", **given
    )
    assert (arguments.save_strategy, arguments.eval_steps, arguments.save_steps) == ("steps", steps, steps)


@pytest.mark.parametrize("steps", [1, 7, 20, 41, 79, 81, 1000, 123_457])
def test_a_run_of_any_length_has_twenty_losses(steps, tmp_path):
    state = TrainerState()
    state.compute_steps(FinetuneArguments(output_dir=str(tmp_path), report_to="none"), steps)
    assert min(steps, 20) <= steps // state.logging_steps <= 40


@pytest.mark.parametrize(
    ("given", "steps", "shortest"),
    [
        # Early stopping after two validations without a better one: the third is the first that can stop the run.
        ({"num_train_epochs": 50}, 50 * 200, 3 * 200),
        ({"num_train_epochs": 2}, 2 * 200, 2 * 200),
        ({"eval_strategy": "steps", "eval_steps": 100}, 5000, 300),
        ({"eval_strategy": "steps", "eval_steps": 0.02}, 5000, 300),
        ({"eval_strategy": "steps"}, 50_000, 1500),
    ],
)
def test_a_run_that_stops_early_has_twenty_losses(given, steps, shortest, tmp_path):
    arguments = FinetuneArguments(output_dir=str(tmp_path), early_stopping_patience=2, report_to="none", **given)
    state = TrainerState()
    state.compute_steps(arguments, steps)
    assert 20 <= shortest // state.logging_steps <= 60


def test_a_recipe_in_yaml_is_the_same_as_flags(task, command, run_folder, tmp_path, small, memory):
    recipe = {**task, "backbone": "llama", "backbone_config": small, "memory": memory, "seeds": [3]}
    recipe |= {"output_dir": str(run_folder), "num_train_epochs": 1, "learning_rate": "1e-2", "disable_tqdm": True}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    from_yaml = parse_arguments([str(tmp_path / "recipe.yaml")])
    from_flags = parse_arguments(command(memory=True, seeds=[3], learning_rate=0.01))
    for one, other in zip(from_yaml, from_flags):
        assert {field.name: getattr(one, field.name) for field in dataclasses.fields(one)} == {
            field.name: getattr(other, field.name) for field in dataclasses.fields(other)
        }
    *_, training = parse_arguments([str(tmp_path / "recipe.yaml"), "--seeds", "8", "9", "--num_train_epochs", "2"])
    assert training.seeds == [8, 9] and training.num_train_epochs == 2 and training.learning_rate == 0.01
    assert main([str(tmp_path / "recipe.yaml")]) == 0
    assert read_report(run_folder)["seeds"] == [3]


def test_from_python_the_report_is_returned(task, run_folder, small, memory):
    report = finetune(
        ModelArguments(backbone="llama", backbone_config=small, memory=memory),
        DataArguments(**task),
        FinetuneArguments(output_dir=str(run_folder), num_train_epochs=1, disable_tqdm=True),
    )
    assert report == read_report(run_folder)
    assert set(report) == {
        "gengram_version",
        "transformers_version",
        "torch_version",
        "model",
        "adapter",
        "data",
        "arguments",
        "loss_weights",
        "seeds",
        "parameters",
        "test",
        "validation",
        "intervals",
        "per_class",
        "baselines",
        "verdict",
        "seconds",
        "model_folders",
        "history",
        "plots",
    }


def test_an_overwritten_run_leaves_nothing_of_the_one_before(command, run_folder):
    assert main(command(seeds=[0, 1])) == 0
    (run_folder / "notes.txt").write_text("mine")
    assert main([*command(seeds=[2]), "--overwrite"]) == 0
    names = {path.name for path in run_folder.iterdir()} - {"plots"}
    assert names == {"notes.txt", "report.json", "report.md", "seed-2"}


def test_help_shows_an_example_and_our_arguments(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in (
        "examples:",
        "gengram finetune --train_file",
        "recipe.yaml",
        "--memory",
        "--validation_fraction",
        "exit codes",
    ):
        assert words in text
