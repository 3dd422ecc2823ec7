"""What the verbs read in the tests of all of them."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, GengramForCausalLM, SegmentNTConfig, SegmentNTForTokenClassification
from gengram.cli import main
from gengram.conversion.to_megatron import convert_to_megatron
from gengram.tokenization import build_kmer_tokenizer
from gengram.training.corpus.build import build_corpus

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONE = ["--backbone", "bert", "--backbone_config", json.dumps(SIZE)]
EPOCH = ["--num_train_epochs", "1", "--use_cpu"]


@pytest.fixture(scope="session")
def things(tmp_path_factory) -> dict[str, str]:
    """What the verbs read: tables, a genome, a run of two seeds, models, a Megatron checkpoint, a corpus."""
    root = tmp_path_factory.mktemp("things")
    (root / "tables").mkdir()
    random = np.random.default_rng(0)
    rows = [f"{''.join(random.choice(list('ACGT'), 30))},{('with', 'without')[row % 2]}\n" for row in range(40)]
    (root / "tables" / "train.csv").write_text("sequence,label\n" + "".join(rows))
    (root / "genome.fa").write_text(">chr1\n" + "ACGTTGCAAC" * 1200 + "\n")
    torch.manual_seed(0)
    SegmentNTForTokenClassification(SegmentNTConfig(features=["exon"], **SIZE)).save_pretrained(root / "segment_nt")
    build_kmer_tokenizer().save_pretrained(root / "segment_nt")
    llama = LlamaConfig(vocab_size=128, max_position_embeddings=64, **SIZE)
    memory = {"memory_layers": [1], "kmer_sizes": [1, 2], "memory_dim": 4, "window_size": 6}
    GengramForCausalLM(GengramConfig(backbone_config=llama, **memory)).save_pretrained(root / "causal")
    convert_to_megatron(root / "causal", root / "megatron")
    words = ["--train_file", str(root / "tables" / "train.csv"), *BACKBONE, *EPOCH, "--seeds", "0", "1"]
    assert main(["finetune", *words, "--out", str(root / "run"), "--quiet"]) == 0
    for species in ("worm", "fly"):
        (root / f"{species}.fa").write_text(f">I\n{''.join(random.choice(list('ACGT'), 20_000))}\n")
    (root / "corpus.yaml").write_text("name: made\ngenomes:\n  - {species: made up, fasta: genome.fa}\n")
    build_corpus(root / "corpus.yaml", root / "corpus")
    (root / "tables" / "test.csv").write_text("sequence,label\n" + "".join(rows[::-1]))
    names = {name: str(root / name) for name in ("tables", "segment_nt", "causal", "megatron", "run", "corpus")}
    names["corpus_recipe"] = str(root / "corpus.yaml")
    names |= {"cache": str(root / "cache"), "evaluation": str(root / "evaluation")}
    table = str(root / "tables" / "train.csv")
    own = [
        "--train_file",
        table,
        "--test_file",
        table,
        "--baselines",
        "majority",
        "composition",
        "--cache",
        names["cache"],
    ]
    assert main(["evaluate", *own, "--out", names["evaluation"], "--quiet"]) == 0
    names |= {f"evaluation_{name}": f"{names['evaluation']}:{name}" for name in ("majority", "composition")}
    names |= {f"named_{species}": f"{species}={root / species}.fa" for species in ("worm", "fly")}
    return {**names, "table": str(root / "tables" / "train.csv"), "genome": str(root / "genome.fa")}
