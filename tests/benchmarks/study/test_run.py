"""A study as a whole: what its folder may hold, what goes on, what fails. Trainings are stood in for; one is not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from gengram.benchmarks.study import presets
from gengram.benchmarks.study import run as study
from gengram.benchmarks.study.matching import make_arm
from gengram.benchmarks.study.models import StudiedModel, list_models
from gengram.benchmarks.study.presets import TINY
from gengram.cli import main
from gengram.errors import InputError

WINDOWS = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two contigs of 40 kb with a motif here and there, one of 8 kb for tests, one of 4 kb to watch."""
    root, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    lines = []
    for name, length in (("chr1", 40_000), ("chr2", 40_000), ("chr3", 8_000), ("chr4", 4_000)):
        letters = random.choice(list("ACGT"), length, p=[0.4, 0.1, 0.1, 0.4])
        for start in range(0, length - 20, 50):
            letters[start : start + 12] = list("TATAAAGGCCAT")
        lines.append(f">{name}\n{''.join(letters)}\n")
    (root / "small.fa").write_text("".join(lines))
    genome = {"species": "made", "fasta": "small.fa", "hold_out": {"test": ["chr3"], "validation": ["chr4"]}}
    (root / "recipe.yaml").write_text(yaml.safe_dump({"name": "made", "genomes": [genome]}))
    assert main(["corpus", "build", str(root / "recipe.yaml"), "--out", str(root / "corpus"), "--quiet"]) == 0
    return root / "corpus"


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Names of the models that are started; in place of a training their scores are written, or a line of a log."""
    names: list[str] = []

    def start(model: StudiedModel, corpus: Path, folder: Path, jobs: int, place: int) -> subprocess.Popen:
        names.append(model.name)
        if model.name in failing:
            (folder / "logs" / f"{model.name}.log").write_text(f"program: error: no room\n{failing[model.name][1]}")
            return subprocess.Popen([sys.executable, "-c", failing[model.name][0]])
        scores = {
            "recipe": model.checksum,
            "bits": [500.0 - model.arm.memory - model.seed] * WINDOWS,
            "bases": [255.0] * WINDOWS,
            "parameters": 1,
            "seconds": 1.0,
            "cpu_seconds": 1.0,
            "peak_bytes": 1,
            "balance": {},
            "training": [],
            "held_out": [[1, 1.9]],
        }
        study.name_scores(folder, model.name).write_text(json.dumps(scores))
        return subprocess.Popen(["true"])

    failing: dict[str, tuple[str, str]] = {}
    monkeypatch.setattr(study, "start_model", start)
    monkeypatch.setattr(study, "_LOOK", 0.01)
    monkeypatch.setattr("gengram.benchmarks.study.report.find_spec", lambda name: None)  # test_report.py draws
    start.failing = failing
    monkeypatch.setattr(study, "failing", failing, raising=False)
    return names


def call(corpus: Path, out: Path, *more: str) -> int:
    return main(["study", "memory", "--corpus", str(corpus), "--out", str(out), *more])


SMALL = ("--architectures", "dense-gqa", "--compare", "tokens")


def test_a_study_trains_each_model_once_and_more_seeds_go_on(corpus, tmp_path, started, capsys):
    out = tmp_path / "study"
    assert call(corpus, out, *SMALL, "--seeds", "1") == 0
    assert started == ["dense-gqa-none-seed-0", "dense-gqa-memory-seed-0"]
    assert {"study.md", "study.json", "settings.json"} <= {path.name for path in out.iterdir()}
    report = json.loads((out / "study.json").read_text())
    assert report["held_out"]["split"] == "test" and report["held_out"]["contigs"] == ["chr3"]
    assert report["architectures"]["dense-gqa"]["differences"]["tokens"]["difference"]["mean"] == pytest.approx(
        -1 / 255
    )
    assert 1 < report["markov"]["bits_per_base"]["1"] < 2

    before = (out / "study.json").read_bytes()
    capsys.readouterr()
    assert call(corpus, out, *SMALL, "--seeds", "1") == 1
    assert "this study is finished (study.json)" in (told := capsys.readouterr().err) and "--overwrite" in told
    assert (out / "study.json").read_bytes() == before and len(started) == 2

    started.clear()
    assert call(corpus, out, *SMALL, "--seeds", "2", "--jobs", "2") == 0
    assert started == ["dense-gqa-none-seed-1", "dense-gqa-memory-seed-1"]
    assert "2 of 4 models are trained already" in capsys.readouterr().err
    started.clear()
    assert call(corpus, out, *SMALL, "--seeds", "1", "--overwrite") == 0
    assert len(started) == 2 and not (out / "scores" / "dense-gqa-none-seed-1.json").exists()


def test_a_failed_model_is_told_the_others_go_on_and_it_is_tried_again(corpus, tmp_path, started, capsys):
    study.failing["dense-gqa-none-seed-0"] = ("raise SystemExit(1)", "study: error: no room for it\n")
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    study.failing["dense-gqa-memory-seed-1"] = (killed, "")
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "2", "--json") == 1
    captured = capsys.readouterr()
    failed = json.loads(captured.out)["failed"]
    assert failed["dense-gqa-none-seed-0"] == "no room for it"
    assert failed["dense-gqa-memory-seed-1"] == "ended by SIGKILL, as the system does where memory runs out"
    assert len(started) == 4 and "Traceback" not in captured.err
    assert "**Not complete.**" in (tmp_path / "out" / "study.md").read_text()
    study.failing.clear()
    started.clear()
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "2") == 0
    assert sorted(started) == ["dense-gqa-memory-seed-1", "dense-gqa-none-seed-0"]
    assert "Not complete" not in (tmp_path / "out" / "study.md").read_text()


def test_a_changed_recipe_is_trained_again(corpus, tmp_path, started):
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 0
    path = tmp_path / "out" / "scores" / "dense-gqa-none-seed-0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "another"}))
    (tmp_path / "out" / "study.json").unlink()
    started.clear()
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 0
    assert started == ["dense-gqa-none-seed-0"]


def test_the_folder_of_another_study_is_refused(corpus, tmp_path, started, capsys):
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 0
    started.clear()
    capsys.readouterr()
    assert call(corpus, tmp_path / "out", *SMALL, "--preset", "small") == 1
    told = capsys.readouterr().err
    assert "another study is there (preset tiny on the corpus made, not preset small on the corpus made)" in told
    assert started == []


@pytest.mark.parametrize("content", ["[]", "\xff"])
def test_a_damaged_file_of_the_study_is_told(corpus, tmp_path, started, content, capsys):
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 0
    (tmp_path / "out" / "settings.json").write_bytes(content.encode("latin-1"))
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 1
    told = capsys.readouterr().err
    assert "settings.json: this cannot be read" in told and "Traceback" not in told


@pytest.mark.parametrize(
    "change", [{"bits": ["a"] * WINDOWS}, {"bits": [1.0]}, {"bases": [0] * WINDOWS}, {"balance": None}]
)
def test_damaged_scores_are_told(corpus, tmp_path, started, change, capsys):
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "1") == 0
    path = tmp_path / "out" / "scores" / "dense-gqa-none-seed-0.json"
    scores = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in scores.items() if value is not None}))
    assert call(corpus, tmp_path / "out", *SMALL, "--seeds", "2") == 1
    told = capsys.readouterr().err
    assert "dense-gqa-none-seed-0.json: this cannot be read" in told and "Traceback" not in told


def test_somebody_elses_files_are_neither_read_nor_replaced(corpus, tmp_path, started, capsys):
    (tmp_path / "out" / "models").mkdir(parents=True)
    (tmp_path / "out" / "models" / "precious").touch()
    for more in ((), ("--overwrite",)):
        assert call(corpus, tmp_path / "out", *SMALL, *more) == 1
        assert "models is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "models", "precious"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--plan", "--architectures", "dense-mqa"],
            "--architectures dense-mqa: there is no such architecture; did you mean",
        ),
        (["--preset", "paper"], "50 billion tokens a model, and there is no GPU here: --plan says"),
        (["--plan", "--gpu", "H1000"], "--gpu H1000: choose one of A100"),
        ([], "--corpus is missing"),
        (["--corpus", "nowhere"], "--out is missing"),
        (["--corpus", "nowhere", "--out", "out"], "nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "paper" in words:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        words = [*words, "--corpus", "c", "--out", "o"]
    assert main(["study", "memory", *words]) == 1
    assert told in (shown := capsys.readouterr().err) and "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_without_held_out_contigs_is_refused(corpus, tmp_path, capsys):
    source = corpus.parent
    recipe = {"name": "all", "genomes": [{"species": "made", "fasta": "small.fa"}]}
    (source / "all.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["corpus", "build", str(source / "all.yaml"), "--out", str(tmp_path / "corpus"), "--quiet"]) == 0
    assert call(tmp_path / "corpus", tmp_path / "out", *SMALL) == 1
    assert "there is nothing to evaluate on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_blocks_that_are_longer_than_every_contig_are_refused_once(corpus, tmp_path, monkeypatch, capsys):
    shrink(monkeypatch, block_size=60_000, held_out_blocks=1, scored_blocks=1)
    assert call(corpus, tmp_path / "out", *SMALL) == 1
    assert "60,000" in (told := capsys.readouterr().err) and "Traceback" not in told, told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_a_plan_needs_neither_corpus_nor_gpu(preset, capsys):
    assert main(["study", "memory", "--preset", preset, "--plan", "--compare", "tokens", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["models"] == 24 and len(plan["arms"]) == 12
    row = plan["arms"][1]
    assert (row["architecture"], row["arm"]) == ("dense-mha", "memory")
    if preset == "paper":
        assert row["tokens"] == 5960 * 1024 * 8192
        assert row["hours"] == pytest.approx(row["flops"] / (0.4 * 989e12) / 3600)
    else:
        assert row["flops"] == 256 * make_arm(TINY, "dense-mha", "memory").step_flops


def test_commands_of_one_device_and_of_many():
    (model,) = list_models(TINY, ["moe-mla"], [1], ["tokens"])[:1]
    one, many = (study.compose_command(model, Path("c"), Path("o"), gpus) for gpus in (0, 4))
    assert one[1:3] == ["-m", "gengram.benchmarks.study.train"]
    assert many[1:6] == ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "4"]
    assert many[6:] == one[1:]
    assert "o/recipes/moe-mla-none-seed-1.yaml" in one


def test_an_interrupt_ends_the_processes():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(KeyboardInterrupt), study._ending({0: (None, process)}):
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_why_a_process_has_failed(tmp_path):
    log = tmp_path / "log"
    assert study.explain_failure(log, 1) == "it said nothing"
    log.write_text("step 1\nValueError: no\n\n")
    assert study.explain_failure(log, 1) == "ValueError: no"
    assert study.explain_failure(log, -200) == "ended by signal 200"


SIZES = {"hidden_size": 16, "layers": 2, "dense_width": 16, "expert_width": 16, "memory_layers": (0, 1)}
SIZES |= {"memory_dim": 4, "block_size": 64, "blocks_per_step": 4, "steps": 4, "warmup_steps": 1}
SIZES |= {"evaluations": 2, "held_out_blocks": 2, "scored_blocks": 20, "blocks_per_device": 4}


def shrink(monkeypatch, **changes):
    """A preset of which a model takes a second."""
    monkeypatch.setitem(presets.PRESETS, "tiny", dataclasses.replace(TINY, **{**SIZES, **changes}))


def start_here(model, corpus, folder, jobs, place):
    """As `start_model`, in this process."""
    from gengram.benchmarks.study.train import main as train

    recipe = folder / "recipes" / f"{model.name}.yaml"
    recipe.write_text(model.recipe)
    words = study.compose_command(model, corpus, folder, 0)[3:]
    code = train(words)
    return SimpleNamespace(poll=lambda: code, terminate=lambda: None, wait=lambda *_: None)


def test_two_models_are_trained_and_compared(corpus, tmp_path, monkeypatch):
    shrink(monkeypatch)
    monkeypatch.setattr(study, "start_model", start_here)
    out = tmp_path / "out"
    assert call(corpus, out, "--architectures", "moe-gqa", "--seeds", "1", "--compare", "tokens", "--quiet") == 0
    report = json.loads((out / "study.json").read_text())
    none, memory = (report["models"][f"moe-gqa-{arm}-seed-0"] for arm in ("none", "memory"))
    for one in (none, memory):
        arm = report["architectures"]["moe-gqa"]["arms"][one["arm"]]
        assert one["parameters"] == arm["parameters"]  # what was trained is what was counted
        assert one["tokens"] == 4 * 4 * 64
        assert [step for step, _ in one["held_out"]] == [2, 4]
        assert 1 < one["bits_per_base"] < 10
        assert 1 <= one["balance"]["experts/balance_mean"] <= 4
        assert one["held_out"][-1][1] == pytest.approx(
            one["bits_per_base"], abs=0.2
        )  # other windows of the same contigs
    assert memory["parameters"] > none["parameters"]
    assert not list(out.glob("models/*/stage-*")) and list(out.glob("models/*/model.safetensors"))
    scores = json.loads((out / "scores" / "moe-gqa-memory-seed-0.json").read_text())
    assert sum(scores["bases"]) == 20 * 63  # the first base of a window is not predicted


@pytest.mark.slow
def test_all_arms_by_processes_of_their_own(corpus, tmp_path, monkeypatch):
    shrink(monkeypatch)
    out = tmp_path / "out"
    few = ("--architectures", "dense-mla", "moe-mla", "--compare", "tokens", "flops", "parameters")
    assert call(corpus, out, *few, "--seeds", "1", "--jobs", "2") == 0
    report = json.loads((out / "study.json").read_text())
    assert report["complete"] and len(report["models"]) >= 6
    for one in report["models"].values():
        assert one["parameters"] == report["architectures"][one["architecture"]]["arms"][one["arm"]]["parameters"]


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on(corpus, tmp_path):
    """The command in a process of its own, killed with its child while the first model is trained."""
    sizes = {**SIZES, "steps": 60, "evaluations": 30}
    code = (
        "import dataclasses, sys; from gengram.benchmarks.study import presets; from gengram.cli import main; "
        f"presets.PRESETS['tiny'] = dataclasses.replace(presets.TINY, **{sizes}); sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "study", "memory", "--corpus", str(corpus), "--out", str(tmp_path / "out")]
    words += [*SMALL, "--seeds", "1"]
    process = subprocess.Popen(words, start_new_session=True)
    end = time.monotonic() + 240
    while not (found := list(tmp_path.glob("out/models/*/stage-1/checkpoint-*"))) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert found and not (tmp_path / "out" / "study.json").exists()
    assert subprocess.run(words).returncode == 0
    report = json.loads((tmp_path / "out" / "study.json").read_text())
    assert report["complete"] and [step for step, _ in report["models"]["dense-gqa-none-seed-0"]["held_out"]][-1] == 60


def test_the_seed_of_a_study_must_be_a_number(capsys):
    with pytest.raises(SystemExit):
        main(["study", "memory", "--seeds", "0"])
    assert "give a whole number of at least 1" in capsys.readouterr().err


def test_windows_of_the_test_contigs_come_first(corpus):
    from gengram.benchmarks.study.train import choose_held_out
    from gengram.training.corpus.store import open_corpus

    split, windows = choose_held_out(open_corpus(corpus), 256, 1024)
    assert split == "test" and len(windows.contig) == 4
    with pytest.raises(InputError):
        choose_held_out(open_corpus(corpus), 1, 1024)
