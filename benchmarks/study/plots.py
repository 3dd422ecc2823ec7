"""What does a study look like? Curves of every architecture with bands over seeds, and the differences beside zero."""

import math
from typing import TYPE_CHECKING, Any

from gengram.benchmarks.study.statistics import summarize_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, DIFFERENCES = "curves.png", "differences.png"
# Colours of Okabe and Ito (2008), which colour-blind readers tell apart.
_ARMS = {
    "none": ("#E69F00", "no memory"),
    "memory": ("#0072B2", "memory"),
    "memory-equal-flops": ("#56B4E9", "memory, equal FLOPs"),
    "none-wider": ("#CC79A7", "no memory, as many parameters"),
}
_COMPARISONS = {
    "tokens": ("#0072B2", "equal tokens"),
    "flops": ("#56B4E9", "equal FLOPs"),
    "parameters": ("#CC79A7", "equal parameters"),
}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.usetex": False,
}
_GUESS = 2.0  # bits a base


def draw_curves(report: dict[str, Any]) -> "Figure | None":
    """Training and held-out bits per base by step, a panel for each architecture; None without curves."""
    import matplotlib
    from matplotlib.figure import Figure

    architectures = list(report["architectures"])
    models = list(report["models"].values())
    values = [value for model in models for kind in ("training", "held_out") for _, value in model[kind]]
    if not values:
        return None
    columns = min(3, len(architectures))
    lines = math.ceil(len(architectures) / columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(0.6 + 2.9 * columns, 0.9 + 2.4 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, architecture in zip(panels, architectures):
            panel.set_title(architecture)
            for arm, (colour, label) in _ARMS.items():
                own = [model for model in models if (model["architecture"], model["arm"]) == (architecture, arm)]
                if not own:
                    continue
                training = summarize_curves([model["training"] for model in own])
                panel.plot(training["x"], training["mean"], color=colour, linewidth=0.9, alpha=0.6)
                panel.fill_between(
                    training["x"], training["low"], training["high"], color=colour, alpha=0.2, linewidth=0
                )
                held = summarize_curves([model["held_out"] for model in own])
                spread = [
                    [abs(mean - edge) for mean, edge in zip(held["mean"], held[side])] for side in ("low", "high")
                ]
                panel.errorbar(
                    held["x"],
                    held["mean"],
                    yerr=spread,
                    color=colour,
                    label=label,
                    fmt="o--",
                    markersize=3,
                    linewidth=1.2,
                )
            panel.axhline(_GUESS, color="#767676", linewidth=0.8, linestyle=":")
        for panel in panels[len(architectures) :]:
            panel.set_visible(False)
        # The first steps, from worse than a guess, would leave no room for the rest.
        low = min(values)
        panels[0].set_ylim(low - 0.05 * (_GUESS - low) - 0.002, max(_GUESS + 0.1 * abs(_GUESS - low), low + 0.02))
        figure.supxlabel("optimizer step", fontsize=9)
        figure.supylabel("bits per base", fontsize=9)
        handles: dict[str, Any] = {}
        for panel in panels[: len(architectures)]:
            for handle, label in zip(*panel.get_legend_handles_labels()):
                handles.setdefault(label, handle)
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


def draw_differences(report: dict[str, Any]) -> "Figure | None":
    """Memory minus none of each architecture and comparison, with both intervals and a dot for each seed."""
    import matplotlib
    from matplotlib.figure import Figure

    found = {
        (architecture, comparison): one["difference"]
        for architecture, of_architecture in report["architectures"].items()
        for comparison, one in of_architecture["differences"].items()
    }
    if not found:
        return None
    architectures = list(dict.fromkeys(architecture for architecture, _ in found))
    comparisons = [name for name in _COMPARISONS if any(comparison == name for _, comparison in found)]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 1.1 + 0.28 * len(architectures) * (len(comparisons) + 0.5)), layout="constrained")
        axes = figure.subplots()
        reach = 0.0
        for (architecture, comparison), one in found.items():
            colour, label = _COMPARISONS[comparison]
            height = architectures.index(architecture) + (comparisons.index(comparison) + 0.5) / (
                len(comparisons) + 0.5
            )
            if one["over_windows"]:
                axes.hlines(height, *one["over_windows"], color=colour, linewidth=4, alpha=0.6)
                reach = max(reach, *map(abs, one["over_windows"]))
            if one["over_seeds"]:
                axes.hlines(height, *one["over_seeds"], color=colour, linewidth=1)
            axes.plot(one["per_seed"], [height] * len(one["per_seed"]), "o", color=colour, markersize=3)
            first = architecture == next(name for name, other in found if other == comparison)
            axes.plot([one["mean"]], [height], "|", color="black", markersize=9, label=label if first else None)
            if first:
                axes.plot([], [], color=colour, linewidth=4, label=label)
            reach = max(reach, *map(abs, one["per_seed"]))
        axes.axvline(0, color="#767676", linewidth=0.8, linestyle=":")
        axes.set_yticks(
            [place + len(comparisons) / 2 / (len(comparisons) + 0.5) for place in range(len(architectures))],
            architectures,
        )
        axes.invert_yaxis()
        # Two seeds can leave an interval that is wider than everything else: it runs out of the picture.
        axes.set_xlim(-2.2 * reach - 1e-6, 2.2 * reach + 1e-6)
        axes.set_xlabel("bits per base, memory minus none  (left of 0: the memory helps)")
        handles, labels = axes.get_legend_handles_labels()
        kept = {label: handle for label, handle in zip(labels, handles)}
        figure.legend(kept.values(), kept.keys(), loc="outside upper center", ncols=3, fontsize=8)
    return figure


__all__ = ["CURVES", "DIFFERENCES", "draw_curves", "draw_differences"]
