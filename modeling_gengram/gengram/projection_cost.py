"""When it pays, on a GPU and in training, to project the tables of a memory instead of the positions.

All rows are projected: choosing those in use would make the host wait for the device. The numbers are of an H100 in
bfloat16, torch 2.11; only their ratios matter, which other GPUs of the kind share.
"""

from .kmer_index import NUM_LETTERS, KmerWindow

LAUNCH = 9e-6  # seconds of the host a launch (1,000 small operations: 9.2 ms)
MORE_LAUNCHES = 16  # of the projected form: a product a size twice, merging, sums of gradients in parts
POSITION_RATE = 650e12  # operations a second in the products of many positions
# In those of 19,530 rows, D = E = 1024: 227 microseconds forward and 413 backward for 246 GFLOP.
ROW_RATE = 385e12
# Seconds a column and position that a layer reads. Forward 102 microseconds for 8,192 positions, two layers and 2,048
# columns; backward 2 bytes read, 4 written and 4 read at 2.8 TB/s.
READ = 102e-6 / (8192 * 2 * 2048) + 10 / 2.8e12


def pays_to_project(tokens: int, window: KmerWindow, memory_dim: int, hidden_size: int) -> bool:
    """
    Whether projected tables take less time, forward and backward, than products of pooled positions. For the paper's
    sizes with E = D = 1024 that is from 6,000 tokens of the released window and 10,400 of the paper's, in which nothing
    merges; for (E, D) = (128, 256), where launches count, from 85,000 and never.

    Args:
        tokens (`int`): of all sequences. window (`KmerWindow`), memory_dim (`int`): E, hidden_size (`int`): D.
    """
    sizes, columns = window.kmer_sizes, 2 * hidden_size
    merges = window.size is not None and not window.deduplicate
    products = 3 * 2 * memory_dim * columns  # operations a row, forward and backward
    rows = sum(NUM_LETTERS**k for k in sizes)
    pooled = tokens * len(sizes) * (products / POSITION_RATE + memory_dim * READ)
    layers = min(2, max(sizes)) if merges else len(sizes)
    projected = rows * products / ROW_RATE + tokens * layers * columns * READ + MORE_LAUNCHES * LAUNCH
    return projected < pooled


__all__ = ["pays_to_project"]
