"""Windows: functions of their number, drawn as their weights say, and their letters are where they say."""

import numpy as np
import pytest
from scipy import stats

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.training.corpus.reading import (
    PARTNERS,
    REFERENCE,
    Window,
    count_unknown,
    fit_haplotype,
    locate_letters,
    read_window,
    turn,
)
from gengram.training.corpus.windows import Drawing, WindowSource, tile


def draw(corpus, count=4_000, split="train", seed=0, **drawing):
    return WindowSource(corpus, Drawing(**drawing), seed, split).draw(np.arange(count))


@pytest.fixture
def haplotypes(tmp_path, write_corpus, draw_letters):
    """A genome with two haplotypes that change, insert and delete letters, also at its ends; and one without."""
    contigs = [
        {"letters": draw_letters(4_000, 1), "species": "human"},
        {"letters": draw_letters(900, 2), "species": "human"},
        {"letters": draw_letters(2_000, 3), "species": "mouse"},
    ]
    random = np.random.default_rng(0)
    variants = []
    for haplotype in (0, 1):
        for contig, length in ((0, 4_000), (1, 900)):
            place = int(random.integers(3))
            while place < length - 12:
                taken, letters = int(random.integers(12)), draw_letters(int(random.integers(9)), place, "ACGT")
                if taken or letters:
                    variants.append((haplotype, contig, place, taken, letters))
                place += taken + 1 + int(random.integers(40))
    return contigs, write_corpus(
        tmp_path / "corpus", contigs, variants=variants, haplotypes=["a", "b"], row=500, batch=2
    )


def apply_by_hand(letters: str, variants: list[tuple[int, int, str]]) -> str:
    for position, taken, alternative in reversed(variants):
        letters = letters[:position] + alternative + letters[position + taken :]
    return letters


# ---------------------------------------------------------------- letters


@pytest.mark.parametrize("order", ["random", "covering"])
def test_coordinates_give_back_the_bases_of_the_genome(corpus, order, draw_letters):
    """Both strands, over runs of N, IUPAC codes and case."""
    source = WindowSource(corpus, Drawing(length=300, order=order, max_n=1), 3)
    genome = [
        corpus.read(contig, 0, one.length) if one.split != "left_out" else None
        for contig, one in enumerate(corpus.contigs)
    ]
    windows, forward = source.draw_letters(np.arange(500))
    for number in range(500):
        window = windows.get(number)
        letters, places = read_window(corpus, window), locate_letters(corpus, window)
        assert len(letters) == len(places) == window.length == 300
        there = genome[window.contig][places]
        assert np.array_equal(letters, PARTNERS[there] if window.strand else there)
        assert np.array_equal(np.sort(places), np.arange(window.start, window.end))
        assert np.array_equal(turn(forward[number], window.strand), letters)
    assert set(windows.strand) == {0, 1}


def test_the_other_strand_pairs_every_letter():
    codes = np.frombuffer(b"ACGTNacgtnRYSWKMBDHVryswkmbdhvU", dtype=np.uint8)
    text = codes.tobytes().decode()
    assert turn(codes, 1).tobytes().decode() == reverse_complement(text)
    assert np.array_equal(turn(codes, 0), codes)


def test_haplotypes_read_as_their_variants_say(haplotypes):
    contigs, corpus = haplotypes
    for haplotype in (0, 1):
        for contig in (0, 1):
            length = corpus.contigs[contig].length
            edits = corpus.find_edits(haplotype, contig, 0, length)
            rows = zip(edits.position.tolist(), edits.reference_length.tolist(), edits.alternatives)
            variants = [(position, taken, one.tobytes().decode()) for position, taken, one in rows]
            whole = read_window(corpus, Window(contig, 0, length, 0, haplotype))
            assert whole.tobytes().decode() == apply_by_hand(contigs[contig]["letters"], variants)
            # Whatever its interval, a window has a part of it.
            for start in range(0, length - 200, 37):
                part = read_window(corpus, Window(contig, start, start + 200, 0, haplotype))
                assert part.tobytes() in whole.tobytes()


def test_windows_of_haplotypes_are_as_long_as_others_and_know_their_places(haplotypes, draw_letters):
    contigs, corpus = haplotypes
    source = WindowSource(corpus, Drawing(length=250), 0)
    windows, forward = source.draw_letters(np.arange(600))
    of_haplotypes = 0
    for number in range(600):
        window = windows.get(number)
        letters, places = read_window(corpus, window), locate_letters(corpus, window)
        assert len(letters) == len(places) == 250
        assert np.array_equal(turn(forward[number], window.strand), letters)
        assert 0 <= window.start < window.end <= corpus.contigs[window.contig].length
        if window.haplotype == REFERENCE:
            continue
        of_haplotypes += 1
        known = places[places >= 0]
        assert (np.diff(known[::-1] if window.strand else known) > 0).all()
        assert known.min() >= window.start and known.max() < window.end
        # Letters that no variant touches are those of the genome.
        edits = corpus.find_edits(window.haplotype, window.contig, window.start, window.end)
        touched = np.concatenate([np.arange(p, p + n) for p, n in zip(edits.position, edits.reference_length)] or [[]])
        plain = (places >= 0) & ~np.isin(places, touched)
        there = np.frombuffer(contigs[window.contig]["letters"].encode(), dtype=np.uint8)[places[plain]]
        assert plain.any() and np.array_equal(letters[plain], PARTNERS[there] if window.strand else there)
    assert of_haplotypes > 200


def test_haplotypes_get_their_share(haplotypes):
    _, corpus = haplotypes
    for share, expected in ((None, 2 / 3), (0.25, 0.25), (1.0, 1.0), (0.0, 0.0)):
        windows = draw(corpus, 3_000, length=100, haplotype_share=share)
        human = windows.haplotype[windows.contig < 2]
        assert abs((human >= 0).mean() - expected) < 0.03
        assert (windows.haplotype[windows.contig == 2] == REFERENCE).all()
        if share != 0:
            counts = np.bincount(human[human >= 0], minlength=2)
            assert stats.chisquare(counts).pvalue > 1e-3


def test_a_haplotype_with_too_few_letters_is_not_read(tmp_path, write_corpus, draw_letters):
    letters = draw_letters(400)
    corpus = write_corpus(tmp_path / "corpus", [{"letters": letters}], variants=[(0, 0, 50, 300, "")], haplotypes=["a"])
    assert fit_haplotype(corpus, Window(0, 20, 220, 0, 0), (0, 400)) is None
    assert fit_haplotype(corpus, Window(0, 20, 80, 0, 0), (0, 400)) == Window(0, 20, 380, 0, 0, 60)
    assert fit_haplotype(corpus, Window(0, 330, 400, 0, 0), (0, 400)) == Window(0, 30, 400, 0, 0, 70)
    assert (draw(corpus, 50, length=300, haplotype_share=1).haplotype == REFERENCE).all()


# ---------------------------------------------------------------- which windows


def test_a_window_depends_on_its_number_alone(corpus):
    for order in ("random", "covering"):
        source = WindowSource(corpus, Drawing(length=300, order=order), 5)
        whole = source.draw(np.arange(400))
        numbers = np.random.default_rng(0).permutation(400)
        for some in (numbers, numbers[:7], numbers[7:8]):
            found = WindowSource(corpus, Drawing(length=300, order=order), 5).draw(some)
            assert all(np.array_equal(one, other[some]) for one, other in zip(found, whole))
        other = WindowSource(corpus, Drawing(length=300, order=order), 6).draw(np.arange(400))
        assert (other.start != whole.start).mean() > 0.9


def test_without_weights_bases_are_drawn_alike(tmp_path, write_corpus, draw_letters):
    contigs = [{"letters": draw_letters(length, length)} for length in (8_000, 1_000, 3_000)]
    corpus = write_corpus(tmp_path / "corpus", contigs)
    windows = draw(corpus, 12_000, length=200)
    assert stats.chisquare(np.bincount(windows.contig), np.array([8, 1, 3]) * 1_000).pvalue > 1e-3
    inner = windows.start[windows.contig == 0]
    counts = np.histogram(inner[(inner >= 200) & (inner < 7_600)], bins=10, range=(200, 7_600))[0]
    assert stats.chisquare(counts).pvalue > 1e-3
    # The ends are read, too.
    assert windows.start[windows.contig == 0].min() == 0 and windows.end[windows.contig == 0].max() == 8_000
    assert stats.binomtest(int(windows.strand.sum()), 12_000).pvalue > 1e-3
    assert not draw(corpus, 100, length=200, strand="forward").strand.any()


def test_species_are_mixed_by_weight(tmp_path, write_corpus, draw_letters):
    contigs = [
        {"letters": draw_letters(9_000, 1), "species": "human", "group": "human"},
        {"letters": draw_letters(2_000, 2), "species": "mouse", "group": "others"},
        {"letters": draw_letters(1_000, 3), "species": "rat", "group": "others"},
    ]
    corpus = write_corpus(tmp_path / "corpus", contigs, groups={"human": 1, "others": 1})
    source = WindowSource(corpus, Drawing(length=100), 0)
    assert source.shares == pytest.approx({"human": 1 / 2, "mouse": 1 / 3, "rat": 1 / 6})
    counts = np.bincount(source.draw(np.arange(6_000)).contig)
    assert stats.chisquare(counts, [3_000, 2_000, 1_000]).pvalue > 1e-3
    only = WindowSource(corpus, Drawing(length=100, groups={"human": 0, "others": 1}), 0)
    assert set(only.draw(np.arange(500)).contig) == {1, 2}
    with pytest.raises(InputError, match="sum to zero"):
        WindowSource(corpus, Drawing(length=100, groups={"human": 0, "others": 0}), 0)
    # Who has no segment that is long enough leaves its share to the others.
    assert WindowSource(corpus, Drawing(length=1_500), 0).shares == pytest.approx({"human": 0.5, "mouse": 0.5})


def test_windows_lie_around_their_anchors_inside_their_segment(tmp_path, write_corpus, draw_letters):
    segments = [(0, 0, 1_000, "train"), (0, 1_200, 3_000, "train"), (0, 3_500, 3_600, "train")]
    anchors = [(0, 100, 200, 3.0), (0, 200, 1_000, 0.0), (1, 2_900, 3_000, 1.0), (2, 3_500, 3_600, 1.0)]
    corpus = write_corpus(tmp_path / "corpus", [{"letters": draw_letters(4_000)}], segments=segments, anchors=anchors)
    source = WindowSource(corpus, Drawing(length=150), 0)
    assert source.bases == 2_800 and source.left_out == 100
    windows = source.draw(np.arange(4_000))
    first = windows.segment == 0
    assert stats.binomtest(int(first.sum()), 4_000, 0.75).pvalue > 1e-3
    assert windows.start[first].min() == 0 and windows.start[first].max() < 200 and (windows.end[first] > 100).all()
    assert windows.start[~first].min() >= 2_750 and windows.end[~first].max() == 3_000
    with pytest.raises(InputError, match="sum to zero"):
        nothing = write_corpus(tmp_path / "none", [{"letters": draw_letters(400)}], anchors=[(0, 0, 400, 0.0)])
        WindowSource(nothing, Drawing(length=150), 0)


@pytest.mark.parametrize("stride", [None, 70, 150, 299])
def test_an_epoch_covers_every_base(tmp_path, stride, write_corpus, draw_letters):
    segments = [(0, 0, 1_000, "train"), (0, 1_003, 2_150, "train"), (1, 0, 300, "train"), (1, 310, 400, "train")]
    contigs = [{"letters": draw_letters(2_150, 1)}, {"letters": draw_letters(400, 2)}]
    corpus = write_corpus(tmp_path / "corpus", contigs, segments=segments)
    source = WindowSource(corpus, Drawing(length=300, order="covering", stride=stride, max_n=1), 0)
    epochs = [source.draw(np.arange(source.epoch) + epoch * source.epoch) for epoch in range(6)]
    for windows in epochs:
        read = [np.zeros(one.length, dtype=bool) for one in corpus.contigs]
        for contig, start, end in zip(windows.contig, windows.start, windows.end):
            read[contig][start:end] = True
        for contig, start, end, _ in segments:
            assert read[contig][start:end].all() == (end - start >= 300)
        assert sum(map(np.count_nonzero, read)) == source.bases == 1_000 + 1_147 + 300
    assert source.left_out == 90
    orders = {tuple(windows.start) for windows in epochs}
    tiles = {tuple(np.sort(windows.start)) for windows in epochs}
    assert len(orders) == 6 and len(tiles) > 1  # shuffled, and shifted


def test_windows_of_n_are_drawn_again(tmp_path, write_corpus, draw_letters):
    letters = draw_letters(2_000, 1) + "N" * 600 + draw_letters(400, 2) + "n" * 900 + draw_letters(1_100, 3)
    corpus = write_corpus(tmp_path / "corpus", [{"letters": letters}])
    for order in ("random", "covering"):
        for max_n in (0.0, 0.1, 0.5):
            source = WindowSource(corpus, Drawing(length=300, order=order, max_n=max_n), 0)
            found = source.draw_letters(np.arange(300))[1]
            assert max(map(count_unknown, found)) <= 300 * max_n
        free = WindowSource(corpus, Drawing(length=300, order=order, max_n=1.0), 0).draw_letters(np.arange(300))[1]
        assert max(map(count_unknown, free)) == 300
    only = write_corpus(tmp_path / "only", [{"letters": "N" * 1_000}])
    with pytest.raises(InputError, match=r"100 windows of 300 bp.*more than 50% N.*max_n"):
        draw(only, 3, length=300)
    with pytest.raises(InputError, match=r"more than 50% N"):
        draw(only, 3, length=2_000, whole_short=True)


def test_short_segments_are_left_out_or_drawn_whole(tmp_path, write_corpus, draw_letters):
    contigs = [{"letters": draw_letters(length, length)} for length in (150, 1_000)]
    corpus = write_corpus(tmp_path / "corpus", contigs)
    assert set(draw(corpus, 500, length=200).contig) == {1}
    windows = draw(corpus, 500, length=200, whole_short=True)
    assert set(windows.length[windows.contig == 0]) == {150} and set(windows.length[windows.contig == 1]) == {200}


@pytest.mark.parametrize("order", ["random", "covering"])
def test_a_window_longer_than_every_contig_is_refused_with_both_numbers(corpus, order):
    with pytest.raises(InputError, match=r"windows of 20,001 bp are longer than every .* train, .* has 20,000 bp"):
        WindowSource(corpus, Drawing(length=20_001, order=order), 0)
    assert WindowSource(corpus, Drawing(length=20_000, order=order), 0).draw(np.arange(3)).start.tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="nothing of it is in the split test"):
        WindowSource(corpus, Drawing(length=100, order=order), 0, "test")
    with pytest.raises(InputError, match="choose train, validation, test"):
        WindowSource(corpus, Drawing(length=100, order=order), 0, "dev")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strand": "reverse"}, "strand='reverse': choose forward or random"),
        ({"order": "sorted"}, "order='sorted': choose random or covering"),
        ({"length": 0}, "length=0: give bp"),
        ({"length": True}, "length=True"),
        ({"length": 10.5}, "length=10.5"),
        ({"order": "covering", "stride": -1}, "stride=-1"),
        ({"max_n": 1.5}, "max_n=1.5: give a share"),
        ({"max_n": None}, "max_n=None"),
        ({"max_n": float("nan")}, "max_n=nan"),
        ({"haplotype_share": -0.1}, "haplotype_share=-0.1"),
        ({"stride": 5}, "stride is for order covering"),
        ({"order": "covering", "groups": {"human": 1}}, "groups are for order random"),
        ({"order": "covering", "whole_short": True}, "whole_short is for order random"),
    ],
)
def test_values_that_none_of_these_can_have_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Drawing(**values)


# ---------------------------------------------------------------- tiles of evaluation


def test_tiles_of_a_split_follow_each_other(corpus):
    windows = tile(corpus, "validation", 700)
    assert windows.start.tolist() == list(range(0, 5_401 - 100, 700))[:8] and set(windows.contig) == {2}
    assert (windows.end - windows.start == 700).all() and (windows.haplotype == REFERENCE).all()
    whole = tile(corpus, "validation", 700, keep_rest=True)
    assert whole.end.tolist()[-2:] == [5_600, 6_000] and whole.length.sum() == 6_000
    assert len(tile(corpus, "train", 500, stride=250).start) == 79 + 19 + 19
    with pytest.raises(InputError, match=r"no window of 7,000 bp: its longest stretch has 6,000 bp"):
        tile(corpus, "validation", 7_000)
    assert tile(corpus, "validation", 7_000, keep_rest=True).end.tolist() == [6_000]
