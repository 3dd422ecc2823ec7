"""What a kind of task is, for `gengram dataset build KIND`, and the arguments that kinds have in common.

No kind is imported here before it runs: help and wrong flags need no more than this.
"""

import argparse
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from gengram.command_line import VerbParser, add_out, fraction, whole_number

FORMATS = ("csv.gz", "parquet")
BLOCK = 250_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


class Kind(NamedTuple):
    """A kind of task that can be built.

    Attributes:
        function: `module:function`; it takes the arguments by name and returns the `Built` of
            `gengram.benchmarks.builders.folder`.
        declare: adds the arguments to the verb's parser.
        help: what the task is, in a line.
        usage: what follows `gengram dataset build KIND`.
        example: a command line or more.
        notes: what else somebody should know.
    """

    function: str
    declare: Callable[[VerbParser], None]
    help: str
    usage: str
    example: str
    notes: str = ""


def task_name(text: str) -> str:
    """Type of an argument: the name of a task, which is that of its folder."""
    if not _NAME.fullmatch(text) or text.endswith("."):
        raise argparse.ArgumentTypeError(f"{text!r}: give letters, digits, _, . and -, the first a letter or digit")
    return text


def named_file(text: str) -> tuple[str, str]:
    """Type of an argument: `NAME=FILE`."""
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=FILE, such as worm=celegans.fa.gz")
    return name, file


def rows_of_a_class(text: str) -> int | str:
    """Type of an argument: a whole number of at least 1, or `least`."""
    return text if text == "least" else whole_number(text)


def add_task(parser: VerbParser, name: str) -> None:
    """Declare where the task goes: `--out`, `--overwrite`, `--name`, `--format`, and what its card says.

    Args:
        name: of the task, where the user gives none.
    """
    output = parser.add_argument_group("output")
    add_out(output, "the folder of tasks; the task is a folder in it", "DIR")
    output.add_argument("--name", type=task_name, default=name, metavar="NAME", help="of the task and its folder")
    output.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the tables")
    output.add_argument("--assembly", metavar="NAME", help="of the genome, for the card")
    output.add_argument("--license", metavar="ID", help="of the data, for the card")


def add_splits(parser: VerbParser, *, test: float = 0.2, validation: float = 0.1) -> None:
    """Declare how rows are divided: by contigs, or by blocks of contigs, and the seed of all draws."""
    splits = parser.add_argument_group("splits")
    splits.add_argument("--test_contigs", nargs="+", metavar="CONTIG", help="contigs whose rows are the test")
    splits.add_argument("--validation_contigs", nargs="+", metavar="CONTIG", help="contigs whose rows validate")
    splits.add_argument(
        "--block",
        type=whole_number,
        default=BLOCK,
        metavar="BP",
        help="without contigs, contigs are divided into blocks of so many bases, and each block is of one split",
    )
    splits.add_argument(
        "--test_share", type=fraction, default=test, metavar="SHARE", help="of the rows, by blocks, for the test"
    )
    splits.add_argument(
        "--validation_share", type=fraction, default=validation, metavar="SHARE", help="of the rows for validation"
    )
    splits.add_argument("--seed", type=_seed, default=0, help="of all that is drawn")


def add_rows(parser: VerbParser, *, max_n: float = 0.05) -> Any:
    """Declare which rows are kept; returns the group of arguments."""
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--per_class",
        type=rows_of_a_class,
        metavar="N",
        help="rows of each class in all splits together, drawn; `least`: as many as the rarest class of a split has "
        "(default: all)",
    )
    rows.add_argument(
        "--max_n",
        type=fraction,
        default=max_n,
        metavar="SHARE",
        help="largest share of letters other than A, C, G, T in a row",
    )
    return rows


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 0 to 999999999")
    return int(text)


__all__ = [
    "BLOCK",
    "FORMATS",
    "Kind",
    "add_rows",
    "add_splits",
    "add_task",
    "named_file",
    "rows_of_a_class",
    "task_name",
]
