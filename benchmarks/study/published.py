"""What does the paper report? Validation losses with and without the memory of the six architectures, its Figure 4.

Read off the bars of the figure in arXiv 2601.22203, so to about 0.0005. The figure gives no unit, interval or number of
seeds. They are of 0.3 billion parameters that a token meets, 12 layers, blocks of 8,192 bases, memory before layers 3,
6 and 10.
"""

import math

SOURCE = "arXiv 2601.22203, Figure 4, read off the figure"
LOSSES = {
    "dense-mha": (0.9764, 0.9634),
    "dense-gqa": (0.9787, 0.9658),
    "dense-mla": (0.9657, 0.9654),
    "moe-mha": (0.9477, 0.9435),
    "moe-gqa": (0.9566, 0.9448),
    "moe-mla": (0.9509, 0.9460),
}
"""Architecture -> loss without and with memory."""


def find_published(architecture: str) -> dict[str, float]:
    """
    Return what the paper has of an architecture.

    Returns:
        `none` and `memory`, the losses; `difference`, memory minus none; `difference_in_bits`, the same in bits a base
        if the loss is in nats, as losses of language models are.
    """
    none, memory = LOSSES[architecture]
    difference = memory - none
    return {
        "none": none,
        "memory": memory,
        "difference": round(difference, 4),
        "difference_in_bits": round(difference / math.log(2), 4),
    }


__all__ = ["LOSSES", "SOURCE", "find_published"]
