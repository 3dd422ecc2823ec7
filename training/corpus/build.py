"""Genomes -> a corpus: letters, where every base is from, and where windows may lie. `gengram corpus build`."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram._version import __version__
from gengram.errors import InputError
from gengram.files import (
    check_new_folder,
    check_space,
    hash_file,
    keep_finished,
    name_partial,
    replace_folder,
    tell_write_faults,
    write_json,
)
from gengram.phases import phase
from gengram.training.corpus.journal import Journal
from gengram.training.corpus.letters import PartLetters, store_file, write_dataset
from gengram.training.corpus.recipe import GivenRecipe, read_corpus_recipe
from gengram.training.corpus.sources import LEFT_OUT, SPLITS, Record, Source, list_records

FORMAT = 1
FACTS_FILE = "corpus.json"
LETTERS_FOLDER = "letters"
_PARTS, _JOURNAL = "parts", "journal.jsonl"
# Letters that a byte of a packed FASTA file holds, at least.
_PACKED = 3

CONTIGS = pa.schema(
    [
        *((name, pa.string()) for name in ("species", "group", "file", "record", "description", "name")),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("split", pa.string()),
        ("sha256", pa.string()),
    ]
)
SEGMENTS = pa.schema([("contig", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("split", pa.int8())])
ANCHORS = pa.schema([("segment", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("weight", pa.float32())])


def build_corpus(
    recipe: str | Path, out: str | Path, genomes: str | Path | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Build a corpus: a folder that `open_corpus` opens.

    A build that was killed goes on where it was when it is called again, and ends in the same bytes.

    Args:
        recipe: path of a YAML file, or the name of one of the package's.
        out: the folder.
        genomes: the folder that the recipe's names of files begin in; by default its own.
        overwrite: whether a corpus that is there may be replaced.

    Returns:
        What `corpus.json` says.

    Raises:
        `InputError`: a recipe or a file that cannot be used, a folder that cannot be written; nothing is half-written.
    """
    given = read_corpus_recipe(recipe, genomes)
    out = check_new_folder(out, FACTS_FILE, overwrite)
    partial = name_partial(out)
    with tell_write_faults(out, partial), keep_finished(partial, f"{_PARTS}/*.arrow"):
        partial.mkdir(parents=True, exist_ok=True)
        return _Build(given, out, partial).run()


class _Build:
    """One build, in its partial folder."""

    def __init__(self, given: GivenRecipe, out: Path, partial: Path):
        self.given, self.out, self.partial = given, out, partial
        self.parts = partial / _PARTS
        key = json.dumps([FORMAT, __version__, _to_json(given.recipe), os.fspath(given.folder.absolute())])
        self.journal = Journal(partial / _JOURNAL, hashlib.sha256(key.encode()).hexdigest())

    def run(self) -> dict[str, Any]:
        self._undo_assembly()
        self.parts.mkdir(exist_ok=True)
        self.sources, self.records = list_records(self.given, self.journal)
        check_space(self.out, sum(map(_estimate_letters, self.sources)), "give another --out")
        stored = self._store()
        self.sha256 = [digest for entry in stored for digest in entry["sha256"]]
        shards = [shard for entry in stored for shard in entry["shards"]]
        if not shards:
            raise InputError(f"{self.given.path}: nothing is left of the genomes: all of their records are left out")
        letters = PartLetters([self.parts / shard["file"] for shard in shards])
        with phase("Cutting segments", unit="bp", total=sum(record.length for record in self.records)) as cutting:
            segments, counts = self._cut(letters, cutting.add)
        anchors = place_anchors(segments)
        tables = {
            "contigs": self._list_contigs(),
            "segments": segments,
            "anchors": anchors,
        }
        files = self._assemble(shards, tables)
        facts = self._describe(files, segments, counts)
        write_json(facts, self.partial / FACTS_FILE)
        for name in (_PARTS, f"{_PARTS}.scratch"):
            shutil.rmtree(self.partial / name, ignore_errors=True)
        (self.partial / _JOURNAL).unlink()
        replace_folder(self.partial, self.out)
        return facts

    def _store(self) -> list[dict[str, Any]]:
        """Write the letters of all sources."""
        numbered: list[list[tuple[int, Record]]] = [[] for _ in self.sources]
        for contig, record in enumerate(self.records):
            numbered[record.file].append((contig, record))
        with phase("Storing letters", unit="bp", total=sum(record.length for record in self.records)) as storing:
            return [
                store_file(source, number, numbered[number], self.parts, self.journal, storing.add)
                for number, source in enumerate(self.sources)
            ]

    def _cut(self, letters: "PartLetters", done: Callable[[int], Any]) -> tuple[pa.Table, dict[str, Counter[str]]]:
        """Find where windows may lie, and count the letters of each split."""
        rows: list[tuple[int, int, int, int]] = []
        counts = {split: Counter[str]() for split in SPLITS}
        for contig, record in enumerate(self.records):
            if record.split != LEFT_OUT:
                whole = letters.read(contig)
                gaps = _find_gaps(whole, self.given.recipe.max_n_run + 1)
                spans = [(start, end, "train") for start, end in record.list_free()]
                spans += [tuple(span) for span in record.spans if span.split != LEFT_OUT]
                for start, end, split in sorted(spans):
                    counts[split] += _count_letters(whole[start:end])
                    rows += [(contig, *one, SPLITS.index(split)) for one in _subtract(start, end, gaps)]
            done(record.length)
        return pa.table(list(map(list, zip(*rows))) if rows else [[]] * 4, schema=SEGMENTS), counts

    def _list_contigs(self) -> pa.Table:
        rows = [
            {
                "species": self.given.recipe.genomes[record.genome].species,
                "group": self.given.recipe.genomes[record.genome].group,
                "file": self.sources[record.file].name,
                "record": record.name,
                "description": record.description,
                "name": record.contig,
                "offset": record.offset,
                "length": record.length,
                "split": record.split,
                "sha256": digest,
            }
            for record, digest in zip(self.records, self.sha256)
        ]
        return pa.Table.from_pylist(rows, schema=CONTIGS)

    def _assemble(self, shards: Sequence[dict[str, Any]], tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
        """Give the shards the names that they are going to have, write the tables; returns all files."""
        folder = self.partial / LETTERS_FOLDER
        names = [f"data-{number:05d}-of-{len(shards):05d}.arrow" for number in range(len(shards))]
        self.journal.write("assembly", {"names": {shard["file"]: name for shard, name in zip(shards, names)}})
        folder.mkdir(exist_ok=True)
        for shard, name in zip(shards, names):
            os.replace(self.parts / shard["file"], folder / name)
        digest = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
        write_dataset(folder, names, digest)
        files = [
            {"file": f"{LETTERS_FOLDER}/{name}", "bytes": shard["bytes"], "sha256": shard["sha256"]}
            for shard, name in zip(shards, names)
        ]
        for name, table in tables.items():
            path = self.partial / f"{name}.arrow"
            with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            files.append({"file": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)})
        return files

    def _undo_assembly(self) -> None:
        """Take back the names of shards that a build which was killed just then has given."""
        folder = self.partial / LETTERS_FOLDER
        if folder.is_dir():
            assembly = self.journal.find("assembly") or {"names": {}}
            self.parts.mkdir(exist_ok=True)
            for part, name in assembly["names"].items():
                with contextlib.suppress(FileNotFoundError):
                    os.replace(folder / name, self.parts / part)
            shutil.rmtree(folder)

    def _describe(
        self, files: list[dict[str, Any]], segments: pa.Table, counts: dict[str, Counter[str]]
    ) -> dict[str, Any]:
        recipe = self.given.recipe
        in_segments = [
            int((part["end"].to_numpy() - part["start"].to_numpy()).sum())
            for part in (segments.filter(pc.equal(segments["split"], split)) for split in range(len(SPLITS)))
        ]
        left_out = [
            {
                "species": recipe.genomes[record.genome].species,
                "file": self.sources[record.file].name,
                "record": record.name,
                "start": span.start,
                "end": span.end,
                "reason": record.reason or "leave_out",
            }
            for record in self.records
            for span in record.spans
            if span.split == LEFT_OUT
        ]
        return {
            "format": FORMAT,
            "name": recipe.name,
            "licence": recipe.licence,
            "recipe": json.loads(json.dumps(_to_json(recipe))),
            "sources": [
                {"file": source.name, "bytes": source.bytes, "sha256": source.sha256} for source in self.sources
            ],
            "species": self._list_species(segments),
            "haplotypes": [],
            "left_out": left_out,
            "totals": {
                "bases": sum(record.length for record in self.records),
                "left_out": sum(one["end"] - one["start"] for one in left_out),
                "segments": len(segments),
                "splits": {
                    split: {
                        "bases": counts[split].total() - counts[split]["soft_masked"],
                        **{name: counts[split][name] for name in LETTER_CLASSES},
                        "segments": int(pc.sum(pc.equal(segments["split"], number)).as_py() or 0),
                        "bases_in_segments": in_segments[number],
                    }
                    for number, split in enumerate(SPLITS)
                },
            },
            "shards": files,
            "versions": {"gengram": __version__, "datasets": datasets.__version__, "pyarrow": pa.__version__},
        }

    def _list_species(self, segments: pa.Table) -> list[dict[str, Any]]:
        """Species in the order of the recipe, with the bases that windows may hold and the weight of each."""
        recipe = self.given.recipe
        names = list(dict.fromkeys(genome.species for genome in recipe.genomes))
        species: list[dict[str, Any]] = []
        home = np.array([names.index(recipe.genomes[record.genome].species) for record in self.records])
        of = home[segments["contig"].to_numpy()] if len(segments) else np.empty(0, dtype=np.int64)
        sizes = segments["end"].to_numpy() - segments["start"].to_numpy()
        split = segments["split"].to_numpy()
        for number, name in enumerate(names):
            mine = [genome for genome in recipe.genomes if genome.species == name]
            bases = {one: int(sizes[(of == number) & (split == place)].sum()) for place, one in enumerate(SPLITS)}
            given = [genome.weight for genome in mine if genome.weight is not None]
            species.append(
                {
                    "name": name,
                    "group": mine[0].group,
                    "weight": sum(given) if given else None,
                    "contigs": int((home == number).sum()),
                    "bases": bases,
                }
            )
        return species


LETTER_CLASSES = ("ACGT", "N", "IUPAC", "soft_masked")
_ACGT, _ANY, _LOWER = np.zeros(256, bool), np.zeros(256, bool), np.zeros(256, bool)
_ACGT[list(b"ACGTacgt")], _ANY[list(b"Nn")] = True, True
_LOWER[list(b"acgt")] = True


def _count_letters(letters: np.ndarray) -> Counter[str]:
    """Count letters by class; those in lower case, of whatever class, once more as soft-masked."""
    counts = np.bincount(letters, minlength=256)
    acgt, unknown = int(counts[_ACGT].sum()), int(counts[_ANY].sum())
    return Counter(
        {
            "ACGT": acgt,
            "N": unknown,
            "IUPAC": len(letters) - acgt - unknown,
            "soft_masked": int(counts[_LOWER].sum()),
        }
    )


def _find_gaps(letters: np.ndarray, minimum: int) -> np.ndarray:
    edges = np.flatnonzero(np.diff(_ANY[letters].astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return edges[edges[:, 1] - edges[:, 0] >= minimum]


def _subtract(start: int, end: int, gaps: np.ndarray) -> list[tuple[int, int]]:
    inside = np.clip(gaps[(gaps[:, 1] > start) & (gaps[:, 0] < end)], start, end)
    bounds = np.concatenate([[start], inside.ravel(), [end]]).reshape(-1, 2)
    return [(int(one), int(two)) for one, two in bounds if one < two]


def place_anchors(segments: pa.Table) -> pa.Table:
    """Return one anchor for each segment, all of it."""
    return pa.table(
        [
            pa.array(np.arange(len(segments), dtype=np.int32)),
            segments["start"],
            segments["end"],
            pa.array(np.ones(len(segments), dtype=np.float32)),
        ],
        schema=ANCHORS,
    )


def _to_json(value: Any) -> Any:
    """A recipe as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _to_json(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    return [_to_json(one) for one in value] if isinstance(value, tuple | list) else value


def _estimate_letters(source: Source) -> int:
    with open(source.path, "rb") as file:
        return source.bytes * (_PACKED if file.read(2) == b"\x1f\x8b" else 1)


__all__ = ["FACTS_FILE", "FORMAT", "LETTERS_FOLDER", "build_corpus"]
