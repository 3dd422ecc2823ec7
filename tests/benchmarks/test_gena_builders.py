"""Tables of GENA-LM's tasks: from the published formats, real samples and small ones of the same shape."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import Trainer, TrainingArguments

from gengram import GenaBertConfig, GenaBertForTokenClassification, RmtForTokenClassification
from gengram.benchmarks import promoters
from gengram.benchmarks.builders.gena import (
    CHROMATIN,
    build_chromatin,
    build_enhancers,
    build_polyadenylation,
    build_promoters,
    build_splice_sites,
    encode_splice_sites,
    main,
)
from gengram.benchmarks.promoters import main as run_promoters
from gengram.errors import InputError
from gengram.genome.tables import read_rows
from gengram.tokenization import reverse_complement
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer


@pytest.fixture
def folds(tmp_path):
    """Five folds of ten rows, a promoter and its shuffle always in different ones, and groups that join them."""
    random = np.random.default_rng(0)
    folder, lines = tmp_path / "folds", []
    folder.mkdir()
    pairs = []
    for _ in range(25):
        bases = "".join(random.choice(list("ACGT"), 60))
        pairs.append((bases, bases[30:] + bases[:30]))
    for fold in range(1, 6):
        rows = [(pairs[(fold * 5 + i) % 25][0], 1) for i in range(5)] + [
            (pairs[(fold * 5 + i + 5) % 25][1], 0) for i in range(5)
        ]
        frame = pd.DataFrame(rows, columns=["sequence", "promoter_presence"])
        frame.to_csv(folder / f"fold_{fold}.csv.gz")
        for row, (sequence, label) in enumerate(rows):
            group = next(i for i, pair in enumerate(pairs) if sequence in pair)
            lines.append((fold, row, label, group % 5 + 1))
    columns = ["fold", "row", "promoter_presence", "fold_leakfree"]
    pd.DataFrame(lines, columns=columns).to_csv(folder / "groups.csv", index=False)
    return folder


def read_splits(folder) -> dict[str, pd.DataFrame]:
    return {path.name.split(".")[0]: read_rows(path).to_pandas() for path in folder.glob("*.csv.gz")}


def find_blocks(sequence: str) -> tuple:
    """What a promoter and its shuffle share: here two halves."""
    return tuple(sorted([sequence[:30], sequence[30:]]))


def test_partners_stay_together_unless_the_published_folds_are_asked_for(folds, tmp_path):
    assert build_promoters(folds, tmp_path / "free", fold=2) == {"train": 30, "validation": 10, "test": 10}
    build_promoters(folds, tmp_path / "published", fold=2, folds="published")
    shared = {}
    for name in ("free", "published"):
        splits = read_splits(tmp_path / name)
        blocks = {split: set(map(find_blocks, rows["sequence"])) for split, rows in splits.items()}
        shared[name] = len(blocks["train"] & blocks["test"])
    assert shared["free"] == 0 and shared["published"] > 0
    assert set(read_splits(tmp_path / "published")["test"]["fold"]) == {2}


def test_a_folder_says_what_it_was_made_of_and_is_the_same_again(folds, tmp_path):
    for name in ("a", "b"):
        build_promoters(folds, tmp_path / name)
    assert (tmp_path / "a/SHA256SUMS").read_bytes() == (tmp_path / "b/SHA256SUMS").read_bytes()
    for line in (tmp_path / "a/SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == digest
    text = (tmp_path / "a/README.md").read_text()
    assert "fold_1.csv.gz, sha256" in text and "| train | 30 |" in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "fold_3.csv.gz").unlink(), "no fold_3.csv"),
        (lambda folder: (folder / "groups.csv").unlink(), "no groups.csv"),
        (lambda folder: cut_last_line(folder / "groups.csv"), "no line for row 9 of fold 5"),
    ],
)
def test_missing_parts_of_promoters_are_named_and_nothing_is_left(folds, tmp_path, change, message):
    change(folds)
    with pytest.raises(InputError, match=message):
        build_promoters(folds, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def cut_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.slow
def test_real_promoters_have_no_partner_on_the_other_side(shared, tmp_path):
    build_promoters(shared / "data" / "gena" / "promoters_len_300", tmp_path / "out")
    splits = read_splits(tmp_path / "out")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 35516, "validation": 11840, "test": 11840}
    pairs = {}
    for split, rows in splits.items():
        keys = (tuple(sorted(re.findall(".{15}", sequence))) for sequence in rows["sequence"])
        pairs[split] = set(keys) | {
            tuple(sorted(re.findall(".{15}", reverse_complement(sequence)))) for sequence in rows["sequence"]
        }
    assert not pairs["train"] & pairs["test"] and not pairs["train"] & pairs["validation"]


def test_splice_sites_of_the_published_format(shared, tmp_path):
    source = shared / "data" / "gena" / "spliceai" / "test_Dataset_data.csv"
    assert build_splice_sites({"test": source}, tmp_path / "out") == {"test": 10}
    rows = read_rows(tmp_path / "out" / "test.parquet")
    labels = np.array(rows["label"])
    assert labels.shape == (10, 15_000) and (labels[:, :5000] == -1).all() and (labels[:, 10_000:] == -1).all()
    assert [(labels == value).sum() for value in (0, 1, 2)] == [49256, 13, 13]


def test_tokens_have_the_labels_of_their_bases():
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 10_060))
    labels = np.full(len(bases), -1)
    labels[5000:5060] = 0
    labels[5010], labels[5011], labels[5050:] = 1, 2, -1
    tokenizer = train_bpe_tokenizer([bases], vocab_size=80)
    encoded = encode_splice_sites(bases, labels, tokenizer, 200)
    ids, targets, mask = (encoded[name] for name in ("input_ids", "labels", "labels_mask"))
    assert len(ids) == 200 and targets.shape == (200, 3) and ids[0] == 1 and ids[-1] == 2
    first, second = np.flatnonzero(ids == 2)[:2]
    middle = tokenizer.convert_ids_to_tokens(ids[first + 1 : second])
    assert "".join(middle) == bases[5000:5060]
    assert abs((first - 1) - (len(ids) - second - 2)) <= 1  # as many tokens on either side
    assert bases[:5000].endswith("".join(tokenizer.convert_ids_to_tokens(ids[1:first])))
    ends = np.cumsum([len(token) for token in middle])
    for place, (a, b) in enumerate(zip([0, *ends[:-1]], ends), start=first + 1):
        assert targets[place].tolist() == [float(value in labels[5000 + a : 5000 + b]) for value in range(3)]
        assert mask[place] == (a < 50)
    assert mask.sum() == (ends - [len(token) for token in middle] < 50).sum() and not targets[~mask].any()
    with pytest.raises(ValueError, match="exceeds 10"):
        encode_splice_sites(bases, labels, tokenizer, 10)


def test_real_splice_sites_train_tokens_of_a_recurrent_memory(shared, tmp_path):
    source = shared / "data" / "gena" / "spliceai" / "test_Dataset_data.csv"
    build_splice_sites({"test": source}, tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "test.parquet")
    tokenizer = train_bpe_tokenizer([rows["sequence"][0][6000:9000]], vocab_size=60)
    encoded = [
        encode_splice_sites(sequence, np.array(labels), tokenizer, 2600)
        for sequence, labels in zip(rows["sequence"][:4], rows["label"][:4])
    ]
    torch.manual_seed(0)
    config = GenaBertConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=3,
        problem_type="multi_label_classification",
    )
    native = GenaBertForTokenClassification(config)
    model = RmtForTokenClassification.from_backbone(native, num_memory_tokens=2, segment_length=512)

    def collate(batch):
        longest = max(len(one["input_ids"]) for one in batch)
        joined = {}
        for name in batch[0]:
            fill = tokenizer.pad_token_id if name == "input_ids" else 0
            widths = ((0, 0),) * (batch[0][name].ndim - 1)
            padded = [
                np.pad(one[name], ((0, longest - len(one[name])), *widths), constant_values=fill) for one in batch
            ]
            joined[name] = torch.from_numpy(np.stack(padded))
        return joined | {"attention_mask": (joined["input_ids"] != tokenizer.pad_token_id).long()}

    arguments = TrainingArguments(
        str(tmp_path / "run"), max_steps=3, per_device_train_batch_size=2, learning_rate=1e-2, report_to="none",
        use_cpu=True, remove_unused_columns=False, disable_tqdm=True, logging_steps=1, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=encoded, data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()


def test_chromatin_has_the_names_of_its_groups(shared, tmp_path):
    source = shared / "data" / "gena" / "deepsea" / "test.dataset.csv.gz"
    assert build_chromatin({"test": source}, tmp_path / "out") == {"test": 100}
    rows = pd.read_parquet(tmp_path / "out" / "test.parquet")
    original = pd.read_csv(source, header=None)
    assert sum(CHROMATIN.values()) == 919 == rows.shape[1] - 1
    assert (rows.iloc[:, 1:].to_numpy() == original.iloc[:, 1:].to_numpy()).all()
    assert rows.columns[126] == "label_factor_0" and rows.columns[-1] == "label_histone_103"


def test_enhancers_and_polyadenylation(shared, tmp_path):
    folder = shared / "data" / "gena"
    pair = (folder / "deepstarr" / "test_Sequences.fa", folder / "deepstarr" / "test_Sequences_activity.txt")
    assert build_enhancers({"train": pair}, tmp_path / "enhancers") == {"train": 10}
    rows = pd.read_csv(tmp_path / "enhancers" / "train.csv.gz")
    assert rows["target_Dev_log2_enrichment"][0] == pytest.approx(3.41830647507405)
    source = folder / "aparent" / "AparentDataset_test_data.csv"
    counts = build_polyadenylation(source, tmp_path / "sites", validation=0.2, test=0.2)
    assert sum(counts.values()) == 9 and set(counts) == {"train", "validation", "test"}
    splits = read_splits(tmp_path / "sites")
    assert sorted(pd.concat(splits.values())["sequence"]) == sorted(pd.read_csv(source)["seq_ext"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seq_ext": ["ACGT"], "target": [0.5]}, "no column 'library'"),
        ({"seq_ext": ["ACGT"], "library": ["a"], "target": [2]}, "data row 1"),
    ],
)
def test_wrong_polyadenylation_is_refused(columns, message, tmp_path):
    pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=message):
        build_polyadenylation(tmp_path / "x.csv", tmp_path / "out")


def test_commands(folds, tmp_path, capsys):
    assert main(["promoters", str(folds), str(tmp_path / "out")]) == 0
    assert "train: 30 rows" in capsys.readouterr().out
    assert main(["promoters", str(folds), str(tmp_path / "out")]) == 1
    assert "is there already" in capsys.readouterr().err


def test_promoters_are_compared_and_finished_seeds_are_kept(folds, tmp_path, capsys):
    argv = ["--data", str(folds), "--output_dir", str(tmp_path / "runs"), "--seeds", "0", "--quick"]
    assert run_promoters(argv) == 0
    report = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert set(report["folds"]) == {"leak_free", "published"}
    assert "| small GENA from scratch |" in (tmp_path / "runs" / "results.md").read_text()
    kept = (tmp_path / "runs" / "quick-leak_free-1" / "seed-0.json").stat().st_mtime_ns
    assert run_promoters(argv) == 0
    assert (tmp_path / "runs" / "quick-leak_free-1" / "seed-0.json").stat().st_mtime_ns == kept


def test_a_quick_run_leaves_the_tables_of_a_full_one_alone(folds, tmp_path, monkeypatch):
    monkeypatch.setattr(promoters, "QUICK", dataclasses.replace(promoters.QUICK, rows=4))
    monkeypatch.setattr(promoters, "score_baselines", lambda _: dict.fromkeys(promoters.BASELINES, 0.5))
    monkeypatch.setattr(promoters, "train_gena", lambda *_: {"f1": 0.5, "seconds": 0})
    argv = ["--data", str(folds), "--output_dir", str(tmp_path), "--folds", "published", "--seeds", "0"]
    rows = []
    for options in (["--quick"], []):
        assert run_promoters([*argv, *options]) == 0
        rows.append({path.parts[-3]: len(pd.read_csv(path)) for path in tmp_path.glob("*/tables/train.csv.gz")})
    assert rows == [{"quick-published-1": 4}, {"quick-published-1": 4, "published-1": 30}]
