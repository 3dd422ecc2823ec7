"""`gengram convert`: foreign checkpoints to ours and back, from the command line."""

import argparse
import sys


def main(argv: list[str]) -> int:
    """Run `gengram convert`; returns the exit code: 0, or 1 after a message."""
    parser = argparse.ArgumentParser(
        prog="gengram convert",
        description="Convert a foreign checkpoint to one that from_pretrained loads, or back.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  gengram convert megatron checkpoints/gengram-10b gengram-10b-hf\n"
        "  gengram convert to-megatron gengram-10b-hf checkpoints/again --pipeline_parallel 2",
    )
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    _add_megatron(layouts)
    _add_to_megatron(layouts)
    arguments = vars(parser.parse_args(argv))
    arguments.pop("layout")
    convert = arguments.pop("convert")
    try:
        print(convert(**arguments))
    except (ValueError, OSError) as error:
        print(f"gengram convert: error: {error}", file=sys.stderr)
        return 1
    return 0


def _add_megatron(layouts) -> None:
    parser = layouts.add_parser(
        "megatron",
        help="Megatron (torch or torch_dist) -> safetensors",
        description="Convert the newest iteration of a Megatron checkpoint; interrupted, the same command goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="example: gengram convert megatron checkpoints/gengram-10b gengram-10b-hf",
    )
    parser.add_argument("checkpoint", help="folder with latest_checkpointed_iteration.txt, or an iteration's folder")
    parser.add_argument("output", help="folder to make")
    parser.add_argument("--max_shard_size", default="5GB", help="of the safetensors files")
    parser.set_defaults(convert=_convert_megatron)


def _add_to_megatron(layouts) -> None:
    parser = layouts.add_parser(
        "to-megatron",
        help="a saved causal language model -> Megatron (torch)",
        description="Write a dense or mixture-of-experts causal language model as a legacy Megatron checkpoint.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="example: gengram convert to-megatron gengram-10b-hf checkpoints/again --pipeline_parallel 2",
    )
    parser.add_argument("model", help="folder of a saved model")
    parser.add_argument("output", help="folder to make")
    for kind in ("tensor", "pipeline", "expert"):
        parser.add_argument(f"--{kind}_parallel", type=int, default=1, help=f"number of {kind} parallel ranks")
    parser.add_argument(
        "--transformer_impl",
        choices=["transformer_engine", "local"],
        default="transformer_engine",
        help="the layers that Megatron will load it into",
    )
    parser.set_defaults(convert=_convert_to_megatron)


def _convert_megatron(**arguments):
    from gengram.conversion.megatron import convert_megatron

    return convert_megatron(**arguments)


def _convert_to_megatron(**arguments):
    from gengram.conversion.to_megatron import convert_to_megatron

    return convert_to_megatron(**arguments)


__all__ = ["main"]
