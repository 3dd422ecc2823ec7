"""docs/models.md lists the catalogue as it is."""

from pathlib import Path

from gengram.catalogue import list_models
from gengram.catalogue.page import HEADING, render_page

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_has_the_tables_of_the_catalogue():
    page = PAGE.read_text(encoding="utf-8")
    assert page == render_page(page), "run make models-page"
    assert all(f"| `{row.id}` |" in page for row in list_models())


def test_what_is_written_by_hand_stays():
    written = f"# Mine\n\nWords.\n\n{HEADING}\nold tables\n"
    page = render_page(written)
    assert page.startswith(f"# Mine\n\nWords.\n\n{HEADING}\n### ") and "old tables" not in page
    assert render_page(page) == page
