"""The verb `gengram study memory`."""

from collections.abc import Sequence
from pathlib import Path

from gengram.command_line import Answer, VerbParser, add_out, run, share, whole_number
from gengram.errors import InputError

PRESETS = ("tiny", "small", "paper")


def study_memory(argv: Sequence[str] | None = None) -> int:
    """Run `gengram study memory`; returns the exit code: 1 also where a model has failed."""
    parser = VerbParser(
        "study memory",
        usage="[--preset tiny] --corpus DIR --out DIR [...]",
        description="Train six architectures (dense and mixture of experts, each with MHA, GQA and MLA) with and "
        "without the motif memory on one corpus, and report what the memory changes: bits per base on held-out contigs "
        "with intervals, curves, cost.",
        example="gengram study memory --preset tiny --corpus corpora/mine --out runs/study\n"
        "gengram study memory --preset small --architectures dense-gqa moe-gqa --seeds 3 --corpus corpora/mine "
        "--out runs/small\n"
        "gengram study memory --preset paper --plan",
        notes="The same command goes on where it was ended. Writes study.md, study.json, pictures, and for each model "
        "the recipe\nand the folder that gengram pretrain has filled.",
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--preset",
        choices=PRESETS,
        default="tiny",
        help="tiny: about a minute a model on one core; small: half an hour to an hour; paper: the paper's sizes and "
        "50 billion tokens, on GPUs only",
    )
    what.add_argument("--corpus", metavar="DIR", help="folder of gengram corpus build, with held-out contigs")
    what.add_argument(
        "--architectures",
        nargs="+",
        metavar="NAME",
        help="of dense-mha, dense-gqa, dense-mla, moe-mha, moe-gqa, moe-mla (default: all six)",
    )
    what.add_argument(
        "--seeds", type=whole_number, default=2, metavar="N", help="how many seeds of each model (default: 2)"
    )
    what.add_argument(
        "--compare",
        nargs="+",
        choices=("tokens", "flops", "parameters"),
        default=["tokens", "flops"],
        help="what is equal: tokens; flops: as many steps, and fewer tokens with memory; parameters: a wider MLP "
        "without memory (default: tokens flops)",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--jobs", type=whole_number, default=1, metavar="N", help="models that are trained at a time; cores are shared"
    )
    how.add_argument("--plan", action="store_true", help="print what it would take, and train nothing")
    how.add_argument(
        "--gpu", default="H100", metavar="NAME", help="GPU that --plan counts the hours of (default: H100)"
    )
    how.add_argument(
        "--mfu", type=share, default=0.4, metavar="SHARE", help="share of its peak that is reached (default: 0.4)"
    )
    output = parser.add_argument_group("output")
    add_out(output, "folder for the report and the models", "DIR", required=False)
    parser.add_common()
    failing: list[str] = []

    def work(
        preset: str,
        corpus: str | None,
        out: str | None,
        architectures: list[str] | None,
        seeds: int,
        compare: list[str],
        jobs: int,
        plan: bool,
        gpu: str,
        mfu: float,
        overwrite: bool,
    ) -> Answer:
        if not plan:
            for name, value in (("corpus", corpus), ("out", out)):
                if value is None:
                    raise InputError(f"--{name} is missing: give a folder, or --plan to see what a study takes")
        from gengram.benchmarks.study import presets
        from gengram.benchmarks.study.matching import COMPARISONS
        from gengram.benchmarks.study.models import list_models
        from gengram.benchmarks.study.plan import make_plan, tabulate_plan

        size = presets.PRESETS[preset]
        chosen = presets.choose_architectures(architectures)
        compared = [name for name in COMPARISONS if name in compare]
        if plan:
            found = make_plan(list_models(size, chosen, range(seeds), compared), gpu, mfu)
            return Answer(tabulate_plan(found), found)
        assert corpus is not None and out is not None
        if size.needs_gpu:
            import torch

            if not torch.cuda.is_available():
                raise InputError(
                    f"--preset {preset} is {size.steps * size.blocks_per_step * size.block_size / 1e9:.0f} billion "
                    "tokens a model, and there is no GPU here: --plan says what it takes; --preset small runs on a CPU"
                )
        from gengram.benchmarks.study.report import tabulate_study
        from gengram.benchmarks.study.run import run_study

        report = run_study(size, corpus, out, chosen, seeds, compared, jobs=jobs, overwrite=overwrite)
        failing.extend(report["failed"])
        return Answer(tabulate_study(report, Path(out)), {"out": out, **report})

    return run(parser, parser.parse(argv), work) or int(bool(failing))


__all__ = ["study_memory"]
