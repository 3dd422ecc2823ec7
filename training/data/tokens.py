"""Which tokens has each row? Ids of whole tables in narrow columns, cut to a limit."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.encode import expand, surround
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.training.problems import IGNORED

TOKENS_COLUMN = "_tokens"
"""How many tokens a row has before it is cut, special tokens included."""


class LongTokenError(Exception):
    """A token covers several labelled bases."""


class RowEncoder:
    """Tables of rows into tables of their tokens: what `Dataset.map` calls, in other processes too.

    The columns are `input_ids` in the narrowest unsigned integers that hold the vocabulary, `TOKENS_COLUMN`,
    `token_type_ids` (int8) where the tokenizer gives them, and `labels` int64, one a token, where there are labels of
    bases. There is no attention mask: a collator makes it when it fills up a batch.

    Args:
        tokenizer: of the model.
        limit: longest input in tokens, special ones included.
        too_long: what happens to longer ones: `error` (here nothing), `truncate` or `center`.
        by_base: turn `label`, int64 one a base, into `labels`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str, by_base: bool):
        self.tokenizer, self.limit, self.too_long, self.by_base = tokenizer, limit, too_long, by_base
        self.encoder = find_encoder(tokenizer)
        self.types = self._find_types() if "token_type_ids" in tokenizer.model_input_names else None

    def __call__(self, table: pa.Table) -> pa.Table:
        """
        Raises:
            `InputError`: special tokens alone fill the limit of a row that must be cut.
            `LongTokenError`: labels of bases for tokens of several bases.
        """
        before, after = self.encoder.before, self.encoder.after
        sequences = table["sequence"].to_pylist()
        # Split special tokens: a text like "[MASK]" in a sequence is six unknown characters, not a mask.
        ids, offsets = self.encoder(sequences, add_special_tokens=False, split_special_tokens=True)
        counts = np.diff(offsets)
        labels = self._label_tokens(sequences, table["label"], counts) if self.by_base else None
        lengths = counts + len(before) + len(after)
        if self.too_long != "error" and (lengths > self.limit).any():
            room = self.limit - len(before) - len(after)
            if room < 1:
                raise InputError(
                    f"max_length: a limit of {self.limit} tokens leaves no room for bases beside "
                    f"{len(before) + len(after)} special tokens"
                )
            spare = np.maximum(counts - room, 0)
            counts = counts - spare
            if self.too_long == "center":
                start = spare // 2
            else:
                start = spare if self.tokenizer.truncation_side == "left" else 0 * spare
            kept = expand(offsets[:-1] + start, counts, 1)
            ids, labels = ids[kept], None if labels is None else labels[kept]
        whole, sizes = surround(ids, counts, before, after)
        offsets = np.concatenate([[0], sizes.cumsum()])
        columns = {"input_ids": _make_lists(whole, offsets), TOKENS_COLUMN: pa.array(lengths)}
        if self.types is not None:
            columns["token_type_ids"] = _make_lists(self._repeat_types(counts), offsets)
        if labels is not None:
            edges = np.full(len(before), IGNORED), np.full(len(after), IGNORED)
            columns["labels"] = _make_lists(surround(labels, counts, *edges)[0], offsets)
        return pa.table(columns)

    def _repeat_types(self, counts: np.ndarray) -> np.ndarray:
        assert self.types is not None
        front, end = len(self.encoder.before), len(self.types) - len(self.encoder.after)
        body = np.full(counts.sum(), self.types[front], dtype=np.int8)
        return surround(body, counts, self.types[:front], self.types[end:])[0]

    def _find_types(self) -> np.ndarray | None:
        """The types of a sequence's tokens, those of its own tokens equal; None where the tokenizer gives none."""
        given = self.tokenizer("ACGT" * 8, split_special_tokens=True, verbose=False).get("token_type_ids")
        return None if given is None else np.array(given, dtype=np.int8)

    def _label_tokens(self, sequences: Sequence[str], labels: pa.ChunkedArray, counts: np.ndarray) -> np.ndarray:
        """The label of each token's base, int64 [N], `IGNORED` for a token without base."""
        flat = pc.list_flatten(labels).to_numpy()
        if isinstance(self.encoder, BaseEncoder):  # A token is a base, and each base has a label.
            return flat
        encoding = self.tokenizer(
            list(sequences),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        ends = pc.list_value_length(labels).to_numpy().cumsum()
        rows = zip(encoding["offset_mapping"], np.split(flat, ends[:-1]))
        found = [_label_row(offsets, known) for offsets, known in rows]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _label_row(offsets: list[tuple[int, int]], labels: np.ndarray) -> np.ndarray:
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    if (ends - starts > 1).any():
        longest = int((ends - starts).argmax())
        raise LongTokenError(f"one of {ends[longest] - starts[longest]} bases at position {starts[longest]}")
    ids = labels[np.minimum(starts, len(labels) - 1)]
    return np.where(ends > starts, ids, IGNORED)


def _make_lists(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


__all__ = ["TOKENS_COLUMN", "LongTokenError", "RowEncoder"]
