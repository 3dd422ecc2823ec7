"""A finished run, or a model's folder, as a repository on the Hub: the work of `gengram push` and `gengram card`."""

import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from transformers.dynamic_module_utils import get_relative_import_files

from gengram.errors import InputError
from gengram.files import check_input_files, hash_file
from gengram.loading.checkpoints import REPORT, Checkpoint, check_repo_id, find_checkpoint, is_hub_id
from gengram.loading.classes import name_outputs
from gengram.loading.evaluations import read_evaluation
from gengram.loading.faults import tell_faults
from gengram.loading.folders import read_object
from gengram.loading.inspection import inspect_checkpoint
from gengram.loading.reports import check_value
from gengram.model_cards.card import check_license, render_card, render_results
from gengram.model_cards.evaluation import choose_entrant, list_entries
from gengram.model_cards.pretraining import REPORT as PRETRAINING
from gengram.phases import phase
from gengram.registration import FAMILIES, find_configuration
from gengram.training.publishing.inside import refuse_outsiders, tell_why_not
from gengram.training.publishing.scan import read_allowances, refuse_private
from gengram.training.publishing.secrets import hide_secrets
from gengram.training.publishing.upload import Upload, matches
from gengram.training.reports.plot_names import FOLDER, NAMES

# What goes up; everything else in the folder stays.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_PUBLISHED = (
    *_WEIGHTS,
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "labels.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "vocab.bpe",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
)
# What earlier pushes and Trainer's own may have left in the repository, and a new one removes: weights by the names
# that transformers and PEFT give them and load them by. What else is there is somebody's.
_STALE = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "training_args.bin",
    *(f"{FOLDER}/{name}.png" for name in NAMES),
)
# Of a configuration or an adapter's: what a card or the choice of the code files reads.
_CONFIG_KEYS: dict[str, Any] = {
    **dict.fromkeys(("model_type", "problem_type", "peft_type", "task_type", "base_model_name_or_path"), str),
    "architectures": list[str],
    "auto_map": dict,
    "id2label": dict,
    "backbone_config": dict,
    "memory_layers": list[int],
}
_REASONS = {
    "*.bin": "a pickle",
    "*.pt": "a pickle",
    "*.pth": "a pickle",
    "README.md": "a new card is written",
    "checkpoint-*": "a checkpoint of the training",
    "predictions-*.parquet": "predictions of single rows",
    "trainer_state.json": "the log of the training",
    PRETRAINING: "the card says what it says",
}


def prepare_upload(
    path: str | Path,
    repo_id: str,
    *,
    seed: int | None = None,
    license: str = "unknown",
    base_model: str | None = None,
    dataset: str | None = None,
    task: str = "default",
    card: str | Path | None = None,
    allow: Sequence[str] = (),
    evaluation: str | Path | None = None,
    evaluated_as: str | None = None,
) -> Upload:
    """Gather and check everything that a push would publish; needs no network and changes nothing.

    Args:
        path: folder of a run, a model or an adapter, see `find_checkpoint`.
        repo_id: `organization/name`.
        seed: of a run; by default the best on the validation rows.
        license: of the weights, an identifier of the Hub (`apache-2.0`, `cc-by-4.0`, `other`).
        base_model: Hub id of the model that was fine-tuned; by default the one that the report or the adapter names.
        dataset: Hub id of the dataset that the test rows are from; adds `.eval_results/`.
        task: task of that dataset.
        card: a file to use as the card instead of a rendered one.
        allow: what is private and may go up all the same, `KIND` or `KIND:FILE`, see `read_allowances`.
        evaluation: folder of `gengram evaluate`, whose scores of this model go into the card, its metadata and
            `.eval_results/`.
        evaluated_as: name of this model there; by default the only trained one.

    Raises:
        `InputError`: a name or licence that is not allowed; no weights in safetensors, no tokenizer; an adapter whose
            base is a local folder; a link that leads out of the folder or run; an absolute path, a token, a key or a
            password in one of the files; a card without metadata; an evaluation of other weights.
    """
    check_repo_id(repo_id)
    check_license(license)
    read_allowances(allow)
    if dataset is not None and not is_hub_id(dataset):
        raise InputError(f"dataset={dataset!r} is not the id of a dataset on the Hub: write organization/name")
    if evaluated_as is not None and evaluation is None:
        raise InputError("evaluated_as is a name in an evaluation, and none is given (--evaluation)")
    measured = None if evaluation is None else read_evaluation(evaluation)
    checkpoint = find_checkpoint(path, seed)
    folder = checkpoint.folder
    evaluated = None if measured is None else (measured, _find_entrant(measured, evaluated_as, str(evaluation), folder))
    home = folder if checkpoint.report is None else folder.parent
    files, left_out = _list_files(folder)
    read = {path.name: path for path in files.values() if isinstance(path, Path)}
    refuse_outsiders(read if checkpoint.report is None else {**read, REPORT: home / REPORT}, home)
    config_name = "adapter_config.json" if "adapter_config.json" in files else "config.json"
    config = read_object(folder / config_name)
    _check_config(config, folder / config_name)
    pretraining = _read_pretraining(folder) if checkpoint.report is None else None
    with tell_faults(f"{folder.absolute().parent / REPORT}: not the report of a run of gengram finetune"):
        trained_from, plots = _find_base(checkpoint.report), _find_plots(checkpoint)
    if config_name == "adapter_config.json":
        base_model = _name_base(config, base_model, checkpoint)
        files[config_name] = _dump_json(config | {"base_model_name_or_path": base_model})
        config["base_model_name_or_path"] = base_model
    else:
        base_model = base_model or trained_from or _find_pretrained_base(pretraining)
        if base_model is not None and not is_hub_id(base_model):
            raise InputError(f"base_model={base_model!r} is not the id of a model on the Hub: write organization/name")
        files |= _complete_code(config, folder)
    if card is None:
        rendered = _render(checkpoint, config, repo_id, license, base_model, dataset, plots, pretraining, evaluated)
    else:
        rendered = _read_card(card)
        plots = {name: title for name, title in plots.items() if name in str(rendered)}
    files |= {name: folder.absolute().parent / name for name in plots}
    inspect_checkpoint(folder)
    files["README.md"] = str(rendered).encode()
    if dataset is not None and card is None:
        entries = render_results(checkpoint.report, checkpoint.seed, dataset=dataset, task=task)
        if entries:
            name = f".eval_results/{dataset.split('/')[-1]}.yaml"
            files[name] = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True).encode()
    if evaluated is not None and card is None:
        for name, listed in list_entries(*evaluated).items():
            text = yaml.safe_dump(listed, sort_keys=False, allow_unicode=True)
            files[f".eval_results/{name.replace('/', '--')}.yaml"] = text.encode()
    refuse_outsiders(files, home)
    allowed = refuse_private(files, allow, source=home)
    stays = {name: why for name, why in left_out.items() if name not in files or name == "README.md"}
    files = dict(sorted(files.items()))
    return Upload(repo_id, folder, rendered, files, stays, note=_tell_choice(checkpoint), stale=_STALE, allowed=allowed)


def _find_entrant(report: dict[str, Any], name: str | None, place: str, folder: Path) -> str:
    """Return which model of an evaluation the folder holds; its weights are compared.

    Raises:
        `InputError`: none of this name, or one with other weights.
    """
    chosen = choose_entrant(report, name, place)
    measured = {entry.rpartition(" ")[2] for entry in report["entrants"][chosen]["weights"]}
    own = {hash_file(file) for pattern in _WEIGHTS[:1] for file in folder.glob(pattern)}
    if measured != own:
        raise InputError(
            f"{place}: {chosen} was evaluated with other weights than those of {folder}; evaluate this folder, or name "
            "another model with --evaluated_as"
        )
    return chosen


def _check_config(config: dict[str, Any], file: Path) -> None:
    remedy = "save the model again"
    for key, kind in _CONFIG_KEYS.items():
        if config.get(key) is not None:
            check_value(key, config[key], kind, file, remedy)
    name_outputs(config.get("id2label"), file)


def _list_files(folder: Path) -> tuple[dict[str, Path | bytes], dict[str, str]]:
    """The files of a checkpoint that are published, and those that are not with the reason."""
    files: dict[str, Path | bytes] = {}
    left_out: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and matches(path.name, _PUBLISHED):
            files[path.name] = path
        else:
            known = next((why for pattern, why in _REASONS.items() if fnmatch.fnmatch(path.name, pattern)), None)
            left_out[path.name] = tell_why_not(path) or known or "not part of a model"
    if not any(matches(name, ("*.safetensors",)) for name in files):
        raise InputError(f"{folder}: no weights in safetensors; load the model and call save_pretrained again")
    if "tokenizer.json" not in files and "tokenizer_config.json" not in files:
        raise InputError(f"{folder}: no tokenizer; save the one that the model was trained with into this folder")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = sorted(set(read_object(index)["weight_map"].values()) - set(files))
        if missing:
            raise InputError(f"{index} names {missing[0]}, which is not there ({len(missing)} shards are missing)")
    if "adapter_config.json" not in files and "config.json" not in files:
        raise InputError(f"{folder}: weights without a config.json")
    return files, left_out


def _complete_code(config: dict[str, Any], folder: Path) -> dict[str, Path | bytes]:
    """The code files that the configuration names; of our families, with the configuration where it names too few."""
    known = config.get("model_type") in FAMILIES
    family = find_configuration(str(config["model_type"])) if known else None
    if family is None or config.get("auto_map") == family.auto_classes:
        named = {name for name in (config.get("auto_map") or {}).values() if isinstance(name, str)}
        # "organization/name--file.Class" is code in another repository.
        modules = {name.split(".")[0] for name in named if "--" not in name}
        for path in sorted(folder.glob("*.py")):
            if modules and not path.is_file():  # Reading a pipe would wait for ever.
                raise InputError(f"{path}: no file of code, but {tell_why_not(path) or 'a folder'}; remove it")
        return _collect_code({folder / f"{module}.py" for module in modules}, folder)
    config["auto_map"] = dict(family.auto_classes)
    home = Path(str(sys.modules[family.__module__].__file__)).parent
    code = _collect_code({home / f"{name.split('.')[0]}.py" for name in family.auto_classes.values()}, home)
    return {**code, "config.json": _dump_json(config)}


def _collect_code(modules: set[Path], home: Path) -> dict[str, Path | bytes]:
    """Modules and all siblings that they import, by file name; what is not directly in their home is refused."""
    code: dict[str, Path | bytes] = {}
    for module in sorted(modules):
        try:
            _refuse_strangers([module], home)
            paths = [module, *map(Path, get_relative_import_files(module))]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{module.parent}: config.json names code in {module.name}, which is not there or not complete: {error}"
            ) from error
        _refuse_strangers(paths, home)
        code |= {path.name: path for path in paths}
    return code


def _refuse_strangers(paths: list[Path], home: Path) -> None:
    """Refuse code that a configuration or an import names by a path that leads away (`../../x`, `/home/x`)."""
    for path in paths:
        if path.parent != home or path.suffix != ".py" or path.name == ".py":
            raise InputError(
                f"{home}: the code names {hide_secrets(str(path))}, which does not lie in this folder. Code files lie "
                "beside config.json; name them without a path."
            )


def _name_base(config: dict[str, Any], base_model: str | None, checkpoint: Checkpoint) -> str:
    named = base_model or config.get("base_model_name_or_path") or ""
    if not is_hub_id(named) or (base_model is None and _started_from_folder(checkpoint.report)):
        raise InputError(
            f"{checkpoint.folder / 'adapter_config.json'}: the adapter's base is {named!r}, which is not a model on "
            "the Hub. Push the base first, then name it with --base_model organization/name."
        )
    return named


def _tell_choice(checkpoint: Checkpoint) -> str:
    return f"Seed {checkpoint.seed} is published: {checkpoint.choice}." if checkpoint.choice else ""


def _find_plots(checkpoint: Checkpoint) -> dict[str, str]:
    """The run's plots that are there: path in the repository -> title."""
    named = {
        f"{FOLDER}/{Path(plot['file']).name}": plot["title"] for plot in (checkpoint.report or {}).get("plots", [])
    }
    return {name: title for name, title in named.items() if (checkpoint.folder.absolute().parent / name).is_file()}


def _find_base(report: dict[str, Any] | None) -> str | None:
    named = report["model"]["checkpoint"] if report else None
    return named if named and is_hub_id(named) and not _started_from_folder(report) else None


def _read_pretraining(folder: Path) -> dict[str, Any] | None:
    """What `gengram pretrain` says of a model that it has made."""
    path = folder / PRETRAINING
    refuse_outsiders({PRETRAINING: path} if path.exists() else {}, folder)
    return read_object(path) if path.is_file() else None


def _find_pretrained_base(pretraining: dict[str, Any] | None) -> str | None:
    model = (pretraining or {}).get("model")
    named = model.get("model_name_or_path") if isinstance(model, dict) else None
    return named if isinstance(named, str) and is_hub_id(named) and not Path(named).exists() else None


def _started_from_folder(report: dict[str, Any] | None) -> bool:
    return report is not None and report["model"].get("checkpoint_is_folder", False)


@phase("Rendering the card")
def _render(
    checkpoint: Checkpoint,
    config: dict[str, Any],
    repo_id: str,
    license: str,
    base_model: str | None,
    dataset: str | None,
    plots: dict[str, str],
    pretraining: dict[str, Any] | None,
    evaluated: tuple[dict[str, Any], str] | None,
) -> ModelCard:
    sources = str(checkpoint.folder) if checkpoint.report is None else f"{checkpoint.folder} and the run's {REPORT}"
    sources = f"{checkpoint.folder / PRETRAINING}" if pretraining is not None else sources
    with tell_faults(f"{sources}: no card can be written"):
        return render_card(
            checkpoint.folder,
            config,
            repo_id=repo_id,
            report=checkpoint.report,
            seed=checkpoint.seed,
            choice=_tell_choice(checkpoint),
            license=license,
            base_model=base_model,
            dataset=dataset,
            plots=plots,
            pretraining=pretraining,
            evaluation=evaluated,
        )


def _read_card(path: str | Path) -> ModelCard:
    check_input_files(path)
    # The metadata become arguments of the card's class: what they raise depends on their names and types.
    with tell_faults(f"{path}: cannot be read as a card"):
        card = ModelCard(Path(path).read_text(encoding="utf-8"))
        metadata = card.data.to_dict()
    if not metadata:
        raise InputError(f"{path}: the card has no metadata between two lines of ---; start from `gengram card`")
    return card


def _dump_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


__all__ = [
    "prepare_upload",
]
