"""Embeddings of rows: what the model says to each alone, computed once, kept by content, whole or not there."""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gengram.benchmarks.protocols import embeddings
from gengram.benchmarks.protocols.embeddings import embed_rows, list_layers
from gengram.benchmarks.protocols.entrants import open_entrant
from gengram.benchmarks.protocols.features import choose_best, embed_task
from gengram.benchmarks.protocols.probe_settings import EmbeddingSettings
from gengram.errors import InputError
from gengram.pipelines import embed
from gengram.pipelines.embed import embed_sequences


@pytest.fixture
def passes(monkeypatch):
    """Rows of every forward pass."""
    found, read = [], embed.read_vectors

    def count(model, input_ids, attention_mask, counted=None, **options):
        found.append(len(input_ids))
        return read(model, input_ids, attention_mask, counted, **options)

    monkeypatch.setattr(embed, "read_vectors", count)
    return found


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of four sequences."""
    monkeypatch.setattr(embeddings, "_BLOCK_ROWS", 4)


@pytest.mark.parametrize("kind", ["causal", "masked", "kmers", "rmt"])
def test_every_layer_is_what_the_model_says_to_each_row_alone(kind, models, passes, draw_sequences, tmp_path):
    entrant = open_entrant(models[kind], device="cpu")
    sequences = [*draw_sequences(5), *draw_sequences(5, 23, seed=1)]
    sequences += sequences[:3]
    layers = "last" if kind == "rmt" else (2, 0, -2)
    found = embed_rows(entrant, sequences, layers, cache=tmp_path)
    assert sum(passes) == 10  # a row that is there twice is read once, and all layers in one pass
    assert list(found) == ([2] if kind == "rmt" else [2, 0, 1])
    model, tokenizer = entrant.load()
    for layer, vectors in found.items():
        assert vectors.dtype == np.float32 and vectors.shape == (13, 16)
        expected = [
            embed_sequences(model, tokenizer, [one], layer=-1 if kind == "rmt" else layer)[0] for one in sequences
        ]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_mean_is_over_the_tokens_that_the_tokenizer_adds_too_unless_they_are_excluded(models, tmp_path):
    entrant = open_entrant(models["masked"], device="cpu")
    model, tokenizer = entrant.load()
    with torch.no_grad():
        hidden = model(**tokenizer("ACGTTGCA", return_tensors="pt")).last_hidden_state[0].numpy()
    assert len(hidden) == 10
    found = embed_rows(entrant, ["ACGTTGCA"], cache=tmp_path)
    np.testing.assert_allclose(found[2][0], hidden.mean(0), atol=1e-6)
    found = embed_rows(entrant, ["ACGTTGCA"], exclude_special=True, cache=tmp_path)
    np.testing.assert_allclose(found[2][0], hidden[1:-1].mean(0), atol=1e-6)


def test_a_second_call_loads_no_model_and_other_layers_are_added(causal, passes, draw_sequences, tmp_path, monkeypatch):
    sequences = draw_sequences(6)
    first = embed_rows(causal, sequences, [1], cache=tmp_path)[1]
    assert passes == [6]
    embed_rows(causal, sequences, "all", cache=tmp_path)
    assert passes == [6, 6]
    monkeypatch.setattr(type(causal), "load", None)
    again = embed_rows(causal, sequences[::-1] + sequences[:1], "all", cache=tmp_path)
    np.testing.assert_array_equal(again[1], [*first[::-1], first[0]])
    assert passes == [6, 6] and list(again) == [0, 1, 2]
    assert not list(tmp_path.rglob("*.parts")) and not list(tmp_path.rglob("*.partial"))


CHANGES = {
    "a base of a sequence": {"sequences": True},
    "the pool": {"pool": "max"},
    "special tokens": {"exclude_special": True},
    "what is done with long rows": {"too_long": "truncate"},
    "the limit": {"max_length": 50},
    "the type of the numbers": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_input_is_another_file(change, causal, passes, draw_sequences, tmp_path):
    sequences, options = draw_sequences(3), dict(CHANGES[change])
    embed_rows(causal, sequences, cache=tmp_path)
    if options.pop("sequences", False):
        sequences[1] = ("A" if sequences[1][0] != "A" else "C") + sequences[1][1:]
    embed_rows(causal, sequences, cache=tmp_path, **options)
    assert passes == [3, 3] and len(list(tmp_path.rglob("*.npy"))) == 2


def test_another_model_in_the_same_folder_is_another_file(save_model, passes, draw_sequences, tmp_path):
    sequences = draw_sequences(3)
    folder, cache = save_model("causal", tmp_path / "model"), tmp_path / "cache"
    first = embed_rows(open_entrant(folder), sequences, cache=cache)[2]
    shutil.rmtree(folder)
    save_model("causal", folder, 1)
    second = embed_rows(open_entrant(folder), sequences, cache=cache)[2]
    assert passes == [3, 3] and not np.allclose(first, second)
    random = embed_rows(open_entrant(folder, random_weights=0), sequences, cache=cache)[2]
    np.testing.assert_allclose(random, first, atol=1e-6)
    assert passes == [3, 3, 3]


def test_sequences_are_told_apart_wherever_they_are_cut(causal, passes, tmp_path):
    for rows in (["ACGT", "TT"], ["ACG", "TTT"], ["ACGTTT"], ["acgt", "TT"], ["ACGT", "TT", "TTT"]):
        before = len(passes)
        embed_rows(causal, rows, cache=tmp_path)
        assert len(passes) > before, rows


def test_without_a_cache_nothing_stays(causal, draw_sequences, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = embed_rows(causal, draw_sequences(3), [0, 1])
    assert found[1].shape == (3, 16) and found.take(slice(1, 3))[0].shape == (2, 16)
    del found
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_goes_on_to_the_same_numbers(causal, blocks, passes, draw_sequences, tmp_path, monkeypatch):
    sequences = [*draw_sequences(9), *draw_sequences(9, 31, seed=1)]
    whole = embed_rows(causal, sequences, [1, 2], cache=tmp_path / "whole")
    assert passes == [4, 4, 4, 4, 2]
    counted = embed.read_vectors

    def stop(*arguments, **options):
        if len(passes) == 8:
            raise KeyboardInterrupt
        return counted(*arguments, **options)

    monkeypatch.setattr(embed, "read_vectors", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_rows(causal, sequences, [1, 2], cache=tmp_path / "cut")
    assert len(passes) == 8 and not list((tmp_path / "cut").rglob("*-1.npy"))
    monkeypatch.setattr(embed, "read_vectors", counted)
    found = embed_rows(causal, sequences, [1, 2], cache=tmp_path / "cut")
    assert passes[8:] == [4, 2]  # three blocks were there
    for layer in (1, 2):
        np.testing.assert_array_equal(found[layer], whole[layer])
    assert not list(tmp_path.rglob("*.parts"))


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_file_is_computed_again(damage, causal, passes, draw_sequences, tmp_path, capsys):
    sequences = draw_sequences(3)
    first = embed_rows(causal, sequences, cache=tmp_path)[2]
    (file,) = tmp_path.rglob("*.npy")
    content = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": content[:-20], "other": b"not an array" * 20}[damage])
    np.testing.assert_array_equal(embed_rows(causal, sequences, cache=tmp_path)[2], first)
    assert passes == [3, 3] and "computed again" in capsys.readouterr().err
    assert file.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_embed_the_same_rows_at_once_do_no_harm(causal, blocks, draw_sequences, tmp_path):
    sequences = draw_sequences(24)
    expected = embed_rows(causal, sequences, [0, 2], cache=tmp_path / "alone")
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            code = 1
            try:
                torch.set_num_threads(1)
                for _ in range(3):
                    found = embed_rows(causal, sequences, [0, 2], cache=tmp_path / "shared")
                    code = int(not all(np.array_equal(found[layer], expected[layer]) for layer in (0, 2)))
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    names = sorted(path.name.rpartition("-")[2] for path in (tmp_path / "shared").rglob("*") if path.is_file())
    assert names == ["0.npy", "2.npy"]


def test_a_long_row_is_refused_before_the_model_is_loaded(causal, draw_sequences, tmp_path, monkeypatch):
    rows = [*draw_sequences(2), *draw_sequences(1, 70), *draw_sequences(1, 90)]
    with monkeypatch.context() as context:
        context.setattr(type(causal), "load", None)
        with pytest.raises(
            InputError, match=r"row 3 .* of 90 bp is 90 tokens, but the limit of causal is 64 .*\(2 dist"
        ):
            embed_rows(causal, rows, cache=tmp_path)
    for too_long, length in (("truncate", slice(64)), ("center", slice(13, 77))):
        found = embed_rows(causal, rows, too_long=too_long, cache=tmp_path)[2]
        expected = embed_rows(causal, [rows[3][length]], cache=tmp_path)[2][0]
        np.testing.assert_allclose(found[3], expected, atol=1e-5)
    assert embed_rows(causal, rows, [0, 1], too_long="window", cache=tmp_path)[1].shape == (4, 16)


def test_rows_without_a_vector_are_named(causal, models, tmp_path):
    with pytest.raises(InputError, match="my row 1: the sequence is empty"):
        embed_rows(causal, ["ACGT", ""], cache=tmp_path, name_row="my row {}".format)
    with pytest.raises(InputError, match="no rows to embed"):
        embed_rows(causal, [], cache=tmp_path)
    with pytest.raises(InputError, match=r"layers: 3: the model has 2 layers"):
        embed_rows(causal, ["ACGT"], [3], cache=tmp_path)
    with pytest.raises(InputError, match="max_length=100"):
        embed_rows(causal, ["ACGT"], max_length=100, cache=tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_layers(models):
    causal, memory = (open_entrant(models[kind]).load_config() for kind in ("causal", "rmt"))
    assert list_layers(causal, "all") == (0, 1, 2) and list_layers(causal, "last") == (2,)
    assert list_layers(causal, [-1, 0]) == (2, 0)
    assert list_layers(memory, "all") == (2,)
    for layers, said in (([2, -1], "given twice"), ([-4], "-1 to -3")):
        with pytest.raises(InputError, match=said):
            list_layers(causal, layers)
    with pytest.raises(InputError, match="gives its last layer only"):
        list_layers(memory, [1])


def test_blocks_are_whole_and_small_where_a_model_is_large():
    sequences = ["A" * length for length in (1, 5, 5, 7, 900)]
    for weights in (1, 10**9, 10**12):
        cut = embeddings._cut(sequences, weights, "cpu")
        assert list(itertools.chain(*(range(one.start, one.stop) for one in cut))) == list(range(5))
    assert len(embeddings._cut(sequences, 1, "cpu")) == 1 and len(embeddings._cut(sequences, 10**12, "cpu")) == 5


def test_a_task_is_embedded_once_whichever_way_train_is_split(causal, draw_task, passes, tmp_path):
    task = draw_task()
    settings = EmbeddingSettings(layers=(0, 1))
    features = embed_task(causal, task, settings, tmp_path)
    shapes = [features.take(split, 1).shape for split in ("train", "validation", "test")]
    assert features.layers == (0, 1) and shapes == [(120, 16), (40, 16), (60, 16)]
    before = len(passes)
    swapped = task.__class__(**{**vars(task), "train": task.validation, "validation": task.train})
    other = embed_task(causal, swapped, settings, tmp_path)
    np.testing.assert_array_equal(other.take("validation", 0), features.take("train", 0))
    assert len(passes) == before
    cut = task.__class__(**{**vars(task), "test": task.validation})
    embed_task(causal, cut, settings, tmp_path)  # another test file: its rows alone
    assert sum(passes[before:]) == 40


def test_pairs_are_side_by_side_or_their_mean(causal, draw_task, tmp_path):
    task = draw_task(pairs=True)
    both = embed_task(causal, task, EmbeddingSettings(), tmp_path).take("test", 2)
    mean = embed_task(causal, task, EmbeddingSettings(pairs="mean"), tmp_path).take("test", 2)
    first = embed_rows(causal, task.test.sequences, cache=tmp_path)[2]
    second = embed_rows(causal, task.test.alternatives, cache=tmp_path)[2]
    np.testing.assert_allclose(both, np.concatenate([first, second], axis=1), atol=1e-6)
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-6)


def test_a_row_is_named_by_split_and_number(causal, draw_task, tmp_path):
    task = draw_task(pairs=True)
    task.validation.alternatives[4] = "ACGT" * 20
    with pytest.raises(InputError, match=r"other/share, validation row 5 \(alternative\): the sequence of 80 bp"):
        embed_task(causal, task, EmbeddingSettings(), tmp_path)


def test_the_best_setting_is_the_highest_then_the_one_of_lower_loss_then_the_first():
    tried = [{"auroc": 0.7, "loss": 0.5}, {"auroc": 0.8, "loss": 0.6}, {"auroc": 0.8, "loss": 0.4}, {"loss": 0.1}]
    assert choose_best(tried, "auroc") == 2 and choose_best(tried, "loss") == 3 and choose_best(tried, "mcc") == 3
    assert choose_best([{"loss": 1.0}, {"loss": 1.0}], "auroc") == 0


@pytest.mark.parametrize("layers", ["first", (), (1, 1), ("a",)])
def test_settings_refuse_layers_that_are_none(layers):
    with pytest.raises(InputError, match="layers="):
        EmbeddingSettings(layers=layers)


def test_a_cache_that_cannot_be_written_is_told(causal, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        embed_rows(causal, ["ACGT"], cache=Path(tmp_path, "file"))
