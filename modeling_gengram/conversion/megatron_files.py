"""Reading Megatron checkpoints without running anything that is inside them.

Megatron stores pickles: legacy `mp_rank_*/model_optim_rng.pt`, and `.metadata` and `common.pt` of `torch_dist`. They
are read by an unpickler that knows the few names such files need and refuses every other. Both formats are then the
same to a converter: names with global layer numbers, whole tensors.
"""

import argparse
import collections
import io
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch

from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.loading.faults import tell_faults


class UnsafePickle(pickle.UnpicklingError):
    """A pickle asks for something that no checkpoint needs."""


class Opaque:
    """Stands for an object whose class is not needed: keeps what it was made from, runs nothing."""

    def __init__(self, *args, **kwargs):
        self.args = args

    def __setstate__(self, state):
        self.state = state


# What the pickles of Megatron and torch may name. Anything else could run code when it is called with arguments of the
# file's choosing, so it is refused, not skipped.
_TENSORS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    **{("torch", name): getattr(torch, name) for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)},
    **{
        ("torch", f"{kind}Storage"): getattr(torch, f"{kind}Storage")
        for kind in ("Float", "Half", "BFloat16", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
    },
}
# Objects that are of no use here: enumerations of the arguments, random states, plans of the writer.
_OPAQUE = re.compile(
    r"megatron\.|signal\.Signals$|_codecs\.encode$|numpy\.(dtype|ndarray)$|numpy\.(_core|core)\.multiarray\._reconstruct$"
    r"|torch\.distributed\.checkpoint\.|torch\.serialization\._get_layout$|transformer_engine\.|_io\.BytesIO$"
    r"|pathlib\.(Posix|Windows)Path$"
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _TENSORS:
            return _TENSORS[module, name]
        if _OPAQUE.match(f"{module}.{name}"):
            # A class of its own a name, so that metadata can be told apart.
            return type(name.rpartition(".")[2], (Opaque,), {})
        raise UnsafePickle(
            f"the pickle asks for {module}.{name}, which no Megatron checkpoint needs; it is refused and nothing of it "
            "was run"
        )


_PICKLE = SimpleNamespace(
    __name__="gengram.conversion.restricted_pickle",
    Unpickler=_Unpickler,
    load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
)


_CANNOT = "cannot be read as a Megatron checkpoint"


def load_pickle(path: Path) -> Any:
    """
    A file of `torch.save`, read by the restricted unpickler; tensors are mapped, not read.

    Raises:
        `InputError`: the file is no such file, or asks for something unsafe (`__cause__` is an `UnsafePickle`).
    """
    check_input_files(path)
    with tell_faults(f"{path}: {_CANNOT}"):
        return torch.load(path, map_location="cpu", mmap=True, weights_only=False, pickle_module=_PICKLE)


def describe_pickle(file: BinaryIO | str, path: str | Path | None = None) -> Any:
    """
    The same without data: tensors on the meta device, each of which `read_described` can read.

    What is mapped stays in a process's memory after it was read; this way nothing of the file does.

    Args:
        file: name of the file, or the file.
        path: of an open file, for messages.

    Raises:
        `InputError`: as `load_pickle`.
    """
    with tell_faults(f"{path or file}: {_CANNOT}"):
        archive: Any = torch._C.PyTorchFileReader(file)

        def describe(identifier: tuple) -> torch.TypedStorage:
            _, kind, key, _, count = identifier
            dtype = kind._dtype  # its public name warns
            storage: Any = torch.UntypedStorage(count * dtype.itemsize, device="meta")
            storage._checkpoint_offset = archive.get_record_offset(f"data/{key}")
            return torch.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)

        unpickler = _Unpickler(io.BytesIO(archive.get_record("data.pkl")), encoding="utf-8")
        unpickler.persistent_load = describe  # type: ignore[method-assign]
        return unpickler.load()


def read_described(file: BinaryIO, described: torch.Tensor, start: int = 0) -> torch.Tensor:
    """
    Read a tensor of `describe_pickle`, or a view of one.

    Args:
        file: where it lies; start: first byte of torch's archive in it.

    Raises:
        `InputError`: the file is shorter than it should be.
    """
    extent = sum((n - 1) * step for n, step in zip(described.shape, described.stride())) + 1
    data = torch.empty(extent if described.numel() else 0, dtype=described.dtype)
    file.seek(start + find_offset(described))
    if file.readinto(data.view(torch.uint8).numpy().data) != data.nbytes:  # type: ignore[attr-defined]
        raise InputError(f"{getattr(file, 'name', 'the file')} ends before the tensor does")
    return data.as_strided(described.shape, described.stride())


def find_offset(described: torch.Tensor) -> int:
    """First byte of a tensor of `describe_pickle` in its archive."""
    storage: Any = described.untyped_storage()
    return storage._checkpoint_offset + int(described.storage_offset()) * described.itemsize


class _Section(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, length: int):
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(min(len(buffer), self._length - self._at), 0))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def find_iteration(checkpoint: Path) -> Path:
    """
    The folder of the newest iteration.

    Args:
        checkpoint (`Path`): a folder with `latest_checkpointed_iteration.txt`, or an iteration's folder itself.

    Raises:
        `InputError`: neither of the two.
    """
    tracker = checkpoint / "latest_checkpointed_iteration.txt"
    if tracker.exists():
        check_input_files(tracker)
        with tell_faults(f"{tracker}: cannot be read"):
            latest = tracker.read_text(encoding="utf-8").strip()
        if not re.fullmatch("release|[0-9]{1,18}", latest):
            raise InputError(f"{tracker}: {latest[:30]!r} is neither the number of an iteration nor 'release'")
        folder = checkpoint / ("release" if latest == "release" else f"iter_{int(latest):07d}")
        if not folder.is_dir():
            raise InputError(f"{tracker} names iteration {latest!r}, but there is no {folder.name} beside it")
        return folder
    if any(checkpoint.glob("mp_rank_*")) or (checkpoint / "common.pt").is_file():
        return checkpoint
    raise InputError(
        f"{checkpoint}: no Megatron checkpoint: neither latest_checkpointed_iteration.txt nor mp_rank_* nor common.pt"
    )


def open_checkpoint(checkpoint: str | Path) -> "LegacyCheckpoint | DistributedCheckpoint":
    """
    The newest iteration of a checkpoint, in whichever of the two formats it is.

    Raises:
        `InputError`: no checkpoint, an incomplete one, or one that cannot be read.
    """
    folder = find_iteration(Path(checkpoint))
    # What the pickles hold is of the file's choosing: a list where a mapping belongs, numbers that are texts.
    with tell_faults(f"{folder}: {_CANNOT}"):
        return DistributedCheckpoint(folder) if (folder / "common.pt").is_file() else LegacyCheckpoint(folder)


class LegacyCheckpoint:
    """
    One file for each tensor, pipeline and expert rank; layers numbered from 0 in each pipeline stage.

    Attributes:
        folder (`Path`): of the iteration.
        arguments (`dict`): Megatron's own, as stored.
        names (`set[str]`): `decoder.layers.{i}....` with global i, `...experts.{e}....` with global e.
    """

    def __init__(self, folder: Path):
        first = sorted(folder.glob("mp_rank_*/model_optim_rng.pt"))
        if not first:
            raise InputError(f"{folder}: no mp_rank_*/model_optim_rng.pt in it")
        self.folder = folder
        self.arguments = vars(load_pickle(first[0])["args"])
        sizes = [self.arguments.get(f"{kind}_model_parallel_size") or 1 for kind in ("tensor", "pipeline", "expert")]
        tensor_parallel, pipeline_parallel, expert_parallel = sizes
        self._parts: dict[str, dict[int, tuple[Path, torch.Tensor]]] = {}  # name -> tensor rank -> file, description
        for expert_rank in range(expert_parallel):
            for tensor_rank in range(tensor_parallel):
                stages, paths = [], []
                for pipeline_rank in range(pipeline_parallel):
                    name = name_rank(tensor_rank, pipeline_rank, expert_rank, pipeline_parallel, expert_parallel)
                    path = folder / name / "model_optim_rng.pt"
                    if not path.is_file():
                        raise InputError(
                            f"{path} is missing: the stored arguments speak of {tensor_parallel} tensor, "
                            f"{pipeline_parallel} pipeline and {expert_parallel} expert ranks"
                        )
                    stages.append(describe_pickle(str(path)))
                    paths.append(path)
                self._add_rank(_order_chunks(stages, paths), tensor_rank, expert_rank, expert_parallel)
        self.names = set(self._parts)

    def _add_rank(
        self, chunks: list[tuple[Path, dict]], tensor_rank: int, expert_rank: int, expert_parallel: int
    ) -> None:
        """Name the tensors of one tensor and expert rank globally; `chunks` are its parts from bottom to top."""
        experts = (self.arguments.get("num_experts") or 0) // expert_parallel
        offset = 0  # counted, not computed, so that uneven stages need no rule
        for path, chunk in chunks:
            local = {int(m[1]) for name in chunk if (m := re.match(r"decoder\.layers\.(\d+)\.", name))}
            for name, tensor in chunk.items():
                if not isinstance(tensor, torch.Tensor) or name.endswith("_extra_state"):
                    continue
                if match := re.match(r"decoder\.layers\.(\d+)\.", name):
                    name = f"decoder.layers.{int(match[1]) + offset}.{name[match.end() :]}"
                for part, piece in _split_experts(name, tensor, expert_rank * experts, experts):
                    self._parts.setdefault(_normalize(part), {})[tensor_rank] = (path, piece)
            offset += len(local)

    def read(self, name: str) -> torch.Tensor:
        """A whole tensor; parts of tensor-parallel ranks are put together."""
        parts = []
        for _, (path, part) in sorted(self._parts[name].items(), key=lambda item: item[0]):
            with open(path, "rb") as file:
                parts.append(read_described(file, part))
        return _merge(name, parts, self.arguments)


class DistributedCheckpoint:
    """`torch_dist`: pieces of global tensors in `*.distcp` files; layers are usually the leading axis of one tensor."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.arguments = vars(load_pickle(folder / "common.pt")["args"])
        check_input_files(folder / ".metadata")
        with tell_faults(f"{folder / '.metadata'}: {_CANNOT}"), open(folder / ".metadata", "rb") as file:
            metadata = _Unpickler(file).load().state
        self._sizes: dict[str, tuple[int, ...]] = {}
        pieces: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = {}  # (name, offset) -> size
        for name, entry in metadata["state_dict_metadata"].items():
            if type(entry).__name__ == "TensorStorageMetadata" and not name.startswith(("optimizer.", "rng_state")):
                self._sizes[name] = tuple(entry.state["size"])
                for chunk in entry.state["chunks"]:
                    pieces[name, tuple(chunk.state["offsets"])] = tuple(chunk.state["sizes"])
        self._pieces: dict[str, list[tuple[tuple[int, ...], tuple[int, ...], dict]]] = {}  # offset, size, place
        for index, storage in metadata["storage_data"].items():
            if (name := index.state["fqn"]) in self._sizes:
                offset = tuple(index.state["offset"])
                self._pieces.setdefault(name, []).append((offset, pieces[name, offset], storage.state))
        layers = self.arguments["num_layers"]
        experts = self.arguments.get("num_experts") or 0
        self._where: dict[str, tuple[str, tuple[int, ...]]] = {}  # our name -> stored name, leading indices
        for stored in self._sizes:
            homogeneous = re.match(r"decoder\.layers\.(?!\d)", stored)
            axes = [("num_layers", layers)] if homogeneous else []
            axes += [("num_experts", experts)] if ".mlp.experts.experts." in stored else []
            for axis, (argument, count) in enumerate(axes):
                if self._sizes[stored][axis] != count:
                    raise InputError(
                        f"{folder}: {stored} has shape {list(self._sizes[stored])}, which does not go together with "
                        f"{argument}={count!r}"
                    )
            for layer in range(layers) if homogeneous else [None]:
                name = stored if layer is None else stored.replace("decoder.layers.", f"decoder.layers.{layer}.", 1)
                at = () if layer is None else (layer,)
                if ".mlp.experts.experts." in name:
                    for expert in range(experts):
                        part = name.replace(".mlp.experts.experts.", f".mlp.experts.{expert}.")
                        self._where[_normalize(part)] = (stored, (*at, expert))
                else:
                    self._where[_normalize(name)] = (stored, at)
        self.names = set(self._where)

    def read(self, name: str) -> torch.Tensor:
        """A whole tensor; only the pieces that belong to it are read from disk."""
        stored, at = self._where[name]
        shape = self._sizes[stored][len(at) :]
        whole, filled = None, 0
        for offset, size, storage in self._pieces[stored]:
            inside = tuple(i - o for i, o in zip(at, offset))
            if any(not 0 <= i < n for i, n in zip(inside, size)):
                continue
            place = storage["relative_path"]
            if Path(place).name != place:
                raise InputError(f"{self.folder}: {stored} lies in {place!r}, which is not in this folder")
            check_input_files(self.folder / place)
            with open(self.folder / place, "rb") as file:
                section = _Section(file, storage["offset"], storage["length"])
                described = describe_pickle(io.BufferedReader(section), self.folder / place)
                piece = read_described(file, described[inside], storage["offset"])
            whole = torch.empty(shape, dtype=piece.dtype) if whole is None else whole
            whole[tuple(slice(o, o + n) for o, n in zip(offset[len(at) :], piece.shape))] = piece
            filled += piece.numel()
        if whole is None or filled < whole.numel():
            raise InputError(f"{self.folder}: no data, or not all, of {stored} {list(at)} in it")
        return whole


def _order_chunks(stages: list[dict], paths: list[Path]) -> list[tuple[Path, dict]]:
    """Model parts from bottom to top: with virtual pipelining, chunk v of stage p is part v * P + p."""
    if "model" in stages[0]:
        return [(path, stage["model"]) for path, stage in zip(paths, stages)]
    chunks = sum(bool(re.fullmatch(r"model\d+", key)) for key in stages[0])
    return [(path, stage[f"model{v}"]) for v in range(chunks) for path, stage in zip(paths, stages)]


def _normalize(name: str) -> str:
    """Transformer Engine fuses norms into the layer behind them; the plain names are the unfused ones."""
    name = name.replace(".self_attention.linear_qkv.layer_norm_", ".input_layernorm.")
    return name.replace(".mlp.linear_fc1.layer_norm_", ".pre_mlp_layernorm.")


def _split_experts(name: str, tensor: torch.Tensor, first: int, count: int):
    """Three packings of experts -> `...mlp.experts.{global}.linear_fc1.weight`; everything else as it is."""
    if match := re.fullmatch(r"(.*\.mlp\.experts\.)local_experts\.(\d+)\.(.*)", name):
        yield f"{match[1]}{first + int(match[2])}.{match[3]}", tensor
    elif match := re.fullmatch(r"(.*\.mlp\.experts\.)(linear_fc[12])\.(weight|bias)(\d+)", name):
        yield f"{match[1]}{first + int(match[4])}.{match[2]}.{match[3]}", tensor
    elif match := re.fullmatch(r"(.*\.mlp\.experts\.)weight([12])", name):
        # GroupedMLP multiplies from the right: memory is [E, in, out], whatever the stored shape says.
        if match[2] == "1":
            grouped = tensor.reshape(count, tensor.shape[0], -1)
        else:
            grouped = tensor.reshape(count, -1, tensor.shape[1])
        for expert in range(count):
            yield f"{match[1]}{first + expert}.linear_fc{match[2]}.weight", grouped[expert].T
    else:
        yield name, tensor


def find_split(name: str, arguments: dict[str, Any]) -> str | None:
    """
    How tensor parallelism splits a layer's tensor.

    Returns:
        `"rows"`, `"columns"`, `"halves"` (each rank holds its part of the gate rows, then its part of the up rows), or
        `None` for what every rank holds whole.
    """
    if ".gengram." in name or "norm" in name or ".router." in name or name.endswith("gate_weight"):
        return None
    if ".linear_proj." in name or ".linear_fc2." in name:
        return "columns" if name.endswith(".weight") else None
    return "halves" if ".linear_fc1." in name and arguments.get("swiglu") else "rows"


def _merge(name: str, parts: list[torch.Tensor], arguments: dict[str, Any]) -> torch.Tensor:
    """Put the parts of tensor-parallel ranks together."""
    if len(parts) == 1:
        return parts[0]
    split = find_split(name, arguments)
    if split is None:
        return parts[0]
    if split == "columns":
        return torch.cat(parts, dim=1)
    if split == "halves":
        halves = [part.chunk(2) for part in parts]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])
    if "_down_proj." in name:
        rank = {"q": "q_lora_rank", "kv": "kv_lora_rank"}["kv" if "kv_down" in name else "q"]
        whole = arguments[rank] + (arguments["qk_pos_emb_head_dim"] if "kv_down" in name else 0)
        if parts[0].shape[0] == whole:  # replicated in the Transformer Engine form
            return parts[0]
    return torch.cat(parts)


def split_tensor(name: str, whole: torch.Tensor, rank: int, ranks: int, arguments: dict[str, Any]) -> torch.Tensor:
    """The part of a tensor that one of several tensor-parallel ranks holds."""
    split = find_split(name, arguments)
    if ranks == 1 or split is None:
        return whole
    if split == "halves":
        return torch.cat([half.chunk(ranks)[rank] for half in whole.chunk(2)])
    return whole.chunk(ranks, dim=1 if split == "columns" else 0)[rank]


def name_rank(tensor: int, pipeline: int, expert: int, pipelines: int, experts: int) -> str:
    """Folder of one rank: the pipeline and expert parts are there only if there are several."""
    name = f"mp_rank_{tensor:02d}"
    name += f"_{pipeline:03d}" if pipelines > 1 else ""
    return name + (f"_{expert:03d}" if experts > 1 else "")


__all__ = [
    "DistributedCheckpoint",
    "LegacyCheckpoint",
    "UnsafePickle",
    "describe_pickle",
    "find_offset",
    "find_split",
    "load_pickle",
    "name_rank",
    "open_checkpoint",
    "read_described",
    "split_tensor",
]
