"""Two processes share each block: loss, gradients and weights after three steps are those of one process.

The two processes run all cases once; each is compared with whole blocks in the same process.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from transformers import DeepseekV3Config, LlamaConfig, MistralConfig, MixtralConfig

from gengram import GengramConfig, GengramForCausalLM
from gengram.errors import InputError
from gengram.training.accelerate_configs import CONFIGS
from gengram.training.pretraining.shared_blocks import SharedBlocks, check_shared

RANKS = 2
SIZE = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LATENT = {"q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
BACKBONES = {
    "llama": lambda: LlamaConfig(**SIZE),
    "grouped": lambda: LlamaConfig(**SIZE, num_key_value_heads=2),
    "mixtral": lambda: MixtralConfig(**SIZE, num_key_value_heads=2, num_local_experts=4, sliding_window=None),
    "latent": lambda: DeepseekV3Config(
        **SIZE, **LATENT, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
        moe_intermediate_size=16, first_k_dense_replace=2, pad_token_id=0,
    ),
}  # fmt: skip
MEMORY = {"memory_layers": [0, 1], "kmer_sizes": [1, 2, 3], "memory_dim": 4, "window_size": 9}
CASES = {**{name: {"backbone": name} for name in BACKBONES}}
CASES |= {
    "paper": {"backbone": "llama", "memory_preset": "paper"},
    "plain": {"backbone": "llama", "memory_layers": []},
    "checkpointing": {"backbone": "grouped", "checkpoints": True},
}
LONG = 32768


def make_model(backbone: str, checkpoints: bool = False, **memory) -> GengramForCausalLM:
    torch.manual_seed(0)
    model = GengramForCausalLM(GengramConfig(backbone_config=BACKBONES[backbone](), **{**MEMORY, **memory}))
    if backbone in ("mixtral", "latent"):
        model.set_experts_implementation("eager")  # The other one has no double precision.
    if checkpoints:
        model.activation_checkpointing_enable() if hasattr(
            model, "activation_checkpointing_enable"
        ) else model.gradient_checkpointing_enable()
    return model


def draw(rows: int, tokens: int) -> torch.Tensor:
    return torch.tensor([8, 5, 6, 7])[torch.randint(0, 4, (rows, tokens), generator=torch.Generator().manual_seed(1))]


def measure(mine: torch.Tensor, reference: torch.Tensor) -> float:
    return float((mine - reference).abs().max() / reference.abs().max().clamp(min=1e-3))


def compare(options: dict) -> dict:
    """Three steps of AdamW on both, and what differs."""
    whole, shared = make_model(**options).double(), make_model(**options).double()
    spread = SharedBlocks(shared, RANKS, 96)
    found = {"loss": [], "gradient": [], "weight": []}
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (whole, shared)]
    for ids in draw(6, 96).view(3, 2, 96):
        labels = ids.clone()
        labels[:, 40:44] = -100  # what is not learned: across the ends of pieces, at both ends of the block
        labels[:, 95:] = -100
        logits = whole(ids, use_cache=False).logits[:, :-1].flatten(0, 1)
        count = int((labels[:, 1:] != -100).sum())
        expected = cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / count
        expected.backward()
        inputs, following = spread.cut({"input_ids": ids}, labels)
        assert inputs["input_ids"].shape == following.shape == (2, 96 // RANKS)
        logits = shared(**inputs, use_cache=False).logits.flatten(0, 1)
        loss = cross_entropy(logits, following.flatten(), reduction="sum") / count
        loss.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        found["loss"].append(float((total - expected).abs()))
        for mine, reference in zip(shared.parameters(), whole.parameters()):
            if reference.grad is None:
                assert mine.grad is None
                continue
            dist.all_reduce(mine.grad)
            found["gradient"].append(measure(mine.grad, reference.grad))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    found["weight"] = [measure(mine, other) for mine, other in zip(shared.parameters(), whole.parameters())]
    ids = draw(1, 77)
    with spread.apart(), torch.no_grad():
        alone = shared(ids, use_cache=False).logits
    with torch.no_grad():
        found["apart"] = measure(alone, whole(ids, use_cache=False).logits)
    return found


def refuse() -> list[str]:
    spread = SharedBlocks(make_model("llama"), RANKS, 96)
    ids, said = draw(1, 96), []
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    for inputs in (
        {"input_ids": ids, "attention_mask": mask},
        {"input_ids": ids, "position_ids": ids},
        {"input_ids": ids[:, :94]},
    ):
        try:
            spread.cut(inputs, inputs["input_ids"])
            said.append("")
        except InputError as error:
            said.append(str(error))
    spread.cut({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids)
    try:
        SharedBlocks(make_model("llama"), RANKS, 48)
        said.append("")
    except InputError as error:
        said.append(str(error))
    return said


def run_long() -> float:
    """A block of 32,768 tokens of a model with one head: what two processes have of it, against one."""
    size = {**SIZE, "hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    config = GengramConfig(
        backbone_config=LlamaConfig(**size, max_position_embeddings=LONG),
        memory_layers=[0], kmer_sizes=[1, 2, 3, 4, 5, 6], memory_dim=4, window_size=21,
    )  # fmt: skip
    torch.manual_seed(0)
    whole, shared = GengramForCausalLM(config).double(), GengramForCausalLM(copy.deepcopy(config)).double()
    shared.load_state_dict(whole.state_dict())
    spread = SharedBlocks(shared, RANKS, LONG)
    ids = draw(1, LONG)
    logits = whole(ids, use_cache=False).logits[0, :-1]
    cross_entropy(logits, ids[0, 1:]).backward()
    inputs, following = spread.cut({"input_ids": ids}, ids)
    loss = cross_entropy(shared(**inputs, use_cache=False).logits[0], following[0], reduction="sum") / (LONG - 1)
    loss.backward()
    worst = 0.0
    for mine, reference in zip(shared.parameters(), whole.parameters()):
        dist.all_reduce(mine.grad)
        worst = max(worst, measure(mine.grad, reference.grad))
    return worst


def run(rank: int, folder: str, what: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    if what == "long":
        results = {"long": run_long()}
    else:
        results = {"refused": refuse(), **{name: compare(options) for name, options in CASES.items()}}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


def run_both(what: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        workers = [subprocess.Popen([sys.executable, __file__, str(rank), folder, what]) for rank in range(RANKS)]
        assert [worker.wait() for worker in workers] == [0] * RANKS
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(RANKS)]


@pytest.fixture(scope="module")
def results():
    return run_both("cases")


@pytest.mark.parametrize("case", CASES)
def test_a_shared_step_is_the_step_of_one_process(results, case):
    for rank in range(RANKS):
        found = results[rank][case]
        assert max(found["loss"]) < 1e-10 and max(found["gradient"]) < 1e-7
        assert max(found["weight"]) < 1e-5 and found["apart"] < 1e-5  # AdamW divides by gradients near zero


def test_what_cannot_be_cut(results):
    padded, packed, odd, short = results[0]["refused"]
    assert "pieces of 12 tokens are shorter than the 17 that a memory looks back" in short
    assert "no padding and one document each" in padded and padded == packed
    assert "94 tokens cannot be cut so" in odd


@pytest.mark.slow
def test_a_run_whose_blocks_are_shared_is_that_of_one_process(corpus, tmp_path):
    from tests.training.pretraining.commands import make_words  # This file is also a script, without the tests' path.

    options = {"use_cpu": None, "blocks_per_step": 4, "block_size": 64, "memory": {**MEMORY, "window_size": 5}}
    losses = []
    for count, more in ((1, {"use_cpu": True}), (2, {"context_parallel": 2, "ddp_backend": "gloo"})):
        words = make_words(corpus, tmp_path / str(count), **{**options, **more})
        command = [sys.executable, "-m", "gengram", "pretrain", *words]
        if count == 2:
            launch = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS["ddp"]), "--num_processes", "2"]
            command[1:1] = [*launch, "--main_process_port", "0"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [json.loads(line) for line in (tmp_path / str(count) / "log.jsonl").read_text().splitlines()]
        names = ("loss", "bits_per_base", "eval_bits_per_base", "grad_norm")
        losses.append([line[name] for line in lines for name in names if name in line])
    assert len(losses[0]) >= 14 and losses[1] == pytest.approx(losses[0], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_parallel": 2}, "1 processes cannot be divided into groups of 2"),
        ({"context_parallel": 2, "pack": True}, "of one document each, can be shared"),
    ],
)
def test_a_run_that_cannot_share_says_so(changes, message, corpus, tmp_path, capsys):
    from gengram.training.pretraining.command import pretrain
    from tests.training.pretraining.commands import make_words

    assert pretrain(make_words(corpus, tmp_path / "out", **changes)) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_block_of_32k_tokens():
    assert max(found["long"] for found in run_both("long")) < 1e-6


@pytest.mark.parametrize(
    ("config", "size", "tokens", "processes", "message"),
    [
        (LlamaConfig(**SIZE), 2, 96, 3, "3 processes cannot be divided into groups of 2"),
        (LlamaConfig(**SIZE), 2, 98, 2, "98 tokens cannot be cut so"),
        (MistralConfig(**SIZE, sliding_window=8), 2, 96, 2, "a mistral with windows of attention cannot be spread"),
    ],
)
def test_what_cannot_be_shared(config, size, tokens, processes, message):
    with pytest.raises(InputError, match=message):
        check_shared(config, size, tokens, processes)
    with pytest.raises(InputError, match=message):
        check_shared(GengramConfig(backbone_config=config, memory_layers=[0]), size, tokens, processes)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2], sys.argv[3])
