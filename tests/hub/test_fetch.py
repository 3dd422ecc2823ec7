"""`gengram models fetch`: models and data sets for a machine without a network, complete or with what is missing."""

import json

import pytest


def publish(repo, kind, files, folder, with_model=False, pickled=False):
    """Push files, and with them a small model with its tokenizer, to the Hub."""
    from pathlib import Path

    from huggingface_hub import HfApi

    folder = Path(folder)
    folder.mkdir(parents=True)
    if with_model:
        import torch
        from transformers import BertConfig, BertForMaskedLM

        from gengram.tokenization import build_nucleotide_tokenizer

        tokenizer = build_nucleotide_tokenizer(template="cls_sep")
        size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = BertForMaskedLM(BertConfig(**size, vocab_size=16, pad_token_id=tokenizer.pad_token_id))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if pickled:
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
    api = HfApi()
    api.create_repo(repo, repo_type=kind)
    api.upload_folder(repo_id=repo, folder_path=folder, repo_type=kind)


def call_fetch(argv):
    from gengram.cli import main

    return main(["models", "fetch", *argv])


def call_embed(argv):
    from gengram.cli import main

    return main(["embed", *argv])


def test_a_model_in_a_folder_is_complete_and_without_code_and_pickles(hub, user, tmp_path):
    extra = {"modeling_x.py": "raise SystemExit", "training_args.bin": "x", "onnx/model.onnx": "x", "README.md": "# A"}
    user.call(
        publish, repo="lab/whole", kind="model", files=extra, folder=tmp_path / "a", with_model=True, pickled=True
    )
    words = ["lab/whole", "--to", str(tmp_path / "models"), "--json", "--quiet"]
    assert user.call(call_fetch, argv=words) == 0, user.err
    told = json.loads(user.out)
    one = told["repositories"][0]
    assert told["complete"] and one["missing"] == [] and one["folder"] == str(tmp_path / "models" / "lab--whole")
    there = {path.name for path in (tmp_path / "models" / "lab--whole").iterdir() if path.is_file()}
    assert there == set(one["files"]) >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert not there & {"modeling_x.py", "pytorch_model.bin", "training_args.bin"}
    assert (
        one["bytes"]
        == sum(one["files"].values())
        == sum((tmp_path / "models" / "lab--whole" / name).stat().st_size for name in there)
    )
    hub.requests.clear()
    assert user.call(call_fetch, argv=words) == 0
    assert hub.requests["resolve"] == 0, "what is there is not fetched again"


def test_a_dry_run_lists_and_fetches_nothing(hub, user, tmp_path):
    user.call(publish, repo="lab/listed", kind="model", files={}, folder=tmp_path / "a", with_model=True)
    hub.requests.clear()
    assert user.call(call_fetch, argv=["lab/listed", "--to", str(tmp_path / "models"), "--dry_run"]) == 0
    assert "model.safetensors" in user.out and not (tmp_path / "models").exists()
    assert hub.requests["resolve"] == 0


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("no-weights", {"model.safetensors": None, "model.ckpt": "x"}, "there are no weights"),
        ("no-tokenizer", {"tokenizer.json": None, "tokenizer_config.json": None}, "tokenizer: "),
        ("no-config", {"config.json": None}, "there is no config.json"),
        ("other", {"config.json": '{"model_type": "nothing-known"}'}, "configuration: "),
    ],
)
def test_what_is_missing_is_told_and_the_exit_code_is_1(name, files, message, hub, user, tmp_path):
    user.call(publish, repo=f"lab/{name}", kind="model", files=files, folder=tmp_path / "a", with_model=True)
    assert user.call(call_fetch, argv=[f"lab/{name}", "--to", str(tmp_path / "models")]) == 1
    assert f"missing: {message}" in user.out and "Traceback" not in user.err


def test_a_data_set_is_fetched_as_it_is(hub, user, tmp_path):
    tables = {
        "train.csv": "sequence,label\nACGT,1\n",
        "data/test.csv": "sequence,label\nACGT,1\n",
        "loader.py": "1 / 0",
    }
    user.call(publish, repo="lab/fetched_tables", kind="dataset", files=tables, folder=tmp_path / "a")
    assert user.call(call_fetch, argv=["--dataset", "lab/fetched_tables", "--to", str(tmp_path / "d")]) == 0
    folder = tmp_path / "d" / "lab--fetched_tables"
    assert (folder / "data" / "test.csv").read_text() == tables["data/test.csv"] and not (folder / "loader.py").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lab/nowhere"], "lab/nowhere: there is no such model on the Hub"),
        (["nowhere"], "write organization/name"),
        (["--dataset", "lab/nowhere"], "there is no such data set"),
    ],
)
def test_what_there_is_not(words, message, hub, user, tmp_path):
    assert user.call(call_fetch, argv=[*words, "--to", str(tmp_path / "models")]) == 1
    assert message in user.err and "Traceback" not in user.err


def test_a_gate_says_how_to_pass(hub, user, tmp_path):
    user.call(publish, repo="lab/gated", kind="model", files={}, folder=tmp_path / "a", with_model=True)
    hub.fail("tree", 403, "Access to model lab/gated is restricted", code="GatedRepo")
    assert user.call(call_fetch, argv=["lab/gated"]) == 1
    assert "accept their conditions" in user.err and "hf auth login" in user.err


def test_a_broken_download_goes_on(hub, user, tmp_path):
    user.call(publish, repo="lab/broken", kind="model", files={}, folder=tmp_path / "a", with_model=True)
    hub.fail("resolve", 500, times=50)
    assert user.call(call_fetch, argv=["lab/broken", "--to", str(tmp_path / "models")]) == 1
    assert "The same command goes on where it was" in user.err
    hub.recover()
    assert user.call(call_fetch, argv=["lab/broken", "--to", str(tmp_path / "models")]) == 0, user.out


def test_in_the_cache_a_model_is_found_without_a_network_and_another_is_told(hub, user, offline_user, tmp_path):
    user.call(publish, repo="lab/cached", kind="model", files={}, folder=tmp_path / "a", with_model=True)
    assert user.call(call_fetch, argv=["lab/cached"]) == 0
    (tmp_path / "s.csv").write_text("sequence\nACGTACGT\n")
    words = [str(tmp_path / "s.csv"), "--out", str(tmp_path / "v.npz"), "--model"]
    hub.requests.clear()
    assert offline_user.call(call_embed, argv=[*words, "lab/cached"]) == 0, offline_user.err
    assert hub.requests.total() == 0
    assert offline_user.call(call_embed, argv=[*words, "lab/missing", "--overwrite"]) == 1
    assert "HF_HUB_OFFLINE is set" in offline_user.err
    assert "gengram models fetch lab/missing --to FOLDER" in offline_user.err


def test_code_of_a_repository_is_refused_with_what_loads_instead(hub, user):
    assert user.call(call_fetch, argv=["zhihan1996/DNABERT-2-117M"]) == 1
    assert "never run. What loads instead: AIRI-Institute/moderngena-base" in user.err and hub.requests.total() == 0
