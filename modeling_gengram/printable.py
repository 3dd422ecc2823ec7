"""How is text of somebody's file shown to people? In one line, and without letters that do more than stand there.

Names of classes, columns, contigs, tracks and files are data: a control character in one of them moves the cursor or
changes colours of a terminal, a bidirectional control turns a line round, a line break forges a line. What programs
read (JSON, tables, configurations) keeps names as they are.
"""

import re
import shlex
import unicodedata

# Beside control characters: what ends a line, half a letter (also a byte of a file's name that is no UTF-8), and
# letters without a shape of their own. The joiners, which are of this last kind, hold emoji and the letters of several
# scripts together.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"
_UNUSUAL = re.compile(r"[^ -~]")


def make_printable(text: object, keep: str = "") -> str:
    """Return text with an escape, as Python writes it (`\\n`, `\\x1b`, `\\u202e`), for each letter that is no shape.

    Args:
        text: anything; what is no text is shown as `str` has it.
        keep: letters that stay as they are, e.g. line breaks of a text that is ours.
    """

    def replace(found: re.Match[str]) -> str:
        letter = found[0]
        if letter in keep or letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN:
            return letter
        return letter.encode("unicode_escape").decode("ascii")

    return _UNUSUAL.sub(replace, str(text))


def shorten(text: str, length: int) -> str:
    """Return text of at most `length` letters: where it is longer, `…` takes the place of its middle."""
    if len(text) <= length:
        return text
    end = (length - 1) // 3
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def label_plot(name: object, length: int = 24) -> str:
    """Return a name as matplotlib shows it letter by letter: in one line, not longer than that, no formula.

    `$` begins a formula of matplotlib; a label that begins with `_` has no place in its legends.
    """
    shown = shorten(make_printable(name), length).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def quote_word(word: str) -> str:
    """Return a word of a command as bash reads it: quoted where it needs to be, in one printable line."""
    if make_printable(word) == word:
        return shlex.quote(word)

    def escape(letter: str) -> str:
        if letter in "'\\":
            return f"\\{letter}"
        if make_printable(letter) == letter:
            return letter
        if 0xDC80 <= ord(letter) <= 0xDCFF:  # a byte of a file's name that is no UTF-8
            return f"\\x{ord(letter) - 0xDC00:02x}"
        # All digits that there can be: one that follows is a letter of the word.
        return f"\\{ord(letter):03o}" if ord(letter) < 0x80 else f"\\U{ord(letter):08x}"

    return f"$'{''.join(map(escape, word))}'"


__all__ = ["label_plot", "make_printable", "quote_word", "shorten"]
