"""What a card says of pre-training: the corpus and its contigs, stages, and bits per base on held-out ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from gengram.markdown import escape_text, format_code, format_table

REPORT = "pretraining.json"
"""The file of a folder of `gengram pretrain` that says what its model has read."""

# More names than these are not listed.
_MOST_NAMES, _MOST_SPANS = 60, 100
_HASH_DIGITS = 12
_SPLITS = {"train": "read", "validation": "held out (validation)", "test": "held out (test)", "left_out": "left out"}
_METRICS = {
    "bits_per_base": "bits per base",
    "perplexity_per_base": "perplexity per base",
    "strand/gap": "gap between the strands, bits per base",
    "accuracy": "accuracy",
}


def describe_pretraining(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a card that a pre-training fills, as Markdown.

    Args:
        report: content of `pretraining.json`.

    Returns:
        `summary`, `stages`, `contigs` and `spans` (empty where no part of a contig is held out), `results` (empty where
        nothing was measured).
    """
    corpus = report["corpus"]
    known = corpus["licence"] if corpus["licence"] not in (None, "unknown") else "not stated"
    digest = format_code(str(corpus["sha256"])[:_HASH_DIGITS])
    summary = (
        f"Corpus {escape_text(corpus['name'])} (SHA-256 of its `corpus.json` {digest}, licence {escape_text(known)}): "
        f"{report['tokens']:,} tokens, {report['bases']:,} bases were read, objective "
        f"{escape_text(report['model']['objective'])}."
    )
    return {
        "summary": summary,
        "stages": _tabulate_stages(report),
        "contigs": _tabulate_contigs(corpus["contigs"]),
        "spans": _tabulate_spans([*(corpus.get("held_out") or ()), *(corpus.get("left_out") or ())], corpus["contigs"]),
        "results": _tabulate_results(report.get("evaluation") or {}),
    }


def list_pretraining_limits(report: Mapping[str, Any]) -> list[str]:
    """Return what the model is not for, in sentences."""
    longest = max(stage["block_size"] for stage in report["stages"])
    species = ", ".join(escape_text(name) for name in list(report["corpus"]["contigs"])[:_MOST_NAMES])
    return [
        f"In pre-training, blocks were at most {longest:,} tokens long.",
        f"It has read DNA of {species}; others were not tried.",
        "Figures on contigs that it has read say nothing of new ones.",
    ]


def _tabulate_stages(report: Mapping[str, Any]) -> str:
    rows = [
        [
            escape_text(stage["stage"]),
            f"{stage['steps']:,}",
            f"{stage['block_size']:,}",
            f"{stage['tokens']:,}",
            f"{stage['learning_rate']:g}",
            escape_text(stage["strand"]),
            _show(result["loss"]),
            _show(result["bits_per_base"]),
        ]
        for stage, result in zip(report["stages"], report["results"])
    ]
    head = [
        "stage",
        "steps",
        "block in tokens",
        "tokens",
        "learning rate",
        "strand",
        "last loss",
        "bits per base of it",
    ]
    return format_table(head, rows, numbers=[0, 1, 2, 3, 4, 6, 7])


def _tabulate_contigs(contigs: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """A row for each species: which of its contigs were read, held out and left out."""
    splits = [split for split in _SPLITS if any(split in of for of in contigs.values())]
    rows = [[escape_text(name), *(_list(of.get(split, ())) for split in splits)] for name, of in contigs.items()]
    return format_table(["species", *(_SPLITS[split] for split in splits)], rows)


def _tabulate_spans(spans: Sequence[Mapping[str, Any]], contigs: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The parts of contigs that were read otherwise."""
    read = {(species, record) for species, of in contigs.items() for record in of.get("train", ())}
    inside = [one for one in spans if (one["species"], one["record"]) in read]
    rows = [
        [
            escape_text(one["species"]),
            escape_text(one["record"]),
            f"{one['start']:,}",
            f"{one['end']:,}",
            escape_text(_SPLITS.get(one.get("split", "left_out"), "")),
        ]
        for one in inside[:_MOST_SPANS]
    ]
    more = len(inside) - len(rows)
    table = format_table(["species", "contig", "start, from 0", "end", "what"], rows, numbers=[2, 3]) if rows else ""
    return f"{table}\n\nand {more:,} more." if more else table


def _tabulate_results(evaluation: Mapping[str, Any]) -> str:
    rows = []
    for key, title in _METRICS.items():
        if isinstance(value := evaluation.get(key), int | float):
            low, high = (evaluation.get(f"{key}_{end}") for end in ("low", "high"))
            rows.append([title, _show(value), f"{_show(low)} to {_show(high)}" if low is not None else ""])
    for key, value in evaluation.items():
        kind, _, name = key.removesuffix("/bits_per_base").partition("/")
        if key.endswith("/bits_per_base") and kind in ("species", "class"):
            rows.append([f"bits per base, {kind} {escape_text(name)}", _show(value), ""])
    return format_table(["on held-out contigs", "", "95 % interval"], rows, numbers=[1, 2]) if rows else ""


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(escape_text(name) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown


def _show(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}"


__all__ = ["REPORT", "describe_pretraining", "list_pretraining_limits"]
