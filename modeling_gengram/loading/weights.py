"""Which files of a checkpoint's weights are on this machine? Nothing is loaded, and no network is asked."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from gengram.loading.folders import list_shards

# In the order in which transformers looks for them.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find_weights(path: str | Path) -> list[Path]:
    """Return the files of the weights of a folder or of a Hub id in the cache; none unless all of them are there.

    Raises:
        `InputError`: an index of weights that cannot be read, see `list_shards`.
    """
    for name in _WEIGHTS:
        if (file := _find(path, name)) is not None:
            return [file]
        if (index := _find(path, f"{name}.index.json")) is not None:
            shards = [_find(path, shard) for shard in list_shards(index)]
            return [shard for shard in shards if shard is not None] if all(shards) else []
    return []


def _find(path: str | Path, name: str) -> Path | None:
    if Path(path).is_dir():
        return Path(path, name) if Path(path, name).is_file() else None
    found = try_to_load_from_cache(str(path), name)
    return Path(found) if isinstance(found, str) else None


__all__ = ["find_weights"]
