"""The rotation of queries and keys by their positions (RoFormer, arXiv:2104.09864), in few passes over memory.

With x1 and x2 the halves of a head, and c, s the cosines and sines of the positions in float32:

    y1 = x1 c - x2 s        y2 = x2 c + x1 s

Written with whole tensors, x c + rotate_half(x) s reads and writes 50 bytes a number in half precision: two copies in
float32, a negation, a concatenation, two products, a sum and the way back. Here the products of a half are made once in
float32, and the second operator adds the other ones and rounds into the result: 14 bytes. The limit, one kernel that
reads and writes once, is 4.

Letters: B batch, T tokens, h heads, d width of a head.
"""

import torch
from torch.autograd.function import FunctionCtx


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """
    Args:
        x (`torch.Tensor` [B, h, T, d]): queries or keys, d even.
        cosines, sines (`torch.Tensor` float32 [B or 1, T, d / 2]): of each position, and times any factor that the
            result is to have.

    Returns:
        `torch.Tensor` [B, h, T, d] in the dtype of x; computed in float32 or better and rounded once.
    """
    cosines, sines = cosines[:, None], sines[:, None]
    if torch.compiler.is_compiling():  # a compiler fuses the plain formula
        return _rotate_plainly(x, cosines, sines)
    return _Rotation.apply(x, cosines, sines)


def _rotate_plainly(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1).to(x.dtype)


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation by the opposite angle: nothing but the angles is kept."""

    @staticmethod
    def forward(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        rotated = torch.empty_like(x)
        (first, second), (to_first, to_second) = x.chunk(2, dim=-1), rotated.chunk(2, dim=-1)
        torch.addcmul(first * cosines, second, sines, value=-1, out=to_first)
        torch.addcmul(second * cosines, first, sines, out=to_second)
        return rotated

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _Rotation.apply(gradients[0], cosines, -sines), None, None


__all__ = ["rotate"]
