"""The tokenizer of NTv3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, DataCollatorWithPadding

from gengram.tokenization import NTV3_VOCABULARY, build_ntv3_tokenizer, locate_tokens

TOKENIZER = build_ntv3_tokenizer()


def test_ids_are_the_published_ones():
    assert dict(NTV3_VOCABULARY) == {
        **{"<unk>": 0, "<pad>": 1, "<mask>": 2, "<cls>": 3, "<eos>": 4, "<bos>": 5},
        **{"A": 6, "T": 7, "C": 8, "G": 9, "N": 10},
    }
    assert TOKENIZER.get_vocab() == dict(NTV3_VOCABULARY) and TOKENIZER.mask_token_id == 2


@given(st.text(alphabet="ACGTNacgtn", max_size=60))
def test_a_token_is_a_base(sequence):
    ids = TOKENIZER(sequence)["input_ids"]
    assert ids == [NTV3_VOCABULARY[base] for base in sequence.upper()]
    assert TOKENIZER.decode(ids) == sequence.upper()


def test_other_letters():
    assert TOKENIZER("uR- <mask>x")["input_ids"] == [7, 10, 0, 0, 2, 0]
    strict = build_ntv3_tokenizer(case="unknown", uracil="unknown", ambiguous="unknown")
    assert strict("AaUR")["input_ids"] == [6, 0, 0, 0]
    with pytest.raises(ValueError, match="model_max_length=0"):
        build_ntv3_tokenizer(model_max_length=0)


def test_padding_is_n():
    rows = [TOKENIZER("ACG"), TOKENIZER("ATTCN")]
    batch = DataCollatorWithPadding(TOKENIZER, pad_to_multiple_of=8)(rows)
    assert batch["input_ids"].tolist() == [[6, 8, 9, 10, 10, 10, 10, 10], [6, 7, 7, 8, 10, 10, 10, 10]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]


def test_n_is_never_to_be_predicted():
    masked = DataCollatorForLanguageModeling(TOKENIZER, mlm_probability=0.9, seed=0)([TOKENIZER("ACNNGT" * 20)])
    chosen = masked["labels"][masked["labels"] != -100]
    assert len(chosen) > 40 and 10 not in chosen


def test_saved_and_loaded(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("ATCGnu<mask>")["input_ids"] == TOKENIZER("ATCGnu<mask>")["input_ids"]
    assert again.pad_token == "N" and again.model_max_length == 2**20


def test_positions():
    assert locate_tokens(TOKENIZER, "ANT", start=5).tolist() == [[5, 6], [6, 7], [7, 8]]
