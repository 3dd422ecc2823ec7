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
from scipy.special import softmax
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score
from transformers import EvalPrediction

from gengram.pipelines.predictions import name_predictions, write_predictions
from gengram.printable import make_printable
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.command import finetune as main
from gengram.training.finetune import finetune
from gengram.training.metrics.scores import score
from gengram.training.reports import outcomes as outcomes_module
from gengram.training.reports import plots
from gengram.training.reports.markdown import render_command, render_markdown
from gengram.training.reports.outcomes import collect_outcomes, trace_curves, trace_mean_curves
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
    path = name_predictions(tmp_path / "seed-0", "test")
    outcomes = collect_outcomes(path, "single_label", names)
    assert (outcomes.confusion == confusion_matrix(labels, logits.argmax(axis=1))).all()
    assert (outcomes.positives == np.bincount(labels)).all() and outcomes.total == 80
    probabilities = softmax(logits, axis=1)
    curves = trace_curves(path, "single_label", names, range(classes), outcomes.total)
    for label, (roc, (recall, precision)) in curves.items():
        assert trapezoid(*reversed(roc)) == pytest.approx(roc_auc_score(labels == label, probabilities[:, label]))
        expected = average_precision_score(labels == label, probabilities[:, label])
        assert measure_steps(recall, precision) == pytest.approx(expected)
        assert recall[0] == 0 and recall[-1] == 1
    if classes == 2:
        assert outcomes.brier == pytest.approx(brier_score_loss(labels, probabilities[:, 1]))
        number, probability, hits = outcomes.reliability
        assert number.sum() == 80 and hits.sum() == 40
        assert probability.sum() == pytest.approx(probabilities[:, 1].sum(), rel=1e-5)


def trapezoid(y: np.ndarray, x: np.ndarray) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def measure_steps(recall: np.ndarray, precision: np.ndarray) -> float:
    return float((np.diff(recall) * precision[1:]).sum())


# Scores of the positives and the negatives, and the share of positives.
SHAPES = {
    "nearly untrained": (lambda random, rows: (random.normal(0.01, 0.01, rows), random.normal(0, 0.01, rows)), 0.5),
    "good": (lambda random, rows: (random.normal(3, 1, rows), random.normal(0, 1, rows)), 0.5),
    "rare": (lambda random, rows: (random.normal(2, 1, rows), random.normal(0, 1, rows)), 0.002),
    # float32 probabilities are 1 from a logit of 17 on
    "sure of itself": (lambda random, rows: (random.normal(20, 5, rows), random.normal(12, 5, rows)), 0.3),
    "ties": (lambda random, rows: (random.integers(0, 4, rows), random.integers(-1, 3, rows)), 0.5),
}


@pytest.mark.parametrize("most", [None, 500], ids=["all scores", "quantiles"])
@pytest.mark.parametrize("shape", SHAPES)
def test_areas_under_the_drawn_curves_are_those_of_their_titles(tmp_path, monkeypatch, shape, most):
    if most is not None:
        monkeypatch.setattr(outcomes_module, "_MOST_SCORES", most)
        monkeypatch.setattr(outcomes_module, "_SAMPLE", 10_000)
    rows, random = 30_000, np.random.default_rng(0)
    scores, share = SHAPES[shape]
    labels = (random.random(rows) < share).astype(np.int64)
    odds = np.where(labels == 1, *scores(random, rows)).astype(np.float32)
    logits = np.stack([np.zeros(rows, np.float32), odds], axis=1)
    report = make_run(tmp_path, "single_label", logits, labels, ["a", "b"])
    path = name_predictions(tmp_path / "seed-0", "test")
    (x, y), (recall, precision) = trace_curves(path, "single_label", ["a", "b"], [1], rows)[1]
    assert max(len(x), len(recall)) <= 4001
    assert trapezoid(y, x) == pytest.approx(report["test"]["auroc"]["mean"], abs=1e-3)
    assert measure_steps(recall, precision) == pytest.approx(report["test"]["auprc"]["mean"], abs=1e-3)


def test_areas_under_the_mean_curves_of_many_labels_are_those_of_their_titles(tmp_path):
    random = np.random.default_rng(0)
    truth = random.random((2000, 12)) < np.linspace(0.01, 0.6, 12)
    truth[:, 3] = False  # without positives: in no mean
    logits = random.normal(size=truth.shape) + truth * np.linspace(0, 3, 12)
    names = [f"l{number}" for number in range(12)]
    report = make_run(tmp_path, "multi_label", logits, truth.astype(np.float32), names)
    path = name_predictions(tmp_path / "seed-0", "test")
    outcomes = collect_outcomes(path, "multi_label", names)
    (x, y), steps = trace_mean_curves(path, "multi_label", names, outcomes)
    assert trapezoid(y, x) == pytest.approx(report["test"]["auroc"]["mean"], abs=1e-3)
    assert measure_steps(*steps) == pytest.approx(report["test"]["auprc"]["mean"], abs=1e-3)


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
        # Shorter than 20 steps: each of them.
        assert [step["step"] for step in steps if "loss" in step] == [1, 2, 3, 4]
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
    paths = [name_predictions(tmp_path / "seed-0", "test")]
    legend = plots.draw_curves(report, "test", outcomes, paths).axes[-1].get_legend()
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


def draw_losses(losses: list[float], validation: list[float], counts: dict[str, int]) -> "tuple":
    """The axes of a loss plot of one seed, and its legend."""
    steps = [{"epoch": (step + 1) / len(losses), "loss": loss} for step, loss in enumerate(losses)]
    steps += [{"epoch": float(epoch + 1), "eval_loss": loss} for epoch, loss in enumerate(validation)]
    train = {"rows": sum(counts.values()), "rows_per_class": counts}
    report = {"data": {"problem": "single_label", "train": train}, "seeds": [0], "history": [steps]}
    figure = plots.draw_loss(report)
    return figure.axes[0], [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
def test_the_losses_fill_their_plot():
    axes, legend = draw_losses(list(np.linspace(0.70, 0.66, 30)), [0.69, 0.68], {"a": 50, "b": 50})
    low, high = axes.get_ylim()
    assert 0.6 < low < 0.66 and 0.70 < high < 0.75
    assert legend == ["training", "validation", "class frequencies alone: 0.693"]
    (line,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert line.get_ydata()[0] == pytest.approx(np.log(2))


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
def test_noise_of_a_model_that_learns_nothing_does_not_look_like_learning():
    axes, _ = draw_losses([0.6931 + 1e-4 * (-1) ** step for step in range(30)], [0.6931], {"a": 50, "b": 50})
    low, high = axes.get_ylim()
    assert high - low > 0.02 * 0.69 > 50 * 1e-4


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
def test_a_loss_far_below_the_line_keeps_its_scale():
    axes, legend = draw_losses(list(np.linspace(0.02, 0.018, 30)), [0.019], {"a": 50, "b": 50})
    assert axes.get_ylim()[1] < 0.03 and legend[-1] == "class frequencies alone: 0.693, not in view"
    axes, _ = draw_losses([50.0, 5.0, 0.5, 0.05], [0.1], {"a": 90, "b": 10})
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("problem", "train", "expected"),
    [
        ("single_label", {"rows": 4, "rows_per_class": {"a": 1, "b": 3, "c": 0}}, 0.5623),
        ("multi_label", {"rows": 4, "rows_per_class": {"a": 1, "b": 4}}, 0.2812),
        ("token", {"rows": 1, "bases_per_class": {"a": 5, "b": 5}}, 0.6931),
        ("regression", {"rows": 4, "targets": {"x": {"sd": 2.0}, "y": {"sd": 1.0}}}, 2.5),
    ],
)
def test_the_loss_of_a_model_that_never_looks(problem, train, expected):
    report = {"data": {"problem": problem, "train": train}}
    assert plots.measure_blind_loss(report) == pytest.approx(expected, abs=1e-4)


@pytest.mark.skipif(not FOUND, reason="matplotlib is not installed")
@pytest.mark.parametrize("case", CASES)
def test_no_text_is_cut_or_lies_over_curves(tmp_path, monkeypatch, case):
    problem, outputs, labels, _ = CASES[case]
    names = [f"class {number}" for number in range(outputs.shape[1])]
    report = make_run(tmp_path, problem, outputs, labels, names)
    figures = {}
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.update({path.stem: figure}))
    write_plots(report, tmp_path)
    for name, figure in figures.items():
        figure.draw_without_rendering()
        drawn, page = figure.get_tightbbox(), figure.bbox_inches
        cut = [drawn.x0 - page.x0, drawn.y0 - page.y0, page.x1 - drawn.x1, page.y1 - drawn.y1]
        assert min(cut) > -0.01, (name, cut)
        for axes in figure.axes if name != "confusion" else ():  # there, the figures are the plot
            inside = axes.get_window_extent()
            words = [*axes.texts, *((axes.get_legend(),) if axes.get_legend() else ()), *figure.legends]
            assert not [word for word in words if word.get_window_extent().overlaps(inside)], name
