"""Draw the table of docs/deployment.md from what is kept in `outcomes/`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gengram.files import write_text
from gengram.markdown import escape_text, format_code, format_table

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
OUTCOMES = Path(__file__).parent / "outcomes"
BEGIN, END = "<!-- made by tests/deployment/program.py: begin -->\n", "<!-- end -->\n"
HEADS = {"export": "`torch.export`", "compile": "`torch.compile`", "onnx": "ONNX"}
HEADS |= {"tensor parallel": "tensor parallel", "fsdp": "FSDP2"}

REASONS: dict[str, str] = {
    "no `tp_plan`": "transformers has no plan for dividing its encoders: loading says so, and FSDP2 divides them",
    "no weight is spread": "the same, but transformers 5.17 says nothing: each process loads the whole model",
}
"""A piece of an error -> why the way is closed. An error without a reason here is a fault."""

Outcomes = dict[str, dict[str, dict[str, float | str]]]
"""Variant -> way -> Auto class -> the largest difference, or the error."""


def read_outcomes(folder: Path = OUTCOMES) -> dict[str, Outcomes]:
    """Version of transformers (two numbers) -> what came of it, the oldest version first."""
    files = sorted(folder.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def find_reason(error: str) -> int | None:
    """Return the number of the reason, from 1; None for a fault."""
    return next((number for number, piece in enumerate(REASONS, 1) if piece in error), None)


def describe(found: Mapping[Any, float | str]) -> str:
    """Say what came of a way, over the heads."""
    numbers = {find_reason(error) for error in found.values() if isinstance(error, str)}
    if None in numbers:
        return "fails"
    said = [f"refused ({number})" for number in sorted(numbers)]
    if differences := [value for value in found.values() if not isinstance(value, str)]:
        worst = max(differences)
        said.append("0" if worst == 0 else f"{10.0 ** math.ceil(math.log10(worst)):.0e}")
    return ", ".join(reversed(said))


def draw_table(versions: dict[str, Outcomes]) -> str:
    """Return a row for each variant; where versions differ in more than the difference's size, both are said."""
    rows = []
    for variant in dict.fromkeys(variant for outcomes in versions.values() for variant in outcomes):
        cells = []
        for way in HEADS:
            found = {version: outcomes.get(variant, {}).get(way, {}) for version, outcomes in versions.items()}
            found = {version: one for version, one in found.items() if one}
            merged = {(version, auto): value for version, one in found.items() for auto, value in one.items()}
            same = len({describe(one) for one in found.values()}) == 1 or not any(
                isinstance(value, str) for value in merged.values()
            )
            if not found:
                cells.append("-")
            elif same:
                cells.append(describe(merged) + ("" if len(found) == len(versions) else f" ({', '.join(found)})"))
            else:
                cells.append(", ".join(f"{version}: {describe(one)}" for version, one in found.items()))
        heads = dict.fromkeys(auto for outcomes in versions.values() for auto in outcomes[variant].get("fsdp", {}))
        names = ", ".join(auto.removeprefix("AutoModelFor").replace("AutoModel", "encoder") for auto in heads)
        rows.append((format_code(variant), escape_text(names), *cells))
    table = format_table(("variant", "heads", *HEADS.values()), rows)
    reasons = "".join(f"({number}) {reason}.\n" for number, reason in enumerate(REASONS.values(), 1))
    return f"transformers {' and '.join(versions)}:\n\n{table}\n\n{reasons}"


def read_table(page: str) -> str:
    """Return what stands between the marks."""
    return page.partition(BEGIN)[2].partition(END)[0]


def render_page(page: str, versions: dict[str, Outcomes]) -> str:
    """Return the page with a new table; what stands above it stays."""
    return f"{page.partition(BEGIN)[0]}{BEGIN}{draw_table(versions)}{END}"


if __name__ == "__main__":
    write_text(render_page(PAGE.read_text(encoding="utf-8"), read_outcomes()), PAGE)
