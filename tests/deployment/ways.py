"""The ways to take a model elsewhere, each as a function that says how far its answers are from the model's own.

What a graph leaves open is the batch and, where the family allows it, the length: a graph is made at one length and run
at another, with another batch.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conformance.testers import TESTERS, Tester
from transformers import PreTrainedModel

ROWS = (2, 3)
MORE = 12
"""Sequences of the two batches, and by how many tokens the second is longer."""


class Lengths(NamedTuple):
    """Numbers of tokens that a family takes: `multiple * n + offset`, `shortest` or more."""

    multiple: int = 1
    offset: int = 0
    shortest: int = 2


LENGTHS: dict[str, Lengths | None] = {
    # Blocks of two tokens; fewer than 15 are read by full attention, which is another graph.
    "big_bird": Lengths(2, shortest=16),
    # Halved twice; SegmentNT has <cls> besides.
    "segment_nt": Lengths(4, 1, shortest=9),
    "ntv3": Lengths(4, shortest=8),
    "ntv3_posttrained": Lengths(4, shortest=8),
    # The number of segments is that of the steps of the graph.
    "rmt": None,
}
"""Row of a tester -> lengths, where they are not any; None: a graph has one length."""


class Refused(Exception):
    """A way that is not open, said by whoever closes it."""


def tell(error: Exception) -> str:
    """An error in one line, with what it came from, without colours."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(f"{type(cause).__name__}: {re.sub(chr(27) + r'[[][0-9;]*m', '', str(cause))}")
        cause = cause.__cause__
    return " ".join(" <- ".join(reversed(said)).split())[:300]


@dataclasses.dataclass
class Case:
    """A model and two batches, what it says of them, and what of their shapes a graph leaves open."""

    model: PreTrainedModel
    batches: list[dict[str, Any]]
    answers: list[dict[str, torch.Tensor]]
    shapes: dict[str, Any]

    @functools.cached_property
    def program(self) -> torch.export.ExportedProgram:
        with torch.no_grad():
            batch = dict(self.batches[0])
            return torch.export.export(self.model, (), batch, dynamic_shapes=self.shapes, strict=False)


def build_model(name: str, auto: str) -> PreTrainedModel:
    """A small model, always the same, with weights that are large enough for a fault to show."""
    torch.manual_seed(0)
    tester = TESTERS[name]
    model = tester.list_classes()[auto](tester.build_configuration()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model


def draw_batch(tester: Tester, model: PreTrainedModel, rows: int, tokens: int) -> dict[str, Any]:
    """Ids, a mask with padding at the end of the last row, and what the family needs besides."""
    batch = dataclasses.replace(tester, tokens=tokens).draw_inputs(model.config, rows)
    batch["attention_mask"][-1, -5:] = 0
    batch["input_ids"][-1, -5:] = model.config.get_text_config().pad_token_id or 0
    if "use_cache" in inspect.signature(model.forward).parameters:
        batch["use_cache"] = False
    return batch


def make_case(name: str, auto: str) -> Case:
    """Build a model and what it is asked and answers."""
    tester, model = TESTERS[name], build_model(name, auto)
    lengths = LENGTHS.get(tester.row, Lengths())
    more = 0 if lengths is None else MORE
    batches = [draw_batch(tester, model, *size) for size in zip(ROWS, (tester.tokens, tester.tokens + more))]
    shapes: dict[str, Any] = {}
    for argument, value in batches[0].items():
        if isinstance(value, torch.Tensor):
            shapes[argument] = {0: torch.export.Dim("batch", max=64)}
            if value.dim() > 1 and lengths is not None:
                shapes[argument][1] = _describe_length(lengths, model)
        else:
            shapes[argument] = None
    with torch.no_grad():
        return Case(model, batches, [read_tensors(model(**batch)) for batch in batches], shapes)


def _describe_length(lengths: Lengths, model: PreTrainedModel) -> Any:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 64
    longest -= 2  # positions of RoBERTa and ESM begin behind padding's
    if lengths.multiple == 1:
        return torch.export.Dim("length", min=lengths.shortest, max=longest)
    least, most = ((bound - lengths.offset) // lengths.multiple for bound in (lengths.shortest, longest))
    return lengths.multiple * torch.export.Dim("parts", min=least, max=most) + lengths.offset


def read_tensors(outputs: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def measure(
    found: list[dict[str, torch.Tensor]],
    expected: list[dict[str, torch.Tensor]],
    masks: list[torch.Tensor] | None = None,
) -> float:
    """
    The largest difference of any number of an answer, as a share of the largest number there where that is above 1.

    Args:
        found, expected: answers to each batch.
        masks: [B, T] of each batch; what stands at padding is not compared: a row of attention that sees nothing (in a
            local window) may be anything, and runtimes differ in what.

    Raises:
        AssertionError: another answer, by names, shapes, or numbers that are none.
    """
    worst = 0.0
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys(), f"{sorted(one)} in place of {sorted(other)}"
        for name, value in other.items():
            assert one[name].shape == value.shape, f"{name}: {tuple(one[name].shape)} in place of {tuple(value.shape)}"
            given = one[name]
            if masks is not None and value.shape[:2] == masks[index].shape:
                given, value = (tensor[masks[index].bool()] for tensor in (given, value))
            assert bool(given.isfinite().all()), f"{name} is not finite"
            worst = max(worst, float((given - value).abs().max() / value.abs().max().clamp(min=1.0)))
    return worst


def try_export(case: Case) -> float:
    run = case.program.module()
    with torch.no_grad():
        return measure([read_tensors(run(**batch)) for batch in case.batches], case.answers)


def try_compile(case: Case, backend: str = "aot_eager") -> float:
    """One graph, without a break; other shapes are compiled again."""
    torch._dynamo.reset()
    try:
        compiled = torch.compile(case.model, fullgraph=True, backend=backend)
        with torch.no_grad():
            return measure([read_tensors(compiled(**batch)) for batch in case.batches], case.answers)
    finally:
        torch._dynamo.reset()


def try_onnx(case: Case) -> float:
    """The exported program as ONNX, run by onnxruntime."""
    import onnxruntime

    said = io.StringIO()
    with contextlib.redirect_stdout(said), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(case.program, dynamo=True, verbose=False, optimize=False).save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = []
        for batch, answer in zip(case.batches, case.answers):
            values = session.run(None, {one.name: batch[one.name].numpy() for one in session.get_inputs()})
            found.append(dict(zip(answer, map(torch.from_numpy, values), strict=True)))
    return measure(found, case.answers, [batch["attention_mask"] for batch in case.batches])


ONE_PROCESS: dict[str, Callable[[Case], float]] = {"export": try_export, "compile": try_compile, "onnx": try_onnx}


def list_cases(names: list[str], way: str) -> list[tuple[str, str]]:
    """
    Variants and Auto classes: with two processes every head of the first variant of a row and the last head of others.

    A graph takes its time, and a head adds a few products to that of the encoder or decoder: the last head of each. It
    is compiled and translated for the first variant of a row only.
    """
    cases, rows = [], set()
    for name in names:
        first = TESTERS[name].row not in rows
        rows.add(TESTERS[name].row)
        heads = list(TESTERS[name].list_classes())
        if first or way not in ("compile", "onnx"):
            cases += [(name, auto) for auto in (heads if first and way not in ONE_PROCESS else heads[-1:])]
    return cases
