"""What lies beside a published checkpoint? Its small files, each read when it is asked for and only once."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file


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
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as transformers reads it, without remote code.

        Raises:
            `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`.
        """
        return AutoTokenizer.from_pretrained(self.path, trust_remote_code=False, **self.hub, **self.options)


__all__ = ["PublishedFiles"]
