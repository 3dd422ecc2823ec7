"""Corpora of a few contigs, written as `gengram corpus build` writes them."""

import hashlib
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from gengram.training.corpus.store import SPLITS, Corpus, open_corpus

ROW = 1 << 20


def _draw_letters(length: int, seed: int = 0, alphabet: str = "ACGTacgt") -> str:
    random = np.random.default_rng(seed)
    return random.choice(np.frombuffer(alphabet.encode(), dtype=np.uint8), length).tobytes().decode()


def _write_corpus(
    folder: Path,
    contigs: list[dict],
    *,
    segments: list[tuple[int, int, int, str]] | None = None,
    anchors: list[tuple[int, int, int, float]] | None = None,
    variants: list[tuple[int, int, int, int, str]] = (),
    haplotypes: list[str] = (),
    classes: list[tuple[int, int, int, str]] = (),
    species: list[dict] | None = None,
    groups: dict[str, float] | None = None,
    row: int = ROW,
    batch: int = 64,
) -> Corpus:
    """Write a store and open it.

    Args:
        contigs: `letters`, and what else is not as by default: `species`, `group`, `record`, `split`.
        segments: contig, start, end, split; by default each contig whole.
        anchors: segment, start, end, weight; by default each segment whole.
        variants: haplotype, contig, position, reference length, letters.
        row: letters of a row of the store; `batch`: rows that lie together.
    """
    folder.mkdir(parents=True)
    rows = []
    for number, one in enumerate(contigs):
        one.setdefault("species", "human")
        one.setdefault("group", one["species"])
        one.setdefault("record", f"chr{number + 1}")
        one.setdefault("split", "train")
        if one["split"] != "left_out":
            letters = np.frombuffer(one["letters"].encode(), dtype=np.uint8)
            rows += [(number, start, letters[start : start + row]) for start in range(0, len(letters), row)]
    features = datasets.Features(
        contig=datasets.Value("int32"),
        start=datasets.Value("int64"),
        letters=datasets.List(datasets.Value("uint8")),
    )
    table = pa.table(
        {name: [one[place] for one in rows] for place, name in enumerate(("contig", "start", "letters"))},
        schema=features.arrow_schema,
    )
    # Rows that lie together, as the store has them: a few record batches in one file.
    (folder / "letters").mkdir()
    with pa.ipc.new_stream(folder / "letters" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    if segments is None:
        segments = [
            (number, 0, len(one["letters"]), one["split"])
            for number, one in enumerate(contigs)
            if one["split"] != "left_out"
        ]
    if anchors is None:
        anchors = [(number, start, end, 1.0) for number, (_, start, end, _) in enumerate(segments)]
    _write_table(
        folder / "contigs.arrow",
        [
            (
                one["species"],
                one["group"],
                "genome.fa",
                one["record"],
                "",
                one["record"],
                0,
                len(one["letters"]),
                one["split"],
                hashlib.sha256(one["letters"].encode()).hexdigest(),
            )
            for one in contigs
        ],
        species=pa.string(),
        group=pa.string(),
        file=pa.string(),
        record=pa.string(),
        description=pa.string(),
        name=pa.string(),
        offset=pa.int64(),
        length=pa.int64(),
        split=pa.string(),
        sha256=pa.string(),
    )
    place = {"contig": pa.int32(), "start": pa.int64(), "end": pa.int64()}
    split_rows = [(*interval, SPLITS.index(split)) for *interval, split in segments]
    _write_table(folder / "segments.arrow", split_rows, **place, split=pa.int8())
    spans = {"segment": pa.int32(), "start": pa.int64(), "end": pa.int64(), "weight": pa.float32()}
    _write_table(folder / "anchors.arrow", anchors, **spans)
    if variants:
        edits = {"haplotype": pa.int32(), "contig": pa.int32(), "position": pa.int64(), "reference_length": pa.int32()}
        variants = sorted((*one, letters.encode()) for *one, letters in variants)
        _write_table(folder / "haplotypes.arrow", variants, **edits, alternative=pa.binary())
    if classes:
        _write_table(folder / "classes.arrow", classes, **place, **{"class": pa.string()})
    names = {one["species"]: one["group"] for one in contigs}
    facts = {
        "format": 1,
        "name": "small",
        "recipe": {"groups": groups or {}},
        "species": [{"name": name, "group": group, "weight": None} for name, group in names.items()]
        if species is None
        else species,
        "haplotypes": list(haplotypes),
        "shards": [
            {
                "file": str(path.relative_to(folder)),
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.rglob("*.arrow"))
        ],
    }
    (folder / "corpus.json").write_text(json.dumps(facts))
    return open_corpus(folder)


def _write_table(path: Path, rows: list[tuple], **columns: pa.DataType) -> None:
    arrays = {name: pa.array([row[place] for row in rows], kind) for place, (name, kind) in enumerate(columns.items())}
    table = pa.table(arrays)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture(scope="session")
def draw_letters():
    """Random letters: `draw_letters(length, seed, alphabet)`."""
    return _draw_letters


@pytest.fixture(scope="session")
def write_corpus():
    """Write a store and open it: `write_corpus(folder, contigs, ...)`."""
    return _write_corpus


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """Two genomes, soft masks, a run of N, a contig for validation, one that is left out; rows of 1,000 letters."""
    contigs = [
        {"letters": _draw_letters(20_000, 1), "group": "apes"},
        {"letters": _draw_letters(3_000, 2) + "N" * 40 + _draw_letters(2_000, 3, "ACGTRYKMn"), "group": "apes"},
        {"letters": _draw_letters(6_000, 4), "group": "apes", "split": "validation"},
        {"letters": _draw_letters(5_000, 5), "species": "mouse", "group": "rodents"},
        {"letters": _draw_letters(5_000, 6), "species": "mouse", "group": "rodents", "split": "left_out"},
    ]
    return _write_corpus(tmp_path / "corpus", contigs, row=1_000, batch=4)
