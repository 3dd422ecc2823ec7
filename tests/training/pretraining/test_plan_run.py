"""`gengram pretrain --plan` and `--slurm`: as the run would be, with nothing trained and nothing written."""

import json
import shlex
import subprocess

import pytest

from gengram.training.pretraining.command import pretrain
from gengram.training.pretraining.plan_run import strip_words
from tests.training.pretraining.commands import make_words


def test_the_plan_is_that_of_the_run(corpus, tmp_path, capsys):
    words = make_words(corpus, tmp_path / "out", stages=[{"steps": 4}, {"steps": 2, "block_size": 32}], steps=None)
    assert pretrain([*words, "--plan", "--gpus", "2", "--gpu", "a10", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert [stage["tokens"] for stage in plan["stages"]] == [4 * 5 * 24, 2 * 5 * 32]
    assert plan["gpu"]["name"] == "A10" and plan["options"]["gpus"] == 2 and plan["fits"]
    assert plan["corpus"]["bases"] == 3500 and plan["corpus"]["passes"] == pytest.approx(800 / 3500)
    assert plan["counted"] is not None and plan["parameters"]["memory"] > 0
    assert [stage["rows"] for stage in plan["stages"]] == [2, 2], "five blocks for two devices, two at a time"
    assert pretrain(words) == 0
    report = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert report["parameters"] == plan["parameters"]["total"]


def test_the_plan_as_text_for_half_precision_on_a_machine_without_gpus(corpus, tmp_path, capsys):
    words = make_words(corpus, tmp_path / "out", use_cpu=None, bf16=True, gradient_checkpointing=True)
    assert pretrain([*words, "--plan", "--gpu", "V100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "corpus", "parameters", "stage", "time", "checkpoint", "memory", "fits", "note", "note", "note",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--plan", "--gpu", "H10"], "did you mean 'H100'"),
        (["--plan", "--mfu", "0"], "mfu=0.0: give a share"),
        (["--plan", "--gpus", "0"], "gpus=0: give 1 or more"),
        (["--plan", "--slurm"], "give one of the two"),
        (["--slurm", "--gpus", "12"], "12 GPUs are no whole machines of 8"),
        (["--slurm", "--sharding", "zero1"], "there are configurations for"),
        (["--slurm", "/nowhere/job.sh"], "/nowhere"),
    ],
)
def test_what_cannot_be_planned(more, message, corpus, tmp_path, capsys):
    assert pretrain([*make_words(corpus, tmp_path / "out"), *more]) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown and not (tmp_path / "out").exists()


def test_a_job_is_printed_or_written_once(corpus, tmp_path, capsys):
    words = make_words(corpus, tmp_path / "my out", max_hours=9)
    more = ["--gpus", "16", "--sharding", "fsdp2", "--overwrite"]
    assert pretrain([*words, *more, "--slurm"]) == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "#SBATCH --nodes=2\n" in script and "#SBATCH --time=0-09:15:00\n" in script
    command = script.split("-m gengram ", 1)[1].split(" &\n")[0]
    without = [word for word in words if word not in ("--max_hours", "9")]
    assert shlex.split(command) == ["pretrain", *without, "--max_hours", "9", "--resume_from_checkpoint"]
    assert pretrain([*words, "--slurm", str(tmp_path / "job.sh")]) == 0
    written = (tmp_path / "job.sh").read_text()
    assert capsys.readouterr().out == f"sbatch {tmp_path / 'job.sh'}\n" and written.startswith("#!/bin/bash\n")
    assert pretrain([*words, "--slurm", str(tmp_path / "job.sh")]) == 1
    assert "job.sh is there already" in capsys.readouterr().err
    assert (tmp_path / "job.sh").read_text() == written and not (tmp_path / "my out").exists()


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["r.yaml", "--plan", "--out", "o"], ["r.yaml", "--out", "o"]),
        (["--slurm", "job.sh", "--out", "o"], ["--out", "o"]),
        (["--slurm=job.sh", "--gpus=8", "--gpu", "H100", "--out", "o"], ["--out", "o"]),
        (["--out", "o", "--slurm"], ["--out", "o"]),
        (["--slurm", "--out", "o", "--job-hours", "3", "--bf16"], ["--out", "o", "--bf16"]),
        (["--overwrite", "true", "--resume_from_checkpoint", "--steps", "3"], ["--steps", "3"]),
        (["--json", "x.json", "--quiet", "--out", "o"], ["--out", "o"]),
    ],
)
def test_words_about_the_job_are_not_those_of_the_run(words, kept):
    assert strip_words(words) == kept


def test_sharding_on_a_cpu_is_refused_by_name(corpus, tmp_path, capsys, monkeypatch):
    words = make_words(corpus, tmp_path / "out")
    for variables, more in (({}, ["--fsdp", "full_shard"]), ({"ACCELERATE_USE_FSDP": "true"}, [])):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            pretrain([*words, *more])
        assert "fsdp on a CPU: Trainer would silently run DDP" in capsys.readouterr().err
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    with pytest.raises(SystemExit):
        pretrain(words)
    assert "give --context_parallel instead" in capsys.readouterr().err and not (tmp_path / "out").exists()
