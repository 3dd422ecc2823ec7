"""A run on the Hub: the model at its end, and, if asked for, each checkpoint on a branch of its own.

What goes up has the card of every model, with what the model has read, and `pretraining.json`. The training state is
written anew, as tensors in safetensors and numbers in JSON: no pickle goes up, and no path of this machine.
"""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, get_token
from safetensors import safe_open
from safetensors.torch import save
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from gengram.errors import InputError
from gengram.loading.checkpoints import check_repo_id
from gengram.loading.faults import tell_error, tell_faults
from gengram.loading.folders import read_object
from gengram.markdown import escape_text, format_table
from gengram.model_cards.card import check_license
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.pretraining.trainer_arguments import PretrainArguments
from gengram.training.publishing.model import prepare_upload
from gengram.training.publishing.scan import refuse_private
from gengram.training.publishing.upload import Upload, push

REPORT = "pretraining.json"
STATE = "training_state"
_MOST_CONTIGS = 30  # of a species and split; the others are in pretraining.json


def check_publishing(arguments: PretrainArguments) -> None:
    """Refuse a run that could not be published, before it begins.

    Raises:
        `InputError`: no name of a repository, no token, a licence that there is not, or checkpoints that nobody pushes.
    """
    if not arguments.push_to_hub:
        if arguments.push_checkpoints or arguments.push_training_state:
            raise InputError("push_checkpoints and push_training_state are read with --push_to_hub")
        return
    if arguments.push_training_state and not arguments.push_checkpoints:
        raise InputError("push_training_state is that of checkpoints: give --push_checkpoints too")
    if arguments.hub_model_id is None:
        raise InputError("push_to_hub needs the name of the repository: give --hub_model_id organization/name")
    check_repo_id(arguments.hub_model_id)
    check_license(arguments.hub_license, "--hub_license")
    if arguments.hub_token is None and get_token() is None:
        raise InputError("push_to_hub needs a token: run `hf auth login`, or set HF_TOKEN to a token that may write")


def prepare_pretrained(
    folder: Path, repo_id: str, told: dict[str, Any], *, license: str = "unknown", with_state: bool = False
) -> Upload:
    """Gather and check what is published of a pre-trained model or of a checkpoint; needs no network.

    Args:
        folder: with the model.
        repo_id: `organization/name`.
        told: what the run is, `pretraining.json` or its beginning.
        license: of the weights.
        with_state: whether optimizer, schedule and log go up too.

    Raises:
        `InputError`: see `prepare_upload`; a training state that there is not.
    """
    upload = prepare_upload(folder, repo_id, license=license)
    told = _hide_folders(told)
    more: dict[str, Path | bytes] = {REPORT: (json.dumps(told, indent=2) + "\n").encode()}
    if with_state:
        more |= pack_state(folder)
    card = ModelCard(f"{str(upload.card).rstrip()}\n\n{_describe_data(told)}")
    more["README.md"] = str(card).encode()
    refuse_private(more, source=folder)
    return dataclasses.replace(upload, card=card, files=dict(sorted({**upload.files, **more}.items())))


def _hide_folders(told: dict[str, Any]) -> dict[str, Any]:
    """Without the places of a checkpoint and a tokenizer on this machine."""
    model = dict(told.get("model") or {})
    for name in ("model_name_or_path", "tokenizer_name_or_path"):
        if isinstance(place := model.get(name), str) and Path(place).exists():
            model[name] = Path(place).name
    return {**told, "model": model}


def _describe_data(told: dict[str, Any]) -> str:
    corpus = told.get("corpus") or {}
    lines = [
        "## What it has read",
        f"Corpus {escape_text(str(corpus.get('name')))}, licence {escape_text(str(corpus.get('licence')))}. "
        f"`{REPORT}` has all contigs, the stages and every argument.",
    ]
    rows = []
    for species, splits in (corpus.get("contigs") or {}).items():
        for split, names in splits.items():
            shown = ", ".join(names[:_MOST_CONTIGS])
            more = f" and {len(names) - _MOST_CONTIGS} more" if len(names) > _MOST_CONTIGS else ""
            rows.append([escape_text(species), escape_text(split), escape_text(shown) + more])
    if rows:
        lines.append(format_table(["species", "split", "contigs"], rows))
    return "\n\n".join(line.strip("\n") for line in lines) + "\n"


def pack_state(folder: Path) -> dict[str, Path | bytes]:
    """Return the training state of a checkpoint as files: path in the repository -> content.

    Raises:
        `InputError`: there is none, or one of another kind (of weights that are divided among processes).
    """
    files = {name: folder / name for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json")}
    if missing := next((path for path in files.values() if not path.is_file()), None):
        raise InputError(f"{missing}: there is no such file, so the training state cannot be published")
    with tell_faults(f"{folder}: its training state cannot be read"):
        optimizer = torch.load(files["optimizer.pt"], map_location="cpu", weights_only=True)
        schedule = torch.load(files["scheduler.pt"], map_location="cpu", weights_only=True)
    tensors, numbers = {}, {}
    for index, entry in optimizer["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.contiguous()
            else:
                numbers[f"{index}.{name}"] = value
    state = read_object(files["trainer_state.json"])
    kept = {name: state.get(name) for name in ("global_step", "max_steps", "epoch", "log_history")}
    described = {"param_groups": optimizer["param_groups"], "numbers": numbers, "scheduler": schedule, "trainer": kept}
    return {
        f"{STATE}/optimizer.safetensors": save(tensors),
        f"{STATE}/state.json": (json.dumps(described, indent=2) + "\n").encode(),
    }


def unpack_state(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `load_state_dict` of the optimizer and of its schedule take, from files of `pack_state`.

    Args:
        folder: `training_state` of a repository.
    """
    described = read_object(Path(folder) / "state.json")
    state: dict[int, dict[str, Any]] = {}
    with safe_open(Path(folder) / "optimizer.safetensors", "pt") as tensors:
        names = tensors.keys()
        for key in names:
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = tensors.get_tensor(key)
    for key, value in described["numbers"].items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": described["param_groups"]}, described["scheduler"]


class CheckpointPush(TrainerCallback):
    """Publishes each checkpoint when it is whole, on the branch `stage-N-step-M`; behind `CheckpointSeal`.

    A push that fails is told, and the training goes on.

    Args:
        arguments: of the run.
        told: what the run is.
        stage: number of the stage, from 1.
    """

    def __init__(self, arguments: PretrainArguments, told: dict[str, Any], stage: int):
        self.arguments, self.told, self.stage = arguments, told, stage

    def on_save(self, args, state, control, **kwargs):
        """Publish what was written."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        branch = f"stage-{self.stage}-step-{state.global_step}"
        given, repo_id = self.arguments, str(self.arguments.hub_model_id)
        try:
            with phase("Publishing checkpoints"):
                told = {**self.told, "stage": self.stage, "step": state.global_step}
                upload = prepare_pretrained(
                    folder, repo_id, told, license=given.hub_license, with_state=given.push_training_state
                )
                api = HfApi(token=given.hub_token)
                api.create_repo(repo_id, private=bool(given.hub_private_repo), exist_ok=True)
                api.create_branch(repo_id, branch=branch, exist_ok=True)
                push(upload, revision=branch, token=given.hub_token)
        except Exception as error:  # Whatever the Hub or the network does, the training is worth more.
            tell(f"{folder.name} of stage {self.stage} was not published: {tell_error(error)}")


def publish_model(output: Path, report: dict[str, Any], arguments: PretrainArguments) -> str:
    """Publish the finished model, and return the commit's address.

    Raises:
        `InputError`: what the Hub said, and the command that publishes the model later.
    """
    repo_id = str(arguments.hub_model_id)
    try:
        upload = prepare_pretrained(output, repo_id, report, license=arguments.hub_license)
        commit = push(
            upload,
            private=bool(arguments.hub_private_repo),
            revision=arguments.hub_revision,
            token=arguments.hub_token,
        )
    except InputError as error:
        again = ["gengram", "push", str(output), repo_id]
        again += ["--private"] if arguments.hub_private_repo else []
        again += [] if arguments.hub_license == "unknown" else ["--license", arguments.hub_license]
        again += ["--revision", arguments.hub_revision] if arguments.hub_revision else []
        raise InputError(
            f"the model is complete, see {output / REPORT}, but it was not published: {error} Then: {shlex.join(again)}"
        ) from error
    return str(commit.commit_url)


__all__ = [
    "STATE",
    "CheckpointPush",
    "check_publishing",
    "pack_state",
    "prepare_pretrained",
    "publish_model",
    "unpack_state",
]
