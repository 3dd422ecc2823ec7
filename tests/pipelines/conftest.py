"""Models that see their neighbourhood only, so that windows put together can be one pass."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, GengramForSequenceClassification, GengramForTokenClassification
from gengram.tokenization import build_nucleotide_tokenizer

sys.path.insert(0, str(Path(__file__).parent))

REACH = 40  # bp on either side that have a say in a base: the memory's window, k-mers and convolution


@pytest.fixture(scope="session")
def build_local():
    """Make a Gengram model over a llama whose attention is silent: what is said of a base depends on the memory."""

    def build(by_base: bool, labels: int = 3, seed: int = 0, **config):
        torch.manual_seed(seed)
        backbone = LlamaConfig(
            vocab_size=128,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=100_000,
        )
        fields = {"memory_layers": [0], "memory_dim": 16, "kmer_sizes": [1, 2, 3], "window_size": 9, **config}
        made = GengramForTokenClassification if by_base else GengramForSequenceClassification
        model = made(GengramConfig(backbone_config=backbone, num_labels=labels, **fields)).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("o_proj.weight"):
                    weight.zero_()
                elif weight.dim() > 1:  # large enough to say something
                    weight.normal_(0, 0.5)
        return model

    return build


@pytest.fixture(scope="session")
def classifiers(build_local, tmp_path_factory) -> dict[str, Path]:
    """Folders with models: `bases` (exon, intron, none), `sequences` (no, yes), `several` (a, b, c), `measured`."""
    folders = {}
    for name, by_base, classes, problem in (
        ("bases", True, ["exon", "intron", "none"], "single_label_classification"),
        ("sequences", False, ["no", "yes"], "single_label_classification"),
        ("several", False, ["a", "b", "c"], "multi_label_classification"),
        ("measured", False, ["level"], "regression"),
    ):
        model = build_local(by_base, len(classes), problem_type=problem)
        model.config.id2label = dict(enumerate(classes))
        model.config.label2id = {label: number for number, label in enumerate(classes)}
        folders[name] = tmp_path_factory.mktemp("local") / name
        model.save_pretrained(folders[name])
        build_nucleotide_tokenizer(model_max_length=100_000).save_pretrained(folders[name])
    return folders
