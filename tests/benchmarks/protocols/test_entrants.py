"""Entrants: identified by content and by nothing else, random weights without a look at the files, encoders of adapters
and of fine-tuned models."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from gengram.benchmarks.protocols.entrants import open_entrant
from gengram.errors import InputError
from gengram.pipelines.embed import embed_sequences


def embed(entrant, sequences=("ACGTTGCAACGT", "GATTACAGATTACA")):
    return embed_sequences(*entrant.load(), list(sequences))


def test_a_fingerprint_is_of_the_content_and_of_no_name_or_time(models, tmp_path):
    first = open_entrant(models["causal"])
    copy = shutil.copytree(models["causal"], tmp_path / "elsewhere", copy_function=shutil.copyfile)
    (copy / "README.md").write_text("a card")
    (copy / "training_args.bin").write_bytes(b"not read")
    second = open_entrant(copy)
    assert first.fingerprint == second.fingerprint and (first.name, second.name) == ("causal", "elsewhere")
    assert len(first.fingerprint) == 64 and first.revision is None and first.random is None


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_changed_file_is_another_model_of_the_same_size_and_time(file, models, tmp_path):
    copy = shutil.copytree(models["causal"], tmp_path / "causal")
    before, times = open_entrant(copy).fingerprint, (copy / file).stat()
    content = bytearray((copy / file).read_bytes())
    content[-3] ^= 1
    (copy / file).write_bytes(content)
    os.utime(copy / file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_entrant(copy).fingerprint != before


def test_random_weights_are_those_of_a_new_model_and_the_files_are_not_opened(models, tmp_path):
    copy = shutil.copytree(models["masked"], tmp_path / "masked")
    (copy / "model.safetensors").unlink()
    drawn = [open_entrant(copy, seed) for seed in (0, 0, 1)]
    assert drawn[0].fingerprint == drawn[1].fingerprint != drawn[2].fingerprint
    assert (
        drawn[0].fingerprint
        == open_entrant(models["masked"], 0).fingerprint
        != open_entrant(models["masked"]).fingerprint
    )
    assert drawn[0].name == "masked (random weights, seed 0)" and drawn[0].weights == ()
    state = torch.get_rng_state()
    vectors = [embed(one) for one in drawn]
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(vectors[0], vectors[1]) and not np.allclose(vectors[0], vectors[2])
    # The folder's model was drawn from seed 0, too.
    np.testing.assert_allclose(vectors[0], embed(open_entrant(models["masked"])), atol=1e-6)
    with pytest.raises(InputError, match="no weights here"):
        open_entrant(copy)


def test_an_adapter_is_merged_into_the_encoder_of_its_base(models, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(models["causal"], num_labels=2)
    whole = tmp_path / "whole"
    model.save_pretrained(whole)
    open_entrant(models["causal"]).load_tokenizer().save_pretrained(whole)
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False))
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(whole)}))

    entrant = open_entrant(folder)
    assert entrant.base == str(whole) and entrant.tokenizer == str(whole)
    expected = adapted.merge_and_unload().base_model.eval()
    tokenizer = entrant.load_tokenizer()
    found = embed(entrant)
    np.testing.assert_allclose(
        found, embed_sequences(expected, tokenizer, ["ACGTTGCAACGT", "GATTACAGATTACA"]), atol=1e-6
    )
    # A fine-tuned model is its encoder.
    np.testing.assert_allclose(embed(open_entrant(whole)), embed(open_entrant(models["causal"])), atol=1e-6)
    assert not np.allclose(found, embed(open_entrant(whole)), atol=1e-3)
    before = entrant.fingerprint
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert open_entrant(folder).fingerprint != before
    shutil.rmtree(whole)
    with pytest.raises(InputError, match=r"the adapter's base .* cannot be found"):
        open_entrant(folder)


def test_a_language_model_is_its_encoder(models, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(models["masked"])
    model.save_pretrained(tmp_path / "lm")
    open_entrant(models["masked"]).load_tokenizer().save_pretrained(tmp_path / "lm")
    expected = embed_sequences(model.bert.eval(), open_entrant(models["masked"]).load_tokenizer(), ["ACGTTGCA"])
    np.testing.assert_allclose(embed(open_entrant(tmp_path / "lm"), ["ACGTTGCA"]), expected, atol=1e-6)


def test_what_is_no_model_is_refused(models, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither a run"):
        open_entrant(tmp_path / "empty")
    with pytest.raises(InputError, match="no folder"):
        open_entrant(tmp_path / "nowhere")
    with pytest.raises(InputError, match="a folder has no revision"):
        open_entrant(models["causal"], revision="main")
