"""Is one evaluated model better than another? Two entrants of reports of `gengram evaluate`, task by task and together.

Only what was measured alike is compared: a task counts where its name, the checksum of its rows and the version of the
protocol agree. What is left out is told with its reason, as an average over other tasks is another average.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gengram.benchmarks.evaluation.cells import Predictions, read_predictions
from gengram.benchmarks.evaluation.report import show
from gengram.errors import InputError
from gengram.loading.evaluations import PREDICTIONS, list_models, read_evaluation
from gengram.markdown import escape_text, format_table
from gengram.phases import phase
from gengram.printable import label_plot
from gengram.progress import track
from gengram.training.metrics.paired import LEVEL, LOWER_IS_BETTER, Difference, compare_rows, compare_suite
from gengram.training.problems import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {"font.size": 8, "savefig.dpi": 150, "text.usetex": False}
_BETTER, _WORSE, _OPEN = "#1b6ca8", "#c05020", "#888888"
_MOST_TASKS = 80  # of a figure


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        folder: that `gengram evaluate` has written to.
        entrant: its name in the report.
        report: of the folder.
    """

    folder: Path
    entrant: str
    report: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What the comparison says of it; JSON."""
        facts = self.report["entrants"][self.entrant]
        kept = ("kind", "protocol", "version", "settings", "seeds", "fingerprint", "source", "revision", "random")
        return {"folder": str(self.folder), "entrant": self.entrant, **{name: facts[name] for name in kept}}


def open_side(text: str) -> Side:
    """
    Return the entrant that a word of the command line names.

    Args:
        text: a folder of `gengram evaluate`, or FOLDER:NAME where it holds several models; baselines have names, too.

    Raises:
        `InputError`: no such folder, no report in it, no or several entrants of that name.
    """
    folder, name = _split(text)
    report = read_evaluation(folder)
    if name is not None:
        found = [one for one in report["entrants"] if one == name] or [
            one for one in report["entrants"] if one.removeprefix("baseline:") == name
        ]
        if not found:
            known = ", ".join(map(repr, report["entrants"]))
            raise InputError(f"{folder}: there is no entrant {name!r} in its report; there are {known}")
        return Side(folder, found[0], report)
    models = list_models(report)
    if len(models) != 1:
        names = ", ".join(f"{folder}:{one}" for one in models or report["entrants"])
        raise InputError(f"{folder}: its report has {len(models)} models; say which one: {names}")
    return Side(folder, models[0], report)


def _split(text: str) -> tuple[Path, str | None]:
    """Return the folder and the name behind it; either may hold colons, and the longest folder that there is counts."""
    if Path(text).exists():
        return Path(text), None
    places = [place for place, letter in enumerate(text) if letter == ":"]
    for place in reversed(places):
        if text[:place] and Path(text[:place]).exists():
            return Path(text[:place]), text[place + 1 :]
    raise InputError(f"{text}: there is no such folder; give one that gengram evaluate has written to, or FOLDER:NAME")


def compare_sides(a: Side, b: Side, metric: str | None = None) -> dict[str, Any]:
    """
    Compare two entrants on all tasks that both were measured on alike.

    Args:
        a, b: the entrants.
        metric: instead of each task's own.

    Returns:
        JSON: `a` and `b`; `tasks`, for each the fields of `Difference` and `holm`; `suite`, the fields of
        `SuiteDifference`; `left_out`, for each other task of either side the reason; `notes`.

    Raises:
        `InputError`: both are the same, or there is no task to compare.
    """
    if (a.folder.resolve(), a.entrant) == (b.folder.resolve(), b.entrant):
        raise InputError(f"{a.folder}: {a.entrant!r} would be compared with itself; give two entrants")
    left_out: dict[str, str] = {}
    shared: list[tuple[str, str]] = []
    for task in dict.fromkeys([*a.report["tasks"], *b.report["tasks"]]):
        chosen = metric or a.report["tasks"].get(task, {}).get("metric", "")
        reason = _find_reason(a, b, task, chosen)
        if reason is None:
            shared.append((task, chosen))
        else:
            left_out[task] = reason
    if not shared:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in list(left_out.items())[:3])
        more = f"; and {len(left_out) - 3} more tasks" if len(left_out) > 3 else ""
        raise InputError(f"{a.folder} and {b.folder} have no task that can be compared. {reasons}{more}")
    differences: dict[str, Difference] = {}
    with phase("Comparing", unit="tasks") as comparing, track(shared, desc="comparisons", unit="task") as bar:
        for task, chosen in bar:
            one, other = (_read(side, task) for side in (a, b))
            _check_rows(a, b, task, one, other)
            problem = a.report["tasks"][task]["problem"]
            differences[task] = compare_rows(problem, chosen, one.outputs, other.outputs, one.labels)
            comparing.add(1)
    suite = compare_suite(list(differences.values()))
    return {
        "a": a.describe(),
        "b": b.describe(),
        "metric": metric,
        "tasks": {task: {**one.describe(), "holm": holm} for (task, one), holm in zip(differences.items(), suite.holm)},
        "suite": suite.describe(),
        "left_out": left_out,
        "notes": _list_notes(a, b, differences),
    }


def _find_reason(a: Side, b: Side, task: str, metric: str) -> str | None:
    """Return why a task cannot be compared; None if it can."""
    for side in (a, b):
        if task not in side.report["tasks"]:
            return f"{side.folder} has not evaluated it"
        cell = side.report["cells"][task].get(side.entrant, {"status": "not evaluated"})
        if cell["status"] != "done":
            reason = cell.get("reason")
            return f"{side.entrant} has no score in {side.folder}: {cell['status']}{f', {reason}' if reason else ''}"
    one, other = (side.report["tasks"][task] for side in (a, b))
    if one["fingerprint"] != other["fingerprint"]:
        return f"not the same rows: {_name_rows(one)} and {_name_rows(other)}"
    if one["problem"] != other["problem"]:
        return f"it was evaluated as {one['problem']} and as {other['problem']}"
    if metric not in METRICS.get(one["problem"], ()):
        return f"{one['problem']} has no metric {metric!r}; it has {', '.join(METRICS.get(one['problem'], ()))}"
    protocols = [side.report["entrants"][side.entrant] for side in (a, b)]
    if protocols[0]["protocol"] == protocols[1]["protocol"] and protocols[0]["version"] != protocols[1]["version"]:
        return (
            f"{protocols[0]['protocol']} of version {protocols[0]['version']} and {protocols[1]['version']}: what a "
            "version changes may move a score; evaluate again"
        )
    return None


def _name_rows(task: dict[str, Any]) -> str:
    rows = ", ".join(f"{count:,} {split}" for split, count in task["rows"].items())
    return f"{rows} ({task['fingerprint'][:12]})"


def _read(side: Side, task: str) -> Predictions:
    return read_predictions(side.folder / PREDICTIONS / side.report["cells"][task][side.entrant]["predictions"])


def _check_rows(a: Side, b: Side, task: str, one: Predictions, other: Predictions) -> None:
    """Reports may be right and the files beside them others."""
    for side, found in ((a, one), (b, other)):
        expected = side.report["tasks"][task]["rows"].get("test")
        if expected != len(found.labels):
            raise InputError(
                f"{side.folder}: the predictions of {side.entrant} on {task} are of {len(found.labels)} rows, and the "
                f"report has {expected}; evaluate again"
            )
    if one.outputs.shape[2] != other.outputs.shape[2] or not np.array_equal(one.labels, other.labels):
        raise InputError(
            f"{task}: the predictions of {a.folder} and {b.folder} are of other labels, though by the reports the rows "
            "are the same: a file was changed; evaluate again"
        )


def _list_notes(a: Side, b: Side, differences: dict[str, Difference]) -> list[str]:
    one, other = a.describe(), b.describe()
    notes = []
    if "baseline" in (one["kind"], other["kind"]):
        pass  # it is its own protocol
    elif one["protocol"] != other["protocol"]:
        notes.append(
            f"A was judged by {one['protocol']} and B by {other['protocol']}: the difference is one of both, model and "
            "protocol"
        )
    elif one["settings"] != other["settings"]:
        changed = sorted(name for name in {*one["settings"], *other["settings"]} if _differ(one, other, name))
        notes.append(f"the settings of {one['protocol']} differ: {', '.join(changed)}")
    few = [name for name, side in (("A", one), ("B", other)) if len(side["seeds"]) < 3 and side["kind"] == "model"]
    if few:
        notes.append(
            f"fewer than three seeds of {' and of '.join(few)}: intervals and p are of these trainings, and what other "
            "seeds would change is not in them"
        )
    if len({found.metric for found in differences.values()}) > 1:
        notes.append("the tasks have different metrics: their mean difference is one of numbers of different kinds")
    return notes


def _differ(one: dict[str, Any], other: dict[str, Any], name: str) -> bool:
    return one["settings"].get(name) != other["settings"].get(name)


def render_comparison(found: dict[str, Any]) -> str:
    """Return a comparison as Markdown: a row for each task, a line for all, what was left out."""
    rows = [
        [
            escape_text(task),
            one["metric"],
            f"{one['rows']:,}",
            show(one["a"]),
            show(one["b"]),
            _show_signed(one["difference"]),
            _show_ends(one["interval"]),
            _show_share(one["p"]),
            _show_share(one["holm"]),
        ]
        for task, one in found["tasks"].items()
    ]
    head = ["task", "metric", "rows", "A", "B", "A - B", "95 % interval", "p", "p (Holm)"]
    parts = [
        "\n".join(f"- {name}: {_name_side(found[key])}" for name, key in (("A", "a"), ("B", "b"))),
        format_table(head, rows, numbers=range(2, 9)),
        summarize_suite(found["suite"]),
    ]
    methods = sorted({one["method"] for one in found["tasks"].values()})
    notes = [f"Intervals and p: {'; '.join(methods)}.", *(f"{_raise(note)}." for note in found["notes"])]
    parts.append("\n".join(f"- {escape_text(note)}" for note in notes))
    if found["left_out"]:
        lines = [f"- {escape_text(task)}: {escape_text(reason)}" for task, reason in found["left_out"].items()]
        parts.append("\n".join([f"Left out, {len(lines)}:", "", *lines]))
    return "\n\n".join(parts) + "\n"


def summarize_suite(suite: dict[str, Any]) -> str:
    """Return what two entrants differ by over all tasks, as sentences."""
    tasks = suite["tasks"]
    if not tasks:
        return "No task has a difference that is defined."
    named = f"{tasks} task{'s' if tasks > 1 else ''}"
    counted = f"A is better on {suite['wins']} of {named}, worse on {suite['losses']}, as good on {suite['ties']}; "
    counted += f"by Holm's p below {LEVEL:.2f} better on {suite['better']} and worse on {suite['worse']}."
    interval = (
        f" ({_show_ends(suite['interval'])}; {suite['method']})"
        if suite["interval"]
        else " (no interval of fewer than three tasks)"
    )
    mean = f" Mean difference in A's favour {_show_signed(suite['mean'])}{interval}"
    return f"{counted}{mean}; Wilcoxon's signed ranks p = {_show_share(suite['p'])}."


def draw_comparison(found: dict[str, Any]) -> "Figure":
    """Draw by how much A is better on each task, with intervals, largest first, and the mean of all below."""
    import matplotlib
    from matplotlib.figure import Figure

    known = [(task, one) for task, one in found["tasks"].items() if one["difference"] is not None]
    known = sorted(known, key=lambda pair: -_turn(pair[1])[0])
    shown, suite = known[:_MOST_TASKS], found["suite"]
    several = len({one["metric"] for _, one in shown}) > 1
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 1.3 + 0.24 * (len(shown) + 1)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="black", linewidth=0.8)
        names = []
        for place, (task, one) in enumerate(shown):
            gain, interval = _turn(one)
            certain = one["holm"] is not None and one["holm"] < LEVEL
            colour = (_BETTER if gain > 0 else _WORSE) if certain else _OPEN
            if interval:
                axes.plot(interval, [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([gain], [place], "o", color=colour, markersize=4.5)
            names.append(label_plot(f"{task} ({one['metric']})" if several else task, 56))
        if suite["mean"] is not None and len(shown) > 1:
            below = len(shown) + 0.4
            if suite["interval"]:
                axes.plot(suite["interval"], [below, below], color="black", linewidth=1.6, solid_capstyle="butt")
            axes.plot([suite["mean"]], [below], "D", color="black", markersize=5)
            axes.axhline(len(shown) - 0.3, color="lightgrey", linewidth=0.8)
            names.append(f"mean of {suite['tasks']} tasks")
        places = [*range(len(shown)), *([len(shown) + 0.4] if len(names) > len(shown) else [])]
        axes.set_yticks(places, names)
        axes.set_ylim((places or [0])[-1] + 0.7, -0.7)
        axes.tick_params(axis="y", length=0)
        for name in ("top", "right", "left"):
            axes.spines[name].set_visible(False)
        metric = "" if several or not shown else f" in {shown[0][1]['metric']}"
        entrants = [label_plot(found[side]["entrant"], 60) for side in ("a", "b")]
        axes.set_title(f"A: {entrants[0]}\nB: {entrants[1]}", loc="left", fontsize=8)
        axes.set_xlabel(f"by how much A is better{metric}, with 95 % intervals\ncoloured: Holm's p below {LEVEL:.2f}")
    return figure


def _turn(one: dict[str, Any]) -> tuple[float, list[float] | None]:
    """Return by how much A is better, and the interval: of a loss the opposite of the difference."""
    if one["metric"] not in LOWER_IS_BETTER:
        return one["difference"], one["interval"]
    return -one["difference"], one["interval"] and [-end for end in reversed(one["interval"])]


def _name_side(side: dict[str, Any]) -> str:
    seeds = f"seed{'s' if len(side['seeds']) > 1 else ''} {', '.join(map(str, side['seeds']))}"
    protocol = "" if side["kind"] == "baseline" else f"{side['protocol']} {side['version']}, "
    return escape_text(f"{side['entrant']} of {side['folder']} ({protocol}{seeds})")


def _raise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _show_signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _show_ends(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _show_share(share: float | None) -> str:
    if share is None:
        return "-"
    return "< 0.0001" if share < 0.0001 else f"{share:.4f}" if share < 0.1 else f"{share:.2f}"


__all__ = ["Side", "compare_sides", "draw_comparison", "open_side", "render_comparison", "summarize_suite"]
