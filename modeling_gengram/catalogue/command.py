"""The verb that shows which models there are: models."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from gengram.catalogue.rows import LOADS, OBJECTIVES
from gengram.command_line import Answer, VerbParser, run
from gengram.errors import InputError

_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


def models(argv: Sequence[str] | None = None) -> int:
    """Run `gengram models`; returns the exit code."""
    parser = VerbParser(
        "models",
        usage="[ID] [...]",
        description="List published DNA language models, or show one: sizes, limits, licences, how it loads, sources.",
        example="gengram models --commercial_ok --max_parameters 200M --min_bases 3k\n"
        "gengram models InstaDeepAI/nucleotide-transformer-v2-100m-multi-species",
        notes="What nobody could read anywhere is unknown (?), and a filter leaves out what it does not know.",
    )
    parser.add_position("id", "ID", optional=True)
    what = parser.add_argument_group("which")
    what.add_argument("--id", help="one model, with the source of every fact (also as first argument)")
    what.add_argument("--family", help="those of a family")
    what.add_argument("--loads", choices=LOADS, help="those that load by classes of gengram, of transformers ...")
    what.add_argument("--objective", choices=OBJECTIVES, help="those trained so")
    what.add_argument("--commercial_ok", action="store_true", help="only if weights and code may be used for money")
    what.add_argument("--max_parameters", type=amount, metavar="N", help="up to this size: 200M, 1.5B")
    what.add_argument("--min_bases", type=amount, metavar="N", help="one input may have this many bases: 10k, 1M")
    parser.add_common()

    def work(id: str | None, **filters: Any) -> Answer:
        from gengram.catalogue.listing import show_model, show_models

        if id is None:
            return show_models(**filters)
        if given := [f"--{name}" for name, value in filters.items() if value not in (None, False)]:
            raise InputError(f"{id}: one model is shown as it is, without a filter; leave out {', '.join(given)}")
        return show_model(id)

    return run(parser, parser.parse(argv), work)


def amount(text: str) -> int:
    """Type of an argument: a number of at least 1, also with k, M or B (10^3, 10^6, 10^9) or bp, kb, Mb behind it."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(?:([KMB]?)|([KM]?)BP?)", text.upper())
    value = int(float(found[1]) * _UNITS[found[2] or found[3] or ""]) if found else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of at least 1, such as 500, 10k, 5kb, 200M or 1.5B")
    return value


__all__ = ["amount", "models"]
