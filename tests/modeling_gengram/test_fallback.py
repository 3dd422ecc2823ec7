"""A kernel that should run and does not: one line, once, with everything in it; an error where kernels are required."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from gengram import MotifMemory
from gengram.benchmarks.doctor.kernels import ALLOWED
from gengram.benchmarks.speed.measure import refuse_fallbacks
from gengram.errors import InputError
from gengram.gengram import cpu_library, fallback, gpu_kernel, kernel_trial
from gengram.gengram.fallback import Fallback, KernelError, fall_back, require_kernels, shorten_reason

ONE = Fallback("Kernels", "a reason", "ten times slower", "do something")


@pytest.fixture
def told(monkeypatch):
    """What is said from now on, and nothing of what was said or tried before."""
    said = []
    monkeypatch.setattr(fallback.logger, "warning", said.append)
    for cached in (fallback._tell_once, gpu_kernel._try_kernels, cpu_library._load):
        cached.cache_clear()
    yield said
    for cached in (fallback._tell_once, gpu_kernel._try_kernels, cpu_library._load):
        cached.cache_clear()


def test_a_fallback_is_told_once_in_one_line_with_everything_that_matters(told):
    for _ in range(3):
        fall_back(ONE)
    assert len(told) == 1 and "\n" not in told[0]
    assert all(word in told[0] for word in (ONE.kernel, ONE.reason, ONE.cost, ONE.remedy))


def test_where_kernels_are_required_every_fallback_is_an_error(told):
    fall_back(ONE)
    with require_kernels(), require_kernels():
        for _ in range(2):
            with pytest.raises(KernelError, match="a reason"):
                fall_back(ONE)
    fall_back(ONE)
    assert len(told) == 1


def test_the_benchmark_refuses_fallbacks_on_a_gpu_alone(told):
    with pytest.raises(InputError, match=r"a reason.*Nothing else is measured on a GPU"), refuse_fallbacks("cuda"):
        fall_back(ONE)
    with refuse_fallbacks("cpu"):
        fall_back(ONE)
    assert len(told) == 1


@pytest.fixture
def gpu(monkeypatch):
    """As if there was a GPU, on which kernels do what `fail` says."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(gpu_kernel, "INTERPRETED", False)
    monkeypatch.setattr(gpu_kernel, "missing", None)

    def fail(reason):
        def run_once(device, dtype, memory):
            if isinstance(reason, Exception):
                raise reason
            return reason

        monkeypatch.setattr(gpu_kernel, "_run_once", run_once)

    return fail


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (AttributeError("'int' object has no attribute 'to'"), "AttributeError: 'int' object has no attribute 'to'"),
        (RuntimeError("first\nptxas fatal error: no sm_50\nlast"), "ptxas fatal error: no sm_50"),
        ("the results of triton (paper) are wrong, error of the values inf", "are wrong"),
    ],
)
def test_kernels_that_do_not_run_on_a_gpu(reason, said, gpu, told):
    gpu(reason)
    for _ in range(2):
        assert gpu_kernel.can_run_kernels("cuda", torch.bfloat16, MotifMemory) is False
    assert len(told) == 1 and said in told[0] and "bfloat16" in told[0] and "gengram doctor" in told[0]
    with require_kernels(), pytest.raises(KernelError, match="Triton kernels"):
        gpu_kernel.can_run_kernels("cuda", torch.bfloat16, MotifMemory)
    # What is not for them is no fallback.
    with require_kernels():
        assert gpu_kernel.can_run_kernels("cuda", torch.float64, MotifMemory) is False
        assert gpu_kernel.can_run_kernels("cpu", torch.float32, MotifMemory) is False


def test_memory_that_runs_out_in_a_trial_is_no_fault_of_the_kernels(gpu, told):
    gpu(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        gpu_kernel.can_run_kernels("cuda", torch.bfloat16, MotifMemory)
    gpu(None)
    assert gpu_kernel.can_run_kernels("cuda", torch.bfloat16, MotifMemory) is True
    assert not told


def test_no_trial_while_a_graph_is_captured(gpu, told, monkeypatch):
    capturing = True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    gpu(None)
    with pytest.raises(RuntimeError, match="before the capture"):
        gpu_kernel.can_run_kernels("cuda:1", torch.bfloat16, MotifMemory)
    capturing = False
    assert gpu_kernel.can_run_kernels("cuda:1", torch.bfloat16, MotifMemory)
    capturing = True
    assert gpu_kernel.can_run_kernels(torch.device("cuda", 1), torch.bfloat16, MotifMemory)
    assert not told


def test_kernels_are_tried_on_the_device_of_the_tensors(gpu, told, monkeypatch):
    tried = []
    monkeypatch.setattr(gpu_kernel, "_run_once", lambda device, dtype, memory: tried.append(str(device)))
    for device in ("cuda", "cuda:0", "cuda:1", torch.device("cuda:1")):
        assert gpu_kernel.can_run_kernels(device, torch.float32, MotifMemory)
    assert tried == ["cuda:0", "cuda:1"]


def test_without_triton_a_gpu_gets_the_line(gpu, told, monkeypatch):
    monkeypatch.setattr(gpu_kernel, "missing", ModuleNotFoundError("No module named 'triton'"))
    assert gpu_kernel.can_run_kernels("cuda", torch.float32, MotifMemory) is False
    assert "No module named 'triton'" in told[0] and "pip install triton" in told[0]


@pytest.mark.parametrize("errors", [(0.3, 0.3, 0.3), (0.0, 0.0, 0.3), (0.0, 0.0, float("inf"))])
def test_a_wrong_result_is_a_fault(errors, monkeypatch):
    found = kernel_trial.Found(*errors)
    monkeypatch.setattr(gpu_kernel, "try_memory", lambda *a, **k: found)
    assert "are wrong" in gpu_kernel._run_once(torch.device("cpu"), torch.float32, MotifMemory)


def test_a_compiler_that_is_none(told, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert cpu_library.load_kernel() is None
    assert "false cannot compile" in told[0] and "CXX" in told[0]
    with require_kernels(), pytest.raises(KernelError, match="C\\+\\+ kernels"):
        cpu_library.load_kernel()


@pytest.mark.skipif(cpu_library.load_kernel() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_trial_finds_the_compiled_kernel_right_and_leaves_the_caller_alone(dtype):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.inference_mode(), torch.device("meta"):
        found = kernel_trial.try_memory(MotifMemory, "fused", "released", torch.device("cpu"), dtype)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.evaluation < 1e-6 and found.training < 1e-6 and found.gradients < 1e-5


@pytest.mark.parametrize("preset", kernel_trial.PRESETS)
@pytest.mark.parametrize("scale", [kernel_trial.FULL, kernel_trial.SMALL])
def test_rounding_alone_is_far_from_what_a_trial_allows(preset, scale):
    """Of both gates and in 16 bits, so that a kernel which is right is never called wrong."""
    for dtype in (torch.float16, torch.bfloat16):
        found = kernel_trial.try_memory(MotifMemory, "lifetime", preset, torch.device("cpu"), dtype, scale)
        values, gradients = ALLOWED[str(dtype).removeprefix("torch.")]
        assert max(found.evaluation, found.training) < values / 3 and found.gradients < gradients / 5


def test_a_trial_finds_wrong_values(monkeypatch):
    """The merged form with other tables."""
    from gengram.gengram import motif_memory

    merge = motif_memory.merge_tables

    def spoil(*arguments):
        merged = merge(*arguments)
        merged.rows.data += 1
        return merged

    right = kernel_trial.try_memory(MotifMemory, "merged", "released", torch.device("cpu"), torch.float32)
    monkeypatch.setattr(motif_memory, "merge_tables", spoil)
    wrong = kernel_trial.try_memory(MotifMemory, "merged", "released", torch.device("cpu"), torch.float32)
    assert right.training < 1e-6 and wrong.training > 1e-2


def test_the_trial_launches_every_kernel():
    """Of the files of kernels, under the interpreter; in a process of its own, as triton reads the variable once."""
    pytest.importorskip("triton")
    code = """
        import sys
        sys.path.insert(0, FOLDER)
        import torch
        from kernel_launches import record_launches
        from gengram import MotifMemory
        from gengram.gengram import gpu_kernel

        with torch.inference_mode(), record_launches() as launches:
            assert gpu_kernel.can_run_kernels("cpu", torch.float32, MotifMemory)
        launched = {launch.name for launch in launches}
        files = [module for name, module in sys.modules.items() if name.startswith("gengram.gengram.triton_")]
        kernels = {value.fn.__name__ for module in files for value in vars(module).values()
                   if type(value).__name__ in ("InterpretedFunction", "Autotuner")}
        # Kernels are what is launched; other functions are called by kernels.
        called = {name for name in kernels if not name.endswith("_kernel")}
        assert launched and not kernels - launched - called, kernels - launched - called
    """.replace("FOLDER", repr(os.path.dirname(__file__)))
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", gpu_kernel.DTYPES, ids=str)
def test_every_kernel_runs_on_a_gpu(dtype):
    assert gpu_kernel.can_run_kernels("cuda", dtype, MotifMemory)


def test_of_a_compilers_answer_the_first_line_about_an_error_is_told():
    assert shorten_reason("In file:\nx.cpp:1: error: no such thing\n  int\n") == "x.cpp:1: error: no such thing"
    triton = (
        "CompilationError: at 12:4:\ndef kernel(n):\n    n.to(tl.int64)\n    ^\nAttributeError(\"'int' has no 'to'\")"
    )
    assert shorten_reason(triton) == "CompilationError: at 12:4: AttributeError(\"'int' has no 'to'\")"
    assert shorten_reason("a line.\nanother") == "a line" and shorten_reason("") == "it says nothing"
    assert len(shorten_reason("error " * 1000)) == 300
