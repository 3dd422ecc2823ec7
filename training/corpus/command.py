"""The verbs of corpora: corpus build, corpus show, corpus push."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gengram.command_line import Answer, VerbParser, add_out, run
from gengram.errors import InputError
from gengram.loading.checkpoints import check_repo_id

_WINDOW = 1024  # bases; for the number of windows in the answer


def build(argv: Sequence[str] | None = None) -> int:
    """Run `gengram corpus build`; returns the exit code."""
    from gengram.training.corpus.recipe import list_corpora

    recipes = "\n".join(f"  {name:<24}{title}" for name, title in list_corpora().items())
    parser = VerbParser(
        "corpus build",
        usage="RECIPE --out DIR [--genomes DIR] [...]",
        description="Build a corpus for pre-training from genomes: letters, stored once, and where windows may lie.",
        example="gengram corpus build yeast.yaml --out corpora/yeast\n"
        "gengram corpus build small-genomes --genomes genomes --out corpora/small",
        notes="A build that was killed goes on when the same command is given again, and ends in the same bytes.\n\n"
        f"recipes that come with the package (they need --genomes, the folder of their files):\n{recipes}",
    )
    parser.add_position("recipe", "RECIPE")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--recipe", metavar="RECIPE", help="a YAML file, or the name of a recipe of the package (also as argument)"
    )
    what.add_argument(
        "--genomes", metavar="DIR", help="the folder that the recipe's names of files begin in (default: its own)"
    )
    add_out(parser.add_argument_group("output"), "the folder of the corpus", "DIR")
    parser.add_common()
    arguments = parser.parse(argv)

    def work(recipe: str, genomes: str | None, out: str, overwrite: bool) -> Answer:
        from gengram.training.corpus.build import build_corpus

        facts = build_corpus(recipe, out, genomes, overwrite=overwrite)
        return Answer(_describe(facts), {"out": out, **facts})

    return run(parser, arguments, work)


def show(argv: Sequence[str] | None = None) -> int:
    """Run `gengram corpus show`; returns the exit code."""
    parser = VerbParser(
        "corpus show",
        usage="DIR [--check] [...]",
        description="Show what a corpus holds.",
        example="gengram corpus show corpora/yeast --check",
        notes="Without --check, files that are missing or too short are found; with it, every changed byte\n"
        "of letters and tables (not of the card, which is made anew for a push).",
    )
    parser.add_position("folder", "DIR")
    what = parser.add_argument_group("what")
    what.add_argument("--folder", metavar="DIR", help="the folder of the corpus (also as argument)")
    what.add_argument("--check", action="store_true", help="read all files and compare their checksums")
    parser.add_common()
    arguments = parser.parse(argv)

    def work(folder: str, check: bool) -> Answer:
        from gengram.loading.faults import tell_faults
        from gengram.training.corpus.store import FACTS_FILE, open_corpus

        facts = open_corpus(folder, check=check).facts
        with tell_faults(f"{Path(folder) / FACTS_FILE}: it does not say what gengram corpus build writes"):
            text = _describe(facts)
        checked = "\nevery checksum is right" if check else ""
        return Answer(text + checked, {"folder": folder, "checked": check, **facts})

    return run(parser, arguments, work)


def push(argv: Sequence[str] | None = None) -> int:
    """Run `gengram corpus push`; returns the exit code."""
    parser = VerbParser(
        "corpus push",
        usage="DIR ORG/NAME [...]",
        description="Publish a corpus as a dataset on the Hugging Face Hub, in one commit.",
        example="gengram corpus push corpora/yeast lab/yeast --dry_run\ngengram corpus push corpora/yeast lab/yeast",
        notes="Checksums are compared and all text is searched for what is private first; of the letters it is made\n"
        "sure that they are letters. The licence is that of the recipe.",
    )
    parser.add_position("folder", "DIR")
    parser.add_position("repo", "ORG/NAME")
    what = parser.add_argument_group("what")
    what.add_argument("--folder", metavar="DIR", help="the folder of the corpus (also as first argument)")
    what.add_argument(
        "--repo", metavar="ORG/NAME", help="the repository (also as second argument); it is made if it is not there"
    )
    what.add_argument(
        "--allow",
        metavar="KIND[:FILE]",
        action="append",
        default=[],
        help="let something private go up that the search has named, e.g. path:corpus.json; more than once",
    )
    where = parser.add_argument_group("where")
    where.add_argument("--private", action="store_true", help="make a new repository private")
    where.add_argument("--revision", metavar="BRANCH", help="an existing branch to write to (default: main)")
    where.add_argument("--dry_run", action="store_true", help="only list the files with their sizes in bytes")
    parser.add_common()
    arguments = parser.parse(argv)
    _check_repo(parser, arguments)

    def work(folder: str, repo: str, allow: list[str], private: bool, revision: str | None, dry_run: bool) -> Answer:
        if not Path(folder).is_dir():
            raise InputError(f"{folder}: there is no such folder; make a corpus with gengram corpus build")
        from gengram.training.corpus.publish import prepare_corpus
        from gengram.training.publishing.upload import send

        return send(prepare_corpus(folder, repo, allow=allow), private=private, revision=revision, dry_run=dry_run)

    return run(parser, arguments, work)


def _check_repo(parser: VerbParser, arguments: argparse.Namespace) -> None:
    try:
        check_repo_id(arguments.repo)
    except InputError as error:
        parser.error(str(error))


def _describe(facts: Mapping[str, Any]) -> str:
    """The numbers of a corpus, as text."""
    from gengram.training.corpus.card import describe_shared
    from gengram.training.corpus.haplotypes import describe_counts

    splits = facts["totals"]["splits"]
    names = {
        "bases": "bases",
        "ACGT": "A, C, G, T",
        "N": "N",
        "IUPAC": "IUPAC codes",
        "soft_masked": "in lower case",
        "segments": "segments",
        "bases_in_segments": "bases in segments",
        "windows": f"windows of {_WINDOW:,}",
    }
    rows = [["", *splits]]
    rows += [[title, *(f"{split[key]:,}" for split in splits.values())] for key, title in names.items()]
    lines = [*_align(rows), ""]
    overlap = facts["overlap"]
    for split, one in overlap["common_kmers"].items():
        sampled = f" (of one in {one['sampled']:,})" if one["sampled"] > 1 else ""
        lines.append(
            f"{one['shared']:,} of {one['kmers']:,} distinct {overlap['kmer']}-mers of {split.replace('_', ' ')}, "
            f"{100 * one['share']:.2f} %, are in training, too{sampled}"
        )
    totals = facts["totals"]
    head = (
        f"{facts['name']}: {totals['bases']:,} bases of {len(facts['species']):,} species in, "
        f"{totals['left_out']:,} left out; {len(facts['haplotypes']):,} haplotypes"
    )
    # Corpora of earlier versions do not say what became of variants.
    variants = [f"variants of {one['species']}: {describe_counts(one)}" for one in facts.get("variants", ())]
    return "\n".join([head, "", *lines, describe_shared(facts["overlap"]), *variants])


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]


__all__ = ["build", "push", "show"]
