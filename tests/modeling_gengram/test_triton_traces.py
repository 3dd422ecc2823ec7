"""The memory on a GPU as graphs: traced without numbers, forward and backward, without a break or a wait.

No kernel runs: the operators tell shapes (their fake kernels), or give memory that nobody has written. Triton's
interpreter has to be asked for before triton is imported: `test_triton_interpreter.py` runs this file so.
"""

import contextlib
import gc
import os

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import LlamaConfig

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("test_triton_interpreter.py runs it", allow_module_level=True)
pytest.importorskip("triton")

from kept_storages import watch_allocations
from launch_counts import WAITS
from triton.runtime.interpreter import InterpretedFunction

from gengram import GengramConfig, GengramForCausalLM, MotifMemory
from gengram.gengram import motif_memory
from gengram.gengram.kmer_index import KmerContext

D, T = 16, 40
FIELDS = {"memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 9}
PRESETS = {
    "released": {},
    "paper": {"memory_preset": "paper"},
    "centred": {"center_window": True, "tie_reverse_complement": True},
}
FORMS = ["triton", "triton_pooled"]


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    """Neither launches, nor the trial of the kernels: both are other tests'."""
    monkeypatch.setattr(InterpretedFunction, "run", lambda self, *args, **kwargs: None)
    monkeypatch.setattr(motif_memory, "can_run_kernels", lambda device, dtype, memory: True)


def make_config(**fields) -> GengramConfig:
    backbone = LlamaConfig(
        hidden_size=D, intermediate_size=24, num_attention_heads=2, num_hidden_layers=2, vocab_size=16, pad_token_id=0
    )
    return GengramConfig(backbone_config=backbone, **{"memory_layers": [0, 1], **FIELDS, **fields})


def make_memory(form: str, **fields) -> MotifMemory:
    torch.manual_seed(0)
    memory = MotifMemory(make_config(**fields))
    memory.path = form
    return memory


def make_model(form: str, **fields) -> GengramForCausalLM:
    torch.manual_seed(0)
    model = GengramForCausalLM(make_config(**fields))
    for module in model.modules():
        if isinstance(module, MotifMemory):
            module.path = form
    return model


def make_input(packed: bool = True) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Letters and documents [2, T], hidden states [2, T, D]."""
    letters = torch.randint(-1, 5, (2, T), generator=torch.Generator().manual_seed(0))
    documents = torch.arange(T).div(15, rounding_mode="floor").repeat(2, 1) if packed else None
    return letters, documents, torch.randn(2, T, D)


def assert_no_waits(graph: torch.fx.Graph) -> None:
    names = {str(node.target).split(".")[1] for node in graph.nodes if str(node.target).startswith("aten.")}
    assert not names & WAITS, names & WAITS
    assert not any(node.target is torch.ops.aten.sym_size for node in graph.nodes)
    ours = [node for node in graph.nodes if "gengram" in str(node.target)]
    assert ours, "no operator of ours in the graph"


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", FORMS)
def test_forward_and_backward_without_numbers(form, preset, device, monkeypatch):
    """FakeTensor refuses what depends on numbers; on the meta device also what is made on another device."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no meta device
    mode = FakeTensorMode() if device == "cpu" else contextlib.nullcontext()
    with mode, torch.device(device):
        memory = make_memory(form, **PRESETS[preset])
        letters, documents = torch.zeros(2, 2, T, dtype=torch.int64)
        hidden = torch.zeros(2, T, D, requires_grad=True)
    with mode:
        residual = memory(hidden, KmerContext(letters, documents, letters >= 0))
        assert residual.shape == hidden.shape and residual.device.type == device
        leaves = [hidden, *memory.parameters()]
        for leaf, gradient in zip(leaves, torch.autograd.grad(residual.sum(), leaves)):
            assert (gradient.shape, gradient.dtype, gradient.device) == (leaf.shape, leaf.dtype, leaf.device)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", FORMS)
def test_traced_step_has_no_data_dependent_operation(form, preset):
    """One graph of forward and backward pass together."""
    memory = make_memory(form, **PRESETS[preset])
    letters, documents, hidden = make_input()
    names = [name for name, _ in memory.named_parameters()]

    def step(hidden, letters, documents, *weights):
        context = KmerContext(letters, documents, letters >= 0)
        residual = torch.func.functional_call(memory, dict(zip(names, weights)), (hidden, context))
        return torch.autograd.grad(residual.sum(), [hidden, *weights])

    leaves = [x.detach().requires_grad_() for x in (hidden, *memory.parameters())]
    graph = make_fx(step, tracing_mode="fake")(leaves[0], letters, documents, *leaves[1:])
    assert_no_waits(graph.graph)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [False, True])
def test_memory_exports(form, preset, training):
    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = make_memory(form, **PRESETS[preset])

        def forward(self, letters, documents, hidden):
            return self.memory(hidden, KmerContext(letters, documents))

    program = torch.export.export(Called().train(training), make_input(), strict=True)
    assert_no_waits(program.graph)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("form", FORMS)
def test_model_exports(form, preset):
    model = make_model(form, **PRESETS[preset]).eval()
    ids = torch.randint(5, 9, (2, T))
    program = torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=False)
    assert_no_waits(program.graph)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("form", FORMS)
def test_training_step_of_a_model_compiles_without_a_break(form, preset):
    model = make_model(form, **PRESETS[preset])
    ids = torch.randint(5, 9, (2, 24))

    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert all(weight.grad is not None and weight.grad.shape == weight.shape for weight in model.parameters())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", FORMS)
def test_training_keeps_nothing_but_its_gradients(form, preset):
    """Every call of a captured step must find its memory as the capture left it: nothing else is alive behind it."""
    memory = make_memory(form, **PRESETS[preset])
    letters, documents, hidden = make_input()
    hidden.requires_grad_()
    for _ in range(2):
        memory.zero_grad()
        hidden.grad = None
        with watch_allocations() as made:
            residual = memory(hidden, KmerContext(letters, documents))
            residual.sum().backward()
        gradients = [x.grad for x in (hidden, *memory.parameters())]
        assert made.find_kept((residual.detach(), gradients)) == []
        del residual


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", FORMS)
def test_evaluation_keeps_nothing_once_its_tables_are_made(form, preset):
    memory = make_memory(form, **PRESETS[preset]).eval()
    letters, documents, hidden = make_input()
    with torch.no_grad():
        memory(hidden, KmerContext(letters, documents))
        with watch_allocations() as made:
            residual = memory(hidden, KmerContext(letters, documents))
    assert made.find_kept(residual) == []
    gc.collect()
    del residual
    assert made.find_kept() == []


@pytest.mark.parametrize("form", FORMS)
def test_model_keeps_nothing_but_its_gradients(form):
    model = make_model(form)
    ids = torch.randint(5, 9, (2, 24))
    for _ in range(2):
        model.zero_grad()
        with watch_allocations() as made:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
        kept = made.find_kept((loss.detach(), [x.grad for x in model.parameters()]))
        del loss
    assert kept == []


def test_index_is_made_once_for_every_layer(monkeypatch):
    """A model's memories read one index."""
    calls = []
    made = motif_memory.find_reads

    def find(*args, **kwargs):
        calls.append(args)
        return made(*args, **kwargs)

    monkeypatch.setattr(motif_memory, "find_reads", find)
    make_model("triton")(input_ids=torch.randint(5, 9, (2, 24)), use_cache=False)
    assert len(calls) == 1
