"""Tensor parallelism over two processes: every family's logits, loss and gradients as in one process, by its own plan.

The two processes run every case once.
"""

import copy
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import transformers
from packaging import version
from torch.distributed.tensor import DTensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DeepseekV3Config,
    LlamaConfig,
    MixtralConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.modeling_layers import GradientCheckpointingLayer

import gengram
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.megatron_decoder.modeling_megatron_decoder import MegatronDecoderForCausalLM

RANKS = 2
SIZE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MEMORY = {"memory_layers": [0, 1], "kmer_sizes": [1, 2, 3], "memory_dim": 4, "window_size": 9}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SILENT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make_gengram(backbone, head="GengramForCausalLM", **fields):
    return getattr(gengram, head)(gengram.GengramConfig(backbone_config=backbone, **MEMORY, **fields))


def make_megatron(**fields):
    return MegatronDecoderForCausalLM(MegatronDecoderConfig(**SIZE, **fields))


def make_gena(head, **fields):
    return getattr(gengram, head)(gengram.GenaBertConfig(vocab_size=64, **ENCODER, **SILENT, **fields))


def make_nt(head="NucleotideTransformerForMaskedLM", **fields):
    fields = {"vocab_size": 76, **ENCODER, **fields}
    return getattr(gengram, head)(gengram.NucleotideTransformerConfig(**fields))


def make_ntv3(head="NTv3ForMaskedLM", **fields):
    sizes = {"conv_init_embed_dim": 16, "embed_dim": 24, "ffn_embed_dim": 32, "attention_heads": 4, "key_size": 8}
    return getattr(gengram, head)(gengram.NTv3Config(num_downsamples=2, **sizes, **fields))


def make_post_trained():
    sizes = {"conv_init_embed_dim": 16, "embed_dim": 24, "ffn_embed_dim": 32, "attention_heads": 4, "key_size": 8}
    species = {"species_to_token_id": {"human": 6, "mouse": 7}, "bigwigs_per_species": {"human": ["a", "b"]}}
    config = gengram.NTv3PostTrainedConfig(num_downsamples=2, **sizes, **species, bed_elements_names=["exon"])
    return gengram.NTv3PostTrainedModel(config)


def make_segment():
    return gengram.SegmentNTForTokenClassification(
        gengram.SegmentNTConfig(vocab_size=75, features=["a", "b"], num_layers_head=1, **ENCODER)
    )


def make_rmt(head, native):
    config = gengram.RmtConfig(
        backbone_config=native.config, num_memory_tokens=2, segment_length=16, cls_token_id=1, sep_token_id=2
    )
    return getattr(gengram, head)(config, native)


LATER = version.parse(transformers.__version__) >= version.parse("5.21")

MODELS = {
    "megatron": make_megatron,
    "megatron-all": lambda: make_megatron(
        attention_output_gate=True, query_key_norm=True, output_bias=True, attention_bias=True, gated_mlp=False
    ),
    "megatron-norms": lambda: make_megatron(query_key_norm=True, tie_word_embeddings=True),
    "gengram-llama": lambda: make_gengram(LlamaConfig(**SIZE)),
    "gengram-llama-tied": lambda: make_gengram(LlamaConfig(**SIZE, tie_word_embeddings=True)),
    "gengram-qwen3": lambda: make_gengram(Qwen3Config(**SIZE, head_dim=8), memory_preset="paper"),
    "gengram-mixtral": lambda: make_gengram(MixtralConfig(**SIZE, num_local_experts=4)),
    "gengram-qwen3-moe": lambda: make_gengram(Qwen3MoeConfig(**SIZE, **EXPERTS, head_dim=8)),
    "gengram-mla": lambda: make_gengram(
        DeepseekV3Config(
            **{**SIZE, "num_key_value_heads": 4}, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
            moe_intermediate_size=16, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4,
            v_head_dim=8, first_k_dense_replace=1,
        )
    ),
    "gengram-mixtral-experts": lambda: make_gengram(MixtralConfig(**SIZE, num_local_experts=4)),
    "gengram-qwen3-experts": lambda: make_gengram(Qwen3MoeConfig(**SIZE, **EXPERTS, head_dim=8)),
    "gengram-bert": lambda: make_gengram(BertConfig(vocab_size=64, **ENCODER, **SILENT), "GengramForMaskedLM"),
    "gengram-megatron": lambda: make_gengram(
        MegatronDecoderConfig(**SIZE, query_key_norm=True, attention_output_gate=True)
    ),
    "gengram-gena": lambda: make_gengram(
        gengram.GenaBertConfig(vocab_size=64, **ENCODER, **SILENT), "GengramForMaskedLM"
    ),
    "gengram-classifier": lambda: make_gengram(LlamaConfig(**SIZE), "GengramForSequenceClassification"),
    "gena": lambda: make_gena("GenaBertForMaskedLM"),
    "gena-post-ln": lambda: make_gena("GenaBertForPreTraining", pre_layer_norm=False),
    "gena-rotary": lambda: make_gena("GenaBertForTokenClassification", position_embedding_type="rotary"),
    "nt-v1": lambda: make_nt(gated_mlp=False, mlp_bias=True, position_embedding_type="absolute", token_dropout=True,
                             tie_word_embeddings=True),
    "nt-v2": make_nt,
    "nt-gated-bias": lambda: make_nt(mlp_bias=True),
    "nt-odd-vocabulary": lambda: make_nt(vocab_size=75),
    "nt-classifier": lambda: make_nt("NucleotideTransformerForSequenceClassification"),
    "segment-nt": make_segment,
    "ntv3": make_ntv3,
    "ntv3-tokens": lambda: make_ntv3("NTv3ForTokenClassification"),
    "ntv3-post-trained": make_post_trained,
    "rmt-gena": lambda: make_rmt("RmtForSequenceClassification", make_gena("GenaBertForSequenceClassification")),
    "rmt-bert": lambda: make_rmt(
        "RmtForSequenceClassification",
        BertForSequenceClassification(BertConfig(vocab_size=64, **ENCODER, **SILENT)),
    ),
    "rmt-nt": lambda: make_rmt("RmtForTokenClassification", make_nt("NucleotideTransformerForTokenClassification")),
}  # fmt: skip


# Backbones that transformers has no plan for: refused, by 5.17 on every process as a whole.
WITHOUT_PLAN = {"gengram-bert", "rmt-bert"}


def find_refusal(family: str) -> str | None:
    if LATER:
        return "has no `tp_plan`" if family in WITHOUT_PLAN else None
    return r"output size of `lm_head.decoder` \(75\) must be divisible" if family == "nt-odd-vocabulary" else None


def make_inputs(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    name = type(model).__name__
    length = 32 if name == "NTv3PostTrainedModel" else 33
    letters = torch.tensor([8, 5, 6, 7])[torch.randint(0, 4, (2, length), generator=generator)]
    inputs = {"input_ids": letters}
    if name == "NTv3PostTrainedModel":
        inputs["species_ids"] = torch.tensor([6, 7])
    if "SequenceClassification" in name:
        inputs["labels"] = torch.tensor([0, 1])
    elif name == "SegmentNTForTokenClassification":
        inputs["labels"] = torch.randint(0, 2, (2, 32 * 6, 2), generator=generator)
    elif "TokenClassification" in name:
        inputs["labels"] = torch.randint(0, 2, (2, 33), generator=generator)
    elif name == "GenaBertForPreTraining":
        inputs |= {"labels": letters, "next_sentence_label": torch.tensor([0, 1])}
    else:
        inputs["labels"] = letters
    if getattr(model.config, "use_cache", False):
        inputs["use_cache"] = False
    return inputs


def gather(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def measure(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-3))


def find_distribution(family: str):
    from transformers.distributed import DistributedConfig

    if not family.endswith("-experts"):
        return DistributedConfig(tp_size=RANKS)
    if LATER:
        return DistributedConfig(tp_size=RANKS, ep_size=RANKS)
    return DistributedConfig(tp_size=RANKS, enable_expert_parallel=True)


def compare(path: Path, folder: Path) -> dict:
    family, cls = path.name, torch.load(path / "class.pt", weights_only=False)
    path = path / "model"
    try:
        spread = cls.from_pretrained(path, distributed_config=find_distribution(family))
    except ValueError as error:
        return {"refused": str(error)}
    whole = cls.from_pretrained(path)
    inputs, result = make_inputs(whole), {}
    result["spread"] = [name for name, weight in spread.named_parameters() if isinstance(weight, DTensor)]
    for model in (whole, spread):
        model.train()
    for _ in range(2):  # accumulated
        expected, found = whole(**inputs), spread(**inputs)
        expected.loss.backward(), found.loss.backward()
    result["loss"] = measure(found.loss, expected.loss)
    result["gradients"] = {}
    for (name, reference), (same, mine) in zip(whole.named_parameters(), spread.named_parameters(), strict=True):
        assert name == same
        if reference.grad is None or mine.grad is None:
            result["gradients"][name] = 0.0 if reference.grad is mine.grad is None else float("inf")
        else:
            result["gradients"][name] = measure(gather(mine.grad), reference.grad)
    with torch.no_grad():
        found, expected = spread.eval()(**inputs), whole.eval()(**inputs)
    result["logits"] = max(measure(found[key], expected[key]) for key in expected if key.endswith("logits"))
    if spread.can_generate():
        prompt = {"input_ids": inputs["input_ids"][:, :8], "max_new_tokens": 12, "do_sample": False}
        result["generated"] = [model.generate(**prompt).tolist() for model in (spread, whole)]
    spread.save_pretrained(folder / "saved" / family)
    dist.barrier()
    saved = cls.from_pretrained(folder / "saved" / family)
    result["saved"] = max(float((a - b).abs().max()) for a, b in zip(saved.parameters(), whole.parameters()))
    return result


def run(rank: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    results = {}
    for name in MODELS:
        if (folder / name).exists():
            results[name] = compare(folder / name, folder)
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


@pytest.fixture(scope="module")
def results():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for family, make in MODELS.items():
            torch.manual_seed(0)
            model = make()
            for weight in model.parameters():  # what is drawn as zeros or ones hides faults
                weight.data += 0.05 * torch.randn_like(weight)
            model.save_pretrained(folder / family / "model")
            torch.save(type(model), folder / family / "class.pt")
        workers = [subprocess.Popen([sys.executable, __file__, str(rank), name]) for rank in range(RANKS)]
        assert [worker.wait() for worker in workers] == [0] * RANKS
        yield [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("family", MODELS)
def test_spread_over_two_processes_equals_one(results, family):
    for rank in range(RANKS):
        found = results[rank][family]
        if reason := find_refusal(family):
            assert re.search(reason, found["refused"])
            continue
        assert found["spread"] or family in WITHOUT_PLAN
        assert found["loss"] < 1e-5 and found["logits"] < 1e-4 and found["saved"] == 0.0
        assert len({str(ids) for ids in found.get("generated", [])}) < 2
        assert {name: value for name, value in found["gradients"].items() if value > 1e-3} == {}


@pytest.mark.parametrize("family", MODELS)
def test_plans_name_parts_that_are_there(family):
    model = MODELS[family]()
    names = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
    rules = {**model._tp_plan, **model._fsdp_plan}
    # transformers' own plans have rules for layers that only other sizes have, and for encoders Llama's.
    ours = [rule for rule in rules if family not in WITHOUT_PLAN and ".backbone." not in rule]
    assert [rule for rule in ours if rule.replace("*", "0") not in names] == []
    assert any("*" in rule for rule in model._fsdp_plan)


@pytest.mark.parametrize("family", MODELS)
def test_configuration_asks_for_gradient_checkpointing(family):
    """transformers reads this flag once, and takes it out of the configuration: no part may be made anew behind it."""
    model = MODELS[family]()
    config = copy.deepcopy(model.config)
    config.gradient_checkpointing = True
    made = type(model)(config)
    parts = [part for part in made.modules() if hasattr(part, "gradient_checkpointing")]
    assert made.is_gradient_checkpointing and all(part.gradient_checkpointing for part in parts)
    assert sum(isinstance(part, GradientCheckpointingLayer) for part in parts) >= 2


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
