"""Which vectors has a model for the rows of a task? Computed once, kept by content, and read from the disk after that.

A file of the cache is called by a checksum of everything that its numbers depend on: the model's files, the sequences
themselves, and how they are read. So other rows, another model in the same folder, or another layer are other files.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram._version import __version__
from gengram.benchmarks.protocols.entrants import Entrant
from gengram.errors import InputError
from gengram.files import sync, tell_write_faults
from gengram.loading.configurations import measure_capacity
from gengram.loading.faults import tell_faults
from gengram.loading.models import choose_device
from gengram.phases import phase
from gengram.pipelines.embed import Embedder, SequenceError
from gengram.progress import tell, track
from gengram.tokenization.choose_encoder import find_encoder

FORMAT = 1
"""Of the files; another one makes all of them anew."""

_FOLDER = "embeddings"
_LAST_ONLY = ("rmt", "ntv3")  # kinds of models that give their last layer only
_BLOCK_ROWS = 4096
_BLOCK_BASES = 4 << 20
# What is lost if the process is killed: about half a minute at this many bases times weights.
_BLOCK_WORK = {"cpu": 5e11}
_BLOCK_WORK_ELSEWHERE = 5e14
_READ_ROWS = 4096


class EmbeddedRows(Mapping[int, np.ndarray]):
    """The vectors of N rows by layer, float32 [N, D]; they are read from the disk when they are asked for.

    Args:
        files: layer -> array of the distinct sequences, [U, D].
        rows: int64 [N], of each row the number of its sequence.
        scratch: a temporary folder of the files, which goes with this object; None: they stay.
    """

    def __init__(
        self, files: Mapping[int, Path], rows: np.ndarray, scratch: tempfile.TemporaryDirectory[str] | None = None
    ):
        self._files, self._rows, self._scratch = dict(files), rows, scratch

    def __getitem__(self, layer: int) -> np.ndarray:
        whole = np.load(self._files[layer], mmap_mode="r", allow_pickle=False)
        found = np.empty((len(self._rows), whole.shape[1]), dtype=np.float32)
        for first in range(0, len(found), _READ_ROWS):
            found[first : first + _READ_ROWS] = whole[self._rows[first : first + _READ_ROWS]]
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def measure_width(self, layer: int) -> int:
        """Return D of a layer."""
        return int(np.load(self._files[layer], mmap_mode="r", allow_pickle=False).shape[1])

    def take(self, rows: slice | np.ndarray) -> "EmbeddedRows":
        """Return some of the rows, or all in another order."""
        return EmbeddedRows(self._files, self._rows[rows], self._scratch)


def list_layers(config: Any, layers: Sequence[int] | Literal["all", "last"]) -> tuple[int, ...]:
    """Return numbers of layers, 0 the embedding and `num_hidden_layers` the last, in the order that they are given in.

    Args:
        config: of the model.
        layers: numbers, negative ones counted from the last (-1); `all`; or `last`.

    Raises:
        `InputError`: the model has no such layer, or gives its last one only; one that is given twice.
    """
    last = config.get_text_config().num_hidden_layers
    only_last = config.model_type.startswith(_LAST_ONLY)
    if isinstance(layers, str):
        return (last,) if layers == "last" or only_last else tuple(range(last + 1))
    found = []
    for layer in layers:
        if not -last - 1 <= layer <= last:
            raise InputError(
                f"layers: {layer}: the model has {last} layers; give 0 (the embedding) to {last} (the last), or count "
                f"from the end: -1 to {-last - 1}"
            )
        found.append(layer if layer >= 0 else last + 1 + layer)
        if only_last and found[-1] != last:
            raise InputError(f"layers: {layer}: a model of the kind {config.model_type} gives its last layer only, -1")
    if len(set(found)) < len(found):
        raise InputError(f"layers: {' '.join(map(str, layers))}: a layer is given twice")
    return tuple(found)


def embed_rows(
    entrant: Entrant,
    sequences: Sequence[str],
    layers: Sequence[int] | Literal["all", "last"] = "last",
    *,
    pool: Literal["mean", "max", "cls", "last"] = "mean",
    exclude_special: bool = False,
    too_long: Literal["error", "window", "truncate", "center"] = "error",
    max_length: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    cache: str | Path | None = None,
    name_row: Callable[[int], str] = "row {} (counted from 0)".format,
) -> EmbeddedRows:
    """Embed N rows; a sequence that occurs more than once is read once, and one pass gives all layers.

    What is finished is kept in blocks: a process that is killed loses the block that it was at. Processes that embed
    the same rows at the same time do no harm to each other.

    Args:
        entrant: the model. It is loaded if something is missing in the cache, and not before.
        sequences: N texts; `layers`: see `list_layers`.
        pool, exclude_special, too_long, max_length: see `gengram.pipelines.embed.Embedder`.
        dtype: what the model computes in.
        cache: folder; its folder `embeddings` is filled. None: nothing is kept.
        name_row: how messages call a row, by its number from 0.

    Returns:
        Layer, from 0 to the number of layers, -> float32 [N, D].

    Raises:
        `InputError`: a layer that there is not, a sequence that is too long (before the model is loaded), one that has
            no vector, a model that cannot be loaded.
    """
    numbers = list_layers(entrant.load_config(), layers)
    distinct, first, rows = _find_distinct(sequences)
    if not distinct:
        raise InputError(f"{entrant.name}: there are no rows to embed")

    def name_distinct(number: int) -> str:
        return name_row(int(first[number]))

    if not distinct[0]:
        raise InputError(f"{name_distinct(0)}: the sequence is empty")
    options = {"pool": pool, "exclude_special": exclude_special, "too_long": too_long, "max_length": max_length}
    device = choose_device(entrant.device).type
    key = _make_key(distinct, {**options, "dtype": dtype, "device": device})
    scratch = None
    if cache is None:
        scratch = tempfile.TemporaryDirectory(prefix="gengram-")
        cache = scratch.name
    store = _Store(Path(cache) / _FOLDER / entrant.fingerprint, key, len(distinct))
    missing = [layer for layer in numbers if not store.has(layer)]
    if missing:
        tokenizer = entrant.load_tokenizer()
        if too_long == "error":
            limit = max_length or measure_capacity(entrant.load_config(), tokenizer)
            _stop_if_long(tokenizer, distinct, limit, entrant.name, name_distinct)
        store.make()
        _fill(store, entrant, distinct, missing, options, getattr(torch, dtype), name_distinct)
    return EmbeddedRows({layer: store.name(layer) for layer in numbers}, rows, scratch)


def _find_distinct(sequences: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the distinct sequences, short ones first; of each the row that it is met in first; of each row its number.

    Their order depends on nothing else, so that the same rows in another order are the same file.
    """
    met: dict[str, int] = {}
    for row, sequence in enumerate(sequences):
        met.setdefault(sequence, row)
    distinct = sorted(met, key=lambda sequence: (len(sequence), sequence))
    number = {sequence: index for index, sequence in enumerate(distinct)}
    rows = np.fromiter((number[sequence] for sequence in sequences), np.int64, len(sequences))
    return distinct, np.array([met[sequence] for sequence in distinct], dtype=np.int64), rows


def _make_key(sequences: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the checksum of all that vectors depend on, but for the model and the layer."""
    libraries = {name: version(name) for name in ("torch", "transformers")}
    settings = {"format": FORMAT, "gengram": __version__, **libraries, **options}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for sequence in sequences:
        digest.update(f"\n{len(sequence)} ".encode())
        digest.update(sequence.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _stop_if_long(
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[str],
    limit: int,
    model: str,
    name_row: Callable[[int], str],
) -> None:
    """Refuse rows that are longer than the model; sequences are sorted by their length in bp."""
    # No token is shorter than a base.
    bases = limit - tokenizer.num_special_tokens_to_add()
    encode = find_encoder(tokenizer)
    found: list[tuple[int, int]] = []
    candidates = [number for number, sequence in enumerate(sequences) if len(sequence) > bases]
    for start in range(0, len(candidates), 64):
        some = candidates[start : start + 64]
        _, offsets = encode([sequences[number] for number in some], split_special_tokens=True)
        counts = (offsets[1:] - offsets[:-1]).tolist()
        found += [(number, count) for number, count in zip(some, counts) if count > limit]
    if found:
        number, tokens = max(found, key=lambda one: one[1])
        raise InputError(
            f"{name_row(number)}: the sequence of {len(sequences[number])} bp is {tokens} tokens, but the limit of "
            f"{model} is {limit} tokens ({len(found)} distinct sequences are too long, this is the longest). Read them "
            "in windows with --too_long window, or cut them with --too_long truncate or center"
        )


class _Store:
    """The arrays of one list of sequences by layer, and the blocks of those that are not whole yet.

    Args:
        folder: of the model.
        key: of the sequences.
        rows: how many there are.
    """

    def __init__(self, folder: Path, key: str, rows: int):
        self._folder, self._key, self._rows = folder, key, rows

    def make(self) -> None:
        """Make the folder.

        Raises:
            `InputError`: it cannot be made.
        """
        with tell_write_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def name(self, layer: int) -> Path:
        return self._folder / f"{self._key}-{layer}.npy"

    def has(self, layer: int) -> bool:
        """Whether the array of a layer is there, with a vector for each sequence."""
        return self._is_whole(self.name(layer), self._rows)

    def has_block(self, layer: int, block: slice) -> bool:
        return self._is_whole(self._name_block(layer, block), block.stop - block.start)

    def write_block(self, layer: int, block: slice, vectors: np.ndarray) -> None:
        """Write the vectors of some sequences, float32 [B, D]."""
        if self.has(layer):  # Another process was faster.
            return
        path = self._name_block(layer, block)
        with self._write(path, layer) as partial, open(partial, "wb") as stream:
            np.save(stream, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)

    def assemble(self, layer: int, blocks: Sequence[slice]) -> None:
        """Put the blocks of a layer together, and remove them."""
        if not self.has(layer):
            with self._write(self.name(layer), layer) as partial:
                width = self._load(layer, blocks[0]).shape[1]
                whole = np.lib.format.open_memmap(partial, "w+", np.float32, (self._rows, width))
                for block in blocks:
                    whole[block] = self._load(layer, block)
                whole.flush()
                del whole
        shutil.rmtree(self._name_blocks(layer), ignore_errors=True)

    @contextmanager
    def _write(self, path: Path, layer: int) -> Iterator[Path]:
        """Give a temporary name of this process's own, among the blocks; what is written there gets its name when it is
        whole.

        What goes wrong while another process puts the whole together, and removes the blocks, does not matter.
        """
        partial = self._name_blocks(layer) / f"{path.name}.{uuid.uuid4().hex}.partial"
        try:
            with tell_write_faults(path, partial):
                partial.parent.mkdir(parents=True, exist_ok=True)
                yield partial
                sync(partial)
                os.replace(partial, path)
        except (OSError, InputError):
            if not self.has(layer):
                raise
        finally:
            if partial.exists():  # no process but this one calls a file so
                partial.unlink()

    def _load(self, layer: int, block: slice) -> np.ndarray:
        return np.load(self._name_block(layer, block), allow_pickle=False)

    def _name_blocks(self, layer: int) -> Path:
        return self._folder / f"{self._key}-{layer}.parts"

    def _name_block(self, layer: int, block: slice) -> Path:
        return self._name_blocks(layer) / f"{block.start}-{block.stop}.npy"

    def _is_whole(self, path: Path, rows: int) -> bool:
        if not path.is_file():
            return False
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            tell(f"warning: {path}: computed again: {error}")
            return False
        return found.ndim == 2 and len(found) == rows and found.dtype == np.float32


def _fill(
    store: _Store,
    entrant: Entrant,
    sequences: Sequence[str],
    layers: Sequence[int],
    options: Mapping[str, Any],
    dtype: torch.dtype,
    name_row: Callable[[int], str],
) -> None:
    """Compute what is missing of some layers, block after block."""
    model, tokenizer = entrant.load(dtype)
    try:
        embed = Embedder(model, tokenizer, layer=list(layers), **options)
    except ValueError as error:
        raise InputError(f"{entrant.name}: {error}") from error
    blocks = _cut(sequences, sum(weight.numel() for weight in model.parameters()), choose_device(entrant.device).type)

    def list_missing() -> Iterator[slice]:
        for block in blocks:
            if not all(store.has_block(layer, block) or store.has(layer) for layer in layers):
                yield block

    done = len(sequences) - sum(block.stop - block.start for block in list_missing())
    if done:
        tell(f"{entrant.name}: {done} of {len(sequences)} sequences are embedded already")
    with (
        phase("Embedding", "rows") as one,
        track(total=len(sequences), initial=done, desc="Embedding", unit="seq") as bar,
        # Asked again before each: another process may have computed it meanwhile.
        closing(embed.stream((block, sequences[block]) for block in list_missing())) as stream,
        tell_faults(f"{entrant.name}: the model cannot be run", (RuntimeError, TypeError, AttributeError, KeyError)),
    ):
        try:
            for block, found in stream:
                vectors = np.stack([each.vectors for each in found])
                for place, layer in enumerate(layers):
                    store.write_block(layer, block, vectors[:, place])
                one.add(len(found))
                bar.update(len(found))
        except SequenceError as error:
            row = name_row(error.key.start + error.index)
            raise InputError(f"{row}: {error.args[1]} ({entrant.name})") from error
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{entrant.name}: {error}") from error
    for layer in layers:
        store.assemble(layer, blocks)


def _cut(sequences: Sequence[str], weights: int, device: str) -> list[slice]:
    """Cut sequences into blocks, each of so much work that little is lost of one; the same way every time.

    Batches do not reach over blocks, so the numbers of a block are the same in whichever run it is computed.
    """
    work = _BLOCK_WORK.get(device, _BLOCK_WORK_ELSEWHERE) / max(weights, 1)
    most = min(_BLOCK_BASES, work)
    blocks, start, bases = [], 0, 0
    for number, sequence in enumerate(sequences):
        if number > start and (bases + len(sequence) > most or number - start == _BLOCK_ROWS):
            blocks.append(slice(start, number))
            start, bases = number, 0
        bases += len(sequence)
    return [*blocks, slice(start, len(sequences))]


__all__ = ["FORMAT", "EmbeddedRows", "embed_rows", "list_layers"]
