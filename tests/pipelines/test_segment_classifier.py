"""`gengram segment` with a model that was trained on labels of bases: as SegmentNT, whatever it was trained on."""

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertConfig, BertForTokenClassification

from gengram.genome.alphabet import reverse_complement
from gengram.pipelines import segment_genome as work
from gengram.pipelines.command import predict
from gengram.pipelines.command import segment as main
from gengram.tokenization import build_kmer_tokenizer
from gengram.training.command import finetune

FEATURES = ["exon", "intron", "none"]
WINDOWS = ["--window", "300", "--overlap", "150", "--precision", "0"]


def draw(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


CONTIGS = {"one": draw(2100, 0), "two": draw(500, 1) + "N" * 700 + draw(100, 2) + "R" + draw(20, 3)}


@pytest.fixture
def genome(tmp_path) -> str:
    text = CONTIGS["one"][:700] + CONTIGS["one"][700:].lower()
    (tmp_path / "genome.fa").write_text(f">one chromosome\n{text}\n>short\nACGTA\n>two\n{CONTIGS['two']}\n")
    return str(tmp_path / "genome.fa")


def run_once(folder, sequence: str) -> np.ndarray:
    model, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        return softmax(model(**tokenizer(sequence, return_tensors="pt")).logits[0].numpy(), axis=1)


def read_bigwig(path, chrom: str, end: int) -> np.ndarray:
    pyBigWig = pytest.importorskip("pyBigWig")
    with pyBigWig.open(str(path)) as track:
        return np.array(track.values(chrom, 0, end), dtype=np.float32)


def test_whole_records_in_pieces_are_one_pass(classifiers, genome, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(work, "_PIECE", 500)
    out = tmp_path / "tracks"
    assert main([genome, "--model", str(classifiers["bases"]), "--out", str(out), "--arrays", *WINDOWS]) == 0
    assert "701 of 3426 bases have no value" in capsys.readouterr().err
    for chrom, sequence in {**CONTIGS, "short": "ACGTA"}.items():
        expected = run_once(classifiers["bases"], sequence)
        expected[[letter in "NR" for letter in sequence]] = np.nan
        for column, feature in enumerate(FEATURES):
            found = read_bigwig(out / f"{feature}.bw", chrom, len(sequence))
            np.testing.assert_allclose(found, expected[:, column], rtol=0, atol=1e-5)
    summary = json.loads((out / "segment.json").read_text())
    assert summary["features"] == FEATURES and (summary["window"], summary["overlap"]) == (300, 150)
    assert (out / "locus.png").is_file() and not (out / "partial").exists()


def test_both_strands(classifiers, genome, tmp_path):
    out = tmp_path / "tracks"
    words = [genome, "--model", str(classifiers["bases"]), "--out", str(out), "--average_strands", *WINDOWS]
    assert main(words) == 0
    back = run_once(classifiers["bases"], reverse_complement(CONTIGS["one"]))[::-1]
    expected = (run_once(classifiers["bases"], CONTIGS["one"]) + back) / 2
    np.testing.assert_allclose(read_bigwig(out / "exon.bw", "one", 2100), expected[:, 0], rtol=0, atol=1e-5)


def test_an_interrupted_run_goes_on(classifiers, genome, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_PIECE", 500)
    right, done = work.classify_bases, []

    def classify_some(*args, **kwargs):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return right(*args, **kwargs)

    words = [genome, "--model", str(classifiers["bases"]), "--format", "bedgraph", *WINDOWS]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(work, "classify_bases", classify_some)
    out = tmp_path / "tracks"
    assert main([*words, "--out", str(out)]) == 130
    assert len(list((out / "partial").glob("*.npy"))) == 3
    monkeypatch.setattr(work, "classify_bases", lambda *args, **kwargs: done.append(1) or right(*args, **kwargs))
    assert main([*words, "--average_strands", "--out", str(out)]) == 1  # would be other numbers
    assert main([*words, "--out", str(out)]) == 0
    for file in (tmp_path / "whole").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_window_is_the_longest_sequence_of_the_training(command, task, draw_table, genome, tmp_path):
    table = draw_table(60, 0).drop(columns="label")
    table.assign(label=[bases.replace("C", "A") for bases in table["seq"]]).to_csv(task["train_file"], index=False)
    assert finetune(command(problem="token", memory=True, test_file=None, validation_fraction=0)) == 0
    out = tmp_path / "tracks"
    assert main([genome, "--model", str(tmp_path / "run"), "--out", str(out), "--format", "bedgraph"]) == 0
    summary = json.loads((out / "segment.json").read_text())
    longest = table["seq"].str.len().max()
    assert (summary["window"], summary["overlap"]) == (longest, longest // 2)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("sequences", [], "has no features of single bases; give a SegmentNT model, or a model that was trained on"),
        ("bases", ["--window", "100001"], "window=100001: the model takes at most 100000 bp at once"),
        ("bases", ["--window", "50", "--overlap", "50"], "overlap=50: give at least 0 bp, and less than the window"),
        ("bases", ["--overlap", "-2"], "overlap=-2"),
    ],
)
def test_what_cannot_be(model, options, message, classifiers, genome, tmp_path, capsys):
    words = [genome, "--model", str(classifiers[model]), "--out", str(tmp_path / "tracks"), "--format", "bedgraph"]
    assert main([*words, *options]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "tracks").exists()


def test_the_format_of_a_folder_is_not_that_of_a_file(classifiers, genome, tmp_path, capsys):
    words = [genome, "--model", str(classifiers["bases"]), "--out", str(tmp_path / "t.bed"), "--format", "bedgraph"]
    assert main(words) == 1
    assert "t.bed: --format is of the results in a folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["segment", "predict", "window"])
def test_tokens_that_are_longer_than_a_base(verb, genome, tmp_path, capsys):
    tokenizer = build_kmer_tokenizer(model_max_length=64)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForTokenClassification(BertConfig(vocab_size=len(tokenizer), num_labels=3, **size)).save_pretrained(
        tmp_path / "m"
    )
    tokenizer.save_pretrained(tmp_path / "m")
    words = [genome, "--model", str(tmp_path / "m"), "--out", str(tmp_path / "out.parquet")]
    run = main if verb == "segment" else predict
    assert run([*words, *(["--too_long", "window"] if verb == "window" else [])]) == 1
    assert "it classifies tokens, and these are not single bases" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_numbers_that_overflow_are_told_with_their_place(build_local, classifiers, genome, tmp_path, capsys):
    model = build_local(True)
    with torch.no_grad():
        model.classifier.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "big")
    AutoTokenizer.from_pretrained(classifiers["bases"]).save_pretrained(tmp_path / "big")
    words = [genome, "--model", str(tmp_path / "big"), "--out", str(tmp_path / "tracks"), "--format", "bedgraph"]
    assert main([*words, *WINDOWS]) == 1
    assert "one:0-2100, after base 0: the probabilities of the bases" in capsys.readouterr().err
