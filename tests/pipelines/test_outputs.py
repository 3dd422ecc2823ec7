"""Every suffix of every verb: written, opened by another program, the same numbers; wrong ones refused at once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from gengram.errors import InputError
from gengram.pipelines.command import embed, predict
from gengram.pipelines.embed_file import embed_file
from gengram.pipelines.outputs import COMPRESSED, SUFFIXES, check_output, list_suffixes
from gengram.pipelines.placed_predictions import choose_track
from gengram.tokenization import build_nucleotide_tokenizer

GENOME = {name: "".join(np.random.default_rng(seed).choice(list("ACGT"), 200)) for seed, name in enumerate(["b", "a"])}
# Not in the order of the genome; one on the other strand.
INTERVALS = [("b", 50, 90, "x", "-"), ("b", 0, 40, "y y", "+"), ("a", 10, 50, ".", "."), ("a", 60, 99, "z", "-")]
CLASSES = ["no", 'a\tb;"c"\n', "probability"]


@pytest.fixture
def make_model(small, tmp_path):
    def make(problem_type: str | None, names: list[str], cls=BertForSequenceClassification) -> Path:
        torch.manual_seed(0)
        config = BertConfig(vocab_size=128, problem_type=problem_type, id2label=dict(enumerate(names)), **small)
        model = cls(config)
        with torch.no_grad():  # so that not all say the same
            model.classifier.weight.normal_(0, 0.5)
        model.save_pretrained(tmp_path / "model")
        build_nucleotide_tokenizer(template="cls_sep", model_max_length=256).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return make


@pytest.fixture
def unloadable(tmp_path) -> str:
    """A folder that a model is looked for in, and that none can be loaded from."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return str(tmp_path / "model")


@pytest.fixture
def bed(tmp_path) -> list[str]:
    """Arguments: a BED file and its genome."""
    (tmp_path / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in GENOME.items()))
    lines = [f"{chrom}\t{start}\t{end}\t{name}\t7\t{strand}\n" for chrom, start, end, name, strand in INTERVALS]
    (tmp_path / "peaks.bed").write_text("".join(lines))
    return [str(tmp_path / "peaks.bed"), "--genome", str(tmp_path / "genome.fa")]


def cut(chrom: str, start: int, end: int, strand: str) -> str:
    bases = GENOME[chrom][start:end]
    return bases[::-1].translate(str.maketrans("ACGT", "TGCA")) if strand == "-" else bases


def ask(folder: Path, auto=AutoModelForSequenceClassification) -> list[np.ndarray]:
    """Logits of each interval, alone."""
    model, tokenizer = auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    sequences = [cut(chrom, start, end, strand) for chrom, start, end, _, strand in INTERVALS]
    with torch.no_grad():
        return [model(**tokenizer(sequence, return_tensors="pt")).logits[0].numpy() for sequence in sequences]


def run(verb, *words) -> Path:
    out = Path(words[words.index("--out") + 1])
    assert verb([*map(str, words)]) == 0
    assert not [path.name for path in out.parent.iterdir() if "part" in path.name]
    return out


def read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",", keep_default_na=False)


def read_lines(path: Path) -> list[list[str]]:
    """By bgzip of htslib, where it is packed."""
    pysam = pytest.importorskip("pysam")
    text = pysam.BGZFile(str(path)).read().decode() if path.suffix == ".gz" else path.read_text()
    return [line.split("\t") for line in text.splitlines()]


TABLES = [".parquet", ".tsv", ".csv", ".tsv.gz", ".csv.gz", ".TSV"]


@pytest.mark.parametrize("suffix", TABLES)
def test_predictions_as_tables(suffix, make_model, bed, tmp_path):
    if suffix.endswith(".gz"):
        pytest.importorskip("pysam")
    folder = make_model("single_label_classification", CLASSES)
    table = read_table(run(predict, *bed, "--model", folder, "--out", tmp_path / f"out{suffix.lower()}"))
    expected = softmax(np.stack(ask(folder)), axis=1)
    assert list(table) == [
        *("chrom", "start", "end", "name", "score", "strand", "prediction"),
        *(f"probability_{name}" for name in CLASSES),
    ]
    np.testing.assert_allclose(table.iloc[:, -3:].to_numpy(dtype=np.float32), expected, atol=1e-6)
    assert table["prediction"].tolist() == [CLASSES[place] for place in expected.argmax(axis=1)]
    assert table["name"].tolist() == ["x", "y y", ".", "z"] and table["start"].tolist() == [50, 0, 10, 60]


def test_text_has_the_float32_of_parquet_and_json_says_what_was_written(make_model, bed, tmp_path, capsys):
    folder = make_model("single_label_classification", CLASSES)
    whole = pd.read_parquet(run(predict, *bed, "--model", folder, "--out", tmp_path / "out.parquet"))
    for suffix in (".tsv", ".csv", ".bed"):
        capsys.readouterr()
        out = run(predict, *bed, "--model", folder, "--out", tmp_path / f"out{suffix}", "--json")
        answer = json.loads(capsys.readouterr().out)
        assert answer["rows"] == 4 and len(answer["columns"]) == len(whole.columns) + (suffix == ".bed")
        if suffix != ".bed":
            assert answer["columns"] == list(whole.columns)
            for name in CLASSES:
                column = f"probability_{name}"
                assert (read_table(out)[column].to_numpy(np.float32) == whole[column].to_numpy()).all()


def test_several_labels_and_targets_as_text(make_model, bed, tmp_path):
    folder = make_model("multi_label_classification", ["a", "b;c", "d"])
    table = read_table(run(predict, *bed, "--model", folder, "--out", tmp_path / "out.tsv"))
    chosen = [[name for name, one in zip(["a", "b;c", "d"], row) if one > 0.5] for row in expit(np.stack(ask(folder)))]
    cells = [
        json.loads(cell) if cell.startswith("[") else cell.split(";") if cell else [] for cell in table["prediction"]
    ]
    assert cells == chosen
    folder = make_model("regression", ["x", "y"])
    table = read_table(run(predict, *bed, "--model", folder, "--out", tmp_path / "out.csv"))
    np.testing.assert_allclose(table[["prediction_x", "prediction_y"]], np.stack(ask(folder)), atol=1e-6)


@pytest.mark.parametrize("suffix", [".bed", ".bed.gz"])
@pytest.mark.parametrize("track", [None, CLASSES[1]])
def test_predictions_as_bed(suffix, track, make_model, bed, tmp_path):
    folder = make_model("single_label_classification", CLASSES)
    words = [*bed, "--model", folder, "--out", tmp_path / f"out{suffix}", *(["--track", track] if track else [])]
    head, *rows = read_lines(run(predict, *words))
    assert head[:8] == ["#chrom", "start", "end", "name", "score", "strand", "input_score", "prediction"]
    assert head[9] == 'probability_a\\tb;"c"\\n'
    assert [(row[0], int(row[1]), int(row[2]), row[3], row[5], row[6]) for row in rows] == [
        (*interval, "7") for interval in INTERVALS
    ]
    expected = softmax(np.stack(ask(folder)), axis=1)
    found = np.array([row[8:] for row in rows], dtype=np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scores = found[:, 1] if track else found.max(axis=1)
    assert [int(row[4]) for row in rows] == [round(1000 * float(score)) for score in scores]


@pytest.mark.parametrize("suffix", [".bedgraph", ".bedGraph.gz"])
def test_predictions_as_bedgraph(suffix, make_model, bed, tmp_path):
    pysam = pytest.importorskip("pysam")
    folder = make_model("single_label_classification", CLASSES)
    out = run(predict, *bed, "--model", folder, "--out", tmp_path / f"out{suffix}", "--track", "no")
    lines = read_lines(out)
    assert lines[0] == ["#chrom", "start", "end", "no"]
    places = [(row[0], int(row[1]), int(row[2])) for row in lines[1:]]
    assert places == sorted(interval[:3] for interval in INTERVALS)
    expected = dict(zip((interval[:3] for interval in INTERVALS), softmax(np.stack(ask(folder)), axis=1)[:, 0]))
    np.testing.assert_allclose([float(row[3]) for row in lines[1:]], [expected[place] for place in places], atol=1e-6)
    if suffix.endswith(".gz"):
        pysam.tabix_index(str(out), preset="bed")
        (found,) = pysam.TabixFile(str(out)).fetch("b", 60, 61)
        assert found.split("\t") == lines[4]


@pytest.mark.parametrize("suffix", [".bed", ".bedgraph"])
def test_bases_in_the_direction_of_the_contig(suffix, make_model, bed, tmp_path):
    folder = make_model(None, ["A", "b c", "C"], BertForTokenClassification)
    words = ["--track", "b c"] if suffix == ".bedgraph" else []
    lines = read_lines(run(predict, *bed, "--model", folder, "--out", tmp_path / f"out{suffix}", *words))
    expected = {name: np.full((200, 3), np.nan, np.float32) for name in GENOME}
    strands = {}
    for (chrom, start, end, _, strand), logits in zip(INTERVALS, ask(folder, AutoModelForTokenClassification)):
        values = softmax(logits[1:-1], axis=1)
        expected[chrom][start:end] = values[::-1] if strand == "-" else values
        strands[chrom, start, end] = strand
    if suffix == ".bedgraph":
        found = {name: np.full(200, np.nan, np.float32) for name in GENOME}
        for chrom, start, end, value in lines[1:]:
            found[chrom][int(start) : int(end)] = np.float32(value)
        for name in GENOME:
            np.testing.assert_allclose(found[name], expected[name][:, 1], atol=1e-6)
        return
    assert lines[0] == ["#chrom", "start", "end", "name", "score", "strand", "probability"]
    covered = {name: np.full(200, -1) for name in GENOME}
    for chrom, start, end, name, score, strand, mean in lines[1:]:
        place, span = ["A", "b c", "C"].index(name), slice(int(start), int(end))
        assert (covered[chrom][span] == -1).all()
        covered[chrom][span] = place
        assert float(mean) == pytest.approx(expected[chrom][span, place].mean(), abs=1e-6)
        assert int(score) == round(1000 * float(mean))
        assert strand in {one for (c, s, e), one in strands.items() if c == chrom and s <= int(start) < int(end) <= e}
    for name in GENOME:
        inside = ~np.isnan(expected[name][:, 0])
        assert (covered[name][inside] == expected[name][inside].argmax(axis=1)).all() and (
            covered[name][~inside] == -1
        ).all()


@pytest.mark.parametrize("file", ["rows.csv", "rows.fa"])
def test_places_of_tables_and_headers(file, make_model, tmp_path):
    """As bedtools getfasta -s writes them."""
    rows = [(chrom, start, end, strand, cut(chrom, start, end, strand)) for chrom, start, end, _, strand in INTERVALS]
    if file == "rows.fa":
        text = "".join(f">{chrom}:{start}-{end}({strand})\n{bases}\n" for chrom, start, end, strand, bases in rows)
    else:
        text = "chrom,start,end,strand,sequence\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / file).write_text(text)
    folder = make_model("single_label_classification", ["a", "b"])
    lines = read_lines(run(predict, tmp_path / file, "--model", folder, "--out", tmp_path / "out.bed"))
    assert [(row[0], int(row[1]), int(row[2]), row[5]) for row in lines[1:]] == [row[:4] for row in rows]


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".bed", ".tsv.gz", ".bed.gz"])
def test_vectors_as_text_are_those_of_parquet(suffix, make_model, bed, tmp_path, capsys):
    folder = make_model("single_label_classification", ["a", "b"])
    words = [*bed, "--model", folder, "--dtype", "float32"]
    whole = pd.read_parquet(run(embed, *words, "--out", tmp_path / "out.parquet"))
    capsys.readouterr()
    out = run(embed, *words, "--out", tmp_path / f"out{suffix}", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (answer["vectors"], answer["dimension"]) == (4, 16)
    lines = read_lines(out)
    if ".csv" in suffix:
        lines = [line[0].split(",") for line in lines]
    names = [f"embedding_{place}" for place in range(16)]
    found = np.array([row[-16:] for row in lines[1:]], dtype=np.float32)
    assert lines[0][-16:] == names and (found == np.stack(whole["embedding"])).all()
    assert [row[3] for row in lines[1:]] == ["x", "y y", ".", "z"]


@pytest.mark.parametrize("per_base", [False, True])
def test_vectors_of_tokens_and_bases_have_a_row_each(per_base, make_model, tmp_path):
    sequences = ["ACGTACGT", "GATTACA", "CCG"]
    pd.DataFrame({"sequence": sequences, "id": ["x", "y", "z"]}).to_csv(tmp_path / "rows.csv", index=False)
    folder = make_model("single_label_classification", ["a", "b"])
    words = [tmp_path / "rows.csv", "--model", folder, "--dtype", "float32", "--pool", "none"]
    words += ["--per_base"] if per_base else []
    whole = pd.read_parquet(run(embed, *words, "--out", tmp_path / "out.parquet"))
    options = {"dtype": "float32", "pool": "none", "per_base": per_base, "block_rows": 2}
    table = read_table(embed_file(folder, tmp_path / "rows.csv", tmp_path / "out.tsv", **options))
    lengths = [len(vectors) for vectors in whole["embedding"]]
    assert table["data_row"].tolist() == np.repeat([1, 2, 3], lengths).tolist()
    assert table["id"].tolist() == np.repeat(["x", "y", "z"], lengths).tolist()
    number = "base" if per_base else "token"
    assert table[number].tolist() == [place for length in lengths for place in range(length)]
    vectors = np.concatenate([np.stack(one) for one in whole["embedding"]])
    assert (table.iloc[:, -16:].to_numpy(np.float32) == vectors).all()
    if not per_base:
        intervals = np.concatenate([np.stack(one) for one in whole["token_interval"]])
        assert (table[["token_start", "token_end"]].to_numpy() == intervals).all()


def test_columns_called_like_a_dimension_give_way_and_that_is_told(make_model, tmp_path, capsys):
    frame = pd.DataFrame({"sequence": ["ACGT", "GATTACA"], "embedding_3": [1, 2], "embedding_16": [3, 4]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    folder = make_model("single_label_classification", ["a", "b"])
    table = read_table(run(embed, tmp_path / "rows.csv", "--model", folder, "--out", tmp_path / "out.csv"))
    assert list(table) == ["embedding_16", *(f"embedding_{place}" for place in range(16))]
    assert "rows.csv: 'embedding_3': columns of the vectors are called so" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".tsv", ".bed", ".parquet", ".npz"])
def test_columns_called_like_those_of_the_parts_give_way(suffix, make_model, tmp_path):
    frame = pd.DataFrame({"sequence": ["ACGT", "GATTACA"], "chrom": "a", "start": [0, 4], "end": [4, 11]})
    frame.assign(embedding="x", token_interval=[[1], [2, 3]]).to_parquet(tmp_path / "rows.parquet")
    folder = make_model("single_label_classification", ["a", "b"])
    found = run(embed, tmp_path / "rows.parquet", "--model", folder, "--out", tmp_path / f"out{suffix}")
    if suffix == ".npz":
        assert list(np.load(found)) == ["embeddings"]
    else:
        names = pd.read_parquet(found).columns if suffix == ".parquet" else read_lines(found)[0]
        assert "token_interval" not in names and ("embedding" in names) == (suffix == ".parquet")


# What is refused


@pytest.mark.parametrize("verb", ["predict", "embed"])
@pytest.mark.parametrize("name", ["v.xlsx", "v", "v.parquet.gz", "v.gz", "v.bw.gz"])
def test_an_unknown_suffix_is_refused_before_anything_is_loaded(verb, name, tmp_path):
    """Neither the model nor the file is there, and torch is not imported."""
    program = (
        "import sys; from gengram.cli import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules; sys.exit(code)"
    )
    words = [verb, "none.csv", "--model", "none/none", "--out", name]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"gengram {verb}: error: {name}: the name must end with")
    assert all(suffix in done.stderr for suffix in list_suffixes(verb)), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [predict, embed])
def test_rows_without_places_are_refused_before_the_model_loads(verb, unloadable, tmp_path, capsys):
    pd.DataFrame({"sequence": ["ACGT"] * 2, "chrom": ["a", "b"]}).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "rows.fa").write_text(">x\nACGT\n")
    for file, words in (
        ("rows.csv", "rows.csv: the rows have no places: the columns 'start', 'end' are missing"),
        ("rows.fa", "rows.fa: the sequences have no places"),
    ):
        out = tmp_path / "out.bed"
        assert verb([str(tmp_path / file), "--model", unloadable, "--out", str(out)]) == 1
        assert words in capsys.readouterr().err and not out.exists()


def test_what_a_bedgraph_cannot_hold_is_refused(make_model, bed, tmp_path, capsys):
    folder = make_model("single_label_classification", ["a", "b"])
    out = tmp_path / "out.bedgraph"

    def fail(*words) -> str:
        capsys.readouterr()
        assert predict([*bed, "--model", str(folder), "--out", str(out), *words]) == 1
        assert not out.exists()
        return capsys.readouterr().err

    assert "out.bedgraph: a .bedgraph file holds one of the classes; choose with --track: 'a', 'b'" in fail()
    assert "--track 'c': there is none called so among the classes: 'a', 'b'" in fail("--track", "c")
    out = tmp_path / "out.tsv"
    assert "the file has all classes; leave --track out" in fail("--track", "a")
    out = tmp_path / "out.bedgraph"
    with open(bed[0], "a") as file:
        file.write("b\t39\t41\t.\t0\t.\n")
    assert "peaks.bed, line 5: b:39-41 overlaps with b:0-40 (see " in fail("--track", "a")


def test_places_that_are_not_those_of_the_bases(make_model, tmp_path, capsys):
    frame = pd.DataFrame({"sequence": ["ACGT", "ACG"], "chrom": "a", "start": [0, 10], "end": [4, 14]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    folder = make_model(None, ["a", "b", "c"], BertForTokenClassification)
    assert predict([str(tmp_path / "rows.csv"), "--model", str(folder), "--out", str(tmp_path / "out.bed")]) == 1
    assert "data row 2: the sequence has 3 bases and its place 4" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [predict, embed])
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("chrom", [["a"], ["b"]], "chrom \"['a']\" is no text"),
        ("chrom", [b"\xff", b"a"], "chrom \"b'"),
        ("strand", [["+"], ["-"]], "strand \"['+']\" is no text"),
        ("start", [[0], [4]], "start '[0]' is not a position"),
    ],
)
def test_places_in_columns_of_another_type(verb, column, values, message, unloadable, tmp_path, capsys):
    frame = pd.DataFrame({"sequence": ["ACGT", "GATT"], "chrom": "a", "start": [0, 4], "end": [4, 8]})
    frame.assign(**{column: values}).to_parquet(tmp_path / "rows.parquet")
    words = [str(tmp_path / "rows.parquet"), "--model", unloadable, "--out", str(tmp_path / "out.bed")]
    assert verb(words) == 1
    assert f"rows.parquet, data row 1: {message}" in capsys.readouterr().err


def test_vectors_of_tokens_are_no_bed(unloadable, bed, tmp_path, capsys):
    words = [*bed, "--model", unloadable, "--out", str(tmp_path / "out.bed"), "--pool", "none"]
    assert embed(words) == 1
    assert "a BED file has a vector for each interval; pool them" in capsys.readouterr().err


def test_a_target_is_no_score():
    with pytest.raises(InputError, match="targets are no scores of a BED file"):
        choose_track(Path("out.bed"), "x", ["x", "y"], "regression")


def test_without_the_libraries_that_write_them(tmp_path, monkeypatch):
    monkeypatch.setattr("gengram.pipelines.outputs.find_spec", lambda name: None)
    for name in ("out.tsv.gz", "out.bed.gz"):
        with pytest.raises(InputError, match="written by pysam, which is not installed"):
            check_output(tmp_path / name, "predict")
    check_output(tmp_path / "out.tsv", "predict")


def test_the_table_of_the_documentation_is_that_of_the_code():
    page = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `.")]
    found = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}
    suffixes = {suffix for verb in SUFFIXES.values() for suffix in verb}
    assert found == {
        (f"`{suffix}`", *(SUFFIXES[verb].get(suffix, "") for verb in SUFFIXES))
        for suffix in suffixes
    }  # fmt: skip
    for suffix in suffixes:
        assert (suffix in COMPRESSED) == (suffix not in (".parquet", ".npz", ".safetensors", ".bw"))
