"""Train a model on labelled DNA, once for each seed, and report how good it is: the work of `gengram finetune`."""

import shlex
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import get_token
from transformers import PreTrainedModel

from gengram._version import __version__
from gengram.errors import InputError
from gengram.files import check_free, check_output_folder, write_json
from gengram.loading.checkpoints import check_repo_id
from gengram.loading.folders import read_object
from gengram.model_cards.card import check_license
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.classifier import build_classifier
from gengram.training.metrics.scores import Scores
from gengram.training.preparation import prepare_run
from gengram.training.problems import Problem
from gengram.training.publishing.model import prepare_upload
from gengram.training.publishing.upload import push
from gengram.training.reports.baselines import describe_baselines, measure_baselines
from gengram.training.reports.markdown import write_markdown
from gengram.training.reports.plots import write_plots
from gengram.training.reports.report import (
    clear_earlier_run,
    describe_arguments,
    describe_model,
    read_histories,
    summarize_classes,
    summarize_resamples,
    summarize_seeds,
)
from gengram.training.reports.verdict import judge, name_judged
from gengram.training.resume import (
    SEARCH,
    begin_run,
    check_same_run,
    clear_unfinished,
    describe_unfinished,
    end_run,
    forget_if_empty,
    identify_checkpoint,
    read_scores,
)
from gengram.training.search import apply_settings, check_search, search_settings
from gengram.training.train_seed import set_up_seed, train_seed

_VERSIONS = {
    "gengram_version": __version__,
    "transformers_version": transformers.__version__,
    "torch_version": torch.__version__,
}


def finetune(
    model_arguments: ModelArguments, data_arguments: DataArguments, training_arguments: FinetuneArguments
) -> dict[str, Any]:
    """Train a model for each seed, save the models and `report.json` in `output_dir`, and return the report.

    Rows, vocabulary and split are the same for all seeds; a seed decides the new weights, the order of the rows and
    dropout. On a CPU the same call gives the same report, but for `seconds`. Where several processes run it
    (`accelerate launch`), only the main one writes.

    Args:
        model_arguments: which model.
        data_arguments: which rows.
        training_arguments: how, which seeds, and where to.

    Returns:
        `dict`, the content of `report.json`:
        - `test`, `validation`: for each of the problem's `METRICS` the `mean` and `sd` over seeds (n - 1; null for one
          seed) and the list `per_seed`; null as a whole without such rows, a value null where it is not defined.
        - `intervals`: 95% bootstrap intervals over the test rows, see `summarize_resamples`; `per_class`: for `test`
          and `validation` the metrics of each class, label or target, means over seeds.
        - in the main process: `baselines`, the same metrics of simple models, see `describe_baselines` (None if not
          asked for), and `verdict`, how the run compares with them and with chance, see `judge`.
        - with `search`, `search`: every trial, what was chosen and what it cost, see `search_settings`; `arguments` are
          as they were given.
        - `model`, `data`, `arguments`, versions, `seeds`, `parameters`, `seconds`, `model_folders`.
        - in the main process: `history`, for each seed what Trainer logged; `plots`, the `file` and `title` of each.
        With `push_to_hub` also `commit`, its address, which the file has not.

    Raises:
        `InputError`: whatever the user can mend. No model and no report is left half-written. Models of seeds that
            were finished before and complete checkpoints stay, with `unfinished.json` beside them: the run can be
            resumed.
    """
    started = time.perf_counter()
    output = Path(training_arguments.output_dir)
    is_main = training_arguments.process_index == 0
    _check_push(training_arguments, model_arguments)
    check_search(model_arguments, training_arguments)
    _check_output(output, training_arguments)
    ready = prepare_run(model_arguments, data_arguments, training_arguments)
    model_arguments, tokenizer, config, data, loss = ready.model, ready.tokenizer, ready.config, ready.data, ready.loss
    arguments, seeds, validates = ready.training, training_arguments.seeds, "validation" in data.splits
    run = {
        **_VERSIONS,
        "checkpoint": identify_checkpoint(model_arguments.model_name_or_path, config),
        "data": data.report,
        "arguments": describe_arguments(model_arguments, data_arguments, arguments),
        "seeds": seeds,
    }
    if training_arguments.resume_from_checkpoint:
        check_same_run(output, run)
        if (output / "report.json").is_file():
            if is_main:
                end_run(output, seeds)
            return read_object(output / "report.json")

    scores: dict[str, list[Scores]] = {"validation": [], "test": []}
    model: PreTrainedModel | None = None
    searched: dict[str, Any] | None = None
    tuned_model, tuned = model_arguments, training_arguments
    created = not output.exists()
    training_arguments.distributed_state.wait_for_everyone()  # All have seen the folder as it was.
    try:
        if training_arguments.search:
            searched = search_settings(
                ready, training_arguments, output, lambda: _begin(output, run, training_arguments)
            )
            tuned_model, tuned = apply_settings(searched["settings"], model_arguments, training_arguments)
        for seed in seeds:
            folder = output / f"seed-{seed}"
            measured = read_scores(folder) if training_arguments.resume_from_checkpoint else None
            if measured is None or model is None:
                with phase("Building the model"):
                    model, new_weights = build_classifier(tuned_model, config, data.classes, seed, data.problem)
                    trained = _add_adapter(model, new_weights, tuned_model, data.problem)
            if seed == seeds[0] and searched is None:
                _begin(output, run, training_arguments)
            arguments = set_up_seed(tuned, tuned_model, seed, validates)
            if measured is None:
                if len(seeds) > 1 and is_main:
                    tell(f"seed {seed} ({seeds.index(seed) + 1} of {len(seeds)})")
                measured = train_seed(trained, tokenizer, data, arguments, loss, folder)
            for split, scored in measured.items():
                scores[split].append(scored)
    except BaseException:
        if is_main:
            forget_if_empty(output)
        if created and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise

    assert model is not None  # There is a seed.
    training_arguments.distributed_state.wait_for_everyone()  # All have read the scores of seeds that were finished.
    report: dict[str, Any] = {
        **_VERSIONS,
        "model": describe_model(model, model_arguments, new_weights),
        "data": data.report,
        # As they were given: with a search, the settings that it has found are told there.
        "arguments": run["arguments"] if searched else describe_arguments(model_arguments, data_arguments, arguments),
        **({"search": searched} if searched else {}),
        "adapter": _describe_adapter(trained),
        "loss_weights": loss.weights,
        "seeds": training_arguments.seeds,
        "parameters": model.num_parameters(),
        "test": summarize_seeds(scores["test"]),
        "validation": summarize_seeds(scores["validation"]),
        "intervals": summarize_resamples(scores["test"]),
        "per_class": {split: summarize_classes(scored, data.classes) for split, scored in scores.items()},
        "seconds": round(time.perf_counter() - started, 3),
        "model_folders": [f"seed-{seed}" for seed in training_arguments.seeds],
    }
    if is_main:
        judged = name_judged(report)
        with phase("Measuring simple models"):
            baselines = measure_baselines(data, judged) if judged and training_arguments.baselines else None
        report["baselines"] = baselines and describe_baselines(baselines, data)
        with phase("Judging the run"):
            report["verdict"] = judge(report, output, scores, baselines)
        if (verdict := report["verdict"]) is not None:
            for line in verdict["lines"] or [verdict["lead"]]:
                tell(line)
        with phase("Writing plots and report"):
            report["history"] = read_histories([output / folder for folder in report["model_folders"]])
            report["plots"] = write_plots(report, output)
            write_markdown(report, output / "report.md")
            write_json(report, output / "report.json")
        end_run(output, seeds)
        if training_arguments.push_to_hub:
            report["commit"] = _publish(output, training_arguments)
    return report


def _begin(output: Path, run: dict[str, Any], arguments: FinetuneArguments) -> None:
    """Write down what the run is; what an earlier one has left goes."""
    if arguments.process_index:
        return
    if not arguments.resume_from_checkpoint:
        clear_earlier_run(output)
        clear_unfinished(output)
    begin_run(output, run)


def _check_push(arguments: FinetuneArguments, model: ModelArguments) -> None:
    if not arguments.push_to_hub:
        return
    if arguments.hub_model_id is None:
        raise InputError("push_to_hub needs the name of the repository: give --hub_model_id organization/name")
    check_repo_id(arguments.hub_model_id)
    check_license(arguments.hub_license, "--hub_license")
    if arguments.hub_token is None and get_token() is None:
        raise InputError("push_to_hub needs a token: run `hf auth login`, or set HF_TOKEN to a token that may write")
    if model.peft is not None and Path(str(model.model_name_or_path)).is_dir():
        raise InputError(
            f"push_to_hub: an adapter is published with the Hub id of its base, but {model.model_name_or_path} is a "
            "folder here. Leave push_to_hub out, and afterwards use `gengram push` with --base_model organization/name."
        )


def _publish(output: Path, arguments: FinetuneArguments) -> str:
    """Publish the run as `gengram push` does, of several seeds the best one; return the commit's address."""
    try:
        upload = prepare_upload(output, str(arguments.hub_model_id), license=arguments.hub_license)
        commit = push(
            upload,
            private=bool(arguments.hub_private_repo),
            revision=arguments.hub_revision,
            token=arguments.hub_token,
        )
    except InputError as error:
        again = ["gengram", "push", str(output), str(arguments.hub_model_id)]
        again += ["--private"] if arguments.hub_private_repo else []
        again += [] if arguments.hub_license == "unknown" else ["--license", arguments.hub_license]
        again += ["--revision", arguments.hub_revision] if arguments.hub_revision else []
        raise InputError(
            f"the run is complete, see {output / 'report.json'}, but it was not published: {error} Then: "
            f"{shlex.join(again)}"
        ) from error
    if commit.commit_description:
        tell(commit.commit_description)
    return str(commit.commit_url)


def _add_adapter(model: PreTrainedModel, new_weights: list[str], arguments: ModelArguments, problem: Problem) -> Any:
    """The model with the adapter that is asked for; PEFT is imported if one is."""
    if arguments.peft is None:
        return model
    from gengram.training.adapters.adapt import add_adapter

    return add_adapter(model, new_weights, arguments, problem)


def _describe_adapter(model: Any) -> dict[str, Any] | None:
    if isinstance(model, PreTrainedModel):
        return None
    from gengram.training.adapters.adapt import describe_adapter

    return describe_adapter(model)


def _check_output(output: Path, arguments: FinetuneArguments) -> None:
    check_output_folder(output)
    if arguments.overwrite or arguments.resume_from_checkpoint:
        return
    if (output / "report.json").exists():
        raise InputError(
            f"output_dir={str(output)!r} already holds the report of a run: choose another folder, or --overwrite it"
        )
    if (progress := describe_unfinished(output)) is None:
        check_free(output, ["report.md", "plots", SEARCH, *(f"seed-{seed}" for seed in arguments.seeds)])
    else:
        raise InputError(
            f"output_dir={str(output)!r} holds a run that did not come to its end ({progress}). Go on with it: the "
            "same command with --resume_from_checkpoint; or start anew with --overwrite."
        )


__all__ = ["finetune"]

if __name__ == "__main__":  # torchrun and accelerate launch start modules: -m gengram.training.finetune
    sys.exit(import_module("gengram.training.command").finetune())
