"""What does a fine-tuned model say about new sequences? The work of `gengram predict`."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import find_suffix, hash_file
from gengram.genome.contigs import Genome
from gengram.genome.letters import MAX_NON_DNA
from gengram.genome.places import survey_places
from gengram.genome.streams import fit_columns
from gengram.genome.tables import shorten
from gengram.loading.adapters import is_adapter, load_adapter
from gengram.loading.checkpoints import find_model, find_models
from gengram.loading.classes import name_outputs
from gengram.loading.configurations import measure_capacity, require_config
from gengram.loading.models import check_present, choose_device, count_embeddings, is_decoder, require_model
from gengram.loading.tokenizers import check_tokenizer, prepare_batches, require_tokenizer
from gengram.phases import phase, timed
from gengram.pipelines.answers import Asker
from gengram.pipelines.blocks import take_blocks
from gengram.pipelines.logits import LargeRowError
from gengram.pipelines.outputs import PLACES, TRACKS, check_output
from gengram.pipelines.parts import Parts, hash_weights
from gengram.pipelines.placed_predictions import choose_track
from gengram.pipelines.prediction_files import PredictionFile
from gengram.pipelines.prediction_survey import PredictionSurvey
from gengram.pipelines.predictions import check_spread
from gengram.pipelines.run_folder import name_versions
from gengram.pipelines.shares import Member, name_share
from gengram.progress import tell
from gengram.progress import track as track_progress
from gengram.tokenization.coordinates import measure_tokens
from gengram.training.problems import Problem

if TYPE_CHECKING:
    from peft import PeftModel

_TASKS = {"ForSequenceClassification": "sequence_classification", "ForTokenClassification": "token_classification"}
_PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}

_BLOCK_ROWS = 4096  # sorted by length together, and what a killed run has to do again
_BLOCK_BASES = 4 << 20
_BLOCK_BYTES = 128 << 20  # of logits, where there are as many as bases


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
    shard: tuple[int, int] | Member = (1, 1),
) -> Path:
    """Predict every row of a file and write the predictions in the format that the name tells; memory does not grow
    with their number.

    Finished blocks of rows are kept in `OUT.parts/` until all are done. The same call goes on after them if it was
    interrupted, whenever that was, and the file is the one that an uninterrupted run writes.

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
        shard: `(i, n)`: of n processes with the same arguments, which may be on several machines that share the folder,
            this is number i, from 1. Each predicts every n-th block; the last one puts the file together. Or a `Member`
            of processes that were started together: it predicts blocks that no other has taken; the main one puts the
            file together.

    Returns:
        The path of the file; of a process that does not put it together, of the folder of parts. The file has the
        columns of the input without the sequences, in the same order, and
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
            output folder that is not there, a suffix that is not written; no prediction that is finite; parts of
            another run.
    """
    out = check_output(out, "predict")
    if too_long == "window" or find_suffix(out) == ".bw":
        raise InputError("windows of long sequences, and bigWig files, are written by gengram.pipelines.scan_file")
    suffix, folders = find_suffix(out), find_models(model_path, seed)
    genome = None if genome is None else Genome.of(genome).keep()
    is_placed = suffix in PLACES
    counted_from = survey_places(file, sequence_column, disjoint=suffix in TRACKS) if is_placed else 0
    with phase("Checking the rows", "rows") as one:
        survey = PredictionSurvey(file, sequence_column, genome, max_non_dna, counted_from if is_placed else None)
        one.add(survey.rows)

    def load(folder: str) -> Asker:
        with phase("Loading the model"):
            loaded = load_predictor(folder, base_model, devices)
        return Asker(*loaded, batch_size, max_length, too_long, average_strands)

    first = load(folders[0])
    names, problem = name_outputs(first.model.config.id2label, folders[0]), first.problem
    shown = choose_track(out, track, names, problem)
    check_spread(names, seed)
    if problem == "token" and is_placed:
        survey.check_places()
    with phase("Checking the rows"):
        survey.check_tokens(first.encode, first.limit, too_long, problem == "token")
    if average_strands:
        survey.check_strands()
    predictions = PredictionFile(out, file, names, problem, folders, seed == "all")
    taken = predictions.name_columns()
    if both := [name for name in survey.schema.names if name in taken]:
        tell(f"{file}: {shorten(both)}: columns of the predictions are called so, those of the file are left out")
    kept = [name for name in survey.schema.names if name not in taken]
    rows, bases = _size_blocks(batch_size, len(names) if problem == "token" else 0)
    with phase("Checksums"):
        sums = {"weights": [hash_weights(folder) for folder in folders], "file_sha256": hash_file(file)}
    plan = {
        **name_versions(),
        "model": folders,
        **sums,
        "base_model": base_model,
        "seed": seed,
        "file": str(file),
        "genome": None if genome is None else str(genome),
        "genome_sha256": None if genome is None else genome.hash(),
        "slices": genome is not None and genome.slices,
        "sequence_column": sequence_column,
        "rows": survey.rows,
        "max_length": first.limit,
        "too_long": too_long,
        "average_strands": average_strands,
        "batch_size": batch_size,
        "block_rows": rows,
        "dtype": str(first.model.dtype).removeprefix("torch."),
        "device": first.model.device.type,
    }
    parts = Parts(out, plan, name_share(shard))
    blocks = 0

    def choose(model: int) -> Iterator[tuple[_Place, list[str]]]:
        nonlocal blocks
        start = 1
        for number, block in enumerate(timed(take_blocks(survey.stream(), rows, bases), "Reading", "rows", len)):
            place = _Place(number * len(folders) + model, start, block)
            is_missing = not parts.has(place.part) and parts.share.takes(place.part)
            yield place, block["sequence"].to_pylist() if is_missing else []
            blocks, start = number + 1, start + len(block)

    def write(model: int, ask: Asker | None) -> None:
        places = choose(model)
        with track_progress(total=survey.rows, desc="Predicting", unit="rows") as bar:
            for place, sequences in places:
                if sequences:
                    break
                bar.update(len(place.block))
            else:
                return  # a model that has nothing to do is not loaded
            ask = ask or load(folders[model])
            with closing(ask.stream(itertools.chain([(place, sequences)], places))) as answered:
                for place, answers in answered:
                    if answers.logits:
                        with phase("Writing", "rows") as one:
                            columns = None if model else fit_columns(place.block, survey.schema, kept)
                            parts.write(place.part, predictions.pack(answers, columns))
                            one.add(len(place.block))
                    bar.update(len(place.block))

    with parts.keep():
        try:
            write(0, first)
            del first  # One model is in memory at a time.
            for model in range(1, len(folders)):
                write(model, None)
        except LargeRowError as error:
            raise InputError(
                f"{file}, data row {error.key.first + error.index}: {error}: read windows of it with "
                "--too_long window, or take another device with --devices"
            ) from error
        with parts.assemble(blocks * len(folders)) as is_whole, phase("Writing"):
            if is_whole:
                predictions.write(parts, blocks, shown, counted_from)
    return out if is_whole else parts.folder


class _Place(NamedTuple):
    """A block of rows, the part that it is for, and the number of its first row in the file (from 1)."""

    part: int
    first: int
    block: pa.Table


def _size_blocks(batch_size: int, classes: int) -> tuple[int, int]:
    """Return the most rows and the most bases of a block: whole batches, and of `classes` of each base not too many."""
    rows = batch_size * max(1, _BLOCK_ROWS // batch_size)
    return rows, min(_BLOCK_BASES, _BLOCK_BYTES // (4 * classes)) if classes else _BLOCK_BASES


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


__all__ = ["load_predictor", "predict_file"]
