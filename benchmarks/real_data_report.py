"""The scores of `real_data` as two Markdown tables and a plot: what each model reaches, and what it costs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gengram.files import save_figure, write_json, write_text
from gengram.markdown import escape_text, format_table

ARMS = {
    "no_memory": "no memory",
    "memory": "with memory",
    "wider": "no memory, as many parameters",
    "longer": "no memory, 3 times the steps",
}
LINEAR = {
    "kmer_lr": "6-mer LR",
    "kmer_lr_10000": "6-mer LR, 10,000 rows",
    "one_hot_lr": "one-hot LR",
}


def tabulate(report: dict[str, Any]) -> str:
    """Two Markdown tables: scores, and what they cost."""
    tasks = {task: found for task, found in report["tasks"].items() if "arms" in found}
    arms = list(dict.fromkeys(arm for found in tasks.values() for arm in found["arms"]))
    rows = [
        [
            "task",
            "rows (train / test)",
            "test rows in train",
            "classes",
            "bp",
            *LINEAR.values(),
            *(ARMS[arm] for arm in arms),
        ]
    ]
    costs = [["task", "backbone", "arm", "parameters", "seconds", "processor seconds", "test AUROC", "per seed"]]
    for task, found in report["tasks"].items():
        if "arms" not in found:
            rows.append([task, escape_text(found["skipped"]), *[""] * (len(rows[0]) - 2)])
            continue
        linear = found["linear"]
        bp = "-".join(str(length) for length in dict.fromkeys(linear["length"]))
        cells = ["-" if linear[name] is None else f"{linear[name]:.3f}" for name in LINEAR]
        cells += [_show_spread(found["arms"][arm]["test_mcc"]) for arm in arms]
        numbers = f"{linear['rows']['train']:,} / {linear['rows']['test']:,}"
        shared = str(sum(linear["test_in_train"].values()))  # as they are or as the reverse complement
        rows.append([task, numbers, shared, str(linear["classes"]), bp, *cells])
        for arm, scored in found["arms"].items():
            costs.append(
                [
                    task,
                    found["backbone"],
                    ARMS[arm],
                    f"{scored['parameters']:,}",
                    f"{scored['seconds']:.0f}",
                    f"{scored['cpu_seconds']:.0f}",
                    f"{scored['test_auroc']:.3f}",
                    ", ".join(f"{score:.3f}" for score in scored["test_mcc"]["per_seed"]),
                ]
            )
    return "\n\n".join(format_table(table[0], table[1:]) for table in (rows, costs) if len(table) > 1)


def _show_spread(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f}" + (f" ± {score['sd']:.3f}" if score["sd"] is not None else "")


def plot_scores(report: dict[str, Any], path: Path) -> None:
    """Test MCC of every model on every task: mean as a line, a dot for each seed with its 95% interval of the rows."""
    from matplotlib.figure import Figure

    tasks = [task for task, found in report["tasks"].items() if "arms" in found]
    names = ["kmer_lr", "one_hot_lr", *dict.fromkeys(arm for task in tasks for arm in report["tasks"][task]["arms"])]
    figure = Figure(figsize=(4 + 1.6 * len(tasks), 3.6), layout="constrained")
    axes = figure.subplots()
    for place, task in enumerate(tasks):
        found = report["tasks"][task]
        for column, name in enumerate(names):
            at, color = place + (column + 0.5) / len(names) * 0.8 - 0.4, f"C{column}"
            label = (LINEAR | ARMS)[name] if place == 0 else None
            if name in LINEAR:
                if found["linear"][name] is not None:
                    axes.plot([at], [found["linear"][name]], "s", color=color, label=label)
                continue
            score = found["arms"][name]["test_mcc"]
            count = len(score["per_seed"])
            seeds = at + (np.arange(count) - (count - 1) / 2) * 0.04
            spread = np.abs(np.array(score["intervals"], dtype=float).T - score["per_seed"])
            axes.errorbar(
                seeds, score["per_seed"], yerr=spread, fmt="o", color=color, markersize=3, linewidth=0.8, label=label
            )
            axes.hlines(score["mean"], at - 0.08, at + 0.08, color=color)
    axes.axhline(0, color="silver", linewidth=0.8)
    axes.set_xticks(range(len(tasks)), tasks, fontsize="small")
    axes.set_ylabel("Matthews correlation on the test rows")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path, dpi=150)


def write_results(report: dict[str, Any], output: Path) -> None:
    """results.json, results.md and, where matplotlib is, scores.png."""
    write_json(report, output / "results.json")
    write_text(tabulate(report) + "\n", output / "results.md")
    if find_spec("matplotlib") and any("arms" in found for found in report["tasks"].values()):
        plot_scores(report, output / "scores.png")


__all__ = ["ARMS", "LINEAR", "plot_scores", "tabulate", "write_results"]
