"""What the tests of the Triton kernels share: where they run, and their inputs beside the same numbers in float64."""

import os

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

# A relative L2 error of float32, and of one (rows, gradients) or several (merged tables) roundings to half precision.
ALLOWED = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def make_letters(B: int, S: int) -> torch.Tensor:
    """Bases with N, invalid tokens, padding on the left and a run of one letter."""
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(0, 4, (B, S), generator=generator)
    noise = torch.rand(B, S, generator=generator)
    letters[noise < 0.03] = 4
    letters[noise > 0.97] = -1
    letters[0, : S // 3] = 0
    letters[-1, : S // 5] = -1
    return letters.to(DEVICE)


def make_documents(B: int, S: int) -> torch.Tensor:
    return (torch.rand(B, S, generator=torch.Generator().manual_seed(1)) < 0.05).cumsum(1).to(DEVICE)


def make_weights(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Random leaves in the dtype, and the same numbers in float64."""
    generator = torch.Generator().manual_seed(2)
    rounded = [torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_() for shape in shapes]
    return rounded, [weight.detach().double().requires_grad_() for weight in rounded]


def assert_near(ours: torch.Tensor, exact: torch.Tensor, allowed: float) -> None:
    error = float((ours.detach().double() - exact.detach()).norm() / exact.detach().norm().clamp(min=1e-12))
    assert error <= allowed, f"{error:.1e}"


def compare(ours, exact, leaves, exact_leaves, dtype) -> None:
    """Values, and gradients of a random cotangent that both see in the same, rounded form."""
    assert_near(ours, exact, ALLOWED[dtype])
    cotangent = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE, ours.dtype)
    found = torch.autograd.grad(ours, leaves, cotangent)
    for gradient, expected in zip(found, torch.autograd.grad(exact, exact_leaves, cotangent.double())):
        assert gradient.dtype == dtype
        assert_near(gradient, expected, ALLOWED[dtype])
