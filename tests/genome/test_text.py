"""Text files of genomics: exact lines from plain, gzip and bgzip, every damage named, files that appear when whole."""

import gzip
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.text import MARK, cut_end, open_output, read_lines

END_OF_BGZIP = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

# Everything but NUL and half of a surrogate pair; Python alone takes some of them for line ends.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\r\n\t\x85\u2028"))


def make_bgzip(data: bytes, block: int = 60_000) -> bytes:
    """Compress as the SAM specification, 4.1, has it."""
    blocks = []
    for start in range(0, len(data), block):
        piece = data[start : start + block]
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = squeeze.compress(piece) + squeeze.flush()
        head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff\x06\x00BC\x02\x00" + (len(body) + 25).to_bytes(2, "little")
        blocks.append(head + body + zlib.crc32(piece).to_bytes(4, "little") + len(piece).to_bytes(4, "little"))
    return b"".join(blocks) + END_OF_BGZIP


def as_it_is(data: bytes) -> bytes:
    return data


def in_two_members(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


forms = [as_it_is, gzip.compress, in_two_members, make_bgzip]


@pytest.mark.parametrize("pack", forms)
@pytest.mark.parametrize("name", ["t.txt", "t.gz"])
def test_lines_are_the_file_whatever_its_name(pack, name, tmp_path):
    data = "a\tb\r\n\né\x85ß\u2028c\x0b\x1c\rd\nlast".encode() + b"x" * 200_000
    (tmp_path / name).write_bytes(pack(data))
    lines = list(read_lines(tmp_path / name))
    assert [number for number, _ in lines] == [1, 2, 3, 4]
    assert [line[:5] for _, line in lines] == ["a\tb\r\n", "\n", "é\x85ß\u2028c", "lastx"]
    assert "".join(line for _, line in lines).encode() == data


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from(forms))
def test_any_text_comes_back(tmp_path_factory, text, pack):
    path = tmp_path_factory.mktemp("any") / "t"
    path.write_bytes(pack(text.encode()))
    if not text.startswith(("PK\3\4", "%PDF")):
        assert "".join(line for _, line in read_lines(path)) == text
    with open_output(path.with_name("copy")) as write:
        for _, line in read_lines(path):
            write(line)
    assert path.with_name("copy").read_bytes() == text.encode()


@settings(max_examples=100, deadline=None)
@given(texts)
def test_universal_lines_are_those_of_python(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "t"
    path.write_bytes(text.encode())
    with open(path, encoding="utf-8-sig") as file:
        assert list(read_lines(path, universal=True)) == list(enumerate(file, start=1))


def test_the_mark_of_utf8_stays_or_goes(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(MARK.encode() + b"a\r\n" + MARK.encode() + b"b")
    assert list(read_lines(path)) == [(1, MARK + "a\r\n"), (2, MARK + "b")]
    assert list(read_lines(path, universal=True)) == [(1, "a\n"), (2, MARK + "b")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("pack", forms)
def test_a_pipe_is_read(pack, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = pack(b"a\nb\r\n")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
    writer.start()
    assert list(read_lines(tmp_path / "pipe")) == [(1, "a\n"), (2, "b\r\n")]
    writer.join()


@pytest.mark.parametrize("pack", forms)
def test_no_bytes_are_no_lines(pack, tmp_path):
    (tmp_path / "t").write_bytes(pack(b""))
    assert list(read_lines(tmp_path / "t")) == []


text = b"".join(b"line %d\n" % number for number in range(30_000))
damages = {
    "latin": (b"one\ncaf\xe9\n", "not text in UTF-8: line 2, byte 4 is 0xe9; .* iconv"),
    "surrogate": (b"\xed\xa0\x80\n", "not text in UTF-8: line 1, byte 1"),
    "NUL": (b"one\ntw\0o\n", "not text: line 2, byte 3 is 0"),
    "UTF-16": ("one\n".encode("utf-16"), "not text: it is UTF-16; .* iconv"),
    "UTF-16, other order": ("\ufeffone\n".encode("utf-16-be"), "not text: it is UTF-16"),
    "UTF-16 in gzip": (gzip.compress("one\n".encode("utf-16")), "not text: it is UTF-16"),
    "UTF-16 without mark": ("one\n".encode("utf-16-le"), "not text: line 1, byte 2 is 0; .*UTF-16"),
    "BCF": (make_bgzip(b"BCF\2\2" + bytes(40)), "not text: it is BCF; .* bcftools view"),
    "xz": (b"\xfd7zXZ\0\0\4", "not text: it is compressed by xz"),
    "zip": (b"PK\3\4\24\0", "not text: it is a zip archive"),
    "gzip cut": (gzip.compress(text)[:-9], r"the gzip file is cut off or damaged after line \d+ .*fetch it again"),
    "gzip header only": (gzip.compress(text)[:10], "the gzip file is cut off or damaged after line 0"),
    "gzip checksum": (gzip.compress(text)[:-8] + bytes(8), "the gzip file is cut off or damaged after line"),
    "gzip, then more": (
        gzip.compress(text) + b"more",
        "the gzip file is cut off or damaged after line .*Not a gzip",
    ),
    "gzip garbled": (
        gzip.compress(text)[:40] + bytes(60) + gzip.compress(text)[100:],
        "the gzip file is cut off or damaged after line",
    ),
    "bgzip cut": (make_bgzip(text)[:5000], "the gzip file is cut off or damaged: it is bgzip without"),
    "bgzip without its end": (make_bgzip(text)[:-28], ".*without the block that ends it; fetch it again or"),
}


@pytest.mark.parametrize("universal", [False, True])
@pytest.mark.parametrize("damage", damages)
def test_damage_is_named(damage, universal, tmp_path):
    content, message = damages[damage]
    (tmp_path / "t.vcf").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.vcf: {message}"):
        list(read_lines(tmp_path / "t.vcf", universal))


def test_lines_before_the_damage_are_given(tmp_path):
    (tmp_path / "t.gz").write_bytes(gzip.compress(text)[:-9])
    lines = read_lines(tmp_path / "t.gz")
    assert [next(lines) for _ in range(2)] == [(1, "line 0\n"), (2, "line 1\n")]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.vcf: cannot be read \(No such file"):
        list(read_lines(tmp_path / "none.vcf"))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_lines(tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file_is_refused(tmp_path):
    (tmp_path / "t").write_bytes(b"a\n")
    (tmp_path / "t").chmod(0)
    with pytest.raises(InputError, match=r"t: cannot be read \(Permission denied"):
        list(read_lines(tmp_path / "t"))


def test_a_long_line_is_read_at_once(tmp_path):
    (tmp_path / "t").write_bytes(gzip.compress(b"ACGT" * 10_000_000, 1))
    assert [len(line) for _, line in read_lines(tmp_path / "t")] == [40_000_000]


@pytest.mark.parametrize(
    ("line", "parts"), [("a\r\n", ("a", "\r\n")), ("a\n", ("a", "\n")), ("a", ("a", "")), ("\n", ("", "\n"))]
)
def test_the_end_is_cut(line, parts):
    assert cut_end("t", 1, line) == parts


@pytest.mark.parametrize("line", ["a\rb\n", "a\r\r\n", "a\r"])
def test_a_lone_carriage_return_is_refused(line):
    with pytest.raises(InputError, match=r"t, line 7: a carriage return .* old Mac"):
        cut_end("t", 7, line)


class TestWriting:
    def test_a_file_appears_when_all_is_written(self, tmp_path):
        path = tmp_path / "t.vcf"
        with open_output(path) as write:
            write("a\r\n")
            assert not path.exists()
            write("é")
        assert path.read_bytes() == "a\r\né".encode()
        assert [file.name for file in tmp_path.iterdir()] == ["t.vcf"]

    def test_after_an_error_all_is_as_before(self, tmp_path):
        path = tmp_path / "t.vcf"
        path.write_text("before")
        with pytest.raises(RuntimeError, match="mine"), open_output(path) as write:
            write("after")
            raise RuntimeError("mine")
        assert path.read_text() == "before"
        assert [file.name for file in tmp_path.iterdir()] == ["t.vcf"]

    def test_a_file_can_be_written_while_it_is_read(self, tmp_path):
        path = tmp_path / "t.vcf"
        path.write_bytes(text)
        path.chmod(0o640)
        with open_output(path) as write:
            for _, line in read_lines(path):
                write(line.upper())
        assert path.read_bytes() == text.upper()
        assert path.stat().st_mode & 0o777 == 0o640

    def test_a_link_stays_one(self, tmp_path):
        (tmp_path / "t").write_text("before")
        (tmp_path / "link").symlink_to("t")
        with open_output(tmp_path / "link") as write:
            write("after")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "t").read_text() == "after"

    @pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
    @pytest.mark.parametrize("redirected", [True, False])
    def test_standard_output(self, redirected, tmp_path):
        program = (
            "from gengram.genome.text import open_output\n"
            "with open_output('/dev/stdout') as write:\n"
            "    write('a\\r\\n')"
        )
        with open(tmp_path / "out", "wb") as file:
            stdout = file if redirected else subprocess.PIPE
            run = subprocess.run([sys.executable, "-c", program], stdout=stdout, check=True)
        assert ((tmp_path / "out").read_bytes() if redirected else run.stdout) == b"a\r\n"

    def test_where_nothing_can_be_written(self, tmp_path):
        with (
            pytest.raises(InputError, match=r"there is no folder .*none; make it"),
            open_output(tmp_path / "none" / "t"),
        ):
            pass
        with pytest.raises(InputError, match="is a folder; name a file"), open_output(tmp_path):
            pass

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_a_full_disk(self):
        with (
            pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left"),
            open_output("/dev/full") as w,
        ):
            w("a" * 100)

    def test_bgzip(self, tmp_path):
        pytest.importorskip("pysam", reason="bgzip is written by pysam")
        with open_output(tmp_path / "t.gz") as write:
            for line in text.decode().splitlines(keepends=True):
                write(line)
        data = (tmp_path / "t.gz").read_bytes()
        assert data[12:14] == b"BC"
        assert data.endswith(END_OF_BGZIP)
        assert "".join(line for _, line in read_lines(tmp_path / "t.gz")).encode() == text

    def test_bgzip_without_pysam(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pysam", None)
        message = r"t\.vcf\.gz: .* pip install 'gengram\[genomics\]', or leave \.gz out"
        with pytest.raises(InputError, match=message), open_output(tmp_path / "t.vcf.gz"):
            pass
        assert not list(tmp_path.iterdir())
