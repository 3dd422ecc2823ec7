"""Names of features and contigs in files of tracks: files that can be made anywhere, columns that nothing ends."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.tracks import CALLS_FILE, Locus, Piece, name_files, name_tracks, write_tracks

HOSTILE = [
    "../../up",
    "..",
    "",
    "a/b",
    "a\0b",
    "a_b",
    "A/B",
    "x" * 300,
    "染" * 300,
    "-rf",
    'a\tb\nc "d" \x1b[31m',
    "\udcff",
]


@settings(max_examples=200)
@given(names=st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=20)), max_size=8))
def test_every_name_has_a_file_of_its_own(names):
    files = name_files(names, ".bw")
    assert len({file.lower() for file in files}) == len(names)
    for file in files:
        assert len(os.fsencode(file)) <= 255 and "/" not in file and "\0" not in file and file[0] not in ".-"
        assert file.endswith(".bw")


def test_usual_names_stay_and_two_of_one_file_have_numbers():
    assert name_tracks(["exon", "5UTR", "splice+donor"], "bigwig") == ["exon.bw", "5UTR.bw", "splice+donor.bw"]
    assert name_tracks(["a b", "a/b", "A_b"], "bedgraph") == ["a_b.bedgraph", "a_b_2.bedgraph", "A_b_3.bedgraph"]
    with pytest.raises(InputError, match="several features are called 'exon'"):
        name_tracks(["exon", "exon"], "bigwig")


def test_names_end_no_column_and_stay_exact_where_programs_read(tmp_path):
    contig = "a:b\u202e"
    probabilities = np.full((4, len(HOSTILE)), 0.75, dtype=np.float32)
    files = write_tracks(
        lambda column: [Piece(contig, 0, probabilities if column is None else probabilities[:, [column]])],
        tmp_path,
        HOSTILE,
        {contig: 4},
        track_format="bedgraph",
        arrays=[Locus(contig, 0, 4)],
    )
    assert sorted(files) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    )
    rows = [line.split("\t") for line in (tmp_path / CALLS_FILE).read_text().split("\n")[1:-1]]
    assert [len(row) for row in rows] == [7] * len(HOSTILE) and {row[0] for row in rows} == {contig}
    assert rows[HOSTILE.index("a_b")][3] == "a_b" and rows[10][3] == r"""a\tb\nc "d" \x1b[31m"""
    for file in files[: len(HOSTILE)]:
        head, *lines = (tmp_path / file).read_text().split("\n")
        assert head.startswith("#chrom\tstart\tend\t") and head.count("\t") == 3 and len(lines) == 2
    with np.load(tmp_path / files[-1]) as arrays:
        assert str(arrays["chrom"]) == contig and arrays["features"].tolist() == [name.rstrip("\0") for name in HOSTILE]
    json.dumps(files)
