"""The verbs that bring foreign checkpoints here, and back: convert megatron, convert to-megatron."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gengram.command_line import Answer, VerbParser, add_out, run, whole_number
from gengram.errors import InputError
from gengram.files import check_new_folder
from gengram.loading.checkpoints import find_checkpoint
from gengram.phases import phase


def convert_megatron(argv: Sequence[str] | None = None) -> int:
    """Run `gengram convert megatron`; returns the exit code."""
    parser = VerbParser(
        "convert megatron",
        usage="CHECKPOINT --out FOLDER [...]",
        description="Convert the newest iteration of a Megatron checkpoint (torch or torch_dist) to safetensors.",
        example="gengram convert megatron checkpoints/gengram-10b --out gengram-10b-hf",
        notes="Interrupted, the same command goes on where it was.",
    )
    parser.add_position("checkpoint", "CHECKPOINT")
    parser.add_position("out", "--out")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--checkpoint",
        help="folder with latest_checkpointed_iteration.txt, or of one iteration (also as first argument)",
    )
    output = parser.add_argument_group("output")
    add_out(output, "folder to make (also as second argument)", "FOLDER", required=False)
    output.add_argument("--max_shard_size", default="5GB", help="largest size of a safetensors file")
    parser.add_common()

    def work(checkpoint: str, out: str, overwrite: bool, max_shard_size: str) -> Answer:
        if not Path(checkpoint).is_dir():
            raise InputError(f"{checkpoint}: there is no such folder")
        folder = check_new_folder(out, "config.json", overwrite)
        from gengram.conversion.megatron import convert_megatron

        return _convert(checkpoint, lambda: convert_megatron(checkpoint, folder, max_shard_size, overwrite=overwrite))

    return run(parser, parser.parse(argv), work)


def convert_to_megatron(argv: Sequence[str] | None = None) -> int:
    """Run `gengram convert to-megatron`; returns the exit code."""
    parser = VerbParser(
        "convert to-megatron",
        usage="MODEL --out FOLDER [...]",
        description="Write a dense or mixture-of-experts causal language model as a legacy Megatron checkpoint.",
        example="gengram convert to-megatron gengram-10b-hf --out checkpoints/again --pipeline_parallel 2",
    )
    parser.add_position("model", "--model")
    parser.add_position("out", "--out")
    what = parser.add_argument_group("what")
    what.add_argument("--model", metavar="FOLDER", help="a saved model or a run (also as first argument)")
    output = parser.add_argument_group("output")
    add_out(output, "folder to make (also as second argument)", "FOLDER", required=False)
    for kind in ("tensor", "pipeline", "expert"):
        output.add_argument(f"--{kind}_parallel", type=whole_number, default=1, help=f"number of {kind} parallel ranks")
    output.add_argument(
        "--transformer_impl",
        choices=["transformer_engine", "local"],
        default="transformer_engine",
        help="the layers that Megatron will load it into",
    )
    parser.add_common()

    def work(model: str, out: str, overwrite: bool, **options: Any) -> Answer:
        source = find_checkpoint(model).folder
        folder = check_new_folder(out, "latest_checkpointed_iteration.txt", overwrite)
        from gengram.conversion.to_megatron import convert_to_megatron

        return _convert(model, lambda: convert_to_megatron(source, folder, overwrite=overwrite, **options))

    return run(parser, parser.parse(argv), work)


@phase("Converting")
def _convert(source: str, convert: Any) -> Answer:
    try:
        out = convert()
    except ValueError as error:
        raise InputError(str(error)) from error
    files = sorted(path for path in Path(out).rglob("*") if path.is_file())
    sizes = [{"path": str(path.relative_to(out)), "bytes": path.stat().st_size} for path in files]
    return Answer(str(out), {"out": str(out), "source": source, "files": sizes})


__all__ = ["convert_megatron", "convert_to_megatron"]
