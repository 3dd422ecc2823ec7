"""Blocks of tokens: a function of their number, and their letters are where they say."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.training.corpus.blocks import NOWHERE, Blocks, BlockStream
from gengram.training.corpus.windows import Drawing, read_window

PLAIN = build_nucleotide_tokenizer()
AROUND = build_nucleotide_tokenizer(template="cls_sep")
KMERS = build_kmer_tokenizer()


@pytest.fixture(scope="module")
def pairs(draw_letters):
    """A BPE tokenizer: its tokens have two to six bases."""
    pytest.importorskip("numba")
    return train_bpe_tokenizer([draw_letters(2_000, seed, "ACGT") for seed in range(20)], vocab_size=300)


@pytest.fixture
def genome(write_corpus, draw_letters, tmp_path):
    """Two haplotypes on a long contig, a short contig, low complexity, codes and runs of N."""
    contigs = [
        {"letters": draw_letters(9_000, 1)},
        {"letters": draw_letters(250, 2, "ACGTRYN")},
        {"letters": "ACACACAC" * 500 + draw_letters(1_500, 3, "ACGTRYKMacgtn")},
    ]
    random = np.random.default_rng(0)
    variants = []
    for haplotype in (0, 1):
        for place in range(int(random.integers(40)), 8_900, 45):
            taken = int(random.integers(8))
            variants.append((haplotype, 0, place, taken, draw_letters(int(random.integers(1, 8)), place, "ACGT")))
    options = {"variants": variants, "haplotypes": ["a", "b"], "row": 700, "batch": 3}
    return contigs, write_corpus(tmp_path / "genome", contigs, **options)


def find_letters(tokenizer, token: int) -> str:
    """What bases a token stands for; empty for any that says less."""
    text = tokenizer.convert_ids_to_tokens(token)
    return text if set(text) <= set("ACGT") else ""


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


@pytest.mark.parametrize("kind", ["plain", "around", "kmers", "pairs"])
@pytest.mark.parametrize("packed", [False, True])
def test_coordinates_of_a_block_give_back_its_bases(genome, request, kind, packed):
    """Token by token, from the letters of the genome itself: both strands, haplotypes, codes, N, every tokenizer."""
    contigs, corpus = genome
    tokenizer = {"plain": PLAIN, "around": AROUND, "kmers": KMERS}.get(kind) or request.getfixturevalue("pairs")
    blocks = Blocks(corpus, tokenizer, 120, 40, packed=packed)
    bases, strands, haplotypes = 0, set(), set()
    for block in blocks.__getitems__(range(40)):
        located = blocks.locate(block["block"])
        places = located.find_places(corpus)
        assert len(located.document) == len(places) == 120
        for token, document, letters, (start, end) in zip(
            block["input_ids"].tolist(), located.document.tolist(), located.letters.tolist(), places.tolist()
        ):
            if document == NOWHERE:
                assert token in tokenizer.all_special_ids and letters == [NOWHERE, NOWHERE] == [start, end]
                continue
            window = located.windows[document]
            read = spell(corpus, window)[slice(*letters)].upper()
            found = find_letters(tokenizer, token)
            assert found in ("", read)
            if start != NOWHERE:
                assert window.start <= start < end <= window.end
            if window.haplotype < 0 and found:
                there = contigs[window.contig]["letters"][start:end].upper()
                assert found == (reverse_complement(there) if window.strand else there)
                bases += end - start
            strands.add(window.strand)
            haplotypes.add(window.haplotype)
    assert bases > 1_000 and strands == {0, 1} and haplotypes == {-1, 0, 1}


@pytest.mark.parametrize("packed", [False, True])
def test_blocks_of_pairs_are_full(genome, pairs, packed):
    """Where bases make few tokens, a window is made longer or drawn again; never is a block filled up."""
    _, corpus = genome
    blocks = Blocks(corpus, pairs, 500, 30, packed=packed)
    for block in blocks.__getitems__(range(30)):
        located = blocks.locate(block["block"])
        texts = [spell(corpus, window) for window in located.windows]
        whole = [pairs(text)["input_ids"] for text in texts]
        if not packed:
            [ids] = whole
            after = len(blocks._encoder.after)
            whole = [[*ids[: 500 - after], *ids[len(ids) - after :]]]
        assert block["input_ids"].tolist() == [token for ids in whole for token in ids][:500]
        assert pairs.pad_token_id not in block["input_ids"]


def test_windows_of_few_tokens_are_made_longer(genome, pairs, monkeypatch):
    """Wherever more letters are needed than were measured: on in the direction of reading, then the other way."""
    _, corpus = genome
    monkeypatch.setattr(Blocks, "_measure_tokens", lambda *given: (2.0, 1.0))
    blocks = Blocks(corpus, pairs, 900, 40)
    for block in blocks.__getitems__(range(40)):
        [window] = blocks.locate(block["block"]).windows
        assert window.end - window.start > blocks.source.length
        assert block["input_ids"].tolist()[:-1] == pairs(spell(corpus, window))["input_ids"][:899]


def test_segments_of_too_few_tokens_are_refused(write_corpus, pairs, tmp_path):
    with pytest.raises(InputError, match=r"(longer than every stretch|fewer than the [\d,]+ tokens)"):
        Blocks(write_corpus(tmp_path / "few", [{"letters": "A" + "N" * 9_000}]), pairs, 200, 1, Drawing(max_n=1))[0]


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
