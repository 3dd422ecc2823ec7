"""A pre-training step on divided weights (FSDP2, by transformers' `distributed_config`) is that of one process.

The loss of a step, the groups of the optimizer and its update are those of `gengram pretrain`. Two processes run it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.trainer_pt_utils import get_parameter_names

from gengram import GengramConfig, GengramForCausalLM
from gengram.training.pretraining.losses import PretrainLoss
from gengram.training.pretraining.optimizer import group_parameters

RANKS = 2
SIZE = {"vocab_size": 128, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
MEMORY = {"memory_layers": [0, 1], "kmer_sizes": [1, 2, 3], "memory_dim": 4, "window_size": 9}


def gather(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def train(model, parts: list[torch.Tensor], blocks: int, processes: int) -> list[float]:
    """Steps on this process's blocks of each step; the losses of all processes together."""
    decayed = get_parameter_names(model, [torch.nn.LayerNorm, torch.nn.Embedding], ["bias", "norm"])
    optimizer = torch.optim.AdamW(group_parameters(model, decayed, 0.1, 1e-2, 5e-2), lr=1e-2)
    loss, losses = PretrainLoss(is_causal=True), []
    for ids in parts:
        model.train()
        tokens = torch.tensor(blocks * (ids.shape[1] - 1))
        outputs = model(ids, use_cache=False)
        of_tokens, _ = loss(outputs, ids, {}, tokens, len(ids) / blocks)
        (of_tokens * processes).backward()
        total = of_tokens.detach().clone()
        if processes > 1:
            dist.all_reduce(total)
        losses.append(float(total))
        optimizer.step()
        optimizer.zero_grad()
    return losses


def run(rank: int, folder: Path) -> None:
    from transformers.distributed import DistributedConfig

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    steps = torch.tensor([8, 5, 6, 7])[torch.randint(0, 4, (3, 4, 40), generator=torch.Generator().manual_seed(0))]
    whole = AutoModelForCausalLM.from_pretrained(folder / "model")
    config = DistributedConfig(fsdp_size=RANKS)
    sharded = AutoModelForCausalLM.from_pretrained(folder / "model", distributed_config=config)
    weights = list(sharded.parameters())
    divided = [isinstance(weight, DTensor) and weight.to_local().numel() < weight.numel() for weight in weights]
    losses = [
        train(whole, list(steps), 4, 1),
        train(sharded, [blocks[2 * rank : 2 * rank + 2] for blocks in steps], 4, RANKS),
    ]
    pairs = zip(weights, whole.parameters())
    apart = [float((gather(mine) - gather(other)).abs().max()) for mine, other in pairs]
    found = {"divided": divided, "loss": losses, "weights": apart}
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


def test_three_steps_on_divided_weights_are_those_of_one_process(tmp_path):
    torch.manual_seed(0)
    GengramForCausalLM(GengramConfig(backbone_config=LlamaConfig(**SIZE), **MEMORY)).save_pretrained(tmp_path / "model")
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(RANKS)]
    assert [worker.wait() for worker in workers] == [0] * RANKS
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert all(found["divided"]) and len(found["divided"]) > 20
        assert found["loss"][1] == pytest.approx(found["loss"][0], abs=1e-5)
        assert max(found["weights"]) < 1e-4


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
