"""The verb that shows benchmark tasks: tasks."""

from collections.abc import Sequence
from typing import Any

from gengram.catalogue.command import amount
from gengram.command_line import Answer, VerbParser, add_overwrite, run
from gengram.errors import InputError
from gengram.files import check_output_file
from gengram.training.problems import METRICS, PROBLEMS


def tasks(argv: Sequence[str] | None = None) -> int:
    """Run `gengram tasks`; returns the exit code: 1 also where a data set did not answer to --refresh."""
    parser = VerbParser(
        "tasks",
        usage="[NAME] [...]",
        description="List the tasks of the benchmarks, or show one: data, classes, sizes, metric, protocol, licence, "
        "known problems, published scores.",
        example="gengram tasks --suite gengram-18\n"
        "gengram tasks GB/human_enhancers_cohn\n"
        "gengram tasks --benchmark NTB --published --json scores.json\n"
        "gengram tasks --benchmark GeB --refresh --out tasks.yaml",
        notes="What nobody has looked up is unknown (?) and listed as unverified; a filter leaves out what it does\n"
        "not know. --refresh asks the Hub; every verb reads the file that it writes where GENGRAM_TASKS names it.",
    )
    parser.add_position("name", "NAME", optional=True)
    which = parser.add_argument_group("which")
    which.add_argument("--name", help="one task, with all that is known of it (also as first argument)")
    which.add_argument("--benchmark", help="those of a benchmark: GB, NTB, NTB-revised, LRB, GeB, GUE, GENA")
    which.add_argument("--suite", help="those of a suite, in its order: gengram-18, GB-8, quick, or a benchmark")
    scores = sorted({name for names in METRICS.values() for name in names} - {"loss"})
    which.add_argument("--metric", choices=scores, help="those whose scores are told by it first")
    which.add_argument("--problem", choices=PROBLEMS, help="those with such labels")
    which.add_argument("--max_length", type=amount, metavar="N", help="up to this many bases: 600, 8k")
    which.add_argument("--license", metavar="ID", help="those with this licence, an SPDX id")
    which.add_argument(
        "--unverified", action="store_true", help="those with facts that nobody has looked up, and which"
    )
    more = parser.add_argument_group("what")
    more.add_argument("--published", action="store_true", help="published scores of the tasks, with their sources")
    more.add_argument("--refresh", action="store_true", help="ask the Hub for revisions, licences, sizes and classes")
    more.add_argument("--out", metavar="FILE", help="of --refresh: a YAML file for what the Hub says")
    add_overwrite(more)
    parser.add_common()
    arguments = parser.parse(argv)
    if not arguments.refresh and (arguments.out or arguments.overwrite):
        parser.error("--out and --overwrite are of --refresh: give that, too")
    failed: list[str] = []

    def work(
        name: str | None, refresh: bool, out: str | None, overwrite: bool, published: bool, **filters: Any
    ) -> Answer:
        given = [f"--{flag}" for flag, value in filters.items() if value not in (None, False)]
        if name is not None and given:
            raise InputError(f"{name}: one task is shown as it is, without a filter; leave out {', '.join(given)}")
        if refresh:
            if published:
                raise InputError("the Hub is not asked for published scores: leave out --published or --refresh")
            path = None if out is None else check_output_file(out, (".yaml", ".yml"), overwrite)
            from gengram.benchmarks.tasks.listing import choose_tasks
            from gengram.benchmarks.tasks.refresh import refresh_tasks
            from gengram.benchmarks.tasks.registry import find_task

            chosen = choose_tasks(**filters)[0] if name is None else [find_task(name)]
            answer = refresh_tasks(chosen, path)
            failed.extend(answer.data["failed"])
            return answer
        from gengram.benchmarks.tasks.listing import show_task, show_tasks

        return show_tasks(published, **filters) if name is None else show_task(name)

    return run(parser, arguments, work) or int(bool(failed))


__all__ = ["tasks"]
