"""Tokens of whole tables: those of the tokenizer, cut as it cuts, in narrow columns, by any number of processes."""

import numpy as np
import pytest
from conformance.tokenizer_kinds import TOKENIZERS
from datasets import Dataset, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, TokenizersBackend

from gengram.errors import InputError
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.tokenization.windows import cut_tokens
from gengram.training.data.inputs import tokenize_rows
from gengram.training.problems import IGNORED

LENGTHS = [40, 7, 200, 12, 90, 33]


@pytest.fixture(scope="module")
def sequences():
    random = np.random.default_rng(3)
    texts = ["".join(random.choice(list("ACGTACGTacgtN"), length)) for length in LENGTHS]
    return [*texts, "ACGTé[MASK]<cls>ACGTACGTAACGT", " ACGTAC\tGTAC "]


def build_xlnet_like() -> TokenizersBackend:
    """Types of tokens that are not all the same."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<cls>": 1, "<pad>": 2, "ACG": 3, "T": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.FixedLength(3)
    backend.post_processor = processors.TemplateProcessing(single="$A:0 <cls>:2", special_tokens=[("<cls>", 1)])
    return TokenizersBackend(
        tokenizer_object=backend,
        unk_token="<unk>",
        cls_token="<cls>",
        pad_token="<pad>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def expect(tokenizer: PreTrainedTokenizerBase, texts: list[str], limit: int, too_long: str) -> dict[str, list]:
    """Row by row, by the tokenizer itself."""
    found: dict[str, list] = {"input_ids": [], "token_type_ids": []}
    for text in texts:
        one = tokenizer(text, split_special_tokens=True, return_special_tokens_mask=True, verbose=False)
        kept = cut_tokens(np.array(one["special_tokens_mask"], dtype=bool), limit, too_long)[0]
        for name, column in found.items():
            if name in one:
                column.append([one[name][place] for place in kept])
    return {name: column for name, column in found.items() if column}


@pytest.mark.parametrize("too_long", ["truncate", "center"])
@pytest.mark.parametrize("name", [*TOKENIZERS, "xlnet"])
def test_rows_are_the_tokenizers(name, too_long, sequences, tmp_path):
    tokenizer = build_xlnet_like() if name == "xlnet" else TOKENIZERS[name](tmp_path / "files")
    rows = Dataset.from_dict({"sequence": sequences, "label": range(len(sequences)), "input_ids": sequences})
    for limit in (12, 10_000):
        found, cut = tokenize_rows(rows, tokenizer, limit, too_long, "file", max_non_dna=1)
        for column, values in expect(tokenizer, sequences, limit, too_long).items():
            assert found[column] == values
        assert not {"attention_mask", "_tokens"} & set(found.column_names)
        lengths = [len(tokenizer(text, split_special_tokens=True)["input_ids"]) for text in sequences]
        assert cut == sum(length > limit for length in lengths)
        assert found["sequence"] == sequences and found["label"] == list(range(len(sequences)))


def test_columns_are_as_narrow_as_the_vocabulary(sequences):
    rows = Dataset.from_dict({"sequence": sequences})
    for tokenizer, kind in ((build_nucleotide_tokenizer(), "uint8"), (build_kmer_tokenizer(), "uint16")):
        found, _ = tokenize_rows(rows, tokenizer, 10_000, "error", "file", max_non_dna=1)
        assert found.features["input_ids"] == List(Value(kind))


def test_a_batch_has_its_mask(sequences):
    tokenizer = build_nucleotide_tokenizer(template="cls_sep")
    rows, _ = tokenize_rows(Dataset.from_dict({"sequence": sequences[:3]}), tokenizer, 1000, "error", "file")
    read = rows.select_columns(["input_ids"])
    batch = DataCollatorWithPadding(tokenizer)([read[place] for place in range(3)])
    expected = tokenizer(sequences[:3], padding=True, return_tensors="pt")
    assert batch["input_ids"].equal(expected["input_ids"])
    assert batch["attention_mask"].equal(expected["attention_mask"])


@pytest.mark.parametrize("too_long", ["error", "truncate", "center"])
def test_any_number_of_processes_gives_the_same_rows(too_long):
    random = np.random.default_rng(4)
    texts = ["".join(random.choice(list("ACGT"), length)) for length in random.integers(30, 90, 101)]
    rows = Dataset.from_dict({"sequence": texts, "label": range(101)})
    found = [
        tokenize_rows(rows, build_kmer_tokenizer(), 8 if too_long != "error" else 100, too_long, "f", num_proc=number)
        for number in (None, 1, 3)
    ]
    for other, cut in found[1:]:
        assert other.to_dict() == found[0][0].to_dict() and cut == found[0][1]


@pytest.mark.parametrize("too_long", ["truncate", "center"])
@pytest.mark.parametrize("build", [build_nucleotide_tokenizer, lambda: build_kmer_tokenizer(1)])
def test_labels_go_along_with_their_bases(build, too_long):
    tokenizer = build()
    texts = ["ACGTNACGTACC", "TTTACG", "GATTACAGATT"]
    labels = [list(range(len(text))) for text in texts]
    rows = Dataset.from_dict({"sequence": texts, "label": labels})
    found, _ = tokenize_rows(rows, tokenizer, 8, too_long, "file", by_base=True)
    for text, ids, given in zip(texts, found["input_ids"], found["labels"]):
        whole = tokenizer(text, return_special_tokens_mask=True)
        special = np.array(whole["special_tokens_mask"], dtype=bool)
        spread = np.full(len(special), IGNORED)
        spread[~special] = range(len(text))
        kept = cut_tokens(special, 8, too_long)[0]
        assert given == spread[kept].tolist() and ids == np.array(whole["input_ids"])[kept].tolist()
    assert "label" not in found.column_names


@pytest.mark.parametrize("number", [None, 2])
def test_refusals_name_the_row(number):
    rows = Dataset.from_dict({"sequence": ["ACGT", "ACGTACGTACG"], "label": [[0] * 4, [0] * 11]})
    options = {"num_proc": number}
    with pytest.raises(InputError, match="row 2: the sequence of 11 bp is 11 tokens, but the limit is 8 tokens"):
        tokenize_rows(rows, build_nucleotide_tokenizer(), 8, "error", "file", **options)
    with pytest.raises(InputError, match="one of 6 bases at position 0"):
        tokenize_rows(rows, build_kmer_tokenizer(), 8, "error", "file", by_base=True, **options)
    with pytest.raises(InputError, match="max_length: a limit of 2 tokens leaves no room for bases beside 2 special"):
        tokenize_rows(rows, build_nucleotide_tokenizer(template="cls_sep"), 2, "truncate", "file", **options)
