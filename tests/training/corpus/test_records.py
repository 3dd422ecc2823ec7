"""Names of contigs that other files have, and regions that users write."""

import pytest

from gengram.errors import InputError
from gengram.training.corpus.records import Records, Region

SLICES = Records({"chr20:101-200": 100, "chr20:301-400": 100, "7": 50, "lone:1-9": 5}, "genome.fa")


def test_names_mean_contigs_of_another_custom_and_slices():
    found, doubts = SLICES.match({"20": None, "chr7": None, "chr20:301-400": None, "lone": None})
    assert [part[1:] for part in found["20"]] == [("chr20", 100, 200), ("chr20", 300, 400)]
    assert [part[:1] + part[2:] for part in found["chr7"]] == [("7", 0, 50)]
    # By its own name, a slice has positions of its own.
    assert [part[2:] for part in found["chr20:301-400"]] == [(0, 100)]
    assert doubts == {"lone": ""}  # named for other bases than it has: no slice


def test_what_is_known_of_a_name_is_said():
    _, doubts = SLICES.match({"chr7": 90})
    assert "has 50 bp" in doubts["chr7"]
    found, _ = SLICES.match({"chr7": None}, {"chr7": 51})
    assert not found


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("7", [Region("7", 0, 50, 0)]),
        ("chr7:11-20", [Region("7", 10, 20, 10)]),
        ("7:41-", [Region("7", 40, 50, 40)]),
        ("7:41-end", [Region("7", 40, 50, 40)]),
        ("chr20:301-400", [Region("chr20:301-400", 0, 100, 0)]),
        ("chr20:150-150", [Region("chr20:101-200", 49, 50, 49)]),
        ("chr20:1-310", [Region("chr20:101-200", 0, 100, -100), Region("chr20:301-400", 0, 10, -300)]),
        ("20", [Region("chr20:101-200", 0, 100, -100), Region("chr20:301-400", 0, 100, -300)]),
        ("lone:1-9", [Region("lone:1-9", 0, 5, 0)]),
        ("chr20:1,000-end", None),
    ],
)
def test_regions_count_from_1_and_include_their_end(text, regions):
    if regions is None:
        with pytest.raises(InputError, match=r"has no base of it, only chr20:101-200, chr20:301-400"):
            SLICES.find_region(text, "recipe.yaml")
    else:
        assert SLICES.find_region(text, "recipe.yaml") == regions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "has no contig '8'"),
        ("chr20:1", "no contig 'chr20:1'"),
        ("7:0-5", "holds no bases"),
        ("7:9-5", "holds no bases"),
        ("7:1-51", "past the end of contig '7', which has 50 bp"),
        ("chr20:201-300", "has no base of it"),
        ("", "has no contig ''"),
    ],
)
def test_regions_that_are_not_there_are_refused(text, message):
    with pytest.raises(InputError, match=f"recipe.yaml, line 3: .*{message}"):
        SLICES.find_region(text, "recipe.yaml, line 3")
