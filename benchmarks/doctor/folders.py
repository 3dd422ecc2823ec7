"""Where are files kept: can these folders be written to, and how much fits there?"""

import getpass
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from gengram.benchmarks.doctor.facts import Fact, Step, Verdict
from gengram.files import describe_size

GROUP = "folders"
LITTLE = 2 * 10**9
"""Bytes; with fewer on a disk, models and what is compiled soon fill it."""


def list_steps() -> list[Step]:
    """A step for each folder: one on a file system that does not answer stops only itself."""
    return [
        Step(GROUP, name, partial(examine_folder, name, path, needed, use), 20.0)
        for name, path, needed, use in list_folders()
    ]


def list_folders() -> list[tuple[str, Path | None, Verdict, str]]:
    """Name, place, what it is if it cannot be written to, and what it is for."""
    home = _find_home()
    cache = _from("XDG_CACHE_HOME", home, ".cache")
    hub = _from("HF_HOME", cache, "huggingface")
    triton = _from("TRITON_CACHE_DIR", _from("TRITON_HOME", home, ""), ".triton/cache")
    # Triton compiles into it, and stops where it cannot.
    compiled: Verdict = "fails" if sys.modules.get("torch") and _has_gpu() else "note"
    return [
        ("working folder", Path.cwd() if _is_there(".") else None, "note", "what is written by a relative name"),
        ("temporary files", _find_temporary(), "fails", "TMPDIR"),
        ("HF_HOME", hub, "note", "models and data sets of the Hub"),
        ("HF_HUB_CACHE", _from("HF_HUB_CACHE", hub, "hub"), "note", "what is fetched from the Hub"),
        ("HF_DATASETS_CACHE", _from("HF_DATASETS_CACHE", hub, "datasets"), "note", "prepared data sets"),
        ("gengram", cache and cache / "gengram", "note", "compiled C++ kernels"),
        ("TRITON_CACHE_DIR", triton, compiled, "kernels compiled for a GPU"),
        ("TORCHINDUCTOR_CACHE_DIR", _find_inductor(), compiled, "what torch.compile has compiled"),
    ]  # fmt: skip


def _from(variable: str, parent: Path | None, below: str) -> Path | None:
    """As the libraries find it: by a variable, or in a folder."""
    if value := os.environ.get(variable):
        return Path(value).expanduser() if not value.startswith("~") or _find_home() else Path(value)
    return parent / below if parent is not None else None


def _find_home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _find_temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none can be written to
        return None


def _find_inductor() -> Path | None:
    if value := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return Path(value)
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as containers have
        user = "unknown"
    temporary = _find_temporary()
    return temporary and temporary / f"torchinductor_{user}"


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
        os.getcwd()
    except OSError:
        return False
    return True


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def examine_folder(name: str, path: Path | None, needed: Verdict, use: str) -> Fact:
    """Write to a folder, or to where it would be made."""
    data: dict[str, Any] = {"path": None if path is None else str(path), "writable": False, "use": use}
    if path is None:
        remedy = f"set {_name_variable(name)} to a folder that can be written to: {use}"
        return Fact(GROUP, name, "there is no such folder", needed, remedy, data)
    try:
        place = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
        _write(place)
        free = shutil.disk_usage(place).free
    except OSError as error:
        remedy = f"set {_name_variable(name)} to a folder that can be written to, or free space: {use}"
        return Fact(GROUP, name, f"{path}: cannot be written to ({error.strerror or error})", needed, remedy, data)
    there = "" if place == path else ", not made yet"
    found, data = f"{path}{there}, {describe_size(free)} free", {**data, "writable": True, "free_bytes": free}
    if free < LITTLE:
        remedy = f"free space, or set {_name_variable(name)} to a folder on a larger disk: {use}"
        return Fact(GROUP, name, found, "note", remedy, data)
    return Fact(GROUP, name, found, data=data)


def _write(folder: Path) -> None:
    """A few bytes that are gone again; whether a disk takes them cannot be known otherwise."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(b"gengram" * 1000)
        stream.flush()
        os.fsync(stream.fileno())


def _name_variable(name: str) -> str:
    return {"working folder": "the working folder", "temporary files": "TMPDIR", "gengram": "XDG_CACHE_HOME"}.get(
        name, name
    )


__all__ = ["LITTLE", "examine_folder", "list_folders", "list_steps"]
