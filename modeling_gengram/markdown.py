"""How does data become Markdown? The one place where names, numbers and commands turn into cells, code and links.

What is written here means the same to CommonMark and to GitHub's Markdown, which the Hub shows: text stays text,
whatever it says. No HTML is written, and none can come in.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gengram.printable import make_printable, shorten

if TYPE_CHECKING:
    from jinja2 import Environment

# Longer names have a gap in their middle: nobody reads them, and a table of them has no columns any more.
_LONGEST = 300
# A bar ends a cell of a table even in code, and after a backslash for some readers: it is written as an entity.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
# `_` inside a word is only a letter.
_MARKS = re.compile(r"[\\`*\[\]{}~$#!]|(?<![^\W_])_|_(?![^\W_])")
# At the beginning these are a list, a heading or a rule.
_BEGINNING = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+=](?:[-=\s]|$)))")
# Addresses would become links by themselves.
_ADDRESS = re.compile(r"(?<=www)(?=\.)|(?<=:)(?=//)|(?=@)", re.IGNORECASE)


def escape_text(text: object) -> str:
    """Return text as Markdown that shows it, in one line: for a sentence, a heading, an item or a cell."""
    shown = shorten(make_printable(text), _LONGEST).strip()
    shown = "".join(_ENTITIES.get(letter, letter) for letter in _MARKS.sub(r"\\\g<0>", shown))
    return _BEGINNING.sub(r"\1\\", _ADDRESS.sub(r"\\", shown))


def format_code(text: object) -> str:
    """Return text as a code span, with as many backticks around it as it needs.

    What a code span cannot hold in a cell of a table, a bar, is shown as text; an empty name as `(empty)`.
    """
    shown = shorten(make_printable(text), _LONGEST)
    if not shown.strip(" "):
        return f"({len(shown)} blanks)" if shown else "(empty)"
    if "|" in shown:
        return escape_text(text)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    # A blank on both sides is taken off by the reader.
    padding = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def format_link(text: object, address: str) -> str:
    """Return a link to an address; `address` is quoted as addresses are."""
    return f"[{escape_text(text)}]({quote(address, safe='/:', errors='surrogateescape')})"


def format_image(title: object, file: str) -> str:
    """Return an image and, below, its title; `file` is relative to the text."""
    caption = f"\n\n*{shown}*" if (shown := escape_text(title)) else ""
    return f"!{format_link(title, file)}{caption}"


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """Return a table.

    Args:
        head, rows: cells that are Markdown already: of `escape_text` or `format_code`, or words and figures of ours.
        numbers: the columns with figures, counted from 0; they are aligned to the right.
    """
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def format_fence(code: str, language: str) -> str:
    """Return lines of code between two fences that are longer than any run of backticks in them."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}{language}\n{code}\n{fence}"


def format_literal(text: object) -> str:
    """Return text as a literal of Python, exactly, in one printable line; in double quotes where that is possible."""
    literal = repr(str(text))
    return literal if '"' in str(text) else f'"{literal[1:-1]}"'


def render_template(package: str, template: str, /, **values: Any) -> str:
    """Fill in a template of a package; what is no Markdown yet passes through the filter `text` there."""
    return (
        _prepare().from_string(resources.files(package).joinpath(template).read_text(encoding="utf-8")).render(**values)
    )


@cache
def _prepare() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters["text"] = escape_text
    return environment


__all__ = [
    "escape_text",
    "format_code",
    "format_fence",
    "format_image",
    "format_link",
    "format_literal",
    "format_table",
    "render_template",
]
