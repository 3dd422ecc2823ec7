"""Where tokens lie in a sequence, in bases, of every kind of tokenizer: the words of other tokenizers."""

import pytest
from conformance.tokenizer_kinds import TOKENIZERS
from transformers import AutoTokenizer

SEQUENCE = "GATTACAGGACCTTAGGATCCAACGTTGCATGCAGG"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_token_of_bases_is_where_its_offsets_say(name, tmp_path):
    """Of a text, and of each text of a pair; every base is in a token."""
    TOKENIZERS[name](tmp_path / "files").save_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    texts = (SEQUENCE, SEQUENCE[12:])
    pair = tokenizer(*texts, return_offsets_mapping=True)
    alone = tokenizer(SEQUENCE, return_offsets_mapping=True)
    for encoded, read in ((alone, texts[:1]), (pair, texts)):
        covered = [set() for _ in read]
        for token, which, (start, end) in zip(encoded.tokens(), encoded.sequence_ids(), encoded["offset_mapping"]):
            if which is not None:
                assert read[which][start:end] == token
                covered[which] |= set(range(start, end))
        assert covered == [set(range(len(text))) for text in read]
