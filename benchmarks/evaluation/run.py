"""The command as a whole: tasks are read, entrants opened, limits tried, cells filled, and the report is written.

Everything that can be refused is refused before the first model is loaded.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gengram.benchmarks.evaluation.cells import Cells
from gengram.benchmarks.evaluation.choice import ChosenTask, Limits
from gengram.benchmarks.evaluation.contestants import Contestant, enter_baseline, enter_model, to_json
from gengram.benchmarks.evaluation.differences import compare_entrants
from gengram.benchmarks.evaluation.fill import Job, fill_cells, list_jobs
from gengram.benchmarks.evaluation.report import make_report, write_report
from gengram.benchmarks.evaluation.shelf import Shelf, TaskFacts
from gengram.benchmarks.protocols.baselines import Baseline
from gengram.benchmarks.protocols.entrants import Entrant, open_entrant
from gengram.benchmarks.protocols.table import Protocol
from gengram.errors import InputError
from gengram.files import check_output_folder
from gengram.markdown import escape_text, format_table
from gengram.phases import phase
from gengram.progress import tell
from gengram.team import Team

RANDOM_SEED = 0
"""Of the weights that `--random_weights` draws."""

_DIGITS = 12  # of a checksum


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is to be evaluated, and how.

    Attributes:
        tasks: of `choose_tasks`.
        models: folders, runs or Hub ids, each perhaps with `NAME=` before it.
        protocol: how models are judged.
        settings: an instance of `protocol.settings`.
        baselines: of `find_baselines`.
        seeds: of the trainings.
        limits: which rows count.
        random_weights: whether each model has a twin that nobody has trained.
        cache: folder for cells and embeddings; None: below HF_HOME.
        devices: of this process.
    """

    tasks: Sequence[ChosenTask]
    models: Sequence[str]
    protocol: Protocol
    settings: Any
    baselines: Sequence[Baseline] = ()
    seeds: Sequence[int] = (0, 1, 2)
    limits: Limits = dataclasses.field(default_factory=Limits)
    random_weights: bool = False
    cache: str | None = None
    devices: str | None = None

    def describe_protocol(self) -> dict[str, Any]:
        """What the report says of the protocol; JSON."""
        return {
            "name": self.protocol.name,
            "version": self.protocol.version,
            "title": self.protocol.title,
            "source": self.protocol.source,
            "settings": to_json(self.settings),
            "warning": self.protocol.warning,
        }


class Plan(NamedTuple):
    """An evaluation of which everything is known but the scores."""

    shelf: Shelf
    facts: dict[str, TaskFacts]
    contestants: list[Contestant]
    jobs: list[Job]
    cells: Cells
    cache: Path


def run_evaluation(evaluation: Evaluation, out: Path, team: Team | None = None) -> dict[str, Any] | None:
    """
    Evaluate models and baselines on tasks, and write the report.

    Args:
        evaluation: what and how.
        out: folder for the report.
        team: the processes that share the work.

    Returns:
        The report; None in a process that another one writes it for.

    Raises:
        `InputError`: a task that cannot be read, a model that cannot be opened.
    """
    plan = plan_evaluation(evaluation)
    tell_tasks(plan.facts)
    fill_cells(plan.jobs, plan.shelf, plan.cells, plan.cache, team)
    if team is not None and team.rank:
        return None
    with phase("Writing the report"):
        report = make_report(
            plan.facts,
            plan.contestants,
            plan.jobs,
            plan.cells,
            protocol=evaluation.describe_protocol(),
            seeds=evaluation.seeds,
            limits=to_json(evaluation.limits),
        )
        report["differences"] = compare_entrants(report, plan.jobs, plan.cells, plan.cache)
        write_report(report, plan.jobs, plan.cells, out)
    return report


def plan_evaluation(evaluation: Evaluation) -> Plan:
    """
    Read the tasks, open the models without loading one, and find out which cells there are.

    Raises:
        `InputError`: see `run_evaluation`.
    """
    protocol, settings, seeds = evaluation.protocol, evaluation.settings, evaluation.seeds
    contestants = [enter_model(model, protocol, settings, seeds) for model in open_models(evaluation)]
    contestants += [enter_baseline(one, evaluation.seeds) for one in evaluation.baselines]
    shelf = Shelf(evaluation.tasks, evaluation.limits)
    facts = shelf.survey()
    refusals = find_refusals(contestants, facts)
    cache = find_cache(evaluation.cache)
    jobs = list_jobs(facts, contestants, refusals)
    return Plan(shelf, facts, contestants, jobs, Cells(cache), cache)


def open_models(evaluation: Evaluation) -> list[Entrant]:
    """
    Return the models of an evaluation, by names that are all different, and their twins without training.

    Raises:
        `InputError`: one cannot be opened; two of one name.
    """
    entrants: list[Entrant] = []
    for text in evaluation.models:
        name, source = split_name(text)
        for seed in (None, RANDOM_SEED) if evaluation.random_weights else (None,):
            entrants.append(open_entrant(source, seed, name=name, device=evaluation.devices))
    return tell_apart(entrants)


def tell_apart(entrants: Sequence[Entrant]) -> list[Entrant]:
    """
    Return entrants by names that are all different: of those that have one, with more of where they are from.

    Raises:
        `InputError`: two that were given the same name; the same model twice.
    """
    names = [entrant.name for entrant in entrants]
    found = []
    for entrant in entrants:
        if names.count(entrant.name) > 1:
            alike = [one.fingerprint for one in entrants if one.name == entrant.name]
            if alike.count(entrant.fingerprint) > 1:
                raise InputError(f"--model: {entrant.name} is there twice; give each model once")
            entrant = dataclasses.replace(entrant, name=f"{entrant.name} ({entrant.fingerprint[:_DIGITS]})")
        found.append(entrant)
    return found


def find_refusals(contestants: Sequence[Contestant], facts: Mapping[str, TaskFacts]) -> dict[tuple[str, str], str]:
    """
    Return (contestant, task) -> why not, of the models that are too short for the sequences of a task.

    Where the settings say what is done with longer ones (`too_long`), none is refused.
    """
    found = {}
    for contestant in contestants:
        if contestant.model is None or contestant.settings.get("too_long", "error") != "error":
            continue
        capacity, tokenizer = contestant.model.measure_capacity(), contestant.model.load_tokenizer()
        limit = min(capacity, contestant.settings.get("max_length") or capacity)
        for name, one in facts.items():
            encoded = tokenizer(list(one.longest), split_special_tokens=True)["input_ids"]
            if (tokens := max(map(len, encoded))) > limit:
                found[contestant.name, name] = (
                    f"its longest sequences, {max(map(len, one.longest)):,} bp, are {tokens:,} tokens, and the model "
                    f"takes {limit:,}; --too_long says what is done with longer ones"
                )
    return found


def split_name(text: str) -> tuple[str | None, str]:
    """Return the name and the source of `NAME=MODEL`; without `NAME=`, or where a file is called so, no name."""
    name, equals, source = text.partition("=")
    return (name, source) if equals and name and source and not Path(text).exists() else (None, text)


def find_cache(cache: str | None) -> Path:
    """Return the folder for cells and embeddings.

    Raises:
        `InputError`: it cannot be written to.
    """
    if cache is not None:
        return check_output_folder(cache)
    from huggingface_hub import constants

    return check_output_folder(Path(constants.HF_HOME) / "gengram" / "evaluate")


def tell_tasks(facts: Mapping[str, TaskFacts]) -> None:
    """Say what is scored: of each task the file with its test rows, how many they are, and the file's checksum."""
    for name, one in facts.items():
        checksums = [source["sha256"] for source in one.entry["sources"] if source["split"] == "test"]
        tell(
            f"{name}: {one.entry['rows']['test']:,} test rows of {one.test_file}, sha256 "
            f"{', '.join(checksum[:_DIGITS] for checksum in checksums)}"
        )
        for warning in one.entry["hygiene"]["warnings"]:
            tell(f"warning: {name}: {warning}")


def list_missing(evaluation: Evaluation) -> dict[str, Any]:
    """Return what an evaluation would do: tasks, entrants, and for each cell whether it is there; computes nothing."""
    plan = plan_evaluation(evaluation)
    cells = {
        name: {
            job.contestant.name: job.refusal or ("there" if plan.cells.read(job.key) else "missing")
            for job in plan.jobs
            if job.task == name
        }
        for name in plan.facts
    }
    return {
        "protocol": evaluation.describe_protocol(),
        "seeds": list(evaluation.seeds),
        "cache": str(plan.cache),
        "tasks": {name: one.entry for name, one in plan.facts.items()},
        "entrants": {one.name: one.describe() for one in plan.contestants},
        "cells": cells,
        "missing": sum(state == "missing" for row in cells.values() for state in row.values()),
    }


def tabulate_missing(found: dict[str, Any]) -> str:
    """Return the answer of `--dry_run` for people."""
    names = list(found["entrants"])
    rows = [
        [
            escape_text(task),
            *(f"{found['tasks'][task]['rows'][split]:,}" for split in ("train", "validation", "test")),
            escape_text(found["tasks"][task]["metric"]),
            *(escape_text(row[name]) for name in names),
        ]
        for task, row in found["cells"].items()
    ]
    head = ["task", "train", "validation", "test", "metric", *map(escape_text, names)]
    return f"{format_table(head, rows, numbers=(1, 2, 3))}\n\n{found['missing']} cells are missing"


__all__ = ["Evaluation", "find_cache", "list_missing", "run_evaluation", "split_name", "tabulate_missing"]
