"""What each genomic format may have, and what is refused: the table of docs/genome_files.md, a row a case."""

import re
from pathlib import Path

import pytest

from gengram.errors import InputError
from gengram.genome.annotations import read_annotations, read_features
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import read_intervals
from gengram.genome.letters import LetterSurvey
from gengram.genome.variants import read_variants

DOCS = Path(__file__).resolve().parents[2] / "docs" / "genome_files.md"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
VCF = f"##fileformat=VCFv4.3\n{COLUMNS}"
GFF = "##gff-version 3\n"


def read_records(folder: Path, text: str):
    (folder / "t.fa").write_bytes(text.encode())
    return [sequence for *_, sequence in read_fasta(folder / "t.fa")]


def cut_intervals(folder: Path, text: str):
    (folder / "genome.fa").write_text(">chr1 first\nACGTTGCAAC\n>7\nGGGGCCCC\n")
    (folder / "t.bed").write_bytes(text.encode())
    return read_intervals(folder / "t.bed", folder / "genome.fa")["sequence"].to_pylist()


def list_features(folder: Path, text: str):
    (folder / "t.gff").write_bytes(text.encode())
    kinds = [entry.kind for entry in read_annotations(folder / "t.gff").entries if hasattr(entry, "kind")]
    return [(one.start, one.end, one.attributes) for one in read_features(folder / "t.gff")], kinds


def list_alleles(folder: Path, text: str):
    (folder / "t.vcf").write_bytes(text.encode())
    return [(one.pos, one.ref, *one.alts) for one in read_variants(folder / "t.vcf").records]


def judge_letters(folder: Path, text: str):
    survey = LetterSurvey("t.fa")
    survey.look(text.split(), "record {}".format)
    survey.judge()
    return survey.others, survey.unread


READERS = {
    "FASTA": read_records,
    "BED": cut_intervals,
    "GFF3, GTF": list_features,
    "VCF": list_alleles,
    "letters": judge_letters,
}

# Format, what is in the file and what comes of it, as the page has them; then files, and what is read or the message.
CASES: list[tuple[str, str, str, list[tuple[str, object]]]] = [
    ("FASTA", "lower case, IUPAC codes, U", "kept as it is", [(">a\nacgtRYKMu\n", ["acgtRYKMu"])]),
    ("FASTA", "blanks and tabs in lines", "removed", [(">a\nACGT acgt\t\n", ["ACGTacgt"])]),
    ("FASTA", "`;` lines, empty lines", "passed over", [(";x\n\n>a\nAC\n; GT\n\nGT\n", ["ACGT"])]),
    (
        "FASTA",
        "line ends of Windows and old Macs, byte order mark, no line end at the end",
        "read",
        [("\ufeff>a\r\nAC\r\nGT", ["ACGT"]), (">a\rAC\r>b\rGT", ["AC", "GT"])],
    ),
    ("FASTA", "gaps, stops, other letters", "kept, see letters", [(">a\nAC-*X.GT\n", ["AC-*X.GT"])]),
    ("FASTA", "digits, as in GenBank's lines", "refused", [(">a\n1 acgt\n", "line 2, column 1: '1'")]),
    ("FASTA", "`>` inside a line", "refused", [(">a\nACGT>b\nAC\n", "line 2, column 5: '>'")]),
    ("FASTA", "control characters", "refused", [(">a\nAC\x1bGT\n", r"line 2, column 3: '\\x1b'")]),
    (
        "FASTA",
        "a record without name or sequence",
        "refused",
        [(">\nAC\n", "line 1: a record without a name"), (">a\n>b\nAC\n", "line 1: the record 'a' has no sequence")],
    ),
    ("FASTA", "two records of one name", "read; refused in a genome", [(">a\nAC\n>a\nGT\n", ["AC", "GT"])]),
    ("FASTA", "another format", "refused", [("@r\nAC\n+\nII\n", "is it FASTQ"), ("ACGT\n", "begins with '>'")]),
    ("BED", "tabs or blanks between columns", "read", [("chr1\t0\t4\tx\n", ["ACGT"]), ("chr1 0 4 x\n", ["ACGT"])]),
    (
        "BED",
        "`track`, `browser`, `#` and empty lines anywhere",
        "passed over",
        [("track name=x\nbrowser hide all\n# x\n\nchr1\t0\t4\ntrack name=y\nchr1\t4\t8\n", ["ACGT", "TGCA"])],
    ),
    (
        "BED",
        "names of columns in the first line, with `#` or without",
        "columns 4 and on are called so",
        [("#chrom\tstart\tend\tlabel\nchr1\t0\t4\tx\n", ["ACGT"]), ("chrom\tstart\tend\nchr1\t0\t4\n", ["ACGT"])],
    ),
    (
        "BED",
        "a name that repeats, or is `sequence`",
        "called `column_N`, told",
        [
            ("#chrom\tstart\tend\tsequence\nchr1\t0\t4\tTTTT\n", ["ACGT"]),
            ("#chrom\tstart\tend\tchrom\tstart\tend\nchr1\t0\t4\tchr1\t4\t8\n", ["ACGT"]),
        ],
    ),
    (
        "BED",
        "empty fields, tabs at the end of lines",
        "empty values",
        [("chr1\t0\t4\t\nchr1\t4\t8\tx\n", ["ACGT", "TGCA"]), ("chr1\t0\t4\t\t\nchr1\t4\t8\n", ["ACGT", "TGCA"])],
    ),
    ("BED", "lines of different numbers of columns", "refused", [("chr1\t0\t4\tx\nchr1\t4\t8\n", "line 2: 3 columns")]),
    (
        "BED",
        "more columns: narrowPeak, BED12, bedtools `-wa -wb` behind six",
        "the interval is columns 1 to 3, the strand column 6",
        [
            ("chr1\t0\t5\tx\t0\t-\tchr1\t4\t8\ty\t0\t+\n", ["AACGT"]),
            ("chr1\t0\t4\tx\t0\t.\t1.5\t-1\n", ["ACGT"]),
        ],
    ),
    ("BED", "bedtools `-wa -wb` behind three, without names", "refused", [("chr1\t0\t4\tchr1\t4\t8\n", "column 6")]),
    ("BED", "a strand other than `+`, `-`, `.`", "refused", [("chr1\t0\t4\tx\t0\t*\n", "strand '\\*'")]),
    (
        "BED",
        "no bases, negative, `1e3`, fractions",
        "refused",
        [
            ("chr1\t4\t4\n", "line 1: interval chr1:4-4 holds no bases"),
            ("chr1\t8\t4\n", "holds no bases"),
            ("chr1\t-1\t4\n", "start '-1' is not a position"),
            ("chr1\t0\t1e3\n", "end '1e3' is not a position"),
            ("chr1\t0\t4.0\n", "end '4.0' is not a position"),
        ],
    ),
    ("BED", "an end past the contig's", "refused", [("chr1\t0\t11\n", "which has 10 bp")]),
    (
        "BED",
        "a contig by another custom's name: `chr7` for `7`, `M` for `MT`",
        "found, told",
        [("chr7\t0\t4\n", ["GGGG"]), ("1\t0\t4\nChr7\t0\t4\n", ["ACGT", "GGGG"])],
    ),
    (
        "BED",
        "two names that would be one contig",
        "refused",
        [("7\t0\t4\nchr7\t0\t4\n", "no contig 'chr7'.* It would be '7', but '7' is that already")],
    ),
    ("BED", "a contig that the genome lacks", "refused", [("chr2\t0\t4\n", "no contig 'chr2'; it has chr1, 7")]),
    (
        "GFF3, GTF",
        "directives, comments, browser lines, a FASTA section",
        "kept, no features",
        [
            (f"{GFF}#x\n\n##FASTA\n>a\nAC\n", ([], ["directive", "comment", "empty", "fasta", "fasta", "fasta"])),
            (f"{GFF}track name=x\n>a\n", ([], ["directive", "track", "fasta"])),
        ],
    ),
    (
        "GFF3, GTF",
        "percent codes, several values, no value, `.`",
        "decoded",
        [
            (f"{GFF}c\t.\tg\t1\t9\t.\t+\t.\tN=a%2Cb,c;x\n", ([(0, 9, {"N": ("a,b", "c"), "x": ()})], ["directive"])),
            (f"{GFF}c\t.\tg\t1\t9\t.\t+\t.\t.\n", ([(0, 9, {})], ["directive"])),
        ],
    ),
    (
        "GFF3, GTF",
        "quotes and semicolons in GTF",
        "read",
        [('c\t.\tg\t1\t9\t.\t+\t.\tn "a;b"; n "c";\n', ([(0, 9, {"n": ("a;b", "c")})], []))],
    ),
    (
        "GFF3, GTF",
        "not nine columns, blanks for tabs",
        "refused",
        [
            (f"{GFF}c\t.\tg\t1\t9\t.\t+\t.\n", "line 2: 8 columns; a feature has 9"),
            (f"{GFF}c . g 1 9 . + . ID=x\n", "line 2: 1 columns, divided by blanks where tabs are needed"),
        ],
    ),
    (
        "GFF3, GTF",
        "start after end, start 0, no numbers",
        "refused",
        [
            (f"{GFF}c\t.\tg\t9\t1\t.\t+\t.\t.\n", "line 2: start 9 comes after end 1"),
            (f"{GFF}c\t.\tg\t0\t1\t.\t+\t.\t.\n", "line 2: start 0; positions count from 1"),
            (f"{GFF}c\t.\tg\t1e3\t1\t.\t+\t.\t.\n", "start '1e3' is not a position"),
        ],
    ),
    (
        "GFF3, GTF",
        "a strand, phase or score that is none",
        "refused",
        [
            (f"{GFF}c\t.\tg\t1\t9\t.\tx\t.\t.\n", "strand 'x' is none of"),
            (f"{GFF}c\t.\tCDS\t1\t9\t.\t+\t3\t.\n", "phase '3' is none of 0, 1, 2"),
            (f"{GFF}c\t.\tg\t1\t9\thigh\t+\t.\t.\n", "score 'high' is no number"),
        ],
    ),
    (
        "GFF3, GTF",
        "attributes of the other format, a quote that is not closed",
        "refused",
        [
            (f'{GFF}c\t.\tg\t1\t9\t.\t+\t.\tgene_id "x"\n', "are not key=value"),
            ('c\t.\tg\t1\t9\t.\t+\t.\tn "a\n', "a quote that is not closed"),
        ],
    ),
    (
        "VCF",
        "several alleles, `*`, `<DEL>`, breakends",
        "kept as written",
        [(f"{VCF}c\t1\t.\tA\tC,*,<DEL>,A]c:9]\t.\t.\t.\n", [(1, "A", "C", "*", "<DEL>", "A]c:9]")])],
    ),
    (
        "VCF",
        "lower case and IUPAC codes in REF and ALT",
        "kept as written",
        [(f"{VCF}c\t1\t.\tacR\tn\t.\t.\t.\n", [(1, "acR", "n")])],
    ),
    ("VCF", "`.` for ID, ALT, QUAL, FILTER, INFO", "none", [(f"{VCF}c\t1\t.\tA\t.\t.\t.\t.\n", [(1, "A")])]),
    (
        "VCF",
        "records that are not sorted",
        "kept in their order",
        [(f"{VCF}c\t9\t.\tA\tC\t.\t.\t.\nc\t1\t.\tG\tC\t.\t.\t.\n", [(9, "A", "C"), (1, "G", "C")])],
    ),
    (
        "VCF",
        "no header, or none before the first record",
        "refused",
        [
            ("c\t1\t.\tA\tC\t.\t.\t.\n", "line 1: not a VCF file"),
            ("##fileformat=VCFv4.3\nc\t1\t.\tA\tC\t.\t.\t.\n", "line 2: the first record without a line '#CHROM"),
        ],
    ),
    (
        "VCF",
        "blanks for tabs, missing columns",
        "refused",
        [
            (f"{VCF}c 1 . A C . . .\n", "line 3: 1 columns, divided by blanks where tabs are needed"),
            (f"{VCF}c\t1\t.\tA\tC\n", "line 3: 5 columns; a record has at least 8"),
            (VCF.replace("\t", " "), "divided by tabs, not by blanks"),
        ],
    ),
    (
        "VCF",
        "POS that is no number, REF `.`, ALT `-`",
        "refused",
        [
            (f"{VCF}c\t1e3\t.\tA\tC\t.\t.\t.\n", "POS '1e3' is no position"),
            (f"{VCF}c\t1\t.\t.\tC\t.\t.\t.\n", "REF '.' is no allele"),
            (f"{VCF}c\t1\t.\tA\t-\t.\t.\t.\n", "ALT '-' is no allele"),
        ],
    ),
    (
        "VCF",
        "header lines or empty lines among the records",
        "refused",
        [(f"{VCF}{COLUMNS}", "line 3: a header line among the records"), (f"{VCF}\n", "line 3: an empty line")],
    ),
    ("letters", "A, C, G, T, U, N, IUPAC codes, lower case", "read", [("ACGTUNacgtun ACGTACRYK", (0, 0))]),
    ("letters", "up to a tenth of others", "read as unknown, told", [("ACGTACGTAC-", (1, 0))]),
    ("letters", "more others: alignments, proteins", "refused", [("AC--GT", "2 of 6"), ("MKVLAAGI", "5 of 8 letters")]),
    (
        "letters",
        "IUPAC codes for more than half of a sequence",
        "not DNA: a peptide",
        [("MKVSTR", "6 letters")],
    ),
    ("letters", "nothing but N", "read, told", [("ACGT NNNN", (0, 1))]),
]


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [pytest.param(form, *file, id=f"{form}: {what}") for form, what, _, files in CASES for file in files],
)
def test_what_the_page_says_is_so(form, text, expected, tmp_path):
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            READERS[form](tmp_path, text)
    else:
        assert READERS[form](tmp_path, text) == expected


def test_the_page_has_every_case():
    rows = re.findall(r"^\| (FASTA|BED|GFF3, GTF|VCF|letters) \| (.+?) \| (.+?) \|$", DOCS.read_text(), re.MULTILINE)
    assert rows[-len(CASES) :] == [(form, what, outcome) for form, what, outcome, _ in CASES]
    for *_, outcome, files in CASES:
        assert (outcome in ("refused", "not DNA: a peptide")) == all(isinstance(one, str) for _, one in files)
