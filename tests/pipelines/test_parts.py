"""Finished parts in a folder: one plan, whoever comes first; parts that are whole; one process that ends it."""

import fcntl
import json
import os

import numpy as np
import pyarrow as pa
import pytest
from torch.distributed import FileStore

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.genome import text
from gengram.genome.text import FileDigest, read_lines
from gengram.pipelines import run_folder
from gengram.pipelines.blocks import take_blocks
from gengram.pipelines.parts import Parts, pack_lists, pack_vectors, unpack
from gengram.pipelines.shares import ALONE, Member, Shard
from gengram.team import Team

PLAN = {"rows": 5, "file": "a.csv", "pool": "mean"}
TABLE = pa.table({"x": [1, 2, 3]})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.tsv"


def test_every_block_is_of_one_shard():
    for count in (1, 2, 5):
        taken = [[Shard(index, count).takes(block) for index in range(1, count + 1)] for block in range(12)]
        assert all(sum(row) == 1 for row in taken)
    assert Shard(1, 1) == ALONE and str(Shard(2, 8)) == "2/8"


def test_parts_are_read_again_and_the_folder_goes_with_the_end(out):
    parts = Parts(out, PLAN)
    assert not parts.has(0)
    for number in (1, 0):
        parts.write(number, TABLE.slice(number))
    assert [table.num_rows for table in parts.read(range(2))] == [3, 2]
    assert sorted(path.name for path in parts.folder.iterdir()) == [
        "part-000000.arrow",
        "part-000001.arrow",
        "plan.json",
    ]
    with parts.assemble(2) as is_whole:
        assert is_whole
    assert not parts.folder.exists() and list(out.parent.iterdir()) == []


def test_two_that_begin_at_once_share_one_plan(out, monkeypatch):
    """The second one has seen no folder yet when the first one makes it."""
    rename, first = os.rename, []

    def come_late(source, target):
        if not first:
            first.append(None)
            first.append(Parts(out, PLAN, Shard(1, 2)))
        return rename(source, target)

    monkeypatch.setattr(os, "rename", come_late)
    second = Parts(out, {**PLAN, "file": "elsewhere/a.csv"}, Shard(2, 2))
    assert second.plan == first[1].plan == PLAN
    first.clear()
    second.remove()
    with pytest.raises(InputError, match="pool was 'mean' and is 'max'"):
        Parts(out, {**PLAN, "pool": "max"}, Shard(2, 2))
    assert [path.name for path in out.parent.iterdir()] == ["out.tsv.parts"]


@pytest.mark.parametrize("content", ["a file", "other files", "no JSON"])
def test_what_is_none_of_ours_is_refused(content, out):
    folder = out.with_name("out.tsv.parts")
    if content == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / ("plan.json" if content == "no JSON" else "mine.txt")).write_text("mine")
    with pytest.raises(InputError, match="cannot be read as JSON" if content == "no JSON" else "it is in the way"):
        Parts(out, PLAN)
    assert [path.name for path in out.parent.iterdir()] == ["out.tsv.parts"]


def test_an_empty_folder_is_taken_and_a_killed_beginning_is_forgotten(out):
    out.with_name("out.tsv.parts").mkdir()
    killed = out.with_name("out.tsv.parts.partial")
    killed.mkdir()
    (killed / "plan.json.partial").write_text("{")
    parts = Parts(out, PLAN)
    assert json.loads((parts.folder / "plan.json").read_text()) == PLAN and not killed.exists()


def test_a_part_that_cannot_be_read_is_named(out):
    parts = Parts(out, PLAN)
    (parts.folder / "part-000000.arrow").write_bytes(b"ARROW1 and no more")
    with pytest.raises(InputError, match=r"part-000000.arrow: cannot be read; remove it"):
        list(parts.read([0]))


def test_after_an_error_an_empty_folder_goes_and_that_of_shards_stays(out):
    for shard, stays in ((ALONE, False), (Shard(1, 2), True)):
        parts = Parts(out, PLAN, shard)
        with pytest.raises(KeyboardInterrupt), parts.keep():
            raise KeyboardInterrupt
        assert parts.folder.exists() == stays


def test_only_the_last_shard_puts_it_together(out, capsys):
    shards = [Parts(out, PLAN, Shard(index, 2)) for index in (1, 2)]
    shards[0].write(0, TABLE)
    with shards[0].assemble(2) as is_whole:
        assert not is_whole
    assert "shard 1/2 is done; 1 of 2 parts are still missing" in capsys.readouterr().err
    shards[1].write(1, TABLE)
    with shards[1].assemble(2) as is_whole:
        assert is_whole
        with shards[0].assemble(2) as other:  # the other one sees them all, too
            assert not other
        with pytest.raises(InputError, match="another process puts it together"), Parts(out, PLAN).assemble(2):
            pass
    with shards[0].assemble(2) as is_whole:
        assert not is_whole  # it is done
    assert not shards[0].folder.exists()


def test_one_that_died_at_the_end_leaves_no_lock(out):
    first, second = (Parts(out, PLAN, Shard(index, 2)) for index in (1, 2))
    first.write(0, TABLE)
    with pytest.raises(KeyboardInterrupt), first.keep(), first.assemble(1):
        raise KeyboardInterrupt
    with second.assemble(1) as is_whole:
        assert is_whole


def test_of_two_teams_in_one_folder_one_ends_it(out, tmp_path):
    """Each has computed all parts; the second one says what has become of them."""
    plain = [Parts(out, PLAN, Member(Team(0, 1, FileStore(str(tmp_path / f"store-{number}"), 1)))) for number in (0, 1)]
    for parts in plain:
        parts.write(0, TABLE)
    with plain[0].assemble(1) as is_whole:
        assert is_whole
        with pytest.raises(InputError, match="another process puts it together"), plain[1].assemble(1):
            pass
    late = Parts(out, PLAN)
    late.remove()
    with pytest.raises(InputError, match="another run has put it together"):
        late.write(1, TABLE)
    with pytest.raises(InputError, match="another run has put it together"), late.assemble(1):
        pass


def test_an_interrupt_at_the_beginning_leaves_no_plan(out, monkeypatch):
    def interrupt(self, plan, settled):
        raise KeyboardInterrupt

    for begun_by_others in (False, True):
        if begun_by_others:
            Parts(out, PLAN).write(0, TABLE)
        with monkeypatch.context() as patch:
            patch.setattr(Parts, "_compare", interrupt)
            for share in (ALONE, Shard(1, 2)):
                with pytest.raises(KeyboardInterrupt):
                    Parts(out, PLAN, share)
                assert out.with_name("out.tsv.parts").exists() == (begun_by_others or share != ALONE)
        Parts(out, PLAN).remove()


def test_one_that_clears_what_another_begins_with_goes_on_with_its_plan(out, monkeypatch):
    write, first = run_folder.write_text, []

    def come_between(content, file):
        if not first:
            first.append(None)
            Parts(out, PLAN)  # has the same name for what is not whole yet
        write(content, file)

    monkeypatch.setattr(run_folder, "write_text", come_between)
    assert Parts(out, PLAN).plan == PLAN
    assert [path.name for path in out.parent.iterdir()] == ["out.tsv.parts"]


def test_without_locks_a_run_without_shards_ends_it(out, monkeypatch, capsys):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    parts = Parts(out, PLAN, Shard(1, 1 + 1))
    parts.write(0, TABLE)
    with parts.assemble(1) as is_whole:
        assert not is_whole
    assert "the same command without --shard writes" in capsys.readouterr().err
    with Parts(out, PLAN).assemble(1) as is_whole:
        assert is_whole


def test_numbers_are_packed_and_unpacked():
    matrices = [np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((1, 2), np.float32)]
    packed = pack_lists(matrices)
    assert packed.to_pylist() == [one.tolist() for one in matrices]
    assert unpack(pa.chunked_array([packed])).tolist() == np.concatenate(matrices).ravel().tolist()
    assert unpack(pa.chunked_array([pack_vectors(matrices[0])[1:]])).tolist() == [2, 3, 4, 5]


def test_blocks_depend_on_the_rows_and_not_on_how_they_come():
    lengths = np.random.default_rng(0).integers(1, 30, 100)
    table = pa.table({"sequence": ["A" * length for length in lengths], "row": range(100)})
    cuts = []
    for step in (1, 7, 100):
        blocks = list(take_blocks((table.slice(start, step) for start in range(0, 100, step)), 6, 60))
        assert pa.concat_tables(blocks)["row"].to_pylist() == list(range(100))
        cuts.append([len(block) for block in blocks])
    assert cuts[0] == cuts[1] == cuts[2] and max(cuts[0]) == 6
    (alone,) = take_blocks(iter([table.slice(0, 1)]), 6, 0)
    assert len(alone) == 1


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzip"])
@pytest.mark.parametrize("size", [40, 300_000])
def test_a_checksum_is_taken_in_passing(kind, size, tmp_path, monkeypatch):
    import gzip

    path = tmp_path / "text"
    content = b"".join(b"%d\n" % number for number in range(size // 4))
    if kind == "bgzip":
        pysam = pytest.importorskip("pysam")
        with pysam.BGZFile(str(path), "wb") as file:
            file.write(content)
    else:
        path.write_bytes(gzip.compress(content) if kind == "gzip" else content)
    digest = FileDigest()
    lines = sum(1 for _ in read_lines(path, digest=digest))
    assert lines == size // 4
    expected, reread = hash_file(path), []
    update = digest.update
    monkeypatch.setattr(digest, "update", lambda *given: reread.append(given) or update(*given))
    assert digest.finish(path) == expected and not reread
    half = FileDigest()
    for _ in zip(range(3), text.read_lines(path, digest=half)):
        pass
    assert half.finish(path) == expected
