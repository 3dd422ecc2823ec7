"""Data in Markdown stays data: what a CommonMark and GitHub reader makes of names, cells, links, code and commands."""

import ast
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gengram.markdown import (
    escape_text,
    format_code,
    format_fence,
    format_image,
    format_link,
    format_literal,
    format_table,
)
from gengram.printable import make_printable, shorten

HOSTILE = [
    "a\n\n# Heading",
    "a\r\n---\r\nb",
    "`</code><script>alert(1)</script>",
    "``` ` ``",
    "a|b",
    "a\\|b\\",
    "x](https://example.org) <b>",
    "![x](y)",
    "&lt;b&gt; &#124;",
    "*a* _b_ __c__ ~~d~~ $\\frac{1}{2}$",
    "https://example.org www.example.org <mailto:a@b.c> a@b.de",
    "\x1b[31mred\x1b[0m \u202eright \u2028 line",
    "- item",
    "1. item",
    "===",
    "    code",
    "",
    " ",
    " ` ",
    "\U0001f9ec ACGT \U0001f469\u200d\U0001f52c",
    "\udcff half",
    "[x]: https://example.org",
    "a_b __init__ _x",
]
# Also text of the marks alone, which letters at random seldom are.
TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=40), st.text(alphabet="`|\\<>[]()!*_~#&$-=+.1 a\n\tx:/@w;", max_size=20)
)
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def collect(text: str) -> tuple[str, set[str]]:
    """The letters that a reader shows, and the kinds of everything else that it sees."""
    shown, kinds = [], set()
    for block in READER.parse(text):
        kinds.add(block.type)
        if block.type in ("fence", "code_block", "html_block"):
            shown.append(block.content)
        for inline in block.children or ():
            kinds.add(inline.type)
            shown.append(inline.content)
            if inline.type == "image":
                kinds |= {child.type for child in inline.children or ()}
    return "".join(shown), kinds


SPOKEN = {"paragraph_open", "inline", "paragraph_close", "text", "text_special"}


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
@example(text="0.1.0")
def test_text_is_shown_and_nothing_else(text):
    shown, kinds = collect(escape_text(text))
    assert kinds <= SPOKEN
    assert re.sub(r"\s+", " ", shown) == re.sub(r"\s+", " ", make_printable(text).strip())
    _, kinds = collect(f"# {escape_text(text)}\n\n- of {escape_text(text)}.\n")
    assert kinds <= SPOKEN | {
        f"{name}_{end}" for name in ("heading", "bullet_list", "list_item") for end in ("open", "close")
    }


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_code_is_one_span_that_shows_the_name(text):
    shown, kinds = collect(f"of {format_code(text)}.")
    assert kinds <= SPOKEN | {"code_inline"}
    if text.strip() and "|" not in text:
        assert kinds == {"paragraph_open", "inline", "paragraph_close", "text", "code_inline"}
        assert shown == f"of {make_printable(text)}."


@settings(max_examples=300, deadline=None)
@given(cells=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_table_has_its_rows_and_cells(cells):
    table = format_table(
        ["a", format_code(cells[0][0])], [[escape_text(left), format_code(right)] for left, right in cells], numbers=[1]
    )
    types = [block.type for block in READER.parse(f"{table}\n\nbehind")]
    assert types.count("tr_open") == len(cells) + 1
    assert types.count("td_open") == 2 * len(cells) and types.count("th_open") == 2
    assert types[-3:] == ["paragraph_open", "inline", "paragraph_close"]
    assert not any("html" in kind or "link" in kind for kind in collect(table)[1])


@settings(max_examples=200, deadline=None)
@given(
    text=TEXTS, file=st.sampled_from(["plots/a b.png", "plots/a)b.png", "plots/<x>.png", "plots/loss.png", "\udcff"])
)
def test_a_link_and_an_image_lead_where_they_should(text, file):
    inline = READER.parse(format_link(text, "https://huggingface.co/lab/model"))[1].children
    assert [token.attrs["href"] for token in inline if token.type == "link_open"] == [
        "https://huggingface.co/lab/model"
    ]
    paragraphs = [block.children for block in READER.parse(format_image(text, file)) if block.type == "inline"]
    assert [token.type for token in paragraphs[0]] == ["image"]
    assert set(re.findall(r'["()<> ]', paragraphs[0][0].attrs["src"])) == set()
    kinds = {token.type for tokens in paragraphs[1:] for token in tokens}
    assert kinds <= SPOKEN | {"em_open", "em_close"} and len(paragraphs) == 1 + bool(make_printable(text).strip())


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_fences_and_literals_hold_what_they_are_given(text):
    literal = format_literal(text)
    assert ast.literal_eval(literal) == text and make_printable(literal) == literal
    code = f"name = {literal}\n```\nmore"
    (fence,) = READER.parse(format_fence(code, "python"))
    assert (fence.type, fence.info, fence.content) == ("fence", "python", f"{code}\n")


def test_what_names_look_like():
    assert [format_code(name) for name in ("tata", "a`b", "`", "a|b", "", "  ")] == [
        "`tata`",
        "``a`b``",
        "`` ` ``",
        "a&#124;b",
        "(empty)",
        "(2 blanks)",
    ]
    assert escape_text("macro_f1 of seed-0, 2.13.0+cpu") == "macro_f1 of seed-0, 2.13.0+cpu"
    assert escape_text("see https://x.org, www.x.org, a@x.org") == r"see https:\//x.org, www\.x.org, a\@x.org"
    assert format_literal('say "it\'s"') == "'say \"it\\'s\"'" and format_literal("[MASK]") == '"[MASK]"'
    assert format_table(["a", "b"], [["c", "1"]], numbers=[1]) == "| a | b |\n| --- | ---: |\n| c | 1 |"


@pytest.mark.parametrize("show", [escape_text, format_code])
def test_long_names_keep_both_ends(show):
    shown = show("first" + "x" * 10_000 + "last")
    assert len(shown) < 320 and "first" in shown and "last" in shown and "…" in shown
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdefg", 6) == "abcd…g"
