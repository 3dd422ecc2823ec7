"""The verb: what it refuses, what it tells, the same bytes again, and a folder that the rest of the package takes."""

import gzip
import json
import random

import pandas as pd
import pytest
import yaml

from gengram.benchmarks.builders.command import KINDS
from gengram.benchmarks.builders.folder import Recipe
from gengram.benchmarks.builders.rows import COLUMNS, Choice, build_task, open_genome
from gengram.benchmarks.builders.splits import Division
from gengram.benchmarks.data.load import load_task
from gengram.benchmarks.tasks.registry import list_tasks
from gengram.cli import main

from .conftest import read_rows, reverse

SMALL = ["--block", "400", "--test_share", "0.3", "--validation_share", "0"]


@pytest.fixture
def build(genome, tmp_path, monkeypatch, capsys):
    """Run `gengram dataset build genomic-element` in an empty folder; exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def build(*more, kind="genomic-element", fasta="genome.fa", annotation="a.gff3", split=SMALL):
        words = [
            "--genome",
            str(genome / fasta),
            "--annotation",
            str(genome / annotation),
            "--out",
            "tasks",
            *split,
            *more,
        ]
        try:
            code = main(["dataset", "build", kind, *words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return build


def test_the_same_command_gives_the_same_bytes(build, tmp_path):
    def hash_files():
        return {path.name: path.read_bytes() for path in (tmp_path / "tasks").rglob("*.*")}

    assert build("--min_length", "10")[0] == 0
    before = hash_files()
    assert {"train.csv.gz", "test.csv.gz", "task.yaml", "README.md"} == set(before)
    code, _, err = build("--min_length", "10")
    assert code == 1 and "--overwrite" in err
    assert build("--min_length", "10", "--overwrite")[0] == 0
    assert hash_files() == before


@pytest.mark.parametrize("format", ["csv.gz", "parquet"])
def test_a_task_that_was_built_is_loaded_and_pushed(format, build, tmp_path, capsys):
    code, out, _ = build("--min_length", "10", "--format", format, "--license", "cc0-1.0", "--json")
    told = json.loads(out)
    assert code == 0 and told["kind"] == "genomic-element"
    rows = load_task("genomic_element_classification", data=tmp_path / "tasks")
    assert rows["train"].features["label"].names == ["3'UTR", "5'UTR", "exon", "protein-coding gene"]
    assert {split: len(rows[split]) for split in rows} == {split: one["rows"] for split, one in told["rows"].items()}
    assert rows["train"].features["start"].dtype == "int64" and set(rows["test"]["strand"]) <= {"+", "-"}
    said = yaml.safe_load((tmp_path / "tasks/genomic_element_classification/task.yaml").read_text())
    assert said["builder"] == "genomic-element" and said["licence"] == "cc0-1.0"
    assert main(["dataset", "push", "tasks/genomic_element_classification", "lab/x", "--dry_run", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--test_contigs", "chr3"], "--test_contigs: no genome has a contig 'chr3'"),
        (["--test_contigs", "chr1", "--validation_contigs", "1"], "'chr1' is in --test_contigs and in"),
        (["--min_length", "2000"], "--min_length 2000 is above --max_length 1024"),
        (["--block", "100000", "--validation_share", "0.1"], "in 2 blocks of 100,000 bp, and 3 splits need one each"),
        (["--min_length", "1024"], "give a smaller --block"),
        (["--test_contigs", "chr1", "chr2"], "no row is left for the train split"),
    ],
)
def test_what_cannot_be_divided_is_told_and_nothing_is_left(words, told, build, tmp_path):
    code, out, err = build(*words)
    assert (code, out) == (1, "") and told in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.*"))


def test_contigs_of_other_names_are_splits(build, tmp_path):
    assert build("--test_contigs", "2", "--min_length", "10", split=[])[0] == 1  # too few blocks for a validation
    assert build("--test_contigs", "2", "--min_length", "10", split=["--validation_share", "0"])[0] == 0
    rows = read_rows(tmp_path / "tasks" / "genomic_element_classification")
    assert {row["chrom"] for row in rows["test"]} == {"chr2"} and {row["chrom"] for row in rows["train"]} == {"chr1"}


def test_a_gene_past_the_end_of_its_contig_is_told_with_its_line(build, genome, tmp_path):
    text = (genome / "a.gff3").read_text()
    (tmp_path / "long.gff3").write_text(text + "chr2\thand\tgene\t8000\t9001\t.\t+\t.\tID=far\n")
    line = text.count("\n") + 1
    code, _, err = build(annotation=tmp_path / "long.gff3")
    assert code == 1 and f"long.gff3, line {line}: chr2:7999-9001 (from 0) ends at 9,001, past the end of contig" in err


def test_slices_of_contigs(build, genome, tmp_path):
    """Records that samtools faidx has cut: places are those of the contig, what lies outside is counted."""
    contigs = {
        one.split()[0]: "".join(one.split("\n")[1:]) for one in (genome / "genome.fa").read_text().split(">")[1:]
    }
    (tmp_path / "slice.fa").write_text(f">chr1:1001-2600\n{contigs['chr1'][1000:2600]}\n>chr2\n{contigs['chr2']}\n")
    code, out, err = build("--min_length", "10", fasta=tmp_path / "slice.fa")
    assert code == 0, err
    assert "outside of the slices of their contig" in out
    rows = [row for part in read_rows(tmp_path / "tasks" / "genomic_element_classification").values() for row in part]
    assert {row["chrom"] for row in rows} == {"chr1", "chr2"}
    for row in rows:
        letters = contigs[row["chrom"]][int(row["start"]) : int(row["end"])]
        assert row["sequence"] == (reverse(letters) if row["strand"] == "-" else letters)


@pytest.mark.parametrize("fault", ["cut off", "no contig", "twice", "protein", "folder"])
def test_files_that_cannot_be_used(fault, build, genome, tmp_path):
    fasta, annotation = genome / "genome.fa", genome / "a.gff3"
    if fault == "cut off":
        fasta = tmp_path / "g.fa.gz"
        fasta.write_bytes(gzip.compress((genome / "genome.fa").read_bytes())[:-100])
    elif fault == "no contig":
        annotation = tmp_path / "other.gff3"
        annotation.write_text((genome / "a.gff3").read_text().replace("chr1", "s1").replace("chr2", "s2"))
    elif fault == "twice":
        fasta = tmp_path / "g.fa"
        fasta.write_text((genome / "genome.fa").read_text() + ">chr1\nACGT\n")
    elif fault == "protein":
        fasta = tmp_path / "g.fa"
        fasta.write_text(">chr1\n" + "MKLV" * 3000 + "\n>chr2\n" + "MKLV" * 2250 + "\n")
    else:
        fasta = tmp_path
    code, out, err = build(fasta=fasta, annotation=annotation)
    told = {
        "cut off": "g.fa.gz",
        "no contig": "other.gff3: the genome",
        "twice": "a second contig is called 'chr1'",
        "protein": "with too many letters other than A, C, G, T",
        "folder": "this is a folder",
    }[fault]
    assert (code, out) == (1, "") and told in err and "Traceback" not in err
    assert not (tmp_path / "tasks").exists() or not list((tmp_path / "tasks").iterdir())


def test_a_folder_of_something_else_is_not_replaced(build, tmp_path):
    mine = tmp_path / "tasks" / "genomic_element_classification"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("mine")
    code, _, err = build("--overwrite")
    assert code == 1 and "something else is there" in err and (mine / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a kind"),
        (["splice-site"], "did you mean 'splice-sites'?"),
        (["--quiet", "splice-sites"], "the kind comes first"),
        (["species-windows", "--genome", "a.fa", "--out", "x"], "write NAME=FILE"),
        (["species-windows", "--genome", "a=a.fa", "--out", "x", "--name", "../y"], "give letters, digits"),
        (["genomic-element", "--genome", "a.fa", "--annotation", "b", "--out", "x", "--per_class", "0"], "--per_class"),
    ],
)
def test_a_wrong_command_line(words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["dataset", "build", *words])
    assert stop.value.code == 2 and told in capsys.readouterr().err


def test_one_species_is_no_task(genome, tmp_path, capsys):
    fasta = str(genome / "genome.fa")
    words = ["dataset", "build", "species-windows", "--length", "100", "--out", str(tmp_path / "t")]
    assert main([*words, "--genome", f"a={fasta}"]) == 1
    assert "1 species; a task needs two classes at least" in capsys.readouterr().err
    assert main([*words, "--genome", f"a={fasta}", f"a={fasta}"]) == 1
    assert "'a' is named twice" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_its_help(kind, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["dataset", "build", kind, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and f"gengram dataset build {kind} --" in shown and "example" in shown


def test_builders_of_the_registry_exist():
    named = {task.builder for task in list_tasks() if task.benchmark == "GeB" and "element" in (task.builder or "")}
    assert named == {"genomic-element", "species-element"} <= set(KINDS)


def test_copies_are_counted_and_kept_once(tmp_path):
    """Rows with the same letters, of one split, of two, on the other strand, and with another label."""
    draw = random.Random(1)
    unit = ["".join(draw.choices("ACGT", k=50)) for _ in range(10)]
    pieces = [*unit, unit[0], reverse(unit[1]), unit[2], unit[3], "N" * 50]
    (tmp_path / "g.fa").write_text(f">a\n{''.join(pieces)}\n>b\n{unit[4] + reverse(unit[5]) + unit[9]}\n")
    rows = [("a", 50 * number, 50 * number + 50, "+", number == 13, f"r{number}", 0) for number in range(15)]
    rows += [("b", 50 * number, 50 * number + 50, "+", False, f"b{number}", 0) for number in range(3)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"label": int})
    built = build_task(
        [(open_genome(tmp_path / "g.fa"), table)],
        Recipe("x", "x", "x", ["one", "two"], test_contigs=["b"]),
        Choice(None, 0.1),
        Division(10, 0.2, 0.0, 0),
        out=tmp_path / "t",
        name="x",
        format="csv.gz",
        overwrite=False,
    )
    left = {why: count for why, count in built.facts["left_out"].items() if count}
    assert left == {
        "with too many letters other than A, C, G, T": 1,
        "with the letters of a row of another class": 2,  # unit 3
        "copies within a split, either strand": 3,  # units 0, 1 and 2
        "copies of a row of another split": 2,  # units 4 and 9
        "reverse complements of a row of another split": 1,  # unit 5
    }
    names = {split: [row["name"] for row in part] for split, part in read_rows(tmp_path / "t" / "x").items()}
    assert names == {"train": ["r0", "r1", "r2", "r6", "r7", "r8"], "test": ["b0", "b1", "b2"]}
    assert built.facts["remarks"] == [f"the {split} split has no row of class two" for split in ("train", "test")]


def test_rows_of_a_class_are_drawn(genome, tmp_path):
    from gengram.benchmarks.builders.species import build_species_windows

    (tmp_path / "other.fa").write_text(">x\n" + "".join(random.Random(3).choices("ACGT", k=30_000)) + "\n")
    species = [("one", genome / "genome.fa"), ("two", tmp_path / "other.fa")]
    several = [
        build_species_windows(species, 100, tmp_path / str(number), block=1000, per_class=100, seed=seed)
        for number, seed in enumerate((0, 0, 1))
    ]
    for built in several:
        rows = built.facts["rows"].values()
        assert [sum(one["classes"][name] for one in rows) for name in ("one", "two")] == [100, 100]
        assert all(one["classes"]["one"] == one["classes"]["two"] for one in rows)
    assert several[0].facts["files"] == several[1].facts["files"] != several[2].facts["files"]


def test_every_builder_of_the_registry_is_a_kind():
    named = {task.name: task.builder for task in list_tasks() if task.builder is not None}
    assert len(set(named.values())) > 5
    assert {name: kind for name, kind in named.items() if kind not in KINDS} == {}
