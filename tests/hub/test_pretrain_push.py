"""`gengram pretrain --push_to_hub`: the model, its checkpoints and, if asked for, their training state."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from gengram.training.corpus.build import build_corpus
from gengram.training.pretraining.publishing import unpack_state

CONFIG = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
CONFIG |= {"num_attention_heads": 2, "max_position_embeddings": 64}
MEMORY = {"memory_layers": [1], "kmer_sizes": [1, 2], "memory_dim": 4, "window_size": 6}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    letters = ["".join(np.random.default_rng(seed).choice(list("ACGT"), 900)) for seed in (0, 1)]
    (root / "genome.fa").write_text(f">chr1\n{letters[0]}\n>chr2\n{letters[1]}\n")
    (root / "recipe.yaml").write_text(
        "name: made\nlicence: cc0-1.0\ngenomes:\n  - species: made up\n    fasta: genome.fa\n"
        "    hold_out: {validation: [chr2]}\n"
    )
    build_corpus(root / "recipe.yaml", root / "store")
    return root / "store"


@pytest.fixture
def argv(corpus, tmp_path) -> list[str]:
    options = {"corpus": corpus, "out": tmp_path / "run", "config": json.dumps(CONFIG), "memory": json.dumps(MEMORY)}
    options |= {"block_size": 24, "steps": 4, "blocks_per_step": 4, "save_steps": 2, "eval_bases": 0}
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [*words, "--use_cpu", "--disable_tqdm", "true", "--push_to_hub"]


def call_pretrain(argv, token="hf_writer"):
    import os

    from gengram.training.pretraining import command

    known = os.environ.pop("HF_TOKEN")
    if token is not None:
        os.environ["HF_TOKEN"] = token
    try:
        return command.pretrain(argv)
    finally:
        os.environ["HF_TOKEN"] = known


def test_a_model_and_its_checkpoints_with_their_state(hub, user, argv, tmp_path, corpus):
    argv += ["--hub_model_id", "lab/pretrained", "--hub_license", "cc0-1.0", "--push_checkpoints"]
    assert user.call(call_pretrain, argv=[*argv, "--push_training_state"]) == 0, user.err
    repo = hub.repos["models", "lab/pretrained"]
    assert {"main", "stage-1-step-2", "stage-1-step-4"} == set(repo.branches), user.err
    assert f"commit/{repo.branches['main']}" in user.out
    files = hub.list_files("lab/pretrained")
    assert files["model.safetensors"].data == (tmp_path / "run" / "model.safetensors").read_bytes()
    card = ModelCard(files["README.md"].data.decode())
    assert card.data.license == "cc0-1.0" and "What it has read" in card.text and "chr1" in card.text
    assert json.loads(files["pretraining.json"].data)["corpus"]["name"] == "made"
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth")) or name.startswith("training_state")]

    checkpoint = tmp_path / "run" / "stage-1" / "checkpoint-4"
    files = hub.list_files("lab/pretrained", revision="stage-1-step-4")
    assert files["model.safetensors"].data == (checkpoint / "model.safetensors").read_bytes()
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth"))]
    told = json.loads(files["pretraining.json"].data)
    assert (told["stage"], told["step"]) == (1, 4)
    for name, blob in files.items():
        assert str(tmp_path).encode() not in blob.data and str(corpus).encode() not in blob.data, name
    (tmp_path / "state").mkdir()
    for name in ("optimizer.safetensors", "state.json"):
        (tmp_path / "state" / name).write_bytes(files[f"training_state/{name}"].data)
    optimizer, schedule = unpack_state(tmp_path / "state")
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    assert optimizer["param_groups"] == json.loads(json.dumps(saved["param_groups"]))
    assert optimizer["state"].keys() == saved["state"].keys()
    for index, entry in saved["state"].items():
        assert all(torch.equal(optimizer["state"][index][name], value) for name, value in entry.items())
    assert schedule["last_epoch"] == torch.load(checkpoint / "scheduler.pt", weights_only=True)["last_epoch"] == 4


@pytest.mark.parametrize(
    ("more", "token", "message"),
    [
        (["--hub_model_id", "lab/x"], None, "push_to_hub needs a token"),
        ([], "hf_writer", "push_to_hub needs the name of the repository"),
        (["--hub_model_id", "lab/x", "--push_training_state"], "hf_writer", "give --push_checkpoints too"),
        (["--hub_model_id", "lab/x", "--hub_license", "no such"], "hf_writer", "--hub_license 'no such'"),
    ],
)
def test_nothing_is_trained_that_cannot_be_published(more, token, message, hub, user, argv, tmp_path):
    assert user.call(call_pretrain, argv=[*argv, *more], token=token) == 1
    assert message in user.err and not (tmp_path / "run").exists() and hub.requests.total() == 0


def test_a_hub_that_refuses_stops_no_training(hub, user, argv, tmp_path):
    argv += ["--hub_model_id", "lab/refused-run", "--push_checkpoints"]
    assert user.call(call_pretrain, argv=argv, token="hf_reader") == 1
    assert (tmp_path / "run" / "pretraining.json").is_file() and "the model is complete" in user.err
    assert "checkpoint-2 of stage 1 was not published" in user.err
    assert f"gengram push {tmp_path / 'run'} lab/refused-run" in user.err
