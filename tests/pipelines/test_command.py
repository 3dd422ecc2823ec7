"""The verbs' help is read without torch, so choices are spelled out there; they are those of the functions."""

import inspect
from typing import get_args

from gengram.benchmarks import command as benchmarks
from gengram.benchmarks.speed import step
from gengram.command_line import SEQUENCE_FILES
from gengram.genome.formats import SUFFIXES
from gengram.genome.tracks import TrackFormat
from gengram.pipelines import command, embed_file
from gengram.pipelines.embed import POOLS
from gengram.pipelines.segment_genome import SUMMARY_FILE, segment_genome


def read_default(function, name: str):
    return inspect.signature(function).parameters[name].default


def test_choices_are_those_of_the_functions():
    assert command.POOLS == POOLS
    assert ("auto", *embed_file.DTYPES) == command.DTYPES
    assert get_args(TrackFormat) == command.TRACK_FORMATS
    assert tuple(step.DTYPES) == benchmarks.BENCH_DTYPES
    assert [suffix for suffix in SUFFIXES if suffix not in SEQUENCE_FILES] == []


def test_defaults_are_those_of_the_functions(monkeypatch, tmp_path):
    seen = {}
    (tmp_path / "genome.fa").write_text(">a\nACGT\n")

    def keep(parser, arguments, work):
        seen.update(vars(arguments))
        return 0

    monkeypatch.setattr(command, "run", keep)
    command.segment(["genome.fa", "--model", "m", "--out", "o"])
    for name in (
        "window",
        "overlap",
        "batch_size",
        "unknown",
        "threshold",
        "track_format",
        "arrays",
        "locus",
        "devices",
    ):
        assert seen[name] == read_default(segment_genome, name), name
    command.embed(["a.fa", "--model", "m", "--out", "o.npz"])
    assert seen["batch_tokens"] is None and seen["dtype"] == read_default(embed_file.embed_file, "dtype")
    assert SUMMARY_FILE == "segment.json"
