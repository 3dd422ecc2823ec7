"""VCF files: copied byte for byte, keys and header lines added and nothing else changed, bad files refused by line."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.text import MARK
from gengram.genome.variants import (
    add_header_lines,
    add_info,
    decode_value,
    encode_value,
    get_values,
    parse_header,
    read_variants,
    write_variants,
)

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADER = f"##fileformat=VCFv4.3\n##contig=<ID=chr1,length=240>\n{COLUMNS}\n"


def unpack(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def write(folder: Path, text: str, name: str = "t.vcf") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def read_one(folder: Path, line: str):
    return next(read_variants(write(folder, HEADER + line)).records)


@pytest.fixture(scope="module")
def cases(shared) -> dict[str, Path]:
    """The made-up files, by name."""
    folder = shared / "cases" / "variants" / "vcf"
    if not folder.is_dir():
        pytest.skip("no cases/variants/vcf in ../shared")
    return {path.name: path for path in sorted(folder.iterdir()) if ".vcf" in path.suffixes}


@pytest.fixture(scope="module")
def refused(cases) -> dict[str, int | None]:
    """Lines of the files that are refused, by name; none where the whole file is wrong."""
    with open(next(iter(cases.values())).parent / "refused.tsv") as file:
        return {row["file"]: int(row["line"] or 0) or None for row in csv.DictReader(file, delimiter="\t")}


@pytest.fixture(scope="module")
def readable(shared, cases, refused) -> list[Path]:
    """Every file, made-up or real, that can be read."""
    folders = [shared / "cases" / "variants" / "eval", shared / "data" / "genomes"]
    real = [path for folder in folders for path in sorted(folder.rglob("*.vcf*"))]
    return [path for name, path in cases.items() if name not in refused] + real


def test_every_file_is_copied_byte_for_byte(readable, tmp_path):
    assert len(readable) > 16
    for path in readable:
        write_variants(tmp_path / "copy.vcf", *read_variants(path))
        assert (tmp_path / "copy.vcf").read_bytes() == unpack(path), path


def test_what_is_added_is_all_that_changes(readable, tmp_path):
    lines = ['##INFO=<ID=GG_X,Number=A,Type=Float,Description="x">', '##gengramCommand=score, "a"']
    for path in readable:
        header, records = read_variants(path)
        changed = (add_info(record, {"GG_X": [0.5] * len(record.alts)}) for record in records)
        write_variants(tmp_path / "new.vcf", add_header_lines(header, lines), changed)
        before = unpack(path).split(b"\n")
        after = (tmp_path / "new.vcf").read_bytes().split(b"\n")
        place = len(header.lines) - 1
        end = b"\r" if before[0].endswith(b"\r") else b""
        assert after[place : place + 2] == [line.encode() + end for line in lines]
        assert after[:place] == before[:place]
        assert len(after) == len(before) + 2
        for old, new in zip(before[place:], after[place + 2 :]):
            old_columns, new_columns = old.split(b"\t"), new.split(b"\t")
            if new != old:
                info = new_columns.pop(7).rstrip(b"\r")
                given = old_columns.pop(7).rstrip(b"\r").rstrip(b";")
                assert info.rpartition(b"GG_X=")[0].rstrip(b";") == (b"" if given == b"." else given)
            assert [column.rstrip(b"\r") for column in new_columns] == [column.rstrip(b"\r") for column in old_columns]
            assert new.endswith(b"\r") == old.endswith(b"\r")
        # What was added is read again.
        for record in read_variants(tmp_path / "new.vcf").records:
            assert record.info["GG_X"] == (",".join(["0.5"] * len(record.alts)) or ".")


def test_records_and_alleles_are_those_expected(cases, refused):
    folder = next(iter(cases.values())).parent
    counts = json.loads((folder / "counts.json").read_text())
    with open(folder / "expected.tsv") as file:
        expected = [
            (row["file"], int(row["record"]), row["chrom"], int(row["pos"]), row["ref"], row["alt"])
            for row in csv.DictReader(file, delimiter="\t")
        ]
    found = []
    for name, path in cases.items():
        if name in refused:
            continue
        records = list(read_variants(path).records)
        alleles = [
            (name, place, record.chrom, record.pos, record.ref, alt)
            for place, record in enumerate(records, start=1)
            for alt in record.alts or (".",)
        ]
        found += alleles
        assert (len(records), len(alleles)) == (counts[name]["records"], counts[name]["alleles"])
    assert sorted(found) == sorted(expected)


def test_bad_cases_are_refused_by_line(cases, refused, tmp_path):
    for name, line in refused.items():
        with pytest.raises(InputError) as error:
            write_variants(tmp_path / "copy.vcf", *read_variants(cases[name]))
        where = f"{cases[name]}, line {line}: " if line else f"{cases[name]}: "
        assert str(error.value).startswith(where), name
        assert not list(tmp_path.iterdir())


def test_a_header_is_read(tmp_path):
    path = write(
        tmp_path,
        '##fileformat=VCFv4.2\n##contig=<ID=HLA-A*01:01:01:01,length=80,assembly="a,b">\n##contig=<ID=M>\n'
        '##INFO=<ID=NOTE,Number=.,Type=String,Description="Free, \\"quoted\\" \\\\ >",Source="x">\n'
        '##INFO=<Description="an "odd" one",ID=1000G>\n##INFO=<broken\n##FILTER=<ID=q10,Description="low">\n'
        "##META=<ID=Assay,Type=String,Number=.,Values=[WholeGenome, Exome]>\n##FORMAT=<ID=GT,Number=1,Type=String>\n"
        f"# a comment\n##source=a <b>\n{COLUMNS}\tFORMAT\tS 1\tS2\n",
    )
    header, records = read_variants(path)
    assert list(records) == []
    assert header.version == (4, 2) and not header.encodes
    assert header.contigs == {"HLA-A*01:01:01:01": 80, "M": None}
    assert header.info["NOTE"]["Description"] == 'Free, "quoted" \\ >'
    assert header.info["NOTE"]["Source"] == "x"
    assert list(header.info) == ["NOTE", "1000G"]
    assert (list(header.filters), list(header.formats), header.samples) == (["q10"], ["GT"], ("S 1", "S2"))
    assert "".join(header.lines).encode() == path.read_bytes()


def test_a_header_may_be_nothing_but_columns(tmp_path):
    header, records = read_variants(write(tmp_path, f"{MARK}{COLUMNS}\nc\t1\t.\tA\tC\t.\t.\t.\n"))
    assert (header.version, header.contigs, [record.chrom for record in records]) == (None, {}, ["c"])
    added = add_header_lines(header, ["##a=1", "##b=2"])
    assert "".join(added.lines) == f"{MARK}##a=1\n##b=2\n{COLUMNS}\n"


def test_header_lines_of_one_id_are_replaced(tmp_path):
    old = [f"##INFO=<ID=X,Number={number}>\r\n" for number in (1, 2)]
    lines = ["##fileformat=VCFv4.3\r\n", old[0], "##INFO=<ID=Y>\r\n", old[1], "##FORMAT=<ID=X>\r\n", COLUMNS]
    header = add_header_lines(parse_header(lines), ["##INFO=<Number=A,ID=X>", "##command=1", "##command=1"])
    assert header.lines == (
        lines[0],
        "##INFO=<Number=A,ID=X>\r\n",
        lines[2],
        lines[4],
        "##command=1\r\n",
        "##command=1\r\n",
        COLUMNS,
    )
    assert header.info["X"] == {"ID": "X", "Number": "A"}
    for line in ("INFO=<ID=X>", "##a\n", "##a\rb"):
        with pytest.raises(ValueError, match="a header line begins with '##'"):
            add_header_lines(header, [line])


def test_a_record_is_read(tmp_path):
    record = read_one(tmp_path, "chr1\t007\trs1;rs2\taC\t<DEL:ME>,G]c:1]\t29.50\tq10;s50\tA=1,.;DB;A=2;N=a=b;\r\n")
    assert (record.line, record.chrom, record.pos, record.id, record.ref) == (4, "chr1", 7, "rs1;rs2", "aC")
    assert record.alts == ("<DEL:ME>", "G]c:1]")
    assert (record.qual, record.filters) == ("29.50", ("q10", "s50"))
    assert record.info == {"A": "1,.", "DB": None, "N": "a=b"}
    assert record.columns[7] == "A=1,.;DB;A=2;N=a=b;"
    assert record.text.startswith("chr1\t007\t") and record.text.endswith(";\r\n")


def test_empty_columns_are_empty(tmp_path):
    record = read_one(tmp_path, "chr1\t0\t.\tN\t.\t.\t.\t.")
    assert (record.pos, record.alts, record.filters, record.info) == (0, (), (), {})


def test_values_are_decoded_from_version_4_3_on(tmp_path):
    record = read_one(tmp_path, "c\t1\t.\tA\tC\t.\t.\tN=50%25%3B a%3Db,x%2Cy,.,%zz;DB\n")
    new = parse_header(["##fileformat=VCFv4.3\n", COLUMNS])
    old = parse_header(["##fileformat=VCFv4.2\n", COLUMNS])
    assert get_values(record, "N", new) == ("50%; a=b", "x,y", None, "%zz")
    assert get_values(record, "N", old) == ("50%25%3B a%3Db", "x%2Cy", None, "%zz")
    assert (get_values(record, "DB", new), get_values(record, "X", new)) == ((), None)


breakends = ["G]chr2:10]", "[HLA-A*01:1:9[C", "]<ctg>:7]NN", ".[c:1[", "C.", ".C"]


@pytest.mark.parametrize("allele", ["A", "acgtn", "R", "*", "<*>", "<NON_REF>", "<INS:ME:ALU>", *breakends])
def test_alleles_of_every_kind_are_read(allele, tmp_path):
    assert read_one(tmp_path, f"c\t1\t.\tA\tG,{allele}\t.\t.\t.\n").alts == ("G", allele)


broken = ["<DEL", "<>", "A[c:1]", "[c:1"]


@pytest.mark.parametrize("allele", ["", "-", "0", "A C", "A/T", "A;C", "é", "A,", ",A", "A,.", *broken])
def test_what_is_no_allele_is_refused(allele, tmp_path):
    with pytest.raises(InputError, match=r"t\.vcf, line 4: ALT .* is no allele: .* base before it"):
        read_one(tmp_path, f"c\t1\t.\tA\t{allele}\t.\t.\t.\n")


record_line = "c\t5\t.\tA\tC\t.\t.\t.\n"
wrong = {
    "blanks": ("c 5 . A C . . .\n", "line 4: 1 columns, divided by blanks where tabs are needed"),
    "cut off": ("c\t5\t.\tA\tC\t.", "line 4: 6 columns; a record has at least 8"),
    "empty line": (record_line + "\n" + record_line, "line 5: an empty line; remove it"),
    "line of blanks": (record_line + " \t \n", "line 5: an empty line"),
    "second header": (record_line + HEADER, "line 5: a header line among the records; .* bcftools concat"),
    "too many": ("c\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1\n", "line 4: 10 columns where the line #CHROM has 8; remove"),
    "no contig": ("\t5\t.\tA\tC\t.\t.\t.\n", "line 4: CHROM is empty"),
    "no position": ("c\t.\t.\tA\tC\t.\t.\t.\n", r"line 4: POS '\.' is no position"),
    "below 0": ("c\t-1\t.\tA\tC\t.\t.\t.\n", "line 4: POS '-1' is no position"),
    "a part": ("c\t1.5\t.\tA\tC\t.\t.\t.\n", r"line 4: POS '1\.5'"),
    "other digits": ("c\t\u0661\t.\tA\tC\t.\t.\t.\n", "line 4: POS"),
    "huge": (f"c\t{'9' * 5000}\t.\tA\tC\t.\t.\t.\n", "line 4: POS '999"),
    "empty REF": ("c\t5\t.\t\tC\t.\t.\t.\n", "line 4: REF '' is no allele; write the letters"),
    "REF with a digit": ("c\t5\t.\tA2\tC\t.\t.\t.\n", "line 4: REF 'A2' is no allele"),
    "two REF": ("c\t5\t.\tA,C\tC\t.\t.\t.\n", "line 4: REF 'A,C' is no allele"),
    "old Mac": ("c\t5\t.\tA\tC\t.\t.\t.\rc\t6\t.\tA\tC\t.\t.\t.\n", "line 4: a carriage return"),
}


@pytest.mark.parametrize("fault", wrong)
def test_bad_records_are_refused(fault, tmp_path):
    lines, message = wrong[fault]
    path = write(tmp_path, HEADER + lines)
    with pytest.raises(InputError, match=rf"t\.vcf, {message}"):
        write_variants(tmp_path / "copy.vcf", *read_variants(path))
    assert [file.name for file in tmp_path.iterdir()] == ["t.vcf"]


wrong_headers = {
    "names by blanks": (COLUMNS.replace("\t", " ") + "\n", "line 1: the columns are .* divided by tabs, not by blanks"),
    "another name": (COLUMNS.replace("REF", "Ref") + "\n", "line 1: the columns are"),
    "no FORMAT": (f"{COLUMNS}\tS1\n", "line 1: the columns are .* FORMAT and the samples"),
    "twice": (f"##a\n{COLUMNS}\tFORMAT\tS1\tS2\tS1\n", "line 2: two samples are called 'S1'"),
    "no name": (f"{COLUMNS}\tFORMAT\tS1\t\n", "line 1: column 11, a sample, has no name"),
    "only a header": ("##fileformat=VCFv4.3\n##a=1\n", "line 2: the file ends in the header"),
    "empty line": ("##fileformat=VCFv4.3\n\n", "line 2: an empty line without a line '#CHROM"),
    "old Mac": (f"##fileformat=VCFv4.3\r{COLUMNS}\r", "line 1: a carriage return .* old Mac"),
    "a table": ("chrom,pos\n", "line 1: not a VCF file: it begins with 'chrom,pos'"),
}


@pytest.mark.parametrize("fault", wrong_headers)
def test_bad_headers_are_refused_at_once(fault, tmp_path):
    text, message = wrong_headers[fault]
    with pytest.raises(InputError, match=rf"t\.vcf, {message}"):
        read_variants(write(tmp_path, text))


@pytest.mark.parametrize(
    ("info", "values", "expected"),
    [
        (".", {"X": 1.5}, "X=1.5"),
        ("", {"X": True}, "X"),
        ("DB", {"X": "a;b=c,d%\te:f"}, "DB;X=a%3Bb%3Dc%2Cd%25%09e:f"),
        ("DB;", {"X": [1, None, float("nan"), 2e-9, ""], "Y": 2}, "DB;X=1,.,.,2e-09,.;Y=2"),
        ("A=1;X=0;B=%;X;X=2", {"X": ["a", "b"]}, "A=1;X=a,b;B=%"),
        ("A=1;X=0;B", {"X": False, "B": False, "A": False}, "."),
        ("A=1;;B;", {"B": None}, "A=1;;B=."),
        ("A", {"X": []}, "A;X=."),
        ("A", {"X": np.float32(0.1), "Y": np.int64(3), "Z": np.array([1 / 3])}, "A;X=0.1;Y=3;Z=0.3333333"),
        ("XY=1;AX=2", {"X": 1}, "XY=1;AX=2;X=1"),
        (".", {}, "."),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\tGT\t0/1\r\n"])
def test_keys_are_added(info, values, expected, end, tmp_path):
    columns = f"{COLUMNS}\tFORMAT\tS1\n" if "GT" in end else f"{COLUMNS}\n"
    path = write(tmp_path, f"{columns}c\t5\t.\tA\tC\t1.0\t.\t{info}{end}")
    record = next(read_variants(path).records)
    expected = expected if info != "A=1;;B;" else "A=1;;B=.;"  # Its last semicolon stays.
    assert add_info(record, values).text == f"c\t5\t.\tA\tC\t1.0\t.\t{expected}{end}"


@pytest.mark.parametrize("key", ["", "1X", "A B", "A=B", "A;B", "é"])
def test_what_is_no_key_is_refused(key, tmp_path):
    with pytest.raises(ValueError, match="is no key of INFO"):
        add_info(read_one(tmp_path, record_line), {key: 1})


@given(st.text())
def test_values_survive_encoding(text):
    encoded = encode_value(text)
    assert decode_value(encoded) == text
    assert not set(encoded) & set(";=,\t\r\n")


# Whatever else stands in a column, but for what divides columns and lines.
free = st.text(st.characters(exclude_characters="\0\r\n\t", exclude_categories=["Cs"]), max_size=12)
alleles = st.text("ACGTNacgt", min_size=1, max_size=5)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            free.filter(lambda chrom: chrom and chrom[0] != "#" and chrom[0] != MARK),
            st.integers(0, 2**40),
            free,
            alleles,
            st.lists(alleles | st.sampled_from(["*", "<DEL>", "A[c:1["]), min_size=1, max_size=3).map(",".join),
            free,
            free,
            free,
            free,
            free,
        ),
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    free,
)
def test_any_records_come_back(tmp_path_factory, rows, end, closed, comment):
    folder = tmp_path_factory.mktemp("any")
    lines = [f"##fileformat=VCFv4.3{end}", f"##comment={comment}{end}", f"{COLUMNS}\tFORMAT\tS1{end}"]
    lines += ["\t".join(map(str, row)) + end for row in rows]
    text = "".join(lines) if closed else "".join(lines).removesuffix(end)
    path = write(folder, text)
    header, records = read_variants(path)
    records = list(records)
    assert [(r.chrom, r.pos, r.id, r.ref, ",".join(r.alts)) for r in records] == [row[:5] for row in rows]
    assert [tuple(r.columns[5:]) for r in records] == [row[5:] for row in rows]
    write_variants(folder / "copy.vcf", header, records)
    assert (folder / "copy.vcf").read_bytes() == text.encode()
    # Adding a key and taking it away again leaves what was there, but for an empty INFO, which becomes a dot.
    for record in records:
        if "GG" not in record.info:
            back = add_info(add_info(record, {"GG": [1, None]}), {"GG": False})
            assert back.columns[:7] + back.columns[8:] == record.columns[:7] + record.columns[8:]
            assert back.columns[7].rstrip(";") in (record.columns[7].rstrip(";"), ".")


def test_records_are_read_when_they_are_asked_for(tmp_path):
    path = write(tmp_path, HEADER + record_line * 3 + "bad\n")
    records = read_variants(path).records
    assert [next(records).line for _ in range(3)] == [4, 5, 6]
    with pytest.raises(InputError, match="line 7"):
        next(records)


def test_bgzip_is_written(readable, tmp_path):
    pytest.importorskip("pysam", reason="bgzip is written by pysam")
    for path in readable:
        write_variants(tmp_path / "copy.vcf.gz", *read_variants(path))
        assert unpack(tmp_path / "copy.vcf.gz") == unpack(path)
        assert len(list(read_variants(tmp_path / "copy.vcf.gz").records)) == len(list(read_variants(path).records))
