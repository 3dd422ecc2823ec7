"""The store: letters at any place, and damaged folders are refused with the file and what to do."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.training.corpus.store import open_corpus


@pytest.fixture(scope="module")
def store(tmp_path_factory, write_corpus, draw_letters):
    contigs = [{"letters": draw_letters(length, length)} for length in (2_500, 1, 100, 7_777)]
    contigs.insert(2, {"letters": draw_letters(300), "split": "left_out"})
    return write_corpus(tmp_path_factory.mktemp("store") / "corpus", contigs, row=100, batch=7), contigs


@given(st.data())
def test_letters_are_those_of_the_contig(store, data):
    corpus, contigs = store
    contig = data.draw(st.sampled_from([0, 1, 3, 4]))
    whole = contigs[contig]["letters"]
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    found = corpus.read(contig, start, end)
    assert found.dtype == np.uint8 and found.tobytes().decode() == whole[start:end]


def test_letters_that_lie_together_are_no_copy(store):
    corpus, _ = store
    found = corpus.read(0, 50, 650)  # seven rows of 100 letters are a batch
    assert not found.flags.owndata and not found.flags.writeable
    assert np.shares_memory(found, corpus.read(0, 100, 200))
    assert corpus.read(0, 650, 750).flags.owndata


def test_many_places_at_once(store):
    corpus, contigs = store
    random = np.random.default_rng(0)
    rows = random.choice([0, 4], 200)
    starts = np.array([random.integers(len(contigs[row]["letters"]) - 150) for row in rows])
    out = np.zeros((200, 150), dtype=np.uint8)
    corpus.fill(rows, starts, out)
    for row, start, found in zip(rows, starts, out):
        assert found.tobytes().decode() == contigs[row]["letters"][start : start + 150]


@pytest.mark.parametrize(("contig", "start", "end"), [(0, 2_400, 2_501), (2, 0, 1), (1, -1, 1), (9, 0, 1), (-1, 0, 1)])
def test_places_without_letters_are_refused(store, contig, start, end):
    with pytest.raises(InputError, match=r"has no letters at -?\d"):
        store[0].read(contig, start, end)
    with pytest.raises(InputError, match="has no letters"):
        store[0].fill(np.array([contig]), np.array([start]), np.empty((1, end - start), dtype=np.uint8))


def test_a_corpus_travels_by_its_folder(store):
    corpus, contigs = store
    other = pickle.loads(pickle.dumps(corpus))
    assert other.contigs == corpus.contigs and other.read(0, 5, 9).tobytes().decode() == contigs[0]["letters"][5:9]


def test_datasets_opens_the_letters(store):
    """What a push makes of the folder is read by `datasets` alone."""
    import datasets

    rows = datasets.Dataset.from_file(str(store[0].folder / "letters" / "data-00000-of-00001.arrow"))
    assert rows[1]["contig"] == 0 and rows[1]["start"] == 100
    assert bytes(rows[1]["letters"]).decode() == store[1][0]["letters"][100:200]


def test_variants_of_an_interval(tmp_path, write_corpus):
    edits = [(0, 0, 10, 3, "A"), (0, 0, 20, 0, "GG"), (0, 0, 20, 1, "T"), (0, 1, 5, 1, "C"), (1, 0, 10, 1, "G")]
    contigs = [{"letters": "ACGT" * 25}, {"letters": "ACGT" * 25}]
    corpus = write_corpus(tmp_path / "corpus", contigs, variants=edits, haplotypes=["a", "b"])
    assert corpus.list_varied(0) == [0, 1] and corpus.list_varied(1) == [0]
    found = corpus.find_edits(0, 0, 12, 40)  # the first one reaches in
    assert found.position.tolist() == [10, 20, 20] and found.reference_length.tolist() == [3, 0, 1]
    assert [one.tobytes() for one in found.alternatives] == [b"A", b"GG", b"T"]
    assert corpus.find_edits(0, 0, 13, 19).position.size == 0
    assert corpus.find_edits(1, 1, 0, 100).position.size == corpus.find_edits(-1, 0, 0, 100).position.size == 0


def test_classes_have_names(tmp_path, write_corpus):
    rows = [(0, 0, 10, "exon"), (0, 10, 20, "intron"), (0, 30, 40, "exon")]
    corpus = write_corpus(tmp_path / "corpus", [{"letters": "ACGT" * 25}], classes=rows)
    classes = corpus.classes
    assert [classes.names[kind] for kind in classes.kind] == ["exon", "intron", "exon"]
    assert classes.start.tolist() == [0, 10, 30] and corpus.haplotypes is None


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["letters/data-00000-of-00001.arrow", "contigs.arrow", "segments.arrow", "anchors.arrow"]
)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "the file is missing"),
        (_cut, r"bytes, but [\d,]+ were written"),
        (lambda path: path.write_bytes(b""), "0 bytes, but"),
    ],
)
def test_damaged_files_are_refused_by_name(store, tmp_path, name, damage, message):
    folder = tmp_path / "corpus"
    shutil.copytree(store[0].folder, folder)
    damage(folder / name)
    with pytest.raises(InputError, match=message) as raised:
        open_corpus(folder)
    assert str(folder / name) in str(raised.value) and "gengram corpus build" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [], "its list of files lacks contigs.arrow"),
        (lambda names: [name for name in names if "letters" not in name], r"its list of files lacks letters/\*.arrow"),
        (lambda names: [*names, "../other.arrow"], "'../other.arrow' is no file of this folder"),
        (lambda names: [*names, "/etc/hosts"], "'/etc/hosts' is no file of this folder"),
        (
            lambda names: [name for name in names if "data-00001" not in name],
            "data-00001.arrow: the file is not in the list",
        ),
        (lambda names: [name for name in names if "other" not in name], "other.arrow: the file is not in the list"),
    ],
)
def test_a_list_of_other_files_is_refused(store, tmp_path, change, message):
    """Checksums are those of the list: what it lacks would be read, or left behind by a push, without a word."""
    folder = tmp_path / "corpus"
    shutil.copytree(store[0].folder, folder)
    for name in ("letters/data-00001.arrow", "other.arrow"):
        shutil.copy(folder / "contigs.arrow", folder / name)
    facts = json.loads((folder / "corpus.json").read_text())
    known = {one["file"]: one for one in facts["shards"]}
    size, digest = known["contigs.arrow"]["bytes"], known["contigs.arrow"]["sha256"]
    names = change([*known, "letters/data-00001.arrow", "other.arrow"])
    facts["shards"] = [{"bytes": size, "sha256": digest} | known.get(name, {}) | {"file": name} for name in names]
    (folder / "corpus.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=message):
        open_corpus(folder)


@pytest.mark.parametrize("name", ["letters/data-00000-of-00001.arrow", "contigs.arrow"])
def test_changed_bytes_are_found(store, tmp_path, name):
    """Of the letters, which are many, where it is asked for."""
    folder = tmp_path / "corpus"
    shutil.copytree(store[0].folder, folder)
    open_corpus(folder, check=True)
    _flip(folder / name)
    with pytest.raises(InputError, match="checksum") as raised:
        open_corpus(folder, check=name.startswith("letters"))
    assert str(folder / name) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[]", "no corpus of format 1"),
        ('{"format": 2, "shards": []}', "no corpus of format 1 .format 2"),
        ('{"format": 1}', "no corpus of format 1"),
        ('{"format": 1, "shards": []}', "species"),
        ('{"format": 1, "shards": [], "species": [{"name": "human"}], "haplotypes": []}', "species"),
        ('{"format": 1, "shards": [], "species": [], "haplotypes": [], "recipe": {"groups": "all"}}', "groups"),
        ('{"format": 1, "species": [], "haplotypes": [], "shards": [3]}', "list of files"),
        (
            '{"format": 1, "species": [], "haplotypes": [], "shards": [{"file": "a", "bytes": "x", "sha256": ""}]}',
            "list of files",
        ),
    ],
)
def test_damaged_facts_are_refused(tmp_path, text, message):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "corpus.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_corpus(folder)


def test_what_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(InputError, match="is no corpus"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("content", [b"ARROW1 and then nothing of it", b"no arrow at all" * 9, b"\xff\xff\xff\xff" * 4])
def test_files_of_another_kind_are_refused(store, tmp_path, content):
    """Sizes that fit are no proof."""
    folder = tmp_path / "corpus"
    shutil.copytree(store[0].folder, folder)
    facts = json.loads((folder / "corpus.json").read_text())
    for name in ("letters/data-00000-of-00001.arrow", "segments.arrow"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        [shard] = [one for one in facts["shards"] if one["file"] == name]
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (folder / "corpus.json").write_text(json.dumps(facts))
        with pytest.raises(InputError, match="no Arrow file") as raised:
            open_corpus(folder)
        assert name in str(raised.value)
        (folder / name).write_bytes(before)
        shard |= {"bytes": len(before), "sha256": hashlib.sha256(before).hexdigest()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("segments", {"segments": [(7, 0, 10, "train")]}),
        ("segments", {"segments": [(0, 0, 101, "train")]}),
        ("segments", {"segments": [(0, 20, 10, "train")]}),
        ("anchors", {"anchors": [(1, 0, 10, 1.0)]}),
        ("anchors", {"anchors": [(0, 0, 101, 1.0)]}),
        ("anchors", {"anchors": [(0, 0, 10, float("nan"))]}),
        ("anchors", {"anchors": [(0, 0, 10, -1.0)]}),
        ("haplotypes", {"variants": [(3, 0, 5, 1, "C")], "haplotypes": ["a"]}),
        ("contigs", {"species": []}),
    ],
)
def test_tables_that_do_not_fit_each_other_are_refused(write_corpus, tmp_path, name, changes):
    with pytest.raises(InputError, match=rf"{name}\.arrow: it speaks of what the corpus does not have"):
        write_corpus(tmp_path / "corpus", [{"letters": "ACGT" * 25}], **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("start"), "there is no column start"),
        (lambda table: table.set_column(1, "start", pa.array(["x"])), "no Arrow file that can be read"),
        (lambda table: table.set_column(1, "start", pa.array([None], pa.int64())), "a value is missing"),
        (lambda table: table.slice(0, 0), "anchors.arrow: it speaks of what"),
    ],
)
def test_tables_of_other_columns_are_refused(write_corpus, tmp_path, change, message):
    folder = write_corpus(tmp_path / "corpus", [{"letters": "ACGT" * 25}]).folder
    path = folder / "segments.arrow"
    table = change(pa.ipc.open_file(path).read_all())
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    facts = json.loads((folder / "corpus.json").read_text())
    [shard] = [one for one in facts["shards"] if one["file"] == path.name]
    shard |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "corpus.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=message):
        open_corpus(folder)


@pytest.mark.parametrize("name", ["classes", "haplotypes"])
def test_tables_without_rows_are_read(tmp_path, write_corpus, name):
    given = {"classes": [(0, 0, 10, "exon")], "variants": [(0, 0, 10, 3, "A")], "haplotypes": ["a"]}
    corpus = write_corpus(tmp_path / "corpus", [{"letters": "ACGT" * 25}], **given)
    path = corpus.folder / f"{name}.arrow"
    with pa.memory_map(str(path)) as file:
        schema = pa.ipc.open_file(file).schema
    with pa.ipc.new_file(path, schema):
        pass
    facts = json.loads((corpus.folder / "corpus.json").read_text())
    for file in facts["shards"]:
        if file["file"] == path.name:
            file |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (corpus.folder / "corpus.json").write_text(json.dumps(facts))
    again = open_corpus(corpus.folder)
    assert len(again.classes.contig) == (name != "classes")
    assert len(again.find_edits(0, 0, 0, 100).position) == (name != "haplotypes")
