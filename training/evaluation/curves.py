"""How does a model get better while it is trained? One picture of all that its evaluations have measured.

matplotlib is an extra (`pip install "gengram[plots]"`); it is imported only where something is drawn.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gengram.files import save_figure
from gengram.printable import label_plot
from gengram.progress import tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): colours that colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#767676"
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "legend.fontsize": 7,
    "lines.linewidth": 1.3,
    "savefig.dpi": 150,
    # Names are no formulas, whatever a reader has in a matplotlibrc.
    "text.usetex": False,
}
_GUESS = 2.1  # bits per base: a little more than those of a guess among four
_MARKED = 40  # points of a line that have a dot each
_MOST_LINES = len(_COLOURS)
_MOST_TIMES = 10  # of the smallest value: beyond, an axis is logarithmic
_PREFIX = "eval_"  # of an evaluation's metrics in a log of Trainer
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.7, 2.6
_LEGEND_ROOM = 0.085  # of a panel's height, for each line of its legend

Panel = Callable[["Axes", "_History"], None]


class _History:
    """The lines of a log: those of the training and those of evaluations, by tokens (or steps) that were read."""

    def __init__(self, lines: Iterable[Mapping[str, Any]]):
        self.training: list[tuple[float, Mapping[str, Any]]] = []
        self.evaluations: list[tuple[float, dict[str, float]]] = []
        self.stages: list[float] = []
        listed = list(lines)
        self.unit = "tokens" if all("tokens" in line for line in listed) else "step"
        stage = None
        for number, line in enumerate(listed):
            place = float(line.get(self.unit, number))
            if stage is not None and line.get("stage", stage) != stage:
                self.stages.append(place)
            stage = line.get("stage", stage)
            metrics = {name.removeprefix(_PREFIX): value for name, value in line.items() if name.startswith(_PREFIX)}
            numbers = {name: float(value) for name, value in metrics.items() if _is_number(value)}
            if numbers:
                self.evaluations.append((place, numbers))
            if _is_number(line.get("loss")):
                self.training.append((place, line))
        self.end = max([1.0, *(place for place, _ in [*self.training, *self.evaluations])])

    def trace(self, name: str) -> list[tuple[float, float]]:
        """Return a metric of the evaluations by what had been read."""
        return [(place, metrics[name]) for place, metrics in self.evaluations if name in metrics]

    def trace_training(self, name: str) -> list[tuple[float, float]]:
        """Return a number of the training's own lines by what had been read."""
        return [(place, float(line[name])) for place, line in self.training if _is_number(line.get(name))]

    def find(self, pattern: str) -> dict[str, str]:
        """Return the first group of a pattern, in order of appearance (numbers: in their order) -> the metric."""
        found: dict[str, str] = {}
        for _, metrics in self.evaluations:
            for name in metrics:
                if (match := re.fullmatch(pattern, name)) is not None:
                    found.setdefault(match[1], name)
        return dict(sorted(found.items(), key=lambda item: int(item[0]) if item[0].isdigit() else 0))


def draw_curves(
    history: Iterable[Mapping[str, Any]], path: Path, references: Mapping[str, float] | None = None
) -> bool:
    """Draw what was logged so far; the file is replaced as a whole each time.

    Panels: bits per base (with the interval, beside references) and the loss; by species, by class of region; both
    strands and haplotypes; strength of the memories' writes and their gates; the logit lens; the balance of experts.
    What was not measured has no panel.

    Args:
        history: lines of a log as `gengram pretrain` writes them (`log.jsonl`): `tokens` or `step`, `loss`,
            `bits_per_base`, `stage` where there are stages, and the metrics of `evaluate_corpus` with `eval_` in front.
        path: of the picture, a PNG file.
        references: bits per base of other models of the same bases, by name: Markov models, compression.

    Returns:
        Whether there is a picture: there is none without an evaluation or a loss, nor without matplotlib, which one
        line on standard error says.
    """
    if find_spec("matplotlib") is None:
        tell("no curves: matplotlib is not installed (pip install 'gengram[plots]')")
        return False
    import matplotlib

    found = _History(history)
    panels = _choose_panels(found, references or {})
    if not panels:
        return False
    with matplotlib.rc_context(_STYLE):
        figure = _draw(panels, found)
        save_figure(figure, path)
    return True


def name_references(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the lines that `draw_curves` draws for what `measure_references` has found, name -> bits per base.

    Of the Markov models it is the best order, of each compressor the better form of its input.
    """
    lines: dict[str, float | None] = {}
    for kind, label in (("one_for_all", ""), ("one_a_species", ", one a species")):
        found = measured["markov"][kind]
        if label and len(found["by_species"]) < 2:
            continue
        lines[f"Markov {found['best_order']}{label}"] = found["best"]
    for name in ("gzip", "xz"):
        forms = [measured["compression"][f"{name}_{form}"] for form in ("text", "packed")]
        lines[name] = min((bits for bits in forms if bits is not None), default=None)
    return {name: bits for name, bits in lines.items() if bits is not None}


def _draw(panels: Sequence[Panel], history: _History) -> "Figure":
    # No pyplot: it would choose a window system, and keep every figure.
    from matplotlib.figure import Figure

    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(places, panels):
        panel(axes, history)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def _choose_panels(history: _History, references: Mapping[str, float]) -> list[Panel]:
    panels: list[Panel] = []
    if history.trace("bits_per_base"):
        panels.append(lambda axes, found: _draw_bits(axes, found, references))
    if history.training:
        panels.append(_draw_loss)
    for title, pattern in (
        ("bits per base by species", r"species/(.+)/bits_per_base"),
        ("bits per base by class of region", r"class/(.+)/bits_per_base"),
    ):
        lines = history.find(pattern)
        if lines:
            panels.append(
                _make_lines(title, "bits per base", {label_plot(label): name for label, name in lines.items()})
            )
    pairs = {
        "strands, mean distance": "strand/gap",
        "forward minus reverse": "strand/difference",
        "haplotypes minus reference": "haplotype/difference",
    }
    if pairs := {label: name for label, name in pairs.items() if history.trace(name)}:
        panels.append(_make_lines("two readings of the same windows", "bits per base", pairs, ".4f", zero=True))
    for title, unit, name in (
        ("memory: strength of the write", "‖residual‖ / ‖hidden‖", "write_ratio"),
        ("memory: share of gates open", "share of positions", "gate_open"),
    ):
        lines = {f"layer {layer}": metric for layer, metric in history.find(rf"memory/layer_(\d+)/{name}").items()}
        if lines:
            panels.append(_make_lines(title, unit, lines, ".3g", zero=True))
    if history.find(r"logit_lens/layer_(\d+)/kl"):
        panels.append(_draw_lens)
    if history.trace("experts/balance_mean"):
        panels.append(_draw_balance)
    return panels


def _draw_bits(axes: "Axes", history: _History, references: Mapping[str, float]) -> None:
    axes.set_title("bits per base")
    training = history.trace_training("bits_per_base")
    if training:
        axes.plot(*zip(*training), color=_GREY, linewidth=0.8, alpha=0.7, label="training")
    held_out = history.trace("bits_per_base")
    _plot(axes, held_out, _BLUE, f"held out: {held_out[-1][1]:.3f}")
    low, high = history.trace("bits_per_base_low"), history.trace("bits_per_base_high")
    if low and len(low) == len(high):
        ends = [[value for _, value in one] for one in (low, high)]
        axes.fill_between([place for place, _ in low], ends[0], ends[1], color=_BLUE, alpha=0.18, linewidth=0)
    shown = sorted(references.items(), key=lambda item: item[1])
    styles = ("--", ":", "-.")
    for number, (name, value) in enumerate(shown):
        colour = _COLOURS[1:][number % (_MOST_LINES - 1)]
        axes.axhline(
            value,
            color=colour,
            linewidth=0.9,
            linestyle=styles[number // (_MOST_LINES - 1) % 3],
            label=f"{label_plot(name)}: {value:.3f}",
        )
    _finish(axes, history, "bits per base")
    _limit_bits(axes, [value for _, value in [*training, *held_out]], [value for _, value in shown])
    _add_legend(axes)


def _draw_loss(axes: "Axes", history: _History) -> None:
    axes.set_title("loss")
    training, held_out = history.trace_training("loss"), history.trace("loss")
    _plot(axes, training, _GREY, "training")
    if held_out:
        _plot(axes, held_out, _BLUE, "held out")
    _finish(axes, history, "nats a token")
    _set_scale(axes, [value for _, value in training + held_out])
    _add_legend(axes)


def _make_lines(title: str, unit: str, lines: Mapping[str, str], digits: str = ".3f", zero: bool = False) -> Panel:
    """Return what draws some metrics, label -> name; `zero` is a line of its own where it is in view."""
    chosen = dict(list(lines.items())[:_MOST_LINES])

    def draw(axes: "Axes", history: _History) -> None:
        left_out = len(lines) - len(chosen)
        axes.set_title(f"{title} ({len(chosen)} of {len(lines)})" if left_out else title)
        values = []
        for colour, (label, name) in zip(_COLOURS, chosen.items()):
            points = history.trace(name)
            values += [value for _, value in points]
            _plot(axes, points, colour, f"{label}: {points[-1][1]:{digits}}")
        if zero and min(values) < 0:
            axes.axhline(0, color=_GREY, linewidth=0.8, linestyle=":")
        elif zero:
            axes.set_ylim(bottom=0, top=max(values) * 1.1 or 1)
        else:
            _limit_bits(axes, values)
        _finish(axes, history, unit)
        _add_legend(axes)

    return draw


def _draw_lens(axes: "Axes", history: _History) -> None:
    """KL by layer: the last evaluation, and earlier ones in lighter colours."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title("logit lens: KL(last layer ‖ layer)")
    layers = history.find(r"logit_lens/layer_(\d+)/kl")
    measured = [one for one in history.evaluations if set(layers.values()) <= set(one[1])]
    chosen = sorted({round(place * (len(measured) - 1) / 3) for place in range(4)})
    values = []
    for order, number in enumerate(chosen):
        place, metrics = measured[number]
        points = [(int(layer), metrics[name]) for layer, name in layers.items()]
        values += [value for _, value in points]
        label = f"{_show_number(place)} {history.unit}" if history.unit == "tokens" else f"step {place:g}"
        alpha = 0.25 + 0.75 * (order + 1) / len(chosen)
        axes.plot(*zip(*points), color=_BLUE, alpha=alpha, marker="o", markersize=3, label=label)
    axes.set(xlabel="layer", ylabel="nats", ylim=(0, max(values) * 1.1 or 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(axes)


def _draw_balance(axes: "Axes", history: _History) -> None:
    axes.set_title("balance of experts (1: even)")
    for colour, name in ((_BLUE, "mean"), (_ORANGE, "max")):
        points = history.trace(f"experts/balance_{name}")
        _plot(axes, points, colour, f"{name} of the layers: {points[-1][1]:.3f}")
    axes.axhline(1, color=_GREY, linewidth=0.8, linestyle=":")
    _finish(axes, history, "E · Σ f P")
    _add_legend(axes)


def _plot(axes: "Axes", points: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    marker = "o" if len(points) <= _MARKED else None
    axes.plot(*zip(*points), color=colour, marker=marker, markersize=3, label=label)


def _finish(axes: "Axes", history: _History, unit: str) -> None:
    from matplotlib.ticker import EngFormatter

    for place in history.stages:
        axes.axvline(place, color=_GREY, linewidth=0.6, linestyle=(0, (1, 3)))
    axes.set(xlabel="tokens read" if history.unit == "tokens" else "step", ylabel=unit)
    axes.set_xlim(-0.03 * history.end, 1.03 * history.end)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.ticklabel_format(axis="y", useOffset=False)


def _limit_bits(axes: "Axes", values: Sequence[float], others: Sequence[float] = ()) -> None:
    """Leave out of view what is worse than a guess: the first steps of a training would hide all that comes later."""
    seen = [value for value in values if value <= _GUESS] or list(values)
    low, high = min([*seen, *others]), max([*seen, *others])
    margin = 0.06 * (high - low or 0.1)
    axes.set_ylim(low - margin, high + margin)


def _set_scale(axes: "Axes", values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) > _MOST_TIMES * min(values):
        axes.set_yscale("log")


def _add_legend(axes: "Axes") -> None:
    """Put the legend above all lines, into a room that the axis is made longer by."""
    entries = len(axes.get_legend_handles_labels()[1])
    room = min(_LEGEND_ROOM * entries, 0.5)
    low, high = axes.get_ylim()
    longer = room / (1 - room)
    axes.set_ylim(low, high * (high / low) ** longer if axes.get_yscale() == "log" else high + longer * (high - low))
    axes.legend(loc="upper right", handlelength=1.4, labelspacing=0.3)


def _show_number(value: float) -> str:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(places=1 if value >= 1000 else 0, sep="")(value)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) != float("inf")
    )


__all__ = ["draw_curves", "name_references"]
