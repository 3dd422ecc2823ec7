"""Several processes share the work of a verb: the bytes of one process, one answer, one message, and a run goes on."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from gengram.pipelines import command
from gengram.tokenization import build_nucleotide_tokenizer

SLOW = pytest.mark.slow
SERVER = Path(__file__).with_name("forked_teams.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def draw(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


@pytest.fixture(scope="module")
def forked():
    """Run a verb in forks of a process of their own; returns their exit codes and what they print."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    numbers = itertools.count()

    def run(verb: str, argv: list[str], folder: Path, count: int = 2, before: str = "") -> tuple[list[int], str, str]:
        place = folder / f"run-{next(numbers)}"
        place.mkdir()
        request = {"verb": verb, "argv": argv, "count": count, "folder": str(place), "before": before}
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        codes = json.loads(process.stdout.readline())
        printed = ["".join((place / f"{rank}.{name}").read_text() for rank in range(count)) for name in ("out", "err")]
        return codes, printed[0], printed[1]

    yield run
    process.stdin.close()
    process.wait()


@pytest.fixture(scope="module")
def things(classifiers, tmp_path_factory) -> dict[str, str]:
    """Models and inputs; the embedder's numbers overflow at an N."""
    folder = tmp_path_factory.mktemp("teams")
    torch.manual_seed(0)
    tokenizer = build_nucleotide_tokenizer(template="cls_sep", model_max_length=64)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(**size, vocab_size=16, pad_token_id=0, max_position_embeddings=64))
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("N")] = 3e38
    model.save_pretrained(folder / "embedder")
    tokenizer.save_pretrained(folder / "embedder")
    rows = "".join(f">{row}\n{draw(20 + row % 30, row)}\n" for row in range(40))
    (folder / "rows.fa").write_text(rows)
    (folder / "unfit.fa").write_text(f"{rows}>x\nACGTNACGT\n" + ">y\nACGT\n" * 60)
    contigs = (("a", 1800), ("b", 300), ("c", 90), ("d", 2500))
    (folder / "genome.fa").write_text("".join(f">{name}\n{draw(bp, bp)}\n" for name, bp in contigs))
    found = {name: str(folder / name) for name in ("embedder", "rows.fa", "unfit.fa", "genome.fa")}
    return {**found, **{name: str(path) for name, path in classifiers.items()}}


def name_command(kind: str, things: dict[str, str]) -> tuple[str, list[str]]:
    """The verb and its arguments, without `--out`."""
    verb, file, model, *options = {
        "embed": ("embed", "rows.fa", "embedder", "--dtype", "float32"),
        "unfit": ("embed", "unfit.fa", "embedder", "--dtype", "float32"),
        "predict": ("predict", "rows.fa", "several", "--batch_size", "4"),
        "windows": ("predict", "genome.fa", "sequences", "--too_long", "window", "--window", "60"),
        "segment": ("segment", "genome.fa", "bases", "--window", "100"),
    }[kind]
    return verb, [things[file], "--model", things[model], "--devices", "cpu", *options]


def read(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one.name: one.read_bytes() for one in files}


COUNT = """
open_part = RunFolder.open_part
def count(self, path):
    open(f"{folder}/{rank} {path.name}", "w")
    return open_part(self, path)
RunFolder.open_part = count
"""
KILL = """
import os, signal
open_part = RunFolder.open_part
def kill(self, path):
    if any(self.folder.glob(self.finished)):
        os.kill(os.getpid(), signal.SIGKILL)
    return open_part(self, path)
RunFolder.open_part = kill
"""


@pytest.mark.parametrize(
    ("kind", "name", "track"),
    [
        pytest.param("embed", "out.npz", "", marks=SLOW),
        ("embed", "out.parquet", ""),
        pytest.param("embed", "out.safetensors", "", marks=SLOW),
        pytest.param("embed", "out.tsv", "", marks=SLOW),
        pytest.param("predict", "out.parquet", "", marks=SLOW),
        ("predict", "out.csv", ""),
        pytest.param("windows", "out.tsv", "", marks=SLOW),
        ("windows", "out.bw", "yes"),
        ("segment", "tracks", ""),
        pytest.param("segment", "out.bedgraph", "exon", marks=SLOW),
        pytest.param("segment", "out.parquet", "", marks=SLOW),
    ],
)
def test_processes_and_shards_write_the_bytes_of_one_process(kind, name, track, things, forked, tmp_path):
    if name.endswith(".bw") or name == "tracks":
        pytest.importorskip("pyBigWig")
    verb, argv = name_command(kind, things)
    argv += ["--track", track] if track else []
    for way in ("one", "two", "shards"):
        (tmp_path / way).mkdir()

    def write(way: str, *more: str, **options):
        return forked(verb, [*argv, "--out", str(tmp_path / way / name), *more, "--json"], tmp_path, **options)

    assert write("one", count=1)[0] == [0]
    codes, answer, told = write("two", before=COUNT)
    assert codes == [0, 0], told
    assert "parts" not in json.loads(answer) and json.loads(answer)["out"] == str(tmp_path / "two" / name)
    parts = [path.name.split() for path in tmp_path.glob("run-*/[01] *")]
    assert len({part for _, part in parts}) == len(parts) > 2, "each part has been computed once"
    for shard in ("2/3", "3/3", "1/3"):
        codes, answer, told = write("shards", "--shard", shard, count=1)
        assert codes == [0] and ("parts" in json.loads(answer)) == (shard != "1/3"), told
    for way in ("two", "shards"):
        assert read(tmp_path / way / name) == read(tmp_path / "one" / name)
        assert os.listdir(tmp_path / way) == [name]


@pytest.mark.parametrize(
    "kind", ["embed", "segment", *(pytest.param(kind, marks=SLOW) for kind in ("predict", "windows"))]
)
def test_what_killed_processes_have_finished_is_not_computed_again(kind, things, forked, tmp_path):
    verb, argv = name_command(kind, things)
    out = ["--out", str(tmp_path / "out.parquet")]
    assert forked(verb, [*argv, *out], tmp_path, before=KILL)[0] == [-9, -9]
    parts = tmp_path / "out.parquet.parts"
    finished = {path.name for path in parts.iterdir() if path.suffix in (".npy", ".arrow")}
    assert finished and not (tmp_path / "out.parquet").exists()
    codes, _, told = forked(verb, [*argv, *out], tmp_path, before=COUNT)
    assert codes == [0, 0], told
    assert finished.isdisjoint(path.name.split()[1] for path in tmp_path.glob("run-*/[01] *"))
    forked(verb, [*argv, "--out", str(tmp_path / "one.parquet")], tmp_path, count=1)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes() and not parts.exists()


def test_an_error_is_told_by_the_process_that_has_it(things, forked, tmp_path):
    """The row is in one block: whoever takes it says so, whether or not that is the main process."""
    verb, argv = name_command("unfit", things)
    # A launcher would end the main process, which waits for the other.
    late = "import signal\nif rank == 0: signal.alarm(20)"
    codes, _, told = forked(verb, [*argv, "--out", str(tmp_path / "out.npz")], tmp_path, before=late)
    assert 1 in codes and told.count("error:") == 1
    assert "data row 41: the vector is not finite" in told and not (tmp_path / "out.npz").exists()


def test_what_all_refuse_is_told_once(things, forked, tmp_path):
    verb, argv = name_command("embed", things)
    for more, message in (
        (["--shard", "1/2"], "share the work by themselves; leave it out"),
        (["--max_length", "1000"], "1 to 64 tokens"),
        (["--out", str(tmp_path / "out.xlsx")], "must end with"),
    ):
        codes, _, told = forked(verb, [*argv, "--out", str(tmp_path / "out.npz"), *more], tmp_path)
        assert codes == [1, 1] and told.count("error:") == 1 and message in told
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--devices", "cpu:2", "--shard", "1/2"], "a --shard is one process"),
        (["--devices", "0,1,x"], "there is no device"),
        (["--devices", "cpu:2", "--out", "out.xlsx"], "must end with"),
        (["--devices", "cpu:2", "--model", "none"], "none"),
    ],
)
def test_what_is_refused_before_a_process_starts(argv, message, things, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert command.embed([things["rows.fa"], "--model", things["embedder"], "--out", "out.npz", *argv]) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.glob("out*"))


def start(words: list[str], folder: Path) -> "subprocess.Popen[str]":
    code = "import sys; from gengram.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=folder,
    )  # fmt: skip


def test_devices_start_the_processes(things, tmp_path):
    verb, argv = name_command("unfit", things)
    failing = start([verb, *argv, "--devices", "cpu:2", "--out", "unfit.npz"], tmp_path)
    told = failing.communicate()[1]
    assert failing.returncode == 1 and told.count("error:") == 1 and "data row 41" in told, told
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npz", ".arrow")]
    # The plan may stay where one began anew just as the other gave up.
    shutil.rmtree(tmp_path / "unfit.npz.parts", ignore_errors=True)
    verb, argv = name_command("segment", things)
    writing = start([verb, *argv, "--devices", "cpu:2", "--out", "two.tsv", "--json", "--quiet"], tmp_path)
    answer, told = writing.communicate()
    assert writing.returncode == 0 and told == "" and json.loads(answer)["out"] == "two.tsv"
    assert os.listdir(tmp_path) == ["two.tsv"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embed", "predict", "windows", "segment"])
@pytest.mark.parametrize("way", ["devices", "accelerate"])
def test_real_processes_write_the_bytes_of_one(kind, way, things, tmp_path):
    verb, argv = name_command(kind, things)
    for name, more in (("one", []), (way, ["--devices", "cpu:2"])):
        words = [verb, *argv, "--out", f"{name}.parquet"]
        if name == "accelerate":
            accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
            plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "gengram"]
            subprocess.run([*accelerate, *plain, *words], check=True, cwd=tmp_path, env=ENVIRONMENT)
        else:
            assert start([*words, *more], tmp_path).wait() == 0
    assert (tmp_path / f"{way}.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


@pytest.mark.slow
def test_an_interrupt_ends_all_with_one_message(things, tmp_path):
    rows = tmp_path / "many.fa"
    rows.write_text("".join(f">{row}\n{draw(40, row)}\n" for row in range(30_000)))
    words = ["embed", str(rows), "--model", things["embedder"], "--out", "out.npz", "--devices", "cpu:2"]
    running = start([*words, "--batch_tokens", "64"], tmp_path)
    while not list(tmp_path.glob("out.npz.parts/*.arrow")):
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    told = running.communicate()[1]
    assert running.returncode == 130 and told.count("error:") == 1 and "interrupted" in told
    assert "what is finished stays in out.npz.parts" in told
