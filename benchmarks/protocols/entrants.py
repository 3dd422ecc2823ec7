"""Which model is judged? Found, identified by the content of its files, and loaded when it is needed."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.gena.published import speed_up
from gengram.loading.adapters import is_adapter, load_adapter
from gengram.loading.checkpoints import ADAPTER_CONFIG, CONFIG, find_model, is_hub_id
from gengram.loading.configurations import measure_capacity, require_config
from gengram.loading.faults import tell_faults
from gengram.loading.folders import read_object
from gengram.loading.labels import LABELS_FILE
from gengram.loading.models import choose_device, count_embeddings, require_model
from gengram.loading.tokenizers import check_tokenizer, prepare_batches, require_tokenizer
from gengram.loading.weights import find_weights
from gengram.phases import phase

# What is read of a model: changed, it is another model.
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_SAFE = ("model*.safetensors", "model.safetensors.index.json", _ADAPTERS[0])
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json", _ADAPTERS[1])
_CONFIGURATION = (CONFIG, ADAPTER_CONFIG, LABELS_FILE)
_TOKENIZER = (
    "tokenizer*.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
    "added_tokens.json",
)
# What a configuration says of its own history, and no model depends on.
_IDLE = ("_name_or_path", "transformers_version")


@dataclass(frozen=True)
class Entrant:
    """A model that takes part.

    Attributes:
        name: in a table.
        source: folder, run or Hub id, as it was given.
        revision: of a Hub id the commit; else None.
        fingerprint: SHA-256 over the weights, the configuration and the tokenizer, whatever they are called.
        random: the seed that the weights are drawn from; None: those of the files.
        folder: with the files: of a run, its best model; of a Hub id, the snapshot in the cache.
        weights: name and SHA-256 of each file with weights, `model.safetensors 3f...`; none of drawn ones.
        base: of an adapter, the folder of what it adapts; else None.
        device: what it is loaded to; None: the accelerator, if there is one.
    """

    name: str
    source: str
    revision: str | None
    fingerprint: str
    random: int | None
    folder: str
    weights: tuple[str, ...] = ()
    base: str | None = None
    device: str | None = None

    @property
    def tokenizer(self) -> str:
        """The folder with the tokenizer: of an adapter without one, its base's."""
        if self.base is not None and not any(_list(Path(self.folder), _TOKENIZER)):
            return self.base
        return self.folder

    def load(self, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return the base model, in evaluation mode on its device, and the tokenizer.

        Of a fine-tuned model it is the encoder, without the head; of an adapter, its base with the adapter merged in.

        Raises:
            `InputError`: files that cannot be read, weights that are missing, a tokenizer that does not fit.
        """
        tokenizer = self.load_tokenizer()
        with phase("Loading the model"):
            model = self._load_model(dtype)
        check_tokenizer(tokenizer, self.tokenizer, model.config, count_embeddings(model))
        return model.eval().to(choose_device(self.device)), tokenizer

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer.

        Raises:
            `InputError`: it cannot be read.
        """
        tokenizer = prepare_batches(require_tokenizer(self.tokenizer), self.tokenizer)
        algorithm: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        if hasattr(algorithm, "_resize_cache"):
            algorithm._resize_cache(0)  # it keeps the tokens of 10,000 words, which are whole sequences here
        return tokenizer

    def load_config(self) -> Any:
        """Return the configuration of the model, of an adapter that of its base."""
        return require_config(self.base or self.folder)

    def measure_capacity(self) -> int:
        """Return the longest row in tokens that the model takes; no weights are read."""
        return measure_capacity(self.load_config(), self.load_tokenizer())

    def _load_model(self, dtype: torch.dtype) -> Any:
        if self.random is not None:
            return draw_model(self.load_config(), self.random, dtype)
        if self.base is None:
            return require_model(self.folder, dtype=dtype)
        adapted = load_adapter(self.folder, self.base)
        with tell_faults(f"{self.folder}: the adapter cannot be merged into its base"):
            return adapted.merge_and_unload().base_model.to(dtype)


def open_entrant(
    source: str | Path,
    random_weights: int | None = None,
    *,
    name: str | None = None,
    revision: str | None = None,
    device: str | None = None,
) -> Entrant:
    """Find a model and identify it; nothing is loaded.

    Args:
        source: a folder with a model or an adapter, a run of `gengram finetune`, or a Hub id.
        random_weights: judge the same architecture and tokenizer with weights drawn from this seed, as a new model has
            them; the weights of the files are not even opened.
        name: in a table; by default the name of the folder or the Hub id.
        revision: of a Hub id: branch, tag or commit.
        device: what it is loaded to, e.g. `cpu`, `cuda:1`; by default an accelerator if there is one.

    Raises:
        `InputError`: no such model, files that cannot be read, a revision of a folder.
    """
    found = find_model(source)
    commit = None
    if is_hub_id(found):
        folder, commit = _fetch(found, revision, random_weights is None)
    elif revision is not None:
        raise InputError(f"{source}: a folder has no revision ({revision}); leave it out")
    else:
        folder = Path(found)
    base = _find_base(folder)
    parts: dict[str, Any] = {"tokenizer": dict(_hash(folder, _TOKENIZER) or _hash(base or folder, _TOKENIZER))}
    if random_weights is None:
        parts["configuration"] = dict(_hash(folder, _CONFIGURATION))
        parts["weights"] = _hash_weights(folder)
        if base is not None:
            files = dict(_hash(base, (*_CONFIGURATION, *_TOKENIZER)))
            parts["base"] = {"files": files, "weights": _hash_weights(base)}
    else:
        fields = read_object((base or folder) / CONFIG)
        parts["configuration"] = {key: value for key, value in fields.items() if key not in _IDLE}
        # Which numbers a seed gives is a matter of these.
        parts["random"] = [random_weights, *(version(package) for package in ("torch", "transformers"))]
    default = str(source) if commit is not None else Path(source).expanduser().resolve().name
    given = default if name is None else name
    return Entrant(
        name=given if random_weights is None else f"{given} (random weights, seed {random_weights})",
        source=str(source),
        revision=commit,
        fingerprint=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
        random=random_weights,
        folder=str(folder),
        weights=tuple(parts.get("weights", ())),
        base=None if base is None else str(base),
        device=device,
    )


def draw_model(config: Any, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """Return a base model whose weights are drawn as a new model's are; other random numbers go on as before.

    Raises:
        `InputError`: no base model can be made of the configuration.
    """
    with torch.random.fork_rng(devices=[]), tell_faults("no base model can be made of this configuration"):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config, dtype=torch.float32)
    drawn: Any = speed_up(model)
    return drawn.to(dtype)


def _fetch(name: str, revision: str | None, needs_weights: bool) -> tuple[Path, str]:
    """Return the snapshot of a repository, and its commit."""
    patterns = [*_CONFIGURATION, *_TOKENIZER, *(_SAFE if needs_weights else ())]
    with tell_faults(f"{name}: its files cannot be had from the Hub"):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        if needs_weights and not any(_list(folder, _SAFE)):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*patterns, *_PICKLED]))
    return folder, folder.name


def _find_base(folder: Path) -> Path | None:
    """The folder of what an adapter adapts; None of a whole model."""
    if not is_adapter(folder):
        return None
    named = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise InputError(f"{folder / ADAPTER_CONFIG}: it does not say what it adapts (base_model_name_or_path)")
    try:
        found = find_model(named)
    except InputError as error:
        raise InputError(f"{folder}: the adapter's base {named!r} cannot be found: {error}") from error
    return _fetch(found, None, True)[0] if is_hub_id(found) else Path(found)


def _hash_weights(folder: Path) -> list[str]:
    """Name and SHA-256 of each file of the weights that are loaded."""
    adapter = [folder / name for name in _ADAPTERS if (folder / name).is_file()][:1]
    files = adapter if is_adapter(folder) else find_weights(folder)
    if not files:
        raise InputError(f"{folder}: there are no weights here ({_ADAPTERS[0] if is_adapter(folder) else _SAFE[0]})")
    return [f"{file.name} {_hash_one(file)}" for file in files]


def _hash(folder: Path, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Name and SHA-256 of files, by name."""
    return [(file.name, _hash_one(file)) for file in _list(folder, patterns)]


def _list(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    yield from sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def _hash_one(file: Path) -> str:
    # The Hub's cache calls a large file by its checksum.
    if file.is_symlink() and re.fullmatch("[0-9a-f]{64}", blob := Path(os.readlink(file)).name):
        return blob
    with tell_faults(f"{file}: it cannot be read", (OSError,)):
        return hash_file(file)


__all__ = ["Entrant", "draw_model", "open_entrant"]
