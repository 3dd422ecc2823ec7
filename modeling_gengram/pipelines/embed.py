"""One vector a sequence, a token or a base, from any layer of any model: sorted into batches, or as a pipeline."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from gengram.loading.configurations import measure_capacity
from gengram.loading.models import check_present, find_device
from gengram.phases import phase
from gengram.pipelines.padding import find_block, find_multiple, make_batches, restore_attention, round_up
from gengram.progress import track
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import NOWHERE, assign_bases
from gengram.tokenization.encode import BulkEncoder
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.tokenization.windows import TooLong, cut_tokens

Pool = Literal["mean", "max", "cls", "last", "none"]
POOLS: tuple[Pool, ...] = ("mean", "max", "cls", "last", "none")
BATCH_TOKENS = 8192
"""Tokens of a batch, padding included: enough to keep two cores or a small GPU busy."""

# Batches are padded to a multiple of so many tokens: for every shape that it meets, oneDNN keeps code and buffers.
_STEP = 32


class LongSequenceError(ValueError):
    """A sequence is longer than the model; `index` is its number among those given, from 0."""

    def __init__(self, index: int, length: int, tokens: int, limit: int):
        super().__init__(
            f"sequence {index} (counted from 0) of {length} bp is {tokens} tokens, but the limit is {limit} tokens: "
            "shorten it, or read a part of it or windows: too_long='truncate', 'center' or 'window'"
        )
        self.index = index


class NotFiniteError(ValueError):
    """A vector has values that are infinite or no numbers; `index` is the number of its sequence, from 0."""

    def __init__(self, index: int):
        super().__init__(
            f"sequence {index} (counted from 0) has a vector that is not finite (NaN or infinite): the model's numbers "
            "overflow. Load it in float32"
        )
        self.index = index


class NoTokenError(ValueError):
    """A sequence has no token of its own, since it is shorter than one; `index` is its number, from 0."""

    def __init__(self, index: int, length: int):
        super().__init__(
            f"sequence {index} (counted from 0) of {length} bp has no token: it is shorter than those of this model"
        )
        self.index = index


class Tokens(NamedTuple):
    """Tokens of one sequence: `ids` integers [T]; `special` bool [T], those that the tokenizer added; `intervals` int64
    [T, 2], the bases that each stands for (`NOWHERE` for added ones), None where the tokenizer does not tell."""

    ids: np.ndarray
    special: np.ndarray
    intervals: np.ndarray | None


class Embedded(NamedTuple):
    """Embedding of one sequence: `vectors` float32 [D] if pooled, [T, D] of tokens or [bp, D] of bases; `intervals`
    as in `Tokens`, of the tokens that have a vector."""

    vectors: np.ndarray
    intervals: np.ndarray | None


class Embedder:
    """Embed lists of sequences, those of similar length together.

    Args:
        model: a base model (without a head) of ours or of transformers, in evaluation mode, on any device.
        tokenizer: of the model.
        layer: number of the hidden states: 0 the embedding, i the output of layer i, -1 or the number of layers the
            last one behind the final norm.
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
        batch_tokens: tokens of a batch, padding included. A longer sequence is a batch of its own.

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
        layer: int = -1,
        pool: Pool = "mean",
        exclude_special: bool = False,
        per_base: bool = False,
        too_long: TooLong | Literal["error"] = "error",
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ):
        if per_base and (pool != "none" or not tokenizer.is_fast):
            raise ValueError("a vector for each base needs pool='none' and a tokenizer that knows where its tokens lie")
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens={batch_tokens}: give 1 or more")
        check_present(model)
        model = take_encoder(model)
        self.model, self.tokenizer = model, tokenizer
        self.layer, self.pool = check_layer(model, layer), check_pool(model, pool)
        self.exclude_special = exclude_special or per_base
        self.per_base, self.too_long, self.batch_tokens = per_base, too_long, batch_tokens
        self.limit = choose_limit(model, tokenizer, max_length)
        encoder = find_encoder(tokenizer)
        # Of tokens that each get a vector it is told where they lie.
        self.encoder = encoder if self.pool != "none" or isinstance(encoder, BaseEncoder) else None
        self.block = find_block(model)
        self.step = _STEP if self.block is None else self.block

    def __call__(self, sequences: Sequence[str]) -> list[Embedded]:
        """Embed B sequences; the order stays.

        Raises:
            `LongSequenceError`: one is longer than the model and must not be cut.
            `NotFiniteError`: the model overflows at one.
            `NoTokenError`: one is shorter than a token.
            `ValueError`: `"cls"` where the tokenizer puts nothing in front; an empty sequence, or a text instead of a
                list of them.
        """
        if isinstance(sequences, str):
            raise ValueError("give a list of sequences, not a single text")
        if "" in sequences:
            raise ValueError(f"sequence {list(sequences).index('')} (counted from 0) is empty")
        with phase("Tokenising", "rows") as one:
            encoded = tokenize_sequences(self.tokenizer, sequences, self.encoder)
            one.add(len(encoded))
        with phase("Model", "rows") as one:
            one.add(len(encoded))
            return self._embed(sequences, encoded)

    def _embed(self, sequences: Sequence[str], encoded: list[Tokens]) -> list[Embedded]:
        for index, tokens in enumerate(encoded):
            if tokens.special.all():
                raise NoTokenError(index, len(sequences[index]))
        windows = [
            (index, positions)
            for index, tokens in enumerate(encoded)
            for positions in find_windows(tokens, index, len(sequences[index]), self.limit, self.too_long)
        ]
        # The longest first: what does not fit into memory is seen at once.
        order = sorted(range(len(windows)), key=lambda number: -len(windows[number][1]))
        found: list[tuple[np.ndarray, int]] = [(np.empty(0), 0)] * len(windows)
        lengths = [len(positions) for _, positions in windows]
        for batch in make_batches(order, lengths, self._count_rows, self.block):
            rows = [(encoded[windows[number][0]], windows[number][1]) for number in batch]
            for number, one in zip(batch, self._embed_batch(rows)):
                if not np.isfinite(one[0]).all():
                    raise NotFiniteError(windows[number][0])
                found[number] = one
        parts: list[list[tuple[np.ndarray, int]]] = [[] for _ in sequences]
        kept: list[list[np.ndarray]] = [[] for _ in sequences]
        for (index, positions), part in zip(windows, found):
            parts[index].append(part)
            kept[index].append(positions)
        return [
            self._finish(tokens, join_windows(part, self.pool), positions, len(sequence))
            for tokens, part, positions, sequence in zip(encoded, parts, kept, sequences)
        ]

    def _count_rows(self, longest: int) -> int:
        return max(1, self.batch_tokens // round_up(longest, self.step))

    def _embed_batch(self, rows: list[tuple[Tokens, np.ndarray]]) -> list[tuple[np.ndarray, int]]:
        """The vectors of each row and how many tokens they are of."""
        B, longest = len(rows), max(len(positions) for _, positions in rows)
        T = round_up(max(longest, min(round_up(longest, self.step), self.limit)), find_multiple(self.model))
        ids = np.full((B, T), self.tokenizer.pad_token_id or 0, dtype=np.int64)
        mask, special = np.zeros((B, T), dtype=np.int64), np.ones((B, T), dtype=np.int64)
        for row, (tokens, positions) in enumerate(rows):
            ids[row, : len(positions)] = tokens.ids[positions]
            special[row, : len(positions)] = tokens.special[positions]
            mask[row, : len(positions)] = 1
        on_device = (torch.from_numpy(array).to(find_device(self.model)) for array in (ids, mask, special))
        input_ids, attention_mask, added = on_device
        vectors, counted = read_vectors(
            self.model, input_ids, attention_mask, added, self.layer, self.pool, self.exclude_special
        )
        return [
            (one[places].numpy() if self.pool == "none" else one.numpy(), int(places.sum()))
            for one, places in zip(vectors.cpu(), counted.cpu())
        ]

    def _finish(self, tokens: Tokens, vectors: np.ndarray, kept: list[np.ndarray], length: int) -> Embedded:
        if self.pool != "none" or tokens.intervals is None:
            return Embedded(vectors, None)
        drops = self.exclude_special or drops_special(self.model)
        positions = np.concatenate([one[~tokens.special[one]] if drops else one for one in kept])
        intervals = tokens.intervals[positions]
        if not self.per_base:
            return Embedded(vectors, intervals)
        assigned = assign_bases(intervals, length)
        spread = vectors[assigned]
        spread[assigned == NOWHERE] = np.nan
        return Embedded(spread, None)


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
        float32 [N, D]; with `pool="none"` a list of N arrays, [T, D] of tokens or [bp, D] of bases.

    Raises:
        `ValueError`: see `Embedder`.
    """
    embed = Embedder(model, tokenizer, **options)
    found: list[np.ndarray] = []
    with track(total=len(sequences), desc="Embedding", unit="seq", disable=not progress) as bar:
        for start in range(0, len(sequences), 1024):
            block = sequences[start : start + 1024]
            found += [one.vectors for one in embed(block)]
            bar.update(len(block))
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


def tokenize_sequences(
    tokenizer: PreTrainedTokenizerBase, sequences: Sequence[str], encoder: BulkEncoder | None = None
) -> list[Tokens]:
    """Return the tokens of each sequence; nothing is cut off. Names of special tokens in a text are plain letters.

    Args:
        tokenizer: of the model.
        sequences: N texts.
        encoder: of `find_encoder`: many times as fast, but tells no intervals of tokens longer than a character.
    """
    if encoder is not None:
        encoded = encoder(sequences, split_special_tokens=True)
        return [_describe_tokens(ids, encoder) for ids in encoded.split()]
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


def _describe_tokens(ids: np.ndarray, encoder: BulkEncoder) -> Tokens:
    special = np.ones(len(ids), dtype=bool)
    front, end = len(encoder.before), len(ids) - len(encoder.after)
    special[front:end] = False
    if not isinstance(encoder, BaseEncoder):
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
    special: torch.Tensor,
    layer: int,
    pool: Pool,
    exclude_special: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a batch, and pool it where it is.

    Args:
        input_ids, attention_mask, special: int64 [B, T]; `special` is 1 at added tokens and anything at padding.
        layer: counted from the end, of `check_layer`.

    Returns:
        float32 [B, D], or [B, T, D] with `"none"`; and bool [B, T], the tokens that count.

    Raises:
        `ValueError`: `"cls"` where the first token is a base, or a model that does not give that layer.
    """
    restore_attention(model)
    options = {"use_cache": False} if getattr(model.config, "use_cache", False) else {}
    if layer != -1:
        options["output_hidden_states"] = True
    training = model.training  # as Trainer leaves it: dropout would be in the vectors
    if training:
        model.eval()
    try:
        outputs = model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **options)
    finally:
        if training:
            model.train()
    if layer == -1 and not hasattr(outputs, "last_hidden_state"):
        raise ValueError(
            f"{type(model).__name__} has a head and gives no hidden states; take the model without it: "
            "model.base_model, or gengram.auto(path)"
        )
    if layer == -1:
        hidden = outputs.last_hidden_state
    elif (states := getattr(outputs, "hidden_states", None)) is not None:
        hidden = states[layer]
    else:
        raise ValueError(f"layer={layer}: {type(model).__name__} gives its last layer only, -1")
    hidden = hidden[:, : input_ids.shape[1]]  # BigBird pads to whole blocks.
    attended = attention_mask.bool()
    counted = attended & (special == 0) if exclude_special or drops_special(model) else attended
    if pool == "none":
        return hidden.float(), counted
    if pool == "cls":
        rows, first = torch.arange(len(hidden), device=hidden.device), attended.int().argmax(1)
        if not special[rows, first].all():
            raise ValueError("pool='cls': the tokenizer puts no special token in front; take mean or max")
        return hidden[rows, first].float(), counted
    if pool == "last":
        rows, last = (
            torch.arange(len(hidden), device=hidden.device),
            counted.shape[1] - 1 - counted.int().flip(1).argmax(1),
        )
        return hidden[rows, last].float(), counted
    if pool == "max":
        return hidden.masked_fill(~counted[..., None], -torch.inf).amax(1).float(), counted
    total = hidden.masked_fill(~counted[..., None], 0).sum(1, dtype=torch.float32)
    return total / counted.sum(1, keepdim=True), counted


def join_windows(parts: Sequence[tuple[np.ndarray, int]], pool: Pool) -> np.ndarray:
    """Return what the windows of a sequence are together.

    Args:
        parts: of each window the vectors, float32 [D] or [T, D], and the number of tokens that they are of.
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
    return weights @ np.stack(vectors) / weights.sum()


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
            ("too_long", "max_length"),
            ("layer", "pool", "exclude_special"),
            ("pool",),
        )
        if unknown := options.keys() - {name for group in groups for name in group}:
            raise ValueError(f"{', '.join(sorted(unknown))}: unknown; an option is {', '.join(groups[0] + groups[1])}")
        preprocess, forward, postprocess = (
            {name: options[name] for name in group if name in options} for group in groups
        )
        return preprocess, forward, postprocess

    def preprocess(  # type: ignore[override]
        self, sequence: str, too_long: str = "error", max_length: int | None = None
    ) -> Iterator[dict[str, Any]]:
        tokenizer: Any = self.tokenizer
        tokens = tokenize_sequences(tokenizer, [sequence])[0]
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
        is_last = model_inputs.pop("is_last")
        vectors, counted = read_vectors(
            self.model,
            model_inputs["input_ids"],
            model_inputs["attention_mask"],
            model_inputs["special_tokens_mask"],
            check_layer(self.model, layer),
            check_pool(self.model, pool),
            exclude_special,
        )
        return {"is_last": is_last, "vectors": vectors, "counted": counted}

    def postprocess(  # type: ignore[override]
        self, model_outputs: list[dict[str, Any]], pool: Pool = "mean"
    ) -> np.ndarray:
        parts = []
        for output in model_outputs:
            vectors, places = output["vectors"][0], output["counted"][0].bool()
            parts.append(((vectors[places] if pool == "none" else vectors).numpy(), int(places.sum())))
            if not np.isfinite(parts[-1][0]).all():
                raise NotFiniteError(0)
        return join_windows(parts, pool)


PIPELINE_REGISTRY.register_pipeline("dna-embedding", EmbeddingPipeline, pt_model=AutoModel)

__all__ = [
    "BATCH_TOKENS",
    "POOLS",
    "Embedded",
    "Embedder",
    "EmbeddingPipeline",
    "LongSequenceError",
    "NotFiniteError",
    "Pool",
    "embed_sequences",
]
