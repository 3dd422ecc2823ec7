"""Of which steps does a tokenizer consist? Read from its `tokenizer.json`, wherever that was made."""

import json
import re
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerBase

_LETTERS = re.compile(r"\[([A-Za-z]+)\]")


class TokenizerParts(NamedTuple):
    """Parts of a tokenizer.

    Attributes:
        model: as in the file, with `type`, `vocab` and what else that type has.
        vocabulary: token to id, those of the model alone.
        read_as: 128 characters, what each of ASCII is read as by the first steps, which write letters as letters.
        steps: further normalizers, in their order.
        splits: pre-tokenizers, in their order.
        written, special: names that are a token wherever they are written; `special` unless special tokens are split.
    """

    model: dict[str, Any]
    vocabulary: dict[str, int]
    read_as: list[str]
    steps: list[dict[str, Any]]
    splits: list[dict[str, Any]]
    written: list[str]
    special: list[str]


def read_parts(tokenizer: PreTrainedTokenizerBase) -> TokenizerParts | None:
    """Return the parts of a tokenizer; None if it has no `tokenizer.json`, or looks for names in rewritten text."""
    if not tokenizer.is_fast:
        return None
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    added = description["added_tokens"]
    vocabulary = description["model"].get("vocab")
    if any(token["normalized"] for token in added) or not isinstance(vocabulary, dict):
        return None
    steps = list_steps(description["normalizer"], "normalizers")
    read_as = [chr(byte) for byte in range(128)]
    while steps and (letters := read_letters_of(steps[0])):
        read_as = [steps[0]["content"] if each in letters else each for each in read_as]
        steps = steps[1:]
    return TokenizerParts(
        description["model"],
        vocabulary,
        read_as,
        steps,
        list_steps(description["pre_tokenizer"], "pretokenizers"),
        [token["content"] for token in added if not token["special"]],
        [token["content"] for token in added if token["special"]],
    )


def describe_steps(steps: list[Normalizer]) -> list[dict[str, Any]]:
    """Return what `steps` of the parts would be, of these normalizers."""
    backend = Tokenizer(WordLevel({}))
    backend.normalizer = NormalizerSequence(steps)
    return list_steps(json.loads(backend.to_str())["normalizer"], "normalizers")


def describe_splits(pre_tokenizer: PreTokenizer) -> list[dict[str, Any]]:
    """Return what `splits` of the parts would be, of this pre-tokenizer."""
    backend = Tokenizer(WordLevel({}))
    backend.pre_tokenizer = pre_tokenizer
    return list_steps(json.loads(backend.to_str())["pre_tokenizer"], "pretokenizers")


def list_steps(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """Return the steps of a part of a `tokenizer.json`, those `inside` of sequences of steps one by one."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return [each for one in step[inside] for each in list_steps(one, inside)]


def read_letters_of(step: dict[str, Any]) -> str:
    """Return the letters that a normalizer writes as another one; empty where it does something else."""
    if step["type"] != "Replace" or len(step["content"]) != 1 or not step["content"].isascii():
        return ""
    found = _LETTERS.fullmatch(step["pattern"].get("Regex", ""))
    return found[1] if found else ""


__all__ = ["TokenizerParts", "describe_splits", "describe_steps", "list_steps", "read_letters_of", "read_parts"]
