"""Groups of sequences that are the same or nearly, and duplicates between splits."""

import time

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.tokenization import reverse_complement
from gengram.training.data import duplicates, variants
from gengram.training.data.duplicates import (
    choose_kmer_size,
    count_duplicates,
    fold_strands,
    group_sequences,
    list_kmers,
)
from gengram.training.data.splits import split_validation

DNA = st.text("ACGT", min_size=1, max_size=12)


def draw(rows: int, length: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("ACGT"), length)) for _ in range(rows)]


def find_jaccard(one: str, other: str, k: int) -> float:
    """The definition, from strings."""
    sets = [{fold_strands(text[i : i + k]) for i in range(len(text) - k + 1)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@given(DNA)
def test_both_strands_have_one_name(sequence):
    assert fold_strands(sequence) == fold_strands(reverse_complement(sequence))
    assert fold_strands(sequence) == fold_strands(sequence.lower().replace("t", "u"))


def test_a_text_without_complement_stands_for_itself():
    assert fold_strands("ac-gt*") == "AC-GT*"


@settings(deadline=None)
@given(st.text("ACGTNacgtu", max_size=40), st.integers(1, 31))
def test_kmers_are_the_canonical_ones(sequence, k):
    text = sequence.upper().replace("U", "T")
    kmers = [text[start : start + k] for start in range(len(text) - k + 1)]
    numbers = [
        min(int("".join(str("ACGT".index(base)) for base in strand), 4) for strand in (kmer, reverse_complement(kmer)))
        for kmer in kmers
        if "N" not in kmer
    ]
    assert list_kmers(sequence, k).tolist() == sorted(set(numbers))


@settings(max_examples=30, deadline=None)
@given(st.lists(DNA, min_size=1, max_size=20), st.sampled_from([1.0, 0.9]))
def test_copies_and_reverse_complements_share_a_group(sequences, similarity):
    rows = [*sequences, *map(reverse_complement, sequences), *(sequence.lower() for sequence in sequences)]
    groups = group_sequences(rows, similarity).reshape(3, -1)
    assert (groups[0] == groups[1]).all() and (groups[0] == groups[2]).all()
    _, first = np.unique(groups.ravel(), return_index=True)
    assert (np.diff(first) > 0).all()
    if similarity == 1:
        assert len(first) == len({fold_strands(sequence) for sequence in sequences})


def group_by_definition(sequences: list[str], similarity: float) -> np.ndarray:
    """Connected components over all pairs, from sets of strings."""
    names = list(dict.fromkeys(map(fold_strands, sequences)))
    k = choose_kmer_size(float(np.median([len(name) for name in names])))
    sets = [
        {fold_strands(name[i : i + k]) for i in range(len(name) - k + 1) if set(name[i : i + k]) <= set("ACGT")}
        for name in names
    ]
    component = list(range(len(names)))
    for one, kmers in enumerate(sets):
        for other in range(one):
            shared = len(kmers & sets[other])
            if shared and shared >= similarity * len(kmers | sets[other]) and component[one] != component[other]:
                component = [component[other] if number == component[one] else number for number in component]
    number = dict(zip(names, component, strict=True))
    return np.array([number[fold_strands(sequence)] for sequence in sequences])


def substitute(sequence: str, places, random) -> str:
    letters = list(sequence)
    for place in places:
        letters[place] = "ACGT"[random.integers(4)]
    return "".join(letters)


def draw_chains(random) -> list[str]:
    """Ever more substitutions: neighbours are similar, ends are not."""
    rows = []
    for sequence in draw(12, 300, random.integers(99)):
        for _ in range(5):
            rows.append(sequence if random.random() < 0.5 else reverse_complement(sequence))
            sequence = substitute(sequence, [random.integers(300)], random)
    return rows


def draw_threshold(random) -> list[str]:
    """Pairs just above and just below the similarity: 0 to 6 substitutions that lie apart or together."""
    rows = []
    for sequence in draw(25, 250, random.integers(99)):
        places = random.choice(250, random.integers(7), replace=False)
        if random.random() < 0.3:
            places = random.integers(200) + np.arange(len(places))
        rows += [sequence, substitute(sequence, places, random)]
    return rows


def draw_library(random) -> list[str]:
    """Variants of one sequence: nearly all pairs share keys, and there are more than one bucket's worth."""
    (parent,) = draw(1, 120, random.integers(99))
    return [substitute(parent, random.choice(120, 2, replace=False), random) for _ in range(150)]


def draw_tiles(random) -> list[str]:
    (genome,) = draw(1, 1500, random.integers(99))
    step = int(random.integers(3, 30))
    return [genome[start : start + 200] for start in range(0, 1300, step)]


def draw_lengths(random) -> list[str]:
    """Ends cut off, N runs, repeats, copies and other strands, all lengths."""
    rows = []
    for sequence in draw(15, 200, random.integers(99)):
        cut = int(random.integers(1, 40))
        place = int(random.integers(150))
        rows += [sequence, sequence[cut:], sequence[:place] + "N" * 12 + sequence[place + 12 :], sequence.lower()]
        rows += [reverse_complement(sequence), "AC" * int(random.integers(5, 120)), "A" * int(random.integers(1, 99))]
    return rows


@pytest.mark.parametrize("similarity", [0.9, 0.8, 0.97])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", [draw_chains, draw_threshold, draw_library, draw_tiles, draw_lengths])
def test_groups_are_the_connected_components_of_the_definition(make, seed, similarity):
    sequences = make(np.random.default_rng(seed))
    groups, expected = group_sequences(sequences, similarity), group_by_definition(sequences, similarity)
    # Each group is one of the definition, and the other way round.
    pairs = set(zip(groups.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(groups.tolist())) == len(set(expected.tolist()))


def draw_families(random) -> list[str]:
    """Variants of a few sequences with one adapter on each side."""
    parents, rows = draw(3, 60, random.integers(99)), []
    for _ in range(150):
        changed = random.choice(60, random.integers(6), replace=False)
        rows.append("ACGTTGCAAGTCCATG" * 2 + substitute(parents[random.integers(3)], changed, random) + "TTGACCAG" * 3)
    return rows


def draw_repeats(random) -> list[str]:
    """Variants of one base over and over: their sets of k-mers are few, and small."""
    return [substitute("A" * 100, random.choice(100, 3, replace=False), random) for _ in range(120)]


def draw_variants(random) -> list[str]:
    """A library in which some rows differ in little, others in most of their k-mers."""
    (parent,) = draw(1, 200, random.integers(99))
    numbers = random.choice([1, 2, 3, 5, 9, 30], 120)
    rows = [substitute(parent, random.choice(200, number, replace=False), random) for number in numbers]
    return [row if random.random() < 0.5 else reverse_complement(row)[random.integers(4) :] for row in rows]


def draw_random(random) -> list[str]:
    """Rows of any length, some of them changed, cut, turned or with letters that are no bases."""
    rows = []
    for sequence in draw(30, int(random.integers(20, 300)), random.integers(999)):
        changed = random.choice(len(sequence), random.integers(min(8, len(sequence))), replace=False)
        other = substitute(sequence, changed, random)
        place, length = random.integers(len(other)), random.integers(10)
        rows += [
            sequence,
            reverse_complement(other),
            other[random.integers(5) :],
            other[:place] + "N" * length + other[place:],
        ]
    return rows


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_many_rows_of_a_key_are_compared_as_by_the_definition(kind, seed, monkeypatch):
    """All buckets of more than a few rows are taken for libraries of variants, and are looked at in parts."""
    monkeypatch.setattr(duplicates, "_MANY", 4 if kind == "random" else 30)
    for module in (duplicates, variants):
        monkeypatch.setattr(module, "SMALL", 4)
        monkeypatch.setattr(module, "PAIRS", 64)
    monkeypatch.setattr(variants, "_CHECKED", 50)
    adversarial = [draw_families, draw_repeats, draw_variants, draw_library, draw_tiles]
    make = draw_random if kind == "random" else adversarial[seed % len(adversarial)]
    sequences = make(np.random.default_rng(seed))
    similarity = (0.9, 0.8, 0.97)[seed % 3]
    groups, expected = group_sequences(sequences, similarity), group_by_definition(sequences, similarity)
    pairs = set(zip(groups.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(groups.tolist())) == len(set(expected.tolist()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.9, 0.8]), st.booleans())
def test_no_similar_pair_is_on_both_sides_of_a_split(seed, similarity, far):
    random = np.random.default_rng(seed)
    sequences = []
    for parent in draw(8, 80, random.integers(10**6)):
        for _ in range(4):
            changed = random.choice(80, random.integers(9 if far else 3), replace=False)
            sequences.append(substitute(parent, changed, random))
    k = choose_kmer_size(80)
    try:
        sides = split_validation(Dataset.from_dict({"sequence": sequences}), 0.3, seed, similarity)
    except ValueError as error:  # all in one group
        assert "both sides" in str(error)
        return
    train, validation = (side["sequence"] for side in sides)
    assert len(train) + len(validation) == len(sequences)
    assert all(find_jaccard(one, other, k) < similarity for one in train for other in validation)


@pytest.mark.parametrize("changes", [1, 2, 5])
def test_the_cost_of_a_library_does_not_grow_with_its_square(changes):
    """All 12,000 rows are candidates of each other: as pairs, 2 or 5 changes take minutes."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    library = np.repeat(letters[random.integers(4, size=(1, 256))], 12_000, axis=0)
    for _ in range(changes):
        library[np.arange(len(library)), random.integers(256, size=len(library))] = random.choice(letters, len(library))
    rows = [row.tobytes().decode() for row in library]
    started = time.process_time()
    groups = group_sequences(rows)
    assert time.process_time() - started < 15
    assert (len(set(groups.tolist())) > 1000) == (changes == 5)


def test_a_library_of_variants_of_one_sequence_is_grouped_in_seconds():
    """Nearly all pairs are candidates. One at a time, and in every key anew, 800 rows take about ten seconds."""
    random = np.random.default_rng(0)
    original, library = np.array(list(draw(1, 256)[0])), []
    for _ in range(800):
        variant = original.copy()
        variant[random.choice(256, 3, replace=False)] = random.choice(list("ACGT"), 3)
        library.append("".join(variant))
    started = time.process_time()
    groups = group_sequences(library)
    assert time.process_time() - started < 4
    k = choose_kmer_size(256)
    for one, other in random.choice(800, (300, 2)):
        assert groups[one] == groups[other] or find_jaccard(library[one], library[other], k) < 0.9
    assert 100 < len(set(groups.tolist())) < 700


def test_a_cluster_of_any_size_is_one_group():
    """More rows than are looked at together, and more than are kept: each one substitution from the same sequence."""
    random = np.random.default_rng(0)
    (parent,) = draw(1, 300)
    rows = [parent, *(substitute(parent, [random.integers(300)], random) for _ in range(3000))]
    assert not group_sequences(rows).any()


def test_unrelated_sequences_have_groups_of_their_own():
    for length in (30, 200, 2000):
        assert len(set(group_sequences(draw(200, length)).tolist())) == 200


def test_windows_that_overlap_by_nearly_all_are_one_group():
    genome = draw(1, 3000)[0]
    windows = [genome[start : start + 2000] for start in (0, 20, 900)]
    assert group_sequences(windows).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("sequences", "groups"),
    [
        ([], []),
        (["N" * 50, "N" * 60, "n" * 50], [0, 1, 0]),
        (["A", "C", "T"], [0, 1, 0]),
        (["A" * 100, "T" * 40], [0, 0]),
    ],
)
def test_sequences_without_kmers_or_with_one_only(sequences, groups):
    assert group_sequences(sequences).tolist() == groups


def test_the_kmer_size_grows_with_the_length():
    assert [choose_kmer_size(length) for length in (1, 60, 200, 500, 8000, 10**6)] == [6, 7, 8, 9, 11, 14]


def test_duplicates_are_counted_by_strand():
    first = ["AACC", "ACGT", "TTTT"]
    counts = count_duplicates(first, ["aacc", "GGTT", "ACGT", "AAAA", "GGGG", "UUUU"])
    assert counts == {"exact": 3, "reverse_complement": 2}
