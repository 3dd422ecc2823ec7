"""Which libraries are here: do their versions suit, and can they be imported?"""

import importlib
import platform
import re
import sys
from functools import partial
from importlib import metadata

from gengram._version import __version__
from gengram.benchmarks.doctor.facts import Fact, Step

REQUIRED = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "peft",
    "evaluate",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "scikit-learn",
)
GROUP = "libraries"
_MODULES = {"scikit-learn": "sklearn"}
_OLDEST_PYTHON = (3, 10)


def list_steps() -> list[Step]:
    """A step for each library, so that one that crashes does not hide the others; torch comes first."""
    names = [
        Step(GROUP, name, partial(examine_library, name), remedy=f"pip install --force-reinstall {name}")
        for name in REQUIRED
    ]
    return [Step(GROUP, "gengram", examine_package), *names, Step(GROUP, "triton", examine_triton)]


def examine_package() -> list[Fact]:
    """This package and Python."""
    python, old = platform.python_version(), sys.version_info < _OLDEST_PYTHON
    facts = [
        Fact(GROUP, "gengram", __version__, data={"version": __version__}),
        Fact(
            GROUP, "Python", f"{python}, {sys.executable}", "fails" if old else "ok",
            "use Python 3.10 or newer" if old else "", {"version": python},
        ),
    ]  # fmt: skip
    if not find_bounds():
        remedy = "pip install . in the checkout: then the command knows which versions it needs"
        facts[0] = facts[0]._replace(found=f"{__version__}, not installed as a package", verdict="note", remedy=remedy)
    return facts


def find_bounds() -> dict[str, str]:
    """Which versions the installed package asks for, by library; empty where it is not installed."""
    try:
        asked = metadata.requires("gengram") or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w-]+)\s*\(?([^;)]*)", line) for line in asked if "extra ==" not in line)
    return {match[1].lower().replace("-", "_"): match[2].strip() for match in found if match}


def find_version(name: str) -> str | None:
    """The installed version of a library; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def import_library(name: str) -> str | None:
    """Import a library; returns why that is not possible, if it is not."""
    try:
        importlib.import_module(_MODULES.get(name, name))
    except Exception as error:  # a broken library raises anything
        return f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    return None


def examine_library(name: str) -> Fact:
    """A library that the package needs."""
    version, bound = find_version(name), find_bounds().get(name.replace("-", "_"), "")
    data = {"version": version, "needed": bound}
    wanted = f"pip install '{name}{bound}'"
    if (fault := import_library(name)) is not None:
        found = f"{version}, cannot be imported: {fault}" if version else f"missing: {fault}"
        again = "pip install --force-reinstall" if version else "pip install"
        return Fact(GROUP, name, found, "fails", f"{again} '{name}{bound}'", data)
    if version and bound and not _suits(version, bound):
        return Fact(GROUP, name, f"{version}, and {bound} is needed", "fails", wanted, data)
    return Fact(GROUP, name, version or "imported, of unknown version", data=data)


def _suits(version: str, bound: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bound).contains(version, prereleases=True)


def examine_triton() -> Fact:
    """The compiler of the kernels for GPUs; needed where PyTorch is built for them."""
    version, fault = find_version("triton"), import_library("triton")
    data = {"version": version}
    if fault is None:
        return Fact(GROUP, "triton", version or "imported, of unknown version", data=data)
    found = f"{version}, cannot be imported: {fault}" if version else f"missing: {fault}"
    try:
        import torch

        cuda = torch.version.cuda or getattr(torch.version, "hip", None)
    except Exception:  # told in its own line
        cuda = None
    if cuda is None:
        return Fact(GROUP, "triton", f"{found}; only GPUs need it", "note", data=data)
    remedy = (
        "pip install triton: without it the memory is about ten times slower on a GPU, and torch.compile fails there"
    )
    return Fact(GROUP, "triton", f"{found}, and PyTorch is built for GPUs ({cuda})", "fails", remedy, data)


__all__ = ["REQUIRED", "examine_library", "examine_package", "examine_triton", "find_bounds", "find_version",
           "import_library", "list_steps"]  # fmt: skip
