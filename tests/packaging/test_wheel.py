"""The wheel holds the package and nothing else, and what it holds can be used."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources, by the setuptools that is installed (no network)."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup["options"]["package_dir"].strip().splitlines():
        folder = line.split("=")[1].strip()
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_only_gengram_is_installed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"gengram", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in names if re.search(r"(^|_)tests?(_|\.|$)|conftest", Path(name).name)]


def test_every_file_of_the_sources_is_in_the_wheel(wheel):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    expected = set()
    for line in setup["options"]["package_dir"].strip().splitlines():
        package, folder = (part.strip() for part in line.split("="))
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gengram/")} == expected
    assert "gengram/py.typed" in expected


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        points = archive.read(next(name for name in names if name.endswith(".dist-info/entry_points.txt"))).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    assert "gengram = gengram.cli:main" in points
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_package_imports_from_the_wheel_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        # the editable install's finder would answer for any module that the wheel forgot
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')"
        " and 'Editable' not in getattr(f, '__name__', '')];"
        "import gengram, gengram.tokenization, gengram.training, gengram.benchmarks, gengram.model_cards, gengram.cli;"
        "print(gengram.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "site")
