"""What does a fine-tuned model say about new sequences? The work of `gengram predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import find_suffix
from gengram.genome.contigs import Genome
from gengram.genome.letters import MAX_NON_DNA
from gengram.genome.places import place_rows, survey_places
from gengram.genome.row_files import write_rows
from gengram.genome.tables import read_rows, shorten
from gengram.loading.adapters import is_adapter, load_adapter
from gengram.loading.checkpoints import find_model, find_models
from gengram.loading.classes import name_outputs
from gengram.loading.configurations import measure_capacity, require_config
from gengram.loading.models import check_present, choose_device, count_embeddings, is_decoder, require_model
from gengram.loading.tokenizers import check_tokenizer, prepare_batches, require_tokenizer
from gengram.pipelines.logits import compute_logits
from gengram.pipelines.outputs import PLACES, TRACKS, check_output
from gengram.pipelines.placed_predictions import check_bases, choose_track, write_placed
from gengram.pipelines.predictions import check_spread, describe_bases, describe_rows, find_missing, find_start
from gengram.progress import tell
from gengram.tokenization.coordinates import find_bases, measure_tokens
from gengram.training.data.inputs import tokenize_rows
from gengram.training.data.strands import average_outputs, check_letters, read_other_strand
from gengram.training.problems import Problem

if TYPE_CHECKING:
    from peft import PeftModel

_TASKS = {"ForSequenceClassification": "sequence_classification", "ForTokenClassification": "token_classification"}
_PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}


def predict_file(
    model_path: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    seed: int | str | None = None,
    track: str | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    too_long: str = "error",
    sequence_column: str | None = None,
    genome: str | Path | Genome | None = None,
    max_non_dna: float = MAX_NON_DNA,
    average_strands: bool = False,
    base_model: str | None = None,
    devices: str | None = None,
) -> Path:
    """Predict every row of a file and write the predictions in the format that the name tells, in one piece.

    Args:
        model_path: a saved model or adapter with its tokenizer, a run of `gengram finetune`, or a Hub id.
        file: what `gengram finetune` reads; labels are not needed and, where there are any, not looked at.
        out: `.parquet`, `.tsv`, `.csv`, and for rows with places `.bed` or `.bedgraph`, see
            `gengram.genome.row_files`; replaced if it is there.
        seed: of a run with several models, that one's; or `all`: the mean of their probabilities (of a regression, of
            their values) and its standard deviation.
        track: the class, label or target that a bedGraph holds, and the score of BED is; see `choose_track`.
        batch_size: sequences a step. Rows of similar length share a batch, which does not change the order.
        max_length: longest input in tokens; by default the model's.
        too_long: what happens to longer sequences: `error`, `truncate` (cut the end off) or `center` (keep the middle).
        sequence_column, genome: see `read_rows`.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.
        average_strands: average the prediction for a sequence and for its reverse complement, see `average_outputs`;
            those of bases are put back where they belong.
        base_model: folder or Hub id of an adapter's base, where it is not where the adapter says.
        devices: what the model computes on, e.g. `cpu`, `cuda:1`; by default an accelerator if there is one.

    Returns:
        The path of the file. It has the columns of the input without the sequences, in the same order, and
        - one class a row: `prediction`, the name, and `probability_NAME` of each class;
        - several labels: `prediction`, the list of labels with a probability above 0.5, and `probability_NAME`;
        - a regression: `prediction_NAME` of each target;
        - a class for each base: `prediction_start`, the base (counted from 0) that the lists begin at, `prediction`, a
          list of names, and for each class a list `probability_NAME`.

        With `seed="all"` these are means, and behind each number is the column `..._sd` of its standard deviation over
        the models, null where there is one model. What a model computes no finite number for is null, and is told.

    Raises:
        `InputError`: a model without a trained head, or with tokens longer than a base where bases are classified; a
            file that cannot be read, or has no places where the output needs them; a sequence that is too long; an
            output folder that is not there, a suffix that is not written; no prediction that is finite.
    """
    out = check_output(out, "predict")
    if too_long == "window" or find_suffix(out) == ".bw":
        raise InputError("windows of long sequences, and bigWig files, are written by gengram.pipelines.scan_file")
    suffix, folders = find_suffix(out), find_models(model_path, seed)
    counted_from = survey_places(file, sequence_column, disjoint=suffix in TRACKS) if suffix in PLACES else 0
    rows = read_rows(file, sequence_column, genome=genome, needs_labels=False)
    answers: list[list[np.ndarray]] = []
    for folder in folders:
        model, tokenizer, problem = load_predictor(folder, base_model, devices)
        names = name_outputs(model.config.id2label, folder)
        shown = choose_track(out, track, names, problem)
        check_spread(names, seed)
        if problem == "token" and suffix in PLACES:
            check_bases(rows, counted_from, str(file))
        outputs, starts = _ask(
            model, tokenizer, problem, rows, str(file), folder, batch_size, max_length, too_long, max_non_dna,
            average_strands,
        )  # fmt: skip
        answers.append(outputs)
        del model  # before there is another one in memory
    if seed == "all":
        outputs = [np.stack(models) for models in zip(*answers)]
    if problem == "token":
        columns = describe_bases(outputs, starts, names)
    else:
        columns = describe_rows(np.concatenate(outputs, axis=-2), names, problem)
    if both := [name for name in rows.column_names if name in columns and name != "sequence"]:
        tell(f"{file}: {shorten(both)}: columns of the predictions are called so, those of the file are left out")
    kept = {name: rows.data.column(name) for name in rows.column_names if name != "sequence" and name not in columns}
    table = pa.table({**kept, **columns})
    if suffix in PLACES:
        write_placed(out, place_rows(table, counted_from), shown, problem)
    else:
        write_rows(out, table)
    return out


def _ask(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    rows: Dataset,
    file: str,
    model_path: str,
    batch_size: int,
    max_length: int | None,
    too_long: str,
    max_non_dna: float,
    average_strands: bool,
) -> tuple[list[np.ndarray], list[int]]:
    """Return what one model says of each row: logits (1, C), or (bases, C) of those that it has read, with the base
    that it has read first."""
    limit = max_length or tokenizer.model_max_length
    if limit > tokenizer.model_max_length:
        raise InputError(
            f"max_length={limit} tokens is longer than the model, which takes {tokenizer.model_max_length} tokens"
        )
    encoded, _ = tokenize_rows(rows, tokenizer, limit, too_long, str(file), max_non_dna=max_non_dna)
    outputs = compute_logits(model, tokenizer, encoded, batch_size, "Predicting")
    if average_strands:
        check_letters(rows, str(file))
        other = read_other_strand(encoded, tokenizer, limit, too_long)
        turned = compute_logits(model, tokenizer, other, batch_size, "Predicting")
        outputs = _average(outputs, turned, encoded, other, tokenizer, problem)
    _tell_missing(outputs, str(file), model_path)
    if problem == "token":
        return _take_bases(rows, encoded, outputs, tokenizer, too_long, file)
    return outputs, []


def load_predictor(
    path: str | Path, base: str | None = None, devices: str | None = None
) -> tuple["PreTrainedModel | PeftModel", PreTrainedTokenizerBase, Problem]:
    """Load a model with a trained head, in evaluation mode on the accelerator if there is one, and its tokenizer.

    Args:
        path: a saved model or adapter, a run of `gengram finetune` (its best seed on the validation rows), or a Hub id.
        base: of an adapter, where its base is not where the adapter says.
        devices: see `predict_file`.

    Raises:
        `InputError`: nothing can be read there, or there is no head, or weights are missing; an adapter that does not
            fit its base; a classifier of tokens that are not single bases.
    """
    device = choose_device(devices)
    folder = find_model(path)
    adapted = is_adapter(folder)
    if base is not None and not adapted:
        raise InputError(f"{path} is no adapter, so it has no base to name")
    model: Any = load_adapter(folder, base).eval().to(device) if adapted else _load_whole(folder, device)
    check_present(model)
    head = type(model.get_base_model() if adapted else model).__name__
    tokenizer = prepare_batches(require_tokenizer(folder), folder)
    if is_decoder(model.config):
        model.config.pad_token_id = tokenizer.pad_token_id  # The head reads the last token that is not this one.
    check_tokenizer(tokenizer, folder, model.config, count_embeddings(model))
    tokenizer.model_max_length = measure_capacity(model.config, tokenizer)
    problem = _name_problem(model.config, head, path)
    if problem == "token" and measure_tokens(tokenizer) != (1, 1):
        raise InputError(
            f"{path}: it classifies tokens, and these are not single bases, so it has no class for each base. Take a "
            "model with one token a base, or call this one itself: gengram.auto(path, 'token_classification')"
        )
    return model, tokenizer, problem


def _name_problem(config: Any, head: str, path: str | Path) -> Problem:
    """What a model with this head predicts.

    Raises:
        `InputError`: nothing that is predicted here.
    """
    # One output without a word about it is a regression, as in transformers' own losses: one class is no choice.
    silent = "regression" if config.num_labels == 1 else "single_label_classification"
    named = config.problem_type or silent
    if named not in _PROBLEMS:
        raise InputError(f"{path}: problem_type={named!r} in config.json is none of {', '.join(_PROBLEMS)}")
    if head.endswith("ForTokenClassification"):
        if named != silent:
            raise InputError(
                f"{path}: problem_type is {named!r}, but of single bases only classes are predicted here. Call the "
                "model itself: gengram.auto(path, 'token_classification')"
            )
        return "token"
    if config.num_labels == 1 and named == "single_label_classification":
        raise InputError(
            f"{path}: problem_type is {named!r}, but there is one output, and one class is no choice. If it is a "
            "number, write 'regression' into config.json; if one label, 'multi_label_classification'"
        )
    return _PROBLEMS[named]


def _load_whole(path: str | Path, device: torch.device) -> PreTrainedModel:
    config = require_config(path)
    architecture = str((config.architectures or [""])[0])
    head = next((head for head in _TASKS if architecture.endswith(head)), None)
    if config.model_type == "segment_nt":
        raise InputError(f"{path}: a SegmentNT has features of single bases: use gengram segment")
    if head is None:
        raise InputError(f"{path}: {config.architectures} has no head that classifies or measures; fine-tune it first")
    return require_model(path, _TASKS[head], config=config, device=device)


def _tell_missing(outputs: list[np.ndarray], file: str, model: str | Path) -> None:
    """Tell which rows have outputs that are not finite.

    Raises:
        `InputError`: all of them have.
    """
    rows = [row for row, logits in enumerate(outputs, start=1) if find_missing(logits).any()]
    if not rows:
        return
    where = f"{file}: the outputs of {model} are not finite for {len(rows)} of {len(outputs)} rows"
    if len(rows) == len(outputs):
        raise InputError(f"{where}: its numbers overflow, or the training diverged. Take another model")
    tell(f"{where}, the first is data row {rows[0]}: these have no prediction (null)")


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


def _take_bases(
    rows: Dataset,
    encoded: Dataset,
    outputs: list[np.ndarray],
    tokenizer: PreTrainedTokenizerBase,
    too_long: str,
    file: str,
) -> tuple[list[np.ndarray], list[int]]:
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
    return bases, starts


__all__ = ["load_predictor", "predict_file"]
