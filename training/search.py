"""Which settings are best on the validation rows? The search of `gengram finetune --search`.

Each trial is `Trainer.hyperparameter_search` for one setting, with optuna. The test rows are not read: the trials have
none. Every trial's draw depends on its number and on the trials before it alone, so that the same command has the same
trials, interrupted or not.
"""

import contextlib
import copy
import dataclasses
import importlib.util
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from transformers import IntervalStrategy, set_seed
from transformers.trainer_utils import SaveStrategy

from gengram.errors import InputError
from gengram.files import write_json
from gengram.loading.folders import read_object
from gengram.progress import tell
from gengram.training.arguments import FinetuneArguments, ModelArguments
from gengram.training.classifier import build_classifier
from gengram.training.preparation import Preparation
from gengram.training.resume import SEARCH
from gengram.training.search_space import (
    OF_ADAPTERS,
    SEARCHED,
    build_default,
    count_trials,
    list_combinations,
)
from gengram.training.setup import FOLLOW_A_METRIC, check_optimizer
from gengram.training.train_seed import divide_steps, make_trainer, set_up_seed
from gengram.training.trainer import DivergedError, watch_training

_STUDY = "search"
_FOLDER = "search.partial"  # Trainer makes its folder, whatever is saved in it.


def check_search(model: ModelArguments, training: FinetuneArguments) -> None:
    """Refuse a search that cannot be made, before anything is read.

    Raises:
        `InputError`: no optuna, or settings of an adapter that is not asked for.
    """
    if not training.search:
        return
    if importlib.util.find_spec("optuna") is None:
        raise InputError("search needs optuna: pip install 'gengram[search]'")
    space = training.search_space
    assert space is None or isinstance(space, dict)  # since it is read
    if of_adapters := [name for name in OF_ADAPTERS if name in (space or {}) and model.peft != "lora"]:
        raise InputError(f"search_space: {of_adapters[0]} is read with --peft lora only")


def find_space(ready: Preparation, training: FinetuneArguments) -> dict[str, Any]:
    """Return the space that is given, or the default around the learning rate that the run would have."""
    if training.search_space is not None:
        assert isinstance(training.search_space, dict)
        return training.search_space
    space = build_default(float(ready.training.learning_rate or 0))
    if training.max_tokens_per_step is not None:
        del space["sequences_per_step"]
    return space


def search_settings(
    ready: Preparation, training: FinetuneArguments, output: Path, begin: Callable[[], None]
) -> dict[str, Any]:
    """Try settings one after the other, each from the same start, and choose by the validation score.

    A trial's score is what the run itself would have validated with these settings: with `load_best_model_at_end` the
    best of its validations, else the one at the end. The trials' seed is none of the run's, so that no score of the
    report is of a model that was chosen by it. Finished trials are kept in `output`; with `resume_from_checkpoint` only
    the others are trained.

    Args:
        ready: rows, tokenizer, configuration.
        training: the arguments as they were given.
        output: folder of the run.
        begin: is called before anything is trained, once the model and its optimizer could be made.

    Returns:
        For JSON: `space`, `sampler` (`grid` or `TPE`), `metric`, `direction`, `seed` of the trials; `trials`, each with
        `settings`, `value` (None where it is not defined or the training diverged, see `failed`), the `validation`
        metrics, `seconds` and `cpu_seconds`; `chosen`, the number of the best trial (of equals the first), its
        `settings`, and the sums `seconds` and `cpu_seconds`, that is the search's cost.

    Raises:
        `InputError`: no trial has a score; what stops a training other than that it diverged.
    """
    search = _Search(ready, training, output)
    search.check_model()
    begin()
    is_main = training.process_index == 0
    trials = _read_journal(output) if training.resume_from_checkpoint else []
    training.distributed_state.wait_for_everyone()  # All have read it.
    for number in range(len(trials), search.count):
        trial = search.run_trial(number, trials)
        trials.append(trial)
        if is_main:
            write_json({"trials": trials}, output / SEARCH)
            tell(f"search, trial {number + 1} of {search.count}: {_describe(trial, search.metric)}")
    training.distributed_state.wait_for_everyone()
    scored = [number for number, trial in enumerate(trials) if trial["value"] is not None]
    if not scored:
        raise InputError(
            f"none of {len(trials)} trials of the search has a validation {search.metric}: "
            f"{trials[0]['failed'] or 'it is not defined for these rows'}"
        )
    chosen = min(scored, key=lambda number: (search.sign * trials[number]["value"], number))
    return {
        "space": search.space,
        "sampler": "TPE" if search.combinations is None else "grid",
        "metric": search.metric,
        "direction": search.direction,
        "seed": search.seed,
        "trials": trials,
        "chosen": chosen,
        "settings": trials[chosen]["settings"],
        "seconds": round(sum(trial["seconds"] for trial in trials), 3),
        "cpu_seconds": round(sum(trial["cpu_seconds"] for trial in trials), 3),
    }


def apply_settings(
    settings: dict[str, Any], model: ModelArguments, training: FinetuneArguments
) -> tuple[ModelArguments, FinetuneArguments]:
    """Return arguments with the settings of a trial."""
    adapter = {name: value for name, value in settings.items() if name in OF_ADAPTERS}
    others = {name: value for name, value in settings.items() if name not in OF_ADAPTERS}
    return dataclasses.replace(model, **adapter), training.with_settings(others)


class _Search:
    """What all trials have in common.

    Attributes:
        space: see `read_space`.
        combinations: the settings of each trial where the space has no ranges.
        count: of trials.
        seed: of the trials' trainings.
        metric, direction, sign: what is compared; the lowest `sign * value` is best.
    """

    def __init__(self, ready: Preparation, training: FinetuneArguments, output: Path):
        self.ready, self.training, self.folder = ready, training, output / _FOLDER
        self.space = find_space(ready, training)
        self.combinations = list_combinations(self.space)
        self.count = count_trials(self.space, training.search_trials)
        self.seed = next(seed for seed in range(len(training.seeds) + 1) if seed not in training.seeds)
        self.metric = str(training.metric_for_best_model or "loss").removeprefix("eval_")
        self.direction: Literal["minimize", "maximize"] = "minimize" if self.metric == "loss" else "maximize"
        self.sign = 1 if self.metric == "loss" else -1
        splits = {split: rows for split, rows in ready.data.splits.items() if split != "test"}
        self.data = dataclasses.replace(ready.data, splits=splits)

    def check_model(self) -> None:
        """Make a model and its optimizer once."""
        model = self._build(self.ready.model)
        check_optimizer(self._set_up(), model)

    def _build(self, arguments: ModelArguments) -> Any:
        data = self.ready.data
        model, new_weights = build_classifier(arguments, self.ready.config, data.classes, self.seed, data.problem)
        if arguments.peft is None:
            return model
        from gengram.training.adapters.adapt import add_adapter

        return add_adapter(model, new_weights, arguments, data.problem)

    def _set_up(self) -> FinetuneArguments:
        """The arguments of a trial, but for its settings: as of a seed, with nothing saved."""
        arguments = copy.copy(set_up_seed(self.training, self.ready.model, self.seed, validates=True))
        arguments.save_strategy = SaveStrategy.NO
        arguments.report_to = []
        arguments.resume_from_checkpoint = False
        if not arguments.load_best_model_at_end and arguments.lr_scheduler_type not in FOLLOW_A_METRIC:
            arguments.eval_strategy = IntervalStrategy.NO  # The one at the end counts.
        for name in self.space:  # Trainer turns what is suggested into the kind that an argument has.
            if name not in OF_ADAPTERS and getattr(arguments, name) is not None:
                setattr(arguments, name, SEARCHED[name].kind(getattr(arguments, name)))
        return arguments

    def run_trial(self, number: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        """Train with the next settings, and return what came of it."""
        import optuna

        started, cpu_started = time.perf_counter(), time.process_time()
        arguments, objective = self._set_up(), _Objective(self.metric, self.training.load_best_model_at_end)
        settings: dict[str, Any] = {}

        def suggest(trial: Any) -> dict[str, Any]:
            settings.update({name: _suggest(trial, name, values) for name, values in self.space.items()})
            _, changed = apply_settings(settings, self.ready.model, arguments)
            trainer.take_steps(divide_steps(changed, self.data))
            set_by_trainer = [name for name in settings if name not in OF_ADAPTERS]
            dealt = ["gradient_accumulation_steps", "per_device_train_batch_size"]
            return {name: getattr(changed, name) for name in (*set_by_trainer, *dealt)}

        def build(trial: Any) -> Any:
            model, _ = apply_settings({} if trial is None else settings, self.ready.model, arguments)
            built = self._build(model)
            set_seed(self.seed)  # From here on as in a run, whatever the new weights have drawn.
            return built

        failed = None
        trainer = make_trainer(
            build, self.ready.tokenizer, self.data, arguments, self.ready.loss, self.folder, checkpoint=None
        )
        with _quiet_optuna():
            storage = self._recall(before, number)
            try:
                with watch_training(trainer, "rows", "Searching"):
                    trainer.hyperparameter_search(
                        suggest,
                        objective,
                        n_trials=1,
                        direction=self.direction,
                        backend="optuna",
                        study_name=_STUDY,
                        storage=storage,
                        load_if_exists=True,
                        sampler=optuna.samplers.TPESampler(seed=number),
                        pruner=optuna.pruners.NopPruner(),
                    )
            except DivergedError as error:
                failed = str(error)
            finally:
                if self.training.process_index == 0:
                    shutil.rmtree(self.folder, ignore_errors=True)
        return {
            "settings": settings,
            "value": None if failed else objective.best,
            "validation": None if failed else objective.measured,
            "failed": failed,
            "seconds": round(time.perf_counter() - started, 3),
            "cpu_seconds": round(time.process_time() - cpu_started, 3),
        }

    def _recall(self, before: list[dict[str, Any]], number: int) -> Any:
        """A study that knows the trials before, and of a grid what is next."""
        import optuna

        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=storage, study_name=_STUDY, direction=self.direction)
        distributions = {name: _describe_values(name, values) for name, values in self.space.items()}
        for trial in before:
            # A training that diverged is as bad as can be: the sampler keeps away from there.
            value = self.sign * math.inf if trial["value"] is None else trial["value"]
            study.add_trial(
                optuna.trial.create_trial(params=trial["settings"], distributions=distributions, value=value)
            )
        if self.combinations is not None:
            study.enqueue_trial(self.combinations[number])
        return storage


class _Objective:
    """The score of a trial: of its best validation, or of its last one."""

    def __init__(self, metric: str, keeps_best: bool):
        self.metric, self.keeps_best = metric, keeps_best
        self.sign = 1 if metric == "loss" else -1
        self.best: float | None = None
        self.measured: dict[str, float | None] | None = None

    def __call__(self, metrics: dict[str, float]) -> float:
        """Take the metrics of a validation; what is not a number is worse than any number."""
        value = float(metrics[f"eval_{self.metric}"])
        if math.isnan(value):
            value = self.sign * math.inf
        before = self.sign * math.inf if self.best is None else self.best
        if not self.keeps_best or self.measured is None or self.sign * value < self.sign * before:
            self.best = value if math.isfinite(value) else None
            self.measured = _keep_scores(metrics)
        return self.sign * math.inf if self.best is None else self.best


def _keep_scores(metrics: dict[str, Any]) -> dict[str, float | None]:
    """What was measured, without how long it took; None for what is not defined."""
    scores = {name.removeprefix("eval_"): value for name, value in metrics.items() if name.startswith("eval_")}
    timed = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    return {name: float(value) if math.isfinite(value) else None for name, value in scores.items() if name not in timed}


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    if SEARCHED[name].kind is int:
        return trial.suggest_int(name, values["low"], values["high"], log=values["log"])
    return trial.suggest_float(name, values["low"], values["high"], log=values["log"])


def _describe_values(name: str, values: Any) -> Any:
    from optuna import distributions

    if isinstance(values, list):
        return distributions.CategoricalDistribution(values)
    kind = distributions.IntDistribution if SEARCHED[name].kind is int else distributions.FloatDistribution
    return kind(values["low"], values["high"], log=values["log"])


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Trials are told by the run, in its own words."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _read_journal(output: Path) -> list[dict[str, Any]]:
    """The trials that were finished before."""
    return list(read_object(output / SEARCH)["trials"]) if (output / SEARCH).is_file() else []


def _describe(trial: dict[str, Any], metric: str) -> str:
    settings = ", ".join(f"{name} {value:.4g}" for name, value in trial["settings"].items())
    if trial["failed"]:
        return f"{settings}: {trial['failed']}"
    score = "not defined" if trial["value"] is None else f"{trial['value']:.4f}"
    return f"{settings}: validation {metric} {score}"


__all__ = ["apply_settings", "check_search", "find_space", "search_settings"]
