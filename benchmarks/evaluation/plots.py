"""What does an evaluation look like? A heat map, tasks by entrants, with intervals, and published scores beside it.

matplotlib is an extra (`pip install "gengram[plots]"`); it is imported only where something is drawn.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gengram.loading.evaluations import find_score
from gengram.printable import label_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {"font.size": 8, "savefig.dpi": 150, "text.usetex": False}
_COLUMN, _ROW = 0.86, 0.36  # inches of a cell
_MOST_ENTRANTS, _MOST_TASKS, _MOST_PUBLISHED = 24, 60, 8
_DARK = 0.55  # share of a colour map's range from which letters on it are light
# Where a model that knows nothing is; colours begin there.
_CHANCE = {"auroc": 0.5, "mcc": 0.0, "pearson": 0.0, "spearman": 0.0, "r2": 0.0}


_HEADINGS = {"model": "models", "baseline": "baselines", "published": "published"}


class Column(NamedTuple):
    """An entrant, or a model of a publication; scores and intervals task by task."""

    name: str
    kind: str  # model, baseline or published
    scores: list[float | None]
    intervals: list[list[float] | None]


def draw_scores(report: dict[str, Any]) -> "Figure | None":
    """Draw scores of entrants on tasks, each in its task's metric, and published ones of the same; None without any."""
    tasks = list(report["tasks"])[:_MOST_TASKS]
    columns = [*_list_entrants(report, tasks), *_list_published(report, tasks)]
    metrics = [report["tasks"][task]["metric"] for task in tasks]
    names = [f"{task} ({metric})" for task, metric in zip(tasks, metrics)]
    return draw_grid(names, metrics, columns, _explain(columns, report))


def draw_grid(tasks: Sequence[str], metrics: Sequence[str], columns: Sequence[Column], note: str) -> "Figure | None":
    """
    Draw a heat map; None without a score.

    Colours run, in each row, from what a model that knows nothing reaches to the best there is in the row: they compare
    entrants on a task, and not tasks. Below a score stands its interval. A cell without a score is hatched, and of a
    publication empty.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if not any(score is not None for column in columns for score in column.scores):
        return None
    colours = matplotlib.colormaps["Blues"]
    groups = [index for index in range(1, len(columns)) if columns[index].kind != columns[index - 1].kind]
    with matplotlib.rc_context(_STYLE):
        labels = [label_plot(column.name, 44) for column in columns]
        names = [label_plot(task, 56) for task in tasks]
        above, beside = (0.06 * max(map(len, texts)) for texts in (labels, names))
        width = 1.2 + beside + _COLUMN * len(columns) + 0.15 * len(groups) + 0.6 * above
        figure = Figure(figsize=(max(width, 5), 1.3 + 0.75 * above + _ROW * len(tasks)), layout="constrained")
        axes = figure.subplots()
        places = [index + 0.15 * sum(index >= group for group in groups) for index in range(len(columns))]
        for row, metric in enumerate(metrics):
            shares = _spread([column.scores[row] for column in columns], metric)
            for place, column, share in zip(places, columns, shares):
                score, interval = column.scores[row], column.intervals[row]
                face = "white" if share is None else colours(0.08 + 0.82 * share)
                hatch = "////" if share is None and column.kind != "published" else None
                edge = "white" if hatch is None else "lightgrey"
                axes.add_patch(Rectangle((place, row), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=1))
                if share is None:
                    continue
                ink = "white" if share > _DARK else "black"
                middle = row + (0.34 if interval else 0.5)
                axes.text(place + 0.5, middle, f"{score:.3f}", ha="center", va="center", color=ink)
                if interval:
                    ends = f"{interval[0]:.3f}, {interval[1]:.3f}"
                    axes.text(place + 0.5, row + 0.73, ends, ha="center", va="center", color=ink, fontsize=5.5)
        axes.set_xlim(0, places[-1] + 1)
        axes.set_ylim(len(metrics), 0)
        axes.set_xticks([place + 0.5 for place in places], labels, rotation=40, ha="left", rotation_mode="anchor")
        axes.xaxis.tick_top()
        axes.set_yticks([row + 0.5 for row in range(len(metrics))], names)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        for kind, heading in _HEADINGS.items():
            own = [place for place, column in zip(places, columns) if column.kind == kind]
            if own and groups:
                middle, below = (own[0] + own[-1] + 1) / 2, (0.0, -9.0)  # points
                axes.annotate(
                    heading,
                    (middle, float(len(metrics))),
                    xytext=below,
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontstyle="italic",
                )
        axes.set_xlabel(note, loc="left", fontsize=6.5, color="#555555", labelpad=16 if groups else 4)
    return figure


def _list_entrants(report: dict[str, Any], tasks: list[str]) -> list[Column]:
    columns = []
    for name, entrant in list(report["entrants"].items())[:_MOST_ENTRANTS]:
        scores = [find_score(report, task, name) for task in tasks]
        intervals = [
            None
            if score is None
            else report["cells"][task][name]["metrics"][report["tasks"][task]["metric"]]["row_interval"]
            for task, score in zip(tasks, scores)
        ]
        columns.append(Column(name, entrant["kind"], scores, intervals))
    return columns


def _list_published(report: dict[str, Any], tasks: list[str]) -> list[Column]:
    """The models with most published scores in the metrics of these tasks."""
    found: dict[str, dict[str, tuple[float, bool]]] = {}
    for task in tasks:
        for one in report["tasks"][task]["published"]:
            if one["metric"] == report["tasks"][task]["metric"]:
                found.setdefault(one["model"], {}).setdefault(task, (one["value"], one["status"] != "verified"))
    chosen = sorted(found, key=lambda model: -len(found[model]))[:_MOST_PUBLISHED]
    columns = []
    for model in chosen:
        star = "*" if any(is_unsure for _, is_unsure in found[model].values()) else ""
        scores = [found[model][task][0] if task in found[model] else None for task in tasks]
        columns.append(Column(f"{model}{star}", "published", scores, [None] * len(tasks)))
    return columns


def _spread(scores: list[float | None], metric: str) -> list[float | None]:
    """Return for each score of a row its share of the way from chance to the best one."""
    known = [score for score in scores if score is not None]
    if not known:
        return [None] * len(scores)
    sign = -1.0 if metric == "loss" else 1.0
    best = max(sign * score for score in known)
    chance = _CHANCE.get(metric, min(sign * score for score in known))
    width = best - chance
    return [
        None if score is None else float(np.clip((sign * score - chance) / width, 0, 1)) if width > 0 else 0.0
        for score in scores
    ]


def _explain(columns: Sequence[Column], report: dict[str, Any]) -> str:
    several = any(
        len(cell["metrics"][report["tasks"][task]["metric"]]["per_seed"]) > 1
        for task, cells in report["cells"].items()
        for name, cell in cells.items()
        if find_score(report, task, name) is not None
    )
    runs = f"mean over seeds {label_plot(', '.join(map(str, report['seeds'])))}" if several else "one run"
    lines = [
        f"protocol {label_plot(report['protocol']['name'])} {report['protocol']['version']}; {runs}; "
        "below: 95 % interval over the test rows"
    ]
    if any(column.kind == "published" for column in columns):
        lines.append("published scores: same metric, other protocol or rows; * from memory or off a picture")
    if any(score is None for column in columns if column.kind != "published" for score in column.scores):
        lines.append("hatched: no score")
    return "\n".join(lines)


__all__ = ["Column", "draw_grid", "draw_scores"]
