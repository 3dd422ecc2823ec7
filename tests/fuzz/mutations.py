"""Changed copies of sound files: bytes, lines, and what the format is made of. The same number gives the same copy."""

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import yaml

# What parsers trip over.
_WORDS = [
    *(
        b"\0",
        b"\r",
        b"\n",
        b"\t",
        b",",
        b";",
        b"|",
        b'"',
        b"'",
        b"\\",
        b">",
        b"#",
        b"##",
        b"@",
        b"=",
        b" ",
        b"\f",
        b"\v",
    ),
    *(b"\xff", b"\xc3", b"\xe9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x85", b"\xe2\x80\xa8", b"\xd9\xa3", b"\x1b[2J"),
    *(
        b"NA",
        b"NaN",
        b"inf",
        b"-1",
        b"0",
        b"1e999",
        b"9" * 20,
        b"9" * 400,
        b"0x10",
        b"1_0",
        b"null",
        b"A" * 5000,
        b"N" * 30,
    ),
    *(
        b"[]",
        b"{}",
        b"[[",
        b"{{",
        b"- ",
        b": ",
        b"&a",
        b"*a",
        b"!!python/object",
        b"%00",
        b"%2C",
        b"<DEL>",
        b"\x1f\x8b",
    ),
    *(b"chr1", b"sequence", b"label", b"../", b"\n\n", b"\r\n"),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**400),
    *(
        "",
        "x",
        "\0",
        "\n",
        "\ud800",
        "é",
        "../..",
        "/",
        "A" * 5000,
        "0",
        "None",
        "auto",
        "torch.float32",
        "[MASK]",
        "<s>",
    ),
    *([], {}, [[]], [None], [1, 2], ["x"], {"x": 1}, {"": None}),
]
_MAGICS = [0, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def mutate(content: bytes, form: str, draw: random.Random) -> bytes:
    """Return a changed copy of a file.

    Args:
        content: of a sound file.
        form: one of `FORMS`; half of the copies have changed bytes, whatever the form is.
        draw: decides everything.
    """
    if draw.random() < 0.5 and form in FORMS:
        return FORMS[form](content, draw)
    return (
        mutate_lines(content, draw)
        if draw.random() < 0.4 and form in ("text", "yaml", "json")
        else mutate_bytes(content, draw)
    )


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flip, cut, repeat, insert and exchange bytes, in one to four places."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 4, 16, 100))
        what = draw.randrange(8)
        if what == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif what == 1 and place < len(data):
            data[place] = draw.randrange(256)
        elif what == 2:
            del data[place : place + length]
        elif what == 3:
            data[place:place] = data[place : place + length] * draw.choice((1, 1, 50))
        elif what == 4:
            data[place:place] = draw.choice(_WORDS)
        elif what == 5:
            word = draw.choice(_WORDS)
            data[place : place + len(word)] = word
        elif what == 6:
            number = struct.pack(draw.choice("<>") + draw.choice("IQ"), draw.choice(_MAGICS) & 0xFFFFFFFF)
            data[place : place + len(number)] = number
        else:
            del data[draw.choice((place, len(data) - length)) :]
    return bytes(data)


def mutate_lines(content: bytes, draw: random.Random) -> bytes:
    """Leave out, repeat and exchange lines and fields."""
    lines = content.splitlines(keepends=True)
    for _ in range(draw.choice((1, 1, 2, 4))):
        if not lines:
            break
        place, other, what = draw.randrange(len(lines)), draw.randrange(len(lines)), draw.randrange(6)
        if what == 0:
            del lines[place]
        elif what == 1:
            lines.insert(other, lines[place])
        elif what == 2:
            lines[place], lines[other] = lines[other], lines[place]
        elif what == 3:
            lines[place] = lines[place].rstrip(b"\n") + draw.choice((b"\r\n", b"\r", b"", b"\n\n", b"\t\n", b",\n"))
        else:
            mark = draw.choice((b"\t", b",", b":", b" ", b";", b"="))
            fields = lines[place].split(mark)
            field = draw.randrange(len(fields))
            if what == 4:
                fields[field] = draw.choice(_WORDS)
            else:
                fields.insert(field, draw.choice(fields))
            lines[place] = mark.join(fields)
    return b"".join(lines)


def mutate_value(value: Any, draw: random.Random) -> Any:
    """Return a document with one to three values exchanged, left out, renamed or wrapped."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _change(value, draw)
    return value


def _change(value: Any, draw: random.Random) -> Any:
    # Down to a random depth; a branch may be changed as well as a leaf.
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        what = draw.randrange(10)
        if what == 0:
            return {name: one for name, one in value.items() if name != key}
        if what == 1:
            other = draw.choice((*value, "x", "", "0", "__class__"))
            return {other if name == key else name: one for name, one in value.items()}
        if what == 2:
            return {**value, draw.choice(("x", "", "auto_map", "id2label")): draw.choice(_VALUES)}
        return {**value, key: _change(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        if draw.random() < 0.2:
            return draw.choice((value[:place], value + [value[place]], value[::-1]))
        return [*value[:place], _change(value[place], draw), *value[place + 1 :]]
    return draw.choice((draw.choice(_VALUES), draw.choice(_VALUES), [value], {"x": value}, str(value)))


def _mutate_json(content: bytes, draw: random.Random) -> bytes:
    try:
        return json.dumps(mutate_value(json.loads(content), draw), indent=draw.choice((None, 2))).encode()
    except ValueError:  # JSON lines
        lines = content.splitlines() or [b""]
    place = draw.randrange(len(lines))
    try:
        lines[place] = json.dumps(mutate_value(json.loads(lines[place]), draw)).encode()
    except ValueError:
        return mutate_lines(content, draw)
    return b"\n".join(lines) + b"\n"


def _mutate_yaml(content: bytes, draw: random.Random) -> bytes:
    head, mark, rest = (b"", b"", content) if not content.startswith(b"---\n") else (b"---\n", b"\n---\n", content[4:])
    document, _, text = rest.partition(mark) if mark else (rest, b"", b"")
    try:
        changed = mutate_value(yaml.safe_load(document), draw)
    except yaml.YAMLError:
        return mutate_lines(content, draw)
    return head + yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "replace") + mark + text


def _mutate_gzip(content: bytes, draw: random.Random) -> bytes:
    changed = gzip.compress(mutate(gzip.decompress(content), "text", draw), mtime=0)
    return changed if draw.random() < 0.7 else mutate_bytes(changed, draw)


def _mutate_safetensors(content: bytes, draw: random.Random) -> bytes:
    """Change the header, whose length stands in the first eight bytes."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(mutate_value(json.loads(content[8 : 8 + length]), draw)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _mutate_zip(content: bytes, draw: random.Random) -> bytes:
    """Change one member of an archive, with a checksum that is right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    name = draw.choice([name for name in members if name.endswith(".pkl")] * 8 + list(members))
    members[name] = mutate_bytes(members[name] or b"\0", draw)
    if draw.random() < 0.05:
        del members[draw.choice(list(members))]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return packed.getvalue()


FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "text": mutate_lines,
    "json": _mutate_json,
    "yaml": _mutate_yaml,
    "gzip": _mutate_gzip,
    "safetensors": _mutate_safetensors,
    "zip": _mutate_zip,
}
