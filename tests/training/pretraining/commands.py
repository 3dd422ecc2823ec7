"""Commands that train a model of a few hundred weights in a second."""

import json
from pathlib import Path

import numpy as np

SMALL = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
MEMORY = {"memory_layers": [1], "kmer_sizes": [1, 2], "memory_dim": 4, "window_size": 6}
OPTIONS = {
    "config": SMALL,
    "memory": MEMORY,
    "block_size": 24,
    "steps": 6,
    "blocks_per_step": 5,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_steps": 2,
    "eval_steps": 3,
    "eval_bases": 200,
    "use_cpu": True,
}


def draw_letters(count: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def make_words(corpus: Path, out: Path, **changes) -> list[str]:
    """The words of a command; None leaves an option out."""
    options = {**OPTIONS, "corpus": corpus, "output_dir": out, **changes}
    words = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if value is not True:
            words.append(json.dumps(value) if isinstance(value, dict | list) else str(value))
    return words
