"""Corpora and models of which it is known what an evaluation has to say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from gengram.tokenization import build_nucleotide_tokenizer

_PATH = Path(__file__).parents[1] / "corpus" / "conftest.py"
_spec = importlib.util.spec_from_file_location("corpus_of_tests", _PATH)
_corpora = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_corpora)
write_corpus, draw_letters = _corpora._write_corpus, _corpora._draw_letters


class FixedModel(PreTrainedModel):
    """Says the same of every position: the logarithms of some probabilities."""

    config_class = LlamaConfig

    def __init__(self, config, tokenizer, probabilities: dict[str, float]):
        super().__init__(config)
        logits = torch.full((config.vocab_size,), -torch.inf)
        for token, share in probabilities.items():
            logits[tokenizer.convert_tokens_to_ids(token)] = float(np.log(share))
        self.logits = torch.nn.Parameter(logits)
        self.calls = []

    def forward(self, input_ids, attention_mask=None, **kwargs):
        self.calls.append(input_ids.clone())
        return CausalLMOutput(logits=self.logits.expand(*input_ids.shape, -1))


@pytest.fixture(scope="session")
def tokenizer():
    return build_nucleotide_tokenizer()


@pytest.fixture
def make_fixed(tokenizer):
    def make(probabilities, tokenizer=tokenizer):
        config = LlamaConfig(vocab_size=max(tokenizer.get_vocab().values()) + 1, max_position_embeddings=100_000)
        return FixedModel(config, tokenizer, probabilities)

    return make


@pytest.fixture(scope="session")
def llama(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        attention_dropout=0.5,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Two species; contigs of 1,000, 350 and 90 bp are held out, with soft masks, N, an annotation and a haplotype."""
    held = draw_letters(1_000, 4)
    held = held[:200] + "N" * 30 + "RYK" + held[233:]
    contigs = [
        {"letters": draw_letters(3_000, 1)},
        {"letters": held, "split": "validation"},
        {"letters": draw_letters(350, 5), "species": "mouse", "split": "validation"},
        {"letters": draw_letters(90, 6), "species": "mouse", "split": "validation"},
        {"letters": draw_letters(500, 7), "species": "mouse", "split": "test"},
    ]
    return write_corpus(
        tmp_path_factory.mktemp("evaluation") / "corpus",
        contigs,
        variants=[(0, 1, 450, 1, "A"), (0, 1, 620, 3, "T"), (1, 1, 460, 1, "GG")],
        haplotypes=["one_1", "one_2"],
        classes=[
            (1, 0, 150, "intergenic"),
            (1, 150, 420, "exon"),
            (1, 420, 1_000, "intron"),
            (2, 0, 350, "intergenic"),
        ],
    )


@pytest.fixture(name="write_corpus")
def give_write_corpus():
    return write_corpus
