"""The verbs of corpora: `gengram corpus build`."""

from collections.abc import Sequence
from typing import Any

from gengram.command_line import Answer, VerbParser, add_out, run


def build(argv: Sequence[str] | None = None) -> int:
    """Run `gengram corpus build`; returns the exit code."""
    parser = VerbParser(
        "corpus build",
        usage="RECIPE --out DIR [--genomes DIR] [...]",
        description="Build a corpus for pre-training from genomes: letters, stored once, and where windows may lie.",
        example="gengram corpus build yeast.yaml --out corpora/yeast\n"
        "gengram corpus build small-genomes --genomes data/genomes --out corpora/small",
        notes="A build that was killed goes on when the same command is given again, and ends in the same bytes.",
    )
    parser.add_position("recipe", "RECIPE")
    what = parser.add_argument_group("what")
    what.add_argument("--recipe", metavar="RECIPE", help="a YAML file, or the name of a recipe of the package")
    what.add_argument(
        "--genomes", metavar="DIR", help="the folder that the recipe's names of files begin in (default: its own)"
    )
    add_out(parser.add_argument_group("output"), "the folder of the corpus", "DIR")
    parser.add_common()
    arguments = parser.parse(argv)

    def work(recipe: str, genomes: str | None, out: str, overwrite: bool) -> Answer:
        from gengram.training.corpus.build import build_corpus

        facts = build_corpus(recipe, out, genomes, overwrite=overwrite)
        return Answer(_tabulate(facts), {"corpus": out, **facts})

    return run(parser, arguments, work)


def _tabulate(facts: dict[str, Any]) -> str:
    """The numbers of a corpus as a table."""
    splits = facts["totals"]["splits"]
    head = ["", *splits]
    rows = [[name, *(f"{split[name]:,}" for split in splits.values())] for name in next(iter(splits.values()))]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in (head, *rows)]
    return "\n".join([f"{facts['name']}: {facts['totals']['bases']:,} bases in", *lines])


__all__ = ["build"]
