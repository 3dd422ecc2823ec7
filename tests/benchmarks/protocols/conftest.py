"""Small models of several kinds in folders of their own, and a small task that can be learned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, LlamaConfig

from gengram import GengramConfig, NucleotideTransformerConfig, RmtConfig
from gengram.benchmarks.data.prepared import PreparedTask, Rows, hash_rows
from gengram.benchmarks.protocols.entrants import open_entrant
from gengram.benchmarks.tasks.task import Task
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
    "max_position_embeddings": 66,
}
NAMED = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}


def save(config, tokenizer, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_config(kind: str):
    """A configuration and its tokenizer."""
    bases, kmers = build_nucleotide_tokenizer(template="cls_sep", model_max_length=64), build_kmer_tokenizer()
    if kind in ("causal", "wide"):
        memory = {"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
        fields = SMALL if kind == "causal" else {**SMALL, "hidden_size": 64}
        return GengramConfig(backbone_config=LlamaConfig(**fields), **memory), build_nucleotide_tokenizer(
            model_max_length=64
        )
    if kind == "masked":
        return BertConfig(**SMALL), bases
    if kind == "kmers":
        names = {"pad_token_id": kmers.pad_token_id, "mask_token_id": kmers.mask_token_id}
        return NucleotideTransformerConfig(**{**SMALL, "vocab_size": len(kmers), **names}), kmers
    return RmtConfig(
        backbone_config=BertConfig(**SMALL, **NAMED), num_memory_tokens=2, segment_length=16
    ), build_nucleotide_tokenizer(template="cls_sep")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """Folders: a causal model of bases without special tokens, a masked one, one of k-mers, a recurrent memory."""
    root = tmp_path_factory.mktemp("models")
    return {kind: save(*build_config(kind), root / kind) for kind in ("causal", "wide", "masked", "kmers", "rmt")}


@pytest.fixture(scope="session")
def causal(models):
    return open_entrant(models["causal"], device="cpu")


@pytest.fixture(scope="session")
def wide(models):
    """A model whose vectors have 64 numbers: the small network on them has some units in every layer."""
    return open_entrant(models["wide"], device="cpu")


def draw_sequences(count: int, length: int = 40, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return ["".join(generator.choice(list("ACGT"), length)) for _ in range(count)]


def draw_task(problem: str = "single_label", classes: int = 2, seed: int = 0, pairs: bool = False) -> PreparedTask:
    """120 training, 40 validation and 60 test rows whose labels are a matter of the share of A, with some noise."""
    generator = np.random.default_rng(seed)
    rows = {}
    for split, count in (("train", 120), ("validation", 40), ("test", 60)):
        share = generator.uniform(0.1, 0.7, count)
        sequences = ["".join(generator.choice(list("ACGT"), 40, p=[one, *[(1 - one) / 3] * 3])) for one in share]
        counted = np.array([sequence.count("A") / 40 for sequence in sequences])
        if problem == "single_label":
            labels = np.digitize(counted, np.linspace(0.1, 0.7, classes + 1)[1:-1]).astype(np.int64)
        elif problem == "regression":
            labels = 5 * np.stack([counted - 0.4, 0.4 - counted], axis=1)
        else:
            labels = np.stack([counted > 0.4, counted < 0.3], axis=1)
        others = draw_sequences(count, seed=seed + count) if pairs else None
        rows[split] = Rows(sequences, others, labels)
    names = tuple(f"class {number}" for number in range(classes))
    metric = {"single_label": "auroc", "regression": "pearson", "multi_label": "auroc"}[problem]
    task = Task(name="other/share", benchmark="other", title="share of A", problem=problem, metric=metric)
    together = Rows(
        rows["train"].sequences + rows["validation"].sequences,
        None,
        np.concatenate([rows["train"].labels, rows["validation"].labels]),
    )
    fingerprint = hash_rows(problem, names, list(rows.values()))
    return PreparedTask(
        task=task, problem=problem, classes=names, **rows, all_train=together, fingerprint=fingerprint, report={}
    )


@pytest.fixture(name="draw_task", scope="session")
def _draw_task():
    return draw_task


@pytest.fixture(name="draw_sequences", scope="session")
def _draw_sequences():
    return draw_sequences


@pytest.fixture(name="save_model", scope="session")
def _save_model():
    """Save a model of a kind with other weights: kind, folder, seed -> folder."""
    return lambda kind, folder, seed=0: save(*build_config(kind), folder, seed)
