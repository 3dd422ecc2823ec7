"""Where do the tests of transformers and PEFT come from, and how are ours laid among them?

Their source distributions hold them, the wheels do not. `fetch_source` downloads what `sources.txt` names into the
checkout's `.conformance/` (git ignores it) and checks its hash; `lay_out` makes a folder of this form:

    conformance/         this folder (a link): testers, cases, outcomes
    tests/               transformers' `tests/test_*.py`
    tests/families/      our suites, as `test_<suite>.py`: they import `..test_modeling_common` ...
    tests/generation/ ...    our stand-ins for what the distribution lacks (a file that it has is taken from there)
    peft_tests/          PEFT's `tests/`, with our suite `test_families.py` beside them
    pytest.ini

Nothing of it is copied into the repository. The folder goes first on `PYTHONPATH`; so does another version of
transformers, which `fetch_version` unpacks there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".conformance"
SUITES_OF_PEFT = ("peft",)
"""Suites that are laid among PEFT's tests; all others are laid among those of transformers."""


class Unavailable(Exception):
    """A source distribution is not there and cannot be fetched; the message says why."""


class Source(NamedTuple):
    """A line of `sources.txt`."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> Path:
        """Where it lies, or will lie."""
        return CACHE / f"{self.name}-{self.version}.tar.gz"

    @property
    def requirement(self) -> str:
        """As pip reads it."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def list_sources(name: str | None = None) -> list[Source]:
    """Return the lines of `sources.txt` that are for this Python, of one project or all, in their order."""
    sources = []
    for line in (HERE / "sources.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            written, _, sha256 = line.partition(" --hash=sha256:")
            requirement = Requirement(written)
            if requirement.marker is None or requirement.marker.evaluate():
                sources.append(Source(requirement.name, str(requirement.specifier).removeprefix("=="), sha256))
    return [source for source in sources if name in (None, source.name)]


def find_source(name: str, version: str) -> Source:
    """
    Return the line of a version.

    Raises:
        Unavailable: `sources.txt` has none.
    """
    for source in list_sources(name):
        if source.version == version:
            return source
    known = ", ".join(source.version for source in list_sources(name))
    raise Unavailable(
        f"{name} {version}: tests/conformance/sources.txt has {known}; add a line with the hash of this one"
    )


def fetch_source(source: Source, *, download: bool = True) -> Path:
    """
    Return the archive of a source distribution, from `.conformance/` or, the first time, from the package index.

    Raises:
        Unavailable: it is not there and `download` is false, or it cannot be downloaded, or its hash is another.
    """
    if not source.archive.is_file():
        if not download:
            raise Unavailable(f"{source.archive.name} is not in {CACHE.name}/: run `make conformance` once")
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(source.requirement + "\n")
            what = ("--no-deps", "--no-binary", ":all:", "--requirement", str(requirements))
            run_pip("download", "--dest", str(CACHE), *what)
    found = hashlib.sha256(source.archive.read_bytes()).hexdigest()
    if found != source.sha256:
        raise Unavailable(f"{source.archive}: its hash is {found}, not that of sources.txt; delete it")
    return source.archive


def unpack_tests(archive: Path, folder: Path) -> None:
    """Unpack `<project>-<version>/tests/` of a source distribution as `folder`, nothing else, nothing outside it."""
    with tarfile.open(archive) as content:
        prefix = content.getnames()[0].split("/")[0] + "/tests/"
        for member in content:
            if member.isfile() and member.name.startswith(prefix):
                member.name = member.name.removeprefix(prefix)
                content.extract(member, folder, filter="data")


def lay_out(transformers: Source, peft: Source | None, folder: Path, *, download: bool = True) -> Path:
    """
    Lay the tests out, see above.

    Args:
        transformers: the version whose tests are run.
        peft: PEFT's, or none of its tests.
        folder: an empty folder.
        download: whether what is missing is fetched.

    Returns:
        The folder.

    Raises:
        Unavailable: see `fetch_source`.
    """
    (folder / "conformance").symlink_to(HERE, target_is_directory=True)
    tests = folder / "tests"
    unpack_tests(fetch_source(transformers, download=download), tests)
    standins = []
    for path in sorted((HERE / "standins").rglob("*.py")):
        target = tests / path.relative_to(HERE / "standins")
        if not target.exists():
            standins.append(str(target.relative_to(folder)))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (tests / "families").mkdir()
    for suite in list_suites():
        if suite not in SUITES_OF_PEFT:
            shutil.copyfile(HERE / "suites" / f"{suite}.py", tests / "families" / f"test_{suite}.py")
    for package in (tests, *(path for path in tests.rglob("*") if path.is_dir())):
        (package / "__init__.py").touch()
    if peft is not None:
        unpack_tests(fetch_source(peft, download=download), folder / "peft_tests")
        (folder / "peft_tests" / "__init__.py").touch()
        for suite in SUITES_OF_PEFT:
            if (path := HERE / "suites" / f"{suite}.py").is_file():
                shutil.copyfile(path, folder / "peft_tests" / "test_families.py")
    markers = ("generate", "is_pipeline_test", "torch_compile_test", "torch_export_test", "flash_attn_test")
    markers += ("is_training_test", "is_tensor_parallel_test", "is_expert_parallel_test", "is_fsdp_test")
    settings = {"addopts": ["-p no:cacheprovider"], "markers": markers, "standins": standins}
    lines = [f"{name} =\n    " + "\n    ".join(values) for name, values in settings.items()]
    (folder / "pytest.ini").write_text("[pytest]\n" + "\n".join(lines) + "\n")
    return folder


def find_module(suite: str, folder: Path) -> Path:
    """Return where a suite lies in a folder that `lay_out` made."""
    if suite in SUITES_OF_PEFT:
        return folder / "peft_tests" / "test_families.py"
    return folder / "tests" / "families" / f"test_{suite}.py"


def list_suites() -> list[str]:
    """Return the names of our suites."""
    return sorted(path.stem for path in (HERE / "suites").glob("*.py"))


def fetch_version(version: str, *, download: bool = True) -> Path:
    """
    Return a folder with a transformers that is not installed, for `PYTHONPATH`: what `wheels.txt` lists.

    Raises:
        Unavailable: the file is of another version, or see `fetch_source`.
    """
    folder = CACHE / f"transformers-{version}"
    if not folder.is_dir():
        wheels = HERE / "wheels.txt"
        if f"\ntransformers=={version} " not in wheels.read_text():
            raise Unavailable(f"transformers {version} is not installed, and tests/conformance/wheels.txt has another")
        if not download:
            raise Unavailable(f"{folder.name} is not in {CACHE.name}/: run `make conformance` once")
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        what = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(wheels))
        run_pip("install", "--target", str(unfinished), *what)
        unfinished.rename(folder)
    return folder


def run_pip(*arguments: str) -> None:
    """
    Run pip; no word of it is seen unless it fails.

    Raises:
        Unavailable: it failed; with its last line.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f"pip {arguments[0]}: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")


__all__ = [
    "CACHE",
    "Source",
    "Unavailable",
    "fetch_source",
    "fetch_version",
    "find_module",
    "find_source",
    "lay_out",
    "list_sources",
    "list_suites",
]
