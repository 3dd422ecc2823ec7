"""What held-out contigs share with training: found on both strands, exactly, against a plain search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.genome.alphabet import reverse_complement
from gengram.training.corpus.leak import CommonKmers, K, SharedStretches, Stretch, list_kmers


def draw(length: int, seed: int, letters: str = "ACGT") -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def encode(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def hold(*texts: str, split: str = "validation") -> list[Stretch]:
    return [Stretch(number, 0, encode(text), split) for number, text in enumerate(texts)]


def find_plainly(train: str, held: str, length: int) -> set[int]:
    """The bases of training that lie in a stretch of `length` which the other has on either strand."""
    there = {
        one[at : at + length]
        for one in (held.upper(), reverse_complement(held.upper()))
        for at in range(len(held) - length + 1)
    }
    return {
        base
        for at in range(len(train) - length + 1)
        if train[at : at + length].upper() in there and set(train[at : at + length].upper()) <= set("ACGT")
        for base in range(at, at + length)
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["AC", "ACGT", "ACGTN", "ACgtN"]), st.sampled_from([2, 5, 8, 13]))
def test_what_is_left_shares_no_stretch(seed, letters, length):
    train, held = draw(300, seed, letters), draw(200, seed + 1, letters)
    found = SharedStretches(hold(held), length).find(0, 0, encode(train))
    cut = {base for one in found for base in range(one.start, one.end)}
    shared = find_plainly(train, held, length)
    assert cut <= shared
    # Each stretch that is left is shorter: no window of `length` bases outside of the cut ones is shared.
    for at in range(len(train) - length + 1):
        window = set(range(at, at + length))
        assert not (window <= shared and not window & cut and find_plainly(train[at : at + length], held, length))


@pytest.mark.parametrize("strand", [0, 1])
@pytest.mark.parametrize("size", [499, 500, 501, 2000])
def test_a_stretch_is_found_whole_with_its_place(size, strand):
    middle = draw(size, 1)
    # The letters beside it do not agree on either strand.
    train = draw(699, 2) + "A" + middle.lower() + "A" + draw(899, 3)
    held = draw(332, 4) + "C" + (reverse_complement(middle) if strand else middle) + "C" + draw(410, 5)
    found = SharedStretches(hold(held), 500).find(7, 1000, encode(train))
    assert len(found) == (size >= 500)
    for one in found:
        assert (one.start, one.end) == (1700, 1700 + size)
        assert (one.contig, one.other, one.split, one.strand) == (7, 0, "validation", strand)
        mine = train[one.start - 1000 : one.end - 1000].upper()
        there = held[one.other_start : one.other_start + len(mine)]
        assert mine == (reverse_complement(there) if strand else there)


def test_letters_that_are_no_base_are_not_shared():
    held = "N" * 900 + draw(300, 1) + "R" + draw(300, 2)
    assert SharedStretches(hold(held), 500).find(0, 0, encode(held)) == []


def test_a_satellite_is_found_once():
    unit = draw(171, 1)
    found = SharedStretches(hold(unit * 60), 500).find(0, 0, encode(draw(2000, 2) + unit * 90))
    assert {base for one in found for base in range(one.start, one.end)} >= set(range(2010, 2000 + 90 * 171 - 10))
    assert len(found) < 20


def test_a_stretch_across_pieces_is_found(monkeypatch):
    monkeypatch.setattr("gengram.training.corpus.leak._CHUNK", 300)
    middle = draw(600, 1)
    (one,) = SharedStretches(hold(middle), 500).find(0, 0, encode(draw(1111, 2) + middle + draw(300, 3)))
    assert one.end - one.start >= 600


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(K, 200))
def test_kmers_are_those_of_both_strands(seed, length):
    text = draw(length, seed, "ACGTacgtNR")
    codes = np.array(["ACGT".find(letter) % 5 for letter in text.upper()], dtype=np.uint8)
    expected = []
    for at in range(length - K + 1):
        kmer = text[at : at + K].upper()
        if set(kmer) <= set("ACGT"):
            numbers = [
                int("".join(str("ACGT".index(base)) for base in one), 4) for one in (kmer, reverse_complement(kmer))
            ]
            expected.append(min(numbers))
    assert list_kmers(codes).tolist() == expected


def test_common_kmers_are_counted_once_and_by_split():
    text = draw(1000, 1)
    held = [*hold(text, text[:500]), *hold(draw(400, 2), split="test")]
    kmers = CommonKmers(held)
    kmers.look(encode(reverse_complement(text[100:400]).lower()))
    counts = kmers.count()
    assert counts["validation"] == (970, 270, 1)
    assert counts["test"] == (370, 0, 1)


def test_a_sample_of_kmers_gives_the_share():
    text = draw(200_000, 1)
    kmers = CommonKmers(hold(text), most=10_000)
    kmers.look(encode(text[:100_000]))
    common = kmers.count()["validation"]
    assert common.every == 20
    assert 8000 < common.kmers < 12_000
    assert abs(common.share - 0.5) < 0.02
