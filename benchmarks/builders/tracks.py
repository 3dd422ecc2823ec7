"""Windows with what tracks say of their bins, as CAGE of the Long-Range Benchmark: numbers of bigWig files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.loading.faults import tell_faults

from .folder import Built
from .genome import Finder, StoredGenome, read_contig_names, store_genome
from .places import PlaceTable, RowCollector, finish, plan_schema, read_named_files
from .window_rows import Cutting, Output, TaskPlan, Window, centre_interval, cut_window, write_task
from .window_splits import NAMES, SPLITS, SplitRule

BIN = 128


def build_tracks(
    genome: str,
    intervals: str,
    tracks: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    bin_size: int = BIN,
    pool: Literal["sum", "mean"] = "sum",
    contigs: Sequence[str] = (),
    pad: bool = False,
    max_n: float = 1.0,
) -> Built:
    """Make a task of windows with the values of tracks in the bins of an interval in their middle.

    Args:
        genome: a FASTA file.
        intervals: BED, or a table with `chrom`, `start` and `end`: the bases that have labels, in whole bins. Where the
            name, or a column `split`, says train, validation (valid) or test of every row, rows are dealt so.
        tracks: `LABEL=BIGWIG`.
        length, out, rule: see `build_variants`.
        bin_size: bp of a bin.
        pool: what a bin has of its bases; one without a value counts as 0.
        contigs: of `read_contig_names`.
        pad, max_n: see `Cutting`.

    Raises:
        `InputError`: see `PlaceTable`, `write_task`; no pyBigWig; a track that cannot be read or lacks a contig;
            intervals of different lengths, or not of whole bins.
    """
    try:
        import pyBigWig
    except ImportError as error:
        raise InputError("bigWig files are read with pyBigWig: pip install pyBigWig") from error
    cutting, named, files = Cutting(length, pad, max_n), read_contig_names(contigs), read_named_files(tracks)
    out.check(genome, intervals, *files.values())
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored, ExitStack() as stack:
        cutting.check(stored)
        opened: dict[str, Any] = {}
        for name, file in files.items():
            with tell_faults(f"{file}: no bigWig file"):
                opened[name] = stack.enter_context(pyBigWig.open(file))
            if not opened[name].isBigWig():
                raise InputError(f"{file}: no bigWig file")
        plan, bases = _plan(stored, intervals, named, counts, length, bin_size)
        readers = [_Reader(stored, file, track) for file, track in zip(files.values(), opened.values())]

        def cut(row: Mapping[str, Any]) -> Window | str:
            window = cut_window(stored, row, cutting)
            if isinstance(window, str):
                return window
            start = row["label_start"] - stored.offsets[row["record"]]
            values = np.stack(
                [one.read(row["record"], start, start + bases, bin_size, pool) for one in readers], axis=1
            )
            return window._replace(label=values.ravel().tolist())

        notes: dict[str, Any] = {
            "title": f"Tracks in bins of {bin_size:,} bp, windows of {length:,} bp",
            "description": f"What do the tracks {', '.join(list(files)[:20])} say of the {bases // bin_size:,} bins in "
            "the middle? Labels bin by bin, in each all tracks; not transformed.",
            "problem": "regression",
        }
        settings = {"bin_size": bin_size, "pool": pool, "bins": bases // bin_size, "tracks": list(files)}
        task = TaskPlan(
            "tracks",
            plan,
            **notes,
            settings={**settings, "contigs": list(contigs)},
            sources={"intervals": intervals, "tracks": list(files.values())},
            counts=counts,
            cut=cut,
        )
        return write_task(stored, task, cutting, rule, out)


def _plan(
    genome: StoredGenome, file: str, contigs: dict[str, str], counts: Counter[str], length: int, bin_size: int
) -> tuple[pa.Table, int]:
    """Return the rows, and bp of an interval."""
    table = PlaceTable(file)
    if table.position is not None:
        raise InputError(f"{file}: columns start and end are needed, of the bases that have labels")
    finder = Finder(genome, file, contigs)
    known = {*SPLITS, *NAMES}
    column = next((name for name in (table.name, *table.others) if name and name.casefold() in ("split", "name")), None)
    found = list(table.stream(finder))
    finish([finder], counts)
    splits = [place.name if column == table.name else str(place.cells[column]) for place in found] if column else []
    dealt = bool(splits) and all(str(one).strip().lower() in known for one in splits)
    schema = plan_schema(
        ("label_start", pa.int64()), ("label_end", pa.int64()), *([("split", pa.string())] if dealt else [])
    )
    rows, bases = RowCollector(schema), 0
    for number, place in enumerate(found):
        size = place.end - place.start
        if size % bin_size or size > length:
            raise InputError(
                f"{place.where}: an interval of {size:,} bp; it should have whole bins of {bin_size:,} bp, and not "
                f"more than the window's {length:,}"
            )
        if bases not in (0, size):
            raise InputError(f"{place.where}: an interval of {size:,} bp, and the others have {bases:,}")
        bases = size
        start = centre_interval(place.start, place.end, length)
        first = place.start + genome.offsets[place.record]
        rows.add(place.record, start, start + length, ".", first, first + size, *([splits[number]] if dealt else []))
    return rows.finish(), bases


class _Reader:
    """Reads a bigWig file at the places of a genome."""

    def __init__(self, genome: StoredGenome, file: str, track: Any):
        self.genome, self.file, self.track = genome, file, track
        self.lengths = track.chroms()
        found, _ = genome.records.match(dict.fromkeys(self.lengths), None)
        self.names = {genome.numbers[part.record]: name for name, parts in found.items() for part in parts}

    def read(self, record: int, start: int, end: int, bin_size: int, pool: str) -> np.ndarray:
        """Return the sum or mean of every bin, float32."""
        name = self.names.get(record)
        first = self.genome.offsets[record]
        if name is None or end + first > self.lengths[name]:
            raise InputError(
                f"{self.file}: it has no bases {self.genome.chroms[record]}:{start + first}-{end + first}; is it of "
                "another assembly?"
            )
        with tell_faults(f"{self.file}: it cannot be read at {name}:{start + first}-{end + first}"):
            values = np.nan_to_num(np.array(self.track.values(name, start + first, end + first), dtype=np.float64))
        bins = values.reshape(-1, bin_size).sum(axis=1)
        return (bins / bin_size if pool == "mean" else bins).astype(np.float32)


__all__ = ["BIN", "build_tracks"]
