"""Does a model need as many bits for a window as for its other strand? Genes lie on both, so a model of DNA should."""

import math

import numpy as np

from gengram.training.evaluation.bits_per_base import WindowBits


def summarise_strands(forward: WindowBits, backward: WindowBits) -> dict[str, float]:
    """Return how far two readings of the same windows are apart.

    Args:
        forward, backward: of the windows and of their reverse complements.

    Returns:
        `strand/forward_bits` and `strand/reverse_bits` per base, `strand/difference` (the mean over windows of forward
        minus reverse: 0 where neither strand is the easier one), `strand/gap` (the mean of its absolute value: 0 where
        the model treats both alike in every window) and `strand/bases` of the forward strand. Empty where no window
        has a base.
    """
    known = (forward.bases > 0) & (backward.bases > 0)
    if not known.any():
        return {}
    sides = [(one.nats[known] / one.bases[known] / math.log(2)) for one in (forward, backward)]
    total = [math.fsum(one.nats[known]) / math.fsum(one.bases[known]) / math.log(2) for one in (forward, backward)]
    return {
        "strand/forward_bits": total[0],
        "strand/reverse_bits": total[1],
        "strand/difference": float(np.mean(sides[0] - sides[1])),
        "strand/gap": float(np.mean(np.abs(sides[0] - sides[1]))),
        "strand/bases": int(math.fsum(forward.bases[known])),
    }


__all__ = ["summarise_strands"]
