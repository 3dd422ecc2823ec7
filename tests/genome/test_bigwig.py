"""bigWig files of ours: another program reads the same values, summaries and contigs; nothing depends on the pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome import bigwig
from gengram.genome.bigwig import BigWigWriter

pyBigWig = pytest.importorskip("pyBigWig")


def draw(kind: str, bp: int, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, 3, bp)
    if kind == "steps":
        noise = np.repeat(noise, 50)[random.integers(0, 50) :][:bp]
    if kind == "constant":
        noise[:] = 0.25
    return noise.astype(np.float32)


def write(path, contigs: dict[str, np.ndarray], size: int, lengths=None) -> None:
    """Write what is finite, some bases at a time."""
    with BigWigWriter(path, lengths or {chrom: len(values) for chrom, values in contigs.items()}) as writer:
        for chrom, values in contigs.items():
            known = np.flatnonzero(np.isfinite(values))
            for run in np.split(known, 1 + np.flatnonzero(np.diff(known) > 1)):
                for first in range(0, len(run), size):
                    some = run[first : first + size]
                    writer.write(chrom, int(some[0]), values[some])


@pytest.mark.parametrize("kind", ["noise", "steps", "constant"])
@pytest.mark.parametrize("size", [999, 50_000, 10**6])
def test_another_program_reads_values_and_summaries(kind, size, tmp_path):
    random = np.random.default_rng(len(kind))
    # Names are in no order, contigs shorter than a bin, and without a value.
    contigs = {chrom: draw(kind, bp, random) for chrom, bp in {"chr2": 120_007, "b": 3, "chr10": 70_000}.items()}
    contigs["chr2"][40_000:40_600] = np.nan
    contigs["none"] = np.full(50, np.nan, np.float32)
    out = tmp_path / "track.bw"
    write(out, contigs, size)
    known = {chrom: values[np.isfinite(values)] for chrom, values in contigs.items()}
    every = np.concatenate(list(known.values())).astype(np.float64)
    with pyBigWig.open(str(out)) as track:
        assert track.chroms() == {chrom: len(values) for chrom, values in contigs.items()}
        for chrom, values in contigs.items():
            np.testing.assert_array_equal(np.array(track.values(chrom, 0, len(values)), np.float32), values)
        head = track.header()
        assert head["nBasesCovered"] == len(every) and head["nLevels"] == 5
        np.testing.assert_allclose([head["minVal"], head["maxVal"]], [int(every.min()), int(every.max())])
        # Bins of zoom levels are 256 bp and longer: these bounds are bounds of bins of all that are used.
        for start, end in ((0, 65_536), (16_384, 114_688)):
            some = contigs["chr2"][start:end]
            some = some[np.isfinite(some)].astype(np.float64)
            for name, expected in {
                "mean": some.mean(),
                "min": some.min(),
                "max": some.max(),
                "std": some.std(ddof=1),
            }.items():
                found = track.stats("chr2", start, end, type=name)[0]
                assert found == pytest.approx(expected, abs=2e-5), name
                assert track.stats("chr2", start, end, type=name, exact=True)[0] == pytest.approx(expected, abs=2e-5)
        assert track.stats("none", 0, 50) == [None]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_values_of_any_runs(data, tmp_path_factory):
    """Short sections and nodes, so that every bound falls somewhere."""
    out = tmp_path_factory.mktemp("any") / "track.bw"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "_BASES": 16,
            "_RUNS": 3,
            "_SUMMARIES": 2,
            "_BRANCHES": 2,
            "_FINEST": 4,
            "_READ": 5,
        }.items():
            patch.setattr(bigwig, name, value)
        contigs = {}
        for number in range(data.draw(st.integers(1, 6))):
            lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
            steps = data.draw(
                st.lists(st.sampled_from([np.nan, 0.5, 1.0, 2.0]), min_size=len(lengths), max_size=len(lengths))
            )
            contigs[f"{number * 7 % 5}x{number}"] = np.repeat(np.array(steps, np.float32), lengths)
        write(out, contigs, data.draw(st.integers(1, 50)))
    with pyBigWig.open(str(out)) as track:
        assert track.chroms() == {chrom: len(values) for chrom, values in contigs.items()}
        for chrom, values in contigs.items():
            np.testing.assert_array_equal(np.array(track.values(chrom, 0, len(values)), np.float32), values)
            known = values[np.isfinite(values)]
            mean = track.stats(chrom, 0, len(values))[0]
            assert mean is None if not len(known) else mean == pytest.approx(known.mean(dtype=np.float64), rel=1e-6)


def test_equal_neighbours_are_one_interval_and_many_contigs_are_found(tmp_path):
    write(tmp_path / "one.bw", {"a": np.repeat(np.float32([0.1, 0.2, 0.1]), [100_000, 30, 70_000])}, 10**6)
    with pyBigWig.open(str(tmp_path / "one.bw")) as track:
        assert [run[:2] for run in track.intervals("a")] == [(0, 100_000), (100_000, 100_030), (100_030, 170_030)]
    many = {f"contig{number}": np.float32([number, 1]) for number in range(1_000)}
    write(tmp_path / "many.bw", many, 10)
    with pyBigWig.open(str(tmp_path / "many.bw")) as track:
        assert all(track.values(chrom, 0, 2) == values.tolist() for chrom, values in many.items())


def test_a_tree_of_several_levels(tmp_path, monkeypatch):
    """More sections than 256 nodes of 256 hold."""
    monkeypatch.setattr(bigwig, "_BASES", 4)
    values = np.random.default_rng(0).random(4 * 66_000, dtype=np.float32)
    write(tmp_path / "deep.bw", {"a": values, "b": values[:5]}, 10**6)
    with pyBigWig.open(str(tmp_path / "deep.bw")) as track:
        np.testing.assert_array_equal(np.float32(track.values("a", 0, len(values))), values)
        assert track.values("a", len(values) - 2, len(values)) == values[-2:].tolist()
        assert track.values("b", 0, 5) == values[:5].tolist()


def test_the_longest_contig_and_one_that_is_longer(tmp_path):
    longest = 2**32 - 1
    with BigWigWriter(tmp_path / "long.bw", {"a": longest}) as writer:
        writer.write("a", longest - 500, np.arange(500, dtype=np.float32))
    with pyBigWig.open(str(tmp_path / "long.bw")) as track:
        assert track.values("a", longest - 2, longest) == [498, 499]
        assert track.stats("a", longest - 500, longest, type="max") == [499]
    with pytest.raises(InputError, match="b has 4,294,967,296 bp, but a bigWig file counts to 4,294,967,295"):
        BigWigWriter(tmp_path / "other.bw", {"a": 1, "b": longest + 1})
    assert not (tmp_path / "other.bw").exists()


def test_a_file_without_values(tmp_path):
    write(tmp_path / "none.bw", {}, 1, {"a": 1000})
    with pyBigWig.open(str(tmp_path / "none.bw")) as track:
        assert track.chroms() == {"a": 1000} and track.intervals("a") is None and track.header()["nBasesCovered"] == 0
