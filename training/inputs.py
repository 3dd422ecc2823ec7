"""From table files to tokenized splits: what the model is trained, validated and tested on."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from gengram.training.arguments import DataArguments
from gengram.training.classifier import align_classes
from gengram.training.errors import InputError
from gengram.training.splits import split_validation
from gengram.training.tables import encode_labels, hash_file, order_classes, read_table


@dataclasses.dataclass(frozen=True)
class LabelledSplits:
    """Rows ready for Trainer.

    Attributes:
        splits: `train`, and where there are such rows `validation` and `test`; each with the columns of `read_table`,
            `label` as a `ClassLabel`, `input_ids` and `attention_mask`.
        classes: C class names; the position is the id.
        report: what these rows are: files, checksums, numbers of rows, shares of letters that are no bases.
    """

    splits: dict[str, Dataset]
    classes: list[str]
    report: dict[str, Any]


def prepare_splits(
    arguments: DataArguments, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
) -> LabelledSplits:
    """Read, check, tokenize and split the tables.

    Args:
        arguments: which files and columns.
        tokenizer: its `model_max_length` is the longest input that the model takes.
        config: the model's; a checkpoint that was trained on the same class names keeps its ids.

    Raises:
        `InputError`: see `read_table`, `order_classes`, `encode_labels` and `split_validation`; and a sequence that is
            longer than the model or than `max_length`, unless it may be cut.
    """
    capacity = tokenizer.model_max_length
    limit = arguments.max_length or capacity
    if limit > capacity:
        raise InputError(f"max_length={limit} tokens is longer than the model, which takes {capacity} tokens")
    given = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
    files = {split: file for split, file in given.items() if file is not None}
    tables = {
        split: read_table(file, arguments.sequence_column, arguments.label_column) for split, file in files.items()
    }
    classes = align_classes(order_classes(tables["train"], files["train"]), config)
    splits, cut = {}, {}
    for split, file in files.items():
        rows = encode_labels(tables[split], classes, file)
        splits[split], cut[file] = _tokenize(rows, tokenizer, limit, arguments.too_long, file)
    if arguments.validation_file is None and arguments.validation_fraction > 0:
        files["validation"] = files["train"]
        splits["train"], splits["validation"] = split_validation(
            splits["train"], arguments.validation_fraction, arguments.split_seed
        )
    report: dict[str, Any] = {"classes": classes, "max_length": limit, "train": None, "validation": None, "test": None}
    for split, file in files.items():
        report[split] = {
            "file": file,
            "sha256": hash_file(file),
            "truncated_rows_in_file": cut[file],
            **_describe_rows(splits[split], tokenizer, file),
        }
    return LabelledSplits(splits, classes, report)


def _tokenize(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str, file: str
) -> tuple[Dataset, int]:
    """Add `input_ids` and `attention_mask`; the second result is the number of rows that had to be cut to `limit`."""

    def encode(batch: dict[str, list], truncation: bool) -> dict[str, list]:
        # Split special tokens: a text like "[MASK]" in a sequence is six unknown characters, not a mask.
        return dict(
            tokenizer(
                batch["sequence"], truncation=truncation, max_length=limit, split_special_tokens=True, verbose=False
            )
        )

    description = f"Tokenizing {Path(file).name}"
    encoded = rows.map(encode, batched=True, fn_kwargs={"truncation": False}, desc=description)
    lengths = np.asarray(pc.list_value_length(encoded.data["input_ids"]))
    beyond = np.flatnonzero(lengths > limit)
    if not len(beyond):
        return encoded, 0
    if too_long == "truncate":
        encoded = rows.map(encode, batched=True, fn_kwargs={"truncation": True}, desc=description)
        return encoded, len(beyond)
    first = int(beyond[0])
    raise InputError(
        f"{file}, data row {first + 1}: the sequence of {len(rows[first]['sequence'])} bp is {lengths[first]} tokens, "
        f"but the limit is {limit} tokens ({len(beyond)} of {len(rows)} rows are too long, the longest has "
        f"{lengths.max()}). "
        "Shorten them, cut them with --too_long truncate, or take a longer model (for a new one: "
        "max_position_embeddings in backbone_config)."
    )


def _describe_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase, file: str) -> dict[str, Any]:
    table = rows.with_format("arrow")[:]
    names = rows.features["label"].names
    counts = np.bincount(table["label"].to_numpy(), minlength=len(names))
    characters = pc.sum(pc.utf8_length(table["sequence"])).as_py()
    other = pc.sum(pc.count_substring_regex(table["sequence"], "[^ACGTUacgtu]")).as_py()
    tokens = pc.list_flatten(table["input_ids"]).to_numpy()
    unknown = int((tokens == tokenizer.unk_token_id).sum()) if tokenizer.unk_token_id is not None else 0
    if unknown > 0.05 * len(tokens):
        warnings.warn(
            f"{file}: {unknown} of {len(tokens)} tokens are unknown to the tokenizer. Are the sequences DNA?",
            stacklevel=2,
        )
    return {
        "rows": len(rows),
        "rows_per_class": dict(zip(names, counts.tolist())),
        "characters": characters,
        "non_acgt_share": other / characters,
        "unknown_token_share": unknown / len(tokens),
    }


__all__ = ["LabelledSplits", "prepare_splits"]
