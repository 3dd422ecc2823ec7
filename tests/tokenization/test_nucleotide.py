"""The single-nucleotide tokenizer: ids, policies, one token a character, templates, and a folder that travels."""

import csv
import gzip
import itertools
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    TokenizersBackend,
    pipeline,
)

from gengram.tokenization import EMBEDDING_ROWS, NUCLEOTIDE_VOCABULARY, build_nucleotide_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

PAD, UNK, CLS, SEP, MASK, C, G, T, A, N = range(10)
SPECIAL = [token for token in NUCLEOTIDE_VOCABULARY if len(token) > 1]
UGLY = "acgtnRXX..[MASK]U\né"
UGLY_IDS = [A, C, G, T, N, N, UNK, UNK, UNK, UNK, MASK, T, UNK, UNK]

IUPAC_OTHERS = "RYSWKMBDHV"


def read_under_default_policies(character: str) -> str:
    """One character as the default policies read it, written down independently of the tokenizer."""
    if character in "ACGTNacgtn":
        return character.upper()
    if character in "Uu":
        return "T"
    return "N" if character in IUPAC_OTHERS + IUPAC_OTHERS.lower() else "[UNK]"


def spell(text: str, template: str = "plain") -> list[int]:
    """Ids of a text under the default policies: special tokens' names first, then character by character."""
    pieces = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text)
    names = [
        name for piece in pieces for name in ([piece] if piece in SPECIAL else map(read_under_default_policies, piece))
    ]
    ids = [NUCLEOTIDE_VOCABULARY[name] for name in names]
    return [CLS, *ids, SEP] if template == "cls_sep" else ids


@pytest.fixture(scope="module")
def tokenizer() -> TokenizersBackend:
    return build_nucleotide_tokenizer()


@pytest.fixture(scope="module")
def encoder_tokenizer() -> TokenizersBackend:
    return build_nucleotide_tokenizer(template="cls_sep")


# --- vocabulary -------------------------------------------------------------------------------------------------------


def test_ids_are_those_of_gengram_and_genos(tokenizer):
    """Ids 0-9 are the pieces of one_hot.bpe.model, 10-15 what Megatron's wrapper appends; 128 rows by its padding."""
    expected = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "G", "T", "A", "N"]
    expected += ["<CLS>", "<SEP>", "<EOD>", "<MASK>", "<BOS>", "<EOS>"]
    assert tokenizer.get_vocab() == {token: index for index, token in enumerate(expected)}
    assert tokenizer.convert_tokens_to_ids(list("ACGTN")) == [8, 5, 6, 7, 9]
    assert tokenizer.convert_ids_to_tokens(list(range(16))) == expected
    assert len(tokenizer) == tokenizer.vocab_size == 16
    assert EMBEDDING_ROWS == 128


def test_special_tokens_have_their_roles(tokenizer):
    roles = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "eos_token", "bos_token"]
    assert [getattr(tokenizer, f"{role}_id") for role in roles] == [PAD, UNK, CLS, SEP, MASK, 12, None]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15]
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_added_tokens_take_padding_rows_of_the_embedding():
    tokenizer = build_nucleotide_tokenizer()
    assert tokenizer.add_tokens(["<species_human>"], special_tokens=True) == 1
    assert tokenizer("A<species_human>C")["input_ids"] == [A, 16, C]
    assert len(tokenizer) <= EMBEDDING_ROWS


# --- one token a character --------------------------------------------------------------------------------------------

UGLY_INPUTS = {
    "empty": ("", []),
    "bases": ("ACGTN", [A, C, G, T, N]),
    "lower case": ("acgtn", [A, C, G, T, N]),
    "RNA": ("AUGuu", [A, T, G, T, T]),
    "IUPAC codes": (IUPAC_OTHERS, [N] * 10),
    "lower IUPAC codes": (IUPAC_OTHERS.lower(), [N] * 10),
    "run of unknown": ("acgtn..XX", [A, C, G, T, N, UNK, UNK, UNK, UNK]),
    "long run of unknown": ("X" * 1000, [UNK] * 1000),
    "one character": ("a", [A]),
    "blanks": (" A  C ", [UNK, A, UNK, UNK, C, UNK]),
    "line ends": ("AC\nGT\r\n", [A, C, UNK, G, T, UNK, UNK]),
    "tab and NUL": ("A\tC\0", [A, UNK, C, UNK]),
    "digits": ("1ACGT60", [UNK, A, C, G, T, UNK, UNK]),
    "gaps and stops": ("A-C.G*T", [A, UNK, C, UNK, G, UNK, T]),
    "protein letters": ("ELFIPQZ", [UNK] * 7),
    "accent": ("Áa\u0301", [UNK, A, UNK]),
    "case that grows": ("İßA", [UNK, UNK, A]),
    "look-alikes": ("АСТ", [UNK, UNK, UNK]),  # noqa: RUF001 - Cyrillic, on purpose
    "full width": ("ＡＣ", [UNK, UNK]),  # noqa: RUF001 - on purpose
    "four-byte characters": ("A🧬C", [A, UNK, C]),
    "SentencePiece blank": ("▁A", [UNK, A]),
    "mask": ("ACG[MASK]T", [A, C, G, MASK, T]),
    "masks in a row": ("[MASK][MASK]A", [MASK, MASK, A]),
    "mask among blanks": ("A [MASK] C", [A, UNK, MASK, UNK, C]),
    "lower mask": ("[mask]", [UNK, N, A, N, N, UNK]),
    "broken mask": ("[MASKA", [UNK, N, A, N, N, A]),
    "nested mask": ("[[MASK]]", [UNK, MASK, UNK]),
    "Megatron names": ("A<EOD>C<MASK>G", [A, 12, C, 13, G]),
}


@pytest.mark.parametrize(("text", "ids"), UGLY_INPUTS.values(), ids=UGLY_INPUTS.keys())
def test_ugly_inputs(tokenizer, text, ids):
    assert tokenizer(text)["input_ids"] == ids == spell(text)


free_text = st.one_of(
    st.text("ACGTN"),
    st.text("ACGTNacgtnuUrRyYxX.- \n"),
    st.text(),
    st.lists(st.one_of(st.sampled_from(SPECIAL), st.text("ACGT[]<>MASK")), max_size=8).map("".join),
)


@settings(deadline=None)
@given(text=free_text, template=st.sampled_from(["plain", "cls_sep"]))
@example(text="İ" * 3 + "ﬁ" + "a\u0301\u0327", template="plain")
def test_any_text_gives_one_token_a_character_and_offsets_that_tile_it(tokenizer, encoder_tokenizer, text, template):
    tokenize = tokenizer if template == "plain" else encoder_tokenizer
    encoded = tokenize(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    assert encoded["input_ids"] == spell(text, template)
    assert encoded["attention_mask"] == [1] * len(encoded["input_ids"])

    offsets = [span for span, added in zip(encoded["offset_mapping"], encoded["special_tokens_mask"]) if not added]
    assert [start for start, _ in offsets] == [0, *(end for _, end in offsets)][: len(offsets)]
    assert (offsets[-1][1] if offsets else 0) == len(text)
    assert all(end - start == 1 or text[start:end] in SPECIAL for start, end in offsets)


@settings(deadline=None)
@given(free_text)
def test_split_special_tokens_gives_one_token_a_character_without_exception(tokenizer, text):
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert ids == [NUCLEOTIDE_VOCABULARY[read_under_default_policies(character)] for character in text]


@settings(deadline=None)
@given(st.text("ACGTNacgtnuU" + IUPAC_OTHERS + IUPAC_OTHERS.lower()))
def test_decode_gives_the_normalised_sequence_without_blanks(tokenizer, text):
    decoded = tokenizer.decode(tokenizer(text)["input_ids"])
    assert decoded == "".join(map(read_under_default_policies, text))
    assert tokenizer(decoded)["input_ids"] == tokenizer(text)["input_ids"]


def test_decode_of_special_tokens(encoder_tokenizer):
    ids = encoder_tokenizer("ACG[MASK]T")["input_ids"]
    assert encoder_tokenizer.decode(ids) == "[CLS]ACG[MASK]T[SEP]"
    assert encoder_tokenizer.decode(ids, skip_special_tokens=True) == "ACGT"
    assert encoder_tokenizer.batch_decode([ids, [A, UNK]]) == ["[CLS]ACG[MASK]T[SEP]", "A[UNK]"]


def test_characters_and_tokens_share_their_index(tokenizer):
    encoded = tokenizer("acXguT")
    assert [encoded.char_to_token(position) for position in range(6)] == list(range(6))
    assert [tuple(encoded.token_to_chars(index)) for index in range(6)] == [(i, i + 1) for i in range(6)]


def test_a_long_sequence_keeps_its_length(tokenizer):
    text = "".join(np.random.default_rng(0).choice(list("ACGTNacgtnXR"), 300_000))
    assert tokenizer(text, verbose=False)["input_ids"] == spell(text)


# --- policies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "text", "ids"),
    [
        ({"case": "unknown"}, "ACacnu", [A, C, UNK, UNK, UNK, UNK]),
        ({"case": "unknown"}, "RUrX", [N, T, UNK, UNK]),
        ({"uracil": "unknown"}, "AUugR", [A, UNK, UNK, G, N]),
        ({"ambiguous": "unknown"}, "ARrNnu", [A, UNK, UNK, N, N, T]),
        (
            {"case": "unknown", "uracil": "unknown", "ambiguous": "unknown"},
            "ACGTNacgtnURr",
            [A, C, G, T, N] + [UNK] * 8,
        ),
    ],
)
def test_policies(policy, text, ids):
    assert build_nucleotide_tokenizer(**policy)(text)["input_ids"] == ids


@pytest.mark.parametrize(
    "policy",
    [
        dict(zip(["case", "uracil", "ambiguous"], choice))
        for choice in itertools.product(["fold", "unknown"], ["thymine", "unknown"], ["n", "unknown"])
    ],
    ids=lambda policy: "-".join(policy.values()),
)
def test_every_policy_keeps_the_length(policy):
    text = "".join(map(chr, range(1, 256))) + "İ🧬ACGTN"
    encoded = build_nucleotide_tokenizer(**policy)(text, return_offsets_mapping=True)
    assert encoded["offset_mapping"] == [(i, i + 1) for i in range(len(text))]
    assert encoded["input_ids"][-5:] == [A, C, G, T, N]
    read = {character for character, index in zip(text, encoded["input_ids"]) if index != UNK}
    assert read == {
        letter
        for letter in "ACGTNU" + IUPAC_OTHERS + ("ACGTNU" + IUPAC_OTHERS).lower()
        if (letter.isupper() or policy["case"] == "fold")
        and (letter not in "Uu" or policy["uracil"] == "thymine")
        and (letter.upper() not in IUPAC_OTHERS or policy["ambiguous"] == "n")
    }


@pytest.mark.parametrize("argument", ["case", "uracil", "ambiguous", "template", "padding_side"])
def test_a_policy_that_does_not_exist_is_refused(argument):
    with pytest.raises(ValueError, match=rf"{argument}='lower': choose one of '\w+', '\w+'"):
        build_nucleotide_tokenizer(**{argument: "lower"})


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_without_tokens_is_refused(length):
    with pytest.raises(ValueError, match=f"model_max_length={length}"):
        build_nucleotide_tokenizer(model_max_length=length)


# --- templates, padding, truncation -----------------------------------------------------------------------------------


def test_plain_template_adds_nothing(tokenizer):
    encoded = tokenizer("ACG", "TTN", return_token_type_ids=True, return_special_tokens_mask=True)
    assert encoded["input_ids"] == [A, C, G, T, T, N]
    assert encoded["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert encoded["special_tokens_mask"] == [0] * 6
    assert encoded.sequence_ids(0) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.num_special_tokens_to_add() == tokenizer.num_special_tokens_to_add(pair=True) == 0


def test_cls_sep_template(encoder_tokenizer):
    options = {"return_token_type_ids": True, "return_special_tokens_mask": True, "return_offsets_mapping": True}
    single = encoder_tokenizer("acg", **options)
    assert single["input_ids"] == [CLS, A, C, G, SEP]
    assert single["special_tokens_mask"] == [1, 0, 0, 0, 1]
    assert single["offset_mapping"] == [(0, 0), (0, 1), (1, 2), (2, 3), (0, 0)]

    pair = encoder_tokenizer("acg", "TR", **options)
    assert pair["input_ids"] == [CLS, A, C, G, SEP, T, N, SEP]
    assert pair["special_tokens_mask"] == [1, 0, 0, 0, 1, 0, 0, 1]
    assert pair["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert pair["offset_mapping"] == [(0, 0), (0, 1), (1, 2), (2, 3), (0, 0), (0, 1), (1, 2), (0, 0)]
    assert pair.sequence_ids(0) == [None, 0, 0, 0, None, 1, 1, None]

    assert encoder_tokenizer("ACG", add_special_tokens=False)["input_ids"] == [A, C, G]
    assert encoder_tokenizer("")["input_ids"] == [CLS, SEP]
    assert encoder_tokenizer.num_special_tokens_to_add(pair=True) == 3


def test_batch_equals_singles(encoder_tokenizer):
    texts, others = ["ACG", "", "nnXX", "a" * 40], ["T", "AC", "", "g"]
    assert encoder_tokenizer(texts)["input_ids"] == [encoder_tokenizer(text)["input_ids"] for text in texts]
    # an empty second sequence is still a pair in a batch
    assert encoder_tokenizer(texts, others)["input_ids"] == [
        [CLS, *spell(text), SEP, *spell(other), SEP] for text, other in zip(texts, others)
    ]


def test_pretokenised_bases(tokenizer):
    encoded = tokenizer([["A", "c", "X"], ["G"]], is_split_into_words=True)
    assert encoded["input_ids"] == [[A, C, UNK], [G]]
    assert encoded.word_ids(0) == [0, 1, 2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(side, tmp_path):
    build_nucleotide_tokenizer(padding_side=side).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.padding_side == side
    batch = tokenizer(["ACG", "T"], padding=True, return_special_tokens_mask=True, return_tensors="pt")
    short = ([T, PAD, PAD], [1, 0, 0], [0, 1, 1])
    ids, attended, special = ([row[::-1] for row in short]) if side == "left" else short
    assert batch["input_ids"].tolist() == [[A, C, G], ids]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], attended]
    assert batch["special_tokens_mask"].tolist() == [[0, 0, 0], special]
    assert batch["input_ids"].dtype == torch.int64

    wide = tokenizer(["ACG"], padding="max_length", max_length=5, padding_side="left")
    assert wide["input_ids"] == [[PAD, PAD, A, C, G]]
    assert tokenizer(["ACG"], padding=True, pad_to_multiple_of=8, return_tensors="pt")["input_ids"].shape == (1, 8)


def test_truncation_counts_special_tokens(encoder_tokenizer):
    assert encoder_tokenizer("ACGTACGT", truncation=True, max_length=5)["input_ids"] == [CLS, A, C, G, SEP]
    pair = encoder_tokenizer("ACGT", "TTTTTT", truncation="only_second", max_length=9)
    assert pair["input_ids"] == [CLS, A, C, G, T, SEP, T, T, SEP]


def test_truncation_without_a_length_cuts_to_model_max_length():
    assert build_nucleotide_tokenizer().model_max_length == 8192
    short = build_nucleotide_tokenizer(model_max_length=6, template="cls_sep")
    assert short("ACGTACGT", truncation=True)["input_ids"] == [CLS, A, C, G, T, SEP]
    assert len(short("ACGTACGT")["input_ids"]) == 10  # never cut unless asked


def test_overlapping_windows_carry_base_positions(tokenizer):
    text = "acgtuRNNXXACGTTTGCA"
    windows = tokenizer(
        text, truncation=True, max_length=8, stride=3, return_overflowing_tokens=True, return_offsets_mapping=True
    )
    spans = [(offsets[0][0], offsets[-1][1]) for offsets in windows["offset_mapping"]]
    assert spans == [(0, 8), (5, 13), (10, 18), (15, 19)]
    assert windows["input_ids"] == [spell(text)[start:end] for start, end in spans]


def test_masked_language_modelling_never_chooses_special_tokens(encoder_tokenizer):
    collator = DataCollatorForLanguageModeling(
        encoder_tokenizer, mlm_probability=1.0, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    batch = collator([encoder_tokenizer("ACGTN"), encoder_tokenizer("AC")])
    assert batch["input_ids"].tolist() == [[CLS] + [MASK] * 5 + [SEP], [CLS, MASK, MASK, SEP] + [PAD] * 3]
    assert batch["labels"].tolist() == [[-100, A, C, G, T, N, -100], [-100, A, C] + [-100] * 4]


def test_fill_mask_reads_a_mask_written_into_the_sequence(tokenizer):
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(vocab_size=EMBEDDING_ROWS, **size)).eval()
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, targets=list("ACGT"), top_k=4)
    answers = fill("acg[MASK]t")
    assert sorted(answer["sequence"] for answer in answers) == ["ACGAT", "ACGCT", "ACGGT", "ACGTT"]
    logits = model(**tokenizer("acg[MASK]t", return_tensors="pt")).logits[0, 3]
    for answer in answers:
        assert answer["score"] == pytest.approx(logits.softmax(-1)[answer["token"]].item())


# --- the folder travels -----------------------------------------------------------------------------------------------

WITHOUT_THE_PACKAGE = """
import json, sys

class NoGengram:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "gengram":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoGengram())
try:
    import gengram
except ModuleNotFoundError:
    pass
else:
    sys.exit("the package can still be imported")

from transformers import AutoTokenizer

report = []
for request in json.loads(sys.argv[1]):
    tokenizer = AutoTokenizer.from_pretrained(request["folder"])
    encoded = tokenizer(request["text"], return_offsets_mapping=True)
    report.append({
        "class": f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}",
        "ids": encoded["input_ids"],
        "offsets": encoded["offset_mapping"],
        "decoded": tokenizer.decode(encoded["input_ids"]),
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
        "special": tokenizer.special_tokens_map,
        "length": len(tokenizer),
    })
assert not any(name.partition(".")[0] == "gengram" for name in sys.modules)
print(json.dumps(report))
"""


def test_saved_folder_loads_without_the_package(tmp_path):
    """In a process that cannot import gengram, with and without a config.json of a model type unknown to it."""
    builds = {
        "plain": {},
        "gengram_model": {"model_max_length": 512, "padding_side": "left"},
        "encoder": {"template": "cls_sep", "case": "unknown", "ambiguous": "unknown"},
    }
    requests, expected = [], []
    for name, arguments in builds.items():
        tokenizer = build_nucleotide_tokenizer(**arguments)
        tokenizer.save_pretrained(tmp_path / name)
        if name != "plain":
            (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "gengram", "vocab_size": 128}))
        encoded = tokenizer(UGLY, return_offsets_mapping=True)
        requests.append({"folder": str(tmp_path / name), "text": UGLY})
        expected.append(
            {
                "class": "transformers.tokenization_utils_tokenizers.TokenizersBackend",
                "ids": encoded["input_ids"],
                "offsets": [list(span) for span in encoded["offset_mapping"]],
                "decoded": tokenizer.decode(encoded["input_ids"]),
                "model_max_length": arguments.get("model_max_length", 8192),
                "padding_side": arguments.get("padding_side", "right"),
                "special": tokenizer.special_tokens_map,
                "length": 16,
            }
        )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, json.dumps(requests)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
    assert expected[0]["ids"] == UGLY_IDS


def test_saved_folder_holds_two_json_files_and_no_code(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] == "TokenizersBackend"
    assert saved["model_max_length"] == 8192
    assert saved["model_input_names"] == ["input_ids", "attention_mask"]
    assert not {"auto_map", "vocab"} & saved.keys()
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    assert (model["type"], model["merges"], model["fuse_unk"]) == ("BPE", [], False)


@pytest.mark.parametrize(
    "model_type",
    ["gengram", "mixtral", "llama", "deepseek_v3", "qwen3_moe", "modernbert", "bert", "esm", "big_bird", "mistral"],
)
def test_a_native_model_beside_it_does_not_change_the_tokenizer(tmp_path, model_type):
    """transformers rebuilds the tokenizers of some model types from the vocabulary alone; not of these."""
    build_nucleotide_tokenizer(template="cls_sep").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(UGLY)["input_ids"] == [CLS, *UGLY_IDS, SEP]
    assert loaded.model_max_length == 8192


def test_the_class_loads_it_where_auto_tokenizer_insists_on_another(tmp_path, tokenizer):
    """The way out that docs/tokenizers.md gives for Qwen2 and its like."""
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    assert TokenizersBackend.from_pretrained(tmp_path)(UGLY)["input_ids"] == UGLY_IDS


def test_saving_twice_gives_the_same_files(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "one")
    AutoTokenizer.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert (tmp_path / "one/tokenizer.json").read_text() == (tmp_path / "two/tokenizer.json").read_text()


def test_pickle_for_worker_processes(encoder_tokenizer):
    assert pickle.loads(pickle.dumps(encoder_tokenizer))(UGLY)["input_ids"] == spell(UGLY, "cls_sep")


# --- real sequences ---------------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real sequences at {DATA}")


def look_up(sequence: str) -> np.ndarray:
    """Ids of an ASCII sequence by a 256-entry table: the same rule, another way. Shape (T,), uint8."""
    table = np.array([NUCLEOTIDE_VOCABULARY[read_under_default_policies(chr(byte))] for byte in range(256)], np.uint8)
    return table[np.frombuffer(sequence.encode("ascii"), np.uint8)]


def read_fasta(path: Path, limit: int) -> str:
    """The first `limit` characters of a gzipped FASTA file, header lines left out, records joined."""
    kept = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if not line.startswith(">"):
                kept.append(line.rstrip("\n"))
                if (limit := limit - len(kept[-1])) <= 0:
                    break
    return "".join(kept)


@needs_data
def test_real_genomes(tokenizer):
    paths = sorted(DATA.glob("genomes/*/*.fa.gz"))
    assert paths
    for path in paths:
        sequence = read_fasta(path, 50_000)
        encoded = tokenizer(sequence, verbose=False)["input_ids"]
        np.testing.assert_array_equal(encoded, look_up(sequence), err_msg=str(path))
        assert UNK not in encoded
        assert tokenizer.decode(encoded) == "".join(map(read_under_default_policies, sequence))


@needs_data
def test_real_benchmark_sequences(tokenizer):
    paths = sorted(DATA.glob("benchmarks/**/*.csv.gz"))
    assert paths
    checked = 0
    for path in paths:
        with gzip.open(path, "rt", newline="") as lines:
            rows = list(itertools.islice(csv.DictReader(lines), 10))
        sequences = [row["seq"] for row in rows if "seq" in row]
        for sequence, ids in zip(sequences, tokenizer(sequences)["input_ids"] if sequences else []):
            np.testing.assert_array_equal(ids, look_up(sequence), err_msg=str(path))
            checked += 1
    assert checked > len(paths)
