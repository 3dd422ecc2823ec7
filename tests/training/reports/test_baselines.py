"""Simple models beside a run: their figures, the rows they see, what is kept for the next run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import constants
from sklearn.metrics import f1_score, roc_auc_score
from transformers import LlamaConfig

from gengram.model_cards.card import render_card
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments
from gengram.training.command import finetune as main
from gengram.training.data.inputs import LabelledSplits, prepare_splits
from gengram.training.reports import baselines
from gengram.training.reports.baselines import describe_baselines, measure_baselines, work_out_chance


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Nothing is kept between tests; a run draws nothing, which is tested elsewhere."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])
    return tmp_path / "cache/gengram/baselines"


def prepare(folder: Path, splits: dict[str, pd.DataFrame], **options) -> LabelledSplits:
    files = {}
    for split, table in splits.items():
        files[f"{split}_file"] = str(folder / f"{split}.csv")
        table.to_csv(files[f"{split}_file"], index=False)
    tokenizer = build_nucleotide_tokenizer(model_max_length=100_000)
    return prepare_splits(DataArguments(**files, validation_fraction=0, **options), tokenizer, LlamaConfig())


def draw_rows(rows: int, seed: int, length: int = 60) -> list[str]:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("ACGT"), length)) for _ in range(rows)]


REAL = ("GUE/mouse_2", "NTB/H3", "GB/human_nontata_promoters")


@pytest.mark.parametrize("task", REAL)
def test_they_are_the_published_figures_of_real_tasks(task, shared, tmp_path):
    folder = shared / "data/benchmarks" / task
    reference = shared / "specs/kmer_baseline.csv"
    if not folder.is_dir() or not reference.is_file():
        pytest.skip(f"no {folder}, or no {reference}")
    expected = pd.read_csv(reference).set_index("task").loc[task]
    files = {f"{split}_file": str(folder / name) for split, name in FILES.items()}
    tokenizer = build_nucleotide_tokenizer(model_max_length=1000)
    data = prepare_splits(DataArguments(**files, validation_fraction=0), tokenizer, LlamaConfig())
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert found["kmer"]["rows"] == expected.train and len(data.splits["test"]) == expected.test
    for metric in ("auroc", "mcc", "accuracy"):
        assert found["kmer"]["test"][metric] == pytest.approx(expected[metric], abs=0.005)


FILES = {"train": "train.csv.gz", "test": "test_shared.csv.gz"}


def test_chance_is_what_random_scores_get():
    random = np.random.default_rng(0)
    truth = random.choice(3, 20_000, p=[0.7, 0.2, 0.1])
    scores = random.random((20_000, 3))
    chance = work_out_chance("single_label", truth, 3)
    assert chance["auroc"] == pytest.approx(roc_auc_score(truth == 1, scores[:, 1]), abs=0.02)
    assert chance["macro_f1"] == pytest.approx(f1_score(truth, scores.argmax(axis=1), average="macro"), abs=0.01)
    assert chance["accuracy"] == pytest.approx((truth == scores.argmax(axis=1)).mean(), abs=0.01)
    assert chance["auprc"] == pytest.approx(1 / 3, abs=1e-3) and chance["loss"] == pytest.approx(np.log(3))
    assert work_out_chance("single_label", truth.clip(max=1), 2)["auprc"] == pytest.approx(0.3, abs=0.01)


def test_of_one_class_nothing_can_be_ranked():
    chance = work_out_chance("single_label", np.zeros(5, int), 2)
    assert np.isnan(chance["auroc"]) and np.isnan(chance["auprc"]) and chance["mcc"] == 0


def test_the_most_frequent_class_is_that_of_the_training_rows(tmp_path):
    train = pd.DataFrame({"sequence": draw_rows(40, 0), "label": ["a"] * 30 + ["b"] * 10})
    test = pd.DataFrame({"sequence": draw_rows(10, 1), "label": ["a"] * 2 + ["b"] * 8})
    data = prepare(tmp_path, {"train": train, "test": test})
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert found["majority"]["test"]["accuracy"] == pytest.approx(0.2)
    expected = -(0.2 * np.log(0.75) + 0.8 * np.log(0.25))
    assert found["majority"]["test"]["loss"] == pytest.approx(expected)
    assert found["majority"]["test"]["auroc"] == 0.5 and found["majority"]["test"]["auprc"] == pytest.approx(0.8)


def make_regression(rows: int, seed: int) -> pd.DataFrame:
    sequences = draw_rows(rows, seed)
    counts = [sum(sequence.count(motif) for motif in ("AAC", "CAA")) for sequence in sequences]
    return pd.DataFrame(
        {
            "sequence": sequences,
            "target_a": [count / 3 + 0.01 for count in counts],
            "target_b": [seq.count("G") / 7 for seq in sequences],
        }
    )


def test_a_ridge_regression_of_several_targets(tmp_path):
    data = prepare(tmp_path, {"train": make_regression(300, 0), "test": make_regression(100, 1)})
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert set(found) == {"chance", "mean", "kmer"}
    assert found["kmer"]["test"]["pearson"] > 0.3 and found["mean"]["test"]["pearson"] is None
    assert -0.1 < found["mean"]["test"]["r2"] <= 0 < found["kmer"]["test"]["r2"]
    assert found["chance"]["test"] == {"pearson": 0, "spearman": 0, "r2": None, "loss": None}


def test_a_regression_for_each_of_several_labels(tmp_path):
    def make(rows, seed):
        sequences = draw_rows(rows, seed)
        return pd.DataFrame(
            {
                "sequence": sequences,
                "label_x": [int("AA" in one[:40]) for one in sequences],
                "label_y": [int(one.count("G") > 15) for one in sequences],
                "label_never": 0,
            }
        )

    data = prepare(tmp_path, {"train": make(300, 0), "test": make(100, 1)})
    assert data.problem == "multi_label"
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert found["kmer"]["test"]["auroc"] > 0.75 and found["majority"]["test"]["auroc"] == 0.5
    assert found["kmer"]["test"]["loss"] < found["majority"]["test"]["loss"] < np.log(2)


def test_neighbours_of_labelled_bases(tmp_path):
    def make(rows, seed):
        sequences = draw_rows(rows, seed)
        labels = ["".join("x" if one[place : place + 2] == "GT" else "-" for place in range(60)) for one in sequences]
        return pd.DataFrame({"sequence": sequences, "label": [text.replace("-", "y") for text in labels]})

    data = prepare(tmp_path, {"train": make(400, 0), "test": make(50, 1)}, problem="token")
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert found["kmer"]["test"]["auroc"] > 0.95 and found["kmer"]["rows"] == 400
    assert found["majority"]["test"]["accuracy"] == pytest.approx(15 / 16, abs=0.02)


def test_classes_that_no_fitted_row_has(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "MOST_ROWS", 20)
    monkeypatch.setattr(baselines, "_FEWEST_ROWS", 20)
    train = pd.DataFrame({"sequence": draw_rows(200, 0), "label": ["a", "b"] * 99 + ["c"] * 2})
    data = prepare(tmp_path, {"train": train, "test": train.iloc[-20:]})
    found = describe_baselines(measure_baselines(data, "test"), data)
    assert found["kmer"]["rows"] == 20 and np.isfinite(found["kmer"]["test"]["loss"])


def test_one_class_leaves_nothing_to_fit(tmp_path):
    train = pd.DataFrame({"sequence": draw_rows(30, 0), "label": ["a"] * 29 + ["b"]})
    data = prepare(tmp_path, {"train": train, "test": train})
    rows = data.splits["train"].filter(lambda row: row["label"] == 0)
    one_class = LabelledSplits({**data.splits, "train": rows}, data.problem, data.classes, data.report)
    assert set(describe_baselines(measure_baselines(one_class, "test"), one_class)) == {"chance", "majority"}


def test_letters_are_read_as_the_models_read_them(tmp_path):
    def write(table, change):
        return table.assign(sequence=[change(one) for one in table["sequence"]])

    train, test = make_regression(60, 0), make_regression(30, 1)
    plain = prepare(tmp_path, {"train": train, "test": test})
    rna = prepare(
        tmp_path, {"train": write(train, lambda one: one.replace("T", "U").lower()), "test": write(test, str.lower)}
    )
    first, second = (describe_baselines(measure_baselines(data, "test"), data) for data in (plain, rna))
    assert first == second


def test_what_was_found_is_kept_for_the_next_run_on_the_same_rows(tmp_path, monkeypatch, cache):
    train, test = make_regression(60, 0), make_regression(30, 1)
    data = prepare(tmp_path, {"train": train, "test": test})
    first = measure_baselines(data, "test")
    (kept,) = cache.iterdir()
    before = kept.read_text()
    calls = []
    fit = baselines._fit
    monkeypatch.setattr(baselines, "_fit", lambda *arguments: calls.append(1) or fit(*arguments))
    again = measure_baselines(prepare(tmp_path, {"train": train, "test": test}), "test")
    assert not calls and again.scores["kmer"]["test"].overall == first.scores["kmer"]["test"].overall
    np.testing.assert_array_equal(
        again.scores["kmer"]["test"].resamples["pearson"], first.scores["kmer"]["test"].resamples["pearson"]
    )
    for damaged in ("", "{", "[]", '{"scores": {"kmer": {"test": 3}}, "rows": 1}', '{"scores": 1}', "\x00"):
        kept.write_text(damaged)
        measure_baselines(data, "test")
        assert kept.read_text() == before
    assert len(calls) == 6
    other = train.assign(target_b=[value + 1 for value in train["target_b"]])
    measure_baselines(prepare(tmp_path, {"train": other, "test": test}), "test")
    assert len(calls) == 7 and len(list(cache.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "file"))
    data = prepare(tmp_path, {"train": make_regression(60, 0), "test": make_regression(30, 1)})
    assert measure_baselines(data, "test").kmer_rows == 60
    assert "are not kept for the next run" in capsys.readouterr().err


def test_they_stand_beside_the_scores_of_a_run(command, run_folder, capsys):
    assert main(command(num_train_epochs=1)) == 0
    shown = capsys.readouterr().out
    report = json.loads((run_folder / "report.json").read_text())
    found = report["baselines"]
    assert list(found) == ["chance", "majority", "kmer"]
    for name, heading in (("chance", "chance"), ("majority", "majority"), ("kmer", "6-mers")):
        assert set(found[name]["test"]) == set(found[name]["validation"]) == set(report["test"])
        (line,) = [line for line in shown.splitlines() if line.startswith(heading)]
        assert f"{found[name]['test']['mcc']:.4f}" in line
    text = (run_folder / "report.md").read_text()
    assert "| 95 % interval | chance | majority | 6-mers |" in text
    row = next(line for line in text.splitlines() if line.startswith("| test | auroc |"))
    assert row.endswith(f"| {found['kmer']['test']['auroc']:.4f} |")
    assert "6-mer logistic regression" in text
    config = json.loads((run_folder / "seed-0/config.json").read_text())
    card = str(render_card(run_folder / "seed-0", config, repo_id="lab/x", report=report, seed=0))
    row = next(line for line in card.splitlines() if line.startswith("| test | auroc |"))
    cells = [f"{found[name]['test']['auroc']:.4f}" for name in found]
    assert f"| {' | '.join(cells)} | {report['test']['auroc']['mean']:.4f} |" in row


@pytest.mark.parametrize("flag", [["--baselines", "false"], ["--no_baselines"]])
def test_they_can_be_left_out(command, run_folder, cache, flag):
    assert main([*command(num_train_epochs=1), *flag]) == 0
    report = json.loads((run_folder / "report.json").read_text())
    assert report["baselines"] is None and report["verdict"]["baselines"] == {} and not cache.exists()
    assert "6-mers" not in (run_folder / "report.md").read_text()
    config = json.loads((run_folder / "seed-0/config.json").read_text())
    for older in (report, {name: value for name, value in report.items() if name not in ("baselines", "verdict")}):
        card = str(render_card(run_folder / "seed-0", config, repo_id="lab/x", report=older, seed=0))
        assert "| test | auroc |" in card and "6-mers" not in card


def test_several_seeds_and_a_resumed_run_have_one(command, run_folder, monkeypatch):
    calls = []
    fit = baselines._fit
    monkeypatch.setattr(baselines, "_fit", lambda *arguments: calls.append(1) or fit(*arguments))
    assert main(command(num_train_epochs=1, seeds=[0, 1])) == 0
    assert main([*command(num_train_epochs=1, seeds=[0, 1]), "--resume_from_checkpoint"]) == 0
    assert len(calls) == 1


def test_without_rows_to_measure_there_are_none(command, run_folder):
    assert main(command(num_train_epochs=1, test_file=None, validation_fraction=0)) == 0
    report = json.loads((run_folder / "report.json").read_text())
    assert report["baselines"] is None and report["verdict"] is None
