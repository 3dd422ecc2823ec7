"""From a Hub id or a folder to a tokenizer that reads DNA, also where transformers would read the files wrong."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from gengram.errors import InputError
from gengram.genome.alphabet import BASES
from gengram.loading.checkpoints import find_in_run
from gengram.loading.faults import tell_faults
from gengram.printable import make_printable
from gengram.progress import tell
from gengram.registration import FAMILIES, TOKENIZERS, list_configurations
from gengram.tokenization.published import PublishedFiles

# Arguments that choose and fetch a file.
_HUB = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
_TOKENIZER_FILES = ("tokenizer*.json", "vocab*", "*.model", "special_tokens_map.json")
# What is known by its vocabulary, whichever model it belongs to. Of the first three transformers asks for code, or for
# files that say more, so they are found before it is asked.
_BY_CONTENT = ("overlapping", "whole_kmer", "kmer", "bpe", "other_bpe")
# Every base, every pair of them, and more than one k-mer.
_PROBE = "ACGTTGCAAGGCCTTAGACTCATGTA"
# Some of these letters are unknown to every tokenizer.
_ODD = "NRX.-é"


def load_tokenizer(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Read a tokenizer: of `registration.TOKENIZERS` the one that the model's family has or that its vocabulary shows,
    else what `AutoTokenizer` reads.

    A published Nucleotide Transformer gets the tokenizer of `load_kmer_tokenizer`, NTv3 that of `build_ntv3_tokenizer`,
    a BPE like GENA-LM's that of `load_bpe_tokenizer`, DNABERT that of `build_overlapping_tokenizer`, GENERator that of
    `build_whole_kmer_tokenizer`; any other BPE of DNA is the one of its `tokenizer.json`, and reads lower case too.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        kwargs: of `AutoTokenizer.from_pretrained`; of a tokenizer that is made here those that choose the file, and
            attributes of the tokenizer (`model_max_length`, `padding_side` ...).

    Raises:
        `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`; a folder without a tokenizer, for which that
            returns one without a vocabulary.
        `TypeError`: an argument that is no attribute of the tokenizer that is made here.
    """
    pretrained_model_name_or_path = find_in_run(pretrained_model_name_or_path)
    hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
    attributes = {name: value for name, value in kwargs.items() if name not in _HUB}
    files = PublishedFiles(pretrained_model_name_or_path, hub, attributes)
    family = find_family(files.config)
    kind = None if family is None else FAMILIES[family].tokenizer
    folder = Path(pretrained_model_name_or_path)
    if kind != "ntv3" and folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise InputError(
            f"{folder}: there is no tokenizer in this folder (no tokenizer.json, no vocab.txt); save the one that the "
            "model was trained with into it"
        )
    for name in _BY_CONTENT if kind is None else (kind,):
        module: Any = import_module(TOKENIZERS[name])
        if module.recognizes_published(files):
            return _set_attributes(module.load_published(files), attributes)
    return files.tokenizer


def require_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """`load_tokenizer`, for a command.

    Raises:
        `InputError`: no tokenizer can be read, or only a slow one of transformers, in Python; a `model_max_length` that
            is no number; no ids among its inputs.
    """
    with tell_faults(f"{path}: no tokenizer can be read here"), _hold_standard_error():
        tokenizer = load_tokenizer(path)
    if not tokenizer.is_fast:
        raise InputError(
            f"{path}: transformers reads this tokenizer with {type(tokenizer).__name__}, in Python, which does not "
            "tell where its tokens lie and takes names of special tokens in a sequence for such tokens. Save one with "
            "a tokenizer.json into this folder; gengram.tokenization has functions that make them"
        )
    inputs: Any = tokenizer.model_input_names
    if not isinstance(inputs, list) or not inputs or inputs[0] != "input_ids":
        raise InputError(f"{path}: the tokenizer's model_input_names={inputs!r} does not begin with 'input_ids'")
    length: Any = tokenizer.model_max_length
    if not isinstance(length, int | float) or isinstance(length, bool) or not length >= 1:
        raise InputError(f"{path}: the tokenizer's model_max_length={length!r} is no number of tokens")
    tokenizer.model_max_length = int(min(length, VERY_LARGE_INTEGER))
    return tokenizer


def prepare_batches(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> PreTrainedTokenizerBase:
    """Let a tokenizer fill up and cut sequences at their end, in place: positions are counted from the first token, and
    what is told of cut sequences is told of their beginning.

    One without a padding token, as decoders may have it, pads with another special token: what is read at padding has
    no influence, since the attention mask leaves it out.

    Args:
        tokenizer: of `require_tokenizer`.
        path: where it is from, for the messages.

    Raises:
        `InputError`: it has no special token at all.
    """
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token_id is None:
        names = [getattr(tokenizer, f"{kind}_token") for kind in ("eos", "sep", "bos", "cls", "mask", "unk")]
        name = next((each for each in names if each is not None), None)
        if name is None:
            raise InputError(
                f"{path}: the tokenizer has no padding token, nor another special token, so sequences cannot share a "
                "batch; save the one that the model was trained with into this folder"
            )
        tokenizer.pad_token = name
        tell(
            f"{path}: the tokenizer has no padding token; {make_printable(name)} fills up batches, and is masked there"
        )
    return tokenizer


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    config: PreTrainedConfig | None = None,
    rows: int | None = None,
) -> None:
    """Refuse a tokenizer that does not read DNA, or that the model cannot have been trained with.

    Lower case that it does not read is told in a line: some are made so (`case="unknown"`).

    Args:
        tokenizer: of `require_tokenizer`.
        path: where it is from, for the messages.
        config: of the model, if there is one.
        rows: of the model's embedding; by default the configuration's `vocab_size`.

    Raises:
        `InputError`: ids beyond the model's embeddings; a special token of the model that is another token here; A, C,
            G and T that are unknown or one and the same token; a sequence that does not come back; an unknown letter
            that is an error to it.
    """
    with tell_faults(f"{path}: the tokenizer there stops at a letter that it does not know; give it an unk_token"):
        _read(tokenizer, _ODD)
    if config is not None:
        _compare_ids(tokenizer, path, config, config.vocab_size if rows is None else rows)
    unknown = tokenizer.unk_token_id
    ids = {base: _read(tokenizer, base * 12) for base in "ACGT"}
    known = all(found and unknown not in found for found in ids.values())
    if not known or len({tuple(found) for found in ids.values()}) < len(ids):
        raise InputError(
            f"{path}: the tokenizer there does not read DNA: A, C, G and T are unknown to it or the same token. Save "
            "the tokenizer that the model was trained with into this folder"
        )
    if (back := _read_back(tokenizer)) != _PROBE:
        raise InputError(
            f"{path}: the tokenizer there does not read DNA: {_PROBE} comes back as {back or 'nothing'!r}. Save the "
            "tokenizer that the model was trained with into this folder"
        )
    lower = _read(tokenizer, _PROBE.lower())
    if not lower or set(lower) <= {unknown}:
        tell(f"{path}: the tokenizer there reads lower-case (soft-masked) bases as unknown")


def _read(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text, read as the verbs read sequences."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def _read_back(tokenizer: PreTrainedTokenizerBase) -> str:
    """The bases of a short sequence that its tokens spell, in place: they may overlap, and leave out bases that
    do not fill a token."""
    encoded = tokenizer(_PROBE, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pieces = [re.sub("[^ACGT]", "", piece.upper()) for piece in tokenizer.convert_ids_to_tokens(encoded["input_ids"])]
    places = [slice(*place) for place in encoded["offset_mapping"]]
    left_out = len(_PROBE) - len({base for place in places for base in range(len(_PROBE))[place]})
    in_place = all(piece == _PROBE[place] for piece, place in zip(pieces, places))
    return _PROBE if in_place and left_out < max(map(len, pieces), default=0) else "".join(pieces)


def _compare_ids(tokenizer: PreTrainedTokenizerBase, path: str | Path, config: PreTrainedConfig, rows: int) -> None:
    # A token without a letter, as GROVER's file has one, stands in no text.
    names = {index: name for name, index in tokenizer.get_vocab().items() if name}
    # What is put around a sequence may have ids that no token has.
    written = tokenizer(_PROBE, split_special_tokens=True, verbose=False)["input_ids"]
    if (highest := max([*names, *written], default=-1)) >= rows:
        raise InputError(
            f"{path}: the tokenizer has the id {highest}, but the model has {rows} embeddings: they do not belong "
            "together"
        )
    # A special token that stands in no input, <unk> or a second <pad>, does no harm: many published files name one.
    read = {*written, tokenizer.mask_token_id}
    idle = set(tokenizer.all_special_ids) - read
    configs = list(_unwrap(config))
    for kind in ("pad", "mask", "cls"):
        for one in configs:
            index, own = getattr(one, f"{kind}_token_id", None), getattr(tokenizer, f"{kind}_token_id")
            if own is not None and index != own and index in names and index not in idle:
                raise InputError(
                    f"{path}: {kind}_token_id is {index} in the model's configuration, which to the tokenizer is "
                    f"{names[index]!r}; its own {kind} token has the id {own}. They do not belong together"
                )
    bases = tokenizer.convert_tokens_to_ids(list(BASES))
    for one in configs:
        if getattr(one, "memory_layers", None) and (own := list(one.base_token_ids[: len(BASES)])) != bases:
            raise InputError(
                f"{path}: the model's memory reads the ids {own} as A, C, G and T, whose tokens here have the ids "
                f"{bases}. They do not belong together"
            )


def _unwrap(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """The configuration of a model and of what it is wrapped around."""
    yield config
    if (inner := getattr(config, "backbone_config", None)) is not None:
        yield from _unwrap(inner)


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


__all__ = ["check_tokenizer", "find_family", "load_tokenizer", "prepare_batches", "require_tokenizer"]
