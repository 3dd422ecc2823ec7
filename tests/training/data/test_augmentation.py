"""The other strand and shifts: which examples a training sees, and what scores and predictions average."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.special import expit, logit, softmax
from sklearn.metrics import matthews_corrcoef
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch.utils.data import DataLoader
from transformers import TokenizersBackend

from gengram.pipelines.command import predict
from gengram.tokenization import build_ntv3_tokenizer, build_nucleotide_tokenizer, reverse_complement
from gengram.training.command import finetune as main
from gengram.training.data.augmentation import AugmentedRows
from gengram.training.data.inputs import tokenize_rows
from gengram.training.data.strands import average_outputs, read_other_strand
from gengram.training.problems import IGNORED


def tokenize(table: dict, tokenizer, limit: int = 1000, too_long: str = "error") -> Dataset:
    by_base = isinstance(table["label"][0], list)
    return tokenize_rows(Dataset.from_dict(table), tokenizer, limit, too_long, "file", by_base, max_non_dna=1)[0]


def augment(rows: Dataset, tokenizer, limit: int = 1000, too_long: str = "error", **changes) -> AugmentedRows:
    return AugmentedRows(rows, tokenizer, limit, too_long, **{"seed": 3, "strand": 0.5, "max_shift": 4, **changes})


def build_codons() -> TokenizersBackend:
    """Tokens of three bases; what is left over is single bases."""
    words = {"[PAD]": 0, "[UNK]": 1} | {letter: number for number, letter in enumerate("ACGTN", start=2)}
    codons = [one + two + three for one in "ACGT" for two in "ACGT" for three in "ACGT"]
    model = Tokenizer(WordLevel(words | {codon: len(words) + n for n, codon in enumerate(codons)}, unk_token="[UNK]"))
    model.pre_tokenizer = Split(Regex("[ACGT]{3}|."), behavior="isolated")
    return TokenizersBackend(tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def rows(draw_table) -> Dataset:
    table = draw_table(40, 0)
    return tokenize({"sequence": table["seq"].tolist(), "label": [0, 1] * 20}, build_nucleotide_tokenizer())


def read_text(example: dict, tokenizer) -> str:
    return tokenizer.decode(example["input_ids"]).replace(" ", "")


def test_an_example_depends_on_seed_epoch_and_row_alone(rows):
    tokenizer = build_nucleotide_tokenizer()
    changed = augment(rows, tokenizer)
    epochs = []
    for epoch in (0, 1, 2):
        changed.set_epoch(epoch)
        epochs.append([changed[row] for row in range(40)])
        backwards = changed.__getitems__(list(range(39, -1, -1)))[::-1]
        again = augment(rows, tokenizer)
        again.set_epoch(epoch)
        assert epochs[-1] == backwards == [again[row] for row in range(40)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [changed[row] for row in range(40)] != [augment(rows, tokenizer, seed=4)[row] for row in range(40)]
    assert all(example["label"] == label for example, label in zip(epochs[0], rows["label"]))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_a_data_loader_see_the_epoch(persistent, rows):
    changed, alone = (augment(rows, build_nucleotide_tokenizer()) for _ in range(2))
    loader = DataLoader(changed, 8, num_workers=1, persistent_workers=persistent, collate_fn=list)
    for epoch in (0, 1):
        changed.set_epoch(epoch)
        alone.set_epoch(epoch)
        assert [example for batch in loader for example in batch] == [alone[row] for row in range(40)]


def test_both_strands_and_all_shifts_come_equally_often(rows):
    changed = augment(rows, build_nucleotide_tokenizer(), max_shift=2)
    draws = []
    for epoch in range(100):
        changed.set_epoch(epoch)
        draws += [changed.draw(row) for row in range(len(rows))]
    shifts = np.bincount([shift + 2 for shift, _ in draws], minlength=5) / len(draws)
    assert np.abs(shifts - 0.2).max() < 0.03 and abs(np.mean([other for _, other in draws]) - 0.5) < 0.03


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.lists(st.text("ACGTacgtNRY", min_size=6, max_size=25), min_size=1, max_size=4),
    strand=st.sampled_from([0.0, 0.5, 1.0]),
    max_shift=st.integers(0, 5),
    epoch=st.integers(0, 3),
    cut=st.sampled_from([None, "center", "truncate"]),
    family=st.sampled_from(["nucleotide", "ntv3"]),
)
def test_labels_of_bases_go_along_with_their_bases(sequences, strand, max_shift, epoch, cut, family):
    """The label of a base is made from its place: what comes out must be that base, or its partner."""
    # NTv3's padding token is N, and nothing is around the bases.
    tokenizer = build_nucleotide_tokenizer(template="cls_sep") if family == "nucleotide" else build_ntv3_tokenizer()
    around, limit = [IGNORED] * (family == "nucleotide"), 12 if cut else 1000
    labels = [[place if place % 3 else IGNORED for place in range(len(sequence))] for sequence in sequences]
    rows = tokenize({"sequence": sequences, "label": labels}, tokenizer, limit, cut or "error")
    changed = augment(rows, tokenizer, limit, cut or "error", strand=strand, max_shift=max_shift)
    changed.set_epoch(epoch)
    for row, example in enumerate(changed.__getitems__(range(len(sequences)))):
        shift, other = changed.draw(row)
        sequence, size = sequences[row], min(len(sequences[row]), limit - 2 * len(around))
        first = (len(sequence) - size) // 2 if cut == "center" else 0
        places = [first + shift + place for place in range(size)]
        text = "".join(sequence[place] if 0 <= place < len(sequence) else "N" for place in places)
        known = [place if first <= place < first + size and place % 3 else IGNORED for place in places]
        if other:
            text, known = reverse_complement(text), known[::-1]
        assert list(example["input_ids"]) == tokenizer(text)["input_ids"]
        assert list(example["labels"]) == [*around, *known, *around]


def test_any_tokenizer_will_do():
    tokenizer = build_codons()
    rows = tokenize({"sequence": ["ACGTTGCATC", "AAACCCG"], "label": [0, 1]}, tokenizer)
    examples = [augment(rows, tokenizer, strand=1.0, max_shift=0)[row] for row in (0, 1)]
    assert [tokenizer.convert_ids_to_tokens(example["input_ids"]) for example in examples] == [
        ["GAT", "GCA", "ACG", "T"],
        ["CGG", "GTT", "T"],
    ]
    assert all("attention_mask" not in example for example in examples)  # The collator makes it.


@pytest.mark.parametrize(("too_long", "read"), [("truncate", "GTGCCA"), ("center", "ACGGTG")])
def test_the_other_strand_of_a_cut_sequence_is_that_of_what_is_read(too_long, read):
    for tokenizer, limit in ((build_codons(), 2), (build_nucleotide_tokenizer(), 6)):
        sequence = "TGGCACCGTGCC"
        rows = tokenize({"sequence": [sequence], "label": [0]}, tokenizer, limit, too_long)
        other = read_other_strand(rows, tokenizer, limit, too_long)
        assert read_text(other[0], tokenizer) == read
        assert reverse_complement(read_text(other[0], tokenizer)) == read_text(rows[0], tokenizer)


def test_probabilities_of_the_strands_are_averaged():
    one, two = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32) * 3
    expected = (softmax(one, axis=-1) + softmax(two, axis=-1)) / 2
    np.testing.assert_allclose(softmax(average_outputs(one, two, "single_label"), axis=-1), expected, atol=1e-6)
    expected = logit((expit(one.astype(np.float64)) + expit(two)) / 2)
    np.testing.assert_allclose(average_outputs(one, two, "multi_label"), expected, atol=1e-5)
    np.testing.assert_allclose(average_outputs(one, two, "regression"), (one + two) / 2, atol=1e-6)
    for problem in ("single_label", "multi_label"):
        far = np.array([[300.0, -300.0]], dtype=np.float32)
        assert np.isfinite(average_outputs(far, far, problem)).all()


def test_workers_of_a_run_give_its_weights(command, run_folder, tmp_path):
    options = {"reverse_complement": 0.5, "max_shift": 3, "num_train_epochs": 2, "memory": True}
    assert main(command(**options)) == 0
    assert main(command(**options, output_dir=tmp_path / "workers", dataloader_num_workers=1)) == 0
    plain = options | {"reverse_complement": 0, "max_shift": 0}
    assert main(command(**plain, output_dir=tmp_path / "plain")) == 0
    weights = [
        load_file(folder / "seed-0/model.safetensors")
        for folder in (run_folder, tmp_path / "workers", tmp_path / "plain")
    ]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert any((weights[0][name] != weights[2][name]).any() for name in weights[0])


def test_scores_and_predictions_are_averages_over_strands(command, task, run_folder, tmp_path, draw_table):
    assert main(command(memory=True, average_strands=True)) == 0
    report = json.loads((run_folder / "report.json").read_text())
    table = draw_table(20, 1)
    turned = table.assign(seq=table["seq"].map(reverse_complement))
    turned.to_csv(tmp_path / "turned.csv", index=False)
    found = {}
    for name, file, options in (
        ("forward", task["test_file"], []),
        ("backward", tmp_path / "turned.csv", []),
        ("both", task["test_file"], ["--average_strands"]),
    ):
        out = tmp_path / f"{name}.parquet"
        assert predict([str(run_folder), str(file), "--out", str(out), *options]) == 0
        found[name] = pd.read_parquet(out)["probability_with"].to_numpy()
    mean = (found["forward"] + found["backward"]) / 2
    np.testing.assert_allclose(found["both"], mean, atol=1e-6)
    assert np.abs(found["forward"] - mean).max() > 1e-6
    saved = pd.read_parquet(run_folder / "seed-0/predictions-test.parquet")["probability_with"]
    np.testing.assert_allclose(saved, mean, atol=1e-5)
    mcc = matthews_corrcoef(table["label"] == "with", mean > 0.5)
    assert report["test"]["mcc"]["mean"] == pytest.approx(mcc, abs=1e-6)


def test_predictions_of_bases_are_put_back_where_they_belong(command, task, run_folder, tmp_path, draw_table):
    for path, rows, seed in ((task["train_file"], 60, 0), (task["test_file"], 20, 1)):
        table = draw_table(rows, seed)
        table["label"] = [f"..{bases[2:].replace('C', 'A').replace('T', 'G')}" for bases in table["seq"]]
        table.to_csv(path, index=False)
    options = {"problem": "token", "too_long": "center", "max_length": 21}
    assert main(command(memory=True, average_strands=True, reverse_complement=0.5, max_shift=2, **options)) == 0
    table = pd.read_csv(task["test_file"])
    starts = [max(len(bases) - 21, 0) // 2 for bases in table["seq"]]
    windows = [bases[start : start + 21] for bases, start in zip(table["seq"], starts)]
    found = {}
    for name, texts in (("forward", windows), ("backward", [reverse_complement(bases) for bases in windows])):
        pd.DataFrame({"sequence": texts}).to_csv(tmp_path / "windows.csv", index=False)
        assert (
            predict(
                [str(run_folder), str(tmp_path / "windows.csv"), "--out", str(tmp_path / "one.parquet"), "--overwrite"]
            )
            == 0
        )
        found[name] = pd.read_parquet(tmp_path / "one.parquet")["probability_A"]
    mean = [(one + two[::-1]) / 2 for one, two in zip(found["forward"], found["backward"])]
    argv = [str(run_folder), task["test_file"], "--average_strands", "--too_long", "center", "--max_length", "21"]
    assert predict([*argv, "--out", str(tmp_path / "both.parquet")]) == 0
    both = pd.read_parquet(tmp_path / "both.parquet")
    assert both["prediction_start"].tolist() == starts
    saved = pd.read_parquet(run_folder / "seed-0/predictions-test.parquet")
    for row, expected in enumerate(mean):
        np.testing.assert_allclose(both["probability_A"][row], expected, atol=1e-6)
        labelled = np.array([label is not None for label in saved["label"][row]])
        np.testing.assert_allclose(saved["probability_A"][row][labelled], expected[labelled], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"reverse_complement": 0.5}, "data row 61: there is no reverse complement: character '-' at position 2", 1),
        ({"max_shift": 5}, "train.csv, data row 61: the sequence of 5 bp could be moved out of sight", 1),
        ({"reverse_complement": 1.5}, "reverse_complement=1.5: give a chance from 0 to 1", 2),
        ({"max_shift": -1}, "max_shift=-1: give a number of bp", 2),
    ],
)
def test_what_cannot_be_augmented(changes, message, code, command, task, capsys, run_folder):
    with Path(task["train_file"]).open("a") as file:
        file.write("AC-GT,with,chr1\n")
    try:
        returned = main(command(**changes, validation_fraction=0))
    except SystemExit as stop:
        returned = stop.code
    assert returned == code and message in capsys.readouterr().err
    assert not run_folder.exists()


def test_a_test_row_without_other_strand(command, task, capsys, run_folder, tmp_path):
    with Path(task["test_file"]).open("a") as file:
        file.write("AC*GT,with,chr1\n")
    assert main(command(average_strands=True)) == 1
    assert "test.csv, data row 21: there is no reverse complement" in capsys.readouterr().err
    assert not run_folder.exists()
    assert main(command()) == 0
    out = tmp_path / "out.parquet"
    assert predict([str(run_folder), task["test_file"], "--out", str(out), "--average_strands"]) == 1
    assert "test.csv, data row 21: there is no reverse complement" in capsys.readouterr().err
    assert not out.exists()
