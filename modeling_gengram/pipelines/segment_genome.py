"""Which features does a genome have where? SegmentNT, or a classifier of bases, along regions or whole records, as
tracks: `gengram segment`.

One record of the genome is in memory at a time, and of the probabilities one piece (about 1 Mb). Finished pieces lie in
the folder `partial` of the output until the tracks are written, so that an interrupted run goes on where it was.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import softmax

from gengram.errors import InputError
from gengram.files import check_output_folder, check_space, describe_size, find_suffix, write_json
from gengram.genome.bigwig import check_lengths
from gengram.genome.contigs import Genome
from gengram.genome.fasta import read_fasta
from gengram.genome.letters import MAX_NON_DNA
from gengram.genome.rounding import PRECISION, Rounding
from gengram.genome.row_files import write_rows
from gengram.genome.tracks import Piece, TrackFormat, list_calls, name_tracks, write_track, write_tracks
from gengram.loading.adapters import is_adapter
from gengram.loading.checkpoints import find_model
from gengram.loading.classes import name_outputs
from gengram.loading.configurations import require_config
from gengram.loading.models import choose_device, count_embeddings, require_model
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
from gengram.phases import Phase, phase
from gengram.pipelines.kept_probabilities import KeptProbabilities, measure_batch
from gengram.pipelines.locus_plot import plot_locus
from gengram.pipelines.outputs import TRACKS, check_output, check_track, names_file
from gengram.pipelines.parts import hash_weights
from gengram.pipelines.pieces import Pieces
from gengram.pipelines.predict import load_predictor
from gengram.pipelines.regions import Stretch, choose_locus, plan_reading
from gengram.pipelines.run_folder import name_versions
from gengram.pipelines.scan import classify_bases, find_definite
from gengram.pipelines.segment import check_windows, segment_sequence
from gengram.pipelines.shares import Member, name_share
from gengram.pipelines.window_length import choose_window
from gengram.progress import tell
from gengram.tokenization.choose_encoder import find_encoder

SUMMARY_FILE = "segment.json"
PLOT_FILE = "locus.png"
PARTIAL_FOLDER = "partial"

_PIECE = 1_000_000
_MUCH = 1_000_000_000  # bytes that are worth a word
_BATCH_BASES = 8192  # of a classifier's windows; enough to keep two cores or a small GPU busy


class Segmenter(NamedTuple):
    """A model that says something of each base of a sequence of any length.

    Attributes:
        read: takes a sequence, and maybe a function that is told the bases of windows that are read; gives
            probabilities float32 [bp, features], not a number where there is none.
        features: names of the columns.
        window, overlap: of the windows that it reads, bp.
        settings: what else the numbers depend on.
    """

    read: Callable[..., np.ndarray]
    features: list[str]
    window: int
    overlap: int
    settings: dict[str, Any]


def segment_genome(
    model_path: str | Path,
    genome: str | Path | Genome,
    out: str | Path,
    *,
    regions: str | Path | None = None,
    window: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    average_strands: bool = False,
    unknown: Literal["skip", "error"] = "skip",
    max_non_dna: float = MAX_NON_DNA,
    threshold: float = 0.5,
    precision: float = PRECISION,
    track_format: TrackFormat | None = None,
    arrays: bool = False,
    locus: str | None = None,
    track: str | None = None,
    devices: str | None = None,
    shard: tuple[int, int] | Member = (1, 1),
) -> Path:
    """Write the probability of each feature at each base of a genome, or of regions of it.

    A region is read with half of the overlap on either side, as far as its contig goes, so that its ends have context
    as well.

    Args:
        model_path: a SegmentNT, or a classifier of bases with one token a base (or an adapter): folder, run or Hub id.
        genome: FASTA file, plain or gzip; a contig's name is its header up to the first blank. Soft-masked (lower-case)
            bases are bases. As a `Genome`, records that are slices are read as bases of their contigs.
        out: folder of the results; made if it is not there, files of an earlier run are replaced. Or one file, see
            `names_file`: `.bed`, `.tsv`, `.csv` or `.parquet` with the stretches where features are called, `.bedgraph`
            or `.bw` with one feature.
        regions: BED file; regions that overlap or touch are joined, strands are not looked at. Without it, all records.
            How contigs are found by their names: see `gengram.genome.contigs`.
        window, overlap, batch_size, average_strands, devices: see `load_segmenter`.
        unknown: what happens to `N` and other letters: `"skip"` leaves them without a value (SegmentNT also stretches
            shorter than 24 bp between them, since no k-mer is whole there), `"error"` stops before the model reads
            anything.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.
        threshold: probability from which on a feature is called, before it is rounded.
        precision: what probabilities are rounded to in all files, 0.0001 to 0.1; 0: not at all (float32).
        track_format: of the tracks in a folder, `"bigwig"` (the default) or `"bedgraph"`.
        arrays: also write an npz file for each region.
        locus: what the plot shows, `CONTIG:START-END`, counted as in BED; by default the first region, at most 100 kb.
        track: of one file, the feature that it is about; a `.bedgraph` or `.bw` has only one.
        shard: `(i, n)`: of n processes with the same arguments, which may be on several machines that share the
            output's folder, this is number i, from 1. Pieces are dealt out so that each has about as many bases; the
            last one writes the results. Or a `Member` of processes that were started together: it reads pieces that no
            other has taken; the main one writes the results.

    Returns:
        The file, or the folder; of a process that does not write it, the folder of the pieces. In a folder of results
        are a track of each feature (`FEATURE.bw`), `features.bed` with the called ones, `locus.png` (where matplotlib
        is), `arrays/CONTIG_START-END.npz` if asked for, and `segment.json` about the run. Contigs and positions are
        those of the FASTA records or, of slices, of what they were cut from.

    Raises:
        `InputError`: a model without features of bases, a window that does not fit it, a file that cannot be read, a
            region that is not in the genome, letters that are not DNA; a folder `partial` of another run, or of
            none; a disk with too little space.
    """
    genome, is_file, out = Genome.of(genome), names_file(out, "segment"), Path(out)
    _check_form(out, is_file, track_format, track, arrays, locus)
    rounding = Rounding(precision, threshold)
    with phase("Reading the genome", unit="bp") as reading:
        plan = plan_reading(genome, regions, unknown, max_non_dna)
        reading.add(sum(plan.records.values()))
    kind: TrackFormat = track_format or ("bedgraph" if find_suffix(out) == ".bedgraph" else "bigwig")
    has_tracks = not is_file or find_suffix(out) in TRACKS
    if has_tracks and kind == "bigwig":
        check_lengths(out, plan.lengths)
    shown = choose_locus(locus, plan, genome)
    with phase("Loading the model"):
        model_path = find_model(model_path)
        segmenter = load_segmenter(model_path, window, overlap, devices, batch_size, average_strands)
    features, columns = segmenter.features, list(range(len(segmenter.features)))
    if is_file:
        features = check_track(out, track, features, "features")
        columns = [segmenter.features.index(name) for name in features]
    else:
        name_tracks(features, track_format or "bigwig")
    step = segmenter.window - segmenter.overlap
    settings = {
        **name_versions(),
        "device": choose_device(devices).type,
        "weights": hash_weights(str(model_path)),
        **segmenter.settings,
        "window": segmenter.window,
        "overlap": segmenter.overlap,
        "genome": plan.digest,
        "features": features,
        "precision": precision,
        "threshold": threshold,
    }
    # Pieces of whole steps: the windows of all of them are in one frame.
    length = step * max(1, _PIECE // step)
    bases = sum(one.end - one.start for one in plan.loci)
    pieces = Pieces(
        out, out.with_name(f"{out.name}.parts") if is_file else out / PARTIAL_FOLDER, settings, name_share(shard)
    )
    with pieces.keep():
        kept = KeptProbabilities(pieces, plan.stretches, plan.records, length, len(features), rounding)
        results = int(bases * len(features) * (_measure_track(kind, precision) * has_tracks + 4 * arrays))
        _tell_space(out, kept.count_bytes(kept.list_missing()), results)
        _fill(kept, genome, segmenter, columns)
        with pieces.assemble(kept.count()) as is_whole:
            if not is_whole:
                return pieces.folder
            counted = _Counted(kept, bases * (1 if is_file else 1 + len(features)))
            if is_file:
                with phase("Writing the file", unit="bp", total=counted.total) as counted.progress:
                    _write_file(out, counted.read, features, plan.lengths, threshold)
                counted.tell_empty(bases)
                return out
            with phase("Writing the tracks", unit="bp", total=counted.total) as counted.progress:
                files = write_tracks(
                    counted.read,
                    out,
                    features,
                    plan.lengths,
                    track_format=kind,
                    threshold=threshold,
                    arrays=plan.loci if arrays else (),
                )
            counted.tell_empty(bases)
            if find_spec("matplotlib") is None:
                tell("no plot: matplotlib is not installed (pip install 'gengram[plots]')")
            else:
                with phase("Drawing the plot"):
                    plot_locus(out / PLOT_FILE, shown, kept.collect(shown), features, threshold)
                files.append(PLOT_FILE)
            summary = {
                "model": str(model_path),
                "genome": str(genome),
                "regions": None if regions is None else str(regions),
                "renamed_contigs": genome.renamed,
                "features": features,
                "window": segmenter.window,
                "overlap": segmenter.overlap,
                **segmenter.settings,
                "threshold": threshold,
                "precision": precision,
                "loci": len(plan.loci),
                "bases": bases,
                "bases_without_value": counted.empty,
                "plot_shows": str(shown),
                "files": files,
            }
            write_json(summary, out / SUMMARY_FILE)
    return out


def _check_form(
    out: Path, is_file: bool, track_format: TrackFormat | None, track: str | None, arrays: bool, locus: str | None
) -> None:
    """Refuse an output that cannot be written, and options of a folder for a file, or of a file for a folder."""
    if is_file:
        check_output(out, "segment")
        given = {"--arrays": arrays, "--locus": locus is not None, "--format": track_format is not None}
        for told in (flag for flag, one in given.items() if one):
            raise InputError(f"{out}: {told} is of the results in a folder; leave it out, or name a folder")
        return
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: the folder {out.absolute().parent} does not exist")
    check_output_folder(out)
    if track is not None:
        raise InputError(
            f"{out}: a folder has the tracks of all features; leave --track out, or name a .bedgraph or .bw"
        )


class _Counted:
    """Reads what is kept, and counts."""

    progress: Phase

    def __init__(self, kept: KeptProbabilities, total: int):
        self._kept, self.total, self.empty = kept, total, 0

    def read(self, column: int | None) -> Iterator[Piece]:
        """Yield the pieces; of a reading of all features, or of the only one, also count the bases without a value."""
        for piece in self._kept.read(column):
            if column is None:
                self.empty += int(np.isnan(piece.probabilities[:, 0]).sum())
            yield piece
            self.progress.add(len(piece.probabilities))

    def tell_empty(self, bases: int) -> None:
        if self.empty:
            tell(
                f"{self.empty} of {bases} bases have no value: N and other letters, and what is too short between them"
            )


def _write_file(
    out: Path,
    read: Callable[[int | None], Iterable[Piece]],
    features: list[str],
    lengths: dict[str, int],
    threshold: float,
) -> None:
    """Write one track, or the calls of features."""
    if find_suffix(out) in TRACKS:
        write_track(read(None), out, features[0], lengths)
    else:
        write_rows(out, list_calls(read(None), features, threshold), values=["probability"])


def _measure_track(kind: TrackFormat, precision: float) -> float:
    """Return the bytes that a base takes in a track, the most: those of noise, as measured."""
    if kind == "bedgraph":
        return 30 if precision else 36
    return 0.23 * math.log2(1 / precision) + 0.2 if precision else 4.5


def _tell_space(out: Path, kept: int, results: int) -> None:
    """Say what a run takes on the disk, if that is much, and refuse one that does not fit."""
    remedy = "choose --regions or a coarser --precision, one --track in a file, or an --out where there is more"
    free = check_space(out, kept + results, remedy)
    if kept + results >= _MUCH:
        tell(
            f"{out}: about {describe_size(kept)} of probabilities until the end, and up to {describe_size(results)} of "
            f"tracks; {describe_size(free)} are free"
        )


def load_segmenter(
    path: str | Path,
    window: int | None = None,
    overlap: int | None = None,
    devices: str | None = None,
    batch_size: int | None = None,
    average_strands: bool = False,
) -> Segmenter:
    """Load a model for windows of this length, in evaluation mode on the accelerator if there is one.

    Args:
        path: of a SegmentNT, or of a classifier of bases or an adapter.
        window: bp that are read at once. Of a SegmentNT 30 kb by default, and beyond that the rescaling factor for it
            is computed; of a classifier see `choose_window`.
        overlap: bp that neighbouring windows share; each base is taken from the window in whose middle it is. By
            default 6 kb of a SegmentNT, half a window of a classifier.
        devices: what the model computes on, e.g. `cpu`, `cuda:1`; by default an accelerator if there is one.
        batch_size: windows a forward pass; by default one of a SegmentNT, as many as are 8192 bases of a classifier.
        average_strands: average with what the model says of the reverse complement of each window.

    Raises:
        `InputError`: nothing can be read there, or another model, or weights are missing; a window that does not fit.
    """
    adapted = is_adapter(path)
    config = None if adapted else require_config(path)
    if isinstance(config, SegmentNTConfig):
        return _load_segment_nt(path, config, window or 30_000, overlap, devices, batch_size or 1, average_strands)
    if config is not None and not str((config.architectures or [""])[0]).endswith("ForTokenClassification"):
        raise InputError(
            f"{path}: a {config.model_type} has no features of single bases; give a SegmentNT model, or a model that "
            "was trained on labels of bases. What predicts sequences reads windows of a genome with gengram predict "
            "--too_long window"
        )
    model, tokenizer, problem = load_predictor(path, devices=devices)
    if problem != "token":
        raise InputError(
            f"{path}: it predicts whole sequences ({problem}), and has no features of single bases. It reads windows "
            "of a genome with gengram predict --too_long window"
        )
    window = choose_window(path, tokenizer, window)
    overlap = window // 2 if overlap is None else overlap
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    if window > room:
        raise InputError(f"window={window}: the model takes at most {room} bp at once")
    if not 0 <= overlap < window:
        raise InputError(f"overlap={overlap}: give at least 0 bp, and less than the window of {window} bp")
    features, encoder = name_outputs(model.config.id2label, path), find_encoder(tokenizer)
    size = batch_size or max(1, _BATCH_BASES // window)

    def read(sequence: str, advance: Callable[[int], Any] | None = None) -> np.ndarray:
        logits = classify_bases(
            model,
            tokenizer,
            sequence,
            window=window,
            stride=window - overlap,
            average_strands=average_strands,
            skip_unknown=True,
            may_overflow=False,
            batch_size=size,
            advance=advance,
            encoder=encoder,
        )
        logits[~find_definite(sequence)] = np.nan
        return softmax(logits, axis=1)

    return Segmenter(read, features, window, overlap, {"average_strands": average_strands})


def _load_segment_nt(
    path: str | Path,
    config: SegmentNTConfig,
    window: int,
    overlap: int | None,
    devices: str | None,
    batch_size: int,
    average_strands: bool,
) -> Segmenter:
    if overlap is None:  # a fifth of the published window
        overlap = min(6_000, window // 5 // (2 * config.length_multiple) * 2 * config.length_multiple)
    try:
        config.rescaling_factor = config.measure_rescaling(window)
        check_windows(config, window, overlap)
    except ValueError as error:
        raise InputError(str(error)) from error
    model = require_model(path, "token_classification", config=config, device=choose_device(devices))
    tokenizer = require_tokenizer(path)
    check_tokenizer(tokenizer, path, config, count_embeddings(model))
    encoder = find_encoder(tokenizer)

    def read(sequence: str, advance: Callable[[int], Any] | None = None) -> np.ndarray:
        return segment_sequence(
            model,
            tokenizer,
            sequence,
            window=window,
            overlap=overlap,
            batch_size=batch_size,
            unknown="skip",
            average_strands=average_strands,
            advance=advance,
            encoder=encoder,
        )

    settings = {"rescaling_factor": config.rescaling_factor, "average_strands": average_strands}
    return Segmenter(read, name_outputs(config.id2label, path), window, overlap, settings)


def _fill(kept: KeptProbabilities, genome: Genome, segmenter: Segmenter, columns: list[int]) -> None:
    """Compute this process's share of what is not there yet."""
    missing, context = kept.list_missing(), segmenter.overlap // 2
    if not missing:
        return
    records = ((header.split()[0], sequence) for _, header, sequence in read_fasta(genome.path))
    record, sequence = "", ""

    def compute(part: Stretch) -> np.ndarray:
        nonlocal record, sequence
        while record != part.source.record:
            sequence = ""  # before there is another one in memory
            record, sequence = next(records)
        start, end = part.locus.start - part.source.start, part.locus.end - part.source.start
        begin, left = max(0, start - context), end - start

        def advance(count: int) -> None:
            nonlocal left
            count = min(count, left)  # a window has context as well
            left -= count
            progress.add(count)

        try:
            found = segmenter.read(sequence[begin : end + context], advance)
        except (OverflowError, ValueError) as error:  # also letters that the tokenizer leaves out
            where = part.locus._replace(chrom=record, start=start, end=end)
            raise InputError(f"{genome}, {where}, after base {begin}: {error}") from error
        advance(left)  # what no window is for
        found = found[start - begin : end - begin]
        return found if len(columns) == found.shape[1] else found[:, columns]

    with phase("Segmenting", unit="bp", total=sum(map(measure_batch, missing))) as progress:
        for batch, is_ours in kept.list_shared():
            if is_ours:
                kept.write(batch, compute)
            else:
                progress.add(measure_batch(batch))


__all__ = ["PLOT_FILE", "SUMMARY_FILE", "Segmenter", "load_segmenter", "segment_genome"]
