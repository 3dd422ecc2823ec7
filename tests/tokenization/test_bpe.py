"""BPE tokenizers: mended offsets and letters, sequences given back, and the bulk encoder against the library."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, TokenizersBackend

from gengram.loading.tokenizers import load_tokenizer
from gengram.tokenization import BpeEncoder, BpeTokenizer, assign_bases, encode_bpe, load_bpe_tokenizer, locate_tokens
from gengram.tokenization.bpe import fold_letters, wrap_bpe

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "-"]
REPEATS = ["AT" * 40, "CAG" * 30, "TTAGGG" * 20, "ACGTTGCA" * 12, "GATTACA" * 15, "AANNNGTC" * 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small tokenizer built as GENA-LM's was."""
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")])
    backend.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
    special = [AddedToken(name, special=True, normalized=False) for name in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    backend.train_from_iterator(REPEATS, trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    path = tmp_path_factory.mktemp("tokenizer")
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), SPECIAL))
    TokenizersBackend(tokenizer_object=backend, **names).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def original(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def mended(folder):
    return load_bpe_tokenizer(folder)


def test_soft_masked_bases_are_bases(original, mended):
    sequence = "ATATgattacaCAGcag"
    assert mended(sequence)["input_ids"] == original(sequence.upper())["input_ids"]
    assert original(sequence)["input_ids"].count(0) == 10
    assert load_bpe_tokenizer(original.name_or_path, case="unknown")(sequence)["input_ids"].count(0) == 10


def test_uracil_is_thymine(mended):
    assert mended("AUUACu")["input_ids"] == mended("ATTACT")["input_ids"]


@pytest.mark.parametrize("run", [10, 11, 37])
def test_offsets_cover_a_run_of_n(mended, run):
    sequence = "ACGT" + "N" * run + "TTAGGG"
    gap = mended.convert_tokens_to_ids("-")
    encoded = mended(sequence, return_offsets_mapping=True)
    place = encoded["input_ids"].index(gap)
    assert encoded["offset_mapping"][place] == (4, 4 + run)
    assert mended("N" * run, return_offsets_mapping=True)["offset_mapping"][1] == (0, run)
    covered = sum(end - start for start, end in locate_tokens(mended, sequence)[1:-1].tolist())
    assert covered == len(sequence)


@pytest.mark.parametrize("stride", [0, 1])
@pytest.mark.parametrize("side", ["left", "right"])
def test_windows_share_no_base_of_a_run_of_n(folder, side, stride):
    mended = load_bpe_tokenizer(folder)
    mended.truncation_side = side
    sequence = "ATATCAGG" + "N" * 20 + "TTAGGGACGTTGCA" + "N" * 12
    whole = mended(sequence, return_offsets_mapping=True)
    intervals = dict.fromkeys(whole["offset_mapping"][1:-1])
    for length in range(3 + stride, len(whole["input_ids"]) + 1):
        options = {"truncation": True, "max_length": length, "return_offsets_mapping": True}
        windows = mended(sequence, **options, stride=stride, return_overflowing_tokens=True)["offset_mapping"]
        assert {pair for window in windows for pair in window[1:-1]} == intervals.keys()
        kept = mended(sequence, **options)  # what is cut off is in no token
        start, end = kept["offset_mapping"][1][0], kept["offset_mapping"][-2][1]
        assert mended.restore_sequence(kept["input_ids"], kept["offset_mapping"]) == sequence[start:end]
        located = locate_tokens(mended, sequence, truncation=True, max_length=length)
        assert ((assign_bases(located, len(sequence)) >= 0).nonzero()[0] == range(start, end)).all()


def test_a_pair_has_the_runs_of_each_text(mended):
    encoded = mended("ACGT" + "N" * 15, "N" * 11 + "AC", return_offsets_mapping=True)
    gap = mended.convert_tokens_to_ids("-")
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"])
    assert [pair for index, pair in pairs if index == gap] == [(4, 19), (0, 11)]


def test_special_names_in_a_sequence_are_the_original_s_unless_split(original, mended):
    assert mended("AC[MASK]GT")["input_ids"] == original("AC[MASK]GT")["input_ids"]
    for tokenizer in (original, mended):
        assert tokenizer.mask_token_id in tokenizer("AC[MASK]GT")["input_ids"]
        assert tokenizer.mask_token_id not in tokenizer("AC[MASK]GT", split_special_tokens=True)["input_ids"]


def test_sequences_are_given_back(mended):
    sequence = "ATATATGATTACANNNGTC"
    assert mended.restore_sequence(mended(sequence)["input_ids"]) == sequence
    gapped = "ATAT" + "N" * 14 + "CAG?"
    encoded = mended(gapped, return_offsets_mapping=True)
    assert mended.restore_sequence(encoded["input_ids"], encoded["offset_mapping"]) == gapped.replace("?", "N")
    with pytest.raises(ValueError, match="a run of N of unknown length"):
        mended.restore_sequence(encoded["input_ids"])
    with pytest.raises(ValueError, match="an unknown character"):
        mended.restore_sequence(mended("AC?GT")["input_ids"])


def test_saved_tokenizer_keeps_its_ids(mended, tmp_path):
    mended.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("acgtNNNNNNNNNNNNCAG[MASK]")["input_ids"] == mended("acgtNNNNNNNNNNNNCAG[MASK]")["input_ids"]
    assert again.model_max_length == 512
    assert isinstance(load_bpe_tokenizer(tmp_path), BpeTokenizer)


def test_saved_policy_stays(folder, tmp_path):
    load_bpe_tokenizer(folder, case="unknown", uracil="unknown").save_pretrained(tmp_path / "0")
    expected = AutoTokenizer.from_pretrained(tmp_path / "0")
    for turn in range(3):
        tokenizer = load_tokenizer(tmp_path / str(turn), padding_side="left")
        tokenizer.save_pretrained(tmp_path / str(turn + 1))
        assert type(tokenizer) is BpeTokenizer and tokenizer.padding_side == "left"
        assert tokenizer("ACgtUN[MASK]")["input_ids"] == expected("ACgtUN[MASK]")["input_ids"]
        assert tokenizer.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()


def test_arguments_reach_a_mended_tokenizer(folder, tmp_path):
    tokenizer = load_tokenizer(folder, model_max_length=77, padding_side="left")
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (77, "left")
    with pytest.raises(TypeError, match="case='unknown'"):
        load_tokenizer(folder, case="unknown")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="case='unknown'"):
        load_tokenizer(tmp_path, case="unknown")
    assert load_tokenizer(tmp_path).model_max_length == 77


def test_other_tokenizers_are_refused(tmp_path, folder):
    TokenizersBackend(tokenizer_object=Tokenizer(models.WordLevel({"A": 0}, unk_token="A"))).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no BPE tokenizer"):
        load_bpe_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="model_max_length=0"):
        load_bpe_tokenizer(folder, model_max_length=0)
    with pytest.raises(ValueError, match=r"has no \[UNK\]"):
        wrap_bpe(Tokenizer(models.BPE()), 512)
    with pytest.raises(ValueError, match="case='lower'"):
        fold_letters({"A"}, case="lower", uracil="thymine")


letters = st.text(alphabet="ACGTN", max_size=120) | st.text(alphabet="ACGTNacgtu R\n-[?", max_size=40)
repeats = st.builds(
    lambda unit, times, rest: unit * times + rest, st.text("ACGTN", min_size=1, max_size=9), st.integers(1, 40), letters
)


@settings(deadline=None, max_examples=150)
@given(sequences=st.lists(letters | repeats, max_size=6))
def test_bulk_ids_are_the_library_s(sequences, original, mended):
    for tokenizer in (original, mended):
        encoder = BpeEncoder(tokenizer)
        assert encoder.is_fast
        expected = [tokenizer(sequence)["input_ids"] for sequence in sequences]
        assert [ids.tolist() for ids in encoder(sequences).split()] == expected
        bare = [tokenizer(sequence, add_special_tokens=False)["input_ids"] for sequence in sequences]
        assert [ids.tolist() for ids in encoder(sequences, add_special_tokens=False).split()] == bare


@settings(deadline=None, max_examples=60)
@given(
    unit=st.text("ACGTN", min_size=1, max_size=30), times=st.integers(1, 60), tail=letters, threads=st.integers(1, 3)
)
def test_spliced_chunks_are_the_whole(unit, times, tail, threads, mended):
    sequence = unit * times + tail
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_bpe, "CHUNK", 64)
        patch.setattr(encode_bpe, "OVERLAP", 40)
        ours = BpeEncoder(mended, threads=threads)([sequence, "ACGT", sequence[:70]])
    expected = [mended(text)["input_ids"] for text in (sequence, "ACGT", sequence[:70])]
    assert [ids.tolist() for ids in ours.split()] == expected


def test_without_numba_the_tokenizer_encodes(mended, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "gengram.tokenization.bpe_kernel", None)
    encoder = BpeEncoder(mended)
    assert not encoder.is_fast
    assert encoder(["ACGTATAT"]).split()[0].tolist() == mended("ACGTATAT")["input_ids"]


def test_vocabulary_out_of_order_goes_through_the_tokenizer():
    backend = Tokenizer(
        models.BPE({"[UNK]": 0, "A": 1, "C": 2, "ACA": 3, "AC": 4}, [("A", "C"), ("AC", "A")], unk_token="[UNK]")
    )
    tokenizer = TokenizersBackend(tokenizer_object=backend, unk_token="[UNK]")
    encoder = BpeEncoder(tokenizer)
    assert not encoder.is_fast
    assert encoder(["ACACA"]).split()[0].tolist() == tokenizer("ACACA")["input_ids"]


def test_impossible_encoders_are_refused(mended):
    with pytest.raises(ValueError, match="threads=0"):
        BpeEncoder(mended, threads=0)
    words = TokenizersBackend(tokenizer_object=Tokenizer(models.WordLevel({"A": 0}, unk_token="A")))
    with pytest.raises(ValueError, match="no BPE tokenizer"):
        BpeEncoder(words)


def test_no_sequences(mended):
    assert BpeEncoder(mended)([]).offsets.tolist() == [0]
