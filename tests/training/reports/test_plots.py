"""The report for people: curves are those of scikit-learn, plots are there for every problem, nothing leaks."""

import json
import shlex
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score
from transformers import EvalPrediction

from gengram.pipelines.predictions import name_predictions, write_predictions
from gengram.printable import make_printable
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.command import finetune as main
from gengram.training.finetune import finetune
from gengram.training.metrics.scores import score
from gengram.training.reports import plots
from gengram.training.reports.markdown import render_command, render_markdown
from gengram.training.reports.outcomes import collect_outcomes, trace_precision, trace_roc
from gengram.training.reports.plots import write_plots
from gengram.training.reports.report import summarize_classes, summarize_seeds

PNG = b"\x89PNG\r\n\x1a\n"
FOUND = find_spec("matplotlib") is not None


def make_run(folder: Path, problem: str, outputs: np.ndarray, labels: np.ndarray, classes: list[str]) -> dict:
    """A finished run of one seed as far as plots need it."""
    prediction = EvalPrediction(outputs.astype(np.float32), labels)
    rows = Dataset.from_dict({"sequence": ["A"] * len(outputs)})
    write_predictions(name_predictions(folder / "seed-0", "test"), rows, prediction, problem, classes, None, "error")
    scores = [score(problem, prediction, with_resamples=False)]
    return {
        "data": {"problem": problem, "classes": classes},
        "test": summarize_seeds(scores),
        "validation": None,
        "per_class": {"test": summarize_classes(scores, classes)},
        "seeds": [0],
        "model_folders": ["seed-0"],
        "history": [[{"epoch": 1.0, "loss": 0.7}, {"epoch": 1.0, "eval_loss": 0.6}, {"epoch": 2.0, "loss": None}]],
    }


def draw(classes: int, rows: int = 80) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.resize(np.arange(classes), rows)
    return random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_outcomes_are_those_of_scikit_learn(tmp_path, classes):
    logits, labels = draw(classes)
    names = [f"c{number}" for number in range(classes)]
    make_run(tmp_path, "single_label", logits, labels, names)
    outcomes = collect_outcomes(name_predictions(tmp_path / "seed-0", "test"), "single_label", names)
    assert (outcomes.confusion == confusion_matrix(labels, logits.argmax(axis=1))).all()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for label in range(classes):
        counts = outcomes.positives[label], outcomes.negatives[label]
        area = (
            np.trapezoid(*trace_roc(*counts)[::-1]) if hasattr(np, "trapezoid") else np.trapz(*trace_roc(*counts)[::-1])
        )
        assert area == pytest.approx(roc_auc_score(labels == label, probabilities[:, label]), abs=2e-3)
        recall, precision = trace_precision(*counts)
        expected = average_precision_score(labels == label, probabilities[:, label])
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(expected, abs=5e-3)
        assert recall[0] == 0 and recall[-1] == 1
    if classes == 2:
        assert outcomes.brier == pytest.approx(brier_score_loss(labels, probabilities[:, 1]))
        number, probability, hits = outcomes.reliability
        assert number.sum() == 80 and hits.sum() == 40
        assert probability.sum() == pytest.approx(probabilities[:, 1].sum(), rel=1e-5)


def test_a_certain_and_right_classifier_is_calibrated(tmp_path):
    labels = np.array([0, 1] * 10)
    make_run(tmp_path, "single_label", 200.0 * np.eye(2)[labels], labels, ["a", "b"])
    outcomes = collect_outcomes(name_predictions(tmp_path / "seed-0", "test"), "single_label", ["a", "b"])
    assert outcomes.calibration_error == pytest.approx(0, abs=1e-9) and outcomes.brier == pytest.approx(0, abs=1e-9)


CASES = {
    "two classes": ("single_label", *draw(2), ["loss", "curves", "confusion", "calibration"]),
    "many classes": ("single_label", *draw(14), ["loss", "curves", "confusion", "calibration"]),
    "an absent class": (
        "single_label",
        draw(3)[0],
        np.resize([0, 1], 80),
        ["loss", "curves", "confusion", "calibration"],
    ),
    "one row": ("single_label", draw(2, 1)[0], np.array([1]), ["loss", "curves", "confusion", "calibration"]),
    "constant": (
        "single_label",
        np.zeros((9, 2)),
        np.resize([0, 1], 9),
        ["loss", "curves", "confusion", "calibration"],
    ),
    "labels": ("multi_label", draw(4)[0], np.eye(4)[draw(4)[1]], ["loss", "curves", "labels", "calibration"]),
    "many labels": ("multi_label", draw(40)[0], np.eye(40)[draw(40)[1]], ["loss", "curves", "labels", "calibration"]),
    "no positives": ("multi_label", draw(2)[0], np.zeros((80, 2)), ["loss", "curves", "labels", "calibration"]),
    "targets": ("regression", draw(7)[0], draw(7)[0] ** 2, ["loss", "scatter"]),
    "a constant target": ("regression", np.ones((5, 1)), np.ones((5, 1)), ["loss", "scatter"]),
    "many rows": ("regression", draw(1, 6000)[0], draw(1, 6000)[0], ["loss", "scatter"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_every_problem_has_its_plots(tmp_path, case):
    pytest.importorskip("matplotlib")
    problem, outputs, labels, expected = CASES[case]
    names = [f"class {number} with a rather long name" for number in range(outputs.shape[1])]
    report = make_run(tmp_path, problem, outputs, labels, names)
    written = write_plots(report, tmp_path)
    assert [plot["file"] for plot in written] == [f"plots/{name}.png" for name in expected]
    first = {plot["file"]: (tmp_path / plot["file"]).read_bytes() for plot in written}
    assert all(content.startswith(PNG) for content in first.values())
    assert len(list((tmp_path / "plots").iterdir())) == len(written)
    if case == "two classes":
        write_plots(report, tmp_path)
        assert first == {plot["file"]: (tmp_path / plot["file"]).read_bytes() for plot in written}


def test_without_matplotlib_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert write_plots({}, tmp_path) == []
    assert capsys.readouterr().err == "no plots: matplotlib is not installed (pip install 'gengram[plots]')\n"


SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A finished run of two seeds; its tables lie beside it."""
    folder, random = tmp_path_factory.mktemp("report"), np.random.default_rng(0)
    for split, rows in (("train", 60), ("test", 20)):
        lines = [
            f"{''.join(random.choice(list('ACGT'), 24))},{'with' if row % 2 else 'without'}" for row in range(rows)
        ]
        (folder / f"{split}.csv").write_text("\n".join(["sequence,label", *lines]) + "\n")
    finetune(
        ModelArguments(backbone="llama", backbone_config=SIZE, memory={"memory_layers": [0], "memory_dim": 8}),
        DataArguments(train_file=str(folder / "train.csv"), test_file=str(folder / "test.csv")),
        FinetuneArguments(output_dir=str(folder / "run"), seeds=[0, 1], num_train_epochs=2, disable_tqdm=True),
    )
    return folder / "run"


@pytest.fixture
def finished(run_folder) -> dict:
    return json.loads((run_folder / "report.json").read_text())


def test_a_run_has_a_report_for_people(finished, run_folder):
    text = (run_folder / "report.md").read_text()
    assert text == render_markdown(finished)
    assert str(run_folder) not in text and str(run_folder.parent) not in text
    assert f"| test | mcc | {finished['test']['mcc']['mean']:.4f} |" in text
    low, high = finished["intervals"]["metrics"]["auroc"]["mean"]
    assert f"| {low:.4f} to {high:.4f} |" in text
    assert f"| test | `test.csv` | `{finished['data']['test']['sha256'][:12]}` | 20 |" in text
    for plot in finished["plots"]:
        assert f"![{plot['title']}]({plot['file']})" in text and (run_folder / plot["file"]).is_file()
    assert "test rows that train has too: 0 as they are" in text
    assert finished["torch_version"] in text


def test_the_history_has_no_times_and_every_loss(finished):
    assert len(finished["history"]) == 2
    for steps in finished["history"]:
        assert [step["epoch"] for step in steps if "loss" in step] == [1.0, 2.0]
        assert [step["epoch"] for step in steps if "eval_loss" in step] == [1.0, 2.0]
        assert not [name for step in steps for name in step if "runtime" in name or "per_second" in name]
    json.dumps(finished["history"], allow_nan=False)


def test_the_command_of_the_report_is_the_run(finished, run_folder, monkeypatch):
    command = render_command(finished)
    assert command.startswith("gengram finetune ")
    monkeypatch.chdir(run_folder.parent)
    argv = shlex.split(command.replace("\\\n", ""))[2:]
    argv[argv.index("--output_dir") + 1] = "again"
    assert main([*argv, "--disable_tqdm"]) == 0
    again = json.loads(Path("again/report.json").read_text())
    for name in ("test", "validation", "intervals", "per_class", "seeds", "model", "history"):
        assert again[name] == finished[name], name


def test_an_earlier_run_takes_its_report_and_plots_with_it(finished, run_folder, tmp_path):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (folder / "plots/mine.png").write_bytes(PNG)
    finetune(
        ModelArguments(backbone="llama", backbone_config=SIZE),
        DataArguments(train_file=str(run_folder.parent / "train.csv"), validation_fraction=0),
        FinetuneArguments(
            output_dir=str(folder), overwrite=True, num_train_epochs=1, logging_strategy="no", disable_tqdm=True
        ),
    )
    assert [path.name for path in (folder / "plots").iterdir()] == ["mine.png"]
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "report.json", "report.md", "seed-0"]
    text = (folder / "report.md").read_text()
    assert "There were no validation and no test rows." in text and "![" not in text


def test_names_cannot_break_a_table(finished):
    classes = ["a|b", "c"]
    for metric in finished["per_class"]["test"]:
        values = finished["per_class"]["test"][metric].values()
        finished["per_class"]["test"][metric] = dict(zip(classes, values))
    finished["data"]["test"]["rows_per_class"] = dict.fromkeys(classes, 10)
    finished["data"]["test"]["file"] = "/home/someone/secret/test.csv"
    text = render_markdown(finished)
    assert "| a&#124;b | 10 |" in text and "/home/" not in text


def test_the_command_names_no_folder_of_this_machine(finished):
    finished["arguments"]["data"] |= {"label_files": ["/home/me/train.txt", "/home/me/test.txt", "here/dev.txt"]}
    assert "--label_files train.txt test.txt here/dev.txt" in render_command(finished)
    assert "/home/me" not in render_markdown(finished)


HOSTILE = ["$\\frac{", "a\n\x1b[31mb", "\U0001f9ec", "_hidden", "x" * 10_000, "$x$ & <b>|`", "\u202e", " "]


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("size", [2, 8])
def test_names_are_no_formulas_and_no_lines_of_a_plot(tmp_path, problem, size):
    outputs, labels = draw(8, rows=64)
    names = HOSTILE[:size]
    if problem == "single_label":
        kept = labels < size
        outputs, labels = outputs[kept, :size], labels[kept]
    else:
        outputs = outputs[:, :size]
        labels = (outputs > 0) ^ (np.random.default_rng(1).random(outputs.shape) > 0.8)
        labels = labels.astype(np.float32) + (0.5 * outputs if problem == "regression" else 0)
    report = make_run(tmp_path, problem, outputs, labels, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write_plots(report, tmp_path)
    assert written and all((tmp_path / plot["file"]).read_bytes().startswith(PNG) for plot in written)
    assert all(plot["title"].isprintable() for plot in written)


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
def test_labels_of_a_confusion_matrix_and_of_curves_are_the_names(tmp_path):
    names = ["$a$ $b$", "_c", "d\ne"]
    outputs, labels = draw(3)
    report = make_run(tmp_path, "single_label", outputs, labels, names)
    outcomes = [collect_outcomes(name_predictions(tmp_path / "seed-0", "test"), "single_label", names)]
    axes = plots.draw_confusion(report, outcomes).axes[0]
    assert [label.get_text().strip() for label in axes.get_xticklabels()] == [r"\$a\$ \$b\$", "_c", r"d\ne"]
    legend = plots.draw_curves(report, "test", outcomes).axes[-1].get_legend()
    assert [text.get_text().split("\n")[0].strip() for text in legend.get_texts()] == [r"\$a\$ \$b\$", "_c", r"d\ne"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), min_size=6, max_size=6, unique=True))
def test_names_of_any_letters_do_not_change_the_outline_of_a_report(finished, names):
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")

    def outline(text: str) -> list[str]:
        kinds = []
        for block in reader.parse(text):
            kinds.append(block.type)
            kinds += [one.type for one in block.children or () if "text" not in one.type and one.type != "code_inline"]
        return kinds

    plain = outline(render_markdown(finished))
    report = json.loads(json.dumps(finished))
    first, second, file, title, version, checkpoint = names
    for values in report["per_class"].values():
        for measured in values:
            values[measured] = {first: 0.5, second: None}
    for split in ("train", "validation", "test"):
        report["data"][split] |= {"file": f"data/{file}", "rows_per_class": {first: 1, second: 2}}
    report["data"]["classes"], report["torch_version"] = [first, second], version
    for plot in report["plots"]:
        plot["title"] = f"Loss {title}"
    report["model"]["checkpoint"] = report["arguments"]["model"]["model_name_or_path"] = checkpoint or "x"
    text = render_markdown(report)
    assert outline(text) == plain and text.encode()
    command = render_command(report)
    assert make_printable(command, keep="\n") == command
