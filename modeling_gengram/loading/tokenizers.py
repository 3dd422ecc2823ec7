"""From a Hub id or a folder to a tokenizer that reads DNA, also where transformers would read the files wrong."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.loading.checkpoints import find_in_run
from gengram.loading.faults import tell_faults
from gengram.registration import FAMILIES, TOKENIZERS, list_configurations
from gengram.tokenization.published import PublishedFiles

# Arguments that choose and fetch a file.
_HUB = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
_TOKENIZER_FILES = ("tokenizer*.json", "vocab*", "*.model", "special_tokens_map.json")
# What is known by its vocabulary, whichever model it belongs to.
_BY_CONTENT = ("bpe", "kmer")


def load_tokenizer(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Read a tokenizer: of `registration.TOKENIZERS` the one that the model's family has or that its vocabulary shows,
    else what `AutoTokenizer` reads.

    A published Nucleotide Transformer gets the tokenizer of `load_kmer_tokenizer`, NTv3 that of `build_ntv3_tokenizer`,
    a BPE like GENA-LM's that of `load_bpe_tokenizer`.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        kwargs: of `AutoTokenizer.from_pretrained`; of a tokenizer that is made here those that choose the file, and
            attributes of the tokenizer (`model_max_length`, `padding_side` ...).

    Raises:
        `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`.
        `TypeError`: an argument that is no attribute of the tokenizer that is made here.
    """
    pretrained_model_name_or_path = find_in_run(pretrained_model_name_or_path)
    hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
    attributes = {name: value for name, value in kwargs.items() if name not in _HUB}
    files = PublishedFiles(pretrained_model_name_or_path, hub, attributes)
    family = find_family(files.config)
    kind = None if family is None else FAMILIES[family].tokenizer
    for name in _BY_CONTENT if kind is None else (kind,):
        module: Any = import_module(TOKENIZERS[name])
        if module.recognizes_published(files):
            return _set_attributes(module.load_published(files), attributes)
    return files.tokenizer


def require_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """`load_tokenizer`, for a command.

    Raises:
        `InputError`: no tokenizer can be read.
    """
    folder = Path(path)
    if folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise InputError(
            f"{path}: there is no tokenizer in this folder (no tokenizer.json, no vocab.txt); save the one that the "
            "model was trained with into it"
        )
    with tell_faults(f"{path}: no tokenizer can be read here"), _hold_standard_error():
        return load_tokenizer(path)


@contextmanager
def _hold_standard_error() -> Iterator[None]:
    """Keep what compiled code writes to standard error until it is known whether the error says it, too: a panic of
    the tokenizers library prints a page about itself."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(before, 2)
            os.close(before)
            if not failed:
                held.seek(0)
                os.write(2, held.read())


def find_family(fields: dict[str, Any]) -> str | None:
    """Return the model_type of the row of the table of models that a config.json belongs to; None if to none."""
    for configuration in list_configurations():
        if hasattr(configuration, "recognizes") and configuration.recognizes(fields):
            return configuration.model_type
    model_type = fields.get("model_type")
    return model_type if model_type in FAMILIES else None


def _set_attributes(tokenizer: PreTrainedTokenizerBase, attributes: dict[str, Any]) -> PreTrainedTokenizerBase:
    for name, value in attributes.items():
        if not hasattr(tokenizer, name):
            raise TypeError(
                f"{name}={value!r}: {type(tokenizer).__name__} has no such attribute; gengram.tokenization's functions "
                "take the choices of each kind of tokenizer"
            )
        setattr(tokenizer, name, value)
    return tokenizer


__all__ = ["find_family", "load_tokenizer", "require_tokenizer"]
