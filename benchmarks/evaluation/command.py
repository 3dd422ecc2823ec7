"""The verbs that evaluate: evaluate, compare, leaderboard."""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gengram.benchmarks.evaluation.settings import add_settings, read_settings
from gengram.benchmarks.protocols.table import PROTOCOLS
from gengram.command_line import Answer, VerbParser, add_devices, add_out, run, whole_number
from gengram.errors import InputError
from gengram.files import check_free, check_output_file, check_output_folder, save_figure, write_text
from gengram.team import Team, join

if TYPE_CHECKING:
    from gengram.benchmarks.evaluation.choice import ChosenTask

REPORT = "report.json"
METRICS_OF_TASKS = ("auroc", "auprc", "mcc", "accuracy", "macro_f1", "pearson", "spearman", "r2")
BASELINES, SEEDS = ("majority", "composition", "kmer"), (0, 1, 2)
DEFAULT_PROTOCOL = "linear-probe"
_OUTPUTS = (REPORT, "report.md", "scores.png", "costs.json", "predictions", "eval_results")
"""What an evaluation writes into its folder."""


def evaluate(argv: Sequence[str] | None = None) -> int:
    """Run `gengram evaluate`; returns the exit code: 1 also where a cell has no score."""
    parser = VerbParser(
        "evaluate",
        usage="--model MODEL [MODEL ...] (--suite SUITE | --tasks TASK ... | --train_file FILE) --out FOLDER [...]",
        description="Measure models on benchmark tasks, or on a table of one's own, by a named protocol, beside "
        "baselines: scores with intervals over seeds and test rows, paired tests, published scores.",
        example="gengram evaluate --model ./model lab/other --suite gengram-18 --protocol genos-probe --out runs/18\n"
        "gengram evaluate --model ./model --suite quick --data benchmarks --random_weights --max_train_rows 5000 "
        "--out runs/quick\n"
        "gengram evaluate --model ./model --tasks GB/human_enhancers_cohn --data benchmarks "
        "--test_file 'sealed/{task}/test.csv.gz' --out runs/sealed\n"
        "gengram evaluate --model ./model --train_file train.csv --test_file test.csv --out runs/mine\n"
        "gengram evaluate --model ./model --suite gengram-18 --dry_run",
        notes="The same command goes on where it was ended: every model on every task is a cell, kept in the cache by\n"
        "the content of weights, rows, protocol, settings and seeds, and never computed twice. Writes report.json,\n"
        "report.md, scores.png, costs.json, the predictions, and files for .eval_results of the Hub.",
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--model",
        "--models",
        nargs="+",
        action="extend",
        metavar="MODEL",
        help="folders, runs of gengram finetune or Hub ids; NAME=MODEL gives a name for the table",
    )
    what.add_argument(
        "--random_weights",
        action="store_true",
        help="beside each model, the same architecture with weights that nobody has trained",
    )
    what.add_argument("--suite", nargs="+", action="extend", metavar="SUITE", help="suites of tasks, see gengram tasks")
    what.add_argument(
        "--tasks",
        nargs="+",
        action="extend",
        metavar="TASK",
        help="tasks of the registry, or folders below --data; * stands for any letters",
    )
    what.add_argument(
        "--data",
        metavar="FOLDER",
        help="folder with a folder for each task, or the folder of one (default: the Hub's cache, then the Hub); "
        "alone: all tasks in it",
    )
    what.add_argument(
        "--test_file",
        nargs="+",
        action="extend",
        metavar="[TASK=]FILE",
        help="takes the place of a task's test rows; {task} in a name stands for each task",
    )
    what.add_argument("--train_file", metavar="FILE", help="a table of one's own instead of tasks, with --test_file")
    what.add_argument("--validation_file", metavar="FILE", help="of one's own table (default: a part of --train_file)")
    what.add_argument(
        "--baselines",
        nargs="+",
        metavar="NAME",
        help="simple models on the same rows: majority, composition, kmer, positions, cnn, all, none (default: "
        f"{' '.join(BASELINES)})",
    )
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--max_train_rows", type=whole_number, metavar="N", help="at most so many training rows of a task"
    )
    rows.add_argument("--max_test_rows", type=whole_number, metavar="N", help="at most so many test rows of a task")
    rows.add_argument(
        "--dedup",
        action="store_true",
        help="leave training rows out that are in the test, as they are or as the reverse complement",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="how a model is judged: " + "; ".join(f"{name}: {one.title}" for name, one in PROTOCOLS.items()),
    )
    how.add_argument("--seeds", type=_seed, nargs="+", metavar="N", help="a training for each (default: 0 1 2)")
    how.add_argument(
        "--metric",
        choices=METRICS_OF_TASKS,
        help="judge tasks by this metric, and choose settings by it, where their problem has it (default: each task's "
        "own; the report has all of them)",
    )
    add_devices(how)
    add_settings(parser)
    output = parser.add_argument_group("output")
    add_out(output, "folder for the report", "FOLDER", required=False)
    output.add_argument(
        "--cache", metavar="FOLDER", help="for cells and embeddings (default: gengram/evaluate below HF_HOME)"
    )
    output.add_argument(
        "--dry_run", action="store_true", help="list tasks, rows, models, and which cells are there; compute nothing"
    )
    parser.add_common()
    failing: list[tuple[str, str, str]] = []

    def work(out: str | None, cache: str | None, dry_run: bool, overwrite: bool, **options: Any) -> Answer | None:
        protocol = PROTOCOLS[options.pop("protocol")]
        settings = read_settings(protocol, options)
        if out is None and not dry_run:
            raise InputError("--out is missing: give a folder for the report, or --dry_run to see what there is to do")
        folder = None if out is None or dry_run else check_output_folder(out, REPORT, overwrite)
        if folder is not None and not overwrite:
            check_free(folder, _OUTPUTS)
        tasks = _choose_tasks(options)
        from gengram.benchmarks.evaluation.choice import Limits
        from gengram.benchmarks.evaluation.report import list_faults, tabulate_scores
        from gengram.benchmarks.evaluation.run import Evaluation, list_missing, run_evaluation, tabulate_missing
        from gengram.benchmarks.protocols.baselines import find_baselines

        baselines = find_baselines(options.pop("baselines") or BASELINES)
        models = options.pop("model") or []
        if not models and not baselines:
            raise InputError("nothing to evaluate: give --model, or --baselines")
        if options["random_weights"] and not models:
            raise InputError("--random_weights are those of a --model, and there is none")
        options["seeds"] = _check_seeds(options["seeds"] or SEEDS)
        limits = Limits(*(options.pop(name) for name in ("max_train_rows", "max_test_rows", "dedup", "metric")))
        team = join()
        if not dry_run and not _share_out(argv, team, options):
            return None
        evaluation = Evaluation(tasks, models, protocol, settings, baselines, limits=limits, cache=cache, **options)
        if dry_run:
            found = list_missing(evaluation)
            return Answer(tabulate_missing(found), found)
        assert folder is not None
        report = run_evaluation(evaluation, folder, team)
        if report is None:  # of several processes, one answers
            return None
        failing.extend(list_faults(report))
        if failing and team is not None:
            team.claim("error")  # the table tells it
        return Answer(f"{tabulate_scores(report)}\n\n{folder}", {"out": out, **report})

    return run(parser, parser.parse(argv), work) or int(bool(failing))


def compare(argv: Sequence[str] | None = None) -> int:
    """Run `gengram compare`; returns the exit code."""
    parser = VerbParser(
        "compare",
        usage="A B [--metric METRIC] [--out comparison.md] [...]",
        description="Compare two models that gengram evaluate has measured, on the same test rows: the difference on "
        "each task with an interval and a paired test, and a test over all tasks.",
        example="gengram compare runs/small runs/large --plot differences.png\n"
        "gengram compare runs/18:small runs/18:large --metric mcc --out comparison.md\n"
        "gengram compare runs/18:small runs/18:baseline:kmer",
        notes="A task counts where its name, the checksum of its rows and the version of the protocol agree; what is\n"
        "left out is told with the reason. Rows are drawn for both alike (bootstrap), over tasks Wilcoxon's signed\n"
        "ranks are tested; p (Holm) is adjusted for the number of tasks.",
    )
    parser.add_position("a", "A")
    parser.add_position("b", "B")
    what = parser.add_argument_group("what")
    what.add_argument("--a", metavar="FOLDER[:NAME]", help="folder of gengram evaluate, and which of its models")
    what.add_argument("--b", metavar="FOLDER[:NAME]", help="the other one; baselines have names too: baseline:kmer")
    what.add_argument("--metric", metavar="METRIC", help="one metric for all tasks (default: each task's own)")
    output = parser.add_argument_group("output")
    add_out(output, "the comparison as Markdown: .md (default: standard output)", required=False)
    output.add_argument(
        "--plot", metavar="FILE", help="differences with their intervals, .png or .svg (needs matplotlib)"
    )
    parser.add_common()

    def work(a: str, b: str, metric: str | None, out: str | None, plot: str | None, overwrite: bool) -> Answer:
        if out is not None:
            check_output_file(out, (".md",), overwrite)
        _check_plot(plot, overwrite)
        from gengram.benchmarks.evaluation import compare as comparison

        found = comparison.compare_sides(comparison.open_side(a), comparison.open_side(b), metric)
        text = comparison.render_comparison(found)
        if out is not None:
            write_text(text, Path(out))
        if plot is not None:
            save_figure(comparison.draw_comparison(found), Path(plot))
        return Answer(text if out is None else out, {"out": out, "plot": plot, **found})

    return run(parser, parser.parse(argv), work)


def leaderboard(argv: Sequence[str] | None = None) -> int:
    """Run `gengram leaderboard`; returns the exit code."""
    parser = VerbParser(
        "leaderboard",
        usage="FOLDER [FOLDER ...] [--out leaderboard.md] [...]",
        description="Collect the reports of gengram evaluate in and below folders into one table, models by tasks with "
        "mean ranks, where only what was measured alike stands in one column.",
        example="gengram leaderboard runs --out leaderboard.md --plot leaderboard.png\n"
        "gengram leaderboard runs/a runs/b --out leaderboard.csv",
        notes="One table for each protocol with its version and settings; a column for each task, metric and checksum\n"
        "of the rows. Below each: copies between training and test, and whether they were left out.",
    )
    parser.add_argument(
        "positions",
        nargs="*",
        metavar="FOLDER",
        help="folders that gengram evaluate has written to, or folders of them",
    )
    output = parser.add_argument_group("output")
    add_out(output, "the tables: .md, or .csv with a line for each score (default: standard output)", required=False)
    output.add_argument(
        "--plot", metavar="FILE", help="a heat map of the largest table, .png or .svg (needs matplotlib)"
    )
    parser.add_common()

    def work(positions: list[str], out: str | None, plot: str | None, overwrite: bool) -> Answer:
        if out is not None:
            check_output_file(out, (".md", ".csv"), overwrite)
        _check_plot(plot, overwrite)
        if not positions:
            raise InputError("give folders that gengram evaluate has written to")
        from gengram.benchmarks.evaluation import leaderboard as board

        found = board.make_leaderboard(board.find_reports(positions))
        text = board.render_leaderboard(found)
        if out is not None:
            write_text(board.write_table(found) if out.endswith(".csv") else text, Path(out))
        if plot is not None and (figure := board.draw_leaderboard(found)) is not None:
            save_figure(figure, Path(plot))
        return Answer(text if out is None else out, {"out": out, "plot": plot, **found})

    return run(parser, parser.parse(argv), work)


def _check_plot(plot: str | None, overwrite: bool) -> None:
    if plot is not None:
        check_output_file(plot, (".png", ".svg"), overwrite)
        if find_spec("matplotlib") is None:
            raise InputError(f"{plot}: no plot without matplotlib: pip install 'gengram[plots]'")


def _choose_tasks(options: dict[str, Any]) -> "list[ChosenTask]":
    """Take what says which tasks out of the options of `evaluate`."""
    names = ("suite", "tasks", "data", "test_file", "train_file", "validation_file")
    suites, tasks, data, test_files, train, validation = (options.pop(name) for name in names)
    suites, tasks, test_files = suites or [], tasks or [], test_files or []
    own = train or validation
    if own and (suites or tasks or data):
        raise InputError("--train_file is a table of one's own: leave out --suite, --tasks and --data, or leave it out")
    if not own and not suites and not tasks and data is None:
        raise InputError(
            "say on what: --suite, --tasks, --data, or --train_file and --test_file (gengram tasks lists them)"
        )
    from gengram.benchmarks.evaluation.choice import choose_own, choose_tasks

    if not own:
        return choose_tasks(tasks, suites, data, test_files)
    if train is None or len(test_files) != 1:
        raise InputError(
            "a table of one's own is --train_file and one --test_file, and --validation_file if there is one"
        )
    return [choose_own(train, validation, test_files[0])]


def _check_seeds(seeds: Sequence[int]) -> Sequence[int]:
    if twice := [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]:
        raise InputError(f"--seeds: {twice[0]} is there twice; the same seed is the same training")
    return seeds


def _share_out(argv: Sequence[str] | None, team: "Team | None", options: dict[str, Any]) -> bool:
    """Choose the device of this process; False if other processes have done the work.

    Raises:
        `InputError`: devices that there are not.
    """
    from gengram.pipelines import devices, processes

    if team is not None:
        processes.watch_starter()
        options["devices"] = devices.choose_own(options["devices"], team)
        return True
    chosen = devices.list_devices(options["devices"])
    if len(chosen) == 1:
        (options["devices"],) = chosen
        return True
    processes.run_processes(["evaluate", *(sys.argv[2:] if argv is None else argv)], chosen)
    return False


def _seed(text: str) -> int:
    """Type of an argument: a seed, with which every library counts."""
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: a seed is a whole number from 0 to {2**32 - 1}")
    return int(text)


__all__ = ["compare", "evaluate", "leaderboard"]
