"""The motif memory on a Nucleotide Transformer: of single bases it works, of k-mers it says why not."""

import pytest
import torch

from gengram import GengramConfig, GengramForMaskedLM, NucleotideTransformerConfig
from gengram.tokenization import build_nucleotide_tokenizer

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_backbone_of_single_bases(generation, tmp_path):
    fields = {"position_embedding_type": "absolute", "gated_mlp": False, "mlp_bias": True, "token_dropout": True}
    tokenizer = build_nucleotide_tokenizer(template="cls_sep")
    backbone = NucleotideTransformerConfig(
        vocab_size=16, kmer_size=1, pad_token_id=0, mask_token_id=4, **SIZES, **(fields if generation == "v1" else {})
    )
    torch.manual_seed(0)
    memory = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 9}
    model = GengramForMaskedLM(GengramConfig(backbone_config=backbone, **memory)).train()
    model.gradient_checkpointing_enable()
    batch = tokenizer(["ACGTTG[MASK]ANACG", "TTAC"], padding=True, return_tensors="pt")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    model.save_pretrained(tmp_path)
    loaded = GengramForMaskedLM.from_pretrained(tmp_path)
    assert isinstance(loaded.config.backbone_config, NucleotideTransformerConfig)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-6)


def test_backbone_of_kmers():
    backbone = NucleotideTransformerConfig(**SIZES)
    with pytest.raises(Exception, match=r"reads single bases.*nucleotide_transformer.*k-mer of 6 bases"):
        GengramConfig(backbone_config=backbone, memory_layers=[0])
    assert GengramConfig(backbone_config=backbone, memory_layers=[]).memory_layers == []
