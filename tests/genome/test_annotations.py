"""GFF3 and GTF: coordinates, attributes of both, what is kept beside the features, bad lines refused by line."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.annotations import (
    Feature,
    Remark,
    make_feature,
    read_annotations,
    read_features,
    write_annotations,
)
from gengram.genome.text import MARK

GFF3 = """\
##gff-version 3.1.26
##sequence-region chr1 1 1000
# a comment
chr%201\tRef%09Seq\tgene\t1\t9\t.\t+\t.\tID=g1;Name=a%2Cb,c;Note=x=y;empty=;Parent=p1,p2;Note=z;odd; key%3D=%zz+é

chr1\t.\tCDS\t10\t10\t1e-3\t?\t2\tID=cds
chr1\t.\tCDS\t10\t12\t-.5\t-\t.\t.
###
##FASTA
>chr1 first
AC\tGT
#no comment
"""

GTF = """\
#!genome-build GRCh38
chr1\tHAVANA\tgene\t1\t9\t.\t+\t.\tgene_id "g;1"; tag "a"; level 2; tag "b,c"; note "say \\"hi\\" \\\\"; partial; # end
browser position chr1:1-9
track name="x y"
chr1\tHAVANA\tCDS\t5\t9\t7\t-\t0\tgene_id ""; transcript_id  "t 1" ;exon_number 3
"""


def write(folder: Path, text: str, name: str = "t.txt") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


@pytest.fixture(scope="module")
def real(shared) -> list[Path]:
    """Annotations of the real genomes."""
    found = sorted(
        path for form in ("gff", "gtf") for path in (shared / "data" / "genomes").rglob(f"*.{form}*") if path.is_file()
    )
    return found or pytest.skip("no annotations in ../shared/data/genomes")


def test_real_files_are_copied_byte_for_byte(real, tmp_path):
    for path in real:
        found, entries = read_annotations(path)
        entries = list(entries)
        write_annotations(tmp_path / "copy", entries)
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert (tmp_path / "copy").read_bytes() == content
        assert found == ("gtf" if ".gtf" in path.name else "gff3")
        lines = content.decode().splitlines()
        for feature in entries:
            if isinstance(feature, Feature):
                columns = lines[feature.line - 1].split("\t")
                assert (feature.seqid, feature.type, feature.strand) == (columns[0], columns[2], columns[6])
                assert (feature.start + 1, feature.end) == (int(columns[3]), int(columns[4]))


def test_real_features_are_made_again(real):
    for path in real:
        for old in read_features(path):
            new = make_feature(
                old.seqid,
                old.type,
                old.start,
                old.end,
                old.attributes,
                source=old.source,
                score=old.score,
                strand=old.strand,
                phase=old.phase,
                format=old.format,
                line=old.line,
            )
            assert new.attributes == old.attributes
            assert new._replace(text="") == old._replace(text="")


def test_most_cds_of_a_genome_fit_their_parents(real):
    """A CDS lies inside the gene or transcript that its attributes name, so both are read rightly."""
    for path in real:
        features = list(read_features(path))
        by_id = {name: feature for feature in features for name in feature.attributes.get("ID", ())}
        pairs = [
            (feature, by_id[name])
            for feature in features
            if feature.type == "CDS"
            for name in feature.parents
            if name in by_id
        ]
        assert pairs
        assert all(outer.start <= inner.start < inner.end <= outer.end for inner, outer in pairs)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", MARK])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("text", [GFF3, GTF])
def test_all_lines_are_kept(text, end, mark, last, tmp_path):
    text = mark + text.replace("\n", end)
    path = write(tmp_path, text if last else text.removesuffix(end))
    write_annotations(tmp_path / "copy", read_annotations(path).entries)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_gff3_is_read(tmp_path):
    found, entries = read_annotations(write(tmp_path, GFF3, "t.gtf"))
    entries = list(entries)
    assert found == "gff3"
    gene, first, second = [entry for entry in entries if isinstance(entry, Feature)]
    assert gene[:9] == (4, "chr 1", "Ref\tSeq", "gene", 0, 9, None, "+", None)
    assert gene.attributes == {
        "ID": ("g1",),
        "Name": ("a,b", "c"),
        "Note": ("x=y", "z"),
        "empty": ("",),
        "Parent": ("p1", "p2"),
        "odd": (),
        "key=": ("%zz+é",),
    }
    assert gene.parents == ("p1", "p2")
    assert first[:9] == (6, "chr1", ".", "CDS", 9, 10, 0.001, "?", 2)
    assert second[:9] == (7, "chr1", ".", "CDS", 9, 12, -0.5, "-", None)
    assert second.attributes == {} and second.parents == ()
    remarks = [(entry.line, entry.kind, entry.words) for entry in entries if isinstance(entry, Remark)]
    assert remarks == [
        (1, "directive", ["gff-version", "3.1.26"]),
        (2, "directive", ["sequence-region", "chr1", "1", "1000"]),
        (3, "comment", []),
        (5, "empty", []),
        (8, "directive", ["#"]),
        *((line, "fasta", []) for line in range(9, 13)),
    ]


def test_gtf_is_read(tmp_path):
    found, entries = read_annotations(write(tmp_path, GTF, "t.gff3"))
    entries = list(entries)
    assert found == "gtf"
    gene, cds = [entry for entry in entries if isinstance(entry, Feature)]
    assert gene[:9] == (2, "chr1", "HAVANA", "gene", 0, 9, None, "+", None)
    assert gene.attributes == {
        "gene_id": ("g;1",),
        "tag": ("a", "b,c"),
        "level": ("2",),
        "note": ('say "hi" \\',),
        "partial": (),
    }
    assert cds[:9] == (5, "chr1", "HAVANA", "CDS", 4, 9, 7.0, "-", 0)
    assert cds.attributes == {"gene_id": ("",), "transcript_id": ("t 1",), "exon_number": ("3",)}
    assert [entry.kind for entry in entries if isinstance(entry, Remark)] == ["comment", "track", "track"]


start = "c\t.\tgene\t1\t2\t.\t+\t.\t"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (start + 'gene_id "a=b";\n', "t.gff3", "gtf"),
        (start + "gene_id 7\n", "t", "gtf"),
        (start + 'ID=a;Note=gene_id "x";\n', "t.gtf", "gff3"),
        (f"{MARK}{start}ID=a\n", "t.gtf", "gff3"),
        (f"{start}.\n{start}\n{start}ID=a\n", "t.gtf", "gff3"),
        (f"{MARK}##gff-version 3\n{start}.\n", "t.gtf", "gff3"),
        (f"##gff-version 2\n{start}ID=a\n", "t.gtf", "gff3"),
        (f'##gff-version 2\n{start}Note "a"\n', "t.gff", "gtf"),
        (f"{start}.\n", "t.gtf", "gtf"),
        (f"{start}.\n", "t.GTF.txt", "gff3"),
        (f"{start}.\n", "t.gff", "gff3"),
        (">chr1\nACGT\n", "t", "gff3"),
        ("# nothing\n", "t", "gff3"),
        (f"{start}.\n" * 2000, "t.gtf", "gtf"),
    ],
)
def test_the_format_is_seen(text, name, expected, tmp_path):
    found, entries = read_annotations(write(tmp_path, text, name))
    assert found == expected
    assert "".join(entry.text for entry in entries) == text


def line(**changed: str) -> str:
    columns = {"seqid": "c", "source": ".", "type": "CDS", "start": "5", "end": "9", "score": ".", "strand": "+"}
    columns |= {"phase": "0", "attributes": "ID=a", **changed}
    return "\t".join(columns.values()) + "\n"


wrong = {
    "eight columns": ("c\t.\tCDS\t5\t9\t.\t+\t0\n", "8 columns; a feature has 9: seqid, source"),
    "ten columns": (line(attributes="ID=a\tb"), "10 columns; a feature has 9"),
    "blanks": ("c . CDS 5 9 . + 0 ID=a\n", "1 columns, divided by blanks where tabs are needed"),
    "no text": ("what\n", "1 columns; a feature"),
    "no start": (line(start="."), r"start '\.' is not a position \(a whole number of at least 1\)"),
    "text": (line(end="nine"), "end 'nine' is not a position"),
    "below 0": (line(start="-5"), "start '-5' is not"),
    "a part": (line(start="5.0"), r"start '5\.0' is not"),
    "other digits": (line(start="\u0661"), "start '\u0661' is not"),
    "huge": (line(end="9" * 5000), "end '999"),
    "from 0": (line(start="0"), "start 0; positions count from 1 in GFF3, is this a BED file"),
    "turned": (line(start="10"), "start 10 comes after end 9; .* strand '-' .* circle"),
    "score": (line(score="high"), r"score 'high' is no number; write '\.'"),
    "score of Python": (line(score="1_0"), "score '1_0' is no number"),
    "no score": (line(score=""), "score '' is no number"),
    "strand": (line(strand="forward"), r"strand 'forward' is none of \+ - \. \?"),
    "phase": (line(phase="3"), "phase '3' is none of 0, 1, 2"),
    "no contig": (line(seqid=""), "seqid is empty"),
    "no type": (line(type=""), "type is empty"),
    "GTF": (line(attributes='gene_id "a";'), "attributes .* are not key=value; in GFF3 they are, is this GTF"),
    "free text": (line(attributes="AT1G01010"), "attributes 'AT1G01010' are not key=value; write them so, or"),
    "old Mac": (line(attributes="ID=a\rc"), "a carriage return"),
}


@pytest.mark.parametrize("fault", wrong)
def test_bad_lines_are_refused(fault, tmp_path):
    text, message = wrong[fault]
    path = write(tmp_path, f"##gff-version 3\n{line()}{text}{line()}")
    with pytest.raises(InputError, match=rf"t\.txt, line 3: {message}"):
        write_annotations(tmp_path / "copy", read_annotations(path).entries)
    assert [file.name for file in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('gene_id "a', "a quote that is not closed"),
        ('gene_id "a"; b "c', "a quote that is not closed"),
        ('gene_id "a"; b "c\\"; d "e"', "a quote that is not closed"),
        ("ID=a", "are those of GFF3, the lines before are GTF"),
    ],
)
def test_bad_attributes_of_gtf_are_refused(attributes, message, tmp_path):
    path = write(tmp_path, line(attributes='gene_id "x;y"') + line(attributes=attributes))
    with pytest.raises(InputError, match=rf"t\.txt, line 2: attributes .* {message}"):
        list(read_features(path))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"t\.txt: the file is empty"):
        read_annotations(write(tmp_path, ""))


@pytest.mark.parametrize(
    "attributes", ['"a;b"' * 200_001 + ";", "a" * 10**6 + " " * 10**6, 'a "' + '\\"' * 10**6, '"' * 10**6]
)
def test_a_long_line_takes_no_long_time(attributes, tmp_path):
    path = write(tmp_path, line(attributes=attributes), "t.gtf")
    try:
        for feature in read_features(path):
            assert feature.attributes is not None
    except InputError as error:
        assert "not closed" in str(error)


# Whatever a column may hold.
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
features = {
    "type": names,
    "source": names,
    "score": st.none() | st.integers(-99, 99).map(float),
    "strand": st.sampled_from("+-.?"),
    "phase": st.sampled_from([None, 0, 1, 2]),
}


@settings(max_examples=150, deadline=None)
@given(
    names,
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.dictionaries(names, st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3)),
    st.fixed_dictionaries(features),
)
def test_any_feature_of_gff3_comes_back(tmp_path_factory, seqid, start, length, attributes, rest):
    given = {key: tuple(values) for key, values in attributes.items()}
    feature = make_feature(seqid, rest.pop("type"), start, start + length, given, **rest)
    path = tmp_path_factory.mktemp("any") / "t.gff3"
    write_annotations(path, [Remark(1, "directive", "##gff-version 3\n"), feature])
    again = list(read_features(path))
    assert again == [feature._replace(line=2)]
    assert again[0].attributes == given


plain = st.text(st.characters(exclude_characters="\0\t\r\n", exclude_categories=["Cs"]), max_size=8)
words = st.from_regex(r"[A-Za-z_][\w.]{0,8}", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(
    words,
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.dictionaries(words, st.lists(plain, min_size=1, max_size=3), min_size=1),
    st.fixed_dictionaries(features | {"type": words, "source": words}),
)
def test_any_feature_of_gtf_comes_back(tmp_path_factory, seqid, start, length, attributes, rest):
    given = {key: tuple(values) for key, values in attributes.items()}
    feature = make_feature(seqid, rest.pop("type"), start, start + length, given, format="gtf", line=1, **rest)
    path = tmp_path_factory.mktemp("any") / "t"
    write_annotations(path, [feature])
    assert list(read_features(path)) == [feature]
    assert feature.attributes == given


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": 5}, "holds no bases"),
        ({"start": -1}, "holds no bases"),
        ({"strand": "x"}, "strand 'x'"),
        ({"phase": 3}, "phase 3"),
        ({"seqid": ""}, "a name is empty"),
        ({"attributes": {"": "a"}}, "a name is empty"),
        ({"attributes": {"a": "b\tc"}, "format": "gtf"}, "GTF cannot write a tab"),
        ({"seqid": "#c", "format": "gtf"}, "GTF cannot write .* seqid"),
        ({"attributes": {"a b": "c"}, "format": "gtf"}, "GTF cannot write the key 'a b'"),
    ],
)
def test_what_is_no_feature_is_not_made(changed, message):
    with pytest.raises(ValueError, match=message):
        make_feature(**{"seqid": "c", "type": "gene", "start": 0, "end": 5, **changed})


def test_a_feature_without_a_score(tmp_path):
    feature = make_feature("c", "gene", 0, 5, {"ID": "a"}, score=float("nan"))
    assert feature.text == "c\tgengram\tgene\t1\t5\t.\t.\t.\tID=a\n"
    assert feature.score is None
    assert make_feature("c", "gene", 0, 5).text.endswith("\t.\n")


def test_bgzip_is_written(tmp_path):
    pytest.importorskip("pysam", reason="bgzip is written by pysam")
    write_annotations(tmp_path / "t.gff3.gz", read_annotations(write(tmp_path, GFF3)).entries)
    assert gzip.decompress((tmp_path / "t.gff3.gz").read_bytes()) == GFF3.encode()
    assert [feature.start for feature in read_features(tmp_path / "t.gff3.gz")] == [0, 9, 9]
