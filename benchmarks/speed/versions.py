"""Is a version slower than an older one? `python -m gengram.benchmarks.speed.versions --old OLDER_CHECKOUT`.

The motif memory of this checkout and of another one on the CPU grid of `gengram bench`, each in a process of its own.
The two take turns, who begins changes from turn to turn, and the ratio of a round is that of neighbours in time. On a
machine with other work the ratio of CPU seconds is the steadier one.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gengram.benchmarks.speed.measure import summarize_ratio
from gengram.benchmarks.speed.memory import LENGTHS, SHAPES
from gengram.benchmarks.speed.program import answer, list_versions, make_parser
from gengram.command_line import complain, share, whole_number
from gengram.errors import InputError
from gengram.progress import track

_HERE = Path(__file__).resolve().parent
_FOLDERS = ("tokenization", "training", "benchmarks", "model_cards")  # beside the package's own
_LEAST, _TURNS, _ENOUGH = 0.02, 4, 0.1  # seconds of a turn; turns of a round, fewer once they took so many seconds


def lay_out_package(checkout: Path, target: Path) -> None:
    """Put a checkout's folders together as they are imported, by links.

    Raises:
        `InputError`: it is no checkout of this package.
    """
    source = checkout / "modeling_gengram"
    if not (source / "__init__.py").is_file():
        raise InputError(f"{checkout}: no checkout of this package (there is no modeling_gengram/__init__.py)")
    package = target / "gengram"
    package.mkdir()
    for path in [*source.iterdir(), *(checkout / name for name in _FOLDERS)]:
        if path.name != "__pycache__" and path.exists():
            (package / path.name).symlink_to(path.resolve())


class Version:
    """One version in a process of its own.

    Args:
        folder: where its `gengram` is.
        dtype: of weights and hidden states.
    """

    def __init__(self, folder: Path, dtype: str):
        self.dtype = dtype
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", (_HERE / "version_cells.py").read_text(encoding="utf-8")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        self.folder = folder

    def prepare(self, cell: dict[str, Any]) -> None:
        """Make a cell ready."""
        wanted = {name: cell[name] for name in ("D", "E", "T", "mode")}
        files = self._ask({"prepare": {**wanted, "dtype": self.dtype}})["files"]
        # All of them: what a version lacks would come from an installed one.
        if other := next((file for file in files if not Path(file).is_relative_to(self.folder)), None):
            raise InputError(f"{other} was imported instead of a file of the package in {self.folder}")

    def take_time(self) -> dict[str, float]:
        """`seconds` and `cpu_seconds` of one call of the cell that is ready."""
        return self._ask({})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({**request, "seconds": _LEAST}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise InputError(f"the version in {self.folder} has ended with exit code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def list_cells(longest: int) -> list[dict[str, Any]]:
    """The first two shapes and the lengths of `gengram bench`: forward, training, and a step of generation."""
    cells: list[dict[str, Any]] = []
    for D, E in SHAPES[:2]:
        lengths = [T for T in LENGTHS if longest >= T]
        cells += [{"D": D, "E": E, "T": T, "mode": mode} for mode in ("forward", "train") for T in lengths]
        cells.append({"D": D, "E": E, "T": 1, "mode": "decode"})
    return cells


def measure_cell(old: Version, new: Version, cell: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Median seconds of both, and of old / new the median over rounds with its extremes, by the clock (`ratio`) and by
    CPU seconds (`cpu_ratio`). A round takes the fastest turn of each: what disturbs makes it slower."""
    times: dict[str, dict[Version, list[float]]] = {name: {old: [], new: []} for name in ("seconds", "cpu_seconds")}
    for version in (old, new):
        version.prepare(cell)
    begins = 0
    for _ in range(rounds):
        turns: list[dict[Version, dict[str, float]]] = []
        spent = 0.0
        while len(turns) < _TURNS and spent < _ENOUGH:
            begins += 1
            turns.append({version: version.take_time() for version in ((old, new) if begins % 2 else (new, old))})
            spent += sum(max(found["seconds"], _LEAST) for found in turns[-1].values())
        for name, found in times.items():
            for version in (old, new):
                found[version].append(min(turn[version][name] for turn in turns))
    clock, cpu = times["seconds"], times["cpu_seconds"]
    return {
        "old": statistics.median(clock[old]),
        "new": statistics.median(clock[new]),
        **summarize_ratio(clock[old], clock[new]),
        "cpu_ratio": summarize_ratio(cpu[old], cpu[new])["ratio"],
    }


@contextlib.contextmanager
def open_versions(old: Path, new: Path, dtype: str) -> Iterator[tuple[Version, Version]]:
    """Both versions, ready to be asked."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        versions = []
        for kind, checkout in (("old", old), ("new", new)):
            folder = Path(name).resolve() / kind
            folder.mkdir()
            lay_out_package(checkout, folder)
            versions.append(Version(folder, dtype))
            stack.callback(versions[-1].close)
        yield versions[0], versions[1]


def compare_versions(
    old: Path, new: Path, rounds: int = 9, longest: int = 8192, least: float = 0.9, dtype: str = "float32"
) -> dict[str, Any]:
    """
    Measure all cells, those below `least` once more with twice the rounds, and return the report.

    Returns:
        `cells`, each with what `measure_cell` returns, and `again`, the same of a second measurement;
        `slower`: how many were below `least` both times.
    """
    cells = list_cells(longest)
    with open_versions(old, new, dtype) as (before, after), track(total=len(cells), desc="Cells") as progress:
        for cell in cells:
            cell |= measure_cell(before, after, cell, rounds)
            progress.update()
        for cell in cells:
            if cell["ratio"] < least:
                cell["again"] = measure_cell(before, after, cell, 2 * rounds)
    slower = sum("again" in cell and cell["again"]["ratio"] < least for cell in cells)
    return {**list_versions(), "dtype": dtype, "rounds": rounds, "least": least, "cells": cells, "slower": slower}


def tabulate(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"seconds of the older version / seconds of this one, medians of {report['rounds']} rounds, {report['dtype']}",
        "",
        f"{'D':>6}{'E':>6}{'T':>9}  {'mode':<9}{'old':>12}{'new':>12}{'ratio':>8}{'extremes':>16}{'CPU':>8}"
        f"{'again':>8}",
    ]
    for cell in report["cells"]:
        spread = f"{cell['low']:.2f} to {cell['high']:.2f}"
        again = f"{cell['again']['ratio']:.2f}" if "again" in cell else ""
        lines.append(
            f"{cell['D']:>6}{cell['E']:>6}{cell['T']:>9,}  {cell['mode']:<9}{cell['old'] * 1e3:>9.3f} ms"
            f"{cell['new'] * 1e3:>9.3f} ms{cell['ratio']:>8.2f}{spread:>16}{cell['cpu_ratio']:>8.2f}{again:>8}"
        )
    told = f"{report['slower']} cells are below {report['least']}, also when measured again"
    lines += ["", told if report["slower"] else f"no cell is below {report['least']} twice"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit code 1 where a cell is slower."""
    parser = make_parser("versions", __doc__, "--old ../older --rounds 9 --json versions.json")
    parser.add_argument("--old", type=Path, required=True, metavar="FOLDER", help="a checkout of the older version")
    parser.add_argument(
        "--new", type=Path, default=_HERE.parents[1], metavar="FOLDER", help="one of the newer version: this one"
    )
    parser.add_argument("--rounds", type=whole_number, default=9, help="measurements of each cell and version")
    parser.add_argument("--longest", type=whole_number, default=8192, metavar="T", help="longest sequence, in bases")
    parser.add_argument("--least", type=share, default=0.9, help="ratio below which a cell is measured once more")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of weights and states")
    arguments = parser.parse_args(argv)
    try:
        report = compare_versions(
            arguments.old, arguments.new, arguments.rounds, arguments.longest, arguments.least, arguments.dtype
        )
    except InputError as error:
        return complain(parser.prog, str(error))
    return answer(parser, tabulate(report), report, arguments.json) or int(report["slower"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())


__all__ = ["compare_versions", "list_cells", "measure_cell", "tabulate"]
