"""One vector a sequence, a token or a base, from any layer of any model: sorted into batches, or as a pipeline."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from gengram.loading.configurations import measure_capacity
from gengram.loading.models import check_present, find_device
from gengram.phases import phase
from gengram.pipelines.budget import CPU_TOKENS, Memory, choose_tokens, find_memory, scale_blocks
from gengram.pipelines.feed import Batch, Feeder, OutOfMemoryError, find_feeding
from gengram.pipelines.padding import find_block, find_multiple, make_batches, restore_attention, round_up
from gengram.progress import track
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import NOWHERE, assign_bases
from gengram.tokenization.encode import BulkEncoder
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.tokenization.windows import TooLong, cut_tokens

Pool = Literal["mean", "max", "cls", "last", "none"]
POOLS: tuple[Pool, ...] = ("mean", "max", "cls", "last", "none")

# Batches are padded to a multiple of so many tokens: on a CPU oneDNN keeps code and buffers for every shape that it
# meets, and the tiles of a GPU's matrix products want multiples of 8.
_STEP, _STEP_ELSEWHERE = 32, 8
_BLOCK = 1024  # sequences that are sorted by length together, on a CPU
_PROBE = 4096  # tokens of the batch that shows what a token takes of an accelerator's memory

_Key = TypeVar("_Key")


class SequenceError(ValueError):
    """A sequence has no vector.

    Attributes:
        index: its number among those given, from 0.
        key: of its block, see `Embedder.stream`.
    """

    key: Any = None

    def __init__(self, index: int, told: str):
        super().__init__(index, told)
        self.index, self.told = index, told

    def __str__(self) -> str:
        return f"sequence {self.index} (counted from 0) {self.told}"


class LongSequenceError(SequenceError):
    """A sequence is longer than the model."""

    def __init__(self, index: int, length: int, tokens: int, limit: int):
        super().__init__(
            index,
            f"of {length} bp is {tokens} tokens, but the limit is {limit} tokens: shorten it, or read a part of it or "
            "windows: too_long='truncate', 'center' or 'window'",
        )


class LargeSequenceError(SequenceError):
    """The device has too little memory for a sequence, in a batch of its own."""

    def __init__(self, index: int, length: int, tokens: int):
        super().__init__(
            index,
            f"of {length} bp is {tokens} tokens, and alone does not fit into the memory of the device: read windows of "
            "it (too_long='window' and a smaller max_length), load the model in bfloat16, or take another device",
        )
        self.length, self.tokens = length, tokens


class NotFiniteError(SequenceError):
    """A vector has values that are infinite or no numbers."""

    def __init__(self, index: int):
        super().__init__(
            index,
            "has a vector that is not finite (NaN or infinite): the model's numbers overflow. Load it in float32",
        )


class NoTokenError(SequenceError):
    """A sequence has no token of its own, since it is shorter than one."""

    def __init__(self, index: int, length: int):
        super().__init__(index, f"of {length} bp has no token: it is shorter than those of this model")


class Tokens(NamedTuple):
    """Tokens of one sequence: `ids` integers [T]; `special` bool [T], those that the tokenizer added; `intervals` int64
    [T, 2], the bases that each stands for (`NOWHERE` for added ones), None where nobody asks or the tokenizer does not
    tell."""

    ids: np.ndarray
    special: np.ndarray
    intervals: np.ndarray | None


class Embedded(NamedTuple):
    """Embedding of one sequence: `vectors` float32 [D] if pooled, [L, D] of several layers, [T, D] of tokens or [bp, D]
    of bases; `intervals` as in `Tokens`, of the tokens that have a vector."""

    vectors: np.ndarray
    intervals: np.ndarray | None


class _Block(Generic[_Key]):
    """Sequences on their way: `windows` are the number of a sequence and the positions of tokens that are read
    together; `found` is of each window its vectors and the number of tokens that they are of."""

    def __init__(self, key: _Key, lengths: list[int], tokens: list[Tokens], windows: list[tuple[int, np.ndarray]]):
        self.key, self.lengths, self.tokens, self.windows = key, lengths, tokens, windows
        self.found: list[tuple[np.ndarray, int]] = [(np.empty(0), 0)] * len(windows)
        self.left = len(windows)


class Embedder:
    """Embed lists of sequences, those of similar length together.

    Args:
        model: a base model (without a head) of ours or of transformers, in evaluation mode, on any device.
        tokenizer: of the model.
        layer: number of the hidden states: 0 the embedding, i the output of layer i, -1 or the number of layers the
            last one behind the final norm. Several of them, not with `pool="none"`: one pass through the model gives
            all, and what is [D] of one layer is [L, D] then.
        pool: `"mean"` or `"max"` over the tokens, `"cls"` the first token, `"last"` the last one, which in a causal
            model has read all others, `"none"` every token. Means are float32, whatever the model is in.
        exclude_special: leave `<cls>` and its like out. By default they take part, as on the Nucleotide Transformers'
            model cards. A recurrent memory (RMT) gives them no vector: there they never do.
        per_base: with `pool="none"`: a vector for each base, that of its token; not a number where no token is.
        too_long: what happens to sequences that are longer than the model: an `error`; `truncate` (the end is cut off)
            or `center` (the middle is kept); `window`: windows of about equal length, each read alone, whose means are
            weighed by their tokens; `"cls"` is then the mean of the windows' first tokens, `"last"` the last token of
            the last window.
        max_length: limit in tokens, special ones included; by default the model's.
        batch_tokens: tokens of a batch, padding included. A longer sequence is a batch of its own. By default 8,192 on
            a CPU, and on a GPU as many as its free memory has room for, see `gengram.pipelines.budget`. Where memory
            runs out, batches are halved.

    Raises:
        `ValueError`: a value that is none of these, a layer that the model lacks, a limit beyond the model's, a pool
            or intervals that the tokenizer or the model cannot give; weights that are not in memory.

    Example:
        >>> embed = Embedder(model, tokenizer, pool="mean")  # doctest: +SKIP
        >>> embed(["ACGTACGT", "TTTT"])[0].vectors.shape  # doctest: +SKIP
        (768,)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int | Sequence[int] = -1,
        pool: Pool = "mean",
        exclude_special: bool = False,
        per_base: bool = False,
        too_long: TooLong | Literal["error"] = "error",
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ):
        if per_base and (pool != "none" or not tokenizer.is_fast):
            raise ValueError("a vector for each base needs pool='none' and a tokenizer that knows where its tokens lie")
        if batch_tokens is not None and batch_tokens < 1:
            raise ValueError(f"batch_tokens={batch_tokens}: give 1 or more")
        check_present(model)
        model = take_encoder(model)
        self.model, self.tokenizer = model, tokenizer
        if not isinstance(layer, int) and (pool == "none" or not layer):
            raise ValueError(f"layer={list(layer)}: several layers are pooled, and are one at least")
        self.layer: int | tuple[int, ...] = (
            check_layer(model, layer) if isinstance(layer, int) else tuple(check_layer(model, one) for one in layer)
        )
        self.pool = check_pool(model, pool)
        self.exclude_special = exclude_special or per_base
        self.per_base, self.too_long, self._batch_tokens = per_base, too_long, batch_tokens
        self.limit = choose_limit(model, tokenizer, max_length)
        encoder = find_encoder(tokenizer)
        # Of tokens that each get a vector it is told where they lie.
        self.encoder = encoder if self.pool != "none" or isinstance(encoder, BaseEncoder) else None
        self.block = find_block(model)
        step = _STEP if find_device(model).type == "cpu" else _STEP_ELSEWHERE
        self.step = step if self.block is None else self.block
        self._drops = self.exclude_special or drops_special(model)
        self._run = partial(read_vectors, model, layer=self.layer, pool=self.pool)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch; measured when they are first asked for."""
        if self._batch_tokens is None:
            memory = find_memory(find_device(self.model))
            self._batch_tokens = CPU_TOKENS if memory is None else self._measure(memory)
        return self._batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, tokens: int) -> None:
        self._batch_tokens = tokens

    def _measure(self, memory: Memory) -> int:
        """Find the room that an accelerator has, from a batch of bases."""
        tokens = tokenize_sequences(self.tokenizer, ["ACGT" * (_PROBE // 4)], self.encoder)[0]
        length = min(len(tokens.ids), self.limit, _PROBE // 4)
        inputs = self._fill([(tokens, np.arange(length))] * (_PROBE // length))
        there = find_feeding(find_device(self.model)).send(inputs)
        return choose_tokens(memory, partial(self._run, **there), inputs["input_ids"].numel())

    def __call__(self, sequences: Sequence[str]) -> list[Embedded]:
        """Embed B sequences; the order stays.

        Raises:
            `LongSequenceError`: one is longer than the model and must not be cut.
            `LargeSequenceError`: one is too large for the device's memory.
            `NotFiniteError`: the model overflows at one.
            `NoTokenError`: one is shorter than a token.
            `ValueError`: `"cls"` where the tokenizer puts nothing in front; an empty sequence, or a text instead of a
                list of them.
        """
        with closing(self.stream([(None, sequences)])) as blocks:
            return next(blocks)[1]

    def stream(
        self, blocks: Iterable[tuple[_Key, Sequence[str]]]
    ) -> Generator[tuple[_Key, list[Embedded]], None, None]:
        """Embed block after block; while one is with the model, the next is read and tokenised (see `Feeder`).

        Args:
            blocks: of sequences that are sorted by length together, and what the caller knows each by. A block without
                sequences passes through.

        Yields:
            Of each block its key, and the embeddings in the order of its sequences. Close it (`contextlib.closing`) if
            it is left early.

        Raises:
            `SequenceError`: see `__call__`; `key` is that of the block.
        """
        room = self.batch_tokens
        feed = Feeder(self._run, find_feeding(find_device(self.model)))
        try:
            with closing(feed(self._cut(blocks, room))) as results:
                for (block, numbers), vectors in results:
                    self._keep(block, numbers, vectors)
                    if not block.left:
                        yield block.key, self._join(block)
        except OutOfMemoryError as error:
            block, numbers = error.key
            index, positions = block.windows[numbers[error.row]]
            large = LargeSequenceError(index, block.lengths[index], len(positions))
            large.key = block.key
            raise large from error

    def _cut(
        self, blocks: Iterable[tuple[_Key, Sequence[str]]], room: int
    ) -> Iterator[Batch[tuple[_Block[_Key], list[int]]]]:
        """Make the batches of blocks: their keys are the block and the numbers of its windows."""
        for key, sequences in blocks:
            try:
                block = self._tokenize(key, sequences)
            except SequenceError as error:
                error.key = key
                raise
            if not block.windows:
                yield Batch((block, []), {})
            lengths = [len(positions) for _, positions in block.windows]
            # The longest first: what does not fit into memory is seen at once.
            order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
            sizes = partial(_count_rows, room, self.step)
            for numbers in make_batches(order, lengths, sizes, self.block):
                rows = [
                    (block.tokens[index], positions) for index, positions in map(block.windows.__getitem__, numbers)
                ]
                yield Batch((block, numbers), self._fill(rows))

    def _tokenize(self, key: _Key, sequences: Sequence[str]) -> _Block[_Key]:
        if isinstance(sequences, str):
            raise ValueError("give a list of sequences, not a single text")
        if "" in sequences:
            raise SequenceError(list(sequences).index(""), "is empty")
        with phase("Tokenising", "rows") as one:
            encoded = tokenize_sequences(self.tokenizer, sequences, self.encoder, self.pool == "none")
            one.add(len(encoded))
        windows = []
        for index, (tokens, sequence) in enumerate(zip(encoded, sequences)):
            if tokens.special.all():
                raise NoTokenError(index, len(sequence))
            if self.pool == "cls":
                check_first(tokens)
            for positions in find_windows(tokens, index, len(sequence), self.limit, self.too_long):
                windows.append((index, positions))
        return _Block(key, [len(sequence) for sequence in sequences], encoded, windows)

    def _fill(self, rows: Sequence[tuple[Tokens, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Return a batch of rows, filled up, as `read_vectors` takes it."""
        lengths = np.array([len(positions) for _, positions in rows])
        longest = int(lengths.max())
        T = round_up(max(longest, min(round_up(longest, self.step), self.limit)), find_multiple(self.model))
        ids = np.full((len(rows), T), self.tokenizer.pad_token_id or 0, dtype=np.int64)
        attended: np.ndarray = np.arange(T) < lengths[:, None]
        counted = attended.copy()
        for row, (tokens, positions) in enumerate(rows):
            ids[row, : len(positions)] = tokens.ids[positions]
            counted[row, : len(positions)] = self._choose(tokens, positions)
        inputs = {"input_ids": ids, "attention_mask": attended.astype(np.int64)}
        if self._drops:
            inputs["counted"] = counted
        return {name: torch.from_numpy(array) for name, array in inputs.items()}

    def _choose(self, tokens: Tokens, positions: np.ndarray) -> np.ndarray:
        """Which of these tokens count: bool [T]."""
        return ~tokens.special[positions] if self._drops else np.ones(len(positions), dtype=bool)

    def _keep(self, block: _Block, numbers: list[int], vectors: np.ndarray) -> None:
        """Put down the vectors of windows, float32 [B, D], [B, L, D] or [B, T, D]."""
        for number, vector in zip(numbers, vectors):
            index, positions = block.windows[number]
            places = self._choose(block.tokens[index], positions)
            if self.pool == "none":
                vector = vector[: len(places)][places]
            if not np.isfinite(vector).all():
                error = NotFiniteError(index)
                error.key = block.key
                raise error
            block.found[number] = vector, int(places.sum())
        block.left -= len(numbers)

    def _join(self, block: _Block) -> list[Embedded]:
        with phase("Model", "rows") as one:
            one.add(len(block.tokens))
            parts: list[list[tuple[np.ndarray, int]]] = [[] for _ in block.tokens]
            kept: list[list[np.ndarray]] = [[] for _ in block.tokens]
            for (index, positions), part in zip(block.windows, block.found):
                parts[index].append(part)
                kept[index].append(positions)
            return [
                self._finish(tokens, join_windows(part, self.pool), positions, length)
                for tokens, part, positions, length in zip(block.tokens, parts, kept, block.lengths)
            ]

    def _finish(self, tokens: Tokens, vectors: np.ndarray, kept: list[np.ndarray], length: int) -> Embedded:
        if self.pool != "none" or tokens.intervals is None:
            return Embedded(vectors, None)
        positions = np.concatenate([one[self._choose(tokens, one)] for one in kept])
        intervals = tokens.intervals[positions]
        if not self.per_base:
            return Embedded(vectors, intervals)
        assigned = assign_bases(intervals, length)
        spread = vectors[assigned]
        spread[assigned == NOWHERE] = np.nan
        return Embedded(spread, None)


def _count_rows(room: int, step: int, longest: int) -> int:
    """Rows of a batch of so many tokens."""
    return max(1, room // round_up(longest, step))


def embed_sequences(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[str],
    *,
    progress: bool = False,
    **options: Any,
) -> np.ndarray | list[np.ndarray]:
    """Return the embeddings of N sequences; for files, and for more than fit into memory, see `gengram embed`.

    Args:
        model, tokenizer, options: of `Embedder`.
        sequences: N texts of DNA, none of them empty.
        progress: show a progress bar.

    Returns:
        float32 [N, D], of several layers [N, L, D]; with `pool="none"` a list of N arrays, [T, D] of tokens or [bp, D]
        of bases.

    Raises:
        `ValueError`: see `Embedder`.
    """
    embed = Embedder(model, tokenizer, **options)
    found: list[np.ndarray] = []
    rows = _BLOCK * scale_blocks(find_device(embed.model))
    blocks = ((first, sequences[first : first + rows]) for first in range(0, len(sequences), rows))
    try:
        with (
            track(total=len(sequences), desc="Embedding", unit="seq", disable=not progress) as bar,
            closing(embed.stream(blocks)) as stream,
        ):
            for _, block in stream:
                found += [one.vectors for one in block]
                bar.update(len(block))
    except SequenceError as error:
        error.index += error.key
        raise
    return found if embed.pool == "none" else np.stack(found) if found else np.empty((0, model.config.hidden_size))


def take_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return what of a model reads a sequence: of T5, BART and others that write another one the encoder, else all."""
    return model.get_encoder() if model.config.is_encoder_decoder else model


def check_layer(model: PreTrainedModel, layer: int) -> int:
    """Return the number of the hidden states counted from the end, -1 the last.

    Raises:
        `ValueError`: the model has no such layer, or gives its last one only.
    """
    layers = model.config.get_text_config().num_hidden_layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(
            f"layer={layer}: the model has {layers} layers; give 0 (the embedding) to {layers} (the last), or count "
            f"from the end: -1 to {-layers - 1}"
        )
    if layer >= 0:
        layer -= layers + 1
    if layer != -1 and model.config.model_type == "rmt":
        raise ValueError(f"layer={layer}: a recurrent memory gives its last layer only, -1")
    if layer != -1 and model.config.model_type.startswith("ntv3"):
        raise ValueError(f"layer={layer}: NTv3 gives its last layer only, -1; others are shorter than the sequence")
    return layer


def check_pool(model: PreTrainedModel, pool: str) -> Pool:
    """Return the pool.

    Raises:
        `ValueError`: there is none of this name, or it needs a token for which the model has no vector.
    """
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r}: choose one of {', '.join(POOLS)}")
    if pool == "cls" and drops_special(model):
        raise ValueError("pool='cls': a recurrent memory gives special tokens no vector; take mean or max")
    return pool  # type: ignore[return-value]


def choose_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """Return the longest input in tokens: the model's, or a smaller one that is asked for.

    Raises:
        `ValueError`: more is asked for than the model takes.
    """
    capacity = measure_capacity(model.config, tokenizer)
    if max_length is not None and not 1 <= max_length <= capacity:
        raise ValueError(f"max_length={max_length}: the model takes 1 to {capacity} tokens")
    return max_length or capacity


def drops_special(model: PreTrainedModel) -> bool:
    """Whether the model has no vectors for special tokens: each segment of a recurrent memory has its own."""
    return model.config.model_type == "rmt"


def check_first(tokens: Tokens) -> None:
    """Refuse a sequence that begins with a base where its first token is asked for.

    Raises:
        `ValueError`: the tokenizer puts nothing in front.
    """
    if not tokens.special[0]:
        raise ValueError("pool='cls': the tokenizer puts no special token in front; take mean or max")


def tokenize_sequences(
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[str],
    encoder: BulkEncoder | None = None,
    places: bool = False,
) -> list[Tokens]:
    """Return the tokens of each sequence; nothing is cut off. Names of special tokens in a text are plain letters.

    Args:
        tokenizer: of the model.
        sequences: N texts.
        encoder: of `find_encoder`: many times as fast, but tells no intervals of tokens longer than a character.
        places: whether it tells intervals at all.
    """
    if encoder is not None:
        encoded = encoder(sequences, split_special_tokens=True)
        return [_describe_tokens(ids, encoder, places) for ids in encoded.split()]
    told = tokenizer(
        list(sequences),
        split_special_tokens=True,
        verbose=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_special_tokens_mask=tokenizer.is_fast,
        return_offsets_mapping=tokenizer.is_fast,
    )
    all_ids = [np.array(ids, dtype=np.int64) for ids in told["input_ids"]]
    if not tokenizer.is_fast:
        # Its mask cannot be trusted (ESM's is too long); what it adds is known, and an unknown letter is not added.
        names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id")
        added = [token for name in names if (token := getattr(tokenizer, name)) is not None]
        return [Tokens(ids, np.isin(ids, added), None) for ids in all_ids]
    rows = []
    for ids, special, offsets in zip(all_ids, told["special_tokens_mask"], told["offset_mapping"]):
        mask = np.array(special, dtype=bool)
        intervals = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        intervals[mask] = NOWHERE
        rows.append(Tokens(ids, mask, intervals))
    return rows


def _describe_tokens(ids: np.ndarray, encoder: BulkEncoder, places: bool) -> Tokens:
    special = np.ones(len(ids), dtype=bool)
    front, end = len(encoder.before), len(ids) - len(encoder.after)
    special[front:end] = False
    if not places or not isinstance(encoder, BaseEncoder):
        return Tokens(ids, special, None)
    intervals = np.full((len(ids), 2), NOWHERE, dtype=np.int64)
    intervals[front:end] = np.arange(end - front)[:, None] + [0, 1]
    return Tokens(ids, special, intervals)


def find_windows(tokens: Tokens, index: int, length: int, limit: int, too_long: str) -> list[np.ndarray]:
    """Return the positions of the tokens of each window of a sequence, see `cut_tokens`.

    Raises:
        `LongSequenceError`: the sequence is longer than the limit, and must not be.
        `ValueError`: `too_long` is none of the choices.
    """
    if len(tokens.ids) <= limit:
        return [np.arange(len(tokens.ids))]
    if too_long == "error":
        raise LongSequenceError(index, length, len(tokens.ids), limit)
    if too_long not in ("truncate", "center", "window"):
        raise ValueError(f"too_long={too_long!r}: choose error, truncate, center or window")
    return cut_tokens(tokens.special, limit, too_long)  # type: ignore[arg-type]


@torch.no_grad()
def read_vectors(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    counted: torch.Tensor | None = None,
    *,
    layer: int | tuple[int, ...],
    pool: Pool,
) -> torch.Tensor:
    """Run a batch, and pool it where it is; nothing here waits for the device.

    Args:
        input_ids, attention_mask: int64 [B, T].
        counted: bool [B, T], the tokens that are pooled; by default those that are attended to.
        layer: counted from the end, of `check_layer`; or several.

    Returns:
        float32 [B, D], of several layers [B, L, D], or [B, T, D] with `"none"`, of all tokens.

    Raises:
        `ValueError`: a model that does not give that layer.
    """
    restore_attention(model)
    layers = (layer,) if isinstance(layer, int) else layer
    options = {"use_cache": False} if getattr(model.config, "use_cache", False) else {}
    if set(layers) != {-1}:
        options["output_hidden_states"] = True
    training = model.training  # as Trainer leaves it: dropout would be in the vectors
    if training:
        model.eval()
    try:
        outputs = model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **options)
    finally:
        if training:
            model.train()
    attended = attention_mask.bool()
    counted = attended if counted is None else counted
    pooled = []
    for one in layers:
        hidden = _find_states(model, outputs, one)[:, : input_ids.shape[1]]  # BigBird pads to whole blocks.
        pooled.append(_pool_states(hidden, attended, counted, pool))
    return pooled[0] if isinstance(layer, int) else torch.stack(pooled, 1)


def _find_states(model: PreTrainedModel, outputs: Any, layer: int) -> torch.Tensor:
    """Return what a model gives of one layer, [B, T, D]."""
    if layer == -1 and not hasattr(outputs, "last_hidden_state"):
        raise ValueError(
            f"{type(model).__name__} has a head and gives no hidden states; take the model without it: "
            "model.base_model, or gengram.auto(path)"
        )
    if layer == -1:
        return outputs.last_hidden_state
    if (states := getattr(outputs, "hidden_states", None)) is not None:
        return states[layer]
    raise ValueError(f"layer={layer}: {type(model).__name__} gives its last layer only, -1")


def _pool_states(hidden: torch.Tensor, attended: torch.Tensor, counted: torch.Tensor, pool: Pool) -> torch.Tensor:
    """Pool [B, T, D] over the tokens that count: float32 [B, D], or all of them with `"none"`."""
    if pool == "none":
        return hidden.float()
    if pool == "max":
        return hidden.masked_fill(~counted[..., None], -torch.inf).amax(1).float()
    if pool == "mean":
        total = hidden.masked_fill(~counted[..., None], 0).sum(1, dtype=torch.float32)
        return total / counted.sum(1, keepdim=True)
    if pool == "cls":
        place = attended.int().argmax(1)
    else:
        place = counted.shape[1] - 1 - counted.int().flip(1).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), place].float()


def join_windows(parts: Sequence[tuple[np.ndarray, int]], pool: Pool) -> np.ndarray:
    """Return what the windows of a sequence are together.

    Args:
        parts: of each window the vectors, float32 [D], [L, D] or [T, D], and the number of tokens that they are of.
    """
    if len(parts) == 1:
        return parts[0][0]
    vectors = [part for part, _ in parts]
    if pool == "none":
        return np.concatenate(vectors)
    if pool == "last":
        return vectors[-1]
    if pool == "max":
        return np.max(vectors, axis=0)
    weights = np.array([count if pool == "mean" else 1 for _, count in parts], dtype=np.float32)
    return np.tensordot(weights, np.stack(vectors), 1) / weights.sum()


class EmbeddingPipeline(ChunkPipeline):
    """The same as a transformers pipeline, task `dna-embedding`: arrays in the order of the sequences.

    It takes the options `layer`, `pool`, `exclude_special`, `too_long` and `max_length` of `Embedder`, when it is made
    or called, and `batch_size` as every pipeline. Sequences are not sorted by length: for many, `embed_sequences` is
    faster; and BigBird's sparse attention and NTv3 see padding, so leave their `batch_size` at 1.

    Example:
        >>> from transformers import pipeline
        >>> import gengram.pipelines
        >>> embed = pipeline("dna-embedding", model=model, tokenizer=tokenizer, pool="mean")  # doctest: +SKIP
        >>> embed("ACGTACGT").shape  # doctest: +SKIP
        (768,)
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = True  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **others: Any):
        super().__init__(*arguments, **others)
        check_present(self.model)
        self.model = take_encoder(self.model)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        groups: tuple[tuple[str, ...], ...] = (
            ("too_long", "max_length", "pool"),
            ("layer", "pool", "exclude_special"),
            ("pool",),
        )
        if unknown := options.keys() - (known := {name: None for group in groups for name in group}).keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: unknown; an option is {', '.join(known)}")
        preprocess, forward, postprocess = (
            {name: options[name] for name in group if name in options} for group in groups
        )
        return preprocess, forward, postprocess

    def preprocess(  # type: ignore[override]
        self, sequence: str, too_long: str = "error", max_length: int | None = None, pool: Pool = "mean"
    ) -> Iterator[dict[str, Any]]:
        tokenizer: Any = self.tokenizer
        tokens = tokenize_sequences(tokenizer, [sequence])[0]
        if pool == "cls":
            check_first(tokens)
        limit = choose_limit(self.model, tokenizer, max_length)
        windows = find_windows(tokens, 0, len(sequence), limit, too_long)
        for number, positions in enumerate(windows, start=1):
            filling = (0, -len(positions) % find_multiple(self.model))
            columns = {
                "input_ids": np.pad(tokens.ids[positions], filling, constant_values=tokenizer.pad_token_id or 0),
                "attention_mask": np.pad(np.ones(len(positions), dtype=np.int64), filling),
                "special_tokens_mask": np.pad(tokens.special[positions].astype(np.int64), filling, constant_values=1),
            }
            yield {
                "is_last": number == len(windows),
                **{name: torch.from_numpy(column)[None] for name, column in columns.items()},
            }

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], layer: int = -1, pool: Pool = "mean", exclude_special: bool = False
    ) -> dict[str, Any]:
        is_last, ids, attended = (model_inputs.pop(name) for name in ("is_last", "input_ids", "attention_mask"))
        counted = attended.bool()
        if exclude_special or drops_special(self.model):
            counted &= model_inputs["special_tokens_mask"] == 0
        layer, pool = check_layer(self.model, layer), check_pool(self.model, pool)
        vectors = read_vectors(self.model, ids, attended, counted, layer=layer, pool=pool)
        return {"is_last": is_last, "vectors": vectors, "counted": counted}

    def postprocess(  # type: ignore[override]
        self, model_outputs: list[dict[str, Any]], pool: Pool = "mean"
    ) -> np.ndarray:
        parts = []
        for output in model_outputs:
            vectors, places = output["vectors"][0], output["counted"][0]
            parts.append(((vectors[places] if pool == "none" else vectors).numpy(), int(places.sum())))
            if not np.isfinite(parts[-1][0]).all():
                raise NotFiniteError(0)
        return join_windows(parts, pool)


PIPELINE_REGISTRY.register_pipeline("dna-embedding", EmbeddingPipeline, pt_model=AutoModel)

__all__ = [
    "POOLS",
    "Embedded",
    "Embedder",
    "EmbeddingPipeline",
    "LargeSequenceError",
    "LongSequenceError",
    "NoTokenError",
    "NotFiniteError",
    "Pool",
    "SequenceError",
    "embed_sequences",
]
