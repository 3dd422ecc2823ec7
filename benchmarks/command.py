"""The verbs that measure and examine: quickstart, bench, doctor."""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gengram.command_line import Answer, VerbParser, add_overwrite, run, share, whole_number
from gengram.errors import InputError
from gengram.files import check_free, check_output_file, check_output_folder

BENCH_DTYPES = ("float32", "bfloat16", "float16")
_STEP_ONLY = ("batch", "length", "scale")


def quickstart(argv: Sequence[str] | None = None) -> int:
    """Run `gengram quickstart`; returns the exit code."""
    parser = VerbParser(
        "quickstart",
        usage="[--out FOLDER] [...]",
        description="Simulate splice sites, train a small model with and without motif memory, save, reload, predict.",
        example="gengram quickstart --out runs/quickstart",
        notes="Minutes on two CPU cores, no network. Writes report.json, the data, the models and a plot.",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", "--output_dir", default="runs/quickstart", metavar="FOLDER", help="where everything goes"
    )
    add_overwrite(output)
    parser.add_common()

    def work(out: str, overwrite: bool) -> Answer:
        folder = check_output_folder(out, "report.json", overwrite)
        from gengram.benchmarks.quickstart import PIECES, explain, plot_scores, run_quickstart

        if not overwrite:
            check_free(folder, PIECES)
        report = run_quickstart(folder)
        if find_spec("matplotlib"):
            plot_scores(report, folder / "scores.png")
        return Answer(explain(report, folder), {"out": str(folder), **report})

    return run(parser, parser.parse(argv), work)


def bench(argv: Sequence[str] | None = None) -> int:
    """Run `gengram bench`; returns the exit code."""
    parser = VerbParser(
        "bench",
        usage="[--quick | --step SIZE ...] [--devices cuda] [--plot bench.png] [...]",
        description="Measure the motif memory beside the released algorithm in one run: ratios of time, memory, the "
        "roofline, the share of a training step, and exactness. With --step: whole training steps of the paper's "
        "models without a memory, with this one and with the released one, bases a second, MFU and peak memory.",
        example="OMP_WAIT_POLICY=PASSIVE gengram bench --quick --plot bench.png --json bench.json\n"
        "gengram bench --step 0.3b-dense-gqa 1.2b-moe-gqa --devices cuda --dtype bfloat16 --json step.json\n"
        "gengram bench --step all --scale 0.1 --no_compiled",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--quick", action="store_true", help="a part of the grid, within five minutes on two cores")
    what.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure it under torch.compile",
    )
    what.add_argument(
        "--devices", "--device", default="cpu", metavar="DEVICE", help="where to measure; any device with --step"
    )
    what.add_argument("--dtype", choices=BENCH_DTYPES, default="float32", help="dtype of weights and hidden states")
    what.add_argument("--rounds", type=whole_number, default=5, help="measurements of each case; the median counts")
    step = parser.add_argument_group("training steps")
    step.add_argument(
        "--step",
        nargs="+",
        metavar="SIZE",
        help="measure training steps of these sizes of GengramConfig.from_size: 0.3b-dense-mha, 0.3b-dense-gqa, "
        "0.3b-dense-mla, 1.2b-moe-mha, 1.2b-moe-gqa, 1.2b-moe-mla, all (these six), 10b-moe-gqa",
    )
    step.add_argument("--batch", type=whole_number, metavar="B", help="sequences of a step; 2, on a CPU 1")
    step.add_argument("--length", type=whole_number, metavar="T", help="bases of each; 8192, on a CPU 1000")
    step.add_argument(
        "--scale",
        type=share,
        metavar="X",
        help="multiply all widths by it, for a trial on a small machine: not the size's speed",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--plot", metavar="FILE", help="the plot, .png or .svg (needs matplotlib)")
    add_overwrite(output)
    parser.add_common()

    def work(plot: str | None, overwrite: bool, step: list[str] | None, **options: Any) -> Answer:
        if plot is not None:
            check_output_file(plot, (".png", ".svg"), overwrite)
            if find_spec("matplotlib") is None:
                raise InputError(f"{plot}: no plot without matplotlib: pip install 'gengram[plots]'")
        target = None if plot is None else Path(plot)
        return _measure_grid(target, **options) if step is None else _measure_steps(step, target, **options)

    return run(parser, parser.parse(argv), work)


def _measure_grid(plot: Path | None, devices: str, dtype: str, **options: Any) -> Answer:
    for name in _STEP_ONLY:
        if options.pop(name) is not None:
            raise InputError(f"--{name} is for training steps: add --step SIZE, or leave it out")
    if devices not in ("cpu", "cuda"):
        raise InputError(f"--devices {devices}: the memory alone is measured on cpu or cuda; --step takes any device")
    import torch

    from gengram.benchmarks.speed import memory
    from gengram.benchmarks.speed.measure import refuse_fallbacks

    if dtype not in memory.DTYPES:
        raise InputError(f"--dtype {dtype} is for --step; without it give {' or '.join(memory.DTYPES)}")
    if devices == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here; leave --devices out")
    with refuse_fallbacks(devices):
        report = memory.run_benchmark(device=devices, dtype=memory.DTYPES[dtype], **options)
    if plot is not None:
        memory.plot(report, plot)
    return Answer(memory.tabulate(report), report)


def _measure_steps(
    sizes: list[str],
    plot: Path | None,
    quick: bool,
    devices: str,
    dtype: str,
    batch: int | None,
    length: int | None,
    scale: float | None,
    rounds: int,
    compiled: bool,
) -> Answer:
    if quick:
        raise InputError("--quick is a part of the grid; with --step leave it out, and give fewer --rounds")
    from gengram.benchmarks.speed import step
    from gengram.benchmarks.speed.measure import refuse_fallbacks
    from gengram.loading.models import choose_device

    chosen = step.choose_sizes(sizes)
    device = choose_device(devices)
    small = device.type == "cpu"
    with refuse_fallbacks(device.type):
        report = step.run_steps(
            chosen,
            device,
            step.DTYPES[dtype],
            scale=scale or 1.0,
            rows=batch or (1 if small else 2),
            length=length or (1_000 if small else 8_192),
            rounds=rounds,
            compiled=compiled,
        )
    if plot is not None:
        step.plot_steps(report, plot)
    return Answer(step.tabulate_steps(report), report)


def doctor(argv: Sequence[str] | None = None) -> int:
    """Run `gengram doctor`; returns the exit code: 1 also where something that should run does not."""
    parser = VerbParser(
        "doctor",
        usage="[--hub] [...]",
        description="Examine this machine: versions, devices, which kernels run and are right, threads, caches.",
        example="gengram doctor\ngengram doctor --hub --json doctor.json",
        notes="Kernels are compiled and run, forward and backward, and compared with their definition: half a minute,\n"
        "on a GPU some minutes the first time. A fact is `ok`, a `note` (an optional thing is missing, or something\n"
        "costs time), or `fails`: then the exit code is 1. The network is asked with --hub only; tokens are not shown.",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--hub", action="store_true", help="ask the Hub as well: whether it answers and takes the token")
    parser.add_common()
    failing: list[str] = []

    def work(hub: bool) -> Answer:
        from gengram.benchmarks.doctor.facts import describe_facts, tabulate_facts
        from gengram.benchmarks.doctor.report import examine_machine

        facts = examine_machine(hub)
        failing.extend(fact.name for fact in facts if fact.verdict == "fails")
        return Answer(tabulate_facts(facts), describe_facts(facts))

    return run(parser, parser.parse(argv), work) or int(bool(failing))


__all__ = ["bench", "doctor", "quickstart"]
