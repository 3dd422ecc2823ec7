"""BPE ids of many or long sequences at once: the tokenizer's ids at several times its speed."""

import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from gengram.tokenization.encode import EncodedSequences

logger = logging.get_logger(__name__)

CHUNK = 1 << 20
"""Characters that a thread encodes at a time."""
OVERLAP = 1 << 13  # of the chunks of one long sequence; several times the longest token
_SEPARATOR = "\0"


class BpeEncoder:
    """Encode batches of sequences as a BPE tokenizer does, special tokens around each included.

    The exact result of the merges in time linear in the length, in threads. Where numba is not installed
    (`pip install gengram[fast]`), or the vocabulary's ids are not in the order of its merges, the tokenizer itself
    encodes; `is_fast` tells. So it does with texts that have characters outside ASCII or names of special tokens.

    Args:
        tokenizer: a BPE tokenizer with a `tokenizer.json`: GENA-LM's as it is or of `load_bpe_tokenizer`, one of
            `train_bpe_tokenizer`.
        threads: how many encode at the same time.

    Raises:
        `ValueError`: a tokenizer that is no BPE, or fewer than one thread.

    Example:
        >>> from gengram.tokenization import BpeEncoder, load_bpe_tokenizer
        >>> encoder = BpeEncoder(load_bpe_tokenizer("AIRI-Institute/gena-lm-bert-base-t2t"))  # doctest: +SKIP
        >>> encoder(["ACGTACGT", "TTTT"]).split()  # doctest: +SKIP
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, threads: int = 1):
        if threads < 1:
            raise ValueError(f"threads={threads}: give 1 or more")
        description = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
        if description.get("model", {}).get("type") != "BPE":
            raise ValueError(f"{type(tokenizer).__name__} is no BPE tokenizer with a tokenizer.json")
        self.tokenizer, self.threads = tokenizer, threads
        added = description["added_tokens"]
        self._special = [token["content"] for token in added if token["special"]]
        # Tokens of their own wherever they are written.
        self._written = [token["content"] for token in added if not token["special"]]
        reason = self._read(description)
        self.is_fast = reason is None
        if reason is not None:
            logger.warning(f"BPE encoding at the speed of tokenizers: {reason}")

    def __call__(
        self, sequences: Sequence[str], add_special_tokens: bool = True, split_special_tokens: bool | None = None
    ) -> EncodedSequences:
        """Encode sequences; nothing is cut off and nothing padded.

        Args:
            sequences: B texts.
            add_special_tokens: whether the tokenizer's `[CLS]` and `[SEP]`, or what it has, go around each.
            split_special_tokens: whether names of special tokens in a text are letters; by default as the tokenizer
                says. Give True for text of files.
        """
        split = self.tokenizer.split_special_tokens if split_special_tokens is None else split_special_tokens
        named = [*self._written, *([] if split else self._special)]
        encoded: list[np.ndarray] = [np.empty(0, dtype=np.int32)] * len(sequences)
        quick = [index for index, sequence in enumerate(sequences) if self.is_fast and _reads(sequence, named)]
        slow = sorted(set(range(len(sequences))) - set(quick))
        for index, ids in zip(quick, self._encode([sequences[index] for index in quick])):
            encoded[index] = ids
        for index in slow:
            ids = self.tokenizer(sequences[index], add_special_tokens=False, split_special_tokens=split, verbose=False)[
                "input_ids"
            ]
            encoded[index] = np.array(ids, dtype=np.int32)
        if add_special_tokens:
            before, after = self._around
            encoded = [part for ids in encoded for part in (before, ids, after)]
        counts = np.array([len(ids) for ids in encoded], dtype=np.int64)
        if add_special_tokens:
            counts = counts.reshape(-1, 3).sum(1)
        offsets = np.concatenate([[0], counts.cumsum()])
        return EncodedSequences(np.concatenate(encoded) if encoded else np.empty(0, dtype=np.int32), offsets)

    def _encode(self, sequences: list[str]) -> list[np.ndarray]:
        """Ids of plain sequences, without special tokens: each int32."""
        if not sequences:
            return []
        sequences = [sequence.strip() for sequence in sequences] if self._strips else sequences
        # Pieces of at most a chunk: many short sequences together, a long one in overlapping parts.
        pieces: list[tuple[str, list[int]]] = []
        batch: list[int] = []
        size = 0
        for index, sequence in enumerate(sequences):
            if len(sequence) > CHUNK:
                starts = range(0, len(sequence), CHUNK)
                pieces += [(sequence[start : start + CHUNK + OVERLAP], [index]) for start in starts]
                continue
            batch.append(index)
            size += len(sequence)
            if size >= CHUNK:
                pieces.append((_SEPARATOR.join(sequences[i] for i in batch), batch))
                batch, size = [], 0
        if batch:
            pieces.append((_SEPARATOR.join(sequences[i] for i in batch), batch))
        if self.threads == 1 or len(pieces) == 1:
            results = [self._encode_text(text) for text, _ in pieces]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                results = list(pool.map(self._encode_text, [text for text, _ in pieces]))
        encoded: list[np.ndarray] = [np.empty(0, dtype=np.int32)] * len(sequences)
        parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for (_, indices), (ids, stops) in zip(pieces, results):
            if len(sequences[indices[0]]) > CHUNK:
                parts.setdefault(indices[0], []).append((ids, stops))
                continue
            ends = np.cumsum([len(sequences[i]) + 1 for i in indices])[:-1]
            for i, one in zip(indices, np.split(ids, np.searchsorted(stops, ends - 1, side="right"))):
                encoded[i] = one
        for i, chunks in parts.items():
            encoded[i] = self._splice(sequences[i], chunks)
        return encoded

    def _encode_text(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a text and where in it each token ends: int32 [n], int64 [n]."""
        from gengram.tokenization.bpe_kernel import encode

        letters = np.frombuffer(text.encode("ascii").translate(self._letters), dtype=np.uint8)
        ids, stops = np.empty(len(letters), dtype=np.int32), np.empty(len(letters), dtype=np.int64)
        arguments = (letters, *self._tables, *self._gap, self._unknown, ids, stops)
        count = encode(*arguments)
        return ids[:count].copy(), stops[:count].copy()

    def _splice(self, sequence: str, chunks: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Join the encodings of overlapping parts where both have the same token: whether neighbours are compatible
        depends on them alone, so all neighbours are, and there is one such encoding only."""
        kept: list[np.ndarray] = []
        ids, stops = chunks[0]
        offset = 0
        for number, (next_ids, next_stops) in enumerate(chunks[1:], start=1):
            begin = number * CHUNK
            here = np.searchsorted(stops + offset, begin, side="right")
            shared = np.intersect1d((stops + offset)[here:], next_stops + begin)
            # The token after a shared border is shared too if it ends at the next shared border and is the same.
            place = self._find_same(ids, stops + offset, next_ids, next_stops + begin, shared)
            if place is None:  # an N run over the whole overlap, or no repeat of a border
                return self._encode_text(sequence)[0]
            kept.append(ids[: place[0]])
            ids, stops, offset = next_ids[place[1] :], next_stops[place[1] :], begin
        return np.concatenate([*kept, ids])

    @staticmethod
    def _find_same(ids, stops, next_ids, next_stops, shared) -> tuple[int, int] | None:
        """Positions behind the first token that both encodings have with the same start and end."""
        for start, end in itertools.pairwise(shared):
            i, j = np.searchsorted(stops, end), np.searchsorted(next_stops, end)
            same_start = stops[i - 1] == start == next_stops[j - 1]
            if i and j and same_start and ids[i] == next_ids[j]:
                return int(i) + 1, int(j) + 1
        return None

    def _read(self, description: dict) -> str | None:
        """Prepare the tables; a reason why that cannot be done."""
        self._around = self._find_special()
        try:
            from gengram.tokenization.bpe_kernel import BREAK, END, build_tables
        except ImportError:
            return "numba is not installed: pip install gengram[fast]"
        model = description["model"]
        vocabulary: dict[str, int] = model["vocab"]
        if any(model.get(key) for key in ("dropout", "fuse_unk", "byte_fallback", "ignore_merges")) or any(
            model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix")
        ):
            return "the tokenizer uses dropout, prefixes, suffixes or fused unknowns"
        if model.get("unk_token") not in vocabulary:
            return "the tokenizer has no token for unknown characters"
        merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
        merged = np.array([vocabulary[left + right] for left, right in merges], dtype=np.int32)
        named = {*self._special, *self._written, model["unk_token"]}
        singles = [token for token in vocabulary if len(token) == 1 and (token not in named or token == "-")]
        last_single = max((vocabulary[single] for single in singles), default=-1)
        if (np.diff(merged) <= 0).any() or last_single > merged.min(initial=2**31 - 1):
            return "the ids of the vocabulary are not in the order of its merges"
        reachable = set(merged.tolist()) | {vocabulary[single] for single in singles}
        gap_id, shortest, plain = self._find_gap(description, vocabulary)
        if not plain:
            return "the tokenizer splits or rewrites texts in a way that is not GENA-LM's"
        if gap_id >= 0:
            singles.remove("-")
        alphabet = {single: number for number, single in enumerate(sorted(singles))}
        if not alphabet or len(alphabet) > 200:
            return "the tokenizer's alphabet is not one of bases"
        tokens = {
            token: index for token, index in vocabulary.items() if index in reachable and set(token) <= alphabet.keys()
        }
        ids = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in merges]
        self._tables = build_tables(tokens, alphabet, np.array(ids, dtype=np.int32).reshape(-1, 3))
        self._unknown = np.int32(vocabulary[model["unk_token"]])
        self._gap = (np.uint8(alphabet.get("N", 253)), np.int32(gap_id), np.int64(shortest))
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        self._strips = normalizer is not None and normalizer.normalize_str(" A ") == "A"
        letters = bytearray([BREAK]) * 256
        for byte in range(128):
            character = chr(byte)
            # Between two letters, so that it is not stripped.
            read = normalizer.normalize_str(f"A{character}A")[1:-1] if normalizer is not None else character
            if read in alphabet:
                letters[byte] = alphabet[read]
        letters[ord(_SEPARATOR)] = END
        self._letters = bytes(letters)
        # A text with the token of a gap written out goes to the tokenizer.
        if gap_id >= 0:
            self._written.append("-")
        return None

    def _find_special(self) -> tuple[np.ndarray, np.ndarray]:
        """What the tokenizer puts before and after a sequence."""
        plain = self.tokenizer("A", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("A")["input_ids"]
        start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        parts = whole[:start], whole[start + len(plain) :]
        return tuple(np.array(part, dtype=np.int32) for part in parts)  # type: ignore[return-value]

    def _find_gap(self, description: dict, vocabulary: dict[str, int]) -> tuple[int, int, bool]:
        """The token of a run of N, the shortest such run, and whether nothing else is done to a text."""
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        splits = description.get("pre_tokenizer") is not None
        runs = ["A" + "N" * n + "A" for n in range(1, 33)]
        if normalizer is not None:
            runs = [normalizer.normalize_str(run) for run in runs]
        shortest = next((n for n, run in enumerate(runs, start=1) if run == "A-A"), 0)
        if not shortest:
            return -1, 0, not splits
        return vocabulary.get("-", -1), shortest, splits and "-" in vocabulary


def _reads(sequence: str, named: list[str]) -> bool:
    """Whether a text holds only what is read letter by letter: none of the names that the tokenizer makes one token."""
    return sequence.isascii() and _SEPARATOR not in sequence and not any(name in sequence for name in named)


__all__ = ["CHUNK", "BpeEncoder"]
