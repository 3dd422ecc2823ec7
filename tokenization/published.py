"""What lies beside a published checkpoint? Its small files, each read when it is asked for and only once."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TokenizersBackend
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import cached_file

from gengram.errors import InputError
from gengram.printable import make_printable

_PROBE = "ACGTTGCAAGGCCTTAGACTCATGTATTTAACCCGGGATATCGCTAGC"


class PublishedFiles:
    """The files of a folder or a Hub repository that say what its tokenizer is.

    Args:
        path: folder or Hub id.
        hub: arguments that choose and fetch a file (`revision`, `token`, `cache_dir` ...).
        options: arguments of `AutoTokenizer.from_pretrained`.
    """

    def __init__(self, path: str | Path, hub: dict[str, Any], options: dict[str, Any] | None = None):
        self.path, self.hub, self.options = path, hub, options or {}

    def find(self, name: str) -> str | None:
        """Return where a file is on this machine, after fetching it if need be; None if there is none."""
        return cached_file(self.path, name, _raise_exceptions_for_missing_entries=False, **self.hub)

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file; empty if there is none.

        Raises:
            `InputError`: it cannot be read, or holds something else than an object.
        """
        file = self.find(name)
        if file is None:
            return {}
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file}: a JSON object is expected here")
        return content

    @cached_property
    def config(self) -> dict[str, Any]:
        """Of the model, `config.json`."""
        return self.read("config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """`tokenizer_config.json`."""
        return self.read("tokenizer_config.json")

    @cached_property
    def vocabulary(self) -> list[str]:
        """The tokens of `vocab.txt` in the order of their ids; empty if there is none, or if it is in disorder.

        A line is a token, or as in GENERator's file a token and its id; these may be in any order.
        """
        file = self.find("vocab.txt")
        if file is None:
            return []
        # What is no text is the vocabulary of nothing; another file may be the one that counts.
        lines = [line.split() for line in Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        if not all(len(line) == 2 for line in lines):
            return [token for line in lines for token in line]
        tokens = {index: token for token, index in lines}
        ids = [str(number) for number in range(len(lines))]
        return [tokens[index] for index in ids] if tokens.keys() == set(ids) else []

    @cached_property
    def written_vocabulary(self) -> list[str]:
        """The tokens of a `tokenizer.json` that makes no token of DNA, in the order of their ids; empty if it makes
        some. BERT's splits at blanks, so it takes a sequence for one unknown word: another file's rules are lost."""
        if self.written is None or len(self.written.encode(_PROBE, add_special_tokens=False).ids) > 1:
            return []
        ids = self.written.get_vocab()
        tokens = sorted(ids, key=ids.__getitem__)
        return tokens if [ids[token] for token in tokens] == list(range(len(tokens))) else []

    @cached_property
    def written(self) -> Tokenizer | None:
        """The tokenizer of `tokenizer.json` as the tokenizers library reads it, without padding and truncation; None if
        there is none.

        Raises:
            `InputError`: it holds something else.
        """
        file = self.find("tokenizer.json")
        if file is None:
            return None
        try:
            written = Tokenizer.from_file(file)
        except Exception as error:  # The library raises no other class.
            raise InputError(f"{file}: the tokenizers library cannot read it: {error}") from error
        written.no_padding()
        written.no_truncation()
        return written

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as `tokenizer.json` has it, else as transformers reads the other files; without remote code.

        The classes that transformers has for a model type, or that `tokenizer_config.json` names, make a tokenizer of
        their own from the vocabulary of `tokenizer.json` and leave the rest of it unread: DNA would get other ids.

        Raises:
            `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`.
            `InputError`: code beside the checkpoint would read it, and nothing else does; a `tokenizer.json` that the
                tokenizers library cannot read.
        """
        code = self.tokenizer_config.get("auto_map") or self.config.get("auto_map") or {}
        code = code.get("AutoTokenizer") if isinstance(code, dict) else code
        written = self.written
        found: Any = None
        try:
            found = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False, **self.hub, **self.options)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            remedy = "is none that is known here. Save one with a tokenizer.json into a folder with the model"
            if written is None and code:
                name = code if isinstance(code, str) else next((each for each in code if each), "")
                raise InputError(
                    f"{self.path}: its tokenizer is code of its own ({make_printable(name)[:80]}), which is never run, "
                    f"and its vocabulary {remedy}"
                ) from error
            if written is None and self.find("vocab.txt") is not None:
                raise InputError(f"{self.path}: the vocabulary in vocab.txt {remedy}") from error
            if written is None:
                raise
        if written is None or (found is not None and _reads_like(found, written)):
            return found
        return TokenizersBackend.from_pretrained(self.path, **self.hub, **self.options)


def find_length(files: PublishedFiles) -> int:
    """Return the longest input in tokens that `tokenizer_config.json` names, by its new or its old key; whoever asks
    for a tokenizer judges the number."""
    for name in ("model_max_length", "max_len"):
        if (length := files.tokenizer_config.get(name)) is not None:
            return length
    return VERY_LARGE_INTEGER


def _reads_like(tokenizer: PreTrainedTokenizerBase, written: Tokenizer) -> bool:
    """Whether a tokenizer gives DNA the ids that the one in a `tokenizer.json` gives it, and has added no token that a
    model has no row for."""
    if len(tokenizer) > written.get_vocab_size() and type(tokenizer) is not TokenizersBackend:
        return False
    return all(
        tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        == written.encode(text, add_special_tokens=False).ids
        for text in (_PROBE, _PROBE.lower(), f"{_PROBE}N{_PROBE}")
    )


__all__ = ["PublishedFiles", "find_length"]
