"""A memory over a long sequence, a piece at a time: what evaluation holds does not grow with the sequence.

A position depends on the letters of its window and, through the convolution, on the gated vectors of a few positions
before it. A piece that begins that much earlier, the halo, gives the same values as the whole; the halo is dropped.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from .kmer_index import KmerContext, KmerWindow

CHUNK = 8192  # positions at a time; a few hundred megabytes at D = 4096


def slice_context(context: KmerContext, window: KmerWindow, start: int, stop: int) -> KmerContext:
    """
    The context of the positions `start` to `stop` of a longer one.

    Args:
        context (`KmerContext`): of T positions after H of history.

    Returns:
        `KmerContext` of stop - start positions, with as much history as there is and the window needs. What the GPU
        kernels read is cut out, not made anew: the values are those of the whole.
    """
    begin = context.history + start
    history = min(begin, window.history)
    place = slice(begin - history, context.history + stop)
    return replace(
        context,
        letters=context.letters[:, place],
        documents=None if context.documents is None else context.documents[:, place],
        real=None if context.real is None else context.real[:, start:stop],
        history=history,
        reads=None if context.reads is None else context.reads.narrow(place.start, place.stop),
    )


def run_in_chunks(
    run: Callable[[torch.Tensor, KmerContext], torch.Tensor],
    hidden_states: torch.Tensor,
    context: KmerContext,
    window: KmerWindow,
    reach: int,
    chunk: int = CHUNK,
) -> torch.Tensor:
    """
    Run a memory over pieces of a sequence.

    Args:
        run: the memory: hidden states and context of the same positions -> residual.
        hidden_states (`torch.Tensor` [B, T, D]), context (`KmerContext`): of all positions.
        reach (`int`): positions before one whose gated vectors its convolution reads.
        chunk (`int`): positions at a time.

    Returns:
        `torch.Tensor` [B, T, D], as `run` would give for all positions at once.
    """
    T = hidden_states.shape[1]
    # A cache hands the gated vectors of one piece to the next by itself.
    before = 0 if context.state is not None else reach
    after = max(-window.first_lag, 0)  # letters to the right that a centred window sees
    residual = torch.empty_like(hidden_states)
    for begin in range(0, T, chunk):
        end = min(begin + chunk, T)
        start, stop = max(begin - before, 0), min(end + after, T)
        piece = run(hidden_states[:, start:stop], slice_context(context, window, start, stop))
        residual[:, begin:end] = piece[:, begin - start : end - start]
    return residual


__all__ = ["CHUNK", "run_in_chunks", "slice_context"]
