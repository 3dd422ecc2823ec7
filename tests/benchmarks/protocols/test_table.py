"""The table of protocols: names, versions, settings that have defaults, and functions that are there."""

import dataclasses
import importlib
import inspect

import pytest

from gengram.benchmarks.protocols.table import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_whole(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name and protocol.version >= 1 and protocol.title and protocol.source
    protocol.settings()
    for field in dataclasses.fields(protocol.settings):
        assert field.metadata.get("help"), field.name
    module, function = protocol.run.split(":")
    parameters = list(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
    assert parameters == ["model", "task", "settings", "seeds", "cache"]


def test_the_published_defects_are_told():
    assert "test rows" in PROTOCOLS["genos-probe-compat"].warning and "TEST" in PROTOCOLS["genos-probe-compat"].title
    assert not PROTOCOLS["genos-probe"].warning
