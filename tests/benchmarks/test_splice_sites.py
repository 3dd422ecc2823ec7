"""The simulated splice-site task: equal k-mer counts, unequal positions, published frequencies, fixed for good."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.benchmarks.builders.splice_sites import (
    ACCEPTOR,
    BACKGROUND,
    BRANCH,
    CUT,
    DONOR,
    LENGTH,
    MAX_K,
    MIN_SHIFT,
    SIGNALS,
    draw_bases,
    draw_pair,
    draw_site,
    list_interchanges,
    measure_shift,
    write_splice_sites,
)


def count_kmers(sequence: str, k: int) -> Counter[str]:
    return Counter(sequence[start : start + k] for start in range(len(sequence) - k + 1))


def interchange(sequence: str, a: int, b: int, c: int, d: int) -> str:
    return sequence[:a] + sequence[c:d] + sequence[b:c] + sequence[a:b] + sequence[d:]


@settings(max_examples=200, deadline=None)
@given(st.text("ACG", max_size=40), st.integers(2, 4))
def test_no_interchange_changes_a_count(sequence, k):
    for blocks in list_interchanges(sequence, k):
        changed = interchange(sequence, *blocks)
        for size in range(1, k + 1):
            assert count_kmers(changed, size) == count_kmers(sequence, size)


def test_an_interchange_that_can_be_read_off():
    # AC repeats at 0 and 6, GT at 3 and 9: the blocks between them are A-C-x with x = T and x = A.
    assert (0, 3, 6, 9) in list(list_interchanges("ACTGTTACAGTT", k=3))
    assert interchange("ACTGTTACAGTT", 0, 3, 6, 9) == "ACAGTTACTGTT"


@pytest.mark.parametrize(
    ("start", "end", "shift"), [(2, 5, 13), (8, 11, 3), (12, 18, -10), (20, 22, 0), (5, 8, 0), (0, 2, 0)]
)
def test_shift_is_where_the_letters_go(start, end, shift):
    sequence, blocks = "abcdefghijklmnopqrstuvwxyz", (2, 6, 12, 19)
    assert measure_shift(blocks, start, end) == shift
    if shift:
        assert interchange(sequence, *blocks).index(sequence[start:end]) == start + shift


@pytest.mark.parametrize("kind", ["donor", "acceptor"])
def test_pairs_share_every_count_but_not_the_position(kind):
    rng = np.random.default_rng(1)
    start, end = SIGNALS[kind]
    for _ in range(100):
        site, decoy = draw_pair(rng, kind)
        assert len(site) == len(decoy) == LENGTH and site != decoy
        for k in range(1, MAX_K + 1):
            assert count_kmers(site, k) == count_kmers(decoy, k)
        signal = site[start:end]
        found = [at for at in range(LENGTH - len(signal) + 1) if decoy.startswith(signal, at)]
        assert any(abs(at - start) >= MIN_SHIFT for at in found)


def test_signals_are_at_the_cut():
    rng = np.random.default_rng(2)
    for _ in range(50):
        assert draw_site(rng, "donor")[CUT : CUT + 2] == "GT"
        assert draw_site(rng, "acceptor")[CUT - 2 : CUT] == "AG"


def test_frequencies_are_the_published_ones():
    rng = np.random.default_rng(3)
    draws = 4000
    for kind, profile in (("donor", DONOR), ("acceptor", ACCEPTOR)):
        start, end = SIGNALS[kind]
        sites = np.array([list(draw_site(rng, kind)[start:end]) for _ in range(draws)])
        measured = np.stack([(sites == base).mean(axis=0) for base in "ACGT"])
        # four standard deviations of a frequency near 1/2, and the rounding of the table
        np.testing.assert_allclose(measured, profile, atol=4 * 0.5 / draws**0.5 + 0.01)


def test_branch_points_lie_at_the_published_distances():
    rng = np.random.default_rng(4)
    assert np.unique([draw_bases(rng, BRANCH)[5] for _ in range(100)]) == [0]
    expected = np.zeros((4, LENGTH))
    for distance in range(21, 35):
        bases = np.tile(BACKGROUND[:, None], LENGTH)
        bases[:, CUT - distance - 5 : CUT - distance + 2] = BRANCH
        expected += bases / 14
    draws = 4000
    sites = np.array([list(draw_site(rng, "acceptor")) for _ in range(draws)])
    measured = np.stack([(sites == base).mean(axis=0) for base in "ACGT"])
    upstream = slice(0, SIGNALS["acceptor"][0])
    tolerance = 4 * 0.5 / draws**0.5
    np.testing.assert_allclose(measured[:, upstream], expected[:, upstream], atol=tolerance)
    assert abs(measured[:, upstream] - BACKGROUND[:, None]).max() > tolerance, "the background alone would pass, too"


@pytest.mark.parametrize("profile", [DONOR, ACCEPTOR, BRANCH])
def test_profiles_are_distributions_up_to_rounding(profile):
    np.testing.assert_allclose(profile.sum(axis=0), 1, atol=0.0101)


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_splits_are_balanced_and_keep_pairs_together(tmp_path):
    paths = write_splice_sites(tmp_path, 20, 6, 10)
    seen: dict[str, str] = {}
    for split, pairs in (("train", 20), ("validation", 6), ("test", 10)):
        rows = read_rows(paths[split])
        assert Counter(row["label"] for row in rows) == {"1": pairs, "0": pairs}
        for site, decoy in zip(rows[::2], rows[1::2]):
            assert site["name"].rsplit("-", 1) == [decoy["name"].rsplit("-", 1)[0], "site"]
            assert count_kmers(site["sequence"], MAX_K) == count_kmers(decoy["sequence"], MAX_K)
        for row in rows:
            assert seen.setdefault(row["sequence"], split) == split
    assert len(seen) == 72
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.csv", "train.csv", "validation.csv"]


def test_the_task_does_not_change(tmp_path):
    # Scores on the task are comparable only as long as this holds; a new simulator is a new task under a new name.
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in write_splice_sites(tmp_path, 30, 5, 10).values()))
    assert digest.hexdigest() == "ce7cf33beb9de3950bceec2bef86de828b714b9cc93c31fa46f08135f27628f0"


def test_seeds_give_different_tasks(tmp_path):
    first, second = (write_splice_sites(tmp_path / str(seed), 2, 1, 1, seed=seed)["train"] for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()
