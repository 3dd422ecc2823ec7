"""What does a run look like? Plots of its training and of the predictions that it wrote, as PNG files.

matplotlib is an extra (`pip install "gengram[plots]"`); it is imported only where something is drawn.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gengram.files import save_figure
from gengram.pipelines.predictions import name_predictions, read_predictions
from gengram.printable import label_plot
from gengram.progress import tell
from gengram.training.metrics.regression import measure_each_target
from gengram.training.reports.outcomes import Outcomes, collect_outcomes, trace_curves, trace_mean_curves
from gengram.training.reports.plot_names import FOLDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008): eight colours that colour-blind readers tell apart, the darkest last.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
_BLUE, _ORANGE = _COLOURS[:2]
_GREY = "#767676"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    # Names are no formulas, whatever a reader has in a matplotlibrc.
    "text.usetex": False,
}
# More curves than these cannot be told apart, more cells have no room for figures, more labels none for names.
_MOST_CURVES, _MOST_CELLS, _MOST_NAMES = 7, 12, 30
# Of more classes than these, the curves of the first seed only.
_MOST_OF_SEEDS = 4
_MOST_TARGETS, _MOST_POINTS = 6, 5000
# Losses of which the largest is more than so many times the smallest are drawn on a logarithmic axis.
_MOST_TIMES = 20


def write_plots(report: dict[str, Any], output: Path) -> list[dict[str, str]]:
    """Draw the plots of a finished run.

    Args:
        report: of the run, with its `history`; figures in the plots are those of the report.
        output: the run's folder, with the predictions of each seed; the plots go to its folder `plots`.

    Returns:
        For each plot `file`, its name relative to `output`, and `title`, what it shows. Without matplotlib there is
        none, and one line on standard error says so.
    """
    if find_spec("matplotlib") is None:
        tell("no plots: matplotlib is not installed (pip install 'gengram[plots]')")
        return []
    split = "test" if report["test"] else "validation"
    paths = [name_predictions(output / folder, split) for folder in report["model_folders"]]
    problem, classes = report["data"]["problem"], report["data"]["classes"]
    several = len(report["seeds"]) > 1
    rows = f"{split} {_name_unit(report)}" + (f", {len(report['seeds'])} seeds" if several else "")
    drawn: dict[str, tuple[str, Callable[[], Figure | None]]] = {
        "loss": ("Loss during the training", lambda: draw_loss(report))
    }
    if report[split] and problem == "regression":
        one = f", seed {report['seeds'][0]}" if several else ""
        drawn["scatter"] = (f"Predicted and measured values, {split} rows{one}", lambda: draw_scatter(report, paths[0]))
    elif report[split]:
        outcomes = [collect_outcomes(path, problem, classes) for path in paths]
        kinds = "Precision and recall" if problem == "token" else "ROC, precision and recall"
        drawn["curves"] = (
            f"{kinds}, {rows}",
            lambda: draw_curves(report, split, outcomes, paths, with_roc=problem != "token"),
        )
        if problem == "multi_label":
            drawn["labels"] = (f"AUROC and AUPRC of the labels, {rows}", lambda: draw_labels(report, split))
        else:
            drawn["confusion"] = (f"Confusion matrix, {rows}", lambda: draw_confusion(report, outcomes))
        drawn["calibration"] = (f"Calibration, {rows}", lambda: draw_calibration(report, outcomes))
    written = []
    for name, (title, draw) in drawn.items():
        with _set_style():
            figure = draw()
            if figure is not None:
                (output / FOLDER).mkdir(exist_ok=True)
                save_figure(figure, output / FOLDER / f"{name}.png")
                written.append({"file": f"{FOLDER}/{name}.png", "title": title})
    return written


def draw_loss(report: dict[str, Any]) -> "Figure | None":
    """Training and validation loss by epoch, a line for each seed, and that of a model that never looks at a sequence.

    None where nothing was logged.
    """
    figure, axes = _start(4.8, 3.2)
    several = f", {len(report['seeds'])} seeds" if len(report["seeds"]) > 1 else ""
    values: list[float] = []
    for key, label, colour in (("loss", "training", _BLUE), ("eval_loss", "validation", _ORANGE)):
        for position, steps in enumerate(report["history"]):
            points = [(step["epoch"], step[key]) for step in steps if step.get(key) is not None]
            if points:
                values += [value for _, value in points]
                marker = "o" if len(points) <= 60 else None
                name = None if position else label + several
                size = 2 if key == "loss" else 4
                axes.plot(*zip(*points), color=colour, marker=marker, markersize=size, alpha=0.8, label=name)
    if not values:
        return None
    regression = report["data"]["problem"] == "regression"
    blind = measure_blind_loss(report)
    low, high = _limit_loss(values, blind)
    if low > 0 and high > _MOST_TIMES * low:
        axes.set_yscale("log")
    if blind is not None:
        name = f"{'the mean' if regression else 'class frequencies'} alone: {blind:.3g}"
        if report.get("loss_weights"):
            name += " (unweighted)"
        if low < blind < high:
            axes.axhline(blind, color=_GREY, linewidth=1, linestyle=":", label=name)
        else:
            axes.plot([], [], color=_GREY, linewidth=1, linestyle=":", label=f"{name}, not in view")
    axes.set(
        xlabel="epoch",
        ylabel="mean squared error" if regression else "cross-entropy (nats)",
        ylim=(low, high),
        xmargin=0.02,
    )
    if axes.get_yscale() == "linear":
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.get_major_locator().set_params(integer=axes.get_xlim()[1] > 2)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure


def measure_blind_loss(report: dict[str, Any]) -> float | None:
    """Return the loss on the training rows of the best guess that is the same for every row; None if it is not known.

    That is the entropy of the class frequencies in nats (of several labels the mean of theirs), of a regression the
    variance (the mean of the targets').
    """
    described, problem = report["data"].get("train"), report["data"]["problem"]
    if not described:
        return None
    if problem == "regression":
        return float(np.mean([target["sd"] ** 2 for target in described["targets"].values()]))
    counts = np.array(list((described.get("rows_per_class") or described["bases_per_class"]).values()), dtype=float)
    shares = counts / (described["rows"] if problem == "multi_label" else counts.sum())
    if problem == "multi_label":
        shares = np.stack([shares, 1 - shares], axis=1)
    entropies = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=-1)
    return float(np.mean(entropies))


def _limit_loss(values: list[float], blind: float | None) -> tuple[float, float]:
    """Return limits that show what changes: those of the losses, and of the line for no learning where it is near.

    What varies by less than a twentieth is shown as that: it may be noise.
    """
    low, high = min(values), max(values)
    if blind is not None and low - 2 * (high - low) - 0.02 * low <= blind <= high + 2 * (high - low) + 0.02 * high:
        low, high = min(low, blind), max(high, blind)
    missing = max(0.05 * abs(high) - (high - low), 0) / 2
    low, high = low - missing, high + missing
    if low > 0 and high > _MOST_TIMES * low:
        return low / 1.2, high * 1.2
    margin = 0.06 * ((high - low) or 1)
    return low - margin, high + margin


def draw_curves(
    report: dict[str, Any], split: str, outcomes: list[Outcomes], paths: list[Path], with_roc: bool = True
) -> "Figure":
    """ROC and precision-recall curves of each class, a line for each seed.

    Of several labels, those of each where they are few, else their means: the areas are the means of the labels' areas.
    """
    problem, names, each = report["data"]["problem"], report["data"]["classes"], report["per_class"][split]
    positives, total = outcomes[0].positives, outcomes[0].total
    pooled = problem == "multi_label" and len(names) > _MOST_CURVES
    binary = problem != "multi_label" and len(names) == 2
    frequent = np.argsort(-positives, kind="stable")[:_MOST_CURVES]
    shown = [1] if binary else sorted(frequent[positives[frequent] > 0].tolist())
    if not pooled and len(shown) > _MOST_OF_SEEDS:
        paths = paths[:1]
    figure, panels = _start(3.2 * (1 + with_roc) + (0 if pooled or binary else 1.6), 3.5, columns=1 + with_roc)
    panels = np.atleast_1d(panels)
    style: dict[str, Any] = {"alpha": 0.85, "linewidth": 1.4 if len(paths) == 1 else 1.0}
    for position, (path, one) in enumerate(zip(paths, outcomes)):
        if pooled:
            curves = {0: trace_mean_curves(path, problem, names, one)}
        else:
            curves = trace_curves(path, problem, names, shown, total)
        for order, (label, (roc, precision)) in enumerate(curves.items()):
            name = (
                None
                if pooled or position
                else f"{label_plot(names[label])}\n{_list_areas(each, names[label], with_roc)}"
            )
            if with_roc:
                panels[0].plot(*roc, color=_COLOURS[order], **style)
            panels[-1].plot(*precision, color=_COLOURS[order], drawstyle="steps-pre", **style, label=name)
    if with_roc:
        panels[0].plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
        panels[0].set(xlabel="false positive rate", ylabel="true positive rate")
    panels[-1].set(xlabel="recall", ylabel="precision")
    share = None
    if binary or pooled:
        share = positives[1] / total if binary else positives[positives > 0].mean() / total if positives.any() else 0
        panels[-1].axhline(share, color=_GREY, linewidth=0.8, linestyle=":")
    else:
        notes = []
        if len(shown) < np.count_nonzero(positives):
            notes.append(f"{len(shown)} most frequent of {len(names)} classes")
        if len(shown) > _MOST_OF_SEEDS and len(outcomes) > 1:
            notes.append(f"curves of seed {report['seeds'][0]}")
        if not shown:
            notes.append("no positives")
        panels[-1].legend(
            *panels[-1].get_legend_handles_labels(),
            loc="center left",
            bbox_to_anchor=(1.03, 0.5),
            handlelength=1.2,
            labelspacing=0.9,
            title="\n".join(notes) or None,
            title_fontsize=8,
            alignment="left",
        )
    kinds = (("AUROC", "auroc"), ("AUPRC", "auprc")) if with_roc else (("AUPRC", "auprc"),)
    for panel, (title, metric) in zip(panels, kinds):
        value = _show_metric(report[split][metric])
        title = f"{title} of class {label_plot(names[1])}: {value}" if binary else f"mean {title} {value}"
        if pooled:
            title += f"\nmean curve of {np.count_nonzero((positives > 0) & (positives < total)):,} labels"
        if share is not None:
            dotted = f"share of positives {share:.2g}" if metric == "auprc" else "random scores"
            title += f"\ndotted: {dotted}"
        panel.set_title(title, loc="left")
        panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return figure


def draw_labels(report: dict[str, Any], split: str) -> "Figure":
    """AUROC and AUPRC of each label, means over the seeds: a dot each, or their distribution where they are many."""
    each, names = report["per_class"][split], report["data"]["classes"]
    many = len(names) > _MOST_NAMES
    figure, panels = _start(6.8, 3.0 if many else 1.3 + 0.22 * len(names), columns=2, sharey=not many)
    for panel, (title, metric, colour) in zip(panels, (("AUROC", "auroc", _BLUE), ("AUPRC", "auprc", _ORANGE))):
        values = [each[metric][name] for name in names]
        defined = np.array([value for value in values if value is not None])
        panel.set(xlabel=title, xlim=(-0.02, 1.02))
        if len(defined):
            panel.axvline(np.median(defined), color="black", linewidth=0.8, linestyle="--")
            panel.set_title(f"median {np.median(defined):.3f} of {len(defined):,} of {len(names):,} labels", loc="left")
        if many:
            panel.hist(defined, np.linspace(0, 1, 41), color=colour)
            panel.set_ylabel("labels")
        else:
            rows = [row for row, value in enumerate(values) if value is not None]
            panel.plot(defined, rows, "o", color=colour, markersize=4)
            panel.set_yticks(range(len(names)), [label_plot(name) for name in names])
            panel.set_ylim(len(names) - 0.5, -0.5)
            panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        if metric == "auroc":
            panel.axvline(0.5, color=_GREY, linewidth=0.8, linestyle=":")
    return figure


def draw_confusion(report: dict[str, Any], outcomes: list[Outcomes]) -> "Figure":
    """Share of each true class that was predicted as each class, means over the seeds."""
    names = [label_plot(name) for name in report["data"]["classes"]]
    matrices = [one.confusion for one in outcomes if one.confusion is not None]
    numbers = matrices[0].sum(axis=1)
    shares = np.mean(matrices, axis=0) / np.maximum(numbers, 1)[:, None]
    side = min(2.2 + 0.55 * len(names), 8.0)
    figure, axes = _start(side + 0.5, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    long = len(names) > 4 or max(map(len, names)) > 8
    axes.set_xticks(range(len(names)), names, rotation=45 if long else 0, ha="right" if long else "center")
    counted = len(names) <= _MOST_CELLS
    sides = [f"{name}\n({number:,})" if counted else name for name, number in zip(names, numbers)]
    axes.set_yticks(range(len(names)), sides)
    axes.set(
        xlabel="predicted class", ylabel=f"true class (number of {_name_unit(report)})" if counted else "true class"
    )
    if not counted:
        axes.tick_params(labelsize=6)
    if len(names) > _MOST_NAMES:
        axes.tick_params(labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if counted:
        for (row, column), share in np.ndenumerate(shares):
            if numbers[row]:
                colour = "white" if share > 0.6 else "black"
                axes.text(column, row, _show_percent(share), ha="center", va="center", color=colour)
        axes.set_title("share of the true class", loc="left")
    else:
        figure.colorbar(image, shrink=0.8, label="share of the true class")
    return figure


def draw_calibration(report: dict[str, Any], outcomes: list[Outcomes]) -> "Figure":
    """Share of hits by predicted probability in ten bins, a line for each seed, above the numbers in the bins."""
    figure, (axes, below) = _start(3.6, 4.0, rows=2, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for one in outcomes:
        # Fewer decisions than these say little about a share.
        enough = one.reliability[0] >= max(1, min(10, one.reliability[0].sum() / 100))
        number, probability, hits = one.reliability[:, enough]
        axes.plot(probability / number, hits / number, color=_BLUE, marker="o", markersize=3.5, alpha=0.8)
    errors, scores = [one.calibration_error for one in outcomes], [one.brier for one in outcomes]
    axes.set_title(f"ECE {np.mean(errors):.3f}, Brier score {np.mean(scores):.3g}", loc="left")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share of hits")
    numbers = np.mean([one.reliability[0] for one in outcomes], axis=0)
    edges = np.linspace(0, 1, len(numbers) + 1)
    below.bar(edges[:-1], numbers, np.diff(edges) * 0.92, align="edge", color="#9ecae1")
    if numbers.max() > 50 * np.median(numbers):
        below.set(yscale="log", ylim=(0.5, None))
    names = report["data"]["classes"]
    if report["data"]["problem"] == "multi_label":
        what, unit = "probability of a label", "decisions"
    else:
        chosen = f"class {label_plot(names[1])}" if len(names) == 2 else "the predicted class"
        what = f"probability of {chosen}"
        unit = _name_unit(report)
    below.set(xlabel=what, ylabel=unit)
    return figure


def draw_scatter(report: dict[str, Any], path: Path) -> "Figure":
    """Predicted against measured values of each target, by the model of the first seed."""
    names = report["data"]["classes"]
    parts = list(read_predictions(path, "regression", names))
    guesses, truths = (np.concatenate(side) for side in zip(*parts))
    each = measure_each_target(guesses, truths)
    shown = names[:_MOST_TARGETS]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure, panels = _start(3.1 * columns + 0.3, 3.6 * rows, rows=rows, columns=columns)
    panels = np.atleast_1d(panels).ravel()
    for position, (panel, name) in enumerate(zip(panels, shown)):
        guess, truth = guesses[:, position], truths[:, position]
        low, high = min(guess.min(), truth.min()), max(guess.max(), truth.max())
        margin = 0.04 * ((high - low) or 1)
        limits = (low - margin, high + margin)
        panel.plot(limits, limits, color=_GREY, linewidth=0.8, linestyle=":")
        if len(guess) > _MOST_POINTS:
            panel.hexbin(truth, guess, gridsize=60, bins="log", cmap="Blues", mincnt=1, extent=(*limits, *limits))
        else:
            size = 18 if len(guess) <= 200 else 6
            panel.scatter(truth, guess, s=size, color=_BLUE, alpha=0.7 if len(guess) <= 200 else 0.4, linewidths=0)
        figures = {title: each[metric][position] for title, metric in _CORRELATIONS}
        line = ", ".join(f"{title} {'-' if np.isnan(value) else f'{value:.2f}'}" for title, value in figures.items())
        panel.set_title(f"{label_plot(name)}\n{line}", loc="left")
        predicted = "predicted" if len(report["seeds"]) == 1 else f"predicted (seed {report['seeds'][0]})"
        panel.set(xlim=limits, ylim=limits, aspect="equal", xlabel="measured", ylabel=predicted)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    return figure


_CORRELATIONS = (("Pearson", "pearson"), ("Spearman", "spearman"), ("R²", "r2"))


@contextmanager
def _set_style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def _start(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> "tuple[Figure, Any]":
    # No pyplot: it would choose a window system, and keep every figure.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _name_unit(report: dict[str, Any]) -> str:
    return "bases" if report["data"]["problem"] == "token" else "rows"


def _list_areas(each: dict[str, dict[str, float | None]], name: str, with_roc: bool) -> str:
    kinds = (("AUROC", "auroc"), ("AUPRC", "auprc")) if with_roc else (("AUPRC", "auprc"),)
    return ", ".join(f"{title} {'-' if each[key][name] is None else f'{each[key][name]:.3f}'}" for title, key in kinds)


def _show_metric(metric: dict[str, Any]) -> str:
    if metric["mean"] is None:
        return "not defined"
    return f"{metric['mean']:.3f}" + (f" ± {metric['sd']:.3f}" if metric["sd"] is not None else "")


def _show_percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


__all__ = ["write_plots"]
