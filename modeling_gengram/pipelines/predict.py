"""`gengram predict`: what does a fine-tuned model say about new sequences?"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gengram.errors import InputError
from gengram.genome.tables import read_rows
from gengram.loading.adapters import is_adapter, load_adapter
from gengram.loading.models import LOADING_ERRORS, measure_capacity
from gengram.pipelines.predictions import describe_bases, describe_rows, find_start
from gengram.tokenization.coordinates import find_bases
from gengram.training.data.inputs import tokenize_rows
from gengram.training.data.strands import average_outputs, check_letters, read_other_strand
from gengram.training.problems import Problem

if TYPE_CHECKING:
    from peft import PeftModel

_HEADS = {
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
}
_PROBLEMS: dict[str | None, Problem] = {"multi_label_classification": "multi_label", "regression": "regression"}


def predict_file(
    model_path: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    too_long: str = "error",
    sequence_column: str | None = None,
    genome: str | Path | None = None,
    average_strands: bool = False,
    base_model: str | None = None,
) -> Path:
    """Predict every row of a file and write the predictions as Parquet, in one piece.

    Args:
        model_path: a saved model or adapter with its tokenizer, a folder of `gengram finetune` with one seed, or a Hub
            id.
        file: what `gengram finetune` reads; labels are not needed and, where there are any, not looked at.
        out: the Parquet file; replaced if it is there.
        batch_size: sequences a step. Rows of similar length share a batch, which does not change the order.
        max_length: longest input in tokens; by default the model's.
        too_long: what happens to longer sequences: `error`, `truncate` (cut the end off) or `center` (keep the middle).
        sequence_column, genome: see `read_rows`.
        average_strands: average the prediction for a sequence and for its reverse complement, see `average_outputs`;
            those of bases are put back where they belong.
        base_model: folder or Hub id of an adapter's base, where it is not where the adapter says.

    Returns:
        The path of the Parquet file. It has the columns of the input without the sequences, in the same order, and
        - one class a row: `prediction`, the name, and `probability_NAME` of each class;
        - several labels: `prediction`, the list of labels with a probability above 0.5, and `probability_NAME`;
        - a regression: `prediction_NAME` of each target;
        - a class for each base: `prediction_start`, the base (counted from 0) that the lists begin at, `prediction`, a
          list of names, and for each class a list `probability_NAME`.

    Raises:
        `InputError`: a model without a trained head, or with tokens longer than a base where bases are classified; a
            file that cannot be read; a sequence that is too long; an output folder that is not there.
    """
    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: the folder {out.absolute().parent} does not exist")
    model, tokenizer, problem = load_predictor(model_path, base_model)
    limit = max_length or tokenizer.model_max_length
    if limit > tokenizer.model_max_length:
        raise InputError(
            f"max_length={limit} tokens is longer than the model, which takes {tokenizer.model_max_length} tokens"
        )
    rows = read_rows(file, sequence_column, genome=genome, needs_labels=False)
    encoded, _ = tokenize_rows(rows, tokenizer, limit, too_long, str(file))
    outputs = _run(model, tokenizer, encoded, batch_size)
    if average_strands:
        check_letters(rows, str(file))
        other = read_other_strand(encoded, tokenizer, limit, too_long)
        outputs = _average(outputs, _run(model, tokenizer, other, batch_size), encoded, other, tokenizer, problem)
    names = [name for _, name in sorted((model.config.id2label or {}).items())]
    if problem == "token":
        columns = _describe_bases(rows, encoded, outputs, names, tokenizer, too_long, file)
    else:
        columns = describe_rows(np.concatenate(outputs), names, problem)
    kept = {name: rows.data.column(name) for name in rows.column_names if name != "sequence" and name not in columns}
    table = pa.table({**kept, **columns})
    partial = out.with_name(out.name + ".partial")
    try:
        pa.parquet.write_table(table, partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def load_predictor(
    path: str | Path, base: str | None = None
) -> tuple["PreTrainedModel | PeftModel", PreTrainedTokenizerBase, Problem]:
    """Load a model with a trained head, in evaluation mode on the accelerator if there is one, and its tokenizer.

    Args:
        path: a saved model or adapter, a folder of `gengram finetune` with one seed, or a Hub id.
        base: of an adapter, where its base is not where the adapter says.

    Raises:
        `InputError`: nothing can be read there, or there is no head, or weights are missing; an adapter that does not
            fit its base.
    """
    folder = _find_model(Path(path)) if Path(path).is_dir() else path
    adapted = is_adapter(folder)
    if base is not None and not adapted:
        raise InputError(f"{path} is no adapter, so it has no base to name")
    model: Any = load_adapter(folder, base) if adapted else _load_whole(folder)
    head = type(model.get_base_model() if adapted else model).__name__
    tokenizer = _load_tokenizer(folder)
    tokenizer.model_max_length = measure_capacity(model.config, tokenizer)
    problem = _PROBLEMS.get(model.config.problem_type, "single_label")
    if head.endswith("ForTokenClassification"):
        problem = "token"
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    return model.eval().to(device), tokenizer, problem


def _load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise InputError(f"{path}: no tokenizer can be read here: {error}") from error


def _load_whole(path: str | Path) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        head = next((head for head in _HEADS if (config.architectures or [""])[0].endswith(head)), None)
        if head is None:
            raise InputError(
                f"{path}: {config.architectures} has no head that classifies or measures; fine-tune it first"
            )
        # Another size is let through to be told with what is missing.
        model, found = _HEADS[head].from_pretrained(
            path, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except InputError:
        raise
    except LOADING_ERRORS as error:
        raise InputError(f"{path}: no model can be loaded here: {error}") from error
    if lacking := sorted(found["missing_keys"] | {name for name, *_ in found["mismatched_keys"]}):
        raise InputError(f"{path}: {len(lacking)} weights are missing or of another size, e.g. {lacking[0]}")
    return model


def main(argv: list[str] | None = None) -> int:
    """Run `gengram predict`; returns the exit code: 0, or 1 after a message about what has to be mended."""
    parser = argparse.ArgumentParser(
        prog="gengram predict",
        description="Predict new sequences with a fine-tuned model.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  gengram predict runs/splice/seed-0 new.fa.gz --out predictions.parquet\n\n"
        "exit codes: 0 done; 1 something has to be mended, the message says what; 2 wrong arguments",
    )
    parser.add_argument("model", help="a saved model: a folder, a run of gengram finetune with one seed, or a Hub id")
    parser.add_argument("file", help="sequences: .csv, .tsv, .jsonl, .parquet, FASTA, .bed with --genome; plain or .gz")
    parser.add_argument("--out", required=True, help="the Parquet file with the predictions")
    parser.add_argument("--batch_size", type=int, default=64, help="sequences a step (default: %(default)s)")
    parser.add_argument("--max_length", type=int, help="longest input in tokens (default: the model's)")
    parser.add_argument(
        "--too_long",
        choices=("error", "truncate", "center"),
        default="error",
        help="longer sequences: stop, cut their end off, or keep the middle (default: %(default)s)",
    )
    parser.add_argument("--sequence_column", help="column of sequences (default: sequence, else seq, dna, ...)")
    parser.add_argument("--genome", help="FASTA file that the intervals of a .bed file are cut from")
    parser.add_argument(
        "--average_strands",
        action="store_true",
        help="average the prediction for a sequence and for its reverse complement",
    )
    parser.add_argument(
        "--base_model", help="an adapter's base: a folder or a Hub id (default: what the adapter names)"
    )
    arguments = vars(parser.parse_args(argv))
    for name in ("batch_size", "max_length"):
        if arguments[name] is not None and arguments[name] < 1:
            parser.error(f"--{name} {arguments[name]}: give a whole number of at least 1")
    try:
        out = predict_file(arguments.pop("model"), arguments.pop("file"), arguments.pop("out"), **arguments)
    except (InputError, OSError) as error:
        print(f"gengram predict: error: {error}", file=sys.stderr)
        return 1
    print(out)
    return 0


def _find_model(folder: Path) -> Path:
    if (folder / "config.json").exists() or not (folder / "report.json").exists():
        return folder
    seeds = sorted(path for path in folder.glob("seed-*") if is_adapter(path) or (path / "config.json").exists())
    if len(seeds) != 1:
        raise InputError(f"{folder}: name one of its models: {', '.join(map(str, seeds)) or 'there is none'}")
    return seeds[0]


@torch.inference_mode()
def _run(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, encoded: Dataset, batch_size: int
) -> list[np.ndarray]:
    """Return the logits of each row in the order of the rows: (1, C), or (T, C) for a token classifier."""
    inputs = encoded.select_columns([name for name in ("input_ids", "attention_mask") if name in encoded.column_names])
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    order = np.argsort(-lengths, kind="stable")
    loader = DataLoader(inputs.select(order), batch_size, collate_fn=DataCollatorWithPadding(tokenizer))
    outputs: list[np.ndarray] = [np.empty(0)] * len(lengths)
    rows = iter(order)
    for batch in tqdm(loader, desc="Predicting"):
        batch = batch.to(model.device)
        logits = model(**batch).logits.float().cpu().numpy()
        real = batch["attention_mask"].bool().cpu().numpy()
        for position in range(len(logits)):
            found = logits[position][real[position]] if logits.ndim == 3 else logits[position : position + 1]
            outputs[next(rows)] = found
    return outputs


def _average(
    outputs: list[np.ndarray],
    turned: list[np.ndarray],
    encoded: Dataset,
    other: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
) -> list[np.ndarray]:
    """Average the logits of each row with those of its other strand, base by base for a token classifier."""
    if problem != "token":
        return [average_outputs(*pair, problem) for pair in zip(outputs, turned)]
    for output, back, ids, other_ids in zip(outputs, turned, encoded["input_ids"], other["input_ids"]):
        bases = find_bases(ids, tokenizer)
        output[bases] = average_outputs(output[bases], back[find_bases(other_ids, tokenizer)][::-1], problem)
    return outputs


def _describe_bases(
    rows: Dataset,
    encoded: Dataset,
    outputs: list[np.ndarray],
    names: list[str],
    tokenizer: PreTrainedTokenizerBase,
    too_long: str,
    file: str | Path,
) -> dict[str, pa.Array]:
    starts, bases = [], []
    for row, (sequence, ids, logits) in enumerate(zip(rows["sequence"], encoded["input_ids"], outputs), start=1):
        bases.append(logits[find_bases(ids, tokenizer)])
        starts.append(find_start(len(sequence), len(bases[-1]), too_long))
        whole = len(
            tokenizer(sequence, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        )
        if whole != len(sequence):
            raise InputError(
                f"{file}, data row {row}: {len(sequence)} bp are {whole} tokens; bases need one token each"
            )
    return describe_bases(bases, starts, names)


__all__ = ["load_predictor", "main", "predict_file"]

if __name__ == "__main__":
    sys.exit(main())
