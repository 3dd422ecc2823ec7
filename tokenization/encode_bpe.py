"""BPE ids of many or long sequences at once: the tokenizer's ids at several times its speed."""

import itertools
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.bpe import GAP
from gengram.tokenization.encode import SEPARATOR, BulkEncoder, OtherKindError, cut_blocks, join, surround
from gengram.tokenization.parts import describe_splits, list_steps, read_letters_of

logger = logging.get_logger(__name__)

CHUNK = 1 << 20
"""Characters that a thread encodes at a time."""
OVERLAP = 1 << 13  # of the chunks of one long sequence; several times the longest token
_GAP = re.compile(r"N\{(\d+),\}")
_BLANKS = " \t\n\v\f\r"


class BpeEncoder(BulkEncoder):
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
            raise OtherKindError(f"{type(tokenizer).__name__} is no BPE tokenizer with a tokenizer.json")
        self.threads = threads
        added = description["added_tokens"]
        self._special = [token["content"] for token in added if token["special"]]
        # Tokens of their own wherever they are written.
        self._written = [token["content"] for token in added if not token["special"]]
        self._long_gap: re.Pattern | None = None
        self._strips = False
        super().__init__(tokenizer)
        reason = self._read(description)
        if any(token["normalized"] for token in added):
            reason = reason or "the tokenizer looks for names in rewritten texts"
        self._set_names(self._written, self._special)
        self.is_fast = reason is None
        if reason is not None:
            logger.warning_once(f"BPE encoding at the speed of tokenizers: {reason}")

    def _encode_blocks(self, sequences: Sequence[str], add: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        before, after = self._choose_around(add)
        if self._strips:
            sequences = [sequence.strip(_BLANKS) for sequence in sequences]
        blocks = cut_blocks(sequences, CHUNK)
        for is_long, group in itertools.groupby(blocks, lambda block: len(block) == 1 and len(block[0]) > CHUNK):
            if is_long:
                for (sequence,) in group:
                    ids = np.concatenate([before, *self._encode_long(sequence), after])
                    yield ids, np.array([len(ids)])
                continue
            lengths: deque[np.ndarray] = deque()
            for ids, stops in self._run(_join_texts(group, lengths)):
                # The last token of each sequence ends with it.
                ends = lengths.popleft().cumsum() - 1
                yield surround(ids, np.diff(np.searchsorted(stops, ends, side="right"), prepend=0), before, after)

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return join(self._encode_blocks(sequences, False), self.dtype)

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        """Yield the ids of a stripped text, from long run of N to long run of N: what lies between is words of its own.

        Chunks of such a word overlap; in a run of N longer than that they would have no token in common.
        """
        place = 0
        for gap in self._long_gap.finditer(sequence) if self._long_gap else ():
            yield self._encode_word(sequence[place : gap.start()])
            yield np.array([self._gap[1]], dtype=self.dtype)
            place = gap.end()
        yield self._encode_word(sequence[place:])

    def _encode_word(self, text: str) -> np.ndarray:
        """Ids of a text of any length: chunks that overlap, joined where both have the same token. Whether neighbours
        are compatible depends on them alone, so all neighbours are, and there is one such encoding only."""
        if len(text) <= CHUNK + OVERLAP:
            return self._encode_text(text)[0]
        kept: list[np.ndarray] = []
        starts = range(0, len(text), CHUNK)
        ids, stops = np.empty(0, dtype=self.dtype), np.empty(0, dtype=np.int64)
        for begin, (next_ids, next_stops) in zip(starts, self._run(text[at : at + CHUNK + OVERLAP] for at in starts)):
            if begin:
                # Both from where the next chunk begins, as far as the last one goes.
                here, there = np.searchsorted(stops, CHUNK, side="right"), np.searchsorted(next_stops, OVERLAP, "right")
                place = _find_same(ids[here:], stops[here:] - CHUNK, next_ids[:there], next_stops[:there])
                if place is None:  # no repeat of a border
                    return self._encode_text(text)[0]
                kept.append(ids[: here + place[0]])
                next_ids, next_stops = next_ids[place[1] :], next_stops[place[1] :]
            ids, stops = next_ids, next_stops
        return np.concatenate([*kept, ids])

    def _run(self, texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield what `_encode_text` gives for each text, in their order; a few at a time in threads."""
        if self.threads == 1:
            yield from map(self._encode_text, texts)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque = deque()
            for text in texts:
                waiting.append(pool.submit(self._encode_text, text))
                if len(waiting) > 2 * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _encode_text(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a text and where in it each token ends: [n], int64 [n]."""
        from gengram.tokenization.bpe_kernel import encode

        letters = np.frombuffer(text.encode("ascii").translate(self._letters), dtype=np.uint8)
        ids, stops = np.empty(len(letters), dtype=np.int32), np.empty(len(letters), dtype=np.int64)
        arguments = (letters, *self._tables, *self._gap, self._unknown, ids, stops)
        count = encode(*arguments)
        return ids[:count].astype(self.dtype), stops[:count].copy()

    def _read(self, description: dict) -> str | None:
        """Prepare the tables; a reason why that cannot be done."""
        try:
            from gengram.tokenization.bpe_kernel import BREAK, END, build_tables
        except ImportError:
            return "numba is not installed: pip install gengram[fast]"
        except Exception as error:  # of a broken numba, or one that finds no folder for what it compiles
            return f"numba cannot be used ({type(error).__name__}: {error}): gengram doctor says more"
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
        singles = [token for token in vocabulary if len(token) == 1 and (token not in named or token == GAP)]
        last_single = max((vocabulary[single] for single in singles), default=-1)
        if (np.diff(merged) <= 0).any() or last_single > merged.min(initial=2**31 - 1):
            return "the ids of the vocabulary are not in the order of its merges"
        reachable = set(merged.tolist()) | {vocabulary[single] for single in singles}
        gap_id, shortest, plain = self._find_gap(description, vocabulary)
        if not plain:
            return "the tokenizer splits or rewrites texts in a way that is not GENA-LM's"
        if gap_id >= 0:
            singles.remove(GAP)
        alphabet = {single: number for number, single in enumerate(sorted(singles))}
        if not alphabet or len(alphabet) > 200:
            return "the tokenizer's alphabet is not one of bases"
        tokens = {
            token: index for token, index in vocabulary.items() if index in reachable and set(token) <= alphabet.keys()
        }
        ids = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in merges]
        self._tables = build_tables(tokens, alphabet, np.array(ids, dtype=np.int32).reshape(-1, 3))
        self._unknown = np.int32(vocabulary[model["unk_token"]])
        self._gap = (np.uint8(alphabet.get(ANY_BASE, 253)), np.int32(gap_id), np.int64(shortest))
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        self._strips = normalizer is not None and normalizer.normalize_str(" A ") == "A"
        letters = bytearray([BREAK]) * 256
        for byte in range(128):
            character = chr(byte)
            read = self._read_letter(character)
            if read in alphabet:
                letters[byte] = alphabet[read]
        letters[ord(SEPARATOR)] = END
        self._letters = bytes(letters)
        if gap_id >= 0:
            # A text with the token of a gap written out goes to the tokenizer.
            self._written.append(GAP)
            if ANY_BASE in alphabet:
                any_letters = "".join(chr(byte) for byte in range(128) if letters[byte] == self._gap[0])
                self._long_gap = re.compile(f"[{any_letters}]{{{max(shortest, OVERLAP // 4)},}}")
            else:  # A single N is unknown then, a run of them a gap: the tokenizer tells them apart.
                self._written += [chr(byte) for byte in range(128) if self._read_letter(chr(byte)) == ANY_BASE]
        return None

    def _read_letter(self, character: str) -> str:
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        # Between two letters, so that it is not stripped.
        return normalizer.normalize_str(f"A{character}A")[1:-1] if normalizer is not None else character

    def _find_gap(self, description: dict, vocabulary: dict[str, int]) -> tuple[int, int, bool]:
        """The token of a run of N, the shortest such run, and whether nothing else is done to a text."""
        steps = list_steps(description["normalizer"], "normalizers")
        splits = list_steps(description["pre_tokenizer"], "pretokenizers")
        gap = _GAP.fullmatch(steps[-1].get("pattern", {}).get("Regex", "")) if steps else None
        if gap is None or steps[-1]["content"] != GAP:
            return -1, 0, not splits and all(_is_of_letters(step) for step in steps)
        plain = all(_is_of_letters(step) for step in steps[:-1])
        plain = plain and splits == describe_splits(Split(GAP, "isolated")) and GAP in vocabulary
        return vocabulary.get(GAP, -1), int(gap[1]), plain


def _is_of_letters(step: dict[str, Any]) -> bool:
    """Whether a normalizer leaves blanks out at the ends, or writes letters as another one."""
    return bool(read_letters_of(step)) or (step["type"] == "Strip" and step["strip_left"] and step["strip_right"])


def _find_same(
    ids: np.ndarray, stops: np.ndarray, next_ids: np.ndarray, next_stops: np.ndarray
) -> tuple[int, int] | None:
    """Positions behind the first token that both encodings have with the same start and end."""
    # The token after a shared border is shared too if it ends at the next shared border and is the same.
    for start, end in itertools.pairwise(np.intersect1d(stops, next_stops)):
        i, j = np.searchsorted(stops, end), np.searchsorted(next_stops, end)
        if i and j and stops[i - 1] == start == next_stops[j - 1] and ids[i] == next_ids[j]:
            return int(i) + 1, int(j) + 1
    return None


def _join_texts(blocks: Iterable[list[str]], lengths: deque[np.ndarray]) -> Iterator[str]:
    """Yield a text a block, and note how long each sequence in it is with its separator."""
    for block in blocks:
        lengths.append(np.fromiter(map(len, block), dtype=np.int64, count=len(block)) + 1)
        yield SEPARATOR.join(block)


__all__ = ["CHUNK", "BpeEncoder"]
