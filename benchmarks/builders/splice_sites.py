"""A small splice-site task, simulated from published frequencies, that no count of k-mers can solve.

A site is a sequence with a donor or an acceptor signal at its centre. Its decoy is the same sequence with two blocks
interchanged, so that the signal sits elsewhere while every k-mer count for k = 1..6 stays what it was. Position is the
only evidence: a model of k-mer counts gives both the same answer and scores exactly chance.

Sources of the numbers
    Donor, acceptor and branch-point profiles: Zhang (1998) "Statistical features of human exons and their flanking
    regions", Hum Mol Genet 7:919-932, the profiles of loci with low G+C content, as reprinted in table 14.3 of Deonier,
    Tavare and Waterman (2005) "Computational Genome Analysis", Springer. The reprint rounds to two digits; columns that
    add up to 0.99 are divided by their sum.
    Distance of the branch point: 21 to 34 bases from the end of the intron, where Gao et al. (2008) "Human branch point
    consensus sequence is yUnAy", Nucleic Acids Res 36:2257-2267, found 83 % of their clones; uniform here.
    Other bases: independent, with the G+C content of the human genome, 41 % (International Human Genome Sequencing
    Consortium 2001, Nature 409:860-921).

What is left out: dependence between positions, the pyrimidine tract upstream of the acceptor profile, codons in exons,
U12 and GC-AG introns, exonic enhancers. Scores on this task say nothing about real genes.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gengram.files import replace_whole

LENGTH = 100  # bp
CUT = LENGTH // 2  # index of the first base after the cut between exon and intron, in sites of both kinds
MAX_K = 6  # a decoy has its site's counts of every k-mer up to this k
MIN_SHIFT = 10  # bp that the signal of a decoy is away from the centre, at least
BRANCH_DISTANCE = (21, 34)  # bp from the branch point to the end of the intron, both ends included
BACKGROUND = np.array([0.295, 0.205, 0.205, 0.295])  # A, C, G, T

# Rows A, C, G, T; one column a position.
DONOR = np.array(  # 3 bp of the exon, then 6 bp of the intron
    [
        [0.38, 0.62, 0.12, 0.00, 0.00, 0.71, 0.73, 0.11, 0.21],
        [0.31, 0.10, 0.04, 0.00, 0.00, 0.02, 0.06, 0.06, 0.10],
        [0.18, 0.12, 0.77, 1.00, 0.00, 0.24, 0.08, 0.75, 0.14],
        [0.13, 0.16, 0.07, 0.00, 1.00, 0.03, 0.13, 0.08, 0.55],
    ]
)
ACCEPTOR = np.array(  # 15 bp of the intron, then 2 bp of the exon
    [
        [0.15, 0.14, 0.13, 0.11, 0.10, 0.10, 0.11, 0.12, 0.13, 0.11, 0.10, 0.26, 0.07, 1.00, 0.00, 0.26, 0.24],
        [0.24, 0.21, 0.20, 0.22, 0.21, 0.22, 0.25, 0.28, 0.28, 0.25, 0.22, 0.25, 0.55, 0.00, 0.00, 0.11, 0.15],
        [0.10, 0.12, 0.10, 0.09, 0.10, 0.09, 0.10, 0.10, 0.08, 0.05, 0.05, 0.15, 0.01, 0.00, 1.00, 0.50, 0.20],
        [0.51, 0.53, 0.57, 0.58, 0.59, 0.59, 0.54, 0.50, 0.51, 0.59, 0.63, 0.33, 0.37, 0.00, 0.00, 0.13, 0.41],
    ]
)
BRANCH = np.array(  # 5 bp, the branch point, 1 bp
    [
        [0.25, 0.25, 0.00, 0.00, 0.39, 1.00, 0.18],
        [0.19, 0.22, 0.60, 0.02, 0.24, 0.00, 0.33],
        [0.15, 0.17, 0.00, 0.00, 0.32, 0.00, 0.03],
        [0.41, 0.36, 0.40, 0.98, 0.05, 0.00, 0.46],
    ]
)

# First and last+1 base of each signal in a site; the branch point is no part of what a decoy must keep in one piece.
SIGNALS = {"donor": (CUT - 3, CUT + 6), "acceptor": (CUT - 15, CUT + 2)}


def draw_bases(rng: np.random.Generator, profile: np.ndarray) -> np.ndarray:
    """One base index (0..3 for A, C, G, T) for each column of a [4, positions] profile, independently; int64."""
    edges = np.cumsum(profile / profile.sum(axis=0), axis=0)[:-1]
    return (rng.random(profile.shape[1]) >= edges).sum(axis=0)


def draw_site(rng: np.random.Generator, kind: str) -> str:
    """One sequence of LENGTH bp with a donor or an acceptor whose cut is before base CUT."""
    bases = draw_bases(rng, np.tile(BACKGROUND[:, None], LENGTH))
    if kind == "acceptor":
        branch = CUT - rng.integers(*BRANCH_DISTANCE, endpoint=True)
        bases[branch - 5 : branch + 2] = draw_bases(rng, BRANCH)
    start, end = SIGNALS[kind]
    bases[start:end] = draw_bases(rng, DONOR if kind == "donor" else ACCEPTOR)
    return "".join("ACGT"[base] for base in bases)


def list_interchanges(sequence: str, k: int = MAX_K) -> Iterator[tuple[int, int, int, int]]:
    """Every (a, b, c, d) with a < b <= c < d whose blocks [a, b) and [c, d) can trade places without changing a count.

    The blocks begin with the same k-1 letters, and so do the two stretches that follow them. Read as a walk over
    (k-1)-mers, both blocks lead from the same vertex to the same vertex; trading them re-orders the steps of the walk,
    which are the k-mers, and leaves its first and last vertex alone. So all counts up to k stay. (Altschul and Erickson
    1985, Mol Biol Evol 2:526-538, permute sequences by drawing such walks at random.)
    """
    starts: defaultdict[str, list[int]] = defaultdict(list)
    repeats: list[tuple[int, int]] = []
    for end in range(len(sequence) - k + 2):
        word = sequence[end : end + k - 1]
        repeats += [(start, end) for start in starts[word]]
        starts[word].append(end)
    for a, c in repeats:
        for b, d in repeats:
            if a < b <= c < d:
                yield a, b, c, d


def measure_shift(interchange: tuple[int, int, int, int], start: int, end: int) -> int:
    """By how many bp an interchange moves [start, end); 0 where it stays, or where a block's edge cuts it."""
    a, b, c, d = interchange
    if a <= start and end <= b:
        return d - b
    if b <= start and end <= c:
        return (d - c) - (b - a)
    if c <= start and end <= d:
        return a - c
    return 0


def draw_pair(rng: np.random.Generator, kind: str) -> tuple[str, str]:
    """A site and its decoy: equal counts of every k-mer up to MAX_K, the signal whole but MIN_SHIFT bp or more away.

    Sites without such a decoy (about half of them, having too few repeated 5-mers) are drawn again.
    """
    while True:
        site = draw_site(rng, kind)
        fit = [x for x in list_interchanges(site) if abs(measure_shift(x, *SIGNALS[kind])) >= MIN_SHIFT]
        if fit:
            a, b, c, d = fit[rng.integers(len(fit))]
            return site, site[:a] + site[c:d] + site[b:c] + site[a:b] + site[d:]


def write_splice_sites(
    folder: str | os.PathLike[str],
    train_pairs: int = 2000,
    validation_pairs: int = 250,
    test_pairs: int = 1000,
    seed: int = 0,
) -> dict[str, Path]:
    """Write train.csv, validation.csv and test.csv, and return their paths by split.

    Columns: `sequence` (LENGTH bp), `label` (1 site, 0 decoy), `name` (`donor-12-site`: kind, number of the pair, which
    of the two). Donors and acceptors alternate; a site and its decoy are always in the same split. The same seed and
    sizes give the same files.
    """
    rng = np.random.default_rng(seed)
    paths = {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, pairs in (("train", train_pairs), ("validation", validation_pairs), ("test", test_pairs)):
        paths[split] = Path(folder) / f"{split}.csv"
        with replace_whole(paths[split]) as partial, open(partial, "w", newline="", encoding="ascii") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["sequence", "label", "name"])
            for number in range(pairs):
                kind = "acceptor" if number % 2 else "donor"
                site, decoy = draw_pair(rng, kind)
                rows.writerow([site, 1, f"{kind}-{number}-site"])
                rows.writerow([decoy, 0, f"{kind}-{number}-decoy"])
    return paths


__all__ = ["draw_pair", "draw_site", "list_interchanges", "measure_shift", "write_splice_sites"]
