"""`build_corpus`: what is stored and where windows may lie, what is refused, and that a killed build goes on."""

import errno
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.fasta import read_fasta
from gengram.training.corpus import letters as letters_module
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.recipe import RECIPES, list_corpora, read_corpus_recipe
from gengram.training.corpus.store import SPLITS, Corpus, open_corpus
from gengram.training.evaluation.regions import list_classes

PROGRAM = Path(__file__).with_name("killed_build.py")


def draw(length: int, seed: int, letters: str = "ACGT") -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def write_fasta(path: Path, records: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = {name: [f"{text[at : at + 60]}\n" for at in range(0, len(text), 60)] for name, text in records.items()}
    data = "".join(f">{name}\n{''.join(lines)}" for name, lines in cut.items()).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def build(folder: Path, recipe: str, **options) -> Corpus:
    (folder / "recipe.yaml").write_text(recipe)
    build_corpus(folder / "recipe.yaml", folder / "corpus", **options)
    return open_corpus(folder / "corpus", check=True)


def list_segments(corpus: Corpus, split: str) -> list[tuple[int, int, int]]:
    rows = zip(*(column.tolist() for column in corpus.segments))
    return [row[:3] for row in rows if row[3] == SPLITS.index(split)]


def hash_folder(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_letters_are_kept_with_their_case_and_codes(tmp_path):
    text = "acgtnACGTNuURYKMryx-*" + draw(5000, 1)
    write_fasta(tmp_path / "a.fa", {"one two  three": text})
    corpus = build(tmp_path, "name: a\ngenomes: [{species: s, fasta: a.fa}]")
    stored = corpus.read(0, 0, len(text)).tobytes().decode()
    assert stored == "acgtnACGTNtTRYKMrynNN" + text[21:]
    assert (corpus.contigs[0].record, corpus.contigs[0].description) == ("one", "two  three")
    counts = corpus.facts["totals"]["splits"]["train"]
    assert (counts["bases"], counts["N"], counts["IUPAC"], counts["soft_masked"]) == (len(text), 5, 6, 9)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_stretch_is_that_of_the_file(made, data):
    corpus, texts = made
    contig = data.draw(st.integers(0, len(texts) - 1))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(texts[contig]))] * 2)))
    assert corpus.read(contig, start, end).tobytes().decode() == texts[contig][start:end]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Corpus, list[str]]:
    folder = tmp_path_factory.mktemp("made")
    texts = {f"c{number}": draw(length, number, "ACGTacgtNRy") for number, length in enumerate([1, 999, 1000, 7001])}
    names = list(texts)
    write_fasta(folder / "a.fa.gz", {name: texts[name] for name in names[:2]})
    write_fasta(folder / "b.fa", {name: texts[name] for name in names[2:]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letters_module, "ROW_LETTERS", 300)
        patch.setattr(letters_module, "SHARD_LETTERS", 2000)
        corpus = build(folder, "name: a\ngenomes: [{species: s, fasta: [a.fa.gz, b.fa]}]")
    return corpus, list(texts.values())


def test_small_parts_join(made):
    corpus, texts = made
    rows = load_from_disk(corpus.folder / "letters")
    assert len(list((corpus.folder / "letters").glob("*.arrow"))) == 5
    assert [len(one) for one in rows["letters"]][:5] == [1, 300, 300, 300, 99]
    assert sum(map(len, rows["letters"])) == sum(map(len, texts))
    for contig, text in zip(corpus.contigs, texts):
        assert contig.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_datasets_reads_it_by_its_card(made, tmp_path):
    corpus, texts = made
    rows = load_dataset(str(corpus.folder), "letters", split="train", cache_dir=str(tmp_path))
    assert bytes(rows[0]["letters"]).decode() == texts[0]
    contigs = load_dataset(str(corpus.folder), "contigs", split="train", cache_dir=str(tmp_path))
    assert contigs["record"] == [contig.record for contig in corpus.contigs]


def test_what_is_held_out_or_left_out_is_in_no_segment_of_training(tmp_path):
    texts = {"chr1": draw(4000, 1), "chr2": draw(3000, 2), "chr3:101-3100": draw(3000, 3), "chr4": draw(2000, 4)}
    write_fasta(tmp_path / "a.fa", texts)
    corpus = build(
        tmp_path,
        """
name: a
genomes:
  - species: s
    fasta: a.fa
    hold_out: {validation: ["2", "chr3:1001-2000"], test: ["chr1:1-500"]}
    leave_out: ["chr1:2001-3,000", chr4]
""",
    )
    assert [one.split for one in corpus.contigs] == ["train", "validation", "train", "left_out"]
    assert (corpus.contigs[2].name, corpus.contigs[2].offset) == ("chr3", 100)
    assert list_segments(corpus, "train") == [(0, 500, 2000), (0, 3000, 4000), (2, 0, 900), (2, 1900, 3000)]
    assert list_segments(corpus, "validation") == [(1, 0, 3000), (2, 900, 1900)]
    assert list_segments(corpus, "test") == [(0, 0, 500)]
    around = texts["chr1"][1999] + "N" * 1000 + texts["chr1"][3000]
    assert corpus.read(0, 1999, 3001).tobytes().decode() == around
    with pytest.raises(InputError, match="left out"):
        corpus.read(3, 0, 10)
    assert texts["chr4"][:60].encode() not in b"".join(path.read_bytes() for path in corpus.folder.rglob("*.arrow"))
    left = [(one["record"], one["start"], one["end"], one["reason"]) for one in corpus.facts["left_out"]]
    assert left == [("chr1", 2000, 3000, "leave_out"), ("chr4", 0, 2000, "leave_out")]
    held = [(one["record"], one["start"], one["end"], one["split"]) for one in corpus.facts["held_out"]]
    whole = ("chr2", 0, 3000, "validation")
    assert held == [("chr1", 0, 500, "test"), whole, ("chr3:101-3100", 900, 1900, "validation")]


def test_what_training_shares_is_cut_out(tmp_path):
    repeat, short = draw(700, 9), draw(400, 10)
    pairs = str.maketrans("ACGT", "TGCA")
    write_fasta(
        tmp_path / "a.fa",
        {
            "train": draw(1000, 1) + repeat + draw(1000, 2) + short + draw(300, 3),
            "held": draw(800, 4) + repeat.translate(pairs)[::-1] + draw(300, 5) + short,
            "left": draw(600, 6) + draw(1000, 2)[:600],
        },
    )
    recipe = "name: a\ngenomes: [{species: s, fasta: a.fa, hold_out: {test: [held]}, leave_out: [left]}]\n"
    corpus = build(tmp_path, recipe)
    cut = sum(end - start for _, start, end in list_segments(corpus, "train"))
    assert 3400 - 1320 <= cut <= 3400 - 1300
    overlap = corpus.facts["overlap"]
    assert overlap["cut"] and overlap["cut_stretches"] == 2
    assert {(one["split"], one["strand"]) for one in overlap["stretches"]} == {("test", 1), ("left_out", 0)}
    assert overlap["common_kmers"]["test"]["shared"] == 370  # of the shorter repeat, which stays
    kept = build(tmp_path, recipe + "max_shared: null\n", overwrite=True)
    assert list_segments(kept, "train") == [(0, 0, 3400)]
    assert not kept.facts["overlap"]["cut"] and kept.facts["overlap"]["shared_stretches"] == 2
    assert "does not cut them out" in (kept.folder / "README.md").read_text()


def test_rules_of_regions_variants_and_weights(tmp_path):
    text = draw(1000, 1) + "N" * 200 + draw(2000, 2) + draw(300, 3).lower() + draw(1500, 4)
    write_fasta(tmp_path / "a.fa", {"chr1": text})
    gene = "chr1\tx\tgene\t2001\t2400\t.\t+\t.\tID=g\nchr1\tx\texon\t2001\t2100\t.\t+\t.\tParent=g\n"
    (tmp_path / "a.gff3").write_text("##gff-version 3\n" + gene)
    (tmp_path / "drop.bed").write_text("chr1\t4500\t4600\n")
    change = "ACGT"[("ACGT".index(text[99]) + 1) % 4]
    (tmp_path / "a.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
        f"1\t100\t.\t{text[99]}\t{change}\t.\t.\t.\tGT\t0|1\n"
    )
    corpus = build(
        tmp_path,
        """
name: a
genomes:
  - species: s
    fasta: a.fa
    annotation: a.gff3
    near_genes: 1000
    gene_centred: 4
    soft_masked_weight: 0.5
    drop: [{file: drop.bed, flank: 10}]
    vcf: a.vcf
    samples: all
""",
    )
    assert list_segments(corpus, "train") == [(0, 0, 1000), (0, 1200, 4490), (0, 4610, 5000)]
    anchors = list(zip(*(column.tolist() for column in corpus.anchors)))
    assert anchors == [(1, 1200, 2000, 1.0), (1, 2000, 2400, 4.0), (1, 2400, 3200, 1.0), (1, 3200, 3400, 0.5)]
    classes = corpus.classes
    named = [classes.names[kind] for kind in classes.kind.tolist()]
    assert named == ["intergenic", "exon", "intron", "intergenic"]
    assert corpus.facts["haplotypes"] == ["S.1", "S.2"]
    edits = corpus.find_edits(1, 0, 0, 5000)
    assert (edits.position.tolist(), [one.tobytes() for one in edits.alternatives]) == ([99], [change.encode()])
    assert not len(corpus.find_edits(0, 0, 0, 5000).position)


def test_genes_of_a_bed_file_are_no_classes(tmp_path):
    write_fasta(tmp_path / "a.fa", {"chr1": draw(5000, 4), "chr2": draw(2000, 5)})
    (tmp_path / "genes.bed").write_text("chr1\t100\t900\nchr2\t5\t50\n")
    genome = "{species: s, fasta: a.fa, annotation: genes.bed, near_genes: 500, hold_out: {validation: [chr2]}}"
    corpus = build(tmp_path, f"name: a\ngenomes: [{genome}]\n")
    assert corpus.classes is None and not (corpus.folder / "classes.arrow").exists()
    assert list_classes(corpus) == ["repeat", "unique"]


def test_species_have_groups_and_weights(tmp_path):
    write_fasta(tmp_path / "a.fa", {"a": draw(1000, 1)})
    write_fasta(tmp_path / "b.fa", {"b": draw(500, 2)})
    genomes = "[{species: s, fasta: a.fa, weight: 1}, {species: s, fasta: b.fa, weight: 2}, {species: t, fasta: a.fa}]"
    corpus = build(tmp_path, f"name: a\ngenomes: {genomes}\ngroups: {{s: 1, t: 3}}")
    told = [(one["name"], one["group"], one["weight"], one["contigs"]) for one in corpus.facts["species"]]
    assert told == [("s", "s", 3.0, 2), ("t", "t", None, 1)]
    assert corpus.facts["species"][0]["bases"]["train"] == 1500


def test_short_and_skipped_records_are_left_out(tmp_path):
    write_fasta(tmp_path / "a.fa", {"a": draw(900, 1), "b Mitochondrion": draw(2000, 2), "c": draw(1000, 3)})
    genome = "{species: s, fasta: a.fa, min_length: 1000, skip_descriptions: mitochondrion}"
    corpus = build(tmp_path, f"name: a\ngenomes: [{genome}]")
    assert [one["reason"] for one in corpus.facts["left_out"]] == ["min_length", "skip_descriptions"]
    assert corpus.facts["overlap"]["common_kmers"] == {}  # they are not compared


ALL_N = "N" * 300
BAD = {
    "no mapping": ("- a", "line 1: a recipe is a mapping"),
    "nothing": ("", "the recipe is empty"),
    "an unknown key": ("name: a\ngenoms: []", "line 2: a recipe has no 'genoms'; did you mean 'genomes'?"),
    "a key twice": ("name: a\nname: b", "line 2: name is given twice"),
    "no genomes": ("name: a\ngenomes: []", "line 2: a corpus of no genomes"),
    "no fasta": ("name: a\ngenomes:\n  - species: s", "line 3: a genome needs 'fasta'"),
    "no such file": ("name: a\ngenomes:\n  - species: s\n    fasta: no.fa", "line 4: .*no.fa: there is no such file"),
    "a name that no file has": (f"name: a\ngenomes: [{{species: s, fasta: {'a' * 5000}}}]", "line 2: .*name too long"),
    "no file fits": ("name: a\ngenomes:\n  - {species: s, fasta: '*.no'}", "line 3: no file fits"),
    "an empty FASTA": ("name: a\ngenomes: [{species: s, fasta: empty.fa}]", "empty.fa: the file is empty"),
    "nothing but N": ("name: a\ngenomes: [{species: s, fasta: n.fa}]", "n.fa: the file holds no base"),
    "a protein": (
        "name: a\ngenomes: [{species: s, fasta: protein.fa}]",
        "does not look like DNA.*if it is, write N where no base is known",
    ),
    "no such contig": (
        "name: a\ngenomes:\n  - species: s\n    fasta: a.fa\n    hold_out:\n      test: [chr9]",
        r"line 6: 'chr9': the genome s \(.*a\.fa\) has no contig 'chr9'",
    ),
    "past the end": (
        "name: a\ngenomes:\n  - species: s\n    fasta: a.fa\n    leave_out: ['chr1:1-5000']",
        "line 5: .*past the end",
    ),
    "held out twice": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, hold_out: {test: [chr1]}, leave_out: ['chr1:5-9']}]",
        r"bases of 'chr1' are in 'chr1' \(test\) and in 'chr1:5-9' \(left_out\)",
    ),
    "all is held out": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, hold_out: {test: [chr1, n]}}]",
        "no base of 'n' that is held out can be used",
    ),
    "nothing is left": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, hold_out: {test: [chr1]}}]",
        "no base is left that windows of training could be drawn by",
    ),
    "all is left out": ("name: a\ngenomes: [{species: s, fasta: a.fa, leave_out: [chr1, n]}]", "nothing is left"),
    "weights of zero": (
        "name: a\ngenomes: [{species: s, fasta: a.fa}]\ngroups: {s: 0}",
        "line 3: the weights of the groups sum to zero",
    ),
    "weights of genomes of zero": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, weight: 0}]",
        "the weights of the genomes sum to zero",
    ),
    "some genomes with a weight": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, weight: 1}, {species: t, fasta: again.fa}]",
        "give a weight to every genome, or to none",
    ),
    "a weight below zero": ("name: a\ngenomes: [{species: s, fasta: a.fa, weight: -1}]", "line 2: weight: '-1' is no"),
    "an unknown group": ("name: a\ngenomes: [{species: s, fasta: a.fa}]\ngroups: {S: 1}", "line 3: no genome is of"),
    "genes of nothing": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, near_genes: 5}]",
        "line 2: near_genes needs an annotation",
    ),
    "a record twice": ("name: a\ngenomes: [{species: s, fasta: [a.fa, again.fa]}]", "'chr1' is there twice"),
    "a file twice": ("name: a\ngenomes: [{species: s, fasta: [a.fa, '*a.fa']}]", "is given twice"),
    "variants of another assembly": (
        "name: a\ngenomes: [{species: s, fasta: a.fa, vcf: other.vcf}]",
        "other.vcf: .*of another assembly",
    ),
    "no YAML": ("name: [", "cannot be read as YAML"),
    "a licence of words": ("name: a\nlicence: my own words", "line 2: licence"),
    "a share of too few bases": ("name: a\nmax_shared: 5", "line 2: max_shared: '5' is no whole number"),
    "a mapping for a name": ("name: {a: b}", "line 1: one value is needed here, and this is a mapping"),
}


def test_a_link_to_nothing_is_refused_and_not_passed_over_by_a_pattern(tmp_path):
    write_fasta(tmp_path / "a.fa", {"chr1": draw(500, 1)})
    (tmp_path / "b.fa").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.fa").mkdir()
    with pytest.raises(InputError, match=r"line 2: .*b\.fa: there is no such file"):
        build(tmp_path, "name: a\ngenomes: [{species: s, fasta: '*.fa'}]")


def test_a_file_whose_name_is_no_text_is_refused(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.fa"
    try:
        with open(path, "wb") as file:
            file.write(b">a\nACGT\n")
    except OSError:
        pytest.skip("this disk has names of text only")
    with pytest.raises(InputError, match=r"line 2: .*the name is no text in UTF-8; rename the file"):
        build(tmp_path, "name: a\ngenomes: [{species: s, fasta: '*.fa'}]")


def test_many_short_records_are_laid_out_as_few_long_ones_are(tmp_path):
    texts = {f"c{number}": draw(90 + number % 40, number % 150, "ACGT" * 15 + "N") for number in range(300)}
    write_fasta(tmp_path / "a.fa", texts)
    recipe = "name: a\nmax_n_run: 1\ngenomes: [{species: s, fasta: a.fa, hold_out: {validation: [c7, 'c9:5-80']}}]"
    corpus = build(tmp_path, recipe)
    held = {"c7": (0, len(texts["c7"])), "c9": (4, 80)}
    kmers = {"train": set(), "validation": set()}
    for contig, start, end, split in zip(*corpus.segments):
        name, text = corpus.contigs[contig].record, texts[corpus.contigs[contig].record]
        first, last = held.get(name, (0, 0))
        assert split == int(first <= start < last) and end - start and "NN" not in text[start:end]
        for part in re.finditer(r"(?=([ACGT]{31}))", text[start:end]):
            kmers[SPLITS[split]].add(min(part[1], reverse_complement(part[1])))
    covered = sum((corpus.segments.end - corpus.segments.start).tolist())
    assert covered == sum(len(text) - sum(len(run[0]) for run in re.finditer("N{2,}", text)) for text in texts.values())
    assert (corpus.anchors.end == corpus.segments.end).all() and (corpus.anchors.weight == 1).all()
    common = corpus.facts["overlap"]["common_kmers"]["validation"]
    assert common["kmers"] == len(kmers["validation"])
    assert common["shared"] == len(kmers["validation"] & kmers["train"]) > 0


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_with_its_place_and_nothing_is_left(case, tmp_path):
    text, message = BAD[case]
    (tmp_path / "empty.fa").touch()
    write_fasta(tmp_path / "a.fa", {"chr1": draw(2000, 1), "n": ALL_N})
    write_fasta(tmp_path / "again.fa", {"chr1": draw(2000, 2)})
    write_fasta(tmp_path / "n.fa", {"n": ALL_N})
    write_fasta(tmp_path / "protein.fa", {"p": draw(500, 1, "EFILPQMKVW")})
    sites = "".join(f"chr1\t{at}\t.\t{'ACGT'[at % 4]}\tG\t.\t.\tAF=0.5\n" for at in range(100, 200) if at % 4 != 2)
    (tmp_path / "other.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + sites)
    (tmp_path / "recipe.yaml").write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        build_corpus(tmp_path / "recipe.yaml", tmp_path / "out" / "corpus")
    # Letters that are finished stay for the next build; of all others nothing does.
    after = [path for path in tmp_path.rglob("*") if path not in before and path.is_file()]
    kept = [path for path in after if path.name != "journal.jsonl"]
    assert all("corpus.partial/parts/" in path.as_posix() for path in kept)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A recipe of many small parts, and the bytes of its corpus."""
    folder = tmp_path_factory.mktemp("parts")
    write_fasta(folder / "a.fa.gz", {"a": draw(12_000, 1), "b": draw(3000, 2)})
    write_fasta(folder / "b.fa", {"c": draw(7000, 3), "d": draw(100, 4)})
    genomes = "[{species: s, fasta: [a.fa.gz, b.fa], hold_out: {test: ['a:1-2000']}, leave_out: [b]}]"
    (folder / "recipe.yaml").write_text(f"name: parts\ngenomes: {genomes}\n")
    run_build(folder, "whole", "none", 0)
    assert len(list((folder / "whole" / "letters").glob("*.arrow"))) == 5
    return folder, hash_folder(folder / "whole")


def run_build(folder: Path, out: str, event: str, number: int) -> int:
    words = [sys.executable, str(PROGRAM), str(folder / "recipe.yaml"), str(folder / out), event, str(number)]
    return subprocess.run(words, capture_output=True).returncode


MOMENTS = [("shard", 2), ("rename", 11)]
MORE = [("write", number) for number in (2, 4, 5, 7)] + [("shard", number) for number in (0, 4)]
MORE += [("rename", number) for number in (9, 13, 14)] + [("table", number) for number in (0, 2)]


@pytest.mark.parametrize(
    ("event", "number"), [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE)]
)
def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(parts, event, number):
    folder, expected = parts
    out = f"{event}-{number}"
    assert run_build(folder, out, event, number) == -9
    assert not (folder / out).exists()
    parts_before = {path: path.stat().st_mtime_ns for path in (folder / f"{out}.partial").rglob("0*.arrow")}
    assert run_build(folder, out, "none", 0) == 0
    assert hash_folder(folder / out) == expected
    assert not (folder / f"{out}.partial").exists()
    assert event != "shard" or len(parts_before) == number
    finished = {path.stat().st_mtime_ns for path in (folder / out / "letters").glob("*.arrow")}
    assert set(parts_before.values()) <= finished  # they are the same files


def test_a_fault_leaves_what_is_finished_and_a_changed_file_is_read_again(tmp_path, capsys):
    write_fasta(tmp_path / "a.fa", {"a": draw(2000, 1)})
    write_fasta(tmp_path / "b.fa", {"b": draw(2000, 2)})
    (tmp_path / "recipe.yaml").write_text("name: a\ngenomes: [{species: s, fasta: [a.fa, b.fa]}]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gengram.training.corpus.build.lay_out", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    assert "the same command goes on from there" in capsys.readouterr().err
    write_fasta(tmp_path / "b.fa", {"b": draw(3000, 3)})
    build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus", check=True)
    assert corpus.read(1, 0, 3000).tobytes().decode() == draw(3000, 3)


def test_a_disk_that_is_too_small_is_told_before_letters_are_written(tmp_path, monkeypatch):
    write_fasta(tmp_path / "a.fa", {"a": draw(2000, 1)})
    (tmp_path / "recipe.yaml").write_text("name: a\ngenomes: [{species: s, fasta: a.fa}]")
    free = type("Usage", (), {"free": 1999})
    monkeypatch.setattr("gengram.files.shutil.disk_usage", lambda path: free)
    with pytest.raises(InputError, match=r"about 2\.0 kB are needed, and 2\.0 kB are free on this disk"):
        build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fa", "recipe.yaml"]


def test_a_write_that_fails_is_told_with_its_remedy(tmp_path, monkeypatch):
    write_fasta(tmp_path / "a.fa", {"a": draw(2000, 1)})
    (tmp_path / "recipe.yaml").write_text("name: a\ngenomes: [{species: s, fasta: a.fa}]")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(letters_module, "_write_shard", fail)
    with pytest.raises(InputError, match=r"corpus.*cannot be written .*No space left.*free some space"):
        build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fa", "recipe.yaml"]


def test_facts_have_no_path_of_this_machine_and_sources_have_checksums(tmp_path):
    path = write_fasta(tmp_path / "genomes" / "a.fa", {"a": draw(2000, 1)})
    (tmp_path / "recipe.yaml").write_text(f"name: a\ngenomes: [{{species: s, fasta: {path}}}]")
    build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    text = (tmp_path / "corpus" / "corpus.json").read_text() + (tmp_path / "corpus" / "README.md").read_text()
    assert str(tmp_path) not in text
    (source,) = json.loads((tmp_path / "corpus" / "corpus.json").read_text())["sources"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert source == {"file": "a.fa", "bytes": path.stat().st_size, "sha256": digest}


def test_names_are_shown_as_they_are_and_do_no_harm(tmp_path):
    write_fasta(tmp_path / "a.fa", {"<b>|chr1|`x` [y](z)": draw(2000, 1)})
    corpus = build(tmp_path, "name: a\ngenomes: [{species: '**s** | t', fasta: a.fa}]")
    card = (corpus.folder / "README.md").read_text()
    assert r"\*\*s\*\* &#124; t" in card and "<b>" not in card


def test_a_genome_is_stored_as_it_is(shared, tmp_path):
    genomes = shared / "data" / "genomes"
    path = genomes / "lambda" / "lambda.fa.gz"
    (tmp_path / "recipe.yaml").write_text("name: a\ngenomes: [{species: s, fasta: lambda/lambda.fa.gz}]")
    build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus", genomes)
    ((_, _, text),) = read_fasta(path)
    assert open_corpus(tmp_path / "corpus").read(0, 0, len(text)).tobytes().decode() == text


@pytest.mark.parametrize("name", list_corpora())
def test_recipes_of_the_package_are_read(name, tmp_path):
    assert read_corpus_recipe(name, tmp_path).recipe.genomes
    about = list_corpora()[name]
    assert about and (RECIPES / f"{name}.yaml").read_text().startswith(f"# {about}\n#\n")
