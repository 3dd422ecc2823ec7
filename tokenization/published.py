"""What lies beside a published checkpoint? Its small files, each read when it is asked for and only once."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TokenizersBackend
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
        """Return the content of a JSON file; empty if there is none."""
        file = self.find(name)
        return {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))

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

        A line is a token, or as in GENERator's file a token and its id.
        """
        file = self.find("vocab.txt")
        if file is None:
            return []
        # What is no text is the vocabulary of nothing; another file may be the one that counts.
        lines = [line.split() for line in Path(file).read_text(encoding="utf-8", errors="replace").splitlines()]
        if not all(len(line) == 2 for line in lines):
            return [token for line in lines for token in line]
        in_order = all(index == str(number) for number, (_, index) in enumerate(lines))
        return [token for token, _ in lines] if in_order else []

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as `tokenizer.json` has it, else as transformers reads the other files; without remote code.

        The classes that transformers has for a model type, or that `tokenizer_config.json` names, make a tokenizer of
        their own from the vocabulary of `tokenizer.json` and leave the rest of it unread: DNA would get other ids.

        Raises:
            `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`.
            `InputError`: code beside the checkpoint would read it, and nothing else does.
        """
        code = self.tokenizer_config.get("auto_map") or self.config.get("auto_map") or {}
        code = code.get("AutoTokenizer") if isinstance(code, dict) else code
        file = self.find("tokenizer.json")
        found: Any = None
        try:
            found = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False, **self.hub, **self.options)
        except (OSError, ValueError, TypeError) as error:
            if file is None and code:
                names = code if isinstance(code, list) else [code]
                name = next((each for each in names if isinstance(each, str)), "unnamed")
                raise InputError(
                    f"{self.path}: its tokenizer is code of its own ({make_printable(name)[:80]}), which is never run, "
                    "and its vocabulary is none that is known here. Save one with a tokenizer.json into a folder with "
                    "the model"
                ) from error
            if file is None:
                raise
        if file is None or (found is not None and _reads_like(found, file)):
            return found
        return TokenizersBackend.from_pretrained(self.path, **self.hub, **self.options)


def _reads_like(tokenizer: PreTrainedTokenizerBase, file: str) -> bool:
    """Whether a tokenizer gives DNA the ids that the one in a `tokenizer.json` gives it, and has added no token that a
    model has no row for."""
    written = Tokenizer.from_file(file)
    written.no_padding()
    written.no_truncation()
    if len(tokenizer) > written.get_vocab_size() and type(tokenizer) is not TokenizersBackend:
        return False
    return all(
        tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        == written.encode(text, add_special_tokens=False).ids
        for text in (_PROBE, _PROBE.lower(), f"{_PROBE}N{_PROBE}")
    )


__all__ = ["PublishedFiles"]
