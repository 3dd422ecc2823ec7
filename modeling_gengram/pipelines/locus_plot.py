"""How probable is each feature along a locus? A plot, one panel a feature.

matplotlib is an extra (`pip install "gengram[plots]"`); it is imported only where something is drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gengram.files import save_figure
from gengram.genome.tracks import Locus, find_runs
from gengram.printable import label_plot

# Okabe and Ito (2008), as in gengram.training.reports.plots; one colour a panel, so that neighbours differ.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#767676"
# Columns of pixels that a panel has, more or less: more points than these are drawn as the largest of each column.
_MOST_POINTS = 1500


def plot_locus(
    path: Path, locus: Locus, probabilities: np.ndarray, features: Sequence[str], threshold: float = 0.5
) -> None:
    """Draw the probabilities along a locus as a PNG file.

    Args:
        path: of the file; replaced if it is there.
        locus: what is shown.
        probabilities: float [bp, features]; gaps where they are not numbers. In a locus longer than 1500 bp a point
            stands for several bases: their mean is dark, their largest value pale, so that features of few bases are
            seen, and a frequent one does not fill its panel.
        features: names of the columns.
        threshold: drawn as a dotted line.
    """
    import matplotlib
    from matplotlib.figure import Figure

    bp, count = probabilities.shape
    width = -(-bp // _MOST_POINTS)
    padded = np.full((-(-bp // width) * width, count), np.nan, dtype=np.float32)
    padded[:bp] = probabilities
    columns = padded.reshape(-1, width, count)
    known = np.asarray(~np.isnan(columns).all(axis=1))
    present = ~np.isnan(columns)
    highest = np.where(known, np.where(present, columns, -np.inf).max(axis=1), np.nan)
    means = np.where(present, columns, 0).sum(axis=1) / np.where(known, present.sum(axis=1), np.nan)
    edges = np.minimum(locus.start + width * np.arange(len(columns) + 1), locus.end)
    style: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "text.usetex": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 0.8 + 0.55 * count), layout="constrained")
        panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for position, (panel, feature) in enumerate(zip(panels, features)):
            colour = _COLOURS[position % len(_COLOURS)]
            if width > 1:
                panel.stairs(highest[:, position], edges, fill=True, color=colour, alpha=0.25, linewidth=0)
            panel.stairs(means[:, position], edges, fill=True, color=colour, alpha=0.8, linewidth=0)
            panel.axhline(threshold, color=_GREY, linewidth=0.6, linestyle=":")
            panel.set_ylabel(label_plot(feature.replace("_", " ")), rotation=0, ha="right", va="center")
            for first, end in find_runs(~known[:, position]):
                panel.axvspan(edges[first], edges[end], color="#E8E8E8", linewidth=0)
        panels[0].set(ylim=(0, 1), yticks=(0, 1), xlim=(locus.start, locus.end))
        panels[-1].set_xlabel(f"{label_plot(locus.chrom, 60)}, bp (from 0)")
        panels[-1].xaxis.set_major_formatter("{x:,.0f}")
        shown = "probability of each base"
        if width > 1:
            shown = f"probability, mean (dark) and largest (pale) of every {width} bp"
        grey = "; grey: no value" if not known.all() else ""
        panels[0].set_title(f"{shown}; dotted: {threshold:g}{grey}", loc="left", fontsize=8)
        save_figure(figure, path, dpi=150)


__all__ = ["plot_locus"]
