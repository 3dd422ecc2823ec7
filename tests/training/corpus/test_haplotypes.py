"""Edits of haplotypes against strings that are changed in the plainest way."""

import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.training.corpus import haplotypes
from gengram.training.corpus.haplotypes import (
    INSERTED,
    Tally,
    apply_edits,
    choose_haplotypes,
    describe_counts,
    stream_edits,
    write_haplotypes,
)
from gengram.training.corpus.records import Records

LETTERS = "ACGTACGTTGCAacgtnnNNRYACCGGTTACGT"


def encode(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def decode(letters: np.ndarray) -> str:
    return letters.tobytes().decode()


def make_edits(edits) -> SimpleNamespace:
    return SimpleNamespace(
        position=np.array([edit[0] for edit in edits], dtype=np.int64),
        reference_length=np.array([edit[1] for edit in edits], dtype=np.int32),
        alternatives=[encode(edit[2]) for edit in edits],
    )


@st.composite
def edits_of(draw, length: int):
    """Edits in order and apart, of all kinds."""
    edits, position = [], 0
    while position <= length and draw(st.booleans()):
        position += draw(st.integers(0, 6))
        replaced = draw(st.integers(0, 4))
        alternative = draw(st.text(alphabet="ACGT", max_size=4))
        if position + replaced <= length and (replaced or alternative):
            edits.append((position, replaced, alternative))
            position += replaced + (not replaced)  # two insertions at one place would overlap
    return edits


def write_haplotype(reference: str, edits) -> list[tuple[str, int, int]]:
    """Each letter of a haplotype: it, its position, and the base of the reference that it goes with."""
    letters, done = [], 0
    for position, replaced, alternative in edits:
        letters += [(reference[place], place, place) for place in range(done, position)]
        for number, letter in enumerate(alternative):
            paired = number < replaced
            home = position + number if paired else position + max(replaced - 1, 0)
            letters.append((letter, position + number if paired else INSERTED, home))
        done = position + replaced
    return letters + [(reference[place], place, place) for place in range(done, len(reference))]


@given(st.data())
def test_a_stretch_of_a_haplotype_is_that_of_the_whole_written_plainly(data):
    edits = data.draw(edits_of(len(LETTERS)))
    start = data.draw(st.integers(0, len(LETTERS)))
    end = data.draw(st.integers(start, len(LETTERS)))
    whole = write_haplotype(LETTERS, edits)
    expected = [one for one in whole if start <= one[2] < end]
    length = data.draw(st.integers(0, len(LETTERS)) | st.none())
    letters, places = apply_edits(encode(LETTERS[start:end]), start, make_edits(edits), length)
    assert decode(letters) == "".join(one[0] for one in expected)[:length]
    assert places.tolist() == [one[1] for one in expected][:length]
    assert letters.dtype == np.uint8 and places.dtype == np.int64
    # The letters that are the reference's are, on both strands, where they are said to be.
    turned = reverse_complement(decode(letters))
    for number, place in enumerate(places.tolist()):
        if place != INSERTED and all(not position <= place < position + size for position, size, _ in edits):
            assert decode(letters)[number] == LETTERS[place]
            assert turned[len(letters) - 1 - number] == reverse_complement(LETTERS[place])


@given(st.data())
def test_stretches_that_follow_each_other_give_the_haplotype_without_gap_or_repeat(data):
    edits = data.draw(edits_of(len(LETTERS) - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(LETTERS)), max_size=4)))
    bounds = [0, *cuts, len(LETTERS)]
    parts = [
        decode(apply_edits(encode(LETTERS[start:end]), start, make_edits(edits))[0])
        for start, end in itertools.pairwise(bounds)
    ]
    assert "".join(parts) == "".join(one[0] for one in write_haplotype(LETTERS, edits))


def test_without_edits_the_letters_are_a_view():
    letters = encode(LETTERS)
    found, places = apply_edits(letters, 5, make_edits([]), 10)
    assert found.base is letters or np.shares_memory(found, letters)
    assert places.tolist() == list(range(5, 15))


HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n"
SITES = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def write_vcf(path, rows, samples=("a",), header=HEADER):
    """Rows: CHROM POS REF ALT and INFO, or the genotypes; divided by blanks."""
    lines = [header + SITES + ("\tFORMAT\t" + "\t".join(samples) if samples else "")]
    for row in rows:
        chrom, pos, ref, alt, *rest = row.split()
        info, cells = (".", rest) if samples else (rest[0] if rest else ".", [])
        keys = [] if not samples else [cells.pop(0)] if ":" in cells[0] or cells[0] == "DP" else ["GT"]
        lines.append("\t".join([chrom, pos, ".", ref, alt, ".", ".", info, *keys, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, genome, samples="all", count=0, contigs=None, names=None, **options):
    """Each haplotype's edits, as (record, position, length, letters), its letters of every record, and the tally."""
    records = Records({name: len(text) for name, text in genome.items()}, "genome.fa")
    choice = choose_haplotypes([path], samples, count, **options)
    tally = Tally()
    numbers = {name: number for number, name in enumerate(genome)}
    tables = list(stream_edits(path, choice, records, numbers, lambda name: encode(genome[name]), contigs, tally))
    table = pa.concat_tables(tables) if tables else haplotypes.SCHEMA.empty_table()
    found = {name: [] for name in choice.names}
    for row in table.to_pylist():
        edit = (row["position"], row["reference_length"], row["alternative"].decode())
        found[choice.names[row["haplotype"]]].append((list(genome)[row["contig"]], *edit))
    texts = {
        name: {
            record: "".join(one[0] for one in write_haplotype(text, [edit[1:] for edit in edits if edit[0] == record]))
            for record, text in genome.items()
        }
        for name, edits in found.items()
    }
    return found, texts, tally


def test_two_haplotypes_of_each_sample_of_changes_of_every_kind(tmp_path):
    genome = {"chr1": "ACGTACGTACGTACGTACGT", "chr2": "ttttGGGG"}
    path = write_vcf(
        tmp_path / "a.vcf",
        [
            "chr1 2 C G,T 0|1 2|0",  # both alternatives
            "chr1 4 TA T 1|1 0|0",  # a deletion
            "chr1 8 T TGG 0|0 1|0",  # an insertion
            "chr1 10 CGT CAT 0|0 0|1",  # a change with its neighbours
            "chr1 13 ACG GG 1|0 0|0",  # a change and a deletion
            "chr1 20 T . 0|0 0|0",  # no alternative at all
            "chr2 1 t c 1|1 1|0",
        ],
        samples=("a", "b"),
    )
    found, texts, tally = read(path, genome)
    assert found["a.1"] == [("chr1", 4, 1, ""), ("chr1", 12, 2, "G"), ("chr2", 0, 1, "c")]
    assert found["a.2"] == [("chr1", 1, 1, "G"), ("chr1", 4, 1, ""), ("chr2", 0, 1, "c")]
    assert found["b.1"] == [("chr1", 1, 1, "T"), ("chr1", 8, 0, "GG"), ("chr2", 0, 1, "c")]
    assert found["b.2"] == [("chr1", 10, 1, "A")]
    assert texts["a.1"]["chr1"] == "ACGTCGTACGTGGTACGT"
    assert (tally.records, tally.edits) == (7, 10)
    assert describe_counts(tally.count()) == "7 records, 10 edits"


def test_the_order_of_samples_is_the_users_and_only_theirs_are_read(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", ["chr1 1 A C 0|1 1|1 ./."], samples=("a", "b", "c"))
    found, _, _ = read(path, {"chr1": "ACGT"}, samples=["b", "a"])
    assert {name: len(edits) for name, edits in found.items()} == {"b.1": 1, "b.2": 1, "a.1": 0, "a.2": 1}


def test_what_is_no_change_of_letters_is_skipped_and_counted(tmp_path):
    path = write_vcf(
        tmp_path / "a.vcf",
        ["chr1 1 A <DEL> 1|1", "chr1 2 C * 0|1", "chr1 3 G G[chr1:9[ 1|0", "chr1 4 T Z 1|1", "chr1 5 A C,* 2|1"],
    )
    found, _, tally = read(path, {"chr1": "ACGTACGT"})
    assert found == {"a.1": [], "a.2": [("chr1", 4, 1, "C")]}
    assert tally.counts == {"symbolic": 1, "spanning": 2, "breakends": 1, "no_bases": 1}
    assert "symbolic" in describe_counts(tally.count())


def test_missing_haploid_and_unphased_genotypes(tmp_path):
    rows = ["chr1 1 A C .|1", "chr1 2 C G 1", "chr1 3 G A 1/1", "chr1 4 T A .", "chr1 5 A C /1|1", "chr1 6 C A ./."]
    found, _, tally = read(write_vcf(tmp_path / "a.vcf", rows), {"chr1": "ACGTACGT"})
    assert [edit[1] for edit in found["a.1"]] == [1, 2, 4]
    assert [edit[1] for edit in found["a.2"]] == [0, 2, 4]
    assert tally.counts == {"missing": 3, "haploid": 1}
    path = write_vcf(tmp_path / "b.vcf", [f"chr1 {1 + 4 * number} A C 0/1" for number in range(200)])
    genome = {"chr1": "ACGT" * 200}
    with pytest.raises(
        InputError, match=r"b.vcf, line 4: the genotype '0/1' of sample 'a' has no phase.*unphased: coin"
    ):
        read(path, genome)
    dealt, _, tally = read(path, genome, unphased="coin")
    assert tally.counts == {"unphased": 200}
    assert len(dealt["a.1"]) + len(dealt["a.2"]) == 200
    assert 60 < len(dealt["a.1"]) < 140
    assert read(path, genome, unphased="coin")[0] == dealt
    assert read(path, genome, unphased="coin", seed=1)[0] != dealt


def test_of_edits_that_overlap_the_first_is_kept(tmp_path):
    rows = [
        "chr1 1 ACGT A 1|0",
        "chr1 2 C G 1|1",  # inside the deletion of the first haplotype
        "chr1 5 A T 1|0",  # behind it
        "chr1 5 A AGG 1|0",  # behind the changed base: no overlap
        "chr1 5 A ACC 1|0",  # at the same place as that
        "chr1 6 C G 0|1",
        "chr1 6 C T 0|1",
        "chr1 6 CGT CGA 0|1",  # changes position 8 alone
        "chr1 7 G A 0|1",
    ]
    found, texts, tally = read(write_vcf(tmp_path / "a.vcf", rows), {"chr1": "ACGTACGTACGT"})
    assert found["a.1"] == [("chr1", 1, 3, ""), ("chr1", 4, 1, "T"), ("chr1", 5, 0, "GG")]
    assert found["a.2"] == [("chr1", 1, 1, "G"), ("chr1", 5, 1, "G"), ("chr1", 6, 1, "A"), ("chr1", 7, 1, "A")]
    assert texts["a.1"]["chr1"] == "ATGGCGTACGT"
    assert tally.counts == {"overlapping": 3}


@st.composite
def files(draw):
    """A reference, and records in order with phased genotypes of two samples."""
    reference = draw(st.text(alphabet="ACGTacgtN", min_size=20, max_size=40))
    rows, position = [], 1
    while draw(st.booleans()) and position < len(reference) - 4:
        ref = reference[position - 1 : position - 1 + draw(st.integers(1, 4))]
        alts = draw(st.lists(st.text(alphabet="ACGT", min_size=1, max_size=4), min_size=1, max_size=2, unique=True))
        cells = draw(st.lists(st.tuples(*[st.integers(0, len(alts))] * 2), min_size=2, max_size=2))
        rows.append((position, ref, alts, cells))
        position += draw(st.integers(0, 4))
    return reference, rows


@given(files())
def test_haplotypes_are_those_of_a_plain_reading_of_the_file(tmp_path_factory, file):
    reference, rows = file
    path = write_vcf(
        tmp_path_factory.mktemp("vcf") / "a.vcf",
        [
            f"chr1 {position} {ref} {','.join(alts)} {' '.join(f'{left}|{right}' for left, right in cells)}"
            for position, ref, alts, cells in rows
        ],
        samples=("a", "b"),
    )
    found, texts, tally = read(path, {"chr1": reference})
    assert tally.counts["mismatched"] == tally.counts["unknown"] == 0
    overlapping = 0
    for number, name in enumerate(("a.1", "a.2", "b.1", "b.2")):
        taken, expected = set(), []
        for position, ref, alts, cells in rows:
            allele = cells[number // 2][number % 2]
            before, after, place = ref.upper(), alts[allele - 1], position - 1
            while before and after and before[-1] == after[-1]:
                before, after = before[:-1], after[:-1]
            while before and after and before[0] == after[0]:
                before, after, place = before[1:], after[1:], place + 1
            if not allele or not (before or after):
                continue
            # What it takes: bases are odd numbers, and what is between two of them is an even one.
            points = set(range(2 * place + 1, 2 * (place + len(before)))) or {2 * place}
            if points & taken:
                overlapping += 1
                continue
            taken |= points
            beside = reference[place if before or not place else place - 1]
            expected.append((place, len(before), after.lower() if beside.islower() else after))
        assert [edit[1:] for edit in found[name]] == sorted(expected)
        # The whole is what replacing from the end on makes of the reference.
        text = reference
        for place, length, letters in sorted(expected, reverse=True):
            text = text[:place] + letters + text[place + length :]
        assert texts[name]["chr1"] == text
    assert tally.counts["overlapping"] == overlapping
    assert tally.edits == sum(map(len, found.values()))


def test_the_fast_reading_of_genotypes_is_the_plain_one(tmp_path):
    random = np.random.default_rng(0)
    samples = [f"s{number}" for number in range(30)]
    rows = []
    for position in range(1, 200, 3):
        cells = random.integers(0, 3, (30, 2)) * (random.random((30, 2)) < 0.2)
        rows.append((position, [f"{left}|{right}" for left, right in cells.tolist()]))
    genome = {"chr1": "A" * 200}
    fast = write_vcf(tmp_path / "a.vcf", [f"chr1 {at} A C,G {' '.join(cells)}" for at, cells in rows], samples)
    plain = write_vcf(
        tmp_path / "b.vcf",
        [f"chr1 {at} A C,G DP:GT {' '.join(f'7:{one}' for one in cells)}" for at, cells in rows],
        samples,
    )
    for chosen in ("all", ["s7", "s3"]):
        assert read(fast, genome, chosen)[0] == read(plain, genome, chosen)[0]
    assert sum(map(len, read(fast, genome)[0].values())) == sum(
        cell != "0" for _, cells in rows for one in cells for cell in one.split("|")
    )


def test_cells_of_other_widths_are_not_taken_for_those_of_another_sample(tmp_path):
    # Together as long as three cells of 0|0, but the second sample's begins where the third one's would.
    path = write_vcf(tmp_path / "a.vcf", ["chr1 1 A C 000|000 1|1 . ."], samples=("a", "b", "c", "d"))
    found, _, _ = read(path, {"chr1": "ACGT"}, samples=["c"])
    assert found == {"c.1": [], "c.2": []}


def test_alleles_of_sites_are_drawn_with_their_frequency(tmp_path):
    rows = []
    for number in range(1000):
        frequency = ("AF=0.1,0.5", "AC=1,5;AN=10", "X=1;AF=.,.;AC=1,5;AN=10")[number % 3]
        rows.append(f"chr1 {number + 1} A C,G {frequency}")
    rows += ["chr1 1001 A C DP=3", "chr1 1002 A C AF=0", "chr1 1003 A C AF=1"]
    path = write_vcf(tmp_path / "a.vcf", rows, samples=())
    genome = {"chr1": "A" * 1003}
    found, _, tally = read(path, genome, None, 5)
    assert list(found) == [f"drawn.{number}" for number in range(1, 6)]
    assert tally.counts == {"without_frequency": 1}
    for edits in found.values():
        letters = [edit[3] for edit in edits if edit[1] < 1000]
        assert letters.count("C") == pytest.approx(100, abs=40)
        assert letters.count("G") == pytest.approx(500, abs=70)
        assert [edit[1] for edit in edits if edit[1] >= 1000] == [1002]
    assert len({tuple(edits) for edits in found.values()}) == 5
    assert read(path, genome, None, 5)[0] == found
    assert read(path, genome, None, 5, seed=1)[0] != found
    # More of them are more: those that were there stay.
    assert list(read(path, genome, None, 7)[0].values())[:5] == list(found.values())


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("AF=0.7,0.7", "frequencies .* no shares of one whole"),
        ("AF=0.7", "AF has 1 values, but there are 2"),
        ("AF=x,0.1", "AF='x,0.1' is no list of numbers"),
        ("AF=nan,0.1", "no shares"),
        ("AF=-0.1,0.1", "no shares"),
        ("AC=9,9;AN=10", "no shares"),
    ],
)
def test_frequencies_that_are_none_are_refused_with_their_line(tmp_path, info, message):
    path = write_vcf(tmp_path / "a.vcf", [f"chr1 1 A C,G {info}"], samples=())
    with pytest.raises(InputError, match=f"a.vcf, line 4: .*{message}"):
        read(path, {"chr1": "AC"}, None, 2)


def test_a_file_of_another_assembly_is_refused_with_the_share_and_the_first_lines(tmp_path):
    rows = [f"chr1 {position} A C 0|1" for position in range(1, 101)]
    path = write_vcf(tmp_path / "a.vcf", rows)
    with pytest.raises(
        InputError, match=r"2\.0% of 100 records have another REF.*line 4: REF A, the genome has G; line 5"
    ):
        read(path, {"chr1": "GT" + "A" * 98})
    found, _, tally = read(path, {"chr1": "G" + "A" * 99})
    assert (tally.counts["mismatched"], len(found["a.2"])) == (1, 99)
    # What the genome does not know is no other assembly: R may be A, N is not changed.
    found, _, tally = read(path, {"chr1": "RN" + "a" * 98})
    assert tally.counts == {"unknown": 1}
    assert found["a.2"][:2] == [("chr1", 0, 1, "C"), ("chr1", 2, 1, "c")]


def test_contigs_are_found_by_name_by_slice_and_as_the_user_says(tmp_path, capsys):
    rows = ["7 3 A C 1|1", "7 12 A C 1|1", "8 1 A C 1|1", "9 1 A C 1|1"]
    path = write_vcf(tmp_path / "a.vcf", rows, header="##fileformat=VCFv4.2\n")
    genome = {"chr7:11-20": "CAAAAAAAAA", "chr8": "AAAA"}
    found, _, tally = read(path, genome)
    assert found["a.1"] == [("chr7:11-20", 1, 1, "C"), ("chr8", 0, 1, "C")]
    assert tally.counts == {"outside": 1}
    assert tally.missing == {"9": 1}
    told = capsys.readouterr().err
    assert "1 records are skipped" in told and "(9: 1)" in told and "7 is chr7" in told
    path = write_vcf(tmp_path / "b.vcf", ["z 2 A C 1|1"], header="##fileformat=VCFv4.2\n")
    for contigs, place in (
        ({"z": ("chr7:11-20", 0)}, 1),
        ({"z": ("chr7", 12)}, 3),
        ({"z": ("chr7:13-20", 1)}, 4),
        ({"z": ("7:15-", 0)}, 5),
    ):
        assert read(path, genome, contigs=contigs)[0]["a.1"] == [("chr7:11-20", place, 1, "C")]
    with pytest.raises(InputError, match=r"none of its contigs, as 'z'.*vcf_contigs"):
        read(path, genome)
    with pytest.raises(InputError, match="no contig 'chr9'"):
        read(path, genome, contigs={"z": ("chr9", 0)})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["chr1 5 A C 1|0", "chr1 1 A C 1|0"], "line 5: the file is not sorted: position 1 after 5"),
        (["chr1 5 A C 1|0", "x 1 A C 1|0", "chr1 9 A C 1|0"], "line 6: .*contig 'chr1' comes a second time"),
        (["chr1 5 A C 2|0"], "line 4: sample 'a' has allele 2, but there are 1"),
        (["chr1 5 A C 0|x"], "line 4: the genotype '0|x' of sample 'a' is none"),
        (["chr1 5 A C 0|1|1"], "line 4: the genotype '0|1|1' of sample 'a' has more than two alleles"),
        (["chr1 99 A C 0|1"], "line 4: chr1:99 .* past the end of 'chr1', which has 12 bp"),
        (["chr1 12 ACC C 0|1"], "line 4: chr1:12 .* past the end"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(tmp_path, rows, message):
    path = write_vcf(tmp_path / "a.vcf", rows)
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        read(path, {"chr1": "A" * 12})


def test_samples_are_those_of_the_file(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", ["chr1 1 A C 1|0"], samples=("NA12878",))
    with pytest.raises(InputError, match="no sample 'NA12879'; did you mean 'NA12878'"):
        choose_haplotypes([path], ["NA12879"])
    with pytest.raises(InputError, match=r"samples.*or how many"):
        choose_haplotypes([path], None, 0)
    with pytest.raises(InputError, match="no samples, only sites"):
        choose_haplotypes([write_vcf(tmp_path / "b.vcf", [], samples=())], "all")
    assert choose_haplotypes([path], "all").names == ("NA12878.1", "NA12878.2")


def test_two_files_of_one_contig_are_refused_and_two_of_two_are_one_set_of_haplotypes(tmp_path):
    paths = [
        write_vcf(tmp_path / f"{name}.vcf", [f"{name} 1 A C 1|0"], header="##fileformat=VCFv4.2\n")
        for name in ("chr1", "chr2", "1")
    ]
    records = Records({"chr1": 4, "chr2": 4}, "genome.fa")
    choice, tally = choose_haplotypes(paths, "all"), Tally()
    rows = []
    for path in paths[:2]:
        for table in stream_edits(path, choice, records, {"chr1": 0, "chr2": 1}, lambda _: encode("AAAA"), None, tally):
            rows += table.to_pylist()
    assert [(row["haplotype"], row["contig"]) for row in rows] == [(0, 0), (0, 1)]
    assert tally.records == 2
    with pytest.raises(InputError, match=r"1.vcf: contig '1' is 'chr1', as one of another place \(.*chr1.vcf: chr1\)"):
        list(stream_edits(paths[2], choice, records, {"chr1": 0}, lambda _: encode("AAAA"), None, tally))


def test_records_of_which_no_letters_are_stored_have_no_edits(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", ["chr1 1 A C 1|1"])
    records = Records({"chr1": 4}, "genome.fa")
    tally = Tally()
    choice = choose_haplotypes([path], "all")
    assert list(stream_edits(path, choice, records, {"chr1": 0}, lambda name: None, None, tally)) == []
    assert tally.counts == {"left_out": 1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30), st.integers(1, 7))
def test_edits_are_sorted_by_haplotype_and_record_however_they_are_divided(tmp_path_factory, rows, size):
    folder = tmp_path_factory.mktemp("runs")
    # As a file has them: record after record, in each its positions upwards.
    rows = [
        (haplotype, contig, place) for place, (haplotype, contig) in enumerate(sorted(rows, key=lambda row: -row[1]))
    ]
    columns = list(map(list, zip(*rows))) or [[], [], []]
    table = pa.table(
        [*columns, [place % 3 for place in columns[2]], [b"ACGT"[: place % 4] for place in columns[2]]],
        schema=haplotypes.SCHEMA,
    )
    pieces = [table.slice(first, size) for first in range(0, len(table), size)]
    told = write_haplotypes(folder / "h.arrow", pieces, ["a", "b", "c", "d"], folder)
    file = pa.ipc.open_file(folder / "h.arrow")
    assert file.num_record_batches == 1  # so that it can be mapped as it is
    found = file.read_all()
    found.validate(full=True)
    assert found.to_pylist() == sorted(
        table.to_pylist(), key=lambda row: (row["haplotype"], row["contig"], row["position"])
    )
    assert [path.name for path in folder.iterdir()] == ["h.arrow"]
    empty = [name for number, name in enumerate("abcd") if number not in columns[0]]
    assert [line for line in told if "without an edit" in line] == (
        [f"without an edit, as the reference: {', '.join(empty)}"] if empty else []
    )


def test_haplotypes_that_are_alike_are_said(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", ["chr1 1 A C 1|0 1|0", "chr1 2 A G 0|0 0|1"], samples=("a", "b"))
    records = Records({"chr1": 4}, "genome.fa")
    choice = choose_haplotypes([path], "all")
    tables = stream_edits(path, choice, records, {"chr1": 0}, lambda name: encode("AAAA"))
    told = write_haplotypes(tmp_path / "h.arrow", tables, choice.names, tmp_path)
    assert told == ["alike: a.1, b.1", "without an edit, as the reference: a.2"]
