"""Genomes -> a corpus: letters, where every base is from, and where windows may lie. `gengram corpus build`."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

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
from gengram.training.corpus.card import render_corpus_card
from gengram.training.corpus.journal import Journal
from gengram.training.corpus.layout import LETTERS, Layout, Rules, lay_out, name_haplotypes, read_rules, write_variants
from gengram.training.corpus.leak import K, Shared, Stretch
from gengram.training.corpus.letters import DATASET_FILES, PartLetters, read_left_out, store_file, write_dataset
from gengram.training.corpus.recipe import GivenRecipe, read_corpus_recipe
from gengram.training.corpus.sources import LEFT_OUT, Record, list_records
from gengram.training.corpus.spans import count_bases, merge_spans
from gengram.training.corpus.store import FACTS_FILE, FORMAT, LETTERS_FOLDER, SPLITS

_PARTS, _JOURNAL = "parts", "journal.jsonl"

_MOST_LISTED = 100
WINDOW = 1024
"""Bases of the windows that are counted: those that lie side by side in the segments."""

CONTIGS = pa.schema(
    [
        *((name, pa.string()) for name in ("species", "group", "file", "record", "description", "name")),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("split", pa.string()),
        ("sha256", pa.string()),
    ]
)


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
        """Do what is not done yet, move the finished folder to its place, and return the facts of its `corpus.json`."""
        self._undo_assembly()
        self.parts.mkdir(exist_ok=True)
        self.sources, self.records = list_records(self.given, self.journal)
        there = sum(path.stat().st_size for path in self.parts.iterdir())
        check_space(self.out, self._bases() - there, "give another --out")
        with phase("Reading regions"):
            rules = self._read_rules()
            haplotypes = name_haplotypes(self.given, rules)
        stored = self._store()
        self.sha256 = [digest for entry in stored for digest in entry["sha256"]]
        shards = [shard for entry in stored for shard in entry["shards"]]
        if not shards:
            raise InputError(f"{self.given.path}: nothing is left of the genomes: all of their records are left out")
        letters = PartLetters([self.parts / shard["file"] for shard in shards])
        with phase("Cutting segments", unit="bp", total=2 * self._bases()) as cutting:
            layout = lay_out(self.given, self.records, rules, letters.read, self._list_left_out(), cutting.add)
        variants: list[dict[str, Any]] = []
        if haplotypes:
            with phase("Reading variants"):
                path = self.partial / "haplotypes.arrow"
                variants = write_variants(path, self.records, rules, haplotypes, letters.read, self.parts)
        del letters  # what is mapped is not renamed everywhere
        files = self._assemble(shards, layout, bool(haplotypes))
        facts = self._describe(files, layout, haplotypes, variants)
        write_json(facts, self.partial / FACTS_FILE)
        (self.partial / "README.md").write_text(str(render_corpus_card(self.partial, facts)), encoding="utf-8")
        shutil.rmtree(self.parts)
        (self.partial / _JOURNAL).unlink()
        replace_folder(self.partial, self.out)
        return facts

    def _bases(self) -> int:
        return sum(record.length for record in self.records)

    def _read_rules(self) -> list[Rules]:
        lengths: list[dict[str, int]] = [{} for _ in self.given.recipe.genomes]
        for record in self.records:
            lengths[record.genome][record.name] = record.length
        return [read_rules(self.given, number, one) for number, one in enumerate(lengths)]

    def _list_left_out(self) -> list[Stretch]:
        """The letters that are left out by name; what is too short, or skipped for its description, is not compared."""
        stretches = []
        left = [read_left_out(self.parts, number) for number in range(len(self.sources))]
        places = [0] * len(self.sources)
        for contig, record in enumerate(self.records):
            for start, end in record.find_spans(LEFT_OUT).tolist():
                first = places[record.file]
                places[record.file] += end - start
                if record.reason in ("", "leave_out"):
                    letters = left[record.file][first : first + end - start]
                    stretches.append(Stretch(contig, start, letters, LEFT_OUT))
        return stretches

    def _store(self) -> list[dict[str, Any]]:
        """Write the letters of all sources."""
        numbered: list[list[tuple[int, Record]]] = [[] for _ in self.sources]
        for contig, record in enumerate(self.records):
            numbered[record.file].append((contig, record))
        with phase("Storing letters", unit="bp", total=self._bases()) as storing:
            return [
                store_file(source, number, numbered[number], self.parts, self.journal, storing.add)
                for number, source in enumerate(self.sources)
            ]

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

    def _assemble(self, shards: Sequence[dict[str, Any]], layout: Layout, has_variants: bool) -> list[dict[str, Any]]:
        """Give the shards the names that they are going to have, write the tables; returns all files."""
        tables = {"contigs": self._list_contigs(), "segments": layout.segments, "anchors": layout.anchors}
        if layout.classes is not None:
            tables["classes"] = layout.classes
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
        for name in DATASET_FILES:
            path = folder / name
            files.append({"file": f"{LETTERS_FOLDER}/{name}", "bytes": path.stat().st_size, "sha256": hash_file(path)})
        for name, table in tables.items():
            path = self.partial / f"{name}.arrow"
            with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        for name in [*tables, *(["haplotypes"] if has_variants else [])]:
            path = self.partial / f"{name}.arrow"
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
        self,
        files: list[dict[str, Any]],
        layout: Layout,
        haplotypes: Sequence[str],
        variants: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        recipe, segments, counts = self.given.recipe, layout.segments, layout.letters
        sizes, split_of = segments["end"].to_numpy() - segments["start"].to_numpy(), segments["split"].to_numpy()
        in_segments = [sizes[split_of == number] for number in range(len(SPLITS))]
        held_out: list[dict[str, Any]] = []
        left_out: list[dict[str, Any]] = []
        for record in self.records:
            for span in record.spans:
                place: dict[str, Any] = {
                    "species": recipe.genomes[record.genome].species,
                    "file": self.sources[record.file].name,
                    "record": record.name,
                    "start": span.start,
                    "end": span.end,
                }
                if span.split == LEFT_OUT:
                    left_out.append({**place, "reason": record.reason or "leave_out"})
                else:
                    held_out.append({**place, "split": span.split})
        return {
            "format": FORMAT,
            "name": recipe.name,
            "licence": recipe.licence,
            "recipe": _hide_places(_to_json(recipe)),
            "sources": [
                {"file": source.name, "bytes": source.bytes, "sha256": source.sha256} for source in self.sources
            ],
            "species": self._list_species(segments),
            "haplotypes": list(haplotypes),
            "variants": list(variants),
            "held_out": held_out,
            "left_out": left_out,
            "totals": {
                "bases": sum(record.length for record in self.records),
                "left_out": sum(one["end"] - one["start"] for one in left_out),
                "segments": len(segments),
                "splits": {
                    split: {
                        "bases": counts[split].total() - counts[split]["soft_masked"],
                        **{name: counts[split][name] for name in LETTERS},
                        "segments": len(in_segments[number]),
                        "bases_in_segments": int(in_segments[number].sum()),
                        "windows": int((in_segments[number] // WINDOW).sum()),
                    }
                    for number, split in enumerate(SPLITS)
                },
            },
            "overlap": self._describe_overlap(layout),
            "shards": files,
            "versions": {"gengram": __version__, "datasets": datasets.__version__, "pyarrow": pa.__version__},
        }

    def _describe_overlap(self, layout: Layout) -> dict[str, Any]:
        """What training shares with all else; places are those of `contigs.arrow`, from 0."""
        return {
            "kmer": K,
            "common_kmers": {
                split: {"kmers": one.kmers, "shared": one.shared, "share": round(one.share, 6), "sampled": one.every}
                for split, one in layout.common.items()
            },
            "stretch": layout.length,
            "cut": layout.cut,
            "shared_stretches": 0 if layout.cut else len(layout.shared),
            "cut_stretches": len(layout.shared) if layout.cut else 0,
            "cut_bases": _count_bases(layout.shared) if layout.cut else 0,
            "stretches": [one._asdict() for one in layout.shared[:_MOST_LISTED]],
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


def _count_bases(shared: Sequence[Shared]) -> int:
    """Bases of training that stretches cover, which may overlap."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for one in shared:
        spans.setdefault(one.contig, []).append((one.start, one.end))
    return sum(count_bases(merge_spans(np.array(several))) for several in spans.values())


def _to_json(value: Any) -> Any:
    """A recipe as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _to_json(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    return [_to_json(one) for one in value] if isinstance(value, tuple | list) else value


def _hide_places(value: Any) -> Any:
    """What JSON has; of a file that is named from the root on, its name alone."""
    if isinstance(value, dict):
        return {name: _hide_places(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_hide_places(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


__all__ = ["build_corpus"]
