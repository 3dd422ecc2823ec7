"""Can a repository of the Hub be had: is it in the cache, is there a network? Asked before a library waits for it."""

import functools
import threading
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HTTPError

from gengram.catalogue.uses import tell_obstacle
from gengram.errors import InputError, suggest
from gengram.loading.weights import find_weights
from gengram.progress import tell

Kind = Literal["model", "dataset"]

_SECONDS = 5.0  # that a connection may take
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@functools.cache  # what is refused is asked for again
def require_repository(repo_id: str, kind: Kind = "model", needs_weights: bool = True) -> None:
    """Refuse a repository that is not in the cache where the Hub is not to be had.

    Libraries would try again for half a minute and more, and then name an address. Where the repository is in the
    cache, nothing is asked; without a network a line then says how to save their waiting.

    Args:
        repo_id: `organization/name`.
        kind: model or data set.
        needs_weights: whether a model's weights are needed, and not its tokenizer or configuration alone.

    Raises:
        `InputError`: it is not here, and the Hub cannot be reached or must not be (`HF_HUB_OFFLINE`); with the command
            that fetches it elsewhere.
    """
    offline = constants.HF_HUB_OFFLINE
    cached = is_cached(repo_id, kind, needs_weights)
    if offline and cached:
        return
    if not offline and can_reach_hub():
        return
    if cached:
        tell(f"{repo_id}: the Hub cannot be reached, so the cache is read; HF_HUB_OFFLINE=1 saves asking for it")
        return
    why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached from here"
    what = "data set" if kind == "dataset" else "model"
    flag = "--dataset " if kind == "dataset" else ""
    missing = (
        f"{repo_id}: there is no such folder here{_suggest_folder(repo_id)}, the {what} is not in the cache, and {why}"
    )
    if kind == "model" and (obstacle := tell_obstacle(repo_id)):
        raise InputError(f"{missing}. Fetching it would not help: {obstacle}")
    raise InputError(
        f"{missing}. Where there is a network: `gengram models fetch {flag}{repo_id} --to FOLDER`; then give "
        f"FOLDER/{name_folder(repo_id)}"
    )


def _suggest_folder(repo_id: str) -> str:
    """Return a question with the most similar folder that is here: `runs/mime` may be an id, or a slip in a path."""
    parent = Path(repo_id).parent
    try:
        known = [str(each) for each in parent.iterdir() if each.is_dir()]
    except OSError:  # no such folder, or one that may not be read: nothing to suggest
        return ""
    question = suggest(repo_id, known).removeprefix("; ")
    return question and f" ({question})"


def name_folder(repo_id: str) -> str:
    """Return what the folder of a fetched repository is called: `organization--name`."""
    return repo_id.replace("/", "--")


def is_cached(repo_id: str, kind: Kind = "model", needs_weights: bool = True) -> bool:
    """Whether a repository is in the cache: of a model its configuration and weights, or an adapter's."""
    if kind == "dataset":
        return _is_cached_dataset(repo_id)
    if all(isinstance(try_to_load_from_cache(repo_id, name), str) for name in _ADAPTER):
        return True
    if not needs_weights:
        names = ("config.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt")
        return any(isinstance(try_to_load_from_cache(repo_id, name), str) for name in names)
    return isinstance(try_to_load_from_cache(repo_id, "config.json"), str) and bool(find_weights(repo_id))


def _is_cached_dataset(repo_id: str) -> bool:
    """As files of the Hub, or as the tables that `datasets` has made of them."""
    from datasets.config import HF_DATASETS_CACHE

    files = Path(constants.HF_HUB_CACHE, f"datasets--{name_folder(repo_id)}", "snapshots")
    return any(place.is_dir() for place in (files, Path(HF_DATASETS_CACHE, repo_id.replace("/", "___"))))


def can_reach_hub() -> bool:
    """Whether somebody answers at the Hub's address, through the proxy that the environment names, in five seconds."""
    answered = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_SECONDS)
            answered.append(True)
        except (HTTPError, OSError):  # Whatever it answers is an answer; these are none.
            pass

    # Looking a name up has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS + 1)
    return bool(answered)


__all__ = ["Kind", "can_reach_hub", "is_cached", "name_folder", "require_repository"]
