"""Every class of every family where its weights do not fit: offloaded to disk or main memory, and in half precision.

A placed model says what the model in memory says, number for number; a half-precision one says nearly that, and all of
its floating-point weights are of that precision. What works is the table of docs/deployment.md.
"""

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, attach_execution_device_hook
from accelerate.utils import has_offloaded_params
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BigBirdConfig,
    DeepseekV3Config,
    EsmConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from gengram import GenaBertConfig, GengramConfig, RmtConfig
from gengram.gena.block_sparse_attention import use_fast_attention
from gengram.gengram.motif_memory import MotifMemory
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.nucleotide_transformer.configuration_ntv3 import NTv3Config, NTv3PostTrainedConfig
from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
from gengram.registration import FAMILIES
from gengram.rmt import modeling_rmt
from gengram.rmt.segments import Step, plan_steps

SIZE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
TOKENS = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {"num_experts_per_tok": 2, "experts_implementation": "eager"}
TRACKS = {
    "species_to_token_id": {"human": 6, "yeast": 7},
    "bigwigs_per_species": {"human": ["a", "b"], "yeast": ["c"]},
    "bed_elements_names": ["exon", "intron"],
}
TOWER = {"conv_init_embed_dim": 8, "embed_dim": 16, "ffn_embed_dim": 24, "num_downsamples": 2, "key_size": 4}
V1 = {"gated_mlp": False, "mlp_bias": True, "position_embedding_type": "absolute", "token_dropout": True}


def remember(backbone: PreTrainedConfig, **fields: Any) -> GengramConfig:
    """Memory before the first and the last layer."""
    memory = {"memory_layers": [0, 2], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 9}
    return GengramConfig(backbone_config=backbone, **{**memory, **fields})


def recur(backbone: PreTrainedConfig) -> RmtConfig:
    return RmtConfig(
        backbone_config=backbone, segment_length=16, num_memory_tokens=3, cls_token_id=1, sep_token_id=2, pad_token_id=0
    )


def make_decoder(**fields: Any) -> MegatronDecoderConfig:
    gates = {"attention_output_gate": True, "query_key_norm": True, "attention_bias": True, "gated_mlp": False}
    return MegatronDecoderConfig(**{**SIZE, **TOKENS, "num_key_value_heads": 2, **gates, **fields})


def make_deepseek() -> DeepseekV3Config:
    heads = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    experts = {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
    return DeepseekV3Config(
        **SIZE, **TOKENS, **EXPERTS, **heads, **experts, num_key_value_heads=4, q_lora_rank=None,
        moe_intermediate_size=16, first_k_dense_replace=1,
    )  # fmt: skip


def make_modernbert() -> ModernBertConfig:
    return ModernBertConfig(**SIZE, **TOKENS, local_attention=8, global_attn_every_n_layers=2)


CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gengram, llama": lambda: remember(LlamaConfig(**SIZE, **TOKENS, num_key_value_heads=2, tie_word_embeddings=True)),
    "gengram, mixtral": lambda: remember(
        MixtralConfig(**SIZE, **TOKENS, **EXPERTS, num_key_value_heads=2, num_local_experts=4)
    ),
    "gengram, deepseek_v3": lambda: remember(make_deepseek(), mixer="silu_norm"),
    "gengram, megatron_decoder": lambda: remember(make_decoder(), conv_norm=True),
    "gengram, modernbert": lambda: remember(make_modernbert(), deduplicate=True),
    "gengram, bert": lambda: remember(BertConfig(**SIZE), center_window=True, projection_bias=True),
    "gengram, esm": lambda: remember(EsmConfig(**SIZE, position_embedding_type="rotary", mask_token_id=4)),
    "gengram, gena_bert": lambda: remember(GenaBertConfig(**SIZE), tie_reverse_complement=True),
    "gena_bert": lambda: GenaBertConfig(**SIZE),
    "gena_bert, rotary": lambda: GenaBertConfig(**SIZE, position_embedding_type="rotary", last_layer_norm=True),
    "rmt, gena_bert": lambda: recur(GenaBertConfig(**SIZE)),
    "rmt, gengram": lambda: recur(remember(make_modernbert())),
    "megatron_decoder": make_decoder,
    "megatron_decoder, tied": lambda: make_decoder(tie_word_embeddings=True, gated_mlp=True),
    "nucleotide_transformer, v1": lambda: NucleotideTransformerConfig(**SIZE, **V1, tie_word_embeddings=True),
    "nucleotide_transformer, v2": lambda: NucleotideTransformerConfig(**SIZE),
    "segment_nt": lambda: SegmentNTConfig(**SIZE, features=["exon", "intron"]),
    "ntv3": lambda: NTv3Config(**TOWER),
    "ntv3_posttrained": lambda: NTv3PostTrainedConfig(**TOWER, **TRACKS),
    "big_bird": lambda: BigBirdConfig(**{**SIZE, "max_position_embeddings": 256}, block_size=8, num_random_blocks=1),
    "modernbert": make_modernbert,
}
"""Small configurations: every family of the table and the two of transformers; of those around others some of each
kind."""

AUTO_CLASSES = (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)


def list_classes(name: str) -> list[Any]:
    """Classes that a configuration can have a model of."""
    config = CONFIGS[name]()
    other = "MaskedLM" if getattr(config, "is_causal", name == "big_bird") else "CausalLM"
    around = config.model_type in ("gengram", "big_bird")
    found = [auto._model_mapping[type(config)] for auto in AUTO_CLASSES if type(config) in auto._model_mapping]
    return [one for one in found if not (around and one.__name__.endswith(other))]


def build(name: str, model_class: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return speed_up(enlarge(model_class(CONFIGS[name]()).eval()))


def speed_up(model: PreTrainedModel) -> PreTrainedModel:
    """A BigBird with the attention that `gengram.auto` gives it; every other model as it is."""
    return use_fast_attention(model) if model.config.model_type == "big_bird" else model


def enlarge(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough to show a fault in any of them."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def make_inputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Two sequences, for some models one of them padded, with labels for its head."""
    config, task = model.config, type(model).__name__
    torch.manual_seed(1)
    bases = config.model_type.startswith("ntv3")
    T = {"big_bird": 80, "segment_nt": 25}.get(config.model_type, 24)
    ids = torch.randint(6, 10, (2, T))
    inputs = {"input_ids": ids}
    if not bases:
        mask = torch.ones_like(ids)
        mask[1, -5:] = 0
        inputs = {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}
    if config.model_type == "ntv3_posttrained":
        inputs["species_ids"] = torch.tensor([6, 7])
        return inputs
    if task.endswith(("MaskedLM", "CausalLM")):
        inputs["labels"] = ids
    elif "SequenceClassification" in task:
        inputs["labels"] = torch.tensor([0, 1])
    elif config.model_type == "segment_nt" and "Token" in task:
        inputs["labels"] = torch.randint(0, 2, (2, 6 * (T - 1), 2))
    elif "TokenClassification" in task:
        inputs["labels"] = torch.randint(0, 2, (2, T))
    return inputs


def answer(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        outputs = model(**inputs)
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def put_a_third(model_class: Any, path: Path, away: Path) -> PreTrainedModel:
    whole = model_class.from_pretrained(path)
    size = sum(weight.nbytes for weight in whole.parameters())
    place = {"device_map": "auto", "max_memory": {"cpu": size // 3}}
    return model_class.from_pretrained(path, **place, offload_folder=away)


def put_all_on_disk(model_class: Any, path: Path, away: Path) -> PreTrainedModel:
    return model_class.from_pretrained(path, device_map={"": "disk"}, offload_folder=away)


def put_every_other_module(model_class: Any, path: Path, away: Path) -> PreTrainedModel:
    whole = model_class.from_pretrained(path)
    owners = {name.rpartition(".")[0]: None for name, _ in whole.named_parameters(remove_duplicate=False)}
    owners = [name for name in owners if not any(name.startswith(f"{other}.") for other in owners)]
    device_map = {name: "disk" if index % 2 else "cpu" for index, name in enumerate(owners)}
    for pair in whole.all_tied_weights_keys.items():  # one weight is in one place
        tied = [next(owner for owner in owners if name.startswith(f"{owner}.")) for name in pair]
        device_map[tied[0]] = device_map[tied[1]]
    rest = {name: "cpu" for name, _ in whole.named_buffers() if not name.startswith(tuple(f"{one}." for one in owners))}
    return model_class.from_pretrained(path, device_map={**device_map, **rest}, offload_folder=away)


def offload_to_memory(model_class: Any, path: Path, away: Path) -> PreTrainedModel:
    return accelerate.cpu_offload(model_class.from_pretrained(path), execution_device=torch.device("cpu"))


def offload_to_disk(model_class: Any, path: Path, away: Path) -> PreTrainedModel:
    return accelerate.disk_offload(model_class.from_pretrained(path), away, execution_device=torch.device("cpu"))


PLACES = (put_a_third, put_all_on_disk, put_every_other_module, offload_to_memory, offload_to_disk)

CASES = [(name, model_class) for name in CONFIGS for model_class in list_classes(name)]
# One class of a configuration, and one place, tell nearly everything: what the others add is run by `make test-all`.
QUICK = {(name, list_classes(name)[-1]) for name in CONFIGS}


def name_cases(quick: Callable[[Any], bool], *values: Any) -> list[Any]:
    """Each case with each value; all but the quick ones are slow."""
    return [
        pytest.param(
            *case, value, id=f"{case[0]}-{case[1].__name__}-{getattr(value, '__name__', value)}",
            marks=[] if case in QUICK and quick(value) else pytest.mark.slow,
        )
        for case in CASES for value in values
    ]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of a case as (folder, inputs, what it says of them), made once."""

    @functools.cache
    def save(name: str, model_class: Any) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        model, path = build(name, model_class), tmp_path_factory.mktemp("model")
        inputs = make_inputs(model)
        model.save_pretrained(path)
        return path, inputs, answer(model, inputs)

    return save


def test_every_family_is_here():
    types = {CONFIGS[name]().model_type for name in CONFIGS}
    assert types == FAMILIES.keys() | {"big_bird", "modernbert"}


@pytest.mark.parametrize("name,model_class,place", name_cases(lambda place: place is put_a_third, *PLACES))
def test_a_placed_model_says_the_same(name, model_class, place, saved, tmp_path):
    path, inputs, expected = saved(name, model_class)
    placed = speed_up(place(model_class, path, tmp_path))
    assert any(has_offloaded_params(part) for part in placed.modules())
    for _ in range(2):
        found = answer(placed, inputs)
        assert found.keys() == expected.keys()
        for key in expected:
            assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize(
    "name,model_class,dtype", name_cases(lambda dtype: dtype is torch.bfloat16, torch.bfloat16, torch.float16)
)
def test_half_precision(name, model_class, dtype, saved):
    path, inputs, expected = saved(name, model_class)
    half = speed_up(model_class.from_pretrained(path, dtype=dtype))
    assert {weight.dtype for weight in half.parameters()} == {dtype}
    exact = {name for name, value in half.named_buffers() if value.dtype in (torch.float32, torch.float64)}
    assert all(name.endswith(("inv_freq", "e_score_correction_bias")) for name in exact)  # as transformers has them
    found = answer(half, inputs)
    for key, value in expected.items():
        if key != "loss":
            assert found[key].dtype == dtype, key
        # On average: where two experts are near each other, rounding sends a token to the other one.
        assert (found[key].float() - value).norm() < (0.05 if dtype is torch.bfloat16 else 0.01) * value.norm(), key


@pytest.mark.parametrize("name,model_class", [case for case in CASES if case[1].__name__.endswith("CausalLM")])
def test_a_placed_model_generates_the_same(name, model_class, saved, tmp_path):
    path, inputs, _ = saved(name, model_class)
    ids = inputs["input_ids"][:, :16]
    expected = model_class.from_pretrained(path).generate(ids, max_new_tokens=8, do_sample=False)
    placed = put_all_on_disk(model_class, path, tmp_path)
    assert torch.equal(placed.generate(ids, max_new_tokens=8, do_sample=False), expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_placed_model_is_saved_whole(name, saved, tmp_path):
    model_class = list_classes(name)[-1]
    path, _, _ = saved(name, model_class)
    put_a_third(model_class, path, tmp_path / "away").save_pretrained(tmp_path / "again")
    before, after = (model_class.from_pretrained(one).state_dict() for one in (path, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_placed_model_in_half_precision_says_the_same(saved, tmp_path):
    case = next(case for case in CASES if case[0] == "gengram, llama")
    path, inputs, _ = saved(*case)
    expected = answer(case[1].from_pretrained(path, dtype=torch.bfloat16), inputs)
    placed = case[1].from_pretrained(path, dtype=torch.bfloat16, device_map={"": "disk"}, offload_folder=tmp_path)
    assert all(torch.equal(value, expected[key]) for key, value in answer(placed, inputs).items())


FIRST = torch.device("cpu", 1)
NOT_SPREAD = {
    "gengram, mixtral": "experts ask for numbers",
    "gengram, deepseek_v3": "experts ask for numbers",
    "ntv3_posttrained": "species are numbers",
    "modernbert": "transformers' loss takes no labels from another device",
    "big_bird": "transformers' class does not say which of its modules belong together",
}
"""What has no fake tensors, and why."""


def list_blocks(model: PreTrainedModel) -> Iterator[str]:
    """Names of what `device_map="auto"` puts on a device of its own: blocks that are not split, or single modules."""
    whole: list[str] = []
    for name, part in model.named_modules():
        if name.startswith(tuple(f"{one}." for one in whole)) or not [*part.parameters(), *part.buffers()]:
            continue
        if type(part).__name__ in model._no_split_modules or not any(True for _ in part.children()):
            whole.append(name)
            yield name


def spread(model: PreTrainedModel, mode: FakeTensorMode) -> None:
    """Put each block on one of two devices, by chance, with weights that have no numbers."""
    chance = random.Random(0)
    blocks = {name: torch.device("cpu", chance.randint(1, 2)) for name in list_blocks(model)}
    parts = dict(model.named_modules())
    for pair in model.all_tied_weights_keys.items():
        tied = [next(block for block in blocks if name.startswith(f"{block}.")) for name in pair]
        blocks[tied[0]] = blocks[tied[1]]
    for name, device in {"": FIRST, **blocks}.items():
        for part in parts[name].modules():
            for tensors in (part._parameters, part._buffers):
                for key, value in tensors.items():
                    if value is not None:
                        fake = value if isinstance(value, FakeTensor) else mode.from_tensor(value.detach())
                        moved = fake.to(device)
                        tensors[key] = nn.Parameter(moved, False) if tensors is part._parameters else moved
    for name, device in blocks.items():
        hook = AlignDevicesHook(device, skip_keys=model._skip_keys_device_placement)
        add_hook_to_module(parts[name], hook)
        attach_execution_device_hook(parts[name], device)  # a part of a block may be called on its own


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in NOT_SPREAD])
def test_layers_on_two_devices_find_their_inputs(name, monkeypatch):
    model_class = list_classes(name)[-1]
    model, mode = build(name, model_class), FakeTensorMode(allow_non_fake_inputs=True)
    inputs = make_inputs(model)
    steps: list[Step] = []
    if isinstance(config := model.config, RmtConfig):
        dropped = [config.cls_token_id, config.sep_token_id, config.pad_token_id]
        steps = plan_steps(
            inputs["input_ids"],
            inputs["attention_mask"],
            dropped,
            config.content_length,
            None,
            config.segment_alignment,
        )
    monkeypatch.setattr(
        torch.Tensor, "new_tensor", lambda x, values: torch.full((len(values),), 0, dtype=x.dtype, device=x.device)
    )  # that of tensors without numbers forgets the device
    monkeypatch.setattr(MotifMemory, "path", "lifetime")
    monkeypatch.setattr(AlignDevicesHook, "init_hook", lambda hook, module: module)
    with mode, torch.no_grad():
        spread(model, mode)
        fakes = {key: mode.from_tensor(value).to(FIRST) for key, value in inputs.items()}
        if model.config.model_type == "rmt":  # where segments begin is read from the numbers
            fields = [
                {
                    key: mode.from_tensor(x).to(FIRST) if isinstance(x, torch.Tensor) else x
                    for key, x in vars(step).items()
                }
                for step in steps
            ]
            monkeypatch.setattr(modeling_rmt, "plan_steps", lambda *args, **kwargs: [Step(**one) for one in fields])
        outputs = model(**fakes, **({"use_cache": False} if getattr(model.config, "use_cache", False) else {}))
    assert outputs.loss is not None
