"""The rules of a recipe, from its files to the windows that are drawn: annotations, soft masks, variants."""

import bisect
import gzip

import numpy as np
import pytest

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.fasta import read_fasta
from gengram.genome.variants import read_variants
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.command import show
from gengram.training.corpus.reading import INSERTED, locate_letters, read_window
from gengram.training.corpus.store import open_corpus
from gengram.training.corpus.windows import Drawing, WindowSource

LENGTH = 30_000
GENES = [(4_000, 7_000), (18_000, 18_400)]


def build(folder, recipe, genomes=None):
    (folder / "recipe.yaml").write_text(recipe)
    build_corpus(folder / "recipe.yaml", folder / "corpus", genomes=genomes or folder)
    return open_corpus(folder / "corpus")


def trim(position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Cut an allele to what it changes; returns where that begins, from 0, and both texts."""
    start = position - 1
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    return start, ref, alt


def change(reference: str, rows: list[tuple[int, str, str]]) -> tuple[str, list[int]]:
    """Put alleles (position from 1, REF, ALT) into a sequence, from its end on; also returns where its letters are."""
    letters, places = list(reference), list(range(len(reference)))
    for position, ref, alt in reversed(rows):
        start, ref, alt = trim(position, ref, alt)
        paired = min(len(ref), len(alt))
        masked = reference[start if ref else start - 1].islower()
        letters[start : start + len(ref)] = alt.lower() if masked else alt
        places[start : start + len(ref)] = [*range(start, start + paired), *[INSERTED] * (len(alt) - paired)]
    return "".join(letters), places


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """A contig with soft masks and N, an annotation, and two phased samples whose alleles lie apart."""
    folder = tmp_path_factory.mktemp("genome")
    random = np.random.default_rng(0)
    text = "".join(random.choice(list("ACGT"), LENGTH))
    for start in range(500, LENGTH, 1_500):
        text = text[:start] + text[start : start + 300].lower() + text[start + 300 :]
    text = text[:12_000] + "N" * 400 + text[12_400:]
    (folder / "a.fa.gz").write_bytes(gzip.compress(f">chr7 made\n{text}\n>chr8\n{text[::-1][:9_000]}\n".encode()))
    lines = ["##gff-version 3"]
    for start, end in GENES:
        lines += [
            f"7\t.\tgene\t{start + 1}\t{end}\t.\t+\t.\tID=g{start}",
            f"7\t.\texon\t{start + 1}\t{start + 90}\t.\t+\t.\tParent=g",
        ]
    (folder / "a.gff3").write_text("\n".join([*lines, "9\t.\tgene\t1\t5\t.\t+\t.\tID=x"]) + "\n")
    rows, alleles = [], {"s.1": [], "s.2": [], "t.1": [], "t.2": []}
    for position in range(40, LENGTH - 40, 97):
        ref = text[position - 1 : position - 1 + int(random.integers(1, 5))].upper()
        alt = (
            (ref[0] + "".join(random.choice(list("ACGT"), random.integers(0, 5))), "TGCA"["ACGT".index(ref[0])])[
                int(random.integers(0, 2))
            ]
            if "N" not in ref
            else ""
        )
        if not alt or alt == ref:
            continue
        having = random.integers(0, 2, 4)
        rows.append(
            f"7\t{position}\t.\t{ref}\t{alt}\t.\t.\tAF=0.4\tGT:DP\t{having[0]}|{having[1]}:3\t{having[2]}|{having[3]}:9"
        )
        for name, one in zip(alleles, having):
            if one:
                alleles[name].append((position, ref, alt))
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\tt\n"
    (folder / "a.vcf.gz").write_bytes(gzip.compress((head + "\n".join(rows) + "\n").encode()))
    return folder, text, alleles


def test_windows_of_haplotypes_are_the_samples_sequences_on_both_strands(tmp_path, genome):
    folder, text, alleles = genome
    corpus = build(
        tmp_path,
        "name: a\nmax_shared: null\ngenomes: [{species: s, fasta: a.fa.gz, vcf: a.vcf.gz, samples: all, "
        "hold_out: {validation: [chr8]}}]",
        folder,
    )
    assert corpus.facts["haplotypes"] == list(alleles)
    wholes = [change(text, rows) for rows in alleles.values()]
    source = WindowSource(corpus, Drawing(length=700, strand="random", max_n=1.0, haplotype_share=0.9), seed=3)
    windows = source.draw(np.arange(300))
    seen = set()
    for number in range(300):
        window = windows.get(number)
        letters = read_window(corpus, window).tobytes().decode()
        places = locate_letters(corpus, window).tolist()
        assert len(letters) == len(places) == 700
        if window.strand:
            letters, places = reverse_complement(letters), places[::-1]
        whole, known = wholes[window.haplotype] if window.haplotype >= 0 else (text, list(range(LENGTH)))
        # Where the window begins in the sample's sequence: at its first letter that the reference has, too.
        ahead = next(number for number, place in enumerate(places) if place != INSERTED)
        first = known.index(places[ahead]) - ahead
        assert letters == whole[first : first + 700]
        assert places == known[first : first + 700]
        seen.add((window.haplotype, window.strand))
    assert len(seen) == 10


def test_windows_are_drawn_by_genes_and_by_what_is_not_soft_masked(tmp_path, genome, capsys):
    folder, text, _ = genome
    recipe = (
        "name: a\nmax_shared: null\ngenomes: [{species: s, fasta: a.fa.gz, annotation: a.gff3, near_genes: 200, "
        "gene_centred: 3, soft_masked_weight: 0, hold_out: {validation: ['chr7:20001-25000', chr8]}}]"
    )
    corpus = build(tmp_path, recipe, folder)
    weight = np.zeros(LENGTH)
    anchors, segments = corpus.anchors, corpus.segments
    train = segments.split[anchors.segment] == 0
    for contig, start, end, one in zip(
        *(
            column[train].tolist()
            for column in (segments.contig[anchors.segment], anchors.start, anchors.end, anchors.weight)
        )
    ):
        assert contig == 0
        weight[start:end] = one
    for base, letter in enumerate(text):
        away = min(max(start - base, base - (end - 1), 0) for start, end in GENES)
        expected = 0 if away > 200 or letter.islower() else 1 if away else 3
        assert weight[base] == expected, base
    windows = WindowSource(corpus, Drawing(length=256), seed=0).draw(np.arange(500))
    for start, end in zip(windows.start.tolist(), windows.end.tolist()):
        assert min(max(first - (end - 1), start - (last - 1), 0) for first, last in GENES) <= 200
    # What is held out is read whole, whatever training is drawn by.
    held = segments.split[anchors.segment] == 1
    assert (anchors.weight[held] == 1).all()
    assert int((anchors.end - anchors.start)[held].sum()) == 5_000 + 9_000
    with pytest.raises(InputError, match=r"covering reads every base .*near_genes.*order random"):
        WindowSource(corpus, Drawing(length=256, order="covering"), seed=0)
    assert "soft_masked_weight changes nothing" not in capsys.readouterr().err
    classes = {name: 0 for name in corpus.classes.names}
    for start, end, kind in zip(corpus.classes.start, corpus.classes.end, corpus.classes.kind):
        classes[corpus.classes.names[kind]] += int(end - start)
    assert classes == {"exon": 180, "intron": 3_400 - 180, "intergenic": LENGTH - 3_400}
    assert set(corpus.classes.contig.tolist()) == {0}  # of chr8 the annotation says nothing


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "vcf: other.vcf, samples: all",
            r"other.vcf: 100.0% of 1 records have another REF .*line 3: REF [ACGT], the genome has",
        ),
        ("vcf: a.vcf.gz, samples: [u]", "a.vcf.gz: it has no sample 'u'"),
        ("vcf: unphased.vcf, samples: all", "unphased.vcf, line 3: the genotype '0/1' of sample 's' has no phase"),
        ("drop: [far.bed]", "far.bed, line 1: .*past the end of contig 'chr7'"),
        ("annotation: far.bed, near_genes: 10", "far.bed, line 1: .*past the end"),
        (
            "annotation: a.gff3, soft_masked_weight: 0, keep: [masked.bed], hold_out: {test: [chr8:1-900]}",
            "no base is left",
        ),
        ("keep: [{file: a.gff3, types: [gen]}]", "no record of type 'gen'; did you mean 'gene'"),
    ],
)
def test_what_does_not_fit_the_genome_is_refused_and_nothing_is_left(tmp_path, genome, keys, message):
    folder, text, _ = genome
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n"
    wrong, right = ("TGCA"["ACGT".index(text[9])], text[9])
    (tmp_path / "other.vcf").write_text(f"{head}7\t10\t.\t{wrong}\t{right}\t.\t.\t.\tGT\t0|1\n")
    (tmp_path / "unphased.vcf").write_text(f"{head}7\t10\t.\t{right}\t{wrong}\t.\t.\t.\tGT\t0/1\n")
    (tmp_path / "masked.bed").write_text("chr7\t510\t700\nchr8\t0\t900\n")
    (tmp_path / "far.bed").write_text(f"7\t10\t{LENGTH + 1}\n")
    with pytest.raises(InputError, match=message):
        build(tmp_path, f"name: a\nmax_shared: null\ngenomes: [{{species: s, fasta: a.fa.gz, {keys}}}]")
    assert not (tmp_path / "corpus").exists()


HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n"


def test_of_several_files_those_of_other_chromosomes_are_skipped_and_counted(tmp_path, capsys):
    (tmp_path / "a.fa").write_text(f">chr1\n{'ACGT' * 500}\n")
    for name in ("1", "8", "9"):
        rows = "".join(f"chr{name}\t{place}\t.\tA\tC\t.\t.\t.\tGT\t0|1\n" for place in (5, 13, 21))
        (tmp_path / f"x{name}.vcf").write_text(HEAD + rows + f"chr{name}\t25\t.\tA\t<DEL>\t.\t.\t.\tGT\t1|1\n")
        (tmp_path / f"x{name}.gff3").write_text(f"##gff-version 3\nchr{name}\t.\tgene\t101\t200\t.\t+\t.\tID=g\n")
        (tmp_path / f"x{name}.bed").write_text(f"chr{name}\t1000\t1200\n")
    recipe = "name: a\ngenomes: [{species: s, fasta: a.fa, %s}]"
    rules = "vcf: 'x*.vcf', samples: all, annotation: 'x*.gff3', gene_centred: 2, drop: ['x*.bed']"
    corpus = build(tmp_path, recipe % rules)
    told = capsys.readouterr().err
    for kind, count in (("vcf", 4), ("gff3", 1), ("bed", 1)):
        assert (
            f"x9.{kind}: {count} records are skipped: they lie on a contig that s does not have (chr9: {count})" in told
        )
    assert corpus.find_edits(1, 0, 0, 2000).position.tolist() == [4, 12, 20]
    assert corpus.segments.end.tolist() == [1000, 2000] and corpus.anchors.start.tolist() == [0, 100, 200, 1200]
    counts = {"records": 12, "edits": 3, "skipped": {"other_contigs": 8, "symbolic": 1}, "noted": {}}
    assert corpus.facts["variants"] == [{"species": "s", **counts}]
    assert show([str(tmp_path / "corpus")]) == 0
    assert "variants of s: 12 records, 3 edits; skipped: 8 records on contigs that" in capsys.readouterr().out
    for pattern in ("vcf: 'x[89].vcf', samples: all", "annotation: 'x[89].gff3'", "drop: ['x[89].bed']"):
        with pytest.raises(InputError, match=r"x8\.\w+: the genome s has none of its contigs, as 'chr8'"):
            build_corpus(_write(tmp_path, recipe % pattern), tmp_path / "other")
    # A name that is nearly one of the genome is a fault of the file.
    text = (tmp_path / "x8.vcf").read_text().replace("chr8", "1")
    (tmp_path / "x8.vcf").write_text(text.replace("#CHROM", "##contig=<ID=1,length=77>\n#CHROM"))
    with pytest.raises(InputError, match=r"x8\.vcf: .*'1' is declared with 77"):
        build_corpus(_write(tmp_path, recipe % "vcf: 'x*.vcf', samples: all"), tmp_path / "other")


def _write(folder, recipe):
    (folder / "other.yaml").write_text(recipe)
    return folder / "other.yaml"


def test_haplotypes_without_any_edit_are_the_reference(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{'ACGT' * 50}\n")
    (tmp_path / "a.vcf").write_text(f"{HEAD}chr1\t1\t.\tA\tC\t.\t.\t.\tGT\t0|0\n")
    corpus = build(tmp_path, "name: a\ngenomes: [{species: s, fasta: a.fa, vcf: a.vcf, samples: all}]")
    assert corpus.facts["haplotypes"] == ["s.1", "s.2"] and len(corpus.haplotypes.position) == 0
    assert corpus.find_edits(1, 0, 0, 200).alternatives == [] and corpus.list_varied(1) == []
    windows = WindowSource(corpus, Drawing(length=50), seed=0).draw(np.arange(20))
    assert (windows.haplotype == -1).all()


def test_a_weight_of_soft_masks_that_no_genome_has_is_said(tmp_path, capsys):
    (tmp_path / "a.fa").write_text(f">c\n{'ACGTN' * 20}\n")
    build(tmp_path, "name: a\ngenomes: [{species: s, fasta: a.fa, soft_masked_weight: 0.1}]")
    assert "s: soft_masked_weight changes nothing: no letter is in lower case" in capsys.readouterr().err


def test_sites_of_a_real_file_are_the_edits_of_drawn_haplotypes(tmp_path, shared, capsys):
    folder = shared / "data" / "genomes" / "human_hg19_chr20"
    recipe = (
        "name: a\nmax_shared: null\ngenomes: [{species: human, fasta: '*.fa.gz', vcf: '*.vcf.gz', haplotypes: 3, "
        "vcf_contigs: {z: 'chr20:1000001-2000000'}}]"
    )
    corpus = build(tmp_path, recipe, folder)
    assert "28,998 records" in capsys.readouterr().err
    [(_, _, text)] = read_fasta(next(folder.glob("*.fa.gz")))
    alleles, expected = set(), 0.0
    for record in read_variants(next(folder.glob("*.vcf.gz"))).records:
        for allele, share in zip(record.alts, record.info["AF"].split(",")):
            expected += float(share)
            start, ref, alt = trim(record.pos, record.ref, allele)
            alleles.add((start, len(ref), alt))
            assert text[start : start + len(ref)] == ref
    for haplotype in range(3):
        edits = corpus.find_edits(haplotype, 0, 0, len(text))
        assert len(edits.position) == pytest.approx(expected, rel=0.1)
        places = edits.position.tolist()
        letters = [one.tobytes().decode() for one in edits.alternatives]
        assert set(zip(places, edits.reference_length.tolist(), letters)) <= alleles
        assert places == sorted(places)
        assert bisect.bisect(places, 500_000) == pytest.approx(len(places) / 2, rel=0.3)
