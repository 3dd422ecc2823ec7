"""`gengram predict` in blocks: the same predictions however they are cut, after kill -9, and from several processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_device import FakeDevice, SmallMemory
from shards import run_shards

from gengram.errors import InputError
from gengram.pipelines import logits
from gengram.pipelines import predict as module
from gengram.pipelines.command import predict as main
from gengram.pipelines.predict import predict_file

KINDS = ["sequences", "several", "measured", "bases"]


@pytest.fixture
def rows(tmp_path) -> Path:
    random = np.random.default_rng(0)
    lengths = random.integers(70, 120, 40)
    table = pd.DataFrame({"sequence": ["".join(random.choice(list("ACGT"), length)) for length in lengths]})
    ends = np.cumsum(lengths + 5)
    table = table.assign(chrom="chr1", start=ends - lengths, end=ends, strand=["+", "-"] * 20, note="x")
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@pytest.fixture
def in_blocks(monkeypatch):
    """Cut everything from now on into blocks of at most so many rows."""

    def cut(rows: int) -> None:
        monkeypatch.setattr(module, "_BLOCK_ROWS", rows)

    return cut


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"average_strands": True, "too_long": "center", "max_length": 60}])
def test_blocks_make_no_difference(kind, options, classifiers, rows, tmp_path, in_blocks):
    options = {"batch_size": 4, **options}
    whole = pd.read_parquet(predict_file(classifiers[kind], rows, tmp_path / "whole.parquet", **options))
    in_blocks(8)
    parts = pd.read_parquet(predict_file(classifiers[kind], rows, tmp_path / "parts.parquet", **options))
    assert list(whole.columns) == list(parts.columns) and len(parts) == 40
    for name in whole.columns:
        if "float" in str(whole[name].dtype) or (kind == "bases" and name.startswith("probability")):
            for one, other in zip(whole[name], parts[name]):
                np.testing.assert_allclose(one, other, atol=1e-5)
        elif name != "prediction":
            assert whole[name].tolist() == parts[name].tolist()


@pytest.mark.parametrize("name", ["out.bed", "out.bedgraph", "out.tsv"])
@pytest.mark.parametrize("kind", ["sequences", "bases", "measured"])
def test_blocks_make_no_difference_to_places(kind, name, classifiers, rows, tmp_path, in_blocks):
    """Batches of one row have the same numbers to the last bit: what may differ is how they are put together."""
    tracks = {"sequences": "yes", "bases": "exon"}
    track = tracks.get(kind) if name == "out.bedgraph" else None
    found = []
    for block in (1000, 1):
        in_blocks(block)
        out = tmp_path / f"{block}-{name}"
        predict_file(classifiers[kind], rows, out, batch_size=1, track=track)
        found.append(out.read_bytes())
    assert found[0] == found[1] and found[0].count(b"\n") >= 40
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"1-{name}", f"1000-{name}", "rows.csv"])


def test_several_models_one_after_the_other(classifiers, rows, tmp_path, in_blocks, monkeypatch):
    folders = [str(classifiers["sequences"])] * 2
    monkeypatch.setattr(module, "find_models", lambda *_: folders)
    in_blocks(8)
    loaded = []
    load = module.load_predictor
    monkeypatch.setattr(module, "load_predictor", lambda folder, *more: loaded.append(folder) or load(folder, *more))
    table = pd.read_parquet(predict_file("run", rows, tmp_path / "all.parquet", seed="all", batch_size=4))
    assert loaded == folders and (table["probability_yes_sd"] == 0).all()
    monkeypatch.undo()
    in_blocks(8)
    one = pd.read_parquet(predict_file(folders[0], rows, tmp_path / "one.parquet", batch_size=4))
    np.testing.assert_allclose(table["probability_yes"], one["probability_yes"], atol=1e-7)


@pytest.mark.parametrize("kind", ["sequences", pytest.param("bases", marks=pytest.mark.slow)])
def test_killed_and_resumed_the_file_is_the_same(kind, classifiers, rows, tmp_path, in_blocks, monkeypatch):
    in_blocks(8)
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    argv = [str(rows), "--model", str(classifiers[kind]), "--batch_size", "4", "--average_strands", "--out"]
    assert main([*argv, str(whole)]) == 0
    script, threads = str(Path(__file__).with_name("killed_in_blocks.py")), torch.get_num_threads()
    parts = tmp_path / "out.parquet.parts"
    for part, finished in ((2, 2), (None, 5)) if kind == "sequences" else ((1, 1),):
        program = (
            f"import runpy, torch; torch.set_num_threads({threads}); from gengram.pipelines import predict; "
            f"predict._BLOCK_ROWS = 8; "
            f"runpy.run_path({script!r}, dict(verb='predict', argv={[*argv, str(out)]!r}, part={part}))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        assert not out.exists() and len(list(parts.glob("part-*.arrow"))) == finished
    asked = []
    write = module.Parts.write
    monkeypatch.setattr(module.Parts, "write", lambda *given: asked.append(given[1]) or write(*given))
    assert main([*argv, str(out)]) == 0
    assert asked == ([] if kind == "sequences" else [1, 2, 3, 4])
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists() and not list(tmp_path.rglob("*.partial"))


def test_another_plan_is_refused_and_an_overwritten_file_stays_until_the_end(
    classifiers, rows, tmp_path, in_blocks, monkeypatch, capsys
):
    in_blocks(8)
    out = tmp_path / "out.tsv"
    out.write_text("earlier\n")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = module.Parts.write

        def stop(parts, number, table):
            if number == 2:
                raise KeyboardInterrupt
            write(parts, number, table)

        patch.setattr(module.Parts, "write", stop)
        predict_file(classifiers["sequences"], rows, out, batch_size=4)
    assert out.read_text() == "earlier\n"
    argv = [str(rows), "--model", str(classifiers["sequences"]), "--batch_size", "4", "--out", str(out)]
    assert main([*argv, "--overwrite", "--average_strands"]) == 1
    assert "average_strands was False and is True. Remove the folder" in capsys.readouterr().err
    rows.write_text(rows.read_text().replace("note", "other"))
    assert main([*argv, "--overwrite"]) == 1
    assert "file_sha256 was" in capsys.readouterr().err and out.read_text() == "earlier\n"
    rows.write_text(rows.read_text().replace("other", "note"))
    assert main([*argv, "--overwrite"]) == 0
    assert len(pd.read_table(out)) == 40 and not (tmp_path / "out.tsv.parts").exists()


def test_faults_of_later_rows_are_told_before_anything_is_computed(classifiers, rows, tmp_path, in_blocks, monkeypatch):
    in_blocks(4)
    monkeypatch.setattr(module.Asker, "stream", lambda *_: pytest.fail("it computes"))
    table = pd.read_csv(rows)
    table.loc[30, "sequence"] += "ACGTACGTAC" * 20
    table.loc[35, "sequence"] += "*"
    table.to_csv(rows, index=False)
    options = {"batch_size": 4, "max_length": 150}
    long = r"rows.csv, data row 31: the sequence of \d+ bp is \d+ tokens, but the limit is 150 tokens \(1 of 40 rows"
    with pytest.raises(InputError, match=long):
        predict_file(classifiers["sequences"], rows, tmp_path / "out.tsv", **options)
    with pytest.raises(
        InputError, match=r"rows.csv, data row 36: there is no reverse complement: .*\(rows like this: 1 of 40"
    ):
        options |= {"too_long": "truncate", "average_strands": True}
        predict_file(classifiers["sequences"], rows, tmp_path / "out.tsv", **options)
    with pytest.raises(InputError, match=r"data row 31: the sequence has .* bases and its place"):
        predict_file(classifiers["bases"], rows, tmp_path / "out.bed", too_long="truncate")
    with pytest.raises(InputError, match="longer than the model"):
        predict_file(classifiers["sequences"], rows, tmp_path / "out.tsv", max_length=10**6)
    assert not list(tmp_path.glob("out*"))


def test_labels_and_regions_in_the_headers_of_fasta_are_columns_in_every_block(classifiers, tmp_path, in_blocks):
    in_blocks(4)
    file = tmp_path / "new.fa"
    columns = []
    for last in ("|b", ""):
        headers = [*(f"chr1:{100 * row}-{100 * row + 4}|a" for row in range(1, 10)), f"chr1:5-9{last}"]
        file.write_text("".join(f">{header}\nACGT\n" for header in headers))
        out = predict_file(classifiers["sequences"], file, tmp_path / "out.parquet", batch_size=4)
        table = pd.read_parquet(out)
        columns.append(list(table.columns[:5]))
        assert table["start"].tolist()[-1] == 5
    assert columns == [["label", "name", "chrom", "start", "end"], ["name", "chrom", "start", "end", "prediction"]]


def test_shards_in_any_order_write_the_file_of_one_process(classifiers, rows, tmp_path, in_blocks, capsys):
    in_blocks(8)
    argv = [str(rows), "--model", str(classifiers["several"]), "--batch_size", "4"]
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert main([*argv, "--out", str(whole)]) == 0
    for shard in ("3/3", "1/3", "2/3"):
        assert not out.exists()
        capsys.readouterr()
        assert main([*argv, "--out", str(out), "--shard", shard]) == 0
        told = capsys.readouterr()
        assert (f"shard {shard} is done; its parts are in {out}.parts" in told.out) == (shard != "2/3")
    assert out.read_bytes() == whole.read_bytes() and not (tmp_path / "out.csv.parts").exists()
    # What one of them has left is done by a call without a shard.
    assert main([*argv, "--out", str(out), "--shard", "9/9", "--overwrite"]) == 0
    assert main([*argv, "--out", str(out), "--shard", "1/2", "--overwrite"]) == 0
    assert main([*argv, "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == whole.read_bytes() and not (tmp_path / "out.csv.parts").exists()
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(SystemExit):
            main([*argv, "--out", str(out), "--shard", wrong])


@pytest.mark.slow
def test_three_shards_at_once_one_killed_write_the_file_of_one_process(classifiers, rows, tmp_path, in_blocks):
    in_blocks(4)
    argv = [str(rows), "--model", str(classifiers["sequences"]), "--batch_size", "4", "--out"]
    assert main([*argv, str(tmp_path / "whole.parquet")]) == 0
    run_shards(
        "predict",
        "from gengram.pipelines import predict; predict._BLOCK_ROWS = 4",
        [*argv, str(tmp_path / "out.parquet")],
    )
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"average_strands": True}])
def test_fed_or_not_fed_the_file_is_the_same(kind, options, classifiers, rows, tmp_path, in_blocks, monkeypatch):
    in_blocks(8)
    expected = predict_file(classifiers[kind], rows, tmp_path / "a.parquet", batch_size=4, **options).read_bytes()
    made = []
    monkeypatch.setattr(logits, "find_feeding", lambda device: made.append(FakeDevice()) or made[-1])
    assert (
        predict_file(classifiers[kind], rows, tmp_path / "b.parquet", batch_size=4, **options).read_bytes() == expected
    )
    assert len(made) == 1 and made[0].sent == 10 * (1 + len(options))


@pytest.mark.parametrize("running", [0, 2])
def test_memory_that_runs_out_halves_the_batches_and_names_the_row(
    running, classifiers, rows, tmp_path, in_blocks, monkeypatch, capsys
):
    in_blocks(8)
    expected = pd.read_parquet(predict_file(classifiers["several"], rows, tmp_path / "a.parquet", batch_size=8))
    monkeypatch.setattr(logits, "find_feeding", lambda device: FakeDevice(running))
    load, most = module.load_predictor, 300

    def load_small(*given):
        loaded = load(*given)
        SmallMemory(loaded[0], most)
        return loaded

    monkeypatch.setattr(module, "load_predictor", load_small)
    found = pd.read_parquet(predict_file(classifiers["several"], rows, tmp_path / "b.parquet", batch_size=8))
    for name in [name for name in expected.columns if name.startswith("probability")]:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    assert "memory ran out at a batch of 8 x" in capsys.readouterr().err
    most, longest = 100, pd.read_csv(rows)["sequence"].str.len()
    row = int(longest[8:16].idxmax()) + 1 if (longest[:8] <= most).all() else int(longest[:8].idxmax()) + 1
    words = [str(rows), "--model", str(classifiers["several"]), "--batch_size", "8", "--out", str(tmp_path / "c.tsv")]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert f"rows.csv, data row {row}: " in told and "tokens do not fit into the memory of the device" in told
    assert "--too_long window" in told and not (tmp_path / "c.tsv").exists()
