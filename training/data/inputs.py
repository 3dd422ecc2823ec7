"""From files and data sets to tokenized splits: what the model is trained, validated and tested on."""

import dataclasses
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES, URACIL
from gengram.genome.columns import count_letters, list_texts, read_column, read_columns
from gengram.genome.letters import MAX_NON_DNA, judge_rows
from gengram.phases import phase
from gengram.training.arguments import DataArguments
from gengram.training.data.duplicates import count_shared, hash_sequences
from gengram.training.data.labels import (
    align_classes,
    encode_labels,
    find_label_columns,
    infer_problem,
    order_classes,
    read_labels,
)
from gengram.training.data.sources import Source, read_sources
from gengram.training.data.splits import split_chromosomes, split_validation
from gengram.training.data.tokens import TOKENS_COLUMN, LongTokenError, RowEncoder
from gengram.training.problems import IGNORED, ROW_COLUMN, Problem

# Of a batch that is tokenized: rows, and letters where rows are long.
_MAP_ROWS, _MAP_LETTERS = 10_000, 1 << 23


@dataclasses.dataclass(frozen=True)
class LabelledSplits:
    """Rows ready for Trainer.

    Attributes:
        splits: `train`, and where there are such rows `validation` and `test`; each with the columns of `read_rows`,
            `ROW_COLUMN`, `input_ids` and `label`, see `encode_labels`; for `token` instead of it
            `labels`, int64 one a token, `IGNORED` at special tokens and masked bases.
        problem: what the labels are.
        classes: names of the C classes, labels or targets; the position is the id.
        report: what these rows are: files, checksums, numbers of rows, shares of letters that are no bases.
        too_long: what happened to sequences that are too long, see `tokenize_rows`.
    """

    splits: dict[str, Dataset]
    problem: Problem
    classes: list[str]
    report: dict[str, Any]
    too_long: str = "error"


def prepare_splits(
    arguments: DataArguments, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
) -> LabelledSplits:
    """Read, check, tokenize and split the tables.

    Args:
        arguments: which files and columns.
        tokenizer: its `model_max_length` is the longest input that the model takes.
        config: the model's; a checkpoint that was trained on the same class names keeps its ids.

    Raises:
        `InputError`: see `read_sources`, `read_labels`, `order_classes`, `encode_labels`, `split_chromosomes` and
            `split_validation`; and a
            sequence that is longer than the model or than `max_length`, unless it may be cut; labels of bases for
            tokens that are longer than a base.
    """
    capacity = tokenizer.model_max_length
    limit = arguments.max_length or capacity
    if limit > capacity:
        raise InputError(f"max_length={limit} tokens is longer than the model, which takes {capacity} tokens")
    genome = arguments.open_genome()
    with phase("Reading rows", "rows") as reading:
        sources = read_sources(arguments, genome)
        reading.add(sum(len(source.rows) for source in sources.values()))
    with phase("Encoding labels", "rows") as encoding:
        encoded, problem, classes = _encode_sources(arguments, sources, config)
        encoding.add(sum(map(len, encoded.values())))
    splits, cut = {}, {}
    for split, source in sources.items():
        with phase("Tokenising", "rows") as tokenising:
            splits[split], cut[split] = tokenize_rows(
                encoded[split],
                tokenizer,
                limit,
                arguments.too_long,
                source.name,
                problem == "token",
                arguments.max_non_dna,
                arguments.num_proc,
            )
            splits[split] = _number_rows(splits[split])
            tokenising.add(len(splits[split]))
    renamed: dict[str, str] = {}
    for split in ("test", "validation"):
        if chromosomes := getattr(arguments, f"{split}_chromosomes"):
            if split in sources:
                raise InputError(f"{sources[split].name}: these rows are for {split}; leave --{split}_chromosomes out")
            sources[split], cut[split] = sources["train"], cut["train"]
            splits["train"], splits[split], others = split_chromosomes(
                splits["train"], chromosomes, sources["train"].name, f"{split}_chromosomes"
            )
            renamed |= others
    if "validation" not in sources and arguments.validation_fraction > 0:
        sources["validation"], cut["validation"] = sources["train"], cut["train"]
        splits["train"], splits["validation"] = split_validation(
            splits["train"],
            arguments.validation_fraction,
            arguments.split_seed,
            arguments.group_similarity,
            arguments.group_column,
            sources["train"].name,
        )
    elif arguments.group_column is not None:
        raise InputError(
            f"{sources['validation'].name}: these rows are for validation; leave --group_column out, it is for a split"
        )
    report: dict[str, Any] = {"problem": problem, "classes": classes, "max_length": limit}
    report |= {"renamed_contigs": genome.renamed if genome else {}, "renamed_chromosomes": renamed}
    with phase("Describing rows", "rows") as describing:
        report |= {"train": None, "validation": None, "test": None, "duplicates": _describe_duplicates(splits)}
        for split, source in sources.items():
            report[split] = {
                "file": source.name,
                "sha256": source.sha256,
                **({"label_file": source.label_file, "label_sha256": source.label_sha256} if source.label_file else {}),
                "truncated_rows_in_file": cut[split],
                **_describe_rows(splits[split], tokenizer, source.name),
                **_describe_labels(splits[split], problem, classes, source.name),
            }
            describing.add(len(splits[split]))
    return LabelledSplits(splits, problem, classes, report, arguments.too_long)


def _encode_sources(
    arguments: DataArguments, sources: dict[str, Source], config: PreTrainedConfig
) -> tuple[dict[str, Dataset], Problem, list[str]]:
    """Return the rows of each split with encoded labels, the problem and the names of the ids."""
    wanted, problem = arguments.label_column, None
    classes: list[str] = []
    encoded: dict[str, Dataset] = {}
    for split, source in sources.items():
        rows, name = source.rows, source.labels_from
        columns = find_label_columns(rows, name, wanted or source.label_columns)
        if problem is None:
            problem = infer_problem(rows, columns, name) if arguments.problem == "auto" else arguments.problem
            wanted = columns if len(columns) > 1 else wanted
        labels = read_labels(rows, columns, problem, name, tuple(arguments.mask_labels))
        if not classes:
            classes = align_classes(order_classes(labels, name), config)
        encoded[split] = encode_labels(rows, labels, classes, columns, name, arguments.label_start)
    assert problem is not None  # There is a split to train on.
    return encoded, problem, classes


def tokenize_rows(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    too_long: str,
    file: str,
    by_base: bool = False,
    max_non_dna: float = MAX_NON_DNA,
    num_proc: int | None = None,
) -> tuple[Dataset, int]:
    """Add `input_ids`, and what else the tokenizer gives but for attention masks, cut to a limit; see `RowEncoder`.

    Args:
        rows: N rows with `sequence`.
        tokenizer: of the model.
        limit: longest input in tokens, special tokens included.
        too_long: what happens to longer ones: `error`, `truncate` (cut their end off) or `center` (keep the middle).
        file: where the rows are from, for messages.
        by_base: turn `label`, int64 one a base, into `labels`, one a token.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.
        num_proc: how many processes share the rows; the result is the same, in memory.

    Returns:
        The rows, and how many of them had to be cut.

    Raises:
        `InputError`: a sequence is too long and must not be cut; labels of bases for tokens longer than a base; letters
            that are no DNA, see `LetterSurvey`; a sequence that is shorter than a token.
    """

    judge_rows(rows, file, max_non_dna)
    # These names are of what is made here; columns of the file that have them would be taken for it.
    taken = {"labels", *tokenizer.model_input_names}
    rows = rows.remove_columns([name for name in rows.column_names if name in taken])

    read = ["sequence", *(["label"] if by_base else [])]
    letters = pc.sum(pc.utf8_length(rows.data["sequence"])).as_py() or 0
    try:
        encoded = (
            rows.select_columns(read)
            .with_format("arrow")
            .map(
                RowEncoder(tokenizer, limit, too_long, by_base),
                batched=True,
                batch_size=max(1, min(_MAP_ROWS, _MAP_LETTERS * len(rows) // max(letters, 1))),
                remove_columns=read,
                num_proc=min(num_proc, len(rows)) if num_proc and num_proc > 1 else None,
                desc=f"Tokenizing {Path(file).name}",
            )
            .with_format(None)
        )
    except LongTokenError as error:
        raise InputError(
            f"{file}: the labels are of bases, but the tokenizer has longer tokens ({error}). Take a model with one "
            "token a base."
        ) from error
    lengths = np.asarray(encoded.data[TOKENS_COLUMN])
    if len(short := np.flatnonzero(lengths <= tokenizer.num_special_tokens_to_add())):
        raise InputError(
            f"{file}, data row {short[0] + 1}: the sequence of {len(rows[int(short[0])]['sequence'])} bp is "
            f"shorter than a token of this model, so it has none ({len(short)} of {len(rows)} rows)"
        )
    beyond = np.flatnonzero(lengths > limit)
    if not len(beyond) or too_long != "error":
        others = rows.remove_columns(["label"] if by_base else [])
        return concatenate_datasets([others, encoded.remove_columns(TOKENS_COLUMN)], axis=1), len(beyond)
    first = int(beyond[0])
    raise InputError(
        f"{file}, data row {first + 1}: the sequence of {len(rows[first]['sequence'])} bp is {lengths[first]} tokens, "
        f"but the limit is {limit} tokens ({len(beyond)} of {len(rows)} rows are too long, the longest has "
        f"{lengths.max()}). "
        "Shorten them, cut them with --too_long truncate or center, or take a longer model (for a new one: "
        "max_position_embeddings in backbone_config). gengram predict also reads them in windows: --too_long window."
    )


def _number_rows(rows: Dataset) -> Dataset:
    rows = rows.remove_columns([ROW_COLUMN] if ROW_COLUMN in rows.column_names else [])
    return rows.add_column(ROW_COLUMN, np.arange(1, len(rows) + 1))


def _describe_duplicates(splits: dict[str, Dataset]) -> dict[str, dict[str, int]]:
    """Return for each two splits how many rows of the second the first has too, as they are or as the other strand."""
    order = [split for split in ("train", "validation", "test") if split in splits]
    names = {split: hash_sequences(list_texts(splits[split])) for split in order if len(order) > 1}
    return {
        f"{second}_in_{first}": count_shared(names[first], names[second])
        for first, second in itertools.combinations(order, 2)
    }


def _describe_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase, file: str) -> dict[str, Any]:
    letters, longest, tokens, unknown = np.zeros(256, dtype=np.int64), 0, 0, 0
    for block in read_columns(rows, ["sequence", "input_ids"]):
        letters += count_letters(block["sequence"])
        longest = max(longest, pc.max(pc.utf8_length(block["sequence"])).as_py())
        ids = pc.list_flatten(block["input_ids"]).to_numpy()
        tokens += len(ids)
        if tokenizer.unk_token_id is not None:
            unknown += int((ids == tokenizer.unk_token_id).sum())
    characters = int(letters.sum() - letters[0x80:0xC0].sum())  # the second and later bytes of one in UTF-8

    def share(number: int) -> float:
        return number / characters

    def count(codes: str) -> int:
        return int(letters[list((codes + codes.lower()).encode())].sum())

    if unknown > 0.05 * tokens:
        warnings.warn(
            f"{file}: {unknown} of {tokens} tokens are unknown to the tokenizer. Are the sequences DNA?",
            stacklevel=2,
        )
    return {
        "rows": len(rows),
        "longest": longest,
        "characters": characters,
        "non_acgt_share": share(characters - count(BASES + URACIL)),
        "lower_case_share": share(int(letters[ord("a") : ord("z") + 1].sum())),
        "iupac_share": share(count(AMBIGUITY_CODES + ANY_BASE)),
        "unknown_token_share": unknown / tokens,
    }


def _describe_labels(rows: Dataset, problem: Problem, names: list[str], file: str) -> dict[str, Any]:
    if problem == "multi_label":
        numbers = np.zeros(len(names), dtype=np.int64)
        for block in read_columns(rows, ["label"]):
            numbers += pc.list_flatten(block["label"]).to_numpy().reshape(len(block), -1).sum(axis=0)
        return {"rows_per_class": dict(zip(names, numbers.tolist()))}
    column = read_column(rows, "labels" if problem == "token" else "label")
    if problem == "single_label":
        counts = np.bincount(column.to_numpy(), minlength=len(names))
        return {"rows_per_class": dict(zip(names, counts.tolist()))}
    flat = pc.list_flatten(column).to_numpy()
    if problem == "token":
        known = flat[flat != IGNORED]
        if not len(known):
            raise InputError(
                f"{file}: no base that the model reads has a label. Was that part of the sequences cut off?"
            )
        counts = np.bincount(known, minlength=len(names))
        return {"bases_per_class": dict(zip(names, counts.tolist())), "unlabelled_tokens": len(flat) - len(known)}
    values = flat.reshape(len(rows), -1)
    return {
        "targets": {
            name: {
                "mean": float(target.mean()),
                "sd": float(target.std()),
                "min": float(target.min()),
                "max": float(target.max()),
            }
            for name, target in zip(names, values.T.astype(np.float64))
        }
    }


__all__ = ["LabelledSplits", "prepare_splits", "tokenize_rows"]
