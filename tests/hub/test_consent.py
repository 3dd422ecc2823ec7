"""Who is asked whether to run code, where the package is not installed: for a model, and for no tokenizer.

transformers asks for a tokenizer too, because it reads config.json first; the card says how to load it unasked.
"""

import json
import re

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import BertConfig, LlamaConfig

from gengram import (
    GenaBertConfig,
    GenaBertForMaskedLM,
    GengramConfig,
    GengramForCausalLM,
    NTv3Config,
    NTv3ForMaskedLM,
    NTv3PostTrainedConfig,
    NTv3PostTrainedModel,
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    RmtConfig,
    RmtForMaskedLM,
    SegmentNTConfig,
    SegmentNTForTokenClassification,
)
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.megatron_decoder.modeling_megatron_decoder import MegatronDecoderForCausalLM
from gengram.registration import FAMILIES
from gengram.tokenization import build_kmer_tokenizer, build_ntv3_tokenizer, build_nucleotide_tokenizer
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.training.publishing.model import prepare_upload

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 128}
SEQUENCE = "ACGTTGCATGCCGATATAAAGGCACGTCAGNTGACC"


def make_gengram():
    config = GengramConfig(backbone_config=LlamaConfig(**SIZES), memory_layers=[0], memory_dim=8)
    return GengramForCausalLM(config), build_nucleotide_tokenizer()


def make_gena():
    return GenaBertForMaskedLM(GenaBertConfig(**SIZES)), train_bpe_tokenizer(["ACGTTGCATTAGACCA" * 50], vocab_size=30)


def make_nucleotide_transformer():
    return NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES)), build_kmer_tokenizer(3)


def make_segment_nt():
    return SegmentNTForTokenClassification(SegmentNTConfig(**SIZES, num_layers_head=1)), build_kmer_tokenizer(3)


def make_ntv3():
    config = NTv3Config(conv_init_embed_dim=8, embed_dim=8, ffn_embed_dim=8, num_layers=1)
    return NTv3ForMaskedLM(config), build_ntv3_tokenizer()


def make_rmt():
    ids = {"segment_length": 32, "cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    return RmtForMaskedLM(RmtConfig(backbone_config=BertConfig(**SIZES), **ids)), build_nucleotide_tokenizer()


def make_megatron_decoder():
    return MegatronDecoderForCausalLM(MegatronDecoderConfig(**SIZES)), build_nucleotide_tokenizer()


MAKERS = {
    "gengram": make_gengram,
    "gena_bert": make_gena,
    "nucleotide_transformer": make_nucleotide_transformer,
    "segment_nt": make_segment_nt,
    "ntv3": make_ntv3,
    "rmt": make_rmt,
    "megatron_decoder": make_megatron_decoder,
}


def call_push(argv):
    import gengram.cli

    return gengram.cli.main(["push", *argv])


def ask(repo, sequence):
    """Load what there is in each way; how often somebody was asked, who always says no, and the tokenizer's ids."""
    import builtins
    import sys

    from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

    asked = []
    answer = builtins.input
    builtins.input = lambda text="": asked.append(text) or "n"
    found = {"package": "gengram" in sys.modules}
    try:
        for name, load in {
            "unasked": lambda: AutoTokenizer.from_pretrained(repo, trust_remote_code=False),
            "plain": lambda: PreTrainedTokenizerFast.from_pretrained(repo),
            "asked": lambda: AutoTokenizer.from_pretrained(repo),
        }.items():
            asked.clear()
            found[name] = [load()(sequence)["input_ids"], len(asked)]
        asked.clear()
        try:
            AutoModel.from_pretrained(repo)
        except ValueError as error:
            found["model"] = [str(error), len(asked)]
    finally:
        builtins.input = answer
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_a_tokenizer_loads_unasked_and_a_model_asks(hub, user, stranger, tmp_path, name):
    torch.manual_seed(0)
    model, tokenizer = MAKERS[name]()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    repo = str(tmp_path)
    if name == "gengram":  # a published one; the others as they are saved
        repo = "lab/consent"
        assert user.call(call_push, argv=[str(tmp_path), repo]) == 0, user.err
        card = ModelCard(hub.read(repo, "README.md").decode())
        assert f"`AutoTokenizer.from_pretrained('{repo}', trust_remote_code=False)`" in card.text.replace('"', "'")

    found = stranger.call(ask, repo=repo, sequence=SEQUENCE)
    ids = tokenizer(SEQUENCE)["input_ids"]
    assert not found["package"]
    assert found["unasked"] == [ids, 0] and found["plain"] == [ids, 0]
    # Once this is 0, transformers no longer asks for a tokenizer that has no code, and card and page can say so.
    assert found["asked"] == [ids, 1]
    message, asked = found["model"]
    assert "trust_remote_code=True" in message and asked == 1


def make_posttrained():
    species = {"species_to_token_id": {"fly": 7, "human": 6}, "bigwigs_per_species": {"human": ["a", "b"]}}
    sizes = {"conv_init_embed_dim": 8, "embed_dim": 8, "ffn_embed_dim": 8, "num_layers": 1, "num_downsamples": 4}
    config = NTv3PostTrainedConfig(**sizes, **species, bed_elements_names=["exon", "intron"])
    return NTv3PostTrainedModel(config), build_ntv3_tokenizer()


@pytest.mark.parametrize("make", [make_segment_nt, make_gena, make_nucleotide_transformer, make_ntv3, make_posttrained])
def test_the_example_of_a_card_runs_with_and_without_the_package(user, stranger, tmp_path, monkeypatch, make):
    """Of families that no pipeline of transformers calls, and of each kind of tokenizer."""

    def run_example(code, package):
        import sys

        if package:
            import gengram  # noqa: F401
        names = {}
        exec(code, names)
        if "outputs" in names:
            return [package == ("gengram" in sys.modules), names["outputs"].logits.double().sum().item()]
        return [
            package == ("gengram" in sys.modules),
            [[one["token_str"], one["score"]] for one in names["predictions"]],
        ]

    torch.manual_seed(0)
    model, tokenizer = make()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    upload = prepare_upload(tmp_path, "lab/model")
    code = re.search(r"```python\n(.*?)```", upload.card.text, re.DOTALL)[1].replace("lab/model", str(tmp_path))
    found, theirs = (
        user.call(run_example, code=code, package=True),
        stranger.call(run_example, code=code, package=False),
    )
    assert found[0] and theirs[0]
    if isinstance(found[1], float):
        assert theirs[1] == pytest.approx(found[1], abs=1e-3)
    else:
        assert [token for token, _ in theirs[1]] == [token for token, _ in found[1]]
        assert all(set(token) <= set("ACGT") for token, _ in found[1])


def test_every_family_is_asked_about():
    assert MAKERS.keys() == FAMILIES.keys() - {"ntv3_posttrained"}, "the post-trained NTv3 has NTv3's tokenizer"


def test_without_the_entry_that_makes_it_ask_no_model_loads(stranger, tmp_path):
    """Why the files ask as they do: the reason that the page gives."""

    def load(repo):
        from transformers import AutoModel

        try:
            AutoModel.from_pretrained(repo, trust_remote_code=True)
        except ValueError as error:
            return str(error)

    model, tokenizer = make_gengram()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert stranger.call(load, repo=str(tmp_path)) is None
    config = json.loads((tmp_path / "config.json").read_text())
    del config["auto_map"]["AutoConfig"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "does not recognize this architecture" in stranger.call(load, repo=str(tmp_path))
