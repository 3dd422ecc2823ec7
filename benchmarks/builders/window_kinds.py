"""Kinds of tasks that are windows of a genome around a variant, a site or a bin."""

from gengram.benchmarks.builders.kinds import Kind

WINDOW_KINDS: dict[str, Kind] = {}

__all__ = ["WINDOW_KINDS"]
