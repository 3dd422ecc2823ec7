"""`gengram finetune --push_to_hub`: a run that publishes itself, and what stops it before anything is trained."""

import json
import random
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

SIZE = '{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}'
MEMORY = '{"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}'


@pytest.fixture
def argv(tmp_path) -> list[str]:
    draw = random.Random(0)
    rows = [("".join(draw.choices("ACG", k=24)), "none") for _ in range(20)]
    rows += [(f"{bases[:9]}TATAAA{bases[15:]}", "tata") for bases, _ in rows]
    (tmp_path / "train.csv").write_text("\n".join(["sequence,label", *(",".join(row) for row in rows)]) + "\n")
    arguments = {
        "train_file": tmp_path / "train.csv",
        "output_dir": tmp_path / "run",
        "backbone": "llama",
        "backbone_config": SIZE,
        "memory": MEMORY,
        "num_train_epochs": 1,
        "disable_tqdm": True,
        "push_to_hub": True,
    }
    return [part for name, value in arguments.items() for part in (f"--{name}", str(value))]


def call_finetune(argv, token="hf_writer"):
    import os

    from gengram.training import command, finetune

    finetune.write_plots = lambda *_: []
    known = os.environ.pop("HF_TOKEN")
    if token is not None:
        os.environ["HF_TOKEN"] = token
    try:
        return command.finetune(argv)
    finally:
        os.environ["HF_TOKEN"] = known


def test_a_run_publishes_its_best_seed_with_our_card(hub, user, argv, tmp_path):
    argv += [
        "--hub_model_id",
        "lab/self-published",
        "--hub_license",
        "mit",
        "--seeds",
        "0",
        "1",
        "--hub_private_repo",
        "true",
    ]
    argv += ["--save_strategy", "epoch"]
    assert user.call(call_finetune, argv=argv) == 0, user.err
    repo, files = hub.repos["models", "lab/self-published"], hub.list_files("lab/self-published")
    assert len(repo.commits) == 2 and f"{hub.url}/lab/self-published/commit/{repo.branches['main']}" in user.out
    assert repo.private
    card = ModelCard(files["README.md"].data.decode())
    assert card.data.license == "mit" and "is published" in card.text and "Trainer" not in card.text.splitlines()[0]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    scores = zip(*(report["validation"][name]["per_seed"] for name in ("mcc", "loss")))
    best = max(enumerate(scores), key=lambda scored: (scored[1][0], -scored[1][1]))[0]
    assert files["model.safetensors"].data == (tmp_path / "run" / f"seed-{best}" / "model.safetensors").read_bytes()
    assert not [name for name in files if name.startswith("checkpoint") or name.endswith((".bin", ".pt"))]
    assert hub.requests["create"] == 1, "Trainer makes no repository of its own"


@pytest.mark.parametrize(
    ("changes", "token", "message"),
    [
        (["--hub_model_id", "lab/x"], None, "push_to_hub needs a token: run `hf auth login`"),
        ([], "hf_writer", "push_to_hub needs the name of the repository: give --hub_model_id"),
        (["--hub_model_id", "x"], "hf_writer", "'x' is no name for a repository: write organization/name"),
        (["--hub_model_id", "lab/a--b"], "hf_writer", "'lab/a--b' is no name for a repository"),
        (["--hub_model_id", "lab/x", "--hub_license", "no such"], "hf_writer", "--hub_license 'no such': write the"),
    ],
)
def test_nothing_is_trained_that_cannot_be_published(changes, token, message, hub, user, argv, tmp_path):
    assert user.call(call_finetune, argv=[*argv, *changes], token=token) == 1
    assert message in user.err and not (tmp_path / "run").exists() and hub.requests.total() == 0


def test_an_adapter_of_a_local_base_is_refused_before_it_is_trained(hub, user, argv, tmp_path):
    (tmp_path / "base").mkdir()
    for name in ("backbone", "backbone_config", "memory"):
        position = argv.index(f"--{name}")
        del argv[position : position + 2]
    argv += ["--model_name_or_path", str(tmp_path / "base"), "--peft", "lora", "--hub_model_id", "lab/adapter"]
    assert user.call(call_finetune, argv=argv) == 1
    assert "an adapter is published with the Hub id of its base" in user.err and not (tmp_path / "run").exists()


def test_a_refused_push_leaves_the_finished_run(hub, user, argv, tmp_path):
    argv += ["--hub_model_id", "lab/refused"]
    assert user.call(call_finetune, argv=argv, token="hf_reader") == 1
    assert (tmp_path / "run" / "report.json").is_file() and not (tmp_path / "run" / "unfinished.json").exists()
    run = Path(tmp_path / "run")
    assert "the run is complete" in user.err and f"gengram push {run} lab/refused" in user.err
    assert "write access" in user.err


def test_the_command_after_a_refused_push_publishes_as_it_was_asked(hub, user, argv, tmp_path):
    argv += ["--hub_model_id", "lab/secret", "--hub_private_repo", "true", "--hub_license", "mit"]
    assert user.call(call_finetune, argv=[*argv, "--hub_revision", "trial"], token="hf_reader") == 1
    assert user.err.endswith(f"gengram push {tmp_path / 'run'} lab/secret --private --license mit --revision trial\n")
