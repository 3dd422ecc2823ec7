"""What language models propose: bases and the end, through `generate` and transformers' pipelines."""

import json
import re

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    FillMaskPipeline,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    pipeline,
)

from gengram import (
    GenaBertConfig,
    GenaBertForMaskedLM,
    GengramConfig,
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForPreTraining,
    NTv3Config,
    NTv3ForMaskedLM,
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    RmtConfig,
    RmtForMaskedLM,
)
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.megatron_decoder.modeling_megatron_decoder import MegatronDecoderForCausalLM
from gengram.pipelines import BaseFillMaskPipeline, limit_to_bases
from gengram.tokenization import (
    EMBEDDING_ROWS,
    build_kmer_tokenizer,
    build_nucleotide_tokenizer,
    list_base_tokens,
)
from gengram.tokenization.ntv3 import build_ntv3_tokenizer
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2]}
PROMPT = "ACGTTGCATGCCGATATAAAGGCACG"


def draw(length: int) -> str:
    letters = torch.randint(0, 4, (length,), generator=torch.Generator().manual_seed(0))
    return "".join("ACGT"[one] for one in letters)


def make_tokenizer(kind: str):
    if kind == "bpe":
        return train_bpe_tokenizer([draw(4000)], vocab_size=40)
    return build_kmer_tokenizer(3) if kind == "kmer" else build_nucleotide_tokenizer()


def make_wide(model):
    """Weights that are large enough for a model to prefer something; special tokens and unused ids are among it."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    return model.eval()


BACKBONES = {"llama": LlamaConfig, "mixtral": MixtralConfig}


def make_causal(name: str, tokenizer):
    torch.manual_seed(0)
    rows = EMBEDDING_ROWS
    if name in BACKBONES:
        ids = {"eos_token_id": 12, "bos_token_id": None, "pad_token_id": 0}
        backbone = BACKBONES[name](vocab_size=rows, num_key_value_heads=1, **ids, **SIZES)
        return make_wide(GengramForCausalLM(GengramConfig(backbone_config=backbone, **MEMORY)))
    if name == "megatron_decoder":
        model = MegatronDecoderForCausalLM(MegatronDecoderConfig(vocab_size=rows, **SIZES))
    elif name == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=rows, n_embd=16, n_layer=2, n_head=2))
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, **SIZES))
    limit_to_bases(make_wide(model), tokenizer)
    return model


@pytest.mark.parametrize(
    "name, kind",
    [
        ("llama", "one"),
        ("mixtral", "one"),
        ("megatron_decoder", "one"),
        ("gpt2", "kmer"),
        ("plain llama", "kmer"),
        ("plain llama", "bpe"),
        ("plain llama", "one"),
    ],
)
def test_generation_is_of_bases_and_the_end(name, kind, tmp_path):
    tokenizer = make_tokenizer(kind)
    model = make_causal(name, tokenizer)
    wanted = set(tokenizer.convert_tokens_to_ids(list_base_tokens(tokenizer)))
    ends = {model.generation_config.eos_token_id} - {None}
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert set(saved["suppress_tokens"]) == set(range(EMBEDDING_ROWS)) - wanted - ends

    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompt = tokenizer(PROMPT, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    options = {"max_new_tokens": 40, "do_sample": True, "num_return_sequences": 4, "pad_token_id": 0}
    torch.manual_seed(1)
    new = again.generate(**prompt, **options)[:, prompt["input_ids"].shape[1] :]
    assert set(new.flatten().tolist()) <= wanted | ends | {0}  # padding behind an end
    torch.manual_seed(1)
    free = again.generate(**prompt, **options, suppress_tokens=[])[:, prompt["input_ids"].shape[1] :]
    assert not set(free.flatten().tolist()) <= wanted | ends | {0}, "without the limit there is something else"

    write = pipeline("text-generation", model=str(tmp_path), device="cpu")
    text = write(PROMPT, max_new_tokens=30, do_sample=True, return_full_text=False)[0]["generated_text"]
    assert re.fullmatch("[ACGT ]*", text) and len(text) > 0


def test_the_end_and_the_padding_are_the_tokenizers():
    tokenizer = build_nucleotide_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, **SIZES))  # its own end is id 2, [CLS]
    suppressed = limit_to_bases(model, tokenizer)
    assert (
        suppressed == model.generation_config.suppress_tokens == [0, 1, 2, 3, 4, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19]
    )
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (12, 0)
    model.generation_config.eos_token_id = [12, 15]
    tokenizer.eos_token = None
    assert 15 not in limit_to_bases(model, tokenizer)


def test_what_cannot_be_limited_is_said():
    tokenizer = build_nucleotide_tokenizer()
    with pytest.raises(ValueError, match="BertForMaskedLM does not generate"):
        limit_to_bases(BertForMaskedLM(BertConfig(**SIZES)), tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": list("ACGT")})
    with pytest.raises(ValueError, match="no token that is made of the bases"):
        limit_to_bases(LlamaForCausalLM(LlamaConfig(vocab_size=128, **SIZES)), tokenizer)


def test_a_model_without_memory_reads_no_bases_and_suppresses_nothing():
    backbone = LlamaConfig(vocab_size=64, **SIZES)
    model = GengramForPreTraining(GengramConfig(backbone_config=backbone, memory_layers=[]))
    assert model.generation_config.suppress_tokens is None


def test_from_backbone_limits_unless_the_backbone_says_otherwise(tmp_path):
    native = LlamaForCausalLM(LlamaConfig(vocab_size=32, eos_token_id=12, bos_token_id=None, **SIZES))
    for own, expected in ((None, set(range(32)) - {8, 5, 6, 7, 12}), ([3], {3})):
        native.generation_config.suppress_tokens = own
        native.generation_config.max_new_tokens = 7
        native.save_pretrained(tmp_path)
        model = GengramForCausalLM.from_backbone(tmp_path, **MEMORY)
        assert set(model.generation_config.suppress_tokens) == expected
        assert model.generation_config.max_new_tokens == 7


def make_masked(name: str, rows: int):
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": rows}
    if name == "gengram":
        model = GengramForMaskedLM(GengramConfig(backbone_config=BertConfig(**sizes), **MEMORY))
    elif name == "gena_bert":
        model = GenaBertForMaskedLM(GenaBertConfig(**sizes))
    elif name == "rmt":
        ids = {"segment_length": 64, "cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
        model = RmtForMaskedLM(RmtConfig(backbone_config=BertConfig(**sizes), **ids))
    elif name == "nucleotide_transformer":
        model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**sizes))
    else:
        model = BertForMaskedLM(BertConfig(**sizes))
    return make_wide(model)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_letters_that_also_pad_stay_in_what_is_proposed(batch_size):
    """NTv3 fills up with N; transformers drops every padding token from the sequence that it shows."""
    torch.manual_seed(0)
    sizes = {"token_embed_dim": 8, "conv_init_embed_dim": 8, "embed_dim": 16, "ffn_embed_dim": 16, "num_layers": 1}
    model = NTv3ForMaskedLM(NTv3Config(**sizes, attention_heads=2, key_size=8, num_downsamples=2))
    fill = pipeline("fill-mask", model=make_wide(model), tokenizer=build_ntv3_tokenizer(), device="cpu")
    texts = ["NACN<mask>GTNNA", "AC<mask>N"]
    for text, proposed in zip(texts, fill(texts, batch_size=batch_size)):
        assert {one["token_str"] for one in proposed} == set("ACGT")
        assert [one["sequence"] for one in proposed] == [text.replace("<mask>", one["token_str"]) for one in proposed]
    first, second = fill("NA<mask>CN<mask>N", top_k=1)
    assert first[0]["sequence"] == f"NA{first[0]['token_str']}CN<mask>N"
    assert second[0]["sequence"] == f"NA<mask>CN{second[0]['token_str']}N"
    mask = {"return_attention_mask": False}
    [one] = fill("NAC<mask>", top_k=1, tokenizer_kwargs=mask)
    assert one["sequence"] == f"NAC{one['token_str']}"


@pytest.mark.parametrize(
    "name, kind",
    [
        ("gengram", "one"),
        ("rmt", "one"),
        ("nucleotide_transformer", "kmer"),
        ("gena_bert", "bpe"),
        ("bert", "bpe"),
        ("bert", "one"),
    ],
)
def test_masks_are_filled_with_bases(name, kind, tmp_path):
    tokenizer = make_tokenizer(kind)
    model = make_masked(name, max(EMBEDDING_ROWS, len(tokenizer)))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    fill = pipeline("fill-mask", model=str(tmp_path), device="cpu")
    assert type(fill) is BaseFillMaskPipeline
    text = PROMPT[:9] + tokenizer.mask_token + PROMPT[12:]
    wanted = set(tokenizer.convert_tokens_to_ids(list_base_tokens(tokenizer)))
    proposed = fill(text, top_k=1000)
    assert {one["token"] for one in proposed} == wanted
    assert all(re.fullmatch("[ACGT ]+", one["sequence"]) for one in proposed)
    assert [one["score"] for one in proposed] == sorted((one["score"] for one in proposed), reverse=True)
    assert len(fill(text)) == min(5, len(wanted))

    # Where the package is not installed, the tokens are named; the scores are the same.
    plain = FillMaskPipeline(model=fill.model, tokenizer=fill.tokenizer, device="cpu")
    targets = [token for token in fill.tokenizer.get_vocab() if set(token) <= set("ACGT")]
    assert plain(text, targets=targets, top_k=1000) == proposed
    anything = plain(text, top_k=fill.model.config.vocab_size)
    assert {one["token"] for one in anything} - wanted, "without them there is something else"
    assert len(fill(text, tokenizer_kwargs={"padding": True})) == min(5, len(wanted))
    # What is asked for is proposed, by the call or by the pipeline.
    other = {tokenizer.unk_token_id}
    assert {one["token"] for one in fill(text, targets=[tokenizer.unk_token])} == other
    asked = pipeline("fill-mask", model=str(tmp_path), device="cpu", targets=[tokenizer.unk_token])
    assert {one["token"] for one in asked(text)} == other
