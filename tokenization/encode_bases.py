"""Ids of tokenizers that have one token a character: a table of 256, at the speed of memory."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.tokenization.encode import BLOCK, BulkEncoder, OtherKindError
from gengram.tokenization.parts import TokenizerParts, read_parts


class BaseEncoder(BulkEncoder):
    """Encode batches of sequences as a tokenizer of single bases does.

    Args:
        tokenizer: of `build_nucleotide_tokenizer` or `build_ntv3_tokenizer`, or any BPE without merges that leaves the
            characters as they are, or reads letters as other letters.

    Attributes:
        table: [256], the id of each byte.

    Raises:
        `ValueError`: another tokenizer.

    Example:
        >>> from gengram.tokenization import build_nucleotide_tokenizer
        >>> encoder = BaseEncoder(build_nucleotide_tokenizer(template="cls_sep"))
        >>> encoded = encoder(["ACGTN", "acX"])
        >>> [ids.tolist() for ids in encoded.split()], str(encoded.ids.dtype)
        ([[2, 8, 5, 6, 7, 9, 3], [2, 8, 5, 1, 3]], 'uint8')
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        parts = read_parts(tokenizer)
        if parts is None or not _is_of_characters(parts):
            raise OtherKindError("the tokenizer does not give each character a token: build_nucleotide_tokenizer does")
        super().__init__(tokenizer, parts.written, parts.special)
        unknown = parts.vocabulary[parts.model["unk_token"]]
        table = np.full(256, unknown, dtype=self.dtype)
        table[:128] = [parts.vocabulary.get(letter, unknown) for letter in parts.read_as]
        self.table = table

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        counts = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        return self._read("".join(sequences)), counts

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        ids = np.empty(len(sequence), dtype=self.dtype)
        for start in range(0, len(sequence), BLOCK):
            ids[start : start + BLOCK] = self._read(sequence[start : start + BLOCK])
        yield ids

    def _read(self, text: str) -> np.ndarray:
        data = text.encode("ascii")
        if self.dtype == np.uint8:
            return np.frombuffer(data.translate(self.table.tobytes()), dtype=np.uint8)
        return self.table[np.frombuffer(data, dtype=np.uint8)]


def _is_of_characters(parts: TokenizerParts) -> bool:
    """Whether a model splits into characters, each of them known or unknown by itself."""
    model = parts.model
    changes = ("merges", "dropout", "fuse_unk", "byte_fallback", "ignore_merges")
    affixes = ("continuing_subword_prefix", "end_of_word_suffix")
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in (*changes, *affixes))
        and model.get("unk_token") in parts.vocabulary
        and not parts.steps
        and not parts.splits
    )


__all__ = ["BaseEncoder"]
