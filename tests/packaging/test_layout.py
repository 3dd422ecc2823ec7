"""The four code folders are one import package: what setup.cfg promises, and what the files may import."""

import ast
import configparser
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

ROOT = Path(__file__).parents[2]


def read_setup() -> tuple[set[str], dict[str, Path]]:
    """The listed packages, and the folder of each mapped one."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = set(setup["options"]["packages"].split())
    pairs = (line.split("=") for line in setup["options"]["package_dir"].strip().splitlines())
    return packages, {package.strip(): ROOT / folder.strip() for package, folder in pairs}


PACKAGES, FOLDERS = read_setup()
MODULES = sorted(path for folder in FOLDERS.values() for path in folder.rglob("*.py"))
FAMILIES = sorted({path.parent for path in FOLDERS["gengram"].glob("*/configuration_*.py")})
TRAVELLING = sorted(path for family in FAMILIES for path in family.glob("*.py") if path.name != "__init__.py")


def name_path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_folder_with_code_is_a_listed_package():
    found = {
        ".".join([package, *path.parent.relative_to(folder).parts])
        for package, folder in FOLDERS.items()
        for path in folder.rglob("*.py")
    }
    assert found == PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_has_an_init_file(package):
    # Without one, an editable install cannot import what a wheel can.
    mapped = max((name for name in FOLDERS if f"{package}.".startswith(f"{name}.")), key=len)
    assert FOLDERS[mapped].joinpath(*package[len(mapped) :].split("."), "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES + sorted((ROOT / "tests").rglob("*.py")), ids=name_path)
def test_folder_names_are_not_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.split(".")[0])
    assert not imported & {folder.name for folder in FOLDERS.values()}, "import gengram.*, not the folder's name"


def test_there_is_a_family_to_check():
    assert FOLDERS["gengram"] / "gengram" in FAMILIES


@pytest.mark.parametrize("family", FAMILIES, ids=name_path)
def test_family_folders_are_flat(family):
    assert [path.name for path in family.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


@pytest.mark.parametrize("path", TRAVELLING, ids=name_path)
def test_files_that_travel_import_only_siblings(path):
    # transformers finds the files to copy with a regular expression over the text, so a docstring line that begins with
    # an import counts too, and a sibling that is imported in another form is left behind.
    needed = {Path(name).resolve() for name in get_relative_import_files(path)}
    assert {name for name in needed if not name.is_file()} == set()
    relative = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    for node in relative:
        assert node.level == 1, f"line {node.lineno}: a file that travels cannot reach above its folder"
        assert node.module, f"line {node.lineno}: name the sibling's file: `from .sibling import name`"
        assert (path.parent / f"{node.module}.py").resolve() in needed


@pytest.mark.parametrize("path", TRAVELLING, ids=name_path)
def test_files_that_travel_need_only_the_usual_libraries(path):
    usual = {"torch", "transformers", "huggingface_hub", "tokenizers", "safetensors", "numpy"}
    assert set(get_imports(path)) - usual - sys.stdlib_module_names == set()
