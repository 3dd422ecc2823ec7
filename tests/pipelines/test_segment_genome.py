"""`gengram segment`: tracks are what one pass says, at the right bases; an interrupted run goes on; clear refusals."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gengram import (
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    SegmentNTConfig,
    SegmentNTForTokenClassification,
    SegmentNTModel,
)
from gengram.genome.rounding import Rounding
from gengram.genome.tracks import Piece, find_runs, write_track, write_tracks
from gengram.pipelines import segment_genome as command
from gengram.pipelines.command import segment as main
from gengram.pipelines.outputs import names_file
from gengram.tokenization import build_kmer_tokenizer

FEATURES = ["exon", "5UTR", "CTCF-bound"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
WINDOWS = ["--window", "960", "--overlap", "480", "--precision", "0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A random model without attention: a base is seen only by its neighbours, so that windows can be exact."""
    torch.manual_seed(0)
    model = SegmentNTForTokenClassification(SegmentNTConfig(features=FEATURES, **SMALL))
    with torch.no_grad():  # large enough for the U-Net to say something
        for name, weight in model.named_parameters():
            if name.startswith(("unet", "fc")) and weight.dim() > 1:
                weight.normal_(0, (2 / weight[0].numel()) ** 0.5)
        for layer in model.esm.encoder.layer:
            layer.attention.output.dense.weight.zero_()
    folder = tmp_path_factory.mktemp("segment_nt")
    model.save_pretrained(folder)
    build_kmer_tokenizer().save_pretrained(folder)
    return str(folder)


def draw(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


CONTIGS = {"one": draw(2400, 0), "two": draw(480, 1) + "N" * 20 + draw(100, 2) + "NRN" + draw(20, 3)}


@pytest.fixture
def genome(tmp_path) -> str:
    path = tmp_path / "genome.fa"
    soft = CONTIGS["one"][:700] + CONTIGS["one"][700:900].lower() + CONTIGS["one"][900:]
    path.write_text(f">one chromosome\n{soft[:1000]}\n{soft[1000:]}\n>empty\nACGTACGT\n>two\n{CONTIGS['two']}\n")
    return str(path)


def run_once(folder: str, sequence: str) -> np.ndarray:
    """Probabilities [bp, features] of one forward pass."""
    model = SegmentNTForTokenClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = build_kmer_tokenizer()(sequence, verbose=False, return_tensors="pt")["input_ids"]
        return model(ids).logits.softmax(-1)[0, ..., 1].numpy()


def read_bigwig(path, chrom: str, start: int, end: int) -> np.ndarray:
    pyBigWig = pytest.importorskip("pyBigWig")
    with pyBigWig.open(str(path)) as track:
        return np.array(track.values(chrom, start, end), dtype=np.float32)


def read_calls(path) -> list[tuple]:
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return [(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]


def find_calls(probabilities: np.ndarray, chrom: str, start: int = 0) -> list[tuple]:
    """By a loop over bases, what features.bed should say."""
    calls = []
    for column, feature in enumerate(FEATURES):
        begin = None
        for base, value in enumerate([*probabilities[:, column], -1.0]):
            if value >= 0.5 and begin is None:
                begin = base
            elif not value >= 0.5 and begin is not None:
                calls.append((chrom, start + begin, start + base, feature))
                begin = None
    order = {feature: position for position, feature in enumerate(FEATURES)}
    return sorted(calls, key=lambda call: (call[1], call[2], order[call[3]]))


def test_whole_records(model, genome, tmp_path, monkeypatch, capsys):
    pyBigWig = pytest.importorskip("pyBigWig")
    monkeypatch.setattr(command, "_PIECE", 500)  # several pieces
    out = tmp_path / "tracks"
    assert main([genome, "--model", model, "--out", str(out), "--arrays", *WINDOWS]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out) and "51 of 3031 bases have no value" in said.err
    expected = {"one": run_once(model, CONTIGS["one"])}
    assert expected["one"].std() > 0.01
    first = run_once(model, CONTIGS["two"][:480])
    for column, feature in enumerate(FEATURES):
        path = out / f"{feature}.bw"
        with pyBigWig.open(str(path)) as track:
            assert track.chroms() == {"one": 2400, "empty": 8, "two": len(CONTIGS["two"])}
        np.testing.assert_allclose(read_bigwig(path, "one", 0, 2400), expected["one"][:, column], rtol=0, atol=1e-5)
        np.testing.assert_allclose(read_bigwig(path, "two", 0, 480), first[:, column], rtol=0, atol=1e-5)
        known = np.isfinite(read_bigwig(path, "two", 480, 623))
        assert known.tolist() == [False] * 20 + [True] * 100 + [False] * 23
        assert not np.isfinite(read_bigwig(path, "empty", 0, 8)).any()
    arrays = np.load(out / "arrays" / "one_0-2400.npz")
    np.testing.assert_allclose(arrays["probabilities"], expected["one"], rtol=0, atol=1e-5)
    assert arrays["features"].tolist() == FEATURES and (str(arrays["chrom"]), int(arrays["end"])) == ("one", 2400)
    calls = [call for call in read_calls(out / "features.bed") if call[0] == "one"]
    assert calls == find_calls(arrays["probabilities"], "one") and len(calls) > 10
    summary = json.loads((out / "segment.json").read_text())
    assert summary["bases_without_value"] == 51 and summary["plot_shows"] == "one:0-2400"
    assert all((out / file).is_file() for file in summary["files"])
    assert (out / "locus.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "partial").exists() and not list(out.rglob("*.partial"))


def test_regions_have_the_context_of_their_contig(model, genome, tmp_path):
    bed = tmp_path / "regions.bed"
    bed.write_text("two\t490\t520\none\t1000\t1500\none\t1440\t1600\n")  # the last two overlap
    out = tmp_path / "tracks"
    assert main([genome, "--model", model, "--out", str(out), "--regions", str(bed), "--arrays", *WINDOWS]) == 0
    assert {path.name for path in (out / "arrays").iterdir()} == {"one_1000-1600.npz", "two_490-520.npz"}
    # In the frame of the first window, which begins 240 bp before the region.
    expected = run_once(model, CONTIGS["one"][760:1840])[240:840]
    values = read_bigwig(out / "exon.bw", "one", 0, 2400)
    np.testing.assert_allclose(values[1000:1600], expected[:, 0], rtol=0, atol=1e-5)
    assert np.isnan(values[:1000]).all() and np.isnan(values[1600:]).all()
    assert np.isfinite(read_bigwig(out / "exon.bw", "two", 490, 520)).tolist() == [False] * 10 + [True] * 20


def test_contigs_have_the_names_of_the_genome(model, tmp_path, capsys):
    pyBigWig = pytest.importorskip("pyBigWig")
    bed, found = tmp_path / "regions.bed", {}
    bed.write_text("chr1\t1000\t1500\nchr1\t1440\t1600\nchrM\t10\t90\n")
    one, two = CONTIGS["one"], CONTIGS["two"]
    genomes = {
        "same": (f">chr1\n{one}\n>chrM\n{two}\n", [], {}),
        "bare": (f">1\n{one}\n>MT\n{two}\n", [], {"chr1": "1", "chrM": "MT"}),
        # With the context of a window on either side, the slices are as good as the contig; in another order.
        "slices": (f">M\n{two}\n>1:2001-2300\n{one[2000:2300]}\n>1:701-1900\n{one[700:1900]}\n", ["--slices"], {}),
    }
    genomes["slices"][2].update({"chr1": "1", "chrM": "M"})
    for name, (fasta, flags, renamed) in genomes.items():
        (tmp_path / f"{name}.fa").write_text(fasta)
        out = tmp_path / name
        argv = [str(tmp_path / f"{name}.fa"), "--model", model, "--out", str(out), "--regions", str(bed), "--json"]
        assert main([*argv, *WINDOWS, "--arrays", "--locus", "chr1:1100-1200", *flags]) == 0
        said = capsys.readouterr()
        answer = json.loads(said.out)
        assert answer["renamed_contigs"] == renamed
        assert (f"{bed}: contigs have other names in" in said.err) == bool(renamed)
        first, mitochondrion = (renamed.get(contig, contig) for contig in ("chr1", "chrM"))
        assert answer["plot_shows"] == f"{first}:1100-1200" and answer["bases"] == 680
        with pyBigWig.open(str(out / "exon.bw")) as track:
            chroms = {first: 2300 if name == "slices" else 2400, mitochondrion: len(two)}
            assert track.chroms() == chroms
        arrays = {path.name for path in (out / "arrays").iterdir()}
        assert arrays == {f"{first}_1000-1600.npz", f"{mitochondrion}_10-90.npz"}
        values = np.load(out / "arrays" / f"{first}_1000-1600.npz")["probabilities"]
        np.testing.assert_array_equal(read_bigwig(out / "exon.bw", first, 1000, 1600), values[:, 0])
        calls = [(renamed_back(renamed, call[0]), *call[1:]) for call in read_calls(out / "features.bed")]
        found[name] = (values, sorted(calls))
    for name in ("bare", "slices"):
        np.testing.assert_array_equal(found[name][0], found["same"][0])
        assert found[name][1] == found["same"][1] and found[name][1]


def renamed_back(renamed: dict[str, str], contig: str) -> str:
    return {other: name for name, other in renamed.items()}.get(contig, contig)


def test_whole_slices_are_bases_of_their_contig(model, tmp_path, capsys):
    one, genome = CONTIGS["one"], tmp_path / "slices.fa"
    genome.write_text(f">c:1501-2000\n{one[1500:2000]}\n>d\n{one[:240]}\n>c:1-960\n{one[:960]}\n")
    options = ["--model", model, *WINDOWS, "--format", "bedgraph"]
    assert main([str(genome), *options, "--out", str(tmp_path / "records")]) == 0
    assert main([str(genome), *options, "--out", str(tmp_path / "slices"), "--slices"]) == 0
    capsys.readouterr()

    def read(folder: str) -> list[list[str]]:
        lines = (tmp_path / folder / "exon.bedgraph").read_text().splitlines()
        return [line.split("\t") for line in lines if not line.startswith("#")]

    places = {"c:1501-2000": ("c", 1500), "c:1-960": ("c", 0), "d": ("d", 0)}
    moved = [
        [places[chrom][0], str(places[chrom][1] + int(start)), str(places[chrom][1] + int(end)), value]
        for chrom, start, end, value in read("records")
    ]
    assert read("slices") == sorted(moved, key=lambda row: (row[0], int(row[1]))) and len(moved) > 100
    # A base has one value.
    genome.write_text(f">c:1-960\n{one[:960]}\n>c:900-1500\n{one[899:1500]}\n")
    assert main([str(genome), *options, "--out", str(tmp_path / "both"), "--slices"]) == 1
    message = "c:0-960 and c:899-1500 overlap, but are read from two slices, 'c:1-960' and 'c:900-1500'"
    assert message in capsys.readouterr().err and not (tmp_path / "both").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--locus", "chr2:0-9"], "--locus chr2:0-9: the interval: the genome"),
        (["--locus", "chr1:0-9"], "--locus chr1:0-9: it is not within what is read, e.g. 1:1000-1500"),
        (["--locus", "chr1:9-9"], "--locus chr1:9-9: the interval holds no bases"),
        (["--locus", "chr1:2000-3000"], "It is not '1', which has 2,400 bp: 'chr1' has positions up to 3,000"),
        (["--regions", "{both}"], "both.bed, line 2: interval chr1:0-9: the genome"),
        (["--regions", "{slice}"], "no contig 'c'; it has 1, c:1-600. 'c:1-600' may be of it: --slices"),
        (["--regions", "{slice}", "--slices"], "slice.bed, line 1: interval c:10-601 goes past the end of the slice"),
    ],
)
def test_contigs_that_are_not_meant(model, tmp_path, flags, message, capsys):
    (tmp_path / "genome.fa").write_text(f">1\n{CONTIGS['one']}\n>c:1-600\n{CONTIGS['one'][:600]}\n")
    for name, text in {
        "regions": "chr1\t1000\t1500\n",
        "both": "1\t0\t9\nchr1\t0\t9\n",
        "slice": "c\t10\t601\n",
    }.items():
        (tmp_path / f"{name}.bed").write_text(text)
    flags = [flag.format(both=tmp_path / "both.bed", slice=tmp_path / "slice.bed") for flag in flags]
    argv = [str(tmp_path / "genome.fa"), "--model", model, "--out", str(tmp_path / "out"), *WINDOWS]
    assert main([*argv, "--regions", str(tmp_path / "regions.bed"), *flags]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_interrupted_run_goes_on(model, genome, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_PIECE", 500)
    whole, out = tmp_path / "whole", tmp_path / "tracks"
    options = ["--model", model, "--format", "bedgraph", *WINDOWS]
    assert main([genome, *options, "--out", str(whole)]) == 0
    right, done = command.segment_sequence, []

    def segment_some(*args, **kwargs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return right(*args, **kwargs)

    monkeypatch.setattr(command, "segment_sequence", segment_some)
    assert main([genome, *options, "--out", str(out)]) == 130
    assert [path.name for path in out.iterdir()] == ["partial"]
    monkeypatch.setattr(command, "segment_sequence", lambda *args, **kwargs: done.append(1) or right(*args, **kwargs))
    capsys.readouterr()
    assert main([genome, *options, "--out", str(out)]) == 0
    assert "going on" in capsys.readouterr().err
    files = sorted(path.name for path in whole.iterdir())
    assert files == sorted(path.name for path in out.iterdir())
    assert all((whole / file).read_bytes() == (out / file).read_bytes() for file in files)

    done[:] = []
    monkeypatch.setattr(command, "segment_sequence", segment_some)
    assert main([genome, *options, "--out", str(out)]) == 1  # there are results now
    assert "--overwrite" in capsys.readouterr().err and not done
    assert main([genome, *options, "--out", str(out), "--overwrite"]) == 130
    pieces = {path.name: path.read_bytes() for path in (out / "partial").iterdir()}
    assert len(pieces) == 3
    assert (
        main([genome, "--out", str(out), *options, "--overwrite", "--overlap", "432"]) == 1
    )  # the pieces would be others
    message = capsys.readouterr().err
    assert "overlap was" in message and "and is 432" in message and "choose another --out" in message
    assert {path.name: path.read_bytes() for path in (out / "partial").iterdir()} == pieces


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no kill -9")
def test_killed_runs_go_on_to_the_same_bytes(model, genome, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_PIECE", 500)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # as the killed runs
    torch.set_num_threads(1)
    options = [genome, "--model", model, "--window", "960", "--overlap", "480", "--arrays"]
    whole, file = tmp_path / "whole", tmp_path / "whole.bw"
    assert main([*options, "--out", str(whole)]) == 0
    assert main([*options[:-1], "--out", str(file), "--track", "exon"]) == 0
    points = {
        "piece": ("gengram.pipelines.pieces:np.save", 3),
        "synced": ("gengram.files:os.fsync", 4),
        "calls": ("gengram.genome.row_files:_write_lines", 2),
        "first_track": ("gengram.genome.bigwig:BigWigWriter.write", 2),
        "last_track": ("gengram.genome.bigwig:_write_summaries", 5),
        "names": ("gengram.files:os.replace", 9),
        "plot": ("gengram.pipelines.segment_genome:plot_locus", 1),
        "file.bw": ("gengram.genome.bigwig:_write_index", 2),
    }
    words = {name: [*options, "--out", str(tmp_path / name)] for name in points}
    words["file.bw"] = [*options[:-1], "--out", str(tmp_path / "file.bw"), "--track", "exon"]
    runs = [(words[name], *place) for name, place in points.items()]
    script = Path(__file__).with_name("killed_segmenting.py")
    code = f"import runpy; runpy.run_path({str(script)!r}, dict(runs={runs!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, argv in words.items():
        assert name != "file.bw" or not (tmp_path / name).exists()
        capsys.readouterr()
        assert main(argv) == 0, name
        assert "going on with the interrupted run" in capsys.readouterr().err
        assert not [path for path in tmp_path.rglob("*part*") if name in str(path.relative_to(tmp_path))], name
    assert (tmp_path / "file.bw").read_bytes() == file.read_bytes()
    expected = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    for name in (one for one in points if one != "file.bw"):
        found = {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        assert found == expected, name
    torch.set_num_threads(threads)


def test_probabilities_are_rounded_and_calls_are_not(model, genome, tmp_path, capsys):
    options = [genome, "--model", model, *WINDOWS[:4], "--arrays"]
    found = {}
    for name, words in {"exact": ["0"], "rounded": ["0.001"], "coarse": ["0.1"]}.items():
        for kind in ("bigwig", "bedgraph"):
            out = tmp_path / f"{name}_{kind}"
            assert main([*options, "--precision", *words, "--format", kind, "--out", str(out), "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["precision"] == float(words[0])
            values = [np.load(file)["probabilities"] for file in sorted((out / "arrays").iterdir())]
            found[name, kind] = np.concatenate(values)
            for column, feature in enumerate(FEATURES):
                if kind == "bigwig":
                    track = read_bigwig(out / f"{feature}.bw", "one", 0, 2400)
                else:
                    track = np.full(2400, np.nan, np.float32)
                    lines = (out / f"{feature}.bedgraph").read_text().splitlines()[1:]
                    for chrom, start, end, value in (line.split("\t") for line in lines):
                        if chrom == "one":
                            track[int(start) : int(end)] = value
                    if name != "exact":
                        assert max(len(line.split("\t")[3]) for line in lines) == {"rounded": 5, "coarse": 3}[name]
                np.testing.assert_array_equal(track, np.load(out / "arrays/one_0-2400.npz")["probabilities"][:, column])
    exact, known = found["exact", "bigwig"], np.isfinite(found["exact", "bigwig"])
    for name, precision in {"rounded": 0.001, "coarse": 0.1}.items():
        for kind in ("bigwig", "bedgraph"):
            assert np.abs(found[name, kind] - exact)[known].max() <= precision / 2 + 1e-7
            calls = read_calls(tmp_path / f"{name}_{kind}" / "features.bed")
            assert calls == read_calls(tmp_path / "exact_bigwig" / "features.bed") and len(calls) > 10
    # Were they made of what is rounded, others would be found.
    assert ((found["coarse", "bigwig"] >= 0.5) != (exact >= 0.5)).any()
    assert main([*options, "--out", str(tmp_path / "v"), "--precision", "0.5"]) == 1
    assert "--precision 0.5: give 0.0001 to 0.1, or 0" in capsys.readouterr().err and not (tmp_path / "v").exists()


def test_what_does_not_fit_on_the_disk_is_refused(model, genome, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    out = tmp_path / "tracks"
    assert main([genome, "--model", model, *WINDOWS, "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert "kB are needed, and 20 kB are free on this disk" in message and "coarser --precision" in message
    assert not list(tmp_path.glob("tracks/**/*.*"))
    # Of one feature a third is kept.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=40_000))
    assert main([genome, "--model", model, *WINDOWS[:4], "--track", "exon", "--out", str(tmp_path / "exon.bw")]) == 0


@pytest.mark.parametrize("precision", [0.0001, 0.001, 0.01, 0.1, 0])
@pytest.mark.parametrize("kind", ["bigwig", "bedgraph"])
def test_the_space_that_is_told_is_enough_for_noise_and_not_much_more(precision, kind, tmp_path):
    bases, rounding = 1_000_000 if kind == "bigwig" else 100_000, Rounding(precision, 0.5)
    noise = np.random.default_rng(0).random((bases, 1), dtype=np.float32)
    (values, called), lengths = rounding.decode(rounding.encode(noise)), {"chr1": bases}
    out = tmp_path / {"bigwig": "noise.bw", "bedgraph": "noise.bedgraph"}[kind]
    write_track([Piece("chr1", 0, np.ascontiguousarray(values), called)], out, "noise", lengths)
    told = bases * command._measure_track(kind, precision)
    assert 0.55 * told <= out.stat().st_size <= told


def test_short_contigs_share_a_file(model, tmp_path, monkeypatch):
    genome, seen = tmp_path / "short.fa", []
    genome.write_text("".join(f">c{number}\n{draw(48 + number % 2 * 24, number)}\n" for number in range(300)))
    write = command.KeptProbabilities.write
    monkeypatch.setattr(
        command.KeptProbabilities,
        "write",
        lambda kept, batch, compute: seen.append(batch) or write(kept, batch, compute),
    )
    assert main([str(genome), "--model", model, *WINDOWS, "--format", "bedgraph", "--out", str(tmp_path / "out")]) == 0
    assert len(seen) == 1 and len(seen[0].parts) == 300
    values = {f"c{number}": np.zeros(48 + number % 2 * 24, np.float32) for number in (0, 7, 299)}
    for line in (tmp_path / "out/exon.bedgraph").read_text().splitlines()[1:]:
        chrom, start, end, value = line.split("\t")
        if chrom in values:
            values[chrom][int(start) : int(end)] = value
    for chrom, found in values.items():
        expected = run_once(model, draw(len(found), int(chrom[1:])))[:, 0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("content", [{}, {"settings.json": "{"}, {"settings.json": "[]"}, {"thesis.txt": "mine"}])
def test_a_folder_of_somebody_else_is_left_alone(content, model, genome, tmp_path, capsys):
    partial = tmp_path / "tracks" / "partial"
    partial.mkdir(parents=True)
    for name, text in content.items():
        (partial / name).write_text(text)
    code = main([genome, "--model", model, "--format", "bedgraph", *WINDOWS, "--out", str(partial.parent)])
    if not content:
        assert code == 0 and (partial.parent / "segment.json").is_file()
        return
    assert code == 1 and str(partial) in capsys.readouterr().err
    assert {path.name: path.read_text() for path in partial.iterdir()} == content


def test_bedgraph_says_the_same(model, genome, tmp_path):
    out = tmp_path / "tracks"
    assert main([genome, "--model", model, "--out", str(out), "--format", "bedgraph", *WINDOWS]) == 0
    values = np.full(2400, np.nan)
    lines = (out / "CTCF-bound.bedgraph").read_text().splitlines()
    assert lines[0] == "#chrom\tstart\tend\tCTCF-bound"
    for chrom, start, end, value in (line.split("\t") for line in lines[1:]):
        if chrom == "one":
            values[int(start) : int(end)] = float(value)
    np.testing.assert_allclose(values, run_once(model, CONTIGS["one"])[:, 2], rtol=0, atol=1e-5)


def test_calls_go_on_over_pieces_and_not_over_gaps(tmp_path):
    high, low = np.full((10, 3), 0.8, dtype=np.float32), np.full((10, 3), 0.2, dtype=np.float32)
    low[:4, 1] = 0.6
    pieces = [
        Piece("a", 0, high),
        Piece("a", 10, low),
        Piece("a", 20, high),
        Piece("a", 40, high),
        Piece("b", 50, high),
    ]
    write_tracks(lambda column: pieces, tmp_path, FEATURES, {"a": 60, "b": 60}, track_format="bedgraph")
    found = [line.split("\t") for line in (tmp_path / "features.bed").read_text().splitlines()[1:]]
    assert [(row[0], int(row[1]), int(row[2]), int(row[4])) for row in found if row[3] == "5UTR"] == [
        ("a", 0, 14, 743),
        ("a", 20, 30, 800),
        ("a", 40, 50, 800),
        ("b", 50, 60, 800),
    ]
    assert [(row[0], int(row[1])) for row in found] == sorted((row[0], int(row[1])) for row in found)


def test_nothing_is_left_of_tracks_that_failed(tmp_path):
    def break_off():
        yield Piece("a", 0, np.ones((5, 3), dtype=np.float32))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_tracks(lambda column: break_off(), tmp_path, FEATURES, {"a": 60}, track_format="bedgraph")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bed", "options", "message"),
    [
        (
            "one\t2000\t2401\n",
            [],
            "line 1: interval one:2000-2401 goes past the end of contig 'one', which has 2400 bp",
        ),
        ("one\t0\t50\nchr1\t0\t50\n", [], "line 2: interval chr1:0-50: the genome"),
        ("one\t50\t50\n", [], "holds no bases"),
        ("one\t5\tx\n", [], "end 'x' is not a position"),
        ("two\t450\t550\n", ["--unknown", "error"], "contig 'two', position 480 (counted from 0): 'N' is no base"),
        ("one\t0\t50\n", ["--window", "500"], "window=500: give a multiple of 24 bp, e.g. 480"),
        ("one\t0\t50\n", ["--window", "480", "--overlap", "480"], "overlap=480"),
        ("one\t0\t50\n", ["--locus", "one:40-60"], "--locus one:40-60: it is not within what is read, e.g. one:0-50"),
        ("one\t0\t50\n", ["--locus", "one"], "write it as CONTIG:START-END"),
    ],
)
def test_what_cannot_be(bed, options, message, model, genome, tmp_path, capsys):
    (tmp_path / "regions.bed").write_text(bed)
    out = tmp_path / "tracks"
    argv = [genome, "--model", model, "--out", str(out), "--regions", str(tmp_path / "regions.bed"), *options]
    assert main(argv) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_proteins_and_other_models(model, genome, tmp_path, capsys):
    (tmp_path / "protein.fa").write_text(">p\nMKVLAA\n")
    out = ["--out", str(tmp_path / "tracks")]
    assert main([str(tmp_path / "protein.fa"), "--model", model, *out]) == 1
    message = capsys.readouterr().err
    assert "4 of 6 letters are not DNA" in message and "the first is 'M' at position 0" in message
    assert "of contig 'p'. This does not look like DNA" in message
    NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SMALL)).save_pretrained(tmp_path / "nt")
    assert main([genome, "--model", str(tmp_path / "nt"), *out]) == 1
    assert "a nucleotide_transformer has no features of single bases" in capsys.readouterr().err
    SegmentNTModel(SegmentNTConfig(features=FEATURES, **SMALL)).save_pretrained(tmp_path / "encoder")
    build_kmer_tokenizer().save_pretrained(tmp_path / "encoder")
    assert main([genome, "--model", str(tmp_path / "encoder"), *out]) == 1
    assert "weights are missing or of another size, e.g. fc.bias" in capsys.readouterr().err
    assert main([genome, "--model", str(tmp_path / "nothing"), *out]) == 1
    assert not (tmp_path / "tracks").exists()


def test_letters_that_are_not_dna_have_no_value_or_are_refused(model, genome, tmp_path, capsys):
    (tmp_path / "gaps.fa").write_text(
        ">chr1\n" + "ACGTTGCA" * 20 + "--" + "GATTACAT" * 20 + "\n>chr2\n" + "N" * 40 + "\n"
    )
    argv = [str(tmp_path / "gaps.fa"), "--model", model, "--format", "bedgraph", *WINDOWS]
    assert main([*argv, "--out", str(tmp_path / "strict"), "--max_non_dna", "0.001"]) == 1
    told = "2 of 362 letters are not DNA"
    message = capsys.readouterr().err
    assert told in message and "'-' (a gap) at position 160 (from 0) of contig 'chr1'" in message
    assert not (tmp_path / "strict").exists()
    assert main([*argv, "--out", str(tmp_path / "tracks")]) == 0
    message = capsys.readouterr().err
    assert told in message and "1 of 2 sequences are nothing but N; the first is contig 'chr2'" in message
    assert json.loads((tmp_path / "tracks/segment.json").read_text())["bases_without_value"] >= 42


@pytest.mark.parametrize("option", [("--batch_size", "0"), ("--threshold", "0"), ("--format", "wig")])
def test_wrong_arguments(option, genome):
    with pytest.raises(SystemExit) as stop:
        main([genome, "--model", "m", "--out", "o", *option])
    assert stop.value.code == 2


def test_longer_windows_are_rescaled(model, tmp_path, monkeypatch):
    factor = command.load_segmenter(model, 40_008).settings["rescaling_factor"]
    assert factor == 6669 / 2048 and command.load_segmenter(model, 30_000).settings["rescaling_factor"] < 2.5


class TestOneFile:
    """In place of a folder."""

    @pytest.fixture
    def folder(self, model, genome, tmp_path, monkeypatch):
        monkeypatch.setattr(command, "_PIECE", 500)  # several pieces, and stretches across them
        assert main([genome, "--model", model, "--format", "bedgraph", "--out", str(tmp_path / "all"), *WINDOWS]) == 0
        return tmp_path / "all"

    def write(self, model, genome, out, *words):
        assert main([genome, "--model", model, "--out", str(out), *WINDOWS, *words]) == 0
        assert not [path.name for path in out.parent.iterdir() if "part" in path.name]
        return out

    def test_bed_is_that_of_the_folder(self, folder, model, genome, tmp_path, capsys):
        capsys.readouterr()
        out = self.write(model, genome, tmp_path / "one.bed", "--json")
        assert out.read_bytes() == (folder / "features.bed").read_bytes()
        answer = json.loads(capsys.readouterr().out)
        assert answer["rows"] == len(read_calls(out)) and answer["columns"][-1] == "probability"
        pysam = pytest.importorskip("pysam")
        packed = self.write(model, genome, tmp_path / "one.bed.gz")
        pysam.tabix_index(str(packed), preset="bed")
        with pysam.TabixFile(str(packed)) as file:
            found = [(row.contig, row.start, row.end, row.name) for row in file.fetch("one", parser=pysam.asBed())]
        assert found == [call for call in read_calls(out) if call[0] == "one"]

    @pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
    def test_tables_have_the_means_of_the_probabilities(self, suffix, folder, model, genome, tmp_path):
        out = self.write(model, genome, tmp_path / f"one{suffix}", "--threshold", "0.4", "--track", "exon")
        table = (
            pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out, sep="\t" if suffix == ".tsv" else ",")
        )
        assert list(table) == ["chrom", "start", "end", "name", "probability"] and set(table["name"]) == {"exon"}
        values = {"one": np.full(2400, np.nan), "two": np.full(623, np.nan)}
        for line in (folder / "exon.bedgraph").read_text().splitlines()[1:]:
            chrom, start, end, value = line.split("\t")
            values[chrom][int(start) : int(end)] = float(value)
        expected = []
        for chrom in values:
            for start, end in find_runs(values[chrom] >= np.float32(0.4)).tolist():
                expected.append((chrom, start, end, values[chrom][start:end].mean()))
        assert len(expected) > 5 and list(zip(table["chrom"], table["start"], table["end"])) == [
            one[:3] for one in expected
        ]
        np.testing.assert_allclose(table["probability"], [one[3] for one in expected], rtol=1e-6)

    @pytest.mark.parametrize("suffix", [".bedgraph", ".bw"])
    def test_a_track_is_that_of_the_folder(self, suffix, folder, model, genome, tmp_path):
        if suffix == ".bw":
            pytest.importorskip("pyBigWig")
        out = self.write(model, genome, tmp_path / f"one{suffix}", "--track", "CTCF-bound")
        if suffix == ".bedgraph":
            assert out.read_bytes() == (folder / "CTCF-bound.bedgraph").read_bytes()
            return
        found = read_bigwig(out, "one", 0, 2400)
        for line in (folder / "CTCF-bound.bedgraph").read_text().splitlines()[1:]:
            chrom, start, end, value = line.split("\t")
            if chrom == "one":
                assert (found[int(start) : int(end)] == np.float32(value)).all()

    def test_no_feature_is_an_empty_file(self, model, genome, tmp_path):
        out = self.write(model, genome, tmp_path / "one.tsv", "--threshold", "1")
        assert out.read_text() == "chrom\tstart\tend\tname\tprobability\n"

    def test_an_interrupted_run_goes_on(self, model, genome, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(command, "_PIECE", 500)
        whole = self.write(model, genome, tmp_path / "whole.csv").read_bytes()
        right, done = command.segment_sequence, []

        def stop(*args, **kwargs):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(1)
            return right(*args, **kwargs)

        monkeypatch.setattr(command, "segment_sequence", stop)
        assert main([genome, "--model", model, "--out", str(tmp_path / "one.csv"), *WINDOWS]) == 130
        assert "stays in" in capsys.readouterr().err and (tmp_path / "one.csv.parts").is_dir()
        monkeypatch.setattr(command, "segment_sequence", right)
        assert self.write(model, genome, tmp_path / "one.csv").read_bytes() == whole
        assert "going on" in capsys.readouterr().err

    def test_what_is_refused(self, model, genome, tmp_path, capsys):
        def fail(name: str, *words) -> str:
            capsys.readouterr()
            assert main([genome, "--model", unloadable, "--out", str(tmp_path / name), *WINDOWS, *words]) == 1
            assert sorted(path.name for path in tmp_path.iterdir()) == before
            return capsys.readouterr().err

        (tmp_path / "there.bed").write_text("mine")
        (tmp_path / "model").mkdir()
        (tmp_path / "model/config.json").write_text("{}")
        unloadable = str(tmp_path / "model")
        before = sorted(path.name for path in tmp_path.iterdir())
        for name in ("v.xlsx", "v.gff", "v.npz", "v.parquet.gz", "v.gz"):
            assert f"{name}: the name must end with .bed, .tsv, .csv, .parquet, .bedgraph, .bw" in fail(name)
        assert "the file is there already" in fail("there.bed")
        assert "--arrays is of the results in a folder" in fail("v.bed", "--arrays")
        assert "--locus is of the results in a folder" in fail("v.bed", "--locus", "one:0-9")
        assert "a folder has the tracks of all features; leave --track out" in fail("v", "--track", "exon")
        words = [genome, "--model", model, *WINDOWS, "--out", str(tmp_path / "v.bedgraph")]
        assert main(words) == 1
        assert "holds one of the features; choose with --track: 'exon', '5UTR'" in capsys.readouterr().err
        assert main([*words, "--track", "intron"]) == 1
        assert "--track 'intron': there is none called so among the features" in capsys.readouterr().err

    def test_what_is_a_folder(self, tmp_path):
        (tmp_path / "there.bed").mkdir()
        for name in ("v", "v.2", "there.bed", "v.hg38/", "v.bed/", "."):
            assert not names_file(f"{tmp_path}/{name}", "segment"), name
        assert names_file("V.BED.GZ", "segment") and names_file(Path("a/v.bw"), "segment")
