"""What has somebody looked up on the Hub? A YAML file of facts beside the package's, which the registry reads.

`gengram tasks --refresh --out FILE` writes it; every verb reads it where the variable `GENGRAM_TASKS` names it:

    GB/human_enhancers_cohn:
      revision: 0123456789abcdef0123456789abcdef01234567
      rows: {train: 20843, test: 6948}
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import yaml

from gengram.benchmarks.tasks.schema import make
from gengram.benchmarks.tasks.task import Split, Task, check_task, get_fact
from gengram.errors import InputError
from gengram.files import write_text
from gengram.loading.faults import tell_faults
from gengram.training.yaml_files import read_yaml

VARIABLE = "GENGRAM_TASKS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the Hub says of a task; None: nothing."""

    revision: str | None = None
    rows: dict[Split, int] | None = None
    licence: str | None = None
    classes: tuple[str, ...] | None = None
    codes: dict[str, int] | None = None


def read_overlay(path: Path) -> dict[str, Facts]:
    """Return the facts of a file, by the names of tasks.

    Raises:
        `InputError`: it cannot be read, or has a key that there is not.
    """
    root, loader = read_yaml(path)
    with tell_faults(f"{path}: cannot be read as YAML"):
        data = {} if root is None else loader.construct_document(root)
    if not isinstance(data, dict):
        raise InputError(f"{path}: this should be a mapping of tasks to facts")
    return {str(name): make(Facts, facts, str(path), str(name)) for name, facts in data.items()}


def write_overlay(facts: Mapping[str, Facts], path: Path, head: str) -> None:
    """Write a file that `read_overlay` reads; `head` is a comment."""
    content = {
        name: {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(one).items()
            if value is not None
        }
        for name, one in facts.items()
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    write_text(f"# {head}\n# Every verb of gengram reads it with {VARIABLE}={path.name}.\n{text}", path)


def update_task(task: Task, facts: Facts, place: str) -> Task:
    """Return the task with the facts; what is known now is unverified and recalled no more.

    Raises:
        `InputError`: the facts contradict the task, or each other.
    """
    hub = task.hub
    if hub is None and (facts.revision or facts.codes):
        raise InputError(f"{place}, {task.name}: it is on no data set of the Hub, and has no revision or codes there")
    if hub is not None and facts.revision is not None:
        hub = dataclasses.replace(hub, revision=facts.revision)
    changed = dataclasses.replace(
        task,
        hub=hub,
        rows={**task.rows, **(facts.rows or {})},
        licence=facts.licence or task.licence,
        classes=facts.classes or task.classes,
        outputs=len(facts.classes) if facts.classes else task.outputs,
        codes=facts.codes or task.codes,
    )
    known = {f"rows.{split}" for split in facts.rows or {}} | {
        fact for fact in ("licence", "classes", "codes") if getattr(facts, fact) is not None
    }
    changed = dataclasses.replace(
        changed,
        unverified=tuple(fact for fact in task.unverified if get_fact(changed, fact) is None),
        recalled=tuple(fact for fact in task.recalled if fact not in known),
    )
    check_task(changed, f"{place}, {task.name}")
    return changed


__all__ = ["VARIABLE", "Facts", "read_overlay", "update_task", "write_overlay"]
