"""`gengram embed`: the same vectors from every file to every file, in order, also after kill -9."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from fake_device import FakeDevice, SmallMemory
from safetensors.numpy import load_file
from shards import run_shards
from transformers import BertConfig, BertForMaskedLM, BertModel

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.genome import intervals
from gengram.genome.fasta import read_fasta
from gengram.pipelines import embed as in_memory
from gengram.pipelines import embed_file as embed
from gengram.pipelines import embed_sequences
from gengram.pipelines.command import embed as main
from gengram.pipelines.embed_file import embed_file
from gengram.tokenization import build_nucleotide_tokenizer

TOKENIZER = build_nucleotide_tokenizer(template="cls_sep", model_max_length=64)


@pytest.fixture
def model(tmp_path, small) -> Path:
    """The folder of a small model with a head."""
    torch.manual_seed(0)
    config = BertConfig(**small, vocab_size=16, pad_token_id=0, max_position_embeddings=64)
    BertForMaskedLM(config).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def rows(tmp_path, draw_table) -> Path:
    draw_table(40, 0).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def run(*argv) -> int:
    return main([*map(str, argv), "--dtype", "float32"])


def expect(model: Path, sequences: list[str], **options):
    return embed_sequences(BertModel.from_pretrained(model).eval(), TOKENIZER, sequences, **options)


def test_rows_keep_their_order_and_columns_in_every_format(model, rows, tmp_path, capsys):
    table = pd.read_csv(rows)
    expected = expect(model, table["seq"].tolist())
    for name in ("out.parquet", "out.npz", "out.safetensors"):
        assert run(rows, "--model", model, "--out", tmp_path / name) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / name)
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert list(found.columns) == ["label", "chrom", "embedding"]
    assert found["chrom"].tolist() == table["chrom"].tolist()
    vectors = np.stack(found["embedding"])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["embeddings"], vectors)
    np.testing.assert_array_equal(load_file(tmp_path / "out.safetensors")["embeddings"], vectors)
    settings = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"gengram"])
    assert settings["layer"] == -1 and settings["pool"] == "mean" and settings["dtype"] == "float32"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model",
        "out.npz",
        "out.parquet",
        "out.safetensors",
        "rows.csv",
    ]


def test_sequences_without_any_other_column(model, rows, tmp_path):
    table = pd.read_csv(rows)[["seq"]]
    table.to_csv(tmp_path / "only.csv", index=False)
    expected = expect(model, table["seq"].tolist())
    for name in ("out.parquet", "out.npz", "out.safetensors"):
        assert run(tmp_path / "only.csv", "--model", model, "--out", tmp_path / name) == 0
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert list(found.columns) == ["embedding"]
    np.testing.assert_allclose(np.stack(found["embedding"]), expected, atol=1e-5)
    for vectors in (np.load(tmp_path / "out.npz"), load_file(tmp_path / "out.safetensors")):
        np.testing.assert_allclose(vectors["embeddings"], expected, atol=1e-5)


def test_a_column_that_gives_way_to_the_vectors_is_told(model, rows, tmp_path, capsys):
    pd.read_csv(rows).assign(embedding="x").to_csv(tmp_path / "more.csv", index=False)
    assert run(tmp_path / "more.csv", "--model", model, "--out", tmp_path / "out.parquet") == 0
    assert "more.csv: 'embedding': columns of the vectors are called so" in capsys.readouterr().err
    assert list(pd.read_parquet(tmp_path / "out.parquet").columns) == ["label", "chrom", "embedding"]


def test_vectors_of_tokens(model, rows, tmp_path):
    sequences = pd.read_csv(rows)["seq"].tolist()
    expected = expect(model, sequences, pool="none", layer=1)
    for name in ("out.parquet", "out.npz", "out.safetensors"):
        assert run(rows, "--model", model, "--out", tmp_path / name, "--pool", "none", "--layer", 1) == 0
    arrays, table = np.load(tmp_path / "out.npz"), pq.read_table(tmp_path / "out.parquet")
    for row, vectors in enumerate(expected):
        part = slice(*arrays["offsets"][row : row + 2])
        np.testing.assert_allclose(arrays["embeddings"][part], vectors, atol=1e-5)
        np.testing.assert_allclose(np.array(table["embedding"][row].as_py()), vectors, atol=1e-5)
        assert arrays["intervals"][part].tolist() == table["token_interval"][row].as_py()
        assert arrays["intervals"][part][1].tolist() == [0, 1]
    for name, array in load_file(tmp_path / "out.safetensors").items():
        np.testing.assert_array_equal(array, arrays[name])


def test_every_kind_of_file_gives_the_same(model, rows, tmp_path):
    table = pd.read_csv(rows)
    sequences = table["seq"].tolist()
    ends = np.cumsum([len(sequence) for sequence in sequences])
    (tmp_path / "genome.fa").write_text(">chr1\n" + "".join(sequences) + "\n")
    intervals = [f"chr1\t{end - len(one)}\t{end}\n" for one, end in zip(sequences, ends)]
    (tmp_path / "a.bed").write_text("".join(intervals))
    with gzip.open(tmp_path / "a.fa.gz", "wt") as file:
        file.writelines(f">s{row}\n{one}\n" for row, one in enumerate(sequences))
    table.to_parquet(tmp_path / "a.parquet")
    found = []
    for name in ("rows.csv", "a.bed", "a.fa.gz", "a.parquet"):
        genome = ["--genome", tmp_path / "genome.fa"] if name == "a.bed" else []
        assert run(tmp_path / name, "--model", model, "--out", tmp_path / "out.npz", "--overwrite", *genome) == 0
        found.append(np.load(tmp_path / "out.npz")["embeddings"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_blocks_are_cut_by_rows_and_by_size(model, rows, tmp_path, monkeypatch):
    one = embed_file(model, rows, tmp_path / "a.npz", dtype="float32")
    monkeypatch.setattr(embed, "_BLOCK_BASES", 100)
    other = embed_file(model, rows, tmp_path / "b.npz", dtype="float32", block_rows=7)
    np.testing.assert_allclose(np.load(one)["embeddings"], np.load(other)["embeddings"], atol=1e-6)


def test_killed_and_resumed_the_file_is_the_same(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "_BLOCK_BASES", 200)  # about 8 rows a part
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    argv = [str(rows), "--model", str(model), "--dtype", "float32", "--out"]
    assert main([*argv, str(whole)]) == 0
    code = (
        "import runpy, torch; torch.set_num_threads({threads}); from gengram.pipelines import embed_file as embed; "
        "embed._BLOCK_BASES = 200; runpy.run_path({script!r}, dict(verb='embed', argv={argv!r}, part={part}))"
    )
    script, threads = str(Path(__file__).with_name("killed_in_blocks.py")), torch.get_num_threads()
    parts = tmp_path / "out.parquet.parts"
    for part, finished in ((2, 2), (None, 6)):
        program = code.format(threads=threads, script=script, argv=[*argv, str(out)], part=part)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        assert not out.exists()
        assert len(list(parts.glob("part-*.arrow"))) == finished
        assert list(tmp_path.rglob("*.partial"))  # half a file, under a name that nobody reads
    asked = []
    monkeypatch.setattr(embed.Parts, "write", lambda *_: asked.append(1))
    assert main([*argv, str(out)]) == 0
    assert not asked  # every part was there
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists() and not list(tmp_path.rglob("*.partial"))


def test_a_genome_is_read_once_and_hashed_in_passing(model, rows, tmp_path, monkeypatch):
    """For the survey, for the vectors, and for its checksum."""
    sequences = pd.read_csv(rows)["seq"].tolist()
    ends = np.cumsum([len(sequence) for sequence in sequences])
    (tmp_path / "genome.fa").write_text(">chr1\n" + "\n".join(sequences) + "\n")
    (tmp_path / "a.bed").write_text("".join(f"chr1\t{end - len(one)}\t{end}\n" for one, end in zip(sequences, ends)))
    seen = []
    monkeypatch.setattr(intervals, "read_fasta", lambda *given: seen.append(given[0]) or read_fasta(*given))
    monkeypatch.setattr(embed, "hash_file", lambda path: seen.append(path) or hash_file(path))
    out = tmp_path / "out.parquet"
    assert run(tmp_path / "a.bed", "--genome", tmp_path / "genome.fa", "--model", model, "--out", out) == 0
    assert seen == [str(tmp_path / "genome.fa"), str(tmp_path / "a.bed")]
    plan = json.loads(pq.read_schema(out).metadata[b"gengram"])
    assert plan["genome_sha256"] == hash_file(tmp_path / "genome.fa")


@pytest.mark.slow
def test_three_shards_at_once_one_killed_write_the_file_of_one_process(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "_BLOCK_BASES", 200)
    argv = [str(rows), "--model", str(model), "--dtype", "float32", "--out"]
    assert main([*argv, str(tmp_path / "whole.parquet")]) == 0
    run_shards(
        "embed",
        "from gengram.pipelines import embed_file as embed; embed._BLOCK_BASES = 200",
        [*argv, str(tmp_path / "out.parquet")],
    )
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_parts_of_another_run_are_refused(model, rows, tmp_path, capsys):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    out = tmp_path / "out.parquet"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(embed, "assemble_vectors", stop)
        embed_file(model, rows, out, dtype="float32")
    assert run(rows, "--model", model, "--out", out, "--pool", "max") == 1
    assert "pool was 'mean' and is 'max'. Remove the folder" in capsys.readouterr().err
    (tmp_path / "out.npz.parts").mkdir()
    (tmp_path / "out.npz.parts/mine.txt").write_text("mine")
    assert run(rows, "--model", model, "--out", tmp_path / "out.npz") == 1
    assert "is in the way" in capsys.readouterr().err
    assert run(rows, "--model", model, "--out", out) == 0


def test_too_long_sequences_stop_before_the_first_or_are_cut(model, tmp_path, capsys):
    file = tmp_path / "long.fa"
    file.write_text(">a\nACGT\n>b\n" + "ACGTTGCA" * 10 + "\n>c\n" + "A" * 63 + "\n")
    argv = [file, "--model", model, "--out", tmp_path / "out.npz"]
    assert run(*argv) == 1
    message = capsys.readouterr().err
    assert "data row 2: the sequence of 80 bp is 82 tokens, but the limit is 64 tokens (2 rows" in message
    assert not list(tmp_path.glob("out*"))
    assert run(*argv, "--too_long", "truncate") == 0
    expected = expect(model, ["ACGT", ("ACGTTGCA" * 10)[:62], "A" * 62])
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["embeddings"], expected, atol=1e-5)
    again = ["--too_long", "window", "--max_length", 50, "--pool", "max"]
    assert run(*argv, *again) == 1 and "--overwrite" in capsys.readouterr().err
    assert run(*argv, *again, "--overwrite") == 0


def test_what_cannot_be_done_is_said(model, rows, tmp_path, small, capsys):
    def fail(*argv) -> str:
        assert run(*argv) == 1
        return capsys.readouterr().err

    out = tmp_path / "out.parquet"
    assert "must end with .parquet, .npz, .safetensors" in fail(rows, "--model", model, "--out", tmp_path / "out.xlsx")
    assert "does not exist" in fail(rows, "--model", model, "--out", tmp_path / "no/out.npz")
    assert "no repository of that name was asked for" in fail(rows, "--model", tmp_path / "none", "--out", out)
    assert "the model has 2 layers" in fail(rows, "--model", model, "--out", out, "--layer", 3)
    assert "1 to 64 tokens" in fail(rows, "--model", model, "--out", out, "--max_length", 100)
    assert "there is no such file" in fail(tmp_path / "no.csv", "--model", model, "--out", out)
    build_nucleotide_tokenizer().save_pretrained(tmp_path / "model")
    assert "no special token in front" in fail(rows, "--model", model, "--out", out, "--pool", "cls")
    config = BertConfig(**{**small, "num_hidden_layers": 3}, vocab_size=16, max_position_embeddings=64)
    config.save_pretrained(model)
    assert "weights are missing or of another size, e.g. encoder.layer.2" in fail(rows, "--model", model, "--out", out)
    assert not list(tmp_path.glob("out*"))
    with pytest.raises(SystemExit, match="2"):
        run(rows, "--model", model, "--out", out, "--per_base")
    with pytest.raises(InputError, match="choose auto, float32 or bfloat16"):
        embed_file(model, rows, out, dtype="float16")


def test_letters_that_are_not_dna_are_told_or_refused(model, tmp_path, capsys):
    (tmp_path / "genome.fa").write_text(">chr1\nACGTTGCA-ACGTACGTNNNN\n")
    (tmp_path / "rows.bed").write_text("chr1\t4\t14\tx\t0\t-\nchr1\t17\t21\ty\t0\t+\n")
    (tmp_path / "rows.fa").write_text(">a\nACGTACGT\n>b|x\nAC*GTACGTACGT\n")
    bed = [tmp_path / "rows.bed", "--genome", tmp_path / "genome.fa", "--model", model]
    assert run(*bed, "--out", tmp_path / "b.npz", "--max_non_dna", "0.05") == 1
    place = "rows.bed: 1 of 14 letters are not DNA"
    assert (
        place in (message := capsys.readouterr().err) and "allow a larger share than 0.05 with --max_non_dna" in message
    )
    assert "'-' (a gap) at position 5 (from 0) of data row 1 (chr1:4-14)" in message
    assert run(*bed, "--out", tmp_path / "b.npz") == 0
    assert "1 of 2 sequences are nothing but N; the first is data row 2 (chr1:17-21)" in capsys.readouterr().err
    assert run(tmp_path / "rows.fa", "--model", model, "--out", tmp_path / "f.npz") == 0
    assert "'*' (a stop) at position 2 (from 0) of data row 2 ('b|x')" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*bed, "--out", tmp_path / "b.npz", "--max_non_dna", "1.5")


@pytest.mark.parametrize("running", [0, 2])
def test_a_row_that_does_not_fit_into_memory_is_named_with_remedies(
    running, model, rows, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(embed, "_BLOCK_BASES", 200)
    monkeypatch.setattr(in_memory, "find_feeding", lambda device: FakeDevice(running))
    table = pd.read_csv(rows)
    table.loc[30, "seq"] = "ACGTTGCAAC" * 6
    table.to_csv(rows, index=False)
    most, load = 10**6, embed.require_model

    def load_small(*given, **options):
        loaded = load(*given, **options)
        SmallMemory(loaded, most)
        return loaded

    monkeypatch.setattr(embed, "require_model", load_small)
    embed_file(model, rows, tmp_path / "whole.parquet", dtype="float32")
    most = 60
    assert run(rows, "--model", model, "--out", tmp_path / "out.parquet") == 1
    told = capsys.readouterr().err
    assert "rows.csv, data row 31: the sequence of 60 bp (62 tokens) does not fit into the memory of cpu" in told
    assert "--too_long window" in told and "--dtype bfloat16" in told and not (tmp_path / "out.parquet").exists()
    most = 10**6
    assert run(rows, "--model", model, "--out", tmp_path / "out.parquet") == 0  # behind the finished blocks
    found, expected = (
        pq.read_table(path)["embedding"] for path in (tmp_path / "out.parquet", tmp_path / "whole.parquet")
    )
    np.testing.assert_allclose(found.to_pylist(), expected.to_pylist(), atol=1e-6)


def test_a_run_goes_on_with_the_batches_that_it_began_with(model, rows, tmp_path, monkeypatch, capsys):
    """What free memory allows differs from one time to the next, and from one process to another."""
    seen, rooms = [], iter([128, 256, 512])
    monkeypatch.setattr(in_memory, "find_memory", lambda device: object())
    monkeypatch.setattr(in_memory.Embedder, "_measure", lambda *_: next(rooms))
    stream = in_memory.Embedder.stream
    monkeypatch.setattr(
        in_memory.Embedder, "stream", lambda self, *more: seen.append(self.batch_tokens) or stream(self, *more)
    )
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embed, "assemble_vectors", raise_interrupt)
        embed_file(model, rows, out, dtype="float32")
    assert set(seen) == {128}
    assert run(rows, "--model", model, "--out", out, "--batch_tokens", 100) == 1
    assert "batch_tokens was 128 and is 100" in capsys.readouterr().err
    assert run(rows, "--model", model, "--out", out) == 0
    assert seen[-1] == 128 and 256 in seen  # measured again for the first call, and not used


def raise_interrupt(*_):
    raise KeyboardInterrupt
