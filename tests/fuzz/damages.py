"""Ways in which a file is damaged, or is something else than it seems: each makes the damaged one of a sound one."""

import bz2
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

LONG = 64 << 20
DEEP = 100_000


class Damage(NamedTuple):
    """What is done to a file.

    Attributes:
        said: in the table.
        make: takes the file's path and content, and writes what is there instead.
        forms: of files that it is done to: `text`, `json`, `binary`.
        may_pass: whether a reader may also read what is left, for nothing that it needs is gone.
    """

    said: str
    make: Callable[[Path, bytes], None]
    forms: tuple[str, ...] = ("text", "json", "binary")
    may_pass: bool = False


def replace_middle(content: bytes, new: bytes) -> bytes:
    """Put bytes into a file behind the letter or byte at its middle, without making it longer."""
    middle = len(content) // 2
    return content[:middle] + new + content[middle + len(new) :]


def _become(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


def _edit_json(content: bytes, edit: Callable[[Any], Any]) -> bytes:
    """Change every leaf of a JSON document, or of each line of JSON lines."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(one) for key, one in value.items()}
        return [walk(one) for one in value] if isinstance(value, list) else edit(value)

    text = content.decode()
    try:
        return json.dumps(walk(json.loads(text))).encode()
    except json.JSONDecodeError:
        return "".join(json.dumps(walk(json.loads(line))) + "\n" for line in text.splitlines()).encode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _misplace_numbers(path: Path, content: bytes) -> None:
    path.write_bytes(_edit_json(content, lambda value: 7 if isinstance(value, str) else value))


def _misplace_texts(path: Path, content: bytes) -> None:
    if content.lstrip().startswith(b"{"):
        path.write_bytes(_edit_json(content, lambda value: "x" if _is_number(value) else value))
    else:
        path.write_bytes(re.sub(rb"(?<![\w.])\d+(?![\w.])", b"x", content))


def _nest(path: Path, content: bytes) -> None:
    """Brackets without end in the place of the last value."""
    start, colon, _ = content.rpartition(b":")
    path.write_bytes(start + colon + b"[" * DEEP + b"\n" if colon else b"[" * DEEP + b"\n")


def _lengthen(path: Path, content: bytes) -> None:
    path.write_bytes(replace_middle(content, b"")[: len(content) // 2] + b"A" * LONG + content[len(content) // 2 :])


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


DAMAGES = {
    "empty": Damage("empty", lambda path, content: _put(path, b"")),
    "blank": Damage("blank lines only", lambda path, content: _put(path, b" \n\n\t\n"), ("text", "json")),
    "half": Damage("cut in half", lambda path, content: _put(path, content[: len(content) // 2]), may_pass=True),
    "end": Damage("end cut off", lambda path, content: _put(path, content[: -1 - len(content) // 20]), may_pass=True),
    "start": Damage(
        "start cut off", lambda path, content: _put(path, content[1 + len(content) // 20 :]), may_pass=True
    ),
    "magic": Damage("a picture", lambda path, content: _put(path, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)),
    "pointer": Damage(
        "a pointer of Git LFS",
        lambda path, content: _put(
            path, b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 25672\n"
        ),
    ),
    "nul": Damage("NUL bytes", lambda path, content: _put(path, replace_middle(content, bytes(3))), may_pass=True),
    "latin1": Damage("Latin-1", lambda path, content: _put(path, replace_middle(content, b"\xe9")), ("text", "json")),
    "utf16": Damage("UTF-16", lambda path, content: _put(path, content.decode().encode("utf-16")), ("text", "json")),
    "return": Damage(
        "lines end with CR", lambda path, content: _put(path, content.replace(b"\n", b"\r")), ("text",), True
    ),
    "number": Damage("numbers as text", _misplace_texts, ("text", "json"), True),
    "text": Damage("text as numbers", _misplace_numbers, ("json",), True),
    "null": Damage("null", lambda path, content: _put(path, b"null"), ("json",)),
    "list": Damage("a list", lambda path, content: _put(path, b"[]"), ("json",)),
    "deep": Damage("nested 100,000 deep", _nest, ("text", "json")),
    "long": Damage("a field of 64 MB", _lengthen, ("text", "json"), True),
    "gzip": Damage("compressed", lambda path, content: _put(path, gzip.compress(content)), may_pass=True),
    "gzip cut": Damage("compressed, cut off", lambda path, content: _put(path, gzip.compress(content)[:-20])),
    "bzip2": Damage("compressed by bzip2", lambda path, content: _put(path, bz2.compress(content))),
    "folder": Damage("a folder", lambda path, content: _become(path, Path.mkdir)),
    "pipe": Damage("a pipe", lambda path, content: _become(path, os.mkfifo)),
    "device": Damage("a device", lambda path, content: _become(path, lambda path: path.symlink_to("/dev/zero"))),
    "loop": Damage("a link to itself", lambda path, content: _become(path, _loop)),
    "dangling": Damage(
        "a link to nothing", lambda path, content: _become(path, lambda path: path.symlink_to("nowhere"))
    ),
    "forbidden": Damage("no permission", lambda path, content: path.chmod(0)),
    "missing": Damage("missing", lambda path, content: path.unlink()),
}


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
