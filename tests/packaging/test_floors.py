"""The rooms of the package stand on floors: imports go down, and along a floor never in a circle.

The arrows are drawn from the code: `import` statements anywhere in a file, also inside functions.
"""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "gengram": ROOT / "modeling_gengram",
    "gengram.tokenization": ROOT / "tokenization",
    "gengram.training": ROOT / "training",
    "gengram.benchmarks": ROOT / "benchmarks",
    "gengram.model_cards": ROOT / "model_cards",
}
# Room -> floor. A room is a module or a package with all that is below it; the longest name that fits counts.
FLOORS = {
    "gengram._version": 0,
    "gengram.errors": 0,
    "gengram.lazy": 0,
    "gengram.files": 0,
    "gengram.markdown": 0,
    "gengram.printable": 0,
    "gengram.progress": 0,
    "gengram.phases": 0,
    "gengram.team": 0,
    "gengram.command_line": 0,
    # A family imports siblings only: its files travel to the Hub with a checkpoint.
    "gengram.gena": 1,
    "gengram.gengram": 1,
    "gengram.megatron_decoder": 1,
    "gengram.nucleotide_transformer": 1,
    "gengram.rmt": 1,
    "gengram.genome": 1,
    "gengram.tokenization": 1,
    "gengram.adapters": 2,
    "gengram.catalogue": 2,
    "gengram.costs": 2,
    "gengram.registration": 2,
    "gengram.loading": 3,
    "gengram.training.arguments": 3,
    "gengram.training.baselines": 3,
    "gengram.training.mappings": 3,
    "gengram.training.metrics": 3,
    "gengram.training.problems": 3,
    "gengram.training.search_space": 3,
    "gengram.training.trainer_flags": 3,
    "gengram.training.yaml_files": 3,
    "gengram.model_cards": 4,
    "gengram.pipelines": 4,
    "gengram.training.adapters": 4,
    "gengram.training.corpus": 4,
    "gengram.training.data": 4,
    "gengram.training.evaluation": 4,
    "gengram.training.objectives": 4,
    "gengram.training.publishing": 4,
    "gengram.training.reports": 4,
    "gengram.conversion": 5,
    "gengram.training": 5,
    "gengram.benchmarks": 6,
    "gengram.benchmarks.builders": 6,
    "gengram.benchmarks.data": 6,
    "gengram.benchmarks.evaluation": 6,
    "gengram.benchmarks.protocols": 6,
    "gengram.benchmarks.tasks": 6,
    # The doors: the command, and the package's own names, which load where they are first used.
    "gengram.__main__": 7,
    "gengram.cli": 7,
    "gengram": 7,
}


def list_modules() -> dict[str, Path]:
    modules = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
            modules[".".join([package, *parts])] = path
    return modules


MODULES = list_modules()


def find_room(module: str) -> str:
    return max((room for room in FLOORS if f"{module}.".startswith(f"{room}.")), key=len)


def list_imports(module: str, path: Path) -> list[tuple[int, str]]:
    """Line and name of every module of the package that a file imports."""
    found = []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.append((node.lineno, inner if inner in MODULES else source))
    return [(line, name) for line, name in found if name in MODULES and name != module]


def test_every_room_of_the_table_is_there_and_every_file_has_one():
    assert {room for room in FLOORS if room not in MODULES} == set()
    # What is in no room but the door is a file that nobody gave a floor.
    strays = {name for name in MODULES if find_room(name) == "gengram"} - {"gengram"}
    assert strays == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_goes_up(module):
    floor = FLOORS[find_room(module)]
    up = [
        f"line {line}: {name} is on floor {FLOORS[find_room(name)]}"
        for line, name in list_imports(module, MODULES[module])
        if FLOORS[find_room(name)] > floor
    ]
    assert up == [], f"{module} is on floor {floor}"


def test_rooms_of_a_floor_import_each_other_in_no_circle():
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        room = find_room(module)
        for _, name in list_imports(module, path):
            if find_room(name) != room:
                arrows[room].add(find_room(name))
    seen: dict[str, str] = {}

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, f"a circle: {' -> '.join([*way[way.index(room) :], room])}"
        if room not in seen:
            for other in sorted(arrows[room]):
                visit(other, (*way, room))
            seen[room] = room

    for room in sorted(FLOORS):
        visit(room, ())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_import_each_other_in_no_circle(module):
    """Inside a room, too: a file that cannot be read before another, which needs it, is one file in two."""
    reached: set[str] = set()
    waiting = [name for _, name in list_imports(module, MODULES[module])]
    while waiting:
        name = waiting.pop()
        if name not in reached and name != "gengram":
            reached.add(name)
            waiting += [inner for _, inner in list_imports(name, MODULES[name])]
    assert module not in reached or module == "gengram"


def test_families_import_siblings_only():
    families = {path.parent for path in FOLDERS["gengram"].glob("*/configuration_*.py")}
    assert families
    for module, path in MODULES.items():
        if path.parent in families:
            outside = [name for _, name in list_imports(module, path) if MODULES[name].parent != path.parent]
            assert outside == [], module
