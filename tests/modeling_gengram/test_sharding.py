"""Weights sharded over two processes (FSDP2): the same loss, gradients and steps as one process with both batches.

By transformers' `DistributedConfig` when a checkpoint is loaded, and by accelerate around a model. The two processes
run every case once.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from gengram import GengramConfig, GengramForCausalLM

RANKS = 2
SIZE = {
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
BACKBONES = {
    "llama": lambda: LlamaConfig(**SIZE),
    "llama-paper": lambda: LlamaConfig(**SIZE),
    "llama-tied": lambda: LlamaConfig(**SIZE, tie_word_embeddings=True),
    "llama-tied-odd": lambda: LlamaConfig(**{**SIZE, "vocab_size": 75}, tie_word_embeddings=True),
    "mixtral": lambda: MixtralConfig(**SIZE, num_local_experts=4, router_aux_loss_coef=0.0),
}


def save_model(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    memory = {"memory_layers": [0, 1], "kmer_sizes": [1, 2, 3], "memory_dim": 4, "window_size": 9}
    memory["memory_preset"] = "paper" if name.endswith("-paper") else "released"
    GengramForCausalLM(GengramConfig(backbone_config=BACKBONES[name](), **memory)).save_pretrained(folder / name)
    return folder / name


def shard_by_transformers(path: Path, rank: int):
    from transformers.distributed import DistributedConfig

    return AutoModelForCausalLM.from_pretrained(path, distributed_config=DistributedConfig(fsdp_size=RANKS))


def shard_by_accelerate(path: Path, rank: int):
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    class Accelerator:  # `accelerate.Accelerator` turns its FSDP plugin off where there is no accelerator
        class state:
            fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")

        mixed_precision = "no"
        torch_device_mesh = None
        is_main_process = rank == 0
        device = torch.device("cpu")

    return fsdp2_prepare_model(Accelerator(), AutoModelForCausalLM.from_pretrained(path))


def gather(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compare(shard, path: Path, folder: Path, rank: int) -> dict:
    whole, sharded = AutoModelForCausalLM.from_pretrained(path), shard(path, rank)
    result = {
        "units": [isinstance(memory, FSDPModule) for memory in sharded.model.memory.values()],
        "sharded": [isinstance(weight, DTensor) for weight in sharded.model.memory.parameters()],
        "loss": [], "gradient": [], "logits": [],
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batches = torch.tensor([8, 5, 6, 7])[torch.randint(0, 4, (3, RANKS, 40), generator=generator)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5) for model in (whole, sharded)]
    for batch in batches:
        whole.train(), sharded.train()
        expected = whole(batch, labels=batch, use_cache=False).loss
        found = sharded(batch[rank : rank + 1], labels=batch[rank : rank + 1], use_cache=False).loss
        expected.backward(), found.backward()
        total = found.detach().clone()
        dist.all_reduce(total)
        result["loss"].append(float((total / RANKS - expected).abs()))
        for (name, reference), (same, mine) in zip(whole.named_parameters(), sharded.named_parameters()):
            assert name == same
            difference = (gather(mine.grad) - reference.grad).abs().max() / reference.grad.abs().max().clamp(min=1e-3)
            result["gradient"].append(float(difference))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():  # kept tables of before the step would show here
            difference = sharded.eval()(batch).logits - whole.eval()(batch).logits
        result["logits"].append(float(difference.abs().max()))
    if shard is shard_by_transformers:
        sharded.save_pretrained(folder / "saved" / path.name)
        dist.barrier()
        saved = AutoModelForCausalLM.from_pretrained(folder / "saved" / path.name)
        pairs = zip(saved.parameters(), whole.parameters())
        result["saved"] = max(float((a - b).abs().max()) for a, b in pairs)
    return result


def run(rank: int, folder: Path) -> None:
    import os

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    results = {}
    for name in BACKBONES:
        for shard in (shard_by_transformers, shard_by_accelerate):
            results[name, shard.__name__] = compare(shard, folder / name, folder, rank)
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


@pytest.fixture(scope="module")
def results():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backbone in BACKBONES:
            save_model(backbone, folder)
        workers = [subprocess.Popen([sys.executable, __file__, str(rank), name]) for rank in range(RANKS)]
        assert [worker.wait() for worker in workers] == [0] * RANKS
        yield [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


# transformers ties the two weights after it has sharded them apart. Where the vocabulary does not divide, each of the
# two units pads the common weight into memory of its own, and the embedding goes on reading what was there before.
OFF = pytest.mark.xfail(strict=True, reason="transformers reads old rows of a tied vocabulary that does not divide")
CASES = [
    pytest.param(name, shard, marks=[OFF] if (name, shard) == ("llama-tied-odd", "shard_by_transformers") else [])
    for name in BACKBONES
    for shard in ("shard_by_transformers", "shard_by_accelerate")
]


@pytest.mark.parametrize(("backbone", "shard"), CASES)
def test_sharded_training_equals_one_process(results, backbone, shard):
    for rank in range(RANKS):
        found = results[rank][backbone, shard]
        assert all(found["units"]) and len(found["units"]) == 2, "each memory is a unit of its own"
        assert all(found["sharded"])
        assert max(found["loss"]) < 1e-5 and max(found["gradient"]) < 1e-3 and max(found["logits"]) < 1e-4
        assert found.get("saved", 0.0) < 1e-5


def test_plans_name_modules_that_are_there():
    """Every rule of parallelism belongs to the backbone, the memory or the head, where they lie now."""
    for make in BACKBONES.values():
        model = GengramForCausalLM(GengramConfig(backbone_config=make(), memory_layers=[0], memory_dim=4))
        names = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
        for plan in (model._fsdp_plan, model._tp_plan, model._ep_plan, model._pp_plan):
            for rule in plan or {}:
                assert rule.replace("*", "0") in names, rule


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
