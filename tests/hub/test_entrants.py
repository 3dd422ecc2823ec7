"""A model of the Hub that takes part in an evaluation: by commit, and by the content of its files."""

import pytest
from transformers import BertConfig, BertForMaskedLM

from gengram.tokenization import build_nucleotide_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("entrant")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=128, **small)).save_pretrained(folder)
    build_nucleotide_tokenizer(template="cls_sep", model_max_length=64).save_pretrained(folder)
    return folder


def test_an_entrant_of_the_hub_has_a_commit_and_the_fingerprint_of_its_files(hub, user, offline_user, folder):
    def push(folder, repo):
        from huggingface_hub import HfApi

        HfApi().create_repo(repo, exist_ok=True)
        HfApi().upload_folder(repo_id=repo, folder_path=folder)

    def draw(repo):
        from gengram.benchmarks.protocols.entrants import open_entrant

        entrant = open_entrant(repo, random_weights=0)
        from pathlib import Path

        files = sorted(file.name for file in Path(entrant.folder).iterdir())
        return {"name": entrant.name, "files": files, "weights": entrant.load()[0].num_parameters()}

    def describe(source):
        from gengram.benchmarks.protocols.entrants import open_entrant

        entrant = open_entrant(source)
        return {"name": entrant.name, "revision": entrant.revision, "fingerprint": entrant.fingerprint}

    user.call(push, folder=folder, repo="lab/entrant")
    drawn = user.call(draw, repo="lab/entrant")
    assert drawn["name"] == "lab/entrant (random weights, seed 0)" and drawn["weights"] > 0
    assert "model.safetensors" not in drawn["files"] and "config.json" in drawn["files"]
    found, local = user.call(describe, source="lab/entrant"), user.call(describe, source=folder)
    assert found["name"] == "lab/entrant" and len(found["revision"]) == 40
    assert found["fingerprint"] == local["fingerprint"] and local["revision"] is None
    assert offline_user.call(describe, source="lab/entrant") == found
