"""What does a fine-tuned model say along sequences that are longer than it reads? `gengram predict --too_long window`.

A record, or a block of short rows, is in memory at a time, and what the model says of one part: a thousand windows.
Finished parts lie in the folder `OUT.parts` until the file is written, so that an interrupted run goes on there.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import find_suffix, hash_file
from gengram.genome.bigwig import check_lengths
from gengram.genome.contigs import Genome
from gengram.genome.fasta import find_regions, read_fasta
from gengram.genome.formats import FASTA, find_format
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey, name_row
from gengram.genome.places import COLUMNS, check_contigs, place_rows, survey_places
from gengram.genome.row_files import write_rows
from gengram.genome.streams import fit_columns, stream_rows, survey_rows
from gengram.genome.tables import shorten
from gengram.genome.tracks import Steps, write_track
from gengram.loading.checkpoints import find_models
from gengram.loading.classes import name_outputs
from gengram.phases import Phase, phase, timed
from gengram.pipelines.logits import LargeRowError
from gengram.pipelines.outputs import PLACES, TRACKS, check_output
from gengram.pipelines.parts import hash_weights, name_parts
from gengram.pipelines.pieces import Pieces
from gengram.pipelines.placed_predictions import choose_track
from gengram.pipelines.predict import load_predictor
from gengram.pipelines.predictions import check_spread, describe_bases, describe_rows, measure_outputs
from gengram.pipelines.run_folder import name_versions
from gengram.pipelines.scan import (
    LongWindowError,
    average_windows,
    check_stride,
    classify_bases,
    score_windows,
)
from gengram.pipelines.shares import Member, name_share
from gengram.pipelines.window_length import choose_window
from gengram.pipelines.windows import place_windows
from gengram.progress import tell
from gengram.tokenization.choose_encoder import find_encoder
from gengram.training.problems import ROW_COLUMN, Problem

if TYPE_CHECKING:
    from peft import PeftModel

_WINDOWS = 1024  # of a part: what a killed run has to do again
_BASES = 1 << 20
_SPAN = (ROW_COLUMN, "window_start", "window_end")  # where a window is that has no place in a genome
_STEPS = 100_000  # of a track that are written at once


class _Survey(NamedTuple):
    """What the rows of a file are.

    Attributes:
        rows: how many.
        schema: the columns but the sequences.
        lengths: bp of each, int64.
        is_placed: whether each has its place in a genome, as many bases as its sequence.
        counted_from: how places count their first base, see `survey_places`.
        contigs: bp of each record, by the first word of its header, if the rows are contigs themselves.
        repeated: such a word that two records have, so that they are none.
    """

    rows: int
    schema: pa.Schema
    lengths: np.ndarray
    is_placed: bool
    counted_from: int
    contigs: dict[str, int] | None
    repeated: str = ""


class _Part(NamedTuple):
    """Some windows of a file, one after the other; of models that classify bases, whole sequences.

    Attributes:
        name: of the piece that has what a model says of them.
        rows: the columns of the result that are not predictions.
        numbers: of the rows that they are of, from 1, int64 [windows].
        spans: int64 [windows, 2], their bases in the sequence.
        texts: their letters.
    """

    name: str
    rows: pa.Table
    numbers: np.ndarray
    spans: np.ndarray
    texts: list[str]


def scan_file(
    model_path: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    seed: int | str | None = None,
    track: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    sequence_column: str | None = None,
    genome: str | Path | Genome | None = None,
    max_non_dna: float = MAX_NON_DNA,
    average_strands: bool = False,
    base_model: str | None = None,
    devices: str | None = None,
    shard: tuple[int, int] | Member = (1, 1),
) -> Path:
    """Predict windows of the sequences of a file, or bases from windows that overlap.

    Args:
        model_path, seed, batch_size, sequence_column, genome, average_strands, base_model, devices, shard: see
            `predict_file`; the other strand of a window is its reverse complement.
        file: what `stream_rows` reads: tables, FASTA, BED with a genome; plain or gzip.
        out: as for `predict_file`, and `.bw`; replaced if it is there.
        track: the class, label or target of a `.bw` or `.bedgraph`, and the score of a `.bed`.
        window: bp that the model reads at once; see `choose_window`. A shorter sequence is one window.
        stride: bp from one window to the next; by default half a window, so that what is shorter than that lies in one
            of them as a whole. The last window begins earlier, so that it ends with the sequence.
        max_length: longest window in tokens; by default the model's.
        max_non_dna: largest share of letters that are not DNA in the file (see `LetterSurvey`), and of letters other
            than A, C, G, T and U in a window: one with more has no value. Of models that classify bases, all windows
            are read.

    Returns:
        The path of the file; of a process that does not put it together, of the folder of parts.
        - Of a model that predicts sequences, a table has a row for each window, in the order of the sequences: where it
          is, and the columns of `predict_file`. Rows with a place in a genome (BED; `chrom`, `start` and `end` of a
          table, or in headers of a FASTA file) have that of the window in the same columns; records of other FASTA
          files are contigs of their own, `chrom` the first word of the header; of other tables `window_start` and
          `window_end` are the window's bases in the sequence, and `data_row` the row that it is of, from 1.
        - A `.bw` or `.bedgraph` has for each base the mean over all windows that cover it, of the probability of a
          class or label, or of a target's value; no value where no window has one.
        - Of a model that classifies bases, a table has a row for each sequence, see `predict_file`; each base is
          taken from the window in whose middle it is.

    Raises:
        `InputError`: see `predict_file`; a window or stride that is none, or has more tokens than the model takes; an
            output with places for rows without; bases in a file with places, which is what `segment_genome` writes;
            parts of another run.
    """
    out = check_output(out, "predict")
    suffix, folders = find_suffix(out), find_models(model_path, seed)
    if window is not None:
        _check_stride(window, stride)
    genome = None if genome is None else Genome.of(genome).keep()
    with phase("Checking the rows", "rows") as one:
        survey = _survey(file, sequence_column, genome, max_non_dna)
        one.add(survey.rows)
    if suffix in PLACES:
        _require_places(survey, file, sequence_column)
    elif survey.counted_from:
        tell(f"{file}: places count from 1 (each row has end - start + 1 bases); the output counts from 0, as BED does")
    with phase("Loading the model"):
        model, tokenizer, problem = load_predictor(folders[0], base_model, devices)
    if problem == "token" and suffix in PLACES:
        raise InputError(
            f"{out}: of single bases gengram segment writes tracks and BED files, along a genome or regions of it; "
            "write a .tsv, .csv or .parquet file here"
        )
    names = name_outputs(model.config.id2label, folders[0])
    own = () if survey.is_placed or survey.contigs is not None or problem == "token" else _SPAN
    if both := [name for name in survey.schema.names if name in own]:
        tell(f"{file}: {shorten(both)}: columns of the windows are called so, those of the file are left out")
    shown = choose_track(out, track, names, problem)
    check_spread(names, seed)
    scan = _plan_scan(file, sequence_column, genome, survey, folders[0], tokenizer, problem, window, stride, max_length)
    with phase("Checksums"):
        sums = {
            "file": hash_file(file),
            "genome": None if genome is None else genome.hash(),
            "weights": [hash_weights(folder) for folder in folders],
        }
    settings = {
        **name_versions(),
        "device": model.device.type,
        **sums,
        "slices": genome is not None and genome.slices,
        "sequence_column": sequence_column,
        "base_model": base_model,
        "window": scan.window,
        "stride": scan.stride,
        "max_length": scan.limit,
        "max_non_dna": max_non_dna,
        "average_strands": average_strands,
    }
    lengths = _measure_contigs(scan) if suffix in TRACKS else {}
    if suffix == ".bw":
        check_lengths(out, lengths)
    pieces, count = Pieces(out, name_parts(out), settings, name_share(shard)), 0
    with pieces.keep():
        for number, folder in enumerate(folders):
            if number:
                with phase("Loading the model"):
                    model, tokenizer, _ = load_predictor(folder, base_model, devices)
            options = {
                "average_strands": average_strands,
                "batch_size": batch_size,
                "encoder": find_encoder(tokenizer),
            }
            count += _compute(pieces, number, len(folders), scan, model, tokenizer, max_non_dna, options)
            del model  # before there is another one in memory
        with pieces.assemble(count) as is_whole:
            if not is_whole:
                return pieces.folder
            with phase("Writing", scan.unit, total=scan.count()) as one:
                answers = _Answers(scan, pieces, range(len(folders)), seed == "all", names, str(model_path), one)
                if suffix in TRACKS:
                    write_track(answers.list_steps(names.index(shown[0]), lengths), out, shown[0], lengths)
                else:
                    values = [] if problem == "regression" else [f"probability_{name}" for name in shown]
                    write_rows(out, answers.list_tables(), values=values if suffix in PLACES else ())
    return out


@dataclasses.dataclass(frozen=True)
class _Scan:
    """What is read of a file, and how."""

    file: str | Path
    sequence_column: str | None
    genome: Genome | None
    survey: _Survey
    problem: Problem
    window: int
    stride: int
    limit: int

    @property
    def unit(self) -> str:
        """What is counted."""
        return "bp" if self.problem == "token" else "windows"

    def list_parts(self) -> Iterator[_Part]:
        """Yield all windows in parts, always the same."""
        row = number = 0
        for block in stream_rows(self.file, self.sequence_column, self.genome):
            texts = block["sequence"].to_pylist()
            columns = self._prepare(block)
            owners, spans = self._place([len(text) for text in texts])
            for first, end in _cut(spans[:, 1] - spans[:, 0]):
                some, places = owners[first:end], spans[first:end]
                yield _Part(
                    str(number),
                    self._describe(columns.take(some), row + 1 + some, places, [len(texts[owner]) for owner in some]),
                    row + 1 + some,
                    places,
                    [texts[owner][start:stop] for owner, (start, stop) in zip(some, places.tolist())],
                )
                number += 1
            row += len(texts)

    def measure(self, part: _Part) -> int:
        """Return how many of them a part has."""
        return sum(map(len, part.texts)) if self.problem == "token" else len(part.texts)

    def count(self) -> int:
        """Return the number of windows; of models that classify bases, of bases."""
        if self.problem == "token":
            return int(self.survey.lengths.sum())
        return int((1 + -(-np.maximum(self.survey.lengths - self.window, 0) // self.stride)).sum())

    def _place(self, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequence that each window is of, int64 [windows], and its bases there, int64 [windows, 2]."""
        if self.problem == "token":
            return np.arange(len(lengths)), np.array([[0, length] for length in lengths])
        spans = [place_windows(length, self.window, self.stride) for length in lengths]
        return np.repeat(np.arange(len(lengths)), [len(one) for one in spans]), np.concatenate(spans)

    def _prepare(self, block: pa.Table) -> pa.Table:
        """Return the columns of rows that are in the result, with the types that they have in the whole file."""
        survey = self.survey
        if survey.contigs is not None and self.problem != "token":
            return pa.table({"chrom": [header.split()[0] for header in block["name"].to_pylist()]})
        rows = fit_columns(block, survey.schema, survey.schema.names)
        return place_rows(rows, survey.counted_from) if survey.is_placed and self.problem != "token" else rows

    def _describe(self, rows: pa.Table, numbers: np.ndarray, spans: np.ndarray, lengths: list[int]) -> pa.Table:
        """Return rows, one a window, with the places of these."""
        if self.problem == "token":
            return rows
        if self.survey.contigs is not None:
            return _set_columns(rows, {"start": spans[:, 0], "end": spans[:, 1]})
        if not self.survey.is_placed:
            rows = _set_columns(rows, dict(zip(_SPAN, (numbers, *spans.T))))
            return rows.select([ROW_COLUMN, *(name for name in rows.column_names if name != ROW_COLUMN)])
        if "strand" in rows.column_names:
            turned = np.array([strand == "-" for strand in rows["strand"].to_pylist()])
            spans = np.where(turned[:, None], np.array(lengths)[:, None] - spans[:, ::-1], spans)
        first = rows["start"].to_numpy()
        return _set_columns(rows, {"start": first + spans[:, 0], "end": first + spans[:, 1]})


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What models say of all windows, from finished pieces."""

    scan: _Scan
    pieces: Pieces
    models: Sequence[int]
    are_averaged: bool
    names: list[str]
    model_path: str
    progress: Phase

    def list_tables(self) -> Iterator[pa.Table]:
        """Yield the rows of the result."""
        is_told = False
        for part, logits in self._read():
            if self.scan.problem == "token":
                ends = np.cumsum(part.spans[:, 1] - part.spans[:, 0])
                starts = [0] * len(ends)
                columns = describe_bases(np.split(logits, ends[:-1], axis=-2), starts, self.names)
            else:
                columns = describe_rows(logits, self.names, self.scan.problem)
            if not is_told and (both := [name for name in part.rows.column_names if name in columns]):
                tell(
                    f"{self.scan.file}: {shorten(both)}: columns of the predictions are called so, those of the file "
                    "are left out"
                )
            is_told = True
            kept = {name: part.rows[name] for name in part.rows.column_names if name not in columns}
            yield pa.table({**kept, **columns})

    def list_steps(self, column: int, lengths: Mapping[str, int]) -> Iterator[Steps]:
        """Yield for each contig, in the order of `lengths`, the mean of the windows that cover a base."""
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        in_order = self.scan.survey.contigs is not None
        for part, logits in self._read():
            values, _, missing = measure_outputs(logits, self.scan.problem)
            values = np.where(missing, np.nan, values[:, column])[:, None]
            chroms = part.rows["chrom"].combine_chunks().dictionary_encode()
            places = np.stack([part.rows[name].to_numpy() for name in ("start", "end")], axis=1)
            for number, chrom in enumerate(chroms.dictionary.to_pylist()):
                if in_order and chrom not in found:  # those before have no more windows
                    yield from _average(found)
                    found = {}
                of_it = chroms.indices.to_numpy() == number
                found.setdefault(chrom, []).append((places[of_it], values[of_it]))
        yield from _average({chrom: found[chrom] for chrom in lengths if chrom in found})

    def _read(self) -> Iterator[tuple[_Part, np.ndarray]]:
        """Yield each part with the logits (N, C) of its windows or bases, of several models (S, N, C); tell of those
        that there are none of.

        Raises:
            `InputError`: of none of the windows that were read there is a finite number.
        """
        skipped = broken = count = 0
        first = ""
        for part in self.scan.list_parts():
            logits = np.stack([self.pieces.read(f"{model}-{part.name}") for model in self.models])
            unread, lost = np.isnan(logits).all(axis=(0, -1)), np.isinf(logits).any(axis=(0, -1))
            if self.scan.problem == "token":
                unread, lost = np.zeros_like(unread), ~np.isfinite(logits).all(axis=(0, -1))
            if not broken and lost.any():
                place = int(lost.argmax())
                if self.scan.problem == "token":
                    place = int(np.searchsorted(np.cumsum(part.spans[:, 1] - part.spans[:, 0]), place, "right"))
                first = f"data row {part.numbers[place]}"
            count, skipped, broken = count + len(unread), skipped + int(unread.sum()), broken + int(lost.sum())
            yield part, logits if self.are_averaged else logits[0]
            self.progress.add(len(unread))
        what = "bases" if self.scan.problem == "token" else "windows"
        if broken:
            where = f"{self.scan.file}: the outputs of {self.model_path} are not finite for {broken} of {count} {what}"
            if broken == count - skipped:
                self.pieces.remove()  # the next run would be told the same
                raise InputError(f"{where}: its numbers overflow, or the training diverged. Take another model")
            tell(f"{where}, the first is in {first}: these have no prediction (null)")
        if skipped:
            tell(
                f"{self.scan.file}: {skipped} of {count} windows have no prediction: too many letters in them are not "
                "A, C, G, T or U (--max_non_dna), or the model takes no such number of tokens"
            )


def _survey(path: str | Path, sequence_column: str | None, genome: Genome | None, max_non_dna: float) -> _Survey:
    """Read the file once, and refuse what is wrong with it before a model is loaded."""
    letters, lengths = LetterSurvey(str(path), max_non_dna), list[np.ndarray]()
    is_fasta = find_format(path) in FASTA
    counts = {0, 1}  # how the first base may be counted
    contigs: dict[str, int] | None = {} if is_fasta else None
    repeated = ""

    def look(start: int, block: pa.Table) -> None:
        nonlocal contigs, repeated
        texts = block["sequence"].to_pylist()
        letters.look(texts, lambda row: name_row(start + row, block.slice(row, 1).to_pylist()[0]))
        bp = np.array([len(text) for text in texts], dtype=np.int64)
        lengths.append(bp)
        if counts:
            counts.intersection_update(_count_bases(block, bp, is_fasta))
        if contigs is not None:
            words = [header.split()[0] for header in block["name"].to_pylist()]
            if len(set(words)) < len(words) or not contigs.keys().isdisjoint(words):
                repeated = next(word for word in words if word in contigs or words.count(word) > 1)
                contigs = None
            else:
                contigs.update(zip(words, bp.tolist()))

    rows, schema = survey_rows(path, sequence_column, genome, look)
    letters.judge()
    is_placed = bool(counts)
    counted_from = min(counts, default=0)
    return _Survey(
        rows, schema, np.concatenate(lengths), is_placed, counted_from, None if is_placed else contigs, repeated
    )


def _count_bases(block: pa.Table, lengths: np.ndarray, is_fasta: bool) -> set[int]:
    """Return how places count the first base if they have as many bases as the sequences: 0, 1, or neither."""
    if find_regions(block["name"].to_pylist()) is None if is_fasta else not set(COLUMNS) <= set(block.column_names):
        return set()
    try:
        placed = place_rows(block)
    except InputError:  # columns of other content
        return set()
    spans = placed["end"].to_numpy() - placed["start"].to_numpy()
    from_1 = (spans + 1 == lengths).all() and (placed["start"].to_numpy() > 0).all()
    return {number for number, fits in ((0, (spans == lengths).all()), (1, from_1)) if fits}


def _require_places(survey: _Survey, path: str | Path, sequence_column: str | None) -> None:
    """Refuse rows of which it is not known where their bases are.

    Raises:
        `InputError`: see `survey_places`; two records of one name; a place of another length than the sequence.
    """
    if survey.contigs is not None:
        names = list(survey.contigs)
        check_contigs(pa.array(names), lambda row: f"{path}, record {row + 1}")
        return
    if survey.repeated and not survey.is_placed:
        raise InputError(
            f"{path}: two records are called {survey.repeated!r}, so it is not known which contig a window is in; "
            "rename one of them, or write a .tsv, .csv or .parquet file"
        )
    survey_places(path, sequence_column)
    if not survey.is_placed:
        raise InputError(
            f"{path}: not every place has as many bases as its sequence, so it is not known where a window lies; write "
            "a .tsv, .csv or .parquet file"
        )


def _plan_scan(
    path: str | Path,
    sequence_column: str | None,
    genome: Genome | None,
    survey: _Survey,
    model_path: str,
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    window: int | None,
    stride: int | None,
    max_length: int | None,
) -> _Scan:
    window = choose_window(model_path, tokenizer, window, max_length)
    limit = max_length or tokenizer.model_max_length
    stride = _check_stride(window, stride)
    if problem == "token" and window > (room := limit - tokenizer.num_special_tokens_to_add()):
        raise InputError(f"--window {window}: the model takes at most {room} bp at once")
    scan = _Scan(path, sequence_column, genome, survey, problem, window, stride, limit)
    tell(f"{path}: windows of {window:,} bp, one every {stride:,} bp")
    return scan


def _check_stride(window: int, stride: int | None) -> int:
    try:
        return check_stride(window, stride)
    except ValueError as error:
        raise InputError(f"--{str(error).replace('=', ' ', 1)}") from error


def _compute(
    pieces: Pieces,
    number: int,
    models: int,
    scan: _Scan,
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    max_unknown: float,
    options: dict[str, Any],
) -> int:
    """Ask a model for this process's share of the parts that are not there yet; returns how many there are in all."""
    by_base, count = scan.problem == "token", 0
    with phase("Predicting", scan.unit, total=scan.count()) as one:
        for part in timed(scan.list_parts(), "Reading", scan.unit, scan.measure):
            name, count = f"{number}-{part.name}", count + 1
            if not pieces.has(name) and pieces.share.takes(models * (count - 1) + number):
                if by_base:
                    pieces.write(name, _classify(scan, part, model, tokenizer, options))
                else:
                    pieces.write(name, _score(scan, part, model, tokenizer, max_unknown, options))
            one.add(scan.measure(part))
    return count


def _classify(
    scan: _Scan,
    part: _Part,
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    options: dict[str, Any],
) -> np.ndarray:
    bases = []
    for row, text in zip(part.numbers.tolist(), part.texts):
        try:
            bases.append(classify_bases(model, tokenizer, text, window=scan.window, stride=scan.stride, **options))
        except ValueError as error:  # letters that the tokenizer leaves out, or puts together
            raise InputError(f"{scan.file}, data row {row}: {error}") from error
    return np.concatenate(bases)


def _score(
    scan: _Scan,
    part: _Part,
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    max_unknown: float,
    options: dict[str, Any],
) -> np.ndarray:
    limits: dict[str, Any] = {"limit": scan.limit, "max_unknown": max_unknown}
    try:
        return score_windows(model, tokenizer, part.texts, scan.problem, **limits, **options)
    except (LongWindowError, LargeRowError) as error:
        row, start = part.numbers[error.index], part.spans[error.index, 0]
        raise InputError(
            f"{scan.file}, data row {row}, from base {start} (counted from 0): {error}"
            f"{': take a shorter window' if isinstance(error, LargeRowError) else ''}, with --window"
        ) from error


def _measure_contigs(scan: _Scan) -> dict[str, int]:
    """Return the lengths of all contigs in the order of the genome; of those that it lacks the furthest end."""
    if scan.survey.contigs is not None:
        return scan.survey.contigs
    ends: dict[str, int] = {}
    for part in timed(scan.list_parts(), "Reading", scan.unit, scan.measure):
        for chrom, end in zip(part.rows["chrom"].to_pylist(), part.rows["end"].to_pylist()):
            ends[chrom] = max(ends.get(chrom, 0), end)
    known: dict[str, int] = {}
    if scan.genome is not None:
        called = {contig: name for name, contig in scan.genome.renamed.items()}  # as the file calls it
        records = {header.split()[0]: len(sequence) for _, header, sequence in read_fasta(scan.genome.path)}
        for one in scan.genome.split(records).values():
            contig = called.get(one.contig, one.contig)
            if called and contig not in ends:  # not chr7 of the file beside 8 of the genome
                continue
            known[contig] = max(one.end, known.get(contig, 0))
    if unknown := [chrom for chrom in sorted(ends) if known.get(chrom, 0) < ends[chrom]]:
        tell(f"{scan.file}: the lengths of contigs are not known, so they end with the last window: {shorten(unknown)}")
    return {**known, **{chrom: ends[chrom] for chrom in unknown}}


def _average(found: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> Iterator[Steps]:
    for chrom, windows in found.items():
        edges, means = average_windows(*(np.concatenate(some) for some in zip(*windows)))
        for first in range(0, len(means), _STEPS):
            yield Steps(chrom, edges[first : first + _STEPS + 1], means[first : first + _STEPS])


def _cut(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut windows of these lengths into parts."""
    ends, first = np.cumsum(sizes), 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, min(first + _WINDOWS, int(np.searchsorted(ends, before + _BASES, "right"))))
        yield first, min(end, len(sizes))
        first = end


def _set_columns(table: pa.Table, columns: Mapping[str, np.ndarray]) -> pa.Table:
    """Return a table with these columns in place of what was called so, or behind the others."""
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
        else:
            table = table.append_column(name, pa.array(values))
    return table


__all__ = ["scan_file"]
