"""What the card of a corpus says: its contigs, what is held out and left out, what training shares with that."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub import DatasetCard, DatasetCardData

from gengram.markdown import escape_text, format_code, format_fence, format_literal, format_table, render_template
from gengram.training.corpus.letters import ROW_LETTERS

# A table of more rows is not read by anybody.
_MOST_ROWS = 200
_TABLES = ("contigs", "segments", "anchors", "classes", "haplotypes")
_SPLITS = {"left_out": "left out"}


def render_corpus_card(folder: Path, facts: Mapping[str, Any], repo_id: str | None = None) -> DatasetCard:
    """Render the card of a corpus, a data set card of the Hub.

    Args:
        folder: of the corpus.
        facts: what its `corpus.json` says.
        repo_id: where it will be published; without, the examples have a name to be replaced.
    """
    name = repo_id.split("/")[-1] if repo_id else facts["name"]
    tables = [one for one in _TABLES if (folder / f"{one}.arrow").is_file()]
    places = {"letters": "letters/*.arrow", **{one: f"{one}.arrow" for one in tables}}
    configs: list[dict[str, Any]] = [
        {"config_name": one, "data_files": [{"split": "train", "path": path}]} for one, path in places.items()
    ]
    configs[0]["default"] = True
    data = DatasetCardData(
        license=facts["licence"],
        tags=["biology", "genomics", "dna", "gengram-corpus"],
        pretty_name=name,
        configs=configs,
    )
    with pa.memory_map(str(folder / "contigs.arrow")) as source:
        contigs = pa.ipc.open_file(source).read_all().to_pylist()
    more = len(contigs) - _MOST_ROWS
    haplotypes = len(facts["haplotypes"])
    text = render_template(
        "gengram.model_cards",
        "corpus_template.md",
        card_data=data.to_yaml(),
        name=name,
        bases=f"{sum(split['bases'] for split in facts['totals']['splits'].values()):,}",
        species=_join([escape_text(one["name"]) for one in facts["species"]]),
        usage=format_fence(_show_usage(repo_id or f"your-organization/{name}"), "python"),
        row_letters=f"{ROW_LETTERS:,}",
        haplotypes=f"; `haplotypes` has the variants of {haplotypes:,}" if haplotypes else "",
        letters=_tabulate_letters(facts),
        contigs=_tabulate_contigs(contigs[:_MOST_ROWS]),
        more=f"and {more:,} more, in `contigs.arrow`." if more > 0 else "",
        left_out=_list_left_out(facts["left_out"]),
        overlap=_tabulate_overlap(facts["overlap"]),
        shared=describe_shared(facts["overlap"]),
        sources=format_table(
            ["file", "bytes", "SHA-256"],
            [
                [escape_text(one["file"]), f"{one['bytes']:,}", format_code(one["sha256"])]
                for one in facts["sources"][:_MOST_ROWS]
            ],
            numbers=[1],
        ),
        license=facts["licence"],
        versions=", ".join(
            f"{escape_text(name)} {escape_text(version)}" for name, version in facts["versions"].items()
        ),
    )
    return DatasetCard(text)


def describe_shared(overlap: Mapping[str, Any]) -> str:
    """Return in a sentence whether training shares stretches with what is held out or left out, on either strand."""
    length = f"{overlap['stretch']:,}"
    if overlap["cut"] and overlap["cut_stretches"]:
        return (
            f"Training shares no stretch of {length} bases with what is held out or left out, on either strand: "
            f"{overlap['cut_bases']:,} bases in {overlap['cut_stretches']:,} stretches were cut out of its segments."
        )
    if not overlap["shared_stretches"]:
        return f"Training shares no stretch of {length} bases with what is held out or left out, on either strand."
    return (
        f"Training shares {overlap['shared_stretches']:,} stretches of at least {length} bases with what is held out "
        "or left out, on either strand; the recipe does not cut them out (`max_shared`)."
    )


def _show_usage(repo_id: str) -> str:
    return "\n".join(
        [
            "from datasets import load_dataset",
            "",
            f'letters = load_dataset({format_literal(repo_id)}, "letters", split="train")',
            f'contigs = load_dataset({format_literal(repo_id)}, "contigs", split="train")',
            'bases = bytes(letters[0]["letters"]).decode()',
        ]
    )


def _tabulate_letters(facts: Mapping[str, Any]) -> str:
    head = ["split", "bases", "A, C, G, T", "N", "IUPAC codes", "in lower case", "segments", "bases in segments"]
    keys = ["bases", "ACGT", "N", "IUPAC", "soft_masked", "segments", "bases_in_segments"]
    rows = [[name, *(f"{split[key]:,}" for key in keys)] for name, split in facts["totals"]["splits"].items()]
    return format_table(head, rows, numbers=range(1, len(head)))


def _tabulate_contigs(contigs: Sequence[Mapping[str, Any]]) -> str:
    head = ["species", "record", "contig", "first base, from 0", "bases", "split", "file"]
    rows = [
        [
            escape_text(one["species"]),
            escape_text(one["record"]),
            escape_text(one["name"]),
            f"{one['offset']:,}",
            f"{one['length']:,}",
            _SPLITS.get(one["split"], one["split"]),
            escape_text(one["file"]),
        ]
        for one in contigs
    ]
    return format_table(head, rows, numbers=[3, 4])


def _list_left_out(left_out: Sequence[Mapping[str, Any]]) -> str:
    if not left_out:
        return "Nothing."
    rows = [
        [
            escape_text(one["species"]),
            escape_text(one["record"]),
            f"{one['start']:,}",
            f"{one['end']:,}",
            format_code(one["reason"]),
        ]
        for one in left_out[:_MOST_ROWS]
    ]
    return format_table(["species", "record", "start, from 0", "end", "because of"], rows, numbers=[2, 3])


def _tabulate_overlap(overlap: Mapping[str, Any]) -> str:
    if not overlap["common_kmers"]:
        return "Nothing is held out or left out."
    rows = [
        [
            _SPLITS.get(split, split),
            f"{one['kmers']:,}",
            f"{one['shared']:,}",
            f"{100 * one['share']:.2f} %",
            "all" if one["sampled"] == 1 else f"one in {one['sampled']:,}",
        ]
        for split, one in overlap["common_kmers"].items()
    ]
    head = ["", f"distinct {overlap['kmer']}-mers", "in training, too", "share", "looked at"]
    return format_table(head, rows, numbers=[1, 2, 3])


def _join(names: Sequence[str]) -> str:
    shown = list(names[:20]) + ([f"{len(names) - 20:,} more species"] if len(names) > 20 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


__all__ = ["describe_shared", "render_corpus_card"]
