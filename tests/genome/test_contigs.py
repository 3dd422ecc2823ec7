"""Which contig another file means: `chr7` and `7`, `M` and `MT`, slices; never silently the wrong one."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.contigs import Genome, Part, fold_name, match_names, read_slice
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import read_intervals
from gengram.genome.variants import read_variants

BASES = "ACGTTGCAAC" * 20
HLA = "HLA-A*01:01:01:01"


def find(*names: str, contigs: tuple[str, ...] | dict[str, int]) -> dict[str, str]:
    contigs = contigs if isinstance(contigs, dict) else dict.fromkeys(contigs)
    return match_names(dict.fromkeys(names), contigs).found


@pytest.mark.parametrize(
    ("name", "contigs", "found"),
    [
        ("chr7", ("7", "8"), "7"),
        ("7", ("chr7", "chr8"), "chr7"),
        ("Chr7", ("chr7",), "chr7"),
        ("CHR7", ("7",), "7"),
        ("chr7", ("CHR7", "chr77"), "CHR7"),
        ("X", ("chrX",), "chrX"),
        ("scaffold_3", ("chrscaffold_3",), "chrscaffold_3"),
        *(
            (one, (other,), other)
            for one in ("M", "MT", "chrM", "chrMT", "Mt")
            for other in ("M", "MT", "chrM", "ChrMT")
        ),
        ("chr7", ("7", "chr7"), "chr7"),  # the exact name
        ("chr1:1-4", ("1", "chr1:1-4"), "chr1:1-4"),
        (HLA, (HLA, "6"), HLA),
        ("gi|1|x", ("gi|1|x",), "gi|1|x"),
    ],
)
def test_names_that_are_found(name, contigs, found):
    assert find(name, contigs=contigs) == {name: found}


@pytest.mark.parametrize(
    ("name", "contigs"),
    [
        ("Chr7", ("7", "chr7")),  # two could be meant
        ("M", ("MT", "chrM")),
        ("chr7", ("chr77", "17", "chr7_alt", "07")),
        ("chr07", ("7",)),
        ("chrx", ("X",)),  # only the prefix's case is free
        ("chrUn_gl000220", ("GL000220.1", "chrUn_GL000220v1", "gl000220")),  # scaffolds are not guessed
        ("chr7", ("NC_000007.14",)),
        ("chr", ("", "c", "hr")),
        ("chr1:1-4", ("chr1", "1")),
        ("chr6", (HLA,)),
        ("chrchr7", ("7",)),
    ],
)
def test_names_that_are_not_guessed(name, contigs):
    assert find(name, contigs=contigs) == {}


def test_two_names_are_never_one_contig():
    assert find("chr7", "7", contigs=("7", "8")) == {"7": "7"}
    assert find("chr7", "Chr7", "8", contigs=("7", "8")) == {"8": "8"}
    match = match_names({"chrM": None, "MT": None}, {"M": None})
    assert match.found == {} and "It would be 'M', but 'MT' is that already" in match.doubts["chrM"]


@pytest.mark.parametrize(
    ("names", "declared", "contigs", "doubt"),
    [
        # VCF headers declare lengths.
        ({"chrM": None}, {"chrM": 16571}, {"MT": 16569}, "'MT', which has 16,569 bp: 'chrM' is declared with 16,571"),
        ({"chrM": None}, {"chrM": 16569}, {"MT": 16569}, None),
        ({"chrM": None}, {"chrM": None}, {"MT": 16569}, None),
        ({"chr7": None}, {"chr7": 159345973}, {"7": 159138663}, "which has 159,138,663 bp: 'chr7' is declared with"),
        # Of two that could be meant, lengths leave one.
        ({"M": None}, {"M": 16571}, {"MT": 16569, "chrM": 16571}, None),
        # Intervals reach beyond the contig.
        ({"chr7": 101}, {}, {"7": 100}, "which has 100 bp: 'chr7' has positions up to 101"),
        ({"chr7": 100}, {}, {"7": 100}, None),
        ({"chrM": 16571}, {}, {"MT": 16569}, "which has 16,569 bp: 'chrM' has positions up to 16,571"),
        # hg19's mitochondrion is another sequence, and BED files do not say how long it is.
        ({"MT": 900}, {}, {"chrM": 16571}, "which has 16,571 bp, as that of hg19: MT has 16,569"),
        ({"chrM": 900}, {}, {"1": 249250621, "MT": 16569}, "that of hg19, chrM, has 16,571"),
        ({"chrM": 900}, {}, {"1": 248956422, "MT": 16569}, None),
        ({"MT": 900}, {}, {"chrM": 16569}, None),
        ({"chrM": 900}, {}, {"chrM": 16571}, None),
        ({"M": 900}, {}, {"chrM": 16571}, None),
    ],
)
def test_what_is_known_of_lengths_speaks_against_a_contig(names, declared, contigs, doubt):
    match = match_names(names, contigs, declared)
    if doubt is None:
        assert match.found.keys() == names.keys() and not match.doubts
    else:
        assert match.found == {} and doubt in " ".join(match.doubts.values())


NAMES = st.text("chrCHR17MTXx:-_*|. ", min_size=1, max_size=7)


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, unique=True, max_size=6), st.lists(NAMES, unique=True, max_size=6))
def test_exact_names_win_and_no_two_names_mean_one_contig(names, contigs):
    found = find(*names, contigs=tuple(contigs))
    assert {name for name in names if name in contigs} == {name for name, contig in found.items() if name == contig}
    assert len(set(found.values())) == len(found)
    for name, contig in found.items():
        assert contig in contigs and fold_name(name) == fold_name(contig)
        # Nothing else could have been meant.
        assert name == contig or [one for one in contigs if fold_name(one) == fold_name(name)] == [contig]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=9).filter(lambda text: text.strip()), st.integers(0, 10**9), st.integers(1, 10**6))
def test_names_of_slices_are_read(contig, start, length):
    record = f"{contig}:{start + 1}-{start + length}"
    assert read_slice(record, length) == Part(record, contig, start, start + length)
    assert read_slice(record, length + 1) is None and read_slice(record, length - 1) is None
    commas = f"{contig}:{start + 1:,}-{start + length:,}"
    assert read_slice(commas, length) == Part(commas, contig, start, start + length)


@pytest.mark.parametrize(
    ("record", "length"),
    [
        ("chr1", 4),
        ("chr1:0-4", 5),
        ("chr1:5-4", 0),
        ("chr1:1-", 4),
        (":1-4", 4),
        ("chr1:1,0-4", 4),
        (HLA, 101),
        ("chr1:\u0661-\u0664", 4),
    ],
)
def test_names_that_are_no_slices(record, length):
    assert read_slice(record, length) is None


@pytest.fixture
def cut(tmp_path):
    def cut(bed: str, records: dict[str, str], slices: bool = False) -> tuple[list[str], Genome]:
        genome = Genome(tmp_path / "genome.fa", slices)
        genome.path.write_text("".join(f">{name} more\n{bases}\n" for name, bases in records.items()))
        (tmp_path / "rows.bed").write_text(bed.replace(" ", "\t"))
        table = read_intervals(tmp_path / "rows.bed", genome)
        assert table["chrom"].to_pylist() == [line.split()[0] for line in bed.splitlines()]  # as in the file
        return table["sequence"].to_pylist(), genome

    return cut


def test_intervals_are_cut_and_the_names_told_once(cut, capsys):
    names = [*map(str, range(1, 7)), "MT"]
    records = {name: BASES[place:] for place, name in enumerate(names)}
    bed = "".join(f"chr{name.removesuffix('T')} 3 9\n" for name in names)
    sequences, genome = cut(bed, records)
    assert sequences == [bases[3:9] for bases in records.values()]
    assert genome.renamed == {f"chr{name.removesuffix('T')}": name for name in names}
    told = "genome.fa: chr1 is 1, chr2 is 2, chr3 is 3, chr4 is 4, ... (7 in all)\n"
    assert (said := capsys.readouterr().err).endswith(told) and said.count("\n") == 1
    assert cut(bed.replace("chrM", "MT").replace("chr", ""), records)[1].renamed == {}
    assert capsys.readouterr().err == ""


def test_a_contig_with_both_names_in_the_genome_is_the_exact_one(cut, capsys):
    records = {"chr7": BASES, "7": BASES[1:]}
    assert cut("7 0 9\nchr7 0 9\n", records)[0] == [BASES[1:10], BASES[:9]]
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"line 1: .* no contig 'CHR7'.* It may be 'chr7' or '7': give it the name"):
        cut("CHR7 0 9\n", records)


@pytest.mark.parametrize(
    ("bed", "records", "message"),
    [
        ("chr7 0 9\nchr7 0 201\n", ["7"], "rows.bed, line 1: .* no contig 'chr7'; .* It is not '7', which has 200 bp"),
        ("7 0 9\nchr7 0 9\n", ["7"], "rows.bed, line 2: .* no contig 'chr7'; .* It would be '7', but '7' is that"),
        ("chr7 0 9\nCHR7 0 9\n", ["7"], "line 1: .* no contig 'chr7'; .* It would be '7', but 'CHR7' is that already"),
        ("chrx 0 9\n7 0 9\n", ["7", "X"], "line 1: .* no contig 'chrx'; it has 7, X. Is it 'X'?"),
        ("chr7 0 9\n", ["NC_000007.14"], "'NC_000007.14' is an accession: the assembly report of NCBI"),
        ("NC_000007.14 0 9\n", ["7"], "'NC_000007.14' is an accession"),
        ("chrUn_gl000220 0 9\n", ["GL000220.1"], "no contig 'chrUn_gl000220'; .* 'GL000220.1' is an accession"),
        ("tig1 0 9\n", ["tig2"], "it has tig2. No contig of the file is there: is it of another assembly?"),
        (f"{HLA}:1 0 9\n", [HLA], "no contig 'HLA-A.01:01:01:01:1'"),
    ],
)
def test_unknown_contigs_are_told_with_line_both_names_and_remedy(bed, records, message, cut):
    with pytest.raises(InputError, match=message):
        cut(bed, dict.fromkeys(records, BASES))


SLICES = {"chr20:101-140": BASES[100:140], "chr20:31-60": BASES[30:60], "7": BASES, HLA: BASES[5:]}


def test_slices_give_what_the_whole_contig_gives(cut, capsys):
    bed = f"chr20 100 140 x 0 +\nchr20 30 31 x 0 -\nchr20 40 60 x 0 -\nchr20 101 139 x 0 .\n{HLA} 0 9 x 0 +\n"
    whole, _ = cut(bed, {"chr20": BASES, HLA: BASES[5:]})
    sequences, genome = cut(bed, SLICES, slices=True)
    assert sequences == whole == [BASES[100:140], "T", reverse_complement(BASES[40:60]), BASES[101:139], BASES[5:14]]
    assert genome.renamed == {} and capsys.readouterr().err == ""
    # Both rules together, and a slice by its own name, in its own positions.
    assert cut("20 100 140\nchr20:31-60 0 5\n", SLICES, slices=True)[0] == [BASES[100:140], BASES[30:35]]
    assert "20 is chr20" in capsys.readouterr().err


def test_slices_are_offered_and_not_taken_unasked(cut):
    with pytest.raises(
        InputError, match=r"'chr20:101-140', 'chr20:31-60' may be of it: --slices finds its positions there"
    ):
        cut("chr20 100 140\n", SLICES)
    with pytest.raises(InputError, match=r"no contig '20'.* --slices"):
        cut("20 100 140\n", SLICES)
    assert cut("chr20:31-60 0 5\n", SLICES)[0] == [BASES[30:35]]


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ("chr20 50 120", "does not lie in one slice: some of its bases are in 'chr20:101-140', 'chr20:31-60'"),
        ("chr20 50 61", "goes past the end of the slice 'chr20:31-60'"),
        ("chr20 29 40", "goes past the end of the slice 'chr20:31-60'"),
        ("chr20 70 80", "lies in no slice of 'chr20': the genome .*genome.fa has 'chr20:101-140', 'chr20:31-60'"),
        ("chr20 140 141", "lies in no slice of 'chr20'"),
        ("chr20 120 120", "holds no bases"),
        ("chr20:31-60 0 31", "goes past the end of contig 'chr20:31-60', which has 30 bp"),
        ("chr21 0 5", "no contig 'chr21'; it has chr20, 7, HLA"),
    ],
)
def test_intervals_that_lie_in_no_slice(interval, message, cut):
    with pytest.raises(InputError, match=f"rows.bed, line 1: interval {':'.join(interval.split()[:1])}:.*{message}"):
        cut(interval + "\n", SLICES, slices=True)


def test_slices_touch_but_are_not_joined(cut):
    records = {"c:1-100": BASES[:100], "c:101-200": BASES[100:]}
    assert cut("c 0 100\nc 100 200\n", records, slices=True)[0] == [BASES[:100], BASES[100:]]
    with pytest.raises(InputError, match="some of its bases are in 'c:1-100', 'c:101-200'"):
        cut("c 99 101\n", records, slices=True)


def test_slices_that_overlap_say_the_same_or_are_refused(cut):
    records = {"c:1-150": BASES[:150], "c:51-200": BASES[50:].lower(), "c:61-70": BASES[60:70]}
    assert [bases.upper() for bases in cut("c 0 100\nc 60 180\n", records, slices=True)[0]] == [
        BASES[:100],
        BASES[60:180],
    ]
    for name in records:
        wrong = {**records, name: records[name][:-5] + "T" + records[name][-4:]}
        if wrong[name].upper() != records[name].upper() and name != "c:51-200":
            with pytest.raises(InputError, match=r"the slices '.*' and '.*' differ in the bases that both have"):
                cut("c 0 100\n", wrong, slices=True)


def test_a_record_of_the_contig_itself_comes_before_its_slices(cut):
    records = {"chr20:31-60": BASES[:30], "chr20": BASES}
    assert cut("chr20 30 60\nchr20:31-60 0 30\n", records, slices=True)[0] == [BASES[30:60], BASES[:30]]


def test_a_genome_without_slices_is_told(cut, capsys):
    assert cut("c 0 9\nc:1-9 0 4\n", {"c": BASES, "c:1-9": BASES[:9]}, slices=True)[0] == [BASES[:9], BASES[:4]]
    assert "genome.fa: no record is a slice: none is named like" in capsys.readouterr().err


def test_records_that_are_named_for_other_lengths_are_no_slices(cut):
    bedtools = {"chr20:100-140": BASES[100:140]}
    with pytest.raises(
        InputError, match=r"no slice of it: it is named for 41 bp, and has 40; .* call it 'chr20:101-140'"
    ):
        cut("chr20 100 140\n", bedtools, slices=True)
    with pytest.raises(InputError, match=r"it is named for 900 bp, and has 100$"):
        cut("chr20 100 140\n", {"chr20:101-1,000": BASES[100:]}, slices=True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slices_of_any_contig_round_trip(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("slices")
    name = data.draw(st.text("chrM7:*|-.", min_size=1, max_size=6).filter(lambda text: text[0] != ">"))
    edges = sorted(data.draw(st.sets(st.integers(0, len(BASES)), min_size=2, max_size=6)))
    parts = list(pairwise(edges))
    shuffled = data.draw(st.permutations(parts))
    fasta = "".join(f">{name}:{start + 1}-{end}\n{BASES[start:end]}\n" for start, end in shuffled)
    (folder / "slices.fa").write_text(fasta)
    (folder / "whole.fa").write_text(f">{name}\n{BASES}\n")
    rows = []
    for start, end in parts:
        first = data.draw(st.integers(start, end - 1))
        rows.append(f"{name}\t{first}\t{data.draw(st.integers(first + 1, end))}\n")
    (folder / "rows.bed").write_text("".join(rows))
    whole = read_intervals(folder / "rows.bed", folder / "whole.fa")
    assert read_intervals(folder / "rows.bed", Genome(folder / "slices.fa", slices=True)).equals(whole)


def test_the_variants_of_a_chromosome_stand_on_its_slice(shared):
    folder = shared / "data" / "genomes" / "human_hg19_chr22"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/genomes beside the project")
    calls = next(folder.glob("*.vcf.gz"))
    header, records = read_variants(calls)
    genome = Genome(next(folder.glob("chr22_*.fa.gz")), slices=True)
    (contig,) = list(read_fasta(genome.path))
    lengths = {contig[1].split()[0]: len(contig[2])}
    places = genome.match(calls, {"22": None}, lengths, header.contigs)
    compared = 0
    for record in records:
        part, start = places.find(str(record.line), record.chrom, record.pos - 1, record.pos - 1 + len(record.ref))
        assert part.contig == "chr22" and contig[2][start : start + len(record.ref)].upper() == record.ref
        compared += 1
    assert compared > 2000 and genome.renamed == {"22": "chr22"}
