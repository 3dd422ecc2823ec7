"""What has a study found? Bits per base of every arm, paired differences and their certainty, cost, use of experts.

One report in three forms: `study.json` with all figures, `study.md` for a reader, and two pictures.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gengram.benchmarks.study.models import StudiedModel, find_arms
from gengram.benchmarks.study.plan import show_time
from gengram.benchmarks.study.plots import CURVES, DIFFERENCES, draw_curves, draw_differences
from gengram.benchmarks.study.published import SOURCE, find_published
from gengram.benchmarks.study.statistics import (
    HELPS,
    HURTS,
    OPEN,
    Estimate,
    estimate_mean,
    explain_difference,
    judge_difference,
)
from gengram.files import save_figure, write_json, write_text
from gengram.markdown import escape_text, format_code, format_image, format_table
from gengram.progress import tell

REPORT = "study.json"
MARKDOWN = "study.md"
SCORED = ("parameters", "seconds", "cpu_seconds", "peak_bytes", "balance", "training", "held_out")
"""What is known of a model beside the bits and bases of its windows."""
EQUAL = {"tokens": "equal tokens", "flops": "equal FLOPs", "parameters": "equal parameters"}
_MEANINGS = {
    "tokens": "both models read the same blocks in the same order; the memory's operations and parameters come on top",
    "flops": "the same number of optimizer steps, and fewer blocks a step for the model with memory, by the memory's "
    "share of the operations (as it is defined, whichever form computes it)",
    "parameters": "both read the same blocks; the MLP or the experts of the model without memory are wider",
}


def make_report(
    models: Sequence[StudiedModel],
    comparisons: Sequence[str],
    scores: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """
    Compare what the models of a study needed for the held-out windows.

    Args:
        models: of `list_models`.
        comparisons: of `COMPARISONS`.
        scores: of each model what `train_model` has written; empty for one that has failed.
        failed: name -> reason.

    Returns:
        `models`, by name; `architectures`: for each its `arms` (`bits_per_base` as an `Estimate`, cost, `balance`) and
        its `differences`, by comparison (`difference` as an `Estimate`, `verdict`, `sentence`, what was equal, and what
        the paper has); `all`: for each comparison the mean of the architectures' differences; `complete`.
    """
    preset = models[0].preset
    seeds = sorted({model.seed for model in models})
    found = {model.name: scores[model.name] for model in models if scores.get(model.name)}
    answer: dict[str, Any] = {
        "format": 1,
        "preset": preset.name,
        "block_size": preset.block_size,
        "steps": preset.steps,
        "seeds": seeds,
        "compare": list(comparisons),
        "complete": len(found) == len(models),
        "failed": dict(failed),
        "models": {model.name: _describe(model, found[model.name]) for model in models if model.name in found},
        "architectures": {},
        "all": {},
    }
    architectures = list(dict.fromkeys(model.architecture for model in models))
    matrices: dict[str, dict[str, dict[int, np.ndarray]]] = {comparison: {} for comparison in comparisons}
    for architecture in architectures:
        own = [model for model in models if model.architecture == architecture and model.name in found]
        arms = {
            arm: [model for model in own if model.arm.name == arm] for arm in dict.fromkeys(m.arm.name for m in own)
        }
        answer["architectures"][architecture] = {
            "arms": {arm: _summarize_arm(some, found) for arm, some in arms.items()},
            "differences": {},
        }
        for comparison in comparisons:
            ours, plain = find_arms(preset, architecture, comparison)
            by_seed = _subtract(own, ours.name, plain.name, found)
            matrices[comparison][architecture] = by_seed
            if by_seed:
                answer["architectures"][architecture]["differences"][comparison] = {
                    "memory": ours.name,
                    "none": plain.name,
                    "tokens_ratio": ours.blocks_per_step / plain.blocks_per_step,
                    "flops_ratio": ours.step_flops / plain.step_flops,
                    "parameters_ratio": ours.parameters / plain.parameters,
                    **_judge(by_seed, found),
                    "paper": find_published(architecture),
                }
    for comparison, of_architectures in matrices.items():
        common = set.intersection(*(set(by_seed) for by_seed in of_architectures.values()))
        if common:
            mean = {seed: np.mean([one[seed] for one in of_architectures.values()], axis=0) for seed in sorted(common)}
            answer["all"][comparison] = {"architectures": len(of_architectures), **_judge(mean, found)}
    return answer


def _describe(model: StudiedModel, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own figures; those of its windows stay in its file of scores."""
    tokens, seconds = model.arm.count_tokens(model.preset), scores["seconds"]
    return {
        "architecture": model.architecture,
        "arm": model.arm.name,
        "seed": model.seed,
        "bits_per_base": sum(scores["bits"]) / sum(scores["bases"]),
        "tokens": tokens,
        "flops": model.preset.steps * model.arm.step_flops,
        "tokens_per_second": tokens / seconds if seconds else None,
        **{name: scores[name] for name in SCORED},
    }


def _summarize_arm(models: Sequence[StudiedModel], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    arm, preset = models[0].arm, models[0].preset
    scores = [found[model.name] for model in models]
    seconds = float(np.mean([one["seconds"] for one in scores]))
    tokens = arm.count_tokens(preset)
    balances = [one["balance"] for one in scores if one["balance"]]
    return {
        "seeds": [model.seed for model in models],
        "bits_per_base": estimate_mean(np.array([one["bits"] for one in scores]), _read_bases(found)).describe(),
        "parameters": arm.parameters,
        "active_parameters": arm.active,
        "width": arm.width,
        "blocks_per_step": arm.blocks_per_step,
        "tokens": tokens,
        "flops": preset.steps * arm.step_flops,
        "memory_share": arm.memory_flops / arm.step_flops,
        "seconds": seconds,
        "cpu_seconds": float(np.mean([one["cpu_seconds"] for one in scores])),
        "tokens_per_second": tokens / seconds if seconds else None,
        "balance_mean": float(np.mean([one["experts/balance_mean"] for one in balances])) if balances else None,
        "balance_max": max(one["experts/balance_max"] for one in balances) if balances else None,
    }


def _subtract(
    models: Sequence[StudiedModel], ours: str, plain: str, found: Mapping[str, Mapping[str, Any]]
) -> dict[int, np.ndarray]:
    """Bits of each window with memory minus those without, by seed; only seeds that have both."""
    bits = {(model.arm.name, model.seed): np.array(found[model.name]["bits"]) for model in models}
    seeds = sorted({seed for arm, seed in bits if (ours, seed) in bits and (plain, seed) in bits})
    return {seed: bits[ours, seed] - bits[plain, seed] for seed in seeds}


def _judge(by_seed: Mapping[int, np.ndarray], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    difference = estimate_mean(np.array(list(by_seed.values())), _read_bases(found))
    return {
        "seeds": list(by_seed),
        "difference": difference.describe(),
        "verdict": judge_difference(difference),
        "sentence": explain_difference(difference),
    }


def _read_bases(found: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """Bases of each window: the same for all models."""
    return np.array(next(iter(found.values()))["bases"])


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write study.json, study.md and, where matplotlib is, the pictures."""
    pictures = {}
    if not report["models"]:
        tell("no pictures: no model was trained")
    elif find_spec("matplotlib") is None:
        tell("no pictures: matplotlib is not installed (pip install 'gengram[plots]')")
    else:
        for name, draw in ((CURVES, draw_curves), (DIFFERENCES, draw_differences)):
            if (figure := draw(report)) is not None:
                save_figure(figure, folder / name)
                pictures[name] = True
    write_text(render_markdown(report, list(pictures)), folder / MARKDOWN)
    write_json(report, folder / REPORT)


def render_markdown(report: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The report for a reader."""
    held = report["held_out"]
    few = len(report["seeds"])
    parts = [
        "# Does the memory help? Six architectures with and without it"
        if len(report["architectures"]) == 6
        else "# Does the memory help? Architectures with and without it",
        f"Preset {format_code(report['preset'])}: {report['steps']:,} optimizer steps, blocks of "
        f"{report['block_size']:,} bases, {few} seed{'s' if few > 1 else ''}; corpus {escape_text(report['corpus'])}. "
        f"Final figures are of {held['windows']:,} windows ({held['bases']:,} bases) of the {held['split']} contigs, "
        f"which no model has read: {escape_text(', '.join(held['contigs']))} "
        f"({escape_text(', '.join(held['species']))}). Less is better; 2 bits a base is a guess.",
    ]
    if report["failed"]:
        parts.append("**Not complete.** These models have failed, and are left out:")
        parts.append("\n".join(f"- {name}: {escape_text(reason)}" for name, reason in report["failed"].items()))
    if report["markov"]:
        parts.append(_show_markov(report["markov"]))
    for comparison in report["compare"]:
        parts += [f"## At {EQUAL[comparison]}", f"{_MEANINGS[comparison].capitalize()}.".replace("mlp", "MLP")]
        parts += [_count_verdicts(report, comparison), _tabulate_differences(report, comparison)]
        parts.append(_list_sentences(report, comparison))
    if pictures:
        titles = {
            CURVES: "Bits per base of training batches (lines) and held-out windows (points): mean and extremes of the "
            "seeds.",
            DIFFERENCES: "Memory minus none: thick the interval over windows, thin that over seeds, a dot each seed.",
        }
        parts += ["## Pictures", *(format_image(titles[name], name) for name in pictures)]
    parts += ["## What it costs", _tabulate_cost(report)]
    if balance := _tabulate_balance(report):
        parts += ["## Balance of the experts", balance]
    parts += ["## How certain this is", _list_limits(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _show_markov(markov: dict[str, Any]) -> str:
    bits = markov["bits_per_base"]
    best = min(bits, key=lambda order: bits[order])
    shown = ", ".join(f"{bits[order]:.4f}" for order in bits)
    return (
        f"Markov models of the orders {next(iter(bits))} to {list(bits)[-1]}, fitted to {markov['bases']:,} bases of "
        f"the training contigs, need {shown} bits per base for the same windows: the best, of order {best}, "
        f"{bits[best]:.4f}."
    )


def _list_differences(report: dict[str, Any], comparison: str) -> dict[str, dict[str, Any]]:
    return {
        architecture: found["differences"][comparison]
        for architecture, found in report["architectures"].items()
        if comparison in found["differences"]
    }


def _count_verdicts(report: dict[str, Any], comparison: str) -> str:
    verdicts = [one["verdict"] for one in _list_differences(report, comparison).values()]
    if not verdicts:
        return "No seed of any architecture has both models."
    counts = ", ".join(f"{verdict} in {verdicts.count(verdict)}" for verdict in (HELPS, HURTS))
    number = f"{len(verdicts)} architecture{'s' if len(verdicts) > 1 else ''}"
    line = f"Of {number} the memory {counts}; of {verdicts.count(OPEN)} it cannot be told."
    if (mean := report["all"].get(comparison)) and mean["architectures"] > 1:
        line += f" Mean of the {mean['architectures']}: {_show_estimate(mean['difference'])}."
    return line


def _tabulate_differences(report: dict[str, Any], comparison: str) -> str:
    rows = []
    for architecture, one in _list_differences(report, comparison).items():
        arms, paper = report["architectures"][architecture]["arms"], one["paper"]
        difference = one["difference"]
        rows.append(
            [
                architecture,
                _show_bits(arms[one["none"]]["bits_per_base"]),
                _show_bits(arms[one["memory"]]["bits_per_base"]),
                f"{difference['mean']:+.4f}",
                _show_interval(difference["over_windows"]),
                _show_interval(difference["over_seeds"]),
                one["verdict"],
                f"{one['tokens_ratio']:.3f} / {one['flops_ratio']:.3f} / {one['parameters_ratio']:.3f}",
                f"{paper['none']:.4f} -> {paper['memory']:.4f} ({paper['difference']:+.4f})",
            ]
        )
    if not rows:
        return ""
    head = ["architecture", "none (bits per base)", "with memory", "difference", "95 % over windows"]
    head += ["95 % over seeds", "the memory", "tokens / FLOPs / parameters, with : without", "the paper's loss"]
    return format_table(head, rows)


def _list_sentences(report: dict[str, Any], comparison: str) -> str:
    found = _list_differences(report, comparison)
    return "\n".join(f"- {architecture}: {one['sentence']}" for architecture, one in found.items())


def _tabulate_cost(report: dict[str, Any]) -> str:
    rows = []
    for architecture, found in report["architectures"].items():
        for arm, one in found["arms"].items():
            rate = one["tokens_per_second"]
            rows.append(
                [
                    architecture,
                    arm,
                    f"{one['parameters']:,}",
                    f"{one['active_parameters']:,}",
                    f"{one['tokens']:,}",
                    f"{one['flops']:.2e}",
                    f"{one['memory_share']:.1%}",
                    show_time(one["seconds"] / 3600),
                    show_time(one["cpu_seconds"] / 3600),
                    "-" if rate is None else f"{rate:,.0f}",
                ]
            )
    head = [
        "architecture",
        "arm",
        "parameters",
        "of a token",
        "tokens",
        "FLOPs",
        "the memory's",
        "training",
        "processor",
    ]
    head.append("tokens / s")
    told = (
        "Means of the seeds. The memory's: its share of the FLOPs, as it is defined. Training: seconds by the clock, "
        "which other work on the machine makes longer; processor: of the whole process, with imports and evaluations."
    )
    return f"{format_table(head, rows, range(2, 10))}\n\n{told}"


def _tabulate_balance(report: dict[str, Any]) -> str:
    rows = []
    for architecture, found in report["architectures"].items():
        for arm, one in found["arms"].items():
            if one["balance_mean"] is not None:
                rows.append([architecture, arm, f"{one['balance_mean']:.3f}", f"{one['balance_max']:.3f}"])
    if not rows:
        return ""
    told = (
        "Load-balancing loss of the routers on held-out windows: 1 is even use; 4 (8 experts, 2 for a token) is "
        "reached where all tokens take the same ones. Mixtral trains with this loss, weighted 0.001; DeepSeek-V3's "
        "class has no such loss, and its correction of scores is not trained here."
    )
    table = format_table(["architecture", "arm", "mean of layers and seeds", "largest"], rows, range(2, 4))
    return f"{told}\n\n{table}"


def _list_limits(report: dict[str, Any]) -> str:
    seeds = len(report["seeds"])
    lines = [
        "A verdict needs both intervals on one side of zero. That over windows (bootstrap) keeps the trained models "
        "and asks what other windows of these contigs would say; neighbouring windows are not independent, so it is "
        "rather too narrow, and other contigs or species may differ. That over seeds (Student's t) keeps the windows "
        "and asks what other trainings would say.",
        f"{seeds} seed{'s' if seeds > 1 else ''}: "
        + (
            "there is no interval over seeds, and no verdict."
            if seeds < 2
            else f"the interval over seeds has {seeds - 1} degree{'s' if seeds > 2 else ''} of freedom"
            + (", so only what is large beside the seeds' spread can be told." if seeds < 5 else ".")
        ),
        "No correction is made for asking several times: of twenty verdicts on a memory that does nothing, one may be "
        "wrong.",
        "Models of one seed read the same blocks; their first weights are of one seed, too, but not the same numbers, "
        "as the memory draws its own.",
        "Learning rate and schedule are the same for all models, and tuned for none.",
        f"The paper's losses ({SOURCE}): other data, sizes, length and number of tokens, its unit and spread not "
        "given; beside these figures for orientation, not to be compared with them in size.",
    ]
    if report["preset"] != "paper":
        lines.insert(
            0,
            f"Preset {report['preset']}: models of the paper's classes that are thousands of times smaller than its "
            "own, trained for minutes. The memory's tables are a far larger share of their parameters, and what holds "
            "here need not hold for large models.",
        )
    return "\n".join(f"- {line}" for line in lines)


def tabulate_study(report: dict[str, Any], folder: Path) -> str:
    """What the command shows at its end."""
    lines = []
    for comparison in report["compare"]:
        lines.append(f"{EQUAL[comparison]:<18}{'none':>9}{'memory':>9}{'difference':>12}   the memory")
        for architecture, one in _list_differences(report, comparison).items():
            arms = report["architectures"][architecture]["arms"]
            none, ours = (arms[one[side]]["bits_per_base"]["mean"] for side in ("none", "memory"))
            lines.append(
                f"{architecture:<18}{none:>9.4f}{ours:>9.4f}{one['difference']['mean']:>+12.4f}   {one['verdict']}"
            )
    lines.append(
        f"bits per base on {report['held_out']['windows']:,} windows of the {report['held_out']['split']} contigs, "
        f"{len(report['seeds'])} seeds; less is better"
    )
    lines += [f"{name} has failed: {reason}" for name, reason in report["failed"].items()]
    lines.append(f"the report: {folder / MARKDOWN}, all figures: {folder / REPORT}")
    return "\n".join(lines)


def _show_bits(estimate: dict[str, Any]) -> str:
    return f"{estimate['mean']:.4f} {_show_interval(estimate['over_windows'], sign='')}"


def _show_estimate(estimate: dict[str, Any]) -> str:
    windows, seeds = (_show_interval(estimate[name]) for name in ("over_windows", "over_seeds"))
    return f"{estimate['mean']:+.4f} bits per base, 95 % over windows {windows}, over seeds {seeds}"


def _show_interval(interval: list[float] | None, sign: str = "+") -> str:
    return "-" if interval is None else f"({interval[0]:{sign}.4f} to {interval[1]:{sign}.4f})"


__all__ = [
    "MARKDOWN",
    "REPORT",
    "SCORED",
    "Estimate",
    "make_report",
    "render_markdown",
    "tabulate_study",
    "write_report",
]
