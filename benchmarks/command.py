"""The verbs that measure: quickstart, bench."""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gengram.command_line import Answer, VerbParser, add_overwrite, run, whole_number
from gengram.errors import InputError
from gengram.files import check_free, check_output_file, check_output_folder

BENCH_DTYPES = ("float32", "bfloat16")


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
        usage="[--quick] [--devices cuda] [--plot bench.png] [...]",
        description="Measure the motif memory beside the released algorithm in one run: ratios of time, memory, the "
        "roofline, the share of a training step, and exactness.",
        example="OMP_WAIT_POLICY=PASSIVE gengram bench --quick --plot bench.png --json bench.json",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--quick", action="store_true", help="a part of the grid, within five minutes on two cores")
    what.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure it under torch.compile",
    )
    what.add_argument("--devices", "--device", choices=["cpu", "cuda"], default="cpu", help="where to measure")
    what.add_argument("--dtype", choices=BENCH_DTYPES, default="float32", help="dtype of weights and hidden states")
    what.add_argument("--rounds", type=whole_number, default=5, help="measurements of each case; the median counts")
    output = parser.add_argument_group("output")
    output.add_argument("--plot", metavar="FILE", help="the plot, .png or .svg (needs matplotlib)")
    add_overwrite(output)
    parser.add_common()

    def work(plot: str | None, overwrite: bool, devices: str, dtype: str, **options: Any) -> Answer:
        if plot is not None:
            check_output_file(plot, (".png", ".svg"), overwrite)
            if find_spec("matplotlib") is None:
                raise InputError(f"{plot}: no plot without matplotlib: pip install 'gengram[plots]'")
        import torch

        from gengram.benchmarks.speed import memory
        from gengram.benchmarks.speed.measure import refuse_fallbacks

        if devices == "cuda" and not torch.cuda.is_available():
            raise InputError("no CUDA device here; leave --devices out")
        with refuse_fallbacks(devices):
            report = memory.run_benchmark(device=devices, dtype=memory.DTYPES[dtype], **options)
        if plot is not None:
            memory.plot(report, Path(plot))
        return Answer(memory.tabulate(report), report)

    return run(parser, parser.parse(argv), work)


__all__ = ["bench", "quickstart"]
