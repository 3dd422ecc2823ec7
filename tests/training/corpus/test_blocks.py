"""Blocks of tokens: a function of their number, and their letters are where they say."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gengram.errors import InputError
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.training.corpus.blocks import Blocks, BlockStream
from gengram.training.corpus.windows import Drawing, read_window

PLAIN = build_nucleotide_tokenizer()
AROUND = build_nucleotide_tokenizer(template="cls_sep")
KMERS = build_kmer_tokenizer()


def spell(corpus, window) -> str:
    return read_window(corpus, window).tobytes().decode()


@pytest.mark.parametrize("tokenizer", [PLAIN, AROUND, KMERS], ids=["plain", "around", "kmers"])
@pytest.mark.parametrize("order", ["random", "covering"])
def test_a_block_is_its_window_as_the_tokenizer_reads_it(corpus, tokenizer, order):
    blocks = Blocks(corpus, tokenizer, 200, 60, Drawing(order=order))
    for block in blocks.__getitems__(range(60)):
        assert block["input_ids"].dtype == torch.int64 and block["input_ids"].shape == (200,)
        located = blocks.locate(block["block"])
        ids = tokenizer(spell(corpus, located.windows[0]))["input_ids"]
        after = len(blocks._encoder.after)
        assert block["input_ids"].tolist() == [*ids[: 200 - after], *ids[len(ids) - after :]]


@pytest.mark.parametrize("tokenizer", [PLAIN, AROUND, KMERS], ids=["plain", "around", "kmers"])
def test_packed_documents_follow_each_other(corpus, tokenizer):
    blocks = Blocks(corpus, tokenizer, 300, 40, Drawing(length=150), packed=True)
    for block in blocks.__getitems__(range(40)):
        expected, positions = [], []
        for window in blocks.locate(block["block"]).windows:
            ids = tokenizer(spell(corpus, window))["input_ids"]
            expected += ids
            positions += range(len(ids))
        assert block["input_ids"].tolist() == expected[:300]
        assert block["position_ids"].tolist() == positions[:300]


def test_a_block_depends_on_its_number_alone(corpus):
    for packed in (False, True):
        blocks = Blocks(corpus, PLAIN, 100, 50, packed=packed)
        whole = blocks.__getitems__(range(50))
        for number in (49, 0, 17):
            assert all(torch.equal(blocks[number][name], whole[number][name]) for name in whole[0] if name != "block")
        for workers in (0, 2):
            loader = DataLoader(blocks, batch_size=7, num_workers=workers, collate_fn=list)
            found = [row for batch in loader for row in batch]
            assert [row["block"] for row in found] == list(range(50))
            assert all(torch.equal(row["input_ids"], one["input_ids"]) for row, one in zip(found, whole))


def test_a_stream_goes_on_at_the_next_block(corpus):
    blocks = Blocks(corpus, PLAIN, 100, 50)
    stream = BlockStream(blocks, chunk=4)
    rows = iter(stream)
    assert [next(rows)["block"] for _ in range(13)] == list(range(13))
    other = BlockStream(Blocks(corpus, PLAIN, 100, 50), chunk=4)
    other.load_state_dict(stream.state_dict())
    assert [row["block"] for row in other] == list(range(13, 50))


def test_what_does_not_fit_is_refused_with_both_numbers(corpus):
    with pytest.raises(InputError, match=r"windows of 30,000 bp .* 20,000 bp"):
        Blocks(corpus, PLAIN, 30_000, 1)
    with pytest.raises(InputError, match="no room"):
        Blocks(corpus, AROUND, 2, 1)
    with pytest.raises(IndexError):
        Blocks(corpus, PLAIN, 100, 1)[1]
    assert Blocks(corpus, PLAIN, 30_000, 1, packed=True)[0]["input_ids"].shape == (30_000,)


def test_splits_seeds_and_stages_have_other_blocks(corpus):
    found = [
        Blocks(corpus, PLAIN, 100, 1, seed=seed, stage=stage, split=split)[0]["input_ids"]
        for seed, stage, split in ((0, 0, "train"), (1, 0, "train"), (0, 1, "train"), (0, 0, "validation"))
    ]
    assert len({tuple(one.tolist()) for one in found}) == 4
    assert np.unique(Blocks(corpus, PLAIN, 100, 20, split="validation").source.draw(np.arange(20)).contig) == [2]
