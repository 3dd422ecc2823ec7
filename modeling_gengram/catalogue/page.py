"""How does docs/models.md list the catalogue? A table a family, behind what is written by hand; `make models-page`."""

import sys
from pathlib import Path

from gengram.catalogue.listing import format_amount, format_tokens
from gengram.catalogue.rows import ModelRow, list_families, list_models
from gengram.files import write_text
from gengram.markdown import escape_text, format_code, format_table

HEADING = "## All models\n"

_HEAD = ("model", "parameters", "bases", "tokens", "trained", "licence", "loads")


def render_page(page: str) -> str:
    """Return the text of the page with new tables; what stands above `HEADING` stays."""
    written = page.partition(HEADING)[0]
    parts = [f"{written}{HEADING}"]
    for family, title in list_families().items():
        rows = [_format_row(row) for row in list_models() if row.family == family]
        parts.append(
            f"### {escape_text(title)}\n\n`--family {family}`\n\n{format_table(_HEAD, rows, numbers=(1, 2))}\n"
        )
    return "\n".join(parts)


def _format_row(row: ModelRow) -> tuple[str, ...]:
    texts = (row.objective, row.license_weights, row.loads)
    amounts = (format_amount(row.parameters), format_amount(row.max_bases))
    return (format_code(row.id), *amounts, format_tokens(row), *(escape_text(text or "?") for text in texts))


if __name__ == "__main__":
    file = Path(sys.argv[1])
    write_text(render_page(file.read_text(encoding="utf-8")), file)
