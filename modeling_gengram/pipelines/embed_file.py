"""What does a model make of each sequence of a file, as a vector? The work of `gengram embed`."""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import find_suffix, hash_file
from gengram.genome.contigs import Genome
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey, name_row
from gengram.genome.places import survey_places
from gengram.genome.streams import fit_columns, stream_rows, survey_rows
from gengram.genome.tables import shorten
from gengram.loading.adapters import is_adapter
from gengram.loading.checkpoints import find_model
from gengram.loading.faults import tell_faults
from gengram.loading.models import choose_device, count_embeddings, require_model
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.phases import phase, timed
from gengram.pipelines.blocks import take_blocks
from gengram.pipelines.budget import scale_blocks
from gengram.pipelines.embed import (
    Embedded,
    Embedder,
    LargeSequenceError,
    NotFiniteError,
    NoTokenError,
    SequenceError,
)
from gengram.pipelines.embedding_files import COLUMN, TOKENS, assemble_vectors, build_columns, spread_vectors
from gengram.pipelines.outputs import PLACES, check_output
from gengram.pipelines.parts import Parts, join_columns
from gengram.pipelines.run_folder import name_versions
from gengram.pipelines.shares import Member, name_share
from gengram.progress import tell, track
from gengram.tokenization.choose_encoder import find_encoder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# Of a CPU: sorted by length together, and what a killed run has to do again.
_BLOCK_ROWS = 1024
_BLOCK_BASES = 4 << 20
_BLOCK_BYTES = 128 << 20  # of vectors, where there are as many as tokens


def embed_file(
    model_path: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    dtype: str = "auto",
    devices: str | None = None,
    genome: str | Path | Genome | None = None,
    sequence_column: str | None = None,
    max_non_dna: float = MAX_NON_DNA,
    block_rows: int | None = None,
    shard: tuple[int, int] | Member = (1, 1),
    **options: Any,
) -> Path:
    """Embed every row of a file; memory does not grow with their number.

    Finished blocks of rows are kept in `OUT.parts/` until all are done. The same call goes on after them if it was
    interrupted, whenever that was, and the file is the one that an uninterrupted run writes.

    Args:
        model_path: folder, run or Hub id of any model that transformers or this package knows; no remote code is run.
        file: what `stream_rows` reads: tables, FASTA, BED with a genome; plain or gzip.
        out: `.parquet`, `.npz`, `.safetensors`, `.tsv`, `.csv`, and for rows with places `.bed`; replaced if it is
            there.
        dtype: what the model computes in: `float32`, `bfloat16`, or `auto`: bfloat16 where the hardware multiplies it,
            float32 elsewhere. Vectors are float32 in any case.
        devices: what it computes on, e.g. `cpu`, `cuda:1`; by default an accelerator if there is one.
        genome, sequence_column: see `stream_rows`.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.
        block_rows: rows that are sorted by length together and saved together; by default 1,024, on a GPU 4,096.
        shard: `(i, n)`: of n processes with the same arguments, which may be on several machines that share the folder,
            this is number i, from 1. Each embeds every n-th block; the last one puts the file together. Or a `Member`
            of processes that were started together: it embeds blocks that no other has taken; the main one puts the
            file together.
        options: of `Embedder`: `layer`, `pool`, `exclude_special`, `per_base`, `too_long`, `max_length`,
            `batch_tokens`.

    Returns:
        The path of the file; of a process that does not put it together, of the folder of parts. Rows are those of the
        input, in the same order. Parquet has the input's columns but the sequences, then `embedding`, float32 lists of
        length D (lists of them with `pool="none"`, with the tokens' bases in `token_interval`). Text has a column for
        each dimension, see `spread_vectors`. The others have `embeddings` [N, D]; with `pool="none"` the rows' vectors
        one after the other, row i at `offsets[i]` to `offsets[i + 1]`, and the tokens' bases in `intervals`.

    Raises:
        `InputError`: a file that cannot be read, a model that cannot be loaded or lacks weights, a sequence that is too
            long, letters that are not DNA, an option that does not fit the model, parts of another run, a vector that
            is not finite.
    """
    out = check_output(out, "embed")
    suffix = find_suffix(out)
    if suffix in PLACES and options.get("pool") == "none":
        raise InputError(f"{out}: a BED file has a vector for each interval; pool them (--pool mean), or write .tsv")
    genome = None if genome is None else Genome.of(genome).keep()
    model_path = find_model(model_path)
    counted_from = survey_places(file, sequence_column) if suffix in PLACES else 0
    if Path(model_path).is_dir() and is_adapter(model_path):
        raise InputError(
            f"{model_path}: an adapter has no vectors of its own; merge it into its base first (merge_and_unload, "
            "save_pretrained), or embed with the base"
        )
    device = choose_device(devices)
    scale = scale_blocks(device)
    block_rows = block_rows or scale * _BLOCK_ROWS
    tokenizer = _load_tokenizer(model_path)
    with phase("Loading the model"):
        model = require_model(model_path, dtype=choose_dtype(dtype), device=device)
    check_tokenizer(tokenizer, model_path, model.config, count_embeddings(model))
    try:
        embed = Embedder(model, tokenizer, **options)
    except ValueError as error:
        raise InputError(f"{model_path}: {error}") from error
    lengths, letters = _LengthCheck(embed, str(file)), LetterSurvey(str(file), max_non_dna)

    def look(start: int, block: pa.Table) -> None:
        sequences = block["sequence"].to_pylist()
        letters.look(sequences, lambda row: name_row(start + row, block.slice(row, 1).to_pylist()[0]))
        lengths.look(start, sequences)

    with phase("Checking the rows", "rows") as one:
        rows, schema = survey_rows(file, sequence_column, genome, look)
        one.add(rows)
    letters.judge()
    lengths.stop_if_long()
    with phase("Checksums"):
        plan = _make_plan(embed, model_path, file, genome, sequence_column, block_rows, rows)
    # Long enough for a token of any tokenizer, and no longer than the limit, since no token is shorter than a base.
    length = max(1, min(embed.limit - embed.tokenizer.num_special_tokens_to_add(), 16))
    with tell_faults(f"{model_path}: the model cannot be run (is its config.json that of its weights?)"):
        try:
            built = pa.table(build_columns(embed(["A" * length])))
        except ValueError as error:
            raise InputError(f"{model_path}: {error}") from error
    is_spread = suffix not in (".parquet", ".npz", ".safetensors")
    # Parts have the vectors under names of their own, whatever the output calls them.
    taken = {COLUMN, TOKENS, *(spread_vectors(built) if is_spread else built).column_names}
    if both := [name for name in schema.names if name in taken]:
        tell(f"{file}: {shorten(both)}: columns of the vectors are called so, those of the file are left out")
    kept = [name for name in schema.names if name not in taken]
    settled = ("batch_tokens",) if options.get("batch_tokens") is None else ()
    parts = Parts(out, plan, name_share(shard), settled)
    bases = scale * _BLOCK_BASES
    if embed.pool == "none":
        bases = min(bases, _BLOCK_BYTES // (4 * embed.model.config.hidden_size))
    # What the first process has measured holds for those that go on, or take part.
    embed.batch_tokens = parts.plan["batch_tokens"]
    count = 0

    def choose() -> Iterator[tuple[_Place, list[str]]]:
        nonlocal count
        first = 1
        blocks = take_blocks(stream_rows(file, sequence_column, genome), block_rows, bases)
        for count, block in enumerate(timed(blocks, "Reading", "rows", len), start=1):
            is_missing = not parts.has(count - 1) and parts.share.takes(count - 1)
            yield _Place(count - 1, first, block), block["sequence"].to_pylist() if is_missing else []
            first += len(block)

    with parts.keep(), track(total=rows, desc="Embedding", unit="seq") as bar:
        with closing(_tell_rows(embed.stream(choose()), embed, file)) as stream:
            for place, embedded in stream:
                if embedded:
                    with phase("Writing", "rows") as one:
                        others = fit_columns(place.block, schema, kept)
                        parts.write(place.number, join_columns(others, build_columns(embedded)))
                        one.add(len(place.block))
                bar.update(len(place.block))
        with parts.assemble(count) as is_whole, phase("Writing"):
            if is_whole:
                assemble_vectors(parts, count, counted_from)
    return out if is_whole else parts.folder


class _Place(NamedTuple):
    """A block of rows, its number (from 0), and the number of its first row in the file (from 1)."""

    number: int
    first: int
    block: pa.Table


def _tell_rows(
    stream: Generator[tuple[_Place, list[Embedded]], None, None], embed: Embedder, file: str | Path
) -> Generator[tuple[_Place, list[Embedded]], None, None]:
    """Pass on what is embedded.

    Raises:
        `InputError`: a sequence that has no vector, with its row.
    """
    try:
        yield from stream
    except SequenceError as error:
        if isinstance(error, NotFiniteError):
            told = (
                "the vector is not finite (NaN or infinite): the model's numbers overflow in "
                f"{embed.model.dtype}; --dtype float32 has the most room"
            )
        elif isinstance(error, NoTokenError):
            told = "the sequence is shorter than a token of this model"
        elif isinstance(error, LargeSequenceError):
            told = (
                f"the sequence of {error.length} bp ({error.tokens} tokens) does not fit into the memory of "
                f"{embed.model.device}, in a batch of its own: read it in parts with --too_long window and a smaller "
                "--max_length, with --dtype bfloat16, or on another device with --devices"
            )
        else:
            told = str(error)
        raise InputError(f"{file}, data row {error.key.first + error.index}: {told}") from error


def choose_dtype(name: str) -> torch.dtype:
    """Return what a model computes in; `auto` is bfloat16 where the hardware has instructions for its products.

    Raises:
        `InputError`: another name.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise InputError(f"dtype={name!r}: choose auto, {' or '.join(DTYPES)}")
    if torch.accelerator.is_available():
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        found = torch.cpu.get_capabilities()
        fast = any(found.get(each) for each in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


class _LengthCheck:
    """Find sequences that are too long before anything is embedded."""

    def __init__(self, embed: Embedder, file: str):
        self.embed, self.file = embed, file
        self.first: tuple[int, int, int] | None = None  # row, bp, tokens
        self.found = self.longest = 0
        # No token is shorter than a base.
        self.bases = embed.limit - embed.tokenizer.num_special_tokens_to_add()
        self.encode = embed.encoder or find_encoder(embed.tokenizer)

    def look(self, start: int, sequences: list[str]) -> None:
        if self.embed.too_long != "error":
            return
        rows = [row for row, sequence in enumerate(sequences) if len(sequence) > self.bases]
        for first in range(0, len(rows), 64):
            some = rows[first : first + 64]
            _, offsets = self.encode([sequences[row] for row in some], split_special_tokens=True)
            for row, count in zip(some, (offsets[1:] - offsets[:-1]).tolist()):
                if count > self.embed.limit:
                    self.first = self.first or (start + row + 1, len(sequences[row]), count)
                    self.found += 1
                    self.longest = max(self.longest, count)

    def stop_if_long(self) -> None:
        if self.first:
            row, bases, tokens = self.first
            raise InputError(
                f"{self.file}, data row {row}: the sequence of {bases} bp is {tokens} tokens, but the limit is "
                f"{self.embed.limit} tokens ({self.found} rows are too long, the longest has {self.longest}). Shorten "
                "them, cut them with --too_long truncate or center, or read them in parts with --too_long window."
            )


def _load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    tokenizer = require_tokenizer(path)
    algorithm: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if hasattr(algorithm, "_resize_cache"):
        algorithm._resize_cache(0)  # it keeps the tokens of 10,000 words, which are whole sequences here
    return tokenizer


def _make_plan(
    embed: Embedder,
    model_path: str | Path,
    file: str | Path,
    genome: Genome | None,
    sequence_column: str | None,
    block_rows: int,
    rows: int,
) -> dict[str, Any]:
    return {
        **name_versions(),
        "model": str(model_path),
        "weights": _hash_weights(embed.model),
        "tokenizer": hashlib.sha256(repr(sorted(embed.tokenizer.get_vocab().items())).encode()).hexdigest(),
        "file": str(file),
        "file_sha256": hash_file(file),
        "genome": None if genome is None else str(genome),
        "genome_sha256": None if genome is None else genome.hash(),
        "sequence_column": sequence_column,
        "rows": rows,
        "layer": embed.layer,
        "pool": embed.pool,
        "exclude_special": embed.exclude_special,
        "per_base": embed.per_base,
        "too_long": embed.too_long,
        "max_length": embed.limit,
        "dtype": str(embed.model.dtype).removeprefix("torch."),
        "device": embed.model.device.type,
        "batch_tokens": embed.batch_tokens,
        "block_rows": block_rows,
    }


def _hash_weights(model: PreTrainedModel) -> str:
    """A digest of names, shapes and the first numbers of every weight: training changes some of each."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        if "pooler" in name:  # not read, and maybe drawn at random
            continue
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


__all__ = ["DTYPES", "choose_dtype", "embed_file"]
