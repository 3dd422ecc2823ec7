"""Two small tasks, a model that nobody has trained, and a cache of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from gengram.cli import main
from gengram.tokenization import build_nucleotide_tokenizer

LENGTH = 60


def write_rows(
    path: Path, rows: int, seed: int, rich: float = 0.65, classes: tuple[str, ...] = ("poor", "rich")
) -> None:
    """Sequences of two classes that differ in their share of G and C."""
    random = np.random.default_rng(seed)
    lines = ["seq,label"]
    for row in range(rows):
        gc = (0.5, rich)[row % 2]
        bases = random.choice(list("ACGT"), LENGTH, p=[(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2])
        lines.append(f"{''.join(bases)},{classes[row % 2]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with the tasks mine/gc and mine/weak."""
    root = tmp_path_factory.mktemp("data")
    for seed, (name, rich) in enumerate((("gc", 0.7), ("weak", 0.55))):
        write_rows(root / "mine" / name / "train.csv", 80, 10 * seed, rich)
        write_rows(root / "mine" / name / "test.csv", 40, 10 * seed + 1, rich)
    return root


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A small masked language model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = build_nucleotide_tokenizer(model_max_length=64)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id, **sizes
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(data, tmp_path, monkeypatch, capsys):
    """Run `gengram evaluate` on the tasks with the majority and k-mer baselines: exit code, output, messages."""
    monkeypatch.chdir(tmp_path)

    def evaluate(*words: str, out: str | None = "out", where: bool = True) -> tuple[int, str, str]:
        told = ["--data", str(data)] if where else []
        told += ["--out", out] if out is not None else []
        if "--baselines" not in words:
            told += ["--baselines", "majority", "kmer"]
        if "--cache" not in words:
            told += ["--cache", "cache"]
        capsys.readouterr()
        code = main(["evaluate", *words, *told])
        answer = capsys.readouterr()
        return code, answer.out, answer.err

    return evaluate
