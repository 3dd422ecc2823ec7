"""Contigs under other names and in slices: `predict` and `embed` say the same, and keep the names of the input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from gengram.pipelines.command import embed, predict
from gengram.tokenization import build_nucleotide_tokenizer

CONTIG = "".join(np.random.default_rng(7).choice(list("ACGT"), 400))
OTHER = "".join(np.random.default_rng(8).choice(list("ACGT"), 400))
BED = "chr7\t10\t50\ta\t0\t+\nchr7\t300\t350\tb\t0\t-\nchrM\t0\t40\tc\t0\t-\nchr7\t12\t30\td\t0\t.\n"
VERBS = {"predict": predict, "embed": embed}
# Genomes: what is left of chr7 and chrM, and what is told of them.
GENOMES = {
    "same": (f">chr7\n{CONTIG}\n>chrM\n{OTHER}\n", [], {}),
    "bare": (f">7\n{CONTIG}\n>MT\n{OTHER}\n", [], {"chr7": "7", "chrM": "MT"}),
    "slices": (f">chrM\n{OTHER}\n>chr7:301-400\n{CONTIG[300:]}\n>chr7:1-100\n{CONTIG[:100]}\n", ["--slices"], {}),
    "bare slices": (
        f">7:6-360\n{CONTIG[5:360]}\n>M:1-400\n{OTHER}\n",
        ["--slices"],
        {"chr7": "7", "chrM": "M"},
    ),
}


@pytest.fixture
def model(tmp_path, small) -> Path:
    torch.manual_seed(0)
    config = BertConfig(**small, vocab_size=16, pad_token_id=0, max_position_embeddings=64, id2label={0: "a", 1: "b"})
    config.problem_type = "single_label_classification"
    BertForSequenceClassification(config).save_pretrained(tmp_path / "model")
    build_nucleotide_tokenizer(template="cls_sep", model_max_length=64).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("verb", VERBS)
def test_every_genome_gives_the_same_numbers(verb, model, tmp_path, capsys):
    (tmp_path / "rows.bed").write_text(BED)
    found = {}
    for name, (fasta, flags, renamed) in GENOMES.items():
        genome, out = tmp_path / f"{name}.fa", tmp_path / f"{name}.parquet"
        genome.write_text(fasta)
        given = ["--model", str(model), "--out", str(out), "--genome", str(genome), "--json", *flags]
        assert VERBS[verb]([str(tmp_path / "rows.bed"), *given]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["renamed_contigs"] == renamed
        told = [line for line in said.err.splitlines() if "other names" in line]
        pairs = ", ".join(f"{one} is {other}" for one, other in renamed.items())
        assert told == ([f"{tmp_path}/rows.bed: contigs have other names in {genome}: {pairs}"] if renamed else [])
        found[name] = pd.read_parquet(out)
        assert found[name]["chrom"].tolist() == ["chr7", "chr7", "chrM", "chr7"]
    for name in GENOMES:
        pd.testing.assert_frame_equal(found[name], found["same"])


def test_windows_of_intervals_are_where_the_input_has_them(model, tmp_path):
    pyBigWig = pytest.importorskip("pyBigWig")
    (tmp_path / "rows.bed").write_text(BED)
    found = {}
    for name, (fasta, flags, _) in GENOMES.items():
        (tmp_path / f"{name}.fa").write_text(fasta)
        given = ["--model", str(model), "--genome", str(tmp_path / f"{name}.fa"), *flags, "--too_long", "window"]
        given += ["--window", "20", "--stride", "10"]
        for suffix, more in ((".tsv", []), (".bw", ["--track", "b"])):
            out = tmp_path / f"{name}{suffix}"
            assert predict([str(tmp_path / "rows.bed"), *given, *more, "--out", str(out)]) == 0
        with pyBigWig.open(str(tmp_path / f"{name}.bw")) as track:
            lengths = {"chr7": 360 if name == "bare slices" else 400, "chrM": 400}
            assert track.chroms() == lengths
            found[name] = (tmp_path / f"{name}.tsv").read_text(), {chrom: track.intervals(chrom) for chrom in lengths}
    assert found["same"][0].count("\n") > 10 and all(found[name] == found["same"] for name in GENOMES)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_meant_is_refused_with_the_remedy(verb, model, tmp_path, capsys):
    (tmp_path / "rows.bed").write_text(BED)
    (tmp_path / "rows.csv").write_text("sequence\nACGT\n")

    def refuse(file: str, *flags: str) -> str:
        given = ["--model", str(model), "--out", str(tmp_path / "out.parquet"), *flags]
        assert VERBS[verb]([str(tmp_path / file), *given]) == 1
        assert not list(tmp_path.glob("out*"))
        return capsys.readouterr().err

    for name, (fasta, flags, _) in GENOMES.items():
        (tmp_path / "genome.fa").write_text(fasta)
        if flags:
            message = refuse("rows.bed", "--genome", str(tmp_path / "genome.fa"))
            assert "rows.bed, line 1: interval chr7:10-50: the genome" in message, name
            assert "may be of it: --slices finds its positions there" in message, name
    (tmp_path / "genome.fa").write_text(f">7\n{CONTIG[:340]}\n>chrM\n{OTHER}\n")
    message = refuse("rows.bed", "--genome", str(tmp_path / "genome.fa"))
    assert (
        "no contig 'chr7'; it has 7, chrM. It is not '7', which has 340 bp: 'chr7' has positions up to 350" in message
    )
    assert "--slices are records of a genome: give its FASTA file with --genome" in refuse("rows.csv", "--slices")
