"""Every verb in every situation: answers as JSON and in text, quiet, without a terminal, wrong folders and names, an
output that is there already, a run as the model, a pipe that is closed. One table of verbs, one test a situation."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch

from gengram.cli import VERBS, main
from gengram.training.command import parse_arguments

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONE = ["--backbone", "bert", "--backbone_config", json.dumps(SIZE)]
EPOCH = ["--num_train_epochs", "1", "--use_cpu"]


class Case(NamedTuple):
    """How a verb is called.

    Attributes:
        words: what it needs, with names of the fixture `things` in braces; all but the output.
        out: the flag and a good value of the output; None for verbs that write no file.
        keys: some of what its JSON has.
        suffixes: whether the output's ending means something.
        shrink: makes the work of the verb small.
    """

    words: list[str]
    out: tuple[str, str] | None
    keys: set[str]
    suffixes: bool = False
    shrink: Callable[[pytest.MonkeyPatch], None] = lambda patch: None


def shrink_quickstart(patch: pytest.MonkeyPatch) -> None:
    from gengram.benchmarks import quickstart

    sizes = {"train_pairs": 8, "validation_pairs": 4, "test_pairs": 4, "num_train_epochs": 1, "seeds": (0,)}
    patch.setattr(quickstart, "run_quickstart", functools.partial(quickstart.run_quickstart, **sizes))


def shrink_bench(patch: pytest.MonkeyPatch) -> None:
    from gengram.benchmarks.speed import memory

    small = {"SHAPES": [(16, 8), (32, 8)], "QUICK": {(16, 8): [50]}, "EXACT_LENGTHS": [2000, 4000, 8000]}
    for name, value in small.items():
        patch.setattr(memory, name, value)
    patch.setattr(torch, "compile", lambda function, **kwargs: function)
    patch.setattr(memory, "measure_machine", lambda *a: {"bytes_per_s": 1e10, "flop_per_s": 1e11})
    share = {"T": 9, "dtype": "float32", "share": {"ours": 0.1, "eager": 0.2}}
    patch.setattr(memory, "measure_backbone", lambda *a: share)


def shrink_doctor(patch: pytest.MonkeyPatch) -> None:
    from gengram.benchmarks.doctor import report

    patch.setattr(report, "PARTS", ("compiler", "folders"))


def shrink_fetch(patch: pytest.MonkeyPatch) -> None:
    """There is no Hub here; tests/hub has one."""
    from gengram.loading import fetch

    one = {"id": "lab/model", "kind": "model", "folder": "m", "files": {"config.json": 9}, "bytes": 9, "missing": []}
    patch.setattr(fetch, "fetch", lambda *_: [one])


def shrink_study(patch: pytest.MonkeyPatch) -> None:
    """No model is trained, and nothing is held out of the corpus; tests/benchmarks/study has both."""
    from gengram.benchmarks.study import run
    from gengram.training.evaluation.held_out import choose_windows

    def pretend(model, corpus, folder, jobs, place):
        scores = {"recipe": model.checksum, "bits": [9.0] * 4, "bases": [5.0] * 4, "parameters": 1, "seconds": 1.0}
        scores |= {"cpu_seconds": 1.0, "peak_bytes": 1, "balance": {}, "training": [], "held_out": []}
        run.name_scores(folder, model.name).write_text(json.dumps(scores))
        return subprocess.Popen(["true"])

    patch.setattr(run, "choose_held_out", lambda store, *_: ("train", choose_windows(store, 16, 64, "train")))
    patch.setattr(run, "start_model", pretend)


PLAIN = json.dumps({"model_type": "llama", **SIZE})
CASES = {
    "finetune": Case(
        ["--train_file", "{table}", *BACKBONE, *EPOCH], ("--out", "fresh"), {"test", "validation", "seeds", "out"}
    ),
    "pretrain": Case(
        ["--corpus", "{corpus}", "--config", PLAIN, "--steps", "1", "--block_size", "16", "--use_cpu"],
        ("--out", "model"),
        {"out", "parameters", "tokens", "results"},
    ),
    "predict": Case(["{table}", "--model", "{run}"], ("--out", "p.parquet"), {"out", "rows", "columns"}, True),
    "embed": Case(["{table}", "--model", "{run}"], ("--out", "v.npz"), {"out", "vectors", "dimension"}, True),
    "segment": Case(
        ["{genome}", "--model", "{segment_nt}", "--format", "bedgraph", "--window", "480", "--overlap", "240"],
        ("--out", "tracks"),
        {"out", "features", "bases", "files"},
    ),
    "push": Case(["lab/model", "--model", "{run}", "--dry_run"], None, {"repo", "files", "would_delete"}),
    "card": Case(["lab/model", "--model", "{run}"], ("--out", "card.md"), {"repo", "card"}),
    "dataset push": Case(["{tables}", "lab/data", "--dry_run"], None, {"repo", "files", "dry_run"}),
    "dataset build": Case(
        ["species-windows", "--genome", "{named_worm}", "{named_fly}", "--length", "200", "--block", "1000"],
        ("--out", "built"),
        {"kind", "folder", "rows", "classes", "left_out"},
    ),
    "dataset check": Case(["{tables}"], None, {"folder", "tasks", "faulty"}),
    "corpus build": Case(["{corpus_recipe}"], ("--out", "corpus"), {"out", "totals", "overlap", "shards"}),
    "corpus show": Case(["{corpus}", "--check"], None, {"folder", "checked", "totals"}),
    "corpus push": Case(["{corpus}", "lab/corpus", "--dry_run"], None, {"repo", "files", "dry_run"}),
    "models": Case([], None, {"models", "unknown"}),
    "models fetch": Case(["lab/model"], None, {"repositories", "complete"}, shrink=shrink_fetch),
    "tasks": Case([], None, {"tasks", "counts", "unknown"}),
    "train-tokenizer": Case(
        ["{genome}", "--vocab_size", "20", "--sample", "10000"], ("--out", "tokenizer"), {"out", "vocabulary"}
    ),
    "convert megatron": Case(["{megatron}"], ("--out", "converted"), {"out", "source", "files"}),
    "convert to-megatron": Case(["{causal}"], ("--out", "back"), {"out", "source", "files"}),
    "quickstart": Case([], ("--out", "quick"), {"out", "gengram", "seconds"}, shrink=shrink_quickstart),
    "study memory": Case(
        ["--corpus", "{corpus}", "--architectures", "dense-mha", "--compare", "tokens", "--seeds", "1"],
        ("--out", "study"),
        {"out", "architectures", "models", "complete"},
        shrink=shrink_study,
    ),
    "evaluate": Case(
        ["--train_file", "{table}", "--test_file", "{table}", "--model", "{run}", "--baselines", "kmer"]
        + ["--cache", "{cache}"],
        ("--out", "scores"),
        {"out", "tasks", "entrants", "cells", "complete"},
    ),
    "compare": Case(
        ["{evaluation_majority}", "{evaluation_composition}"],
        ("--out", "compared.md"),
        {"out", "tasks", "suite", "left_out"},
        True,
    ),
    "leaderboard": Case(["{evaluation}"], ("--out", "board.md"), {"out", "tables", "reports"}, True),
    "doctor": Case([], None, {"healthy", "verdicts", "facts"}, shrink=shrink_doctor),
    "bench": Case(["--quick", "--rounds", "1"], ("--plot", "b.png"), {"speed", "exactness"}, True, shrink_bench),
}
WRITING = [verb for verb, case in CASES.items() if case.out]
TAKING_MODELS = [verb for verb, case in CASES.items() if "--model" in case.words] + ["convert to-megatron", "finetune"]


def fill_in(word: str, things: dict[str, str]) -> str:
    return things.get(word.strip("{}"), word) if word.startswith("{") else word


@pytest.fixture
def call(things, tmp_path, monkeypatch, capsys):
    """Call a verb in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(verb: str, *more: str, out: str | None = "", **other: str) -> tuple[int, str, str]:
        case = CASES[verb]
        case.shrink(monkeypatch)
        words = [fill_in(word, {**things, **other}) for word in case.words]
        if case.out and out is not None:
            words += [case.out[0], out or case.out[1]]
        capsys.readouterr()
        try:
            code = main([*verb.split(), *words, *more])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_every_verb_has_a_case():
    assert set(CASES) == set(VERBS)


@pytest.mark.parametrize("verb", CASES)
def test_json_is_one_object_on_standard_output_and_quiet_is_quiet(verb, call):
    code, out, err = call(verb, "--quiet", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert CASES[verb].keys <= told.keys()
    assert err == ""


@pytest.mark.parametrize("verb", CASES)
def test_without_a_terminal_there_are_no_bars_and_the_text_is_the_answer(verb, call, tmp_path):
    code, out, err = call(verb)
    assert code == 0, err
    assert out.strip() and "\r" not in out
    assert "\r" not in err and "%|" not in err and "Traceback" not in err
    if CASES[verb].out:
        assert (tmp_path / CASES[verb].out[1]).exists()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("verb", WRITING)
def test_a_folder_that_cannot_be_is_told_and_nothing_is_left(verb, call, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = call(verb, out=f"file/{CASES[verb].out[1]}")
    assert (code, out) == (1, "") and "file" in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("verb", [verb for verb in WRITING if CASES[verb].suffixes])
def test_a_wrong_suffix_is_told_with_the_right_ones(verb, call, tmp_path):
    code, out, err = call(verb, out="out.docx")
    assert (code, out) == (1, "") and "out.docx: the name must end with" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", WRITING)
def test_what_is_there_is_replaced_only_if_asked(verb, call, tmp_path):
    assert call(verb)[0] == 0
    name = CASES[verb].out[1]
    files = [tmp_path / name] if (tmp_path / name).is_file() else [path for path in (tmp_path / name).rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in files}
    code, out, err = call(verb)
    assert (code, out) == (1, "") and "--overwrite" in err and name in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert call(verb, "--overwrite")[0] == 0
    assert not list(tmp_path.glob("*.old"))


@pytest.mark.parametrize("verb", TAKING_MODELS)
def test_a_model_that_is_nowhere_is_told_before_anything_is_loaded(verb, call, tmp_path):
    if verb == "finetune":
        code, out, err = call(verb, "--model", "nope")
        assert code == 2 and "give either model_name_or_path" in err  # and not a backbone, too
        return
    code, out, err = call(verb, run="nope", segment_nt="nope", causal="nope")
    assert (code, out) == (1, "") and "nope" in err
    assert "there is no folder 'nope', and no repository" in err or "nope: there is no such folder" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["predict", "embed", "push", "card"])
def test_a_run_is_a_model(verb, call, things):
    """The same as its best seed."""
    seeds = [call(verb, "--json", run=f"{things['run']}/seed-{seed}", out=f"{seed}.{end(verb)}") for seed in (0, 1)]
    code, _, err = call(verb, "--json", out=f"run.{end(verb)}")
    assert code == 0, err
    assert "is taken: of 2, it has the highest mcc" in err or "is published: of 2" in err or verb == "card"
    assert all(code == 0 for code, *_ in seeds)
    if verb == "predict":
        assert any(Path(f"{seed}.parquet").read_bytes() == Path("run.parquet").read_bytes() for seed in (0, 1))


def end(verb: str) -> str:
    return {"predict": "parquet", "embed": "npz"}.get(verb, "md")


def test_a_run_is_a_checkpoint_to_train_on(things, tmp_path, capsys):
    words = ["--train_file", things["table"], "--model", things["run"], *EPOCH, "--out", str(tmp_path / "more")]
    assert main(["finetune", *words]) == 0
    assert "is taken: of 2" in capsys.readouterr().err
    report = json.loads((tmp_path / "more" / "report.json").read_text())
    assert report["model"]["checkpoint"].startswith(f"{things['run']}/seed-") and report["model"]["new_weights"] == []


def test_a_run_of_another_kind_is_told(things, tmp_path, capsys):
    segment = ["segment", things["genome"], "--format", "bedgraph", "--out", str(tmp_path / "t")]
    assert main([*segment, "--model", things["run"]]) == 1
    assert "has no features of single bases; give a SegmentNT" in capsys.readouterr().err
    assert main(["convert", "to-megatron", things["run"], "--out", str(tmp_path / "m")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--model", "old position"])
def test_old_positions_still_work(flag, things, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = [things["run"]]
    new = flag == "--model"
    calls = [
        ["predict", *([things["table"], "--model", *run] if new else [*run, things["table"]]), "--out", "p.parquet"],
        ["push", *(["lab/model", "--model", *run] if new else [*run, "lab/model"]), "--dry-run"],
        ["card", *(["lab/model", "--model", *run] if new else [*run, "lab/model"])],
        ["convert", "to-megatron", *(["--model", things["causal"], "--out", "m"] if new else [things["causal"], "m"])],
        ["convert", "megatron", things["megatron"], *(["--out", "c"] if new else ["c"])],
        ["segment", *(["--genome", things["genome"]] if new else [things["genome"]]), "--model", things["segment_nt"],
         "--format", "bedgraph", "--window", "480", "--overlap", "240", "--out", "t"],
    ]  # fmt: skip
    for words in calls:
        assert main(words) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("verb", ["card", "push"])
def test_a_closed_pipe_ends_a_verb_without_a_word(verb, things, tmp_path):
    words = [*verb.split(), *(fill_in(word, things) for word in CASES[verb].words), "--quiet"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "gengram.cli", *words], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("verb", ["", "embed", "push"])
def test_help_into_a_closed_pipe(verb):
    read, write = os.pipe()
    os.close(read)
    words = [*verb.split(), "--help"]
    done = subprocess.run(
        [sys.executable, "-m", "gengram.cli", *words], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_the_input_is_not_the_output(verb, things, tmp_path, capsys):
    table = tmp_path / "rows.parquet"
    pd.read_csv(things["table"]).to_parquet(table)
    before = table.read_bytes()
    assert main([verb, str(table), "--model", things["run"], "--out", str(table), "--overwrite"]) == 1
    assert "this is the input" in capsys.readouterr().err and table.read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "name"),
    [("finetune", "seed-0"), ("finetune", "report.md"), ("segment", "features.bed"), ("quickstart", "data")],
)
def test_files_of_no_run_are_not_replaced(verb, name, call, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).touch()
    code, out, err = call(verb, out="mine")
    assert (code, out) == (1, "") and f"{name} is there already, and no earlier run has ended here" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]


def test_a_model_is_not_trained_over_itself(things, tmp_path, capsys):
    words = ["--train_file", things["table"], "--model", things["run"], *EPOCH, "--out", things["run"], "--overwrite"]
    assert main(["finetune", *words]) == 1
    assert "the checkpoint is a model of this run" in capsys.readouterr().err
    assert (Path(things["run"]) / "report.json").is_file()


@pytest.mark.parametrize("verb", [verb for verb in WRITING if verb not in ("quickstart", "bench")])
def test_an_empty_name_is_no_name(verb, things, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [fill_in(word, things) for word in CASES[verb].words]
    try:
        code = main([*verb.split(), *words, CASES[verb].out[0], ""])
    except SystemExit as stop:
        code = stop.code
    assert code == (2 if verb in ("finetune", "pretrain") else 1)
    assert "is empty" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_verb_works_without_a_stream(closed, things, tmp_path):
    """As some schedulers start their jobs."""
    words = ["predict", things["table"], "--model", things["run"], "--out", "p.parquet"]
    command = f"{sys.executable} -m gengram.cli {' '.join(words)} {'>&-' if closed == 'stdout' else '2>&-'}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "p.parquet").is_file()


def test_an_encoding_without_a_letter_of_the_answer(things, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = ["predict", things["table"], "--model", things["run"], "--out", "é.parquet"]
    command = [sys.executable, "-m", "gengram.cli", *words]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (0, b"\\xe9.parquet\n")


def test_an_own_recipe_is_a_file_with_its_folder(things, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gue").write_text("learning_rate: 0.5\n")
    words = ["--train_file", things["table"], "--model", things["run"]]
    assert parse_arguments(["./gue", *words])[2].learning_rate == 0.5
    assert capsys.readouterr().err == ""
    assert parse_arguments(["gue", *words])[2].learning_rate != 0.5
    assert "the recipe 'gue' of the package is taken, not the file of that name" in capsys.readouterr().err
