"""`gengram predict --too_long window`: windows of contigs, intervals and tables in every format, and tracks of them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from gengram.genome import intervals
from gengram.genome.alphabet import reverse_complement
from gengram.pipelines import scan_file as work
from gengram.pipelines.command import predict as main
from gengram.training.command import finetune

WINDOWS = ["--too_long", "window", "--window", "100", "--stride", "50"]


def draw(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


CONTIGS = {"one": draw(430, 0), "short": draw(30, 1), "two": draw(100, 2) + "N" * 150 + draw(75, 3)}


@pytest.fixture
def genome(tmp_path):
    lines = [f">{name} of a genome\n{text}\n" for name, text in CONTIGS.items()]
    (tmp_path / "genome.fa").write_text("".join(lines))
    return tmp_path / "genome.fa"


@pytest.fixture(scope="module")
def ask(classifiers):
    """What a model says of one text: probabilities, or the value."""
    loaded = {}

    def run(name: str, text: str) -> np.ndarray:
        if name not in loaded:
            auto = AutoModelForTokenClassification if name == "bases" else AutoModelForSequenceClassification
            loaded[name] = (
                auto.from_pretrained(classifiers[name]).eval(),
                AutoTokenizer.from_pretrained(classifiers[name]),
            )
        model, tokenizer = loaded[name]
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        turn = {"measured": lambda found: found, "several": expit}.get(name, lambda found: softmax(found, axis=-1))
        return turn(logits)

    return run


def place(length: int, window: int = 100, stride: int = 50) -> list[tuple[int, int]]:
    """By hand, where windows lie."""
    last = max(length - window, 0)
    return [(start, min(start + window, length)) for start in [*range(0, last, stride), last]]


def run(model, file, out, *options) -> None:
    assert main([str(word) for word in (file, "--model", model, "--out", out, *(options or WINDOWS))]) == 0
    assert not list(out.parent.glob("*.partial")) and not list(out.parent.glob("*.parts"))


def test_contigs_as_a_table(classifiers, genome, tmp_path, ask, capsys):
    run(classifiers["sequences"], genome, tmp_path / "w.parquet")
    table = pd.read_parquet(tmp_path / "w.parquet")
    assert list(table.columns) == ["chrom", "start", "end", "prediction", "probability_no", "probability_yes"]
    expected = [(name, *span) for name, text in CONTIGS.items() for span in place(len(text))]
    assert list(table[["chrom", "start", "end"]].itertuples(index=False, name=None)) == expected
    nulls = 0
    for row in table.itertuples():
        text = CONTIGS[row.chrom][row.start : row.end]
        if text.count("N") > 10:
            assert pd.isna(row.prediction) and pd.isna(row.probability_yes)
            nulls += 1
        else:
            assert row.probability_yes == pytest.approx(ask("sequences", text)[1], abs=1e-5)
    told = capsys.readouterr().err
    assert nulls == 5 and f"{nulls} of {len(table)} windows have no prediction" in told
    assert "windows of 100 bp, one every 50 bp" in told


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".bed"])
def test_the_other_formats_say_the_same(suffix, classifiers, genome, tmp_path):
    run(classifiers["sequences"], genome, tmp_path / "w.parquet")
    run(classifiers["sequences"], genome, tmp_path / f"w{suffix}")
    right = pd.read_parquet(tmp_path / "w.parquet")
    found = pd.read_csv(tmp_path / f"w{suffix}", sep="," if suffix == ".csv" else "\t")
    found = found.rename(columns={"#chrom": "chrom"}).replace(".", np.nan)
    for name in ("chrom", "start", "end"):
        assert found[name].tolist() == right[name].tolist()
    np.testing.assert_array_equal(found["probability_yes"].astype("float32"), right["probability_yes"])


@pytest.mark.parametrize("suffix", [".bw", ".bedgraph"])
@pytest.mark.parametrize(
    ("model", "track", "column"), [("sequences", "yes", 1), ("several", "b", 1), ("measured", None, 0)]
)
def test_a_track_is_the_mean_of_the_windows_over_a_base(
    suffix, model, track, column, classifiers, genome, tmp_path, ask
):
    options = [*WINDOWS, *(["--track", track] if track else [])]
    run(classifiers[model], genome, tmp_path / f"w{suffix}", *options)
    found = read_track(tmp_path / f"w{suffix}", {name: len(text) for name, text in CONTIGS.items()})
    for name, text in CONTIGS.items():
        covering = [[] for _ in text]
        for start, end in place(len(text)):
            if text[start:end].count("N") <= 0.1 * (end - start):
                for base in range(start, end):
                    covering[base].append(ask(model, text[start:end])[column])
        expected = np.array([np.mean(values) if values else np.nan for values in covering])
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5)


def read_track(path, lengths: dict[str, int]) -> dict[str, np.ndarray]:
    if path.suffix == ".bw":
        pyBigWig = pytest.importorskip("pyBigWig")
        with pyBigWig.open(str(path)) as opened:
            assert opened.chroms() == lengths
            return {name: np.array(opened.values(name, 0, length)) for name, length in lengths.items()}
    found = {name: np.full(length, np.nan) for name, length in lengths.items()}
    for line in path.read_text().splitlines()[1:]:
        chrom, start, end, value = line.split("\t")
        assert np.isnan(found[chrom][int(start) : int(end)]).all()
        found[chrom][int(start) : int(end)] = float(value)
    return found


def test_intervals_of_both_strands(classifiers, genome, tmp_path, ask):
    (tmp_path / "places.bed").write_text("one\t20\t250\ta\t0\t+\none\t100\t330\tb\t0\t-\ntwo\t0\t60\tc\t0\t-\n")
    options = ["--genome", genome, *WINDOWS]
    run(classifiers["sequences"], tmp_path / "places.bed", tmp_path / "w.parquet", *options)
    table = pd.read_parquet(tmp_path / "w.parquet")
    spans = [(20, 120), (70, 170), (120, 220), (150, 250), (230, 330), (180, 280), (130, 230), (100, 200), (0, 60)]
    assert list(table[["start", "end"]].itertuples(index=False, name=None)) == spans
    assert table["name"].tolist() == ["a"] * 4 + ["b"] * 4 + ["c"] and table["strand"].tolist() == ["+"] * 4 + ["-"] * 5
    values = {}
    for row in table.itertuples():
        text = CONTIGS[row.chrom][row.start : row.end]
        text = reverse_complement(text) if row.strand == "-" else text
        assert row.probability_yes == pytest.approx(ask("sequences", text)[1], abs=1e-5)
        for base in range(row.start, row.end):
            values.setdefault((row.chrom, base), []).append(row.probability_yes)
    run(classifiers["sequences"], tmp_path / "places.bed", tmp_path / "w.bw", *options, "--track", "yes")
    found = read_track(tmp_path / "w.bw", {name: len(text) for name, text in CONTIGS.items()})
    for name, track in found.items():
        expected = [np.mean(values.get((name, base), [np.nan])) for base in range(len(track))]
        np.testing.assert_allclose(track, expected, rtol=0, atol=1e-6)


def test_a_table_without_places(classifiers, tmp_path, ask):
    texts = [draw(260, 7), draw(40, 8)]
    pd.DataFrame({"id": ["x", "y"], "sequence": texts, "start": [5, 6]}).to_csv(tmp_path / "t.csv", index=False)
    run(classifiers["measured"], tmp_path / "t.csv", tmp_path / "w.tsv")
    table = pd.read_csv(tmp_path / "w.tsv", sep="\t")
    assert list(table.columns) == ["data_row", "id", "start", "window_start", "window_end", "prediction_level"]
    assert table["data_row"].tolist() == [1, 1, 1, 1, 1, 2] and table["start"].tolist() == [5] * 5 + [6]
    for row in table.itertuples():
        text = texts[row.data_row - 1][row.window_start : row.window_end]
        assert row.prediction_level == pytest.approx(ask("measured", text)[0], abs=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_a_table_and_headers_with_places(first, classifiers, genome, tmp_path, capsys):
    """Windows have the places that bases have in the genome, however the first one is counted."""
    rows = pd.DataFrame({"chrom": ["one", "one"], "start": [50 + first, 0 + first], "end": [280, 130]})
    rows["sequence"] = [CONTIGS["one"][50:280], CONTIGS["one"][:130]]
    rows.to_csv(tmp_path / "t.csv", index=False)
    lines = [f">{row.chrom}:{row.start}-{row.end}\n{row.sequence}\n" for row in rows.itertuples()]
    (tmp_path / "t.fa").write_text("".join(lines))
    (tmp_path / "t.bed").write_text("one\t50\t280\none\t0\t130\n")
    run(classifiers["sequences"], tmp_path / "t.bed", tmp_path / "bed.parquet", *WINDOWS, "--genome", genome)
    right = pd.read_parquet(tmp_path / "bed.parquet")
    for name in ("t.csv", "t.fa"):
        run(classifiers["sequences"], tmp_path / name, tmp_path / "w.parquet", *WINDOWS, "--overwrite")
        table = pd.read_parquet(tmp_path / "w.parquet")
        columns = ["chrom", "start", "end", "probability_yes"]
        if "chrom" in table:
            pd.testing.assert_frame_equal(table[columns], right[columns])
    assert ("places count from 1" in capsys.readouterr().err) == bool(first)


def test_strands_of_a_table(classifiers, genome, tmp_path, capsys):
    """Blanks around a strand say nothing; what is none of BED's strands says not where a window lies."""
    rows = pd.DataFrame({"chrom": "one", "start": [50, 0], "end": [280, 130], "strand": [" -", None]})
    rows["sequence"] = [reverse_complement(CONTIGS["one"][50:280]), CONTIGS["one"][:130]]
    rows.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.bed").write_text("one\t50\t280\t.\t0\t-\none\t0\t130\t.\t0\t.\n")
    run(classifiers["sequences"], tmp_path / "t.bed", tmp_path / "bed.parquet", *WINDOWS, "--genome", genome)
    run(classifiers["sequences"], tmp_path / "t.csv", tmp_path / "w.parquet", *WINDOWS)
    columns = ["chrom", "start", "end", "probability_yes"]
    found, right = (pd.read_parquet(tmp_path / name) for name in ("w.parquet", "bed.parquet"))
    pd.testing.assert_frame_equal(found[columns], right[columns])
    assert found["strand"].isna().tolist() == [False] * 4 + [True] * 2
    rows.assign(strand=["minus", "plus"]).to_csv(tmp_path / "t.csv", index=False)
    run(classifiers["sequences"], tmp_path / "t.csv", tmp_path / "w.parquet", *WINDOWS, "--overwrite")
    found = pd.read_parquet(tmp_path / "w.parquet")
    assert found["window_start"].tolist() == [0, 50, 100, 130, 0, 30] and set(found["start"]) == {50, 0}


def test_columns_called_like_those_of_a_window_give_way_and_that_is_told(classifiers, tmp_path, capsys):
    frame = pd.DataFrame({"sequence": [draw(120, 7)], "data_row": [9], "window_start": ["x"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    run(classifiers["sequences"], tmp_path / "t.csv", tmp_path / "w.tsv")
    assert "'data_row', 'window_start': columns of the windows are called so" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "w.tsv", sep="\t")["window_start"].tolist() == [0, 20]


def test_a_bigwig_has_one_kind_of_names(classifiers, tmp_path):
    pyBigWig = pytest.importorskip("pyBigWig")
    (tmp_path / "genome.fa").write_text(f">7\n{draw(300, 1)}\n>8\n{draw(200, 2)}\n")
    for chrom, lengths in (("chr7", {"chr7": 300}), ("7", {"7": 300, "8": 200})):
        (tmp_path / "t.bed").write_text(f"{chrom}\t50\t180\n")
        options = (*WINDOWS, "--genome", tmp_path / "genome.fa", "--track", "yes", "--overwrite")
        run(classifiers["sequences"], tmp_path / "t.bed", tmp_path / "w.bw", *options)
        with pyBigWig.open(str(tmp_path / "w.bw")) as track:
            assert track.chroms() == lengths


def test_both_strands_of_windows(classifiers, genome, tmp_path, ask):
    run(classifiers["sequences"], genome, tmp_path / "w.parquet", *WINDOWS, "--average_strands")
    for row in pd.read_parquet(tmp_path / "w.parquet").itertuples():
        text = CONTIGS[row.chrom][row.start : row.end]
        if "N" not in text:
            mean = (ask("sequences", text) + ask("sequences", reverse_complement(text))) / 2
            assert row.probability_no == pytest.approx(mean[0], abs=1e-5)


def test_bases_of_long_rows_are_one_pass(classifiers, tmp_path, ask):
    texts = [draw(900, 4), draw(60, 5), draw(450, 6) + "NNNN"]
    pd.DataFrame({"id": list("abc"), "sequence": texts}).to_csv(tmp_path / "t.csv", index=False)
    options = ["--too_long", "window", "--window", "200"]
    run(classifiers["bases"], tmp_path / "t.csv", tmp_path / "w.parquet", *options)
    table = pd.read_parquet(tmp_path / "w.parquet")
    assert table["id"].tolist() == list("abc") and table["prediction_start"].tolist() == [0, 0, 0]
    for row, text in zip(table.itertuples(), texts):
        expected = ask("bases", text)
        np.testing.assert_allclose(row.probability_exon, expected[:, 0], rtol=0, atol=1e-5)
        assert [["exon", "intron", "none"].index(name) for name in row.prediction] == expected.argmax(axis=1).tolist()
    run(classifiers["bases"], tmp_path / "t.csv", tmp_path / "plain.parquet", "--batch_size", 2)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "plain.parquet"), table, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [("sequences", "w.bw"), ("sequences", "w.tsv"), ("bases", "w.parquet")])
def test_the_phases_of_a_scan(kind, name, classifiers, genome, tmp_path, capsys):
    track = ["--track", "yes"] if name.endswith(".bw") else []
    assert (
        main(
            [str(genome), "--model", str(classifiers[kind]), *WINDOWS, *track, "--json", "--out", str(tmp_path / name)]
        )
        == 0
    )
    phases = {one["name"]: one for one in json.loads(capsys.readouterr().out)["phases"]}
    windows = sum(len(place(len(text))) for text in CONTIGS.values())
    count, unit = (windows, "windows") if kind == "sequences" else (sum(map(len, CONTIGS.values())), "bp")
    for told in ("Predicting", "Writing"):
        assert (phases[told]["count"], phases[told]["unit"]) == (count, unit)
    assert {"Checking the rows", "Loading the model", "Checksums", "Reading"} <= set(phases)


def test_a_scan_of_intervals_reads_the_genome_once(classifiers, genome, tmp_path, monkeypatch):
    (tmp_path / "some.bed").write_text("one\t10\t300\ntwo\t0\t100\none\t200\t400\n")
    options = ["--genome", genome, *WINDOWS, "--track", "yes"]
    run(classifiers["sequences"], tmp_path / "some.bed", tmp_path / "w.bedgraph", *options)
    read, opened = intervals.read_fasta, []
    monkeypatch.setattr(
        intervals, "read_fasta", lambda path, *rest, **more: opened.append(path) or read(path, *rest, **more)
    )
    run(classifiers["sequences"], tmp_path / "some.bed", tmp_path / "again.bedgraph", *options)
    assert len(opened) == 1
    assert (tmp_path / "w.bedgraph").read_bytes() == (tmp_path / "again.bedgraph").read_bytes()


def test_a_base_that_a_bigwig_file_cannot_count_to(classifiers, tmp_path, capsys):
    """Told before anything is computed; text has it."""
    (tmp_path / "far.fa").write_text(f">chr1:5000000001-5000000200\n{draw(200, 0)}\n")
    words = [str(tmp_path / "far.fa"), "--model", str(classifiers["sequences"]), *WINDOWS, "--track", "yes", "--out"]
    assert main([*words, str(tmp_path / "far.bw")]) == 1
    assert "chr1 has 5,000,000,200 bp, but a bigWig file counts to 4,294,967,295" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["far.fa"]
    assert main([*words, str(tmp_path / "far.bedgraph")]) == 0
    assert "chr1\t5000000000\t5000000050" in (tmp_path / "far.bedgraph").read_text()


def test_an_interrupted_scan_goes_on(classifiers, genome, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(work, "_WINDOWS", 3)
    words = [str(word) for word in (genome, "--model", classifiers["sequences"], *WINDOWS)]
    assert main([*words, "--out", str(tmp_path / "whole.tsv")]) == 0
    right, done = work.score_windows, []

    def score_some(*args, **kwargs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return right(*args, **kwargs)

    monkeypatch.setattr(work, "score_windows", score_some)
    out = tmp_path / "w.tsv"
    assert main([*words, "--out", str(out)]) == 130
    assert not out.exists() and len(list((tmp_path / "w.tsv.parts").glob("*.npy"))) == 2
    monkeypatch.setattr(work, "score_windows", lambda *args, **kwargs: done.append(1) or right(*args, **kwargs))
    capsys.readouterr()
    assert main([*words, "--stride", "25", "--out", str(out)]) == 1
    assert "stride was 50 and is 25" in capsys.readouterr().err
    assert main([*words, "--out", str(out)]) == 0
    assert "going on with the interrupted run" in capsys.readouterr().err
    assert out.read_bytes() == (tmp_path / "whole.tsv").read_bytes() and not (tmp_path / "w.tsv.parts").exists()
    assert len(done) == -(-len(out.read_text().splitlines()[1:]) // 3)  # the first two were not made again


def test_parts_do_not_change_the_result(classifiers, genome, tmp_path, monkeypatch):
    lengths = {name: len(text) for name, text in CONTIGS.items()}
    run(classifiers["several"], genome, tmp_path / "one.bedgraph", *WINDOWS, "--track", "a")
    one = read_track(tmp_path / "one.bedgraph", lengths)
    for name, value in (("_WINDOWS", 2), ("_BASES", 150), ("_STEPS", 3)):
        monkeypatch.setattr(work, name, value)
        run(classifiers["several"], genome, tmp_path / f"{name}.bedgraph", *WINDOWS, "--track", "a")
        for chrom, values in read_track(tmp_path / f"{name}.bedgraph", lengths).items():
            np.testing.assert_allclose(values, one[chrom], rtol=0, atol=1e-6)


def test_the_mean_of_several_seeds(command, genome, tmp_path):
    assert finetune(command(memory=True, test_file=None, seeds=[0, 1])) == 0
    for name, options in (("all", ["--seed", "all"]), ("0", ["--seed", 0]), ("1", ["--seed", 1])):
        run(tmp_path / "run", genome, tmp_path / f"{name}.parquet", "--too_long", "window", *options)
    table, zero, one = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("all", "0", "1"))
    both = np.stack([zero["probability_with"], one["probability_with"]])
    np.testing.assert_allclose(table["probability_with"], both.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(table["probability_with_sd"], both.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    longest = pd.read_csv(tmp_path / "train.csv")["seq"].str.len().max()  # of the rows that trained, at most
    assert 20 <= (table["end"] - table["start"]).max() <= longest


def test_the_answer(classifiers, genome, tmp_path, capsys):
    run(classifiers["sequences"], genome, tmp_path / "w.bw", *WINDOWS, "--track", "yes", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["out"] == str(tmp_path / "w.bw") and answer["track"] == "yes"


@pytest.mark.parametrize(
    ("model", "out", "options", "message"),
    [
        ("sequences", "w.bw", WINDOWS, "choose with --track: 'no', 'yes'"),
        ("sequences", "w.bw", [], "--too_long window"),
        ("sequences", "w.tsv", [*WINDOWS, "--stride", "101"], "--stride 101: give 1 to 100 bp"),
        ("sequences", "w.tsv", ["--window", "100"], "--too_long window"),
        ("sequences", "w.tsv", ["--stride", "100"], "--too_long window"),
        (
            "sequences",
            "w.tsv",
            [*WINDOWS, "--max_length", "60"],
            "a window of 100 bp is 100 tokens, but the limit is 60",
        ),
        ("sequences", "w.tsv", [*WINDOWS, "--max_length", "100001"], "longer than the model"),
        ("bases", "w.tsv", ["--too_long", "window", "--window", "100001"], "the model takes at most 100000 bp at once"),
        ("bases", "w.bw", [*WINDOWS, "--track", "exon"], "gengram segment"),
    ],
)
def test_what_cannot_be(model, out, options, message, classifiers, genome, tmp_path, capsys):
    words = [str(word) for word in (genome, "--model", classifiers[model], "--out", tmp_path / out, *options)]
    assert main(words) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.glob("w.*"))


def test_places_that_are_none(classifiers, tmp_path, capsys):
    out = str(tmp_path / "w.bed")
    for name, content, message in (
        ("a.csv", "sequence\nACGTTGCA\n", "the rows have no places"),
        ("b.csv", "chrom,start,end,sequence\nx,5,9,ACGTTGCA\n", "not every place has as many bases as its sequence"),
        ("c.fa", ">x 1\nACGTTGCA\n>x 2\nACGTTGCA\n", "two records are called 'x', so it is not known"),
        ("d.fa", ">track\nACGTTGCA\n", "the contig 'track' has no place in a BED"),
    ):
        (tmp_path / name).write_text(content)
        assert main([str(tmp_path / name), "--model", str(classifiers["sequences"]), "--out", out, *WINDOWS]) == 1
        assert message in capsys.readouterr().err, name
    assert not list(tmp_path.glob("w.*"))


def test_numbers_that_overflow(build_local, classifiers, genome, tmp_path, capsys):
    model = build_local(False, 2)
    with torch.no_grad():
        model.classifier.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "big")
    AutoTokenizer.from_pretrained(classifiers["bases"]).save_pretrained(tmp_path / "big")
    words = [str(genome), "--model", str(tmp_path / "big"), "--out", str(tmp_path / "w.tsv"), *WINDOWS]
    assert main(words) == 1
    assert "are not finite for 10 of 15 windows: its numbers overflow" in capsys.readouterr().err
    assert not list(tmp_path.glob("w.*"))
