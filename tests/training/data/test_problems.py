"""`gengram finetune` for every problem: the right head, the figures of the saved model, and real samples."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef, roc_auc_score
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from gengram import GengramConfig, GengramForSequenceClassification, GengramForTokenClassification
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments
from gengram.training.command import finetune as main
from gengram.training.data.inputs import prepare_splits

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "gena"
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason=f"no real samples at {SAMPLES}")


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def predict(folder: Path, sequences: list[str], by_base: bool = False) -> np.ndarray:
    auto = AutoModelForTokenClassification if by_base else AutoModelForSequenceClassification
    model, tokenizer = auto.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(sequences, padding=True, return_tensors="pt")).logits.numpy()


def replace_labels(task: dict, draw_table, label, train_rows: int = 60) -> pd.DataFrame:
    """Write both files with other labels; the test table is returned."""
    for path, (rows, seed) in zip(task.values(), ((train_rows, 0), (20, 1))):
        table = draw_table(rows, seed).drop(columns="label")
        table = pd.concat([table, pd.DataFrame([label(bases) for bases in table["seq"]])], axis=1)
        table.to_csv(path, index=False)
    return table


def test_multi_label(command, task, run_folder, draw_table):
    def label(bases):
        return {"label_motif": int("TATAAA" in bases), "label_gc": int(bases.count("G") > 8)}

    table = replace_labels(task, draw_table, label)
    assert main(command(memory=True, seeds=[0, 1])) == 0
    report = read_report(run_folder)
    assert report["data"]["problem"] == "multi_label" and report["data"]["classes"] == ["label_motif", "label_gc"]
    truth = table[["label_motif", "label_gc"]].to_numpy()
    assert report["data"]["test"]["rows_per_class"] == {"label_motif": 10, "label_gc": int(truth[:, 1].sum())}
    assert list(report["test"]) == ["auroc", "auprc", "macro_f1", "mcc", "accuracy", "loss"]
    model = AutoModelForSequenceClassification.from_pretrained(run_folder / "seed-1")
    assert isinstance(model, GengramForSequenceClassification)
    assert model.config.problem_type == "multi_label_classification" and model.config.num_labels == 2
    logits = predict(run_folder / "seed-1", table["seq"].tolist())
    for metric, value in (
        ("auroc", roc_auc_score(truth, logits, average="macro")),
        ("auprc", average_precision_score(truth, logits, average="macro")),
        ("macro_f1", f1_score(truth, logits > 0, average="macro")),
        (
            "loss",
            torch.nn.functional.binary_cross_entropy_with_logits(*map(torch.tensor, (logits, truth * 1.0))).item(),
        ),
    ):
        assert report["test"][metric]["per_seed"][1] == pytest.approx(value, abs=1e-6), metric
    assert set(report["per_class"]["test"]) == {"auroc", "auprc", "f1", "mcc"}
    areas = [
        roc_auc_score(truth[:, 0], predict(run_folder / f"seed-{seed}", table["seq"].tolist())[:, 0]) for seed in (0, 1)
    ]
    assert report["per_class"]["test"]["auroc"]["label_motif"] == pytest.approx(np.mean(areas), abs=1e-6)


@pytest.mark.parametrize("targets", [1, 2])
def test_regression(targets, command, task, run_folder, draw_table):
    def label(bases):
        return {"target_t": bases.count("T") / len(bases) * 10, "target_g": bases.count("G") / len(bases) * 10}

    names = ["target_t", "target_g"][:targets]
    table = replace_labels(task, draw_table, label, train_rows=240)
    argv = command(memory=True, label_column=names, num_train_epochs=8, learning_rate=1e-2)
    assert main(argv) == 0
    report = read_report(run_folder)
    assert report["data"]["problem"] == "regression" and report["data"]["classes"] == names
    described = report["data"]["test"]["targets"]["target_t"]
    assert described["mean"] == pytest.approx(table["target_t"].mean()) and described["max"] >= described["min"]
    assert list(report["test"]) == ["pearson", "spearman", "r2", "loss"]
    assert report["test"]["pearson"]["mean"] > 0.5
    config = AutoModelForSequenceClassification.from_pretrained(run_folder / "seed-0").config
    assert config.problem_type == "regression" and config.num_labels == targets
    outputs, truth = predict(run_folder / "seed-0", table["seq"].tolist()), table[names].to_numpy()
    expected = np.mean([pearsonr(one, other).statistic for one, other in zip(outputs.T, truth.T)])
    assert report["test"]["pearson"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert report["test"]["loss"]["mean"] == pytest.approx(np.square(outputs - truth).mean(), abs=1e-6)
    assert list(report["per_class"]["test"]["r2"]) == names


def test_labels_of_bases(command, task, run_folder, draw_table):
    def label(bases):
        # Every base of the motif is "m", every third base is not known.
        start = bases.find("TATAAA")
        inside = range(start, start + 6) if start >= 0 else ()
        return {"label": "".join("." if i % 3 == 2 else "m" if i in inside else "b" for i in range(len(bases)))}

    table = replace_labels(task, draw_table, label)
    assert main(command(memory=True, num_train_epochs=4, learning_rate=1e-2)) == 0
    report = read_report(run_folder)
    assert report["data"]["problem"] == "token" and report["data"]["classes"] == ["b", "m"]
    text = "".join(table["label"])
    described = report["data"]["test"]
    assert described["bases_per_class"] == {"b": text.count("b"), "m": text.count("m")}
    assert described["unlabelled_tokens"] == text.count(".")
    model = AutoModelForTokenClassification.from_pretrained(run_folder / "seed-0")
    assert isinstance(model, GengramForTokenClassification) and model.config.id2label == {0: "b", 1: "m"}
    logits = predict(run_folder / "seed-0", table["seq"].tolist(), by_base=True)
    truth, guess, scores = [], [], []
    for labels, row in zip(table["label"], logits):
        for letter, base in zip(labels, row):
            if letter != ".":
                truth.append("bm".index(letter))
                guess.append(base.argmax())
                scores.append(base[1] - base[0])
    assert report["test"]["mcc"]["mean"] == pytest.approx(matthews_corrcoef(truth, guess), abs=1e-6)
    assert report["test"]["auroc"]["mean"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert report["test"]["auroc"]["mean"] > 0.8


def test_special_tokens_have_no_label(command, task, run_folder, draw_table):
    table = replace_labels(task, draw_table, lambda bases: {"label": bases.replace("C", "A")})
    assert main(command(backbone="bert", memory={"pooling": "cls"})) == 0
    described = read_report(run_folder)["data"]["test"]
    assert described["unlabelled_tokens"] == 2 * len(table)
    assert sum(described["bases_per_class"].values()) == table["seq"].str.len().sum()


def test_a_checkpoint_gets_the_head_of_the_problem(command, task, run_folder, tmp_path, draw_table):
    assert main(command(backbone="bert", output_dir=tmp_path / "first")) == 0
    replace_labels(task, draw_table, lambda bases: {"label": bases.replace("C", "A")})
    assert main(command(model_name_or_path=tmp_path / "first/seed-0")) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "GengramForTokenClassification"
    assert report["model"]["new_weights"] == ["classifier.bias", "classifier.weight"]


def test_the_middle_is_kept_when_asked(command, task, run_folder, draw_table):
    def label(bases):
        middle = (len(bases) - 12) // 2
        return {"label": "x" * middle + "abcabcabcabc" + "x" * (len(bases) - 12 - middle)}

    replace_labels(task, draw_table, label)
    assert main(command(max_length=12, too_long="center", mask_labels=["x"])) == 0
    described = read_report(run_folder)["data"]["test"]
    assert described["truncated_rows_in_file"] == 20 and described["unlabelled_tokens"] == 0
    assert described["bases_per_class"] == {"a": 80, "b": 80, "c": 80}


def test_intervals_lie_around_the_figures(command, run_folder):
    assert main(command(seeds=[0, 1])) == 0
    report = read_report(run_folder)
    intervals = report["intervals"]
    assert (intervals["confidence"], intervals["resamples"], intervals["seed"]) == (0.95, 1000, 0)
    for metric, summary in report["test"].items():
        found = intervals["metrics"][metric]
        for (low, high), value in zip([found["mean"], *found["per_seed"]], [summary["mean"], *summary["per_seed"]]):
            assert low <= value <= high, metric
    low, high = intervals["metrics"]["loss"]["mean"]
    assert low < high
    assert main(command(test_file=None, output_dir=run_folder.with_name("no-test"))) == 0
    report = read_report(run_folder.with_name("no-test"))
    assert report["intervals"] is None and report["per_class"]["test"] is None


@needs_samples
class TestRealSamples:
    """The published layouts, as they are, from one command."""

    def split_lines(self, lines: list[bytes], train: int, tmp_path: Path) -> dict[str, Path]:
        files = {"train_file": tmp_path / "train.csv", "test_file": tmp_path / "test.csv"}
        for path, part in zip(files.values(), (lines[:train], lines[train:])):
            path.write_bytes(b"\n".join(part) + b"\n")
        return files

    def test_deepsea_919_labels(self, command, tmp_path, run_folder):
        lines = gzip.decompress((SAMPLES / "deepsea/test.dataset.csv.gz").read_bytes()).splitlines()
        files = self.split_lines(lines, 80, tmp_path)
        assert main(command(**files, max_length=200, too_long="center", validation_fraction=0)) == 0
        report = read_report(run_folder)
        assert report["data"]["problem"] == "multi_label" and len(report["data"]["classes"]) == 919
        assert report["data"]["train"]["truncated_rows_in_file"] == 80
        positives = sum(sum(report["data"][split]["rows_per_class"].values()) for split in ("train", "test"))
        assert positives == 1571
        assert 0 <= report["test"]["auroc"]["mean"] <= 1 and len(report["per_class"]["test"]["auroc"]) == 919

    def test_spliceai_labels_of_the_middle(self, command, tmp_path, run_folder):
        lines = (SAMPLES / "spliceai/test_Dataset_data.csv").read_bytes().splitlines()
        files = self.split_lines(lines, 7, tmp_path)
        shared = {**files, "problem": "token", "label_start": 5000, "too_long": "center", "validation_fraction": 0}
        tokenizer = build_nucleotide_tokenizer(model_max_length=5000)
        arguments = DataArguments(**{name: str(value) if "file" in name else value for name, value in shared.items()})
        data = prepare_splits(arguments, tokenizer, GengramConfig(backbone_config={"model_type": "llama"}))
        assert data.classes == ["0", "1", "2"]
        bases = [data.report[split]["bases_per_class"] for split in ("train", "test")]
        assert {name: bases[0][name] + bases[1][name] for name in "012"} == {"0": 49256, "1": 13, "2": 13}
        assert sum(data.report[split]["unlabelled_tokens"] for split in ("train", "test")) == 718

        assert main(command(**shared, max_length=400)) == 0
        report = read_report(run_folder)
        assert report["model"]["class"] == "GengramForTokenClassification"
        assert report["intervals"]["metrics"]["loss"]["mean"] is not None

    def test_deepstarr_two_targets(self, command, tmp_path, run_folder):
        sequences = (SAMPLES / "deepstarr/test_Sequences.fa").read_text().split("\n")[1::2]
        table = pd.read_csv(SAMPLES / "deepstarr/test_Sequences_activity.txt", sep="\t")
        table.insert(0, "sequence", sequences)
        files = {"train_file": tmp_path / "train.tsv", "test_file": tmp_path / "test.tsv"}
        table[:7].to_csv(files["train_file"], sep="\t", index=False)
        table[7:].to_csv(files["test_file"], sep="\t", index=False)
        targets = ["Dev_log2_enrichment", "Hk_log2_enrichment"]
        assert main(command(**files, label_column=targets, validation_fraction=0)) == 0
        report = read_report(run_folder)
        assert report["data"]["problem"] == "regression" and report["data"]["classes"] == targets
        assert list(report["per_class"]["test"]["pearson"]) == targets
