"""The verb that looks at the tables of tasks: dataset check."""

from collections.abc import Sequence

from gengram.command_line import Answer, VerbParser, run


def check(argv: Sequence[str] | None = None) -> int:
    """Run `gengram dataset check`; returns the exit code: 1 also where a task cannot be loaded."""
    parser = VerbParser(
        "dataset check",
        usage="FOLDER [...]",
        description="Look at the tasks of a folder: rows, classes, lengths, copies within and across splits, letters "
        "that are no DNA, classes that are missing; and why a task cannot be loaded.",
        example="gengram dataset check benchmarks\ngengram dataset check benchmarks/GUE/tf_3 --json check.json",
        notes="A task is a folder with tables called train, test and, if there is one, validation. Nothing is\n"
        "changed; `gengram evaluate --dedup` leaves training rows out that are in the test.",
    )
    parser.add_position("folder", "FOLDER")
    what = parser.add_argument_group("what")
    what.add_argument("--folder", metavar="FOLDER", help="of one task, or of many (also as first argument)")
    parser.add_common()
    faulty: list[str] = []

    def work(folder: str) -> Answer:
        from gengram.benchmarks.data.check_folder import check_folder, draw_checks

        checked = check_folder(folder)
        faulty.extend(task.name for task in checked if task.fault is not None)
        found = {"folder": folder, "tasks": [task.as_dict() for task in checked], "faulty": faulty}
        return Answer(draw_checks(checked).rstrip(), found)

    return run(parser, parser.parse(argv), work) or int(bool(faulty))


__all__ = ["check"]
