"""What will a study take? Parameters, tokens, operations and hours of every model, before anything starts."""

from collections.abc import Sequence
from typing import Any

from gengram.benchmarks.study.models import StudiedModel
from gengram.errors import InputError
from gengram.training.devices import MFU, PEAKS

CORE = 30e9
"""Operations a second from one core of a server; models of the tiny preset got 35 to 50 billion."""


def make_plan(models: Sequence[StudiedModel], gpu: str = "H100", mfu: float = MFU) -> dict[str, Any]:
    """
    Count what models take, each arm once.

    Args:
        models: of `list_models`.
        gpu: a name of `PEAKS`.
        mfu: share of its peak that a training reaches.

    Returns:
        `arms`: for each `architecture`, `arm`, `models` (seeds), `parameters`, `active`, `blocks_per_step`, `tokens`,
        `flops` of one training, `memory_share` of a step's operations, `checkpoint_bytes` (weights and two moments in
        float32) and `hours`; `models`, `flops` and `hours` of all; `by`, what the hours are of.

    Raises:
        `InputError`: a GPU that is not in the table.
    """
    preset = models[0].preset
    if gpu not in PEAKS:
        raise InputError(f"--gpu {gpu}: choose one of {', '.join(PEAKS)}")
    speed = mfu * PEAKS[gpu] if preset.needs_gpu else CORE
    by = f"one {gpu} at {mfu:.0%} of its peak" if preset.needs_gpu else f"one core at {CORE / 1e9:.0f} GFLOP/s"
    arms: dict[tuple[str, str], dict[str, Any]] = {}
    for model in models:
        arm = model.arm
        key = (model.architecture, arm.name)
        flops = preset.steps * arm.step_flops
        row = {
            "architecture": model.architecture,
            "arm": arm.name,
            "models": 0,
            "parameters": arm.parameters,
            "active": arm.active,
            "blocks_per_step": arm.blocks_per_step,
            "tokens": arm.count_tokens(preset),
            "flops": flops,
            "memory_share": arm.memory_flops / arm.step_flops,
            "checkpoint_bytes": 12 * arm.parameters,
            "hours": flops / speed / 3600,
        }
        arms.setdefault(key, row)["models"] += 1
    rows = sorted(arms.values(), key=lambda row: [model.architecture for model in models].index(row["architecture"]))
    return {
        "preset": preset.name,
        "by": by,
        "block_size": preset.block_size,
        "steps": preset.steps,
        "arms": rows,
        "models": len(models),
        "flops": sum(row["models"] * row["flops"] for row in rows),
        "hours": sum(row["models"] * row["hours"] for row in rows),
    }


def tabulate_plan(plan: dict[str, Any]) -> str:
    """The plan as lines."""
    lines = [
        f"preset {plan['preset']}: {plan['models']} models, {plan['steps']:,} steps each, blocks of "
        f"{plan['block_size']:,} bases",
        f"{'':<11}{'arm':<20}{'models':>7}{'parameters':>15}{'a token':>13}{'blocks':>8}{'tokens':>17}"
        f"{'FLOPs':>10}{'memory':>8}{'time':>9}",
    ]
    for row in plan["arms"]:
        lines.append(
            f"{row['architecture']:<11}{row['arm']:<20}{row['models']:>7}{row['parameters']:>15,}{row['active']:>13,}"
            f"{row['blocks_per_step']:>8,}{row['tokens']:>17,}{row['flops']:>10.2e}{row['memory_share']:>8.1%}"
            f"{show_time(row['hours']):>9}"
        )
    lines += [
        f"all: {plan['flops']:.2e} FLOPs, {show_time(plan['hours'])} on {plan['by']}",
        "parameters a token meets count tables whole; memory: its share of a step's operations as it is defined; time: "
        "of one model,\ncalculated, without evaluations and waiting.",
    ]
    return "\n".join(lines)


def show_time(hours: float) -> str:
    """Hours, minutes or seconds, whichever has figures in front of the point."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


__all__ = ["CORE", "make_plan", "show_time", "tabulate_plan"]
