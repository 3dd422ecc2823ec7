"""The verbs that ask a trained model: predict, embed, segment."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gengram.command_line import (
    SEQUENCE_FILES,
    Answer,
    VerbParser,
    add_devices,
    add_genome,
    add_max_non_dna,
    add_model,
    add_out,
    run,
    share,
    whole_number,
)
from gengram.errors import InputError
from gengram.files import check_apart, check_free, check_input_files, check_output_folder, find_suffix
from gengram.genome.contigs import Genome
from gengram.genome.letters import MAX_NON_DNA
from gengram.loading.checkpoints import find_model, find_models
from gengram.pipelines.outputs import check_output, describe_suffixes, names_file
from gengram.pipelines.shares import Member
from gengram.progress import tell
from gengram.team import Team, join

POOLS = ("mean", "max", "cls", "last", "none")
DTYPES = ("auto", "float32", "bfloat16")
TRACK_FORMATS = ("bigwig", "bedgraph")


def predict(argv: Sequence[str] | None = None) -> int:
    """Run `gengram predict`; returns the exit code."""
    parser = VerbParser(
        "predict",
        usage="FILE --model MODEL --out predictions.tsv [...]",
        description="Predict new sequences with a fine-tuned model.",
        example="gengram predict new.fa.gz --model runs/splice --out predictions.tsv\n"
        "gengram predict peaks.bed --genome hg38.fa --model runs/enhancers --seed all --out predictions.bed\n"
        "gengram predict chr20.fa.gz --model runs/promoters --too_long window --track promoter --out promoter.bw",
        notes="Of a run with several seeds, the model that is best on the validation rows is taken; see --seed.\n"
        "Interrupted, the same command goes on where it was.",
    )
    parser.add_position("model", "--model")
    parser.add_position("file", "FILE")
    what = parser.add_argument_group("what")
    what.add_argument("--file", help=f"sequences (also as first argument): {SEQUENCE_FILES}")
    _add_sequences(what)
    model = parser.add_argument_group("model")
    add_model(model, "a fine-tuned model or adapter")
    model.add_argument(
        "--seed",
        type=_seeds,
        metavar="N",
        help="of a run: the model of this seed; all: the mean of all, with the standard deviation (default: the best)",
    )
    model.add_argument("--base_model", help="an adapter's base model, if it is no longer where the adapter says")
    _add_limits(
        model, ("error", "truncate", "center", "window"), "stop, cut their end off, keep the middle, or read windows"
    )
    model.add_argument(
        "--window",
        type=whole_number,
        metavar="BP",
        help="bp of a window (default: the longest sequence of the training)",
    )
    model.add_argument(
        "--stride", type=whole_number, metavar="BP", help="bp from one window to the next (default: half a window)"
    )
    model.add_argument(
        "--average_strands",
        action="store_true",
        help="average the prediction for a sequence and for its reverse complement",
    )
    model.add_argument("--batch_size", type=whole_number, default=64, help="sequences a step")
    add_devices(model)
    _add_shard(model)
    output = parser.add_argument_group("output")
    add_out(output, f"the file with the predictions; its name tells the format: {describe_suffixes('predict')}")
    output.add_argument(
        "--track",
        metavar="NAME",
        help="the class, label or target of a .bedgraph or .bw; the class that .bed has as its score",
    )
    parser.add_common()

    def work(
        model: str,
        file: str,
        out: str,
        overwrite: bool,
        seed: int | str | None,
        too_long: str,
        window: int | None,
        stride: int | None,
        shard: tuple[int, int] | None,
        **options: Any,
    ) -> Answer | None:
        team = join()
        check_output(out, "predict", overwrite)
        is_scan, is_bigwig = too_long == "window", find_suffix(out) == ".bw"
        if not is_scan and (window or stride or is_bigwig):
            what = (
                f"{out}: bigWig files are written of windows" if is_bigwig else "--window and --stride are of windows"
            )
            raise InputError(f"{what}: give --too_long window, too")
        check_input_files(file, options["genome"])
        check_apart(out, file, options["genome"])
        renamed = _open_genome(options)
        models = find_models(model, seed)
        named = model if seed == "all" else models[0]
        if (share := _share_out("predict", argv, team, shard, options)) is None:
            return None
        from gengram.genome.row_files import count_rows
        from gengram.pipelines.predict import predict_file
        from gengram.pipelines.scan_file import scan_file

        options["seed"] = "all" if seed == "all" else None
        if is_scan:
            path = scan_file(named, file, out, window=window, stride=stride, shard=share, **options)
        else:
            path = predict_file(named, file, out, too_long=too_long, shard=share, **options)
        answer: dict[str, Any] = {"out": out, "model": named, "file": file}
        if path != Path(out):
            return _answer_shard(share, path, answer | renamed)
        if is_bigwig:
            answer |= {"track": options["track"]}
        else:
            answer["rows"], answer["columns"] = count_rows(path)
        return Answer(str(path), answer | ({"models": models} if seed == "all" else {}) | renamed)

    return run(parser, parser.parse(argv), work)


def embed(argv: Sequence[str] | None = None) -> int:
    """Run `gengram embed`; returns the exit code."""
    parser = VerbParser(
        "embed",
        usage="FILE --model MODEL --out vectors.parquet [...]",
        description="Write a vector for each sequence of a file (or for each token or base of it): the hidden states "
        "of any layer of any model, pooled. Interrupted, the same command goes on where it was.",
        example="gengram embed promoters.fa.gz --model InstaDeepAI/nucleotide-transformer-v2-50m-multi-species "
        "--out promoters.parquet\n"
        "gengram embed peaks.bed --genome hg38.fa --model ./model --layer 6 --pool max --out peaks.npz",
    )
    parser.add_position("file", "FILE")
    what = parser.add_argument_group("what")
    what.add_argument("--file", help=f"sequences (also as first argument): {SEQUENCE_FILES}")
    _add_sequences(what)
    model = parser.add_argument_group("model")
    add_model(model)
    model.add_argument("--seed", type=_seed, metavar="N", help="of a run: the model of this seed (default: the best)")
    model.add_argument(
        "--layer",
        type=int,
        default=-1,
        help="hidden states: 0 the embedding, i the output of layer i, -1 the last one, after the final norm",
    )
    model.add_argument(
        "--pool",
        choices=POOLS,
        default="mean",
        help="mean or max over tokens, the first (cls) or last one, or each (none)",
    )
    model.add_argument(
        "--exclude_special",
        action="store_true",
        help="pool without <cls> and the like (default: with them, as on the Nucleotide Transformers' model cards)",
    )
    model.add_argument(
        "--per_base", action="store_true", help="with --pool none: a vector for each base, that of its token"
    )
    _add_limits(
        model, ("error", "truncate", "center", "window"), "stop, cut the end off, keep the middle, read windows"
    )
    model.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="what the model computes in; auto: bfloat16 where it is fast"
    )
    model.add_argument(
        "--batch_tokens",
        type=whole_number,
        metavar="N",
        help="tokens of a batch, padding included (default: 8192; on a GPU what its free memory has room for)",
    )
    add_devices(model)
    _add_shard(model)
    add_out(
        parser.add_argument_group("output"),
        f"the file with the vectors; its name tells the format: {describe_suffixes('embed')}",
    )
    parser.add_common()
    arguments = parser.parse(argv)
    if arguments.model is None:
        parser.error("missing: --model")
    if arguments.per_base and arguments.pool != "none":
        parser.error("--per_base gives a vector for each base: it needs --pool none")

    def work(
        model: str,
        file: str,
        out: str,
        overwrite: bool,
        seed: int | None,
        shard: tuple[int, int] | None,
        **options: Any,
    ) -> Answer | None:
        team = join()
        check_output(out, "embed", overwrite)
        check_input_files(file, options["genome"])
        check_apart(out, file, options["genome"])
        renamed = _open_genome(options)
        (model,) = find_models(model, seed)
        if (share := _share_out("embed", argv, team, shard, options)) is None:
            return None
        from gengram.pipelines.embed_file import embed_file
        from gengram.pipelines.embedding_files import describe_vectors

        path = embed_file(model, file, out, shard=share, **options)
        answer = {"out": out, "model": model, "file": file}
        if path != Path(out):
            return _answer_shard(share, path, answer | renamed)
        return Answer(str(path), {**answer, **describe_vectors(path), **renamed})

    return run(parser, arguments, work)


def segment(argv: Sequence[str] | None = None) -> int:
    """Run `gengram segment`; returns the exit code."""
    parser = VerbParser(
        "segment",
        usage="GENOME --model MODEL --out FOLDER_OR_FILE [...]",
        description="Find the features of single bases along a genome or regions of it, as tracks: with SegmentNT, or "
        "with a model that was trained on labels of bases.",
        example="gengram segment chr20.fa.gz --regions genes.bed --model InstaDeepAI/segment_nt --out tracks\n"
        "gengram segment chr20.fa.gz --model runs/exons --average_strands --out tracks",
        notes="a folder has FEATURE.bw (or .bedgraph) for each feature, features.bed, locus.png, segment.json\n"
        f"a file has what its name tells: {describe_suffixes('segment')}\n"
        "interrupted: the same command goes on where it was",
    )
    parser.add_position("genome", "--genome")
    what = parser.add_argument_group("what")
    add_genome(what, "FASTA file (also as first argument); lower-case bases are read like others")
    what.add_argument("--regions", metavar="BED", help="what is read, plain or .gz (default: all records)")
    what.add_argument(
        "--unknown",
        choices=("skip", "error"),
        default="skip",
        help="N and other letters that are no bases: no value, or stop",
    )
    add_max_non_dna(what, MAX_NON_DNA)
    model = parser.add_argument_group("model")
    add_model(model, "a SegmentNT, or a classifier of bases with one token a base")
    model.add_argument(
        "--window",
        type=whole_number,
        metavar="BP",
        help="bp read at once (default: the longest sequence of the training, where known; of a SegmentNT 30 kb, and "
        "beyond that its positions are rescaled)",
    )
    model.add_argument(
        "--overlap",
        type=int,
        metavar="BP",
        help="bp that neighbouring windows share; each base comes from the window in whose middle it is (default: half "
        "a window, of a SegmentNT a fifth)",
    )
    model.add_argument(
        "--average_strands",
        action="store_true",
        help="average the probabilities for each window and for its reverse complement",
    )
    model.add_argument("--batch_size", type=whole_number, help="windows a step (default: 1, or 8192 bases)")
    add_devices(model)
    _add_shard(model)
    output = parser.add_argument_group("output")
    add_out(
        output,
        "the folder for the tracks; or a file: .bed, .tsv, .csv or .parquet has where features are, .bedgraph or .bw "
        "the track of one",
        "FOLDER_OR_FILE",
    )
    output.add_argument(
        "--track", metavar="NAME", help="the feature that a file is about (default: all; a track has one)"
    )
    output.add_argument(
        "--threshold", type=share, default=0.5, help="lowest probability at which a BED file or table has a feature"
    )
    output.add_argument(
        "--precision",
        type=float,
        default=0.001,
        help="what probabilities are rounded to, when features are found; 0: not at all",
    )
    output.add_argument(
        "--format",
        dest="track_format",
        choices=TRACK_FORMATS,
        help="format of the tracks in a folder (default: bigwig)",
    )
    output.add_argument("--arrays", action="store_true", help="also write the probabilities of each region as npz")
    output.add_argument(
        "--locus", metavar="CONTIG:START-END", help="what locus.png shows (default: the first region, at most 100 kb)"
    )
    parser.add_common()
    arguments = parser.parse(argv)
    if arguments.model is None:
        parser.error("missing: --model")

    def work(
        model: str,
        genome: str,
        slices: bool,
        out: str,
        overwrite: bool,
        shard: tuple[int, int] | None,
        **options: Any,
    ) -> Answer | None:
        team = join()

        def share_out() -> tuple[int, int] | Member | None:
            return _share_out("segment", argv, team, shard, options)

        if names_file(out, "segment"):
            return _segment_to_file(model, Genome(genome, slices), out, overwrite, share_out, options)
        check_input_files(genome, options["regions"])
        folder = check_output_folder(out, "segment.json", overwrite)
        if not overwrite and not (folder / "partial" / "settings.json").is_file():  # else it goes on with a run
            check_free(folder, ["features.bed", "locus.png", "*.bw", "*.bedgraph", "arrays/*.npz"])
        model = find_model(model)
        if (share := share_out()) is None:
            return None
        import json

        from gengram.pipelines.segment_genome import SUMMARY_FILE, segment_genome

        path = segment_genome(model, Genome(genome, slices), out, shard=share, **options)
        if path != Path(out):
            return _answer_shard(share, path, {"out": out, "model": model, "genome": genome})
        summary = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))
        return Answer(str(path), {"out": str(path), **summary})

    return run(parser, arguments, work)


def _segment_to_file(
    model: str,
    genome: Genome,
    out: str,
    overwrite: bool,
    share_out: Callable[[], tuple[int, int] | Member | None],
    options: dict[str, Any],
) -> Answer | None:
    path = check_output(out, "segment", overwrite)
    check_input_files(genome.path, options["regions"])
    check_apart(out, genome.path, options["regions"])
    model = find_model(model)
    if (share := share_out()) is None:
        return None
    from gengram.genome.row_files import count_rows
    from gengram.pipelines.segment_genome import segment_genome

    written = segment_genome(model, genome, out, shard=share, **options)
    answer = {"out": str(path), "model": model, "genome": str(genome), "renamed_contigs": genome.renamed}
    if written != path:
        return _answer_shard(share, written, answer)
    if path.suffix.lower() == ".bw":
        return Answer(str(path), answer)
    rows, columns = count_rows(path)
    return Answer(str(path), {**answer, "rows": rows, "columns": columns})


def _seed(text: str) -> int:
    """Type of an argument: a seed of a run."""
    if not re.fullmatch("[0-9]{1,20}", text):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: give the number of a seed")
    return int(text)


def _seeds(text: str) -> int | str:
    """Type of an argument: a seed of a run, or `all`."""
    try:
        return text if text == "all" else _seed(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from error


def _add_sequences(group: Any) -> None:
    group.add_argument(
        "--sequence_column", metavar="NAME", help="column of sequences (default: sequence, else seq, ...)"
    )
    add_genome(group)
    add_max_non_dna(group, MAX_NON_DNA)


def _open_genome(options: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Put the genome with `--slices` in the place of its path; returns what the answer says of it, when it is read.

    Raises:
        `InputError`: `--slices` without a genome.
    """
    slices = options.pop("slices")
    if options["genome"] is None:
        if slices:
            raise InputError("--slices are records of a genome: give its FASTA file with --genome")
        return {}
    options["genome"] = genome = Genome(options["genome"], slices)
    return {"renamed_contigs": genome.renamed}


def _add_shard(group: Any) -> None:
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="of N processes that share --out, this is number I, from 1: each does a part of the work, and the last "
        "one to end writes the output",
    )


def _shard(text: str) -> tuple[int, int]:
    """Type of an argument: `2/8`."""
    match = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: give the number of this process and of all, as 1/8 to 8/8")
    return index, count


def _share_out(
    verb: str, argv: Sequence[str] | None, team: Team | None, shard: tuple[int, int] | None, options: dict[str, Any]
) -> tuple[int, int] | Member | None:
    """Return what this process does of the work, and choose its device; None if others have done all of it.

    Raises:
        `InputError`: `--shard` beside other ways to share the work; devices that there are not.
    """
    if team is not None:
        if shard:
            raise InputError(
                f"--shard is for processes that know nothing of each other, and these are {team.size} that "
                "share the work by themselves; leave it out"
            )
        from gengram.pipelines.devices import choose_own
        from gengram.pipelines.processes import watch_starter

        watch_starter()
        options["devices"] = choose_own(options["devices"], team)
        return Member(team)
    from gengram.pipelines.devices import is_told_to_use_cpus, list_devices

    if is_told_to_use_cpus() and "MASTER_PORT" in os.environ:
        tell(
            "accelerate launch --cpu has started one process, whatever --num_processes says; --multi_gpu in its place "
            "starts several, on CPUs too, and so does --devices cpu:2"
        )
    devices = list_devices(options["devices"])
    if len(devices) == 1:
        (options["devices"],) = devices
        return shard or (1, 1)
    if shard:
        raise InputError(
            "a --shard is one process: give each device a shard of its own, with --devices cuda:0 and so on"
        )
    from gengram.pipelines.processes import run_processes

    run_processes([verb, *(sys.argv[1:] if argv is None else argv)], devices)
    return None


def _answer_shard(share: tuple[int, int] | Member, folder: Path, answer: dict[str, Any]) -> Answer | None:
    """What a shard answers that is not the last one to end; of processes that share the work the main one answers."""
    if isinstance(share, Member):
        return None
    index, count = share
    text = f"shard {index}/{count} is done; its parts are in {folder}"
    return Answer(text, {**answer, "shard": f"{index}/{count}", "parts": str(folder)})


def _add_limits(group: Any, choices: Sequence[str], what: str) -> None:
    group.add_argument("--max_length", type=whole_number, metavar="TOKENS", help="longest input (default: the model's)")
    group.add_argument("--too_long", choices=choices, default="error", help=f"longer sequences: {what}")


__all__ = ["embed", "predict", "segment"]
