"""Which features does a genome have where? SegmentNT along regions or whole records, as tracks: `gengram segment`.

One record of the genome is in memory at a time, and of the probabilities one piece (about 1 Mb). Finished pieces lie in
the folder `partial` of the output until the tracks are written, so that an interrupted run goes on where it was.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import check_output_folder, keep_finished, open_whole, write_json
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import check_region, read_regions
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey
from gengram.genome.tracks import Locus, Piece, TrackFormat, check_format, name_tracks, write_tracks
from gengram.loading.adapters import hash_base
from gengram.loading.checkpoints import find_model
from gengram.loading.classes import name_outputs
from gengram.loading.models import choose_device, count_embeddings, require_config, require_model
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
from gengram.nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification
from gengram.pipelines.locus_plot import plot_locus
from gengram.pipelines.segment import check_windows, segment_sequence
from gengram.progress import tell, track

SUMMARY_FILE = "segment.json"
PLOT_FILE = "locus.png"
PARTIAL_FOLDER = "partial"

_PIECE = 1_000_000
_PLOTTED = 100_000
_NO_BASE = re.compile("[^ACGTUacgtu]")
_LOCUS = re.compile(r"(.+):(\d[\d,]*)-(\d[\d,]*)")


class _Plan(NamedTuple):
    """What is read: lengths of all contigs in the order of the genome, the loci in that order, their content's hash."""

    lengths: dict[str, int]
    loci: list[Locus]
    digest: str


def segment_genome(
    model_path: str | Path,
    genome: str | Path,
    out: str | Path,
    *,
    regions: str | Path | None = None,
    window: int = 30_000,
    overlap: int = 6_000,
    batch_size: int = 1,
    unknown: Literal["skip", "error"] = "skip",
    max_non_dna: float = MAX_NON_DNA,
    threshold: float = 0.5,
    track_format: TrackFormat = "bigwig",
    arrays: bool = False,
    locus: str | None = None,
    devices: str | None = None,
) -> Path:
    """Write the probability of each feature at each base of a genome, or of regions of it.

    A region is read with half of the overlap on either side, as far as its contig goes, so that its ends have context
    as well; beyond 30 kb the rescaling factor for the window is computed.

    Args:
        model_path: a SegmentNT: folder, run or Hub id.
        genome: FASTA file, plain or gzip; a contig's name is its header up to the first blank. Soft-masked (lower-case)
            bases are bases.
        out: folder of the results; made if it is not there, files of an earlier run are replaced.
        regions: BED file; regions that overlap or touch are joined, strands are not looked at. Without it, all records.
        window, overlap, batch_size: see `segment_sequence`.
        unknown: what happens to `N` and other letters, where no k-mer is whole: `"skip"` leaves them, and stretches
            shorter than 24 bp between them, without a value, `"error"` stops before the model reads anything.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.
        threshold: probability from which on a feature is called.
        track_format: `"bigwig"` or `"bedgraph"`.
        arrays: also write an npz file for each region.
        locus: what the plot shows, `CONTIG:START-END`, counted as in BED; by default the first region, at most 100 kb.
        devices: what the model computes on, e.g. `cpu`, `cuda:1`; by default an accelerator if there is one.

    Returns:
        The folder. In it a track of each feature (`FEATURE.bw`), `features.bed` with the called ones, `locus.png`
        (where matplotlib is), `arrays/CONTIG_START-END.npz` if asked for, and `segment.json` about the run. Positions
        are those of the FASTA records.

    Raises:
        `InputError`: a model without features of bases, a window that does not fit it, a file that cannot be read, a
            region that is not in the genome, letters that are not DNA; a folder `partial` of another run, or of
            none.
    """
    genome, out = Path(genome), Path(out)
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: the folder {out.absolute().parent} does not exist")
    check_output_folder(out)
    check_format(track_format)
    plan = _plan(genome, regions, unknown, max_non_dna)
    shown = _choose_locus(locus, plan)
    model_path = find_model(model_path)
    model, tokenizer = load_segmenter(model_path, window, overlap, devices)
    features = name_outputs(model.config.id2label, model_path)
    name_tracks(features, track_format)
    step = window - overlap
    # Pieces of whole steps: the windows of all of them are in one frame.
    pieces = [part for one in plan.loci for part in _cut(one, step * max(1, _PIECE // step))]
    partial = out / PARTIAL_FOLDER
    settings = {
        "weights": hash_base(str(model_path)) or str(model_path),
        "rescaling_factor": model.config.rescaling_factor,
        "window": window,
        "overlap": overlap,
        "genome": plan.digest,
    }
    _start(partial, settings)
    with _keep(partial):
        _fill(partial, pieces, genome, model, tokenizer, window, overlap, batch_size)

        files = write_tracks(
            _read_pieces(partial, pieces),
            out,
            features,
            plan.lengths,
            track_format=track_format,
            threshold=threshold,
            arrays=plan.loci if arrays else (),
        )
        if find_spec("matplotlib") is None:
            tell("no plot: matplotlib is not installed (pip install 'gengram[plots]')")
        else:
            plot_locus(out / PLOT_FILE, shown, _collect(partial, pieces, shown, len(features)), features, threshold)
            files.append(PLOT_FILE)
        bases = sum(one.end - one.start for one in plan.loci)
        empty = sum(int(np.isnan(piece.probabilities[:, 0]).sum()) for piece in _read_pieces(partial, pieces))
        summary = {
            "model": str(model_path),
            "genome": str(genome),
            "regions": None if regions is None else str(regions),
            "features": features,
            **{name: settings[name] for name in ("window", "overlap", "rescaling_factor")},
            "threshold": threshold,
            "loci": len(plan.loci),
            "bases": bases,
            "bases_without_value": empty,
            "plot_shows": str(shown),
            "files": files,
        }
        write_json(summary, out / SUMMARY_FILE)
        shutil.rmtree(partial)
    if empty:
        tell(f"{empty} of {bases} bases have no value: no k-mer is whole there")
    return out


def load_segmenter(
    path: str | Path, window: int, overlap: int, devices: str | None = None
) -> tuple[SegmentNTForTokenClassification, PreTrainedTokenizerBase]:
    """Load a SegmentNT for windows of this length, in evaluation mode on the accelerator if there is one.

    Raises:
        `InputError`: nothing can be read there, or another model, or weights are missing; a window that does not fit.
    """
    config = require_config(path)
    if not isinstance(config, SegmentNTConfig):
        raise InputError(f"{path}: a {config.model_type} has no features of single bases; give a SegmentNT model")
    try:
        config.rescaling_factor = config.measure_rescaling(window)
        check_windows(config, window, overlap)
    except ValueError as error:
        raise InputError(str(error)) from error
    model = require_model(path, "token_classification", config=config, device=choose_device(devices))
    tokenizer = require_tokenizer(path)
    check_tokenizer(tokenizer, path, config, count_embeddings(model))
    return model, tokenizer


def _plan(genome: Path, regions: str | Path | None, unknown: str, max_non_dna: float) -> _Plan:
    """Read the genome once, and refuse what is wrong with it or with the regions before a model is loaded."""
    given = None if regions is None else read_regions(regions)
    wanted: dict[str, list[tuple[int, int]]] = {}
    for region in given or ():
        wanted.setdefault(region.chrom, []).append((region.start, region.end))
    lengths: dict[str, int] = {}
    loci: list[Locus] = []
    fault: InputError | None = None
    digest = hashlib.sha256()
    letters = LetterSurvey(str(genome), max_non_dna)
    for line, header, sequence in read_fasta(genome):
        chrom = header.split()[0]
        if chrom in lengths:
            raise InputError(f"{genome}, line {line}: a second contig is called {chrom!r}")
        lengths[chrom] = len(sequence)
        for start, end in _join([(0, len(sequence))] if given is None else wanted.get(chrom, [])):
            part = sequence[start:end]
            loci.append(Locus(chrom, start, end))
            letters.look([part], [f"contig {chrom!r}"].__getitem__, origin=start)
            if unknown == "error":
                fault = fault or _find_gap(genome, chrom, start, part)
            digest.update(f"{loci[-1]} {part}\n".encode())
    for region in given or ():
        check_region(region, str(regions), lengths, genome)
    letters.judge()
    if fault:
        raise fault
    return _Plan(lengths, loci, digest.hexdigest())


def _find_gap(genome: Path, chrom: str, start: int, part: str) -> InputError | None:
    if gap := _NO_BASE.search(part):
        return InputError(
            f"{genome}, contig {chrom!r}, position {start + gap.start()} (counted from 0): {gap.group()!r} is no base, "
            "and no k-mer is whole there. Leave such bases without a value with --unknown skip, or choose regions "
            "without them"
        )
    return None


def _join(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort the spans, and make one of those that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cut(locus: Locus, length: int) -> list[Locus]:
    """Cut a locus into pieces, the last of them up to twice as long: a short one would have little to read."""
    starts = [*range(locus.start, max(locus.start + 1, locus.end - length), length)]
    return [Locus(locus.chrom, start, end) for start, end in zip(starts, [*starts[1:], locus.end])]


def _choose_locus(text: str | None, plan: _Plan) -> Locus:
    if text is None:
        first = plan.loci[0]
        return first._replace(end=min(first.end, first.start + _PLOTTED))
    match = _LOCUS.fullmatch(text)
    if match is None:
        raise InputError(f"--locus {text!r}: write it as CONTIG:START-END, e.g. chr20:1000000-1100000")
    shown = Locus(match[1], *(int(match[group].replace(",", "")) for group in (2, 3)))
    for one in plan.loci:
        if one.chrom == shown.chrom and one.start <= shown.start < shown.end <= one.end:
            return shown
    raise InputError(f"--locus {text}: it is not within what is read, e.g. {plan.loci[0]}")


def _start(partial: Path, settings: dict[str, Any]) -> None:
    """Make the folder of the pieces, or go on with an interrupted run of the same settings.

    Raises:
        `InputError`: the folder is of a run with other settings, or is none of ours.
    """
    file = partial / "settings.json"
    if file.is_file():
        try:
            begun = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file}: cannot be read as JSON: {error}") from error
        for name, value in settings.items():
            if not isinstance(begun, dict) or begun.get(name) != value:
                was = begun.get(name) if isinstance(begun, dict) else None
                raise InputError(
                    f"{partial}: the run that was begun here is another one: {name} was {was!r} and is {value!r}. "
                    "Remove the folder to begin anew, or choose another --out."
                )
        tell(f"going on with the interrupted run in {partial}")
        return
    killed = file.with_name(file.name + ".partial")
    if partial.exists() and (not partial.is_dir() or any(one != killed for one in partial.iterdir())):
        raise InputError(f"{partial}: it is in the way of unfinished pieces; remove it, or choose another --out")
    with _keep(partial):
        partial.mkdir(parents=True, exist_ok=True)
        write_json(settings, file)


def _keep(partial: Path) -> AbstractContextManager[None]:
    """Leave finished pieces after an error or an interrupt, and nothing else."""
    return keep_finished(partial, "*.npy")


def _fill(
    partial: Path,
    pieces: Sequence[Locus],
    genome: Path,
    model: SegmentNTForTokenClassification,
    tokenizer: PreTrainedTokenizerBase,
    window: int,
    overlap: int,
    batch_size: int,
) -> None:
    """Compute the pieces that are not there yet, a file each."""
    missing: dict[str, list[tuple[Path, Locus]]] = {}
    for file, piece in zip(_name_pieces(partial, pieces), pieces):
        if not file.is_file():
            missing.setdefault(piece.chrom, []).append((file, piece))
    total = sum(piece.end - piece.start for piece in pieces)
    left = sum(piece.end - piece.start for parts in missing.values() for _, piece in parts)
    with track(total=total, initial=total - left, desc="Segmenting", unit="bp", unit_scale=True) as progress:
        for _, header, sequence in read_fasta(genome) if missing else ():
            for file, piece in missing.get(header.split()[0], ()):
                begin = max(0, piece.start - overlap // 2)
                try:
                    found = segment_sequence(
                        model,
                        tokenizer,
                        sequence[begin : piece.end + overlap // 2],
                        window=window,
                        overlap=overlap,
                        batch_size=batch_size,
                        unknown="skip",
                    )[piece.start - begin : piece.end - begin]
                except OverflowError as error:
                    raise InputError(f"{genome}, {piece}, after base {begin}: {error}") from error
                content = io.BytesIO()  # to a file itself, numpy leaves out what does not fit and says nothing
                np.save(content, found)
                with open_whole(file) as stream:
                    stream.write(content.getbuffer())
                progress.update(piece.end - piece.start)


def _name_pieces(partial: Path, pieces: Sequence[Locus]) -> list[Path]:
    return [partial / f"{number}-{piece.start}-{piece.end}.npy" for number, piece in enumerate(pieces)]


def _read_pieces(partial: Path, pieces: Sequence[Locus]) -> Iterator[Piece]:
    for file, piece in zip(_name_pieces(partial, pieces), pieces):
        yield Piece(piece.chrom, piece.start, np.load(file, allow_pickle=False))


def _collect(partial: Path, pieces: Sequence[Locus], locus: Locus, features: int) -> np.ndarray:
    """Return the probabilities of a locus, float32 [bp, features], put together from its pieces."""
    found = np.full((locus.end - locus.start, features), np.nan, dtype=np.float32)
    for file, piece in zip(_name_pieces(partial, pieces), pieces):
        start, end = max(piece.start, locus.start), min(piece.end, locus.end)
        if piece.chrom == locus.chrom and start < end:
            values = np.load(file, mmap_mode="r", allow_pickle=False)
            found[start - locus.start : end - locus.start] = values[start - piece.start : end - piece.start]
    return found


__all__ = ["PLOT_FILE", "SUMMARY_FILE", "load_segmenter", "segment_genome"]
