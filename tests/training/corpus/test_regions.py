"""Files of intervals and annotations as segments, anchors and classes: against plain looks at each base."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.fasta import read_fasta
from gengram.training.corpus.records import Records
from gengram.training.corpus.regions import (
    CLASSES,
    classify_record,
    cut_segments,
    read_annotation,
    read_spans,
    weigh_anchors,
)
from gengram.training.corpus.spans import count_bases, merge_spans

LENGTH = 60
spans = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), max_size=5).map(
    lambda several: merge_spans(np.array(several, dtype=np.int64))
)


def encode(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def mark(several: np.ndarray, length: int = LENGTH) -> np.ndarray:
    marked = np.zeros(length, dtype=bool)
    for start, end in several.tolist():
        marked[start:end] = True
    return marked


def list_spans(table: dict[str, np.ndarray]) -> dict[str, list[list[int]]]:
    return {record: several.tolist() for record, several in table.items()}


letters = st.text(alphabet="AcN", min_size=LENGTH, max_size=LENGTH).map(encode)


@given(letters, st.integers(0, 4), spans | st.none(), spans | st.none(), spans, spans, st.integers(1, 6))
def test_segments_are_the_longest_stretches_without_what_cuts_them(letters, n_run, keep, drop, held, test, least):
    test = merge_spans(np.argwhere(mark(test) & ~mark(held)).repeat(2, axis=1) + [0, 1])
    found = cut_segments(letters, max_n_run=n_run, held_out={1: held, 2: test}, keep=keep, drop=drop, min_length=least)
    split = np.zeros(LENGTH, dtype=int)
    split[mark(held)], split[mark(test)] = 1, 2
    usable = np.ones(LENGTH, dtype=bool) if keep is None else mark(keep)
    usable &= True if drop is None else ~mark(drop)
    text, place = letters.tobytes().decode(), 0
    while place < LENGTH:
        end = place
        while end < LENGTH and text[end] == "N":
            end += 1
        if end - place > n_run:
            usable[place:end] = False
        place = end + 1
    expected, place = [], 0
    while place < LENGTH:
        end = place
        while end < LENGTH and usable[end] and split[end] == split[place]:
            end += 1
        if end - place >= least:
            expected.append((place, end, split[place]))
        place = max(end, place + 1)
    assert list(zip(*(column.tolist() for column in found))) == expected
    assert [column.dtype for column in found] == [np.int64, np.int64, np.int8]


def test_two_splits_that_share_bases_are_refused():
    held = np.array([[0, 10]])
    with pytest.raises(ValueError, match="split 2 shares bases 9 to 10"):
        cut_segments(encode("A" * 20), max_n_run=1, held_out={1: held, 2: np.array([[9, 12]])})


weights = st.sampled_from([0.0, 0.25, 1.0, 3.0])


@given(letters, spans, spans, spans | st.none(), weights, weights)
def test_anchors_have_the_weight_of_each_base(letters, held, genes, zone, gene_weight, masked_weight):
    segments = cut_segments(letters, max_n_run=2, held_out={1: held})
    anchors = weigh_anchors(
        segments, letters, zone=zone, genes=genes, gene_weight=gene_weight, soft_masked_weight=masked_weight
    )
    weight = np.zeros(LENGTH)
    segment = np.full(LENGTH, -1)
    for number, (start, end, split) in enumerate(zip(*(column.tolist() for column in segments))):
        segment[start:end] = number
        weight[start:end] = 1
        if not split:
            inside = np.zeros(LENGTH, dtype=bool)
            inside[start:end] = True
            weight[inside & mark(genes)] *= gene_weight
            weight[inside & (letters >= ord("a"))] *= masked_weight
            weight[inside & (False if zone is None else ~mark(zone))] = 0
    found = np.zeros(LENGTH)
    for number, start, end, one in zip(*(column.tolist() for column in anchors)):
        assert start < end and one > 0
        assert (segment[start:end] == number).all()
        assert not found[start:end].any()
        found[start:end] = one
    assert found.tolist() == weight.tolist()
    starts, ends = anchors.start, anchors.end
    same = (starts[1:] == ends[:-1]) & (anchors.segment[1:] == anchors.segment[:-1])
    assert (starts[1:] >= ends[:-1]).all()
    assert (anchors.weight[1:][same] != anchors.weight[:-1][same]).all()  # as few as can be
    assert [column.dtype for column in anchors] == [np.int32, np.int64, np.int64, np.float32]


def test_without_rules_a_segment_is_one_anchor_of_weight_1():
    letters = encode("ACGT" * 5 + "N" * 9 + "acgt")
    anchors = weigh_anchors(cut_segments(letters, max_n_run=8), letters)
    assert list(zip(*(column.tolist() for column in anchors))) == [(0, 0, 20, 1.0), (1, 29, 33, 1.0)]


@given(spans, st.integers(0, 8), st.integers(4, 12))
def test_windows_that_hold_an_anchor_are_those_near_a_gene(tmp_path_factory, genes, distance, window):
    """The rule of Gengram's first stage, a window at a time."""
    if not len(genes):
        return
    path = tmp_path_factory.mktemp("genes") / "genes.bed"
    path.write_text("".join(f"c\t{start}\t{end}\n" for start, end in genes.tolist()))
    zone = read_annotation(path, Records({"c": LENGTH}, "genome.fa")).find_genes(distance)["c"]
    for start in range(LENGTH - window + 1):
        held = range(start, start + window)
        # From base to base, 0 inside a gene.
        nearest = min(
            0 if first <= base < end else first - base if base < first else base - (end - 1)
            for base in held
            for first, end in genes.tolist()
        )
        assert mark(zone)[start : start + window].any() == (nearest <= distance)


GFF3 = """##gff-version 3
7\t.\tgene\t11\t40\t.\t+\t.\tID=g
7\t.\tmRNA\t11\t40\t.\t+\t.\tID=t;Parent=g
7\t.\texon\t11\t15\t.\t+\t.\tParent=t
7\t.\tCDS\t14\t18\t.\t+\t0\tParent=t
7\t.\texon\t31\t40\t.\t+\t.\tParent=t
7\t.\tintron\t1\t60\t.\t+\t.\tParent=t
7\t.\tpseudogene\t46\t50\t.\t+\t.\tID=p
9\t.\tgene\t1\t5\t.\t+\t.\tID=lost
"""
GTF = """7\t.\texon\t11\t15\t.\t+\t.\tgene_id "g"; transcript_id "t";
7\t.\texon\t31\t40\t.\t+\t.\tgene_id "g"; transcript_id "u";
7\t.\tCDS\t51\t52\t.\t+\t0\tgene_id "h"; transcript_id "v";
"""
TRANSCRIPTS = """7\t.\ttranscript\t11\t40\t.\t+\t.\tgene_id "g"; transcript_id "t";
7\t.\texon\t11\t15\t.\t+\t.\tgene_id "g"; transcript_id "t";
7\t.\texon\t31\t40\t.\t+\t.\tgene_id "g"; transcript_id "t";
7\t.\ttranscript\t51\t52\t.\t+\t.\tgene_id "h"; transcript_id "v";
"""
RECORDS = Records({"chr7": 60, "chr8": 10}, "genome.fa")


@pytest.mark.parametrize(
    ("name", "content", "genes", "exons", "introns"),
    [
        ("a.gff3", GFF3, [[10, 40], [45, 50]], [[10, 18], [30, 40], [45, 50]], [[18, 30]]),
        ("a.gtf", GTF, [[10, 40], [50, 52]], [[10, 15], [30, 40], [50, 52]], [[15, 30]]),
        ("b.gtf", TRANSCRIPTS, [[10, 40], [50, 52]], [[10, 15], [30, 40], [50, 52]], [[15, 30]]),
    ],
)
def test_genes_exons_and_introns_of_annotations(tmp_path, name, content, genes, exons, introns):
    path = tmp_path / name
    path.write_text(content)
    annotation = read_annotation(path, RECORDS)
    assert list_spans(annotation.find_genes()) == {"chr7": genes, "chr8": []}
    assert list_spans(annotation.exons) == {"chr7": exons, "chr8": []}
    assert list_spans(annotation.introns) == {"chr7": introns, "chr8": []}
    found, kinds = classify_record("chr7", 60, annotation)
    assert found[0, 0] == 0 and found[-1, 1] == 60 and (found[1:, 0] == found[:-1, 1]).all()
    by_class = {name: found[kinds == number].tolist() for number, name in enumerate(CLASSES)}
    assert (by_class["exon"], by_class["intron"]) == (exons, introns)
    assert classify_record("chr8", 10, annotation)[0].tolist() == []  # nobody has annotated it


def test_what_a_file_has_on_other_contigs_is_said_once_and_skipped(tmp_path, capsys):
    path = tmp_path / "a.gff3"
    path.write_text(GFF3)
    read_annotation(path, RECORDS)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"{path}: contigs have other names in genome.fa: 7 is chr7",
        f"{path}: 1 records are skipped: they lie on a contig that genome.fa does not have (9: 1)",
    ]


def test_genes_of_a_bed_file_are_those_of_its_type_and_say_nothing_of_exons(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("#chrom\tstart\tend\tid\ttype\nchr7\t10\t20\ta\tgene\nchr7\t30\t40\tb\tARS\n")
    annotation = read_annotation(path, RECORDS)
    assert list_spans(annotation.find_genes(5)) == {"chr7": [[5, 25]], "chr8": []}
    assert classify_record("chr7", 60, annotation)[0].tolist() == []
    assert list_spans(read_spans(path, RECORDS)) == {"chr7": [[10, 20], [30, 40]], "chr8": []}
    assert list_spans(read_spans(path, RECORDS, ["ARS"], 25)) == {"chr7": [[5, 60]], "chr8": []}
    with pytest.raises(InputError, match=r"no record of type 'genes'; did you mean 'gene'\?; its types are gene \(1\)"):
        read_spans(path, RECORDS, ["genes"])
    plain = tmp_path / "plain.bed"
    plain.write_text("chr7 10 20\nchr7 15 30\n")
    assert list_spans(read_annotation(plain, RECORDS).find_genes()) == {"chr7": [[10, 30]], "chr8": []}
    with pytest.raises(InputError, match="no header of it names a column 'type'"):
        read_spans(plain, RECORDS, ["gene"])


def test_several_annotations_are_one(tmp_path):
    (tmp_path / "a.gff3").write_text(GFF3.replace("9\t.", "8\t."))
    (tmp_path / "b.gtf").write_text(GTF.replace("\t51\t52", "\t56\t57"))
    annotation = read_annotation([tmp_path / "a.gff3", tmp_path / "b.gtf"], RECORDS)
    assert list_spans(annotation.exons) == {"chr7": [[10, 18], [30, 40], [45, 50], [55, 57]], "chr8": [[0, 5]]}
    assert list_spans(annotation.introns) == {"chr7": [[18, 30]], "chr8": []}


def test_a_gene_beside_a_slice_reaches_into_it(tmp_path):
    path = tmp_path / "a.gff3"
    path.write_text("##gff-version 3\n7\t.\tgene\t91\t95\t.\t+\t.\tID=g\n7\t.\tgene\t151\t900\t.\t+\t.\tID=h\n")
    records = Records({"chr7:101-200": 100}, "genome.fa")
    annotation = read_annotation(path, records)
    assert list_spans(annotation.find_genes()) == {"chr7:101-200": [[50, 100]]}
    assert list_spans(annotation.find_genes(8)) == {"chr7:101-200": [[0, 3], [42, 100]]}
    assert list_spans(read_spans(path, records, ["gene"], 6)) == {"chr7:101-200": [[0, 1], [44, 100]]}


def test_a_gene_of_which_a_slice_has_no_exon_is_an_intron_there(tmp_path):
    path = tmp_path / "a.gff3"
    path.write_text(GFF3)
    annotation = read_annotation(path, Records({"chr7:21-30": 10}, "genome.fa"))
    found, kinds = classify_record("chr7:21-30", 10, annotation)
    assert (found.tolist(), [CLASSES[kind] for kind in kinds]) == ([[0, 10]], ["intron"])


def test_a_feature_across_the_origin_of_a_circle_is_on_both_ends(tmp_path):
    path = tmp_path / "a.gff3"
    path.write_text(
        "##gff-version 3\nchr7\t.\tregion\t1\t60\t.\t+\t.\tID=c;Is_circular=true\n"
        "chr7\t.\tgene\t56\t65\t.\t+\t.\tID=g\n"
    )
    assert list_spans(read_annotation(path, RECORDS).find_genes())["chr7"] == [[0, 5], [55, 60]]
    path.write_text("##gff-version 3\nchr7\t.\tgene\t56\t65\t.\t+\t.\tID=g\n")
    with pytest.raises(InputError, match=r"a.gff3, line 2: interval chr7:55-65 .* past the end of contig 'chr7'"):
        read_annotation(path, RECORDS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.bed",
            "chr7 10 20\nchr7 50 61\n",
            "line 2: interval chr7:50-61 .* ends at 61, past the end of contig 'chr7'",
        ),
        ("a.bed", "chr7 10 20\nchr7 20 20\n", "line 2: interval chr7:20-20 holds no bases"),
        ("a.bed", "chr7 x 20\n", "line 1"),
        ("a.bed", "", "empty|no intervals"),
        ("a.bed", "chrX 1 2\n", r"the genome genome.fa has none of its contigs, as 'chrX'; it has chr7, chr8"),
        ("a.gff3", "##gff-version 3\n", "no gene, transcript or exon|no interval"),
        ("a.gff3", "##gff-version 3\nchr7\t.\tARS\t1\t5\t.\t+\t.\t.\n", "no gene, transcript or exon"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_annotation(path, RECORDS)
    if "ARS" not in content:
        with pytest.raises(InputError):
            read_spans(path, RECORDS)


def test_real_annotations(shared, capsys):
    genomes = shared / "data" / "genomes"
    for fasta, file, lost, bases in (
        (
            "athaliana_1pct/athaliana_1pct_without_Chr5.fa.gz",
            "athaliana_1pct/athaliana_1pct.gff3.gz",
            "Chr5: 5,938",
            True,
        ),
        ("yeast_R64/R64-1-1_without_XVI.fa.gz", "yeast_R64/sgd_features.bed.gz", "chrXVI: 510, chrmt: 50", False),
        ("ecoli_K12/NC_000913.3_1-4200000.fa.gz", "ecoli_K12/ASM584v2.gff.gz", "", True),
    ):
        texts = {header.split()[0]: encode(text) for _, header, text in read_fasta(genomes / fasta)}
        records = Records({name: len(text) for name, text in texts.items()}, fasta)
        annotation = read_annotation(genomes / file, records)
        told = capsys.readouterr().err
        assert lost in told and ("skipped" in told) == bool(lost)
        genes, zone = annotation.find_genes(), annotation.find_genes(5120)
        assert sum(map(count_bases, genes.values())) > 0.3 * sum(map(len, texts.values()))
        for name, text in texts.items():
            segments = cut_segments(text, max_n_run=100)
            anchors = weigh_anchors(segments, text, zone=zone[name])
            assert (anchors.end - anchors.start).sum() == (
                mark(zone[name], len(text)) & mark_segments(segments, len(text))
            ).sum()
            found, _ = classify_record(name, len(text), annotation)
            if bases and name in annotation.classified:
                assert count_bases(found) == len(text)
        assert bool(annotation.classified) == bases


def mark_segments(segments, length: int) -> np.ndarray:
    return mark(np.stack([segments.start, segments.end], axis=1), length)


def test_exons_of_a_real_annotation_begin_and_end_as_exons_do(shared):
    """Most introns of A. thaliana begin with GT and end with AG, or the other way round on the other strand."""
    folder = shared / "data" / "genomes" / "athaliana_1pct"
    texts = {header.split()[0]: text for _, header, text in read_fasta(folder / "athaliana_1pct_without_Chr5.fa.gz")}
    records = Records({name: len(text) for name, text in texts.items()}, "A. thaliana")
    annotation = read_annotation(folder / "athaliana_1pct.gff3.gz", records)
    ends = [
        (texts[name][start : start + 2].upper(), texts[name][end - 2 : end].upper())
        for name, several in annotation.introns.items()
        for start, end in several.tolist()
        if end - start > 60
    ]
    assert len(ends) > 900
    assert sum(one in (("GT", "AG"), ("CT", "AC")) for one in ends) > 0.9 * len(ends)
