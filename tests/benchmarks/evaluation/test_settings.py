"""Settings of protocols as flags of the verb."""

import dataclasses
from typing import Literal

import pytest

from gengram.benchmarks.evaluation.settings import add_settings, read_settings
from gengram.benchmarks.protocols.table import PROTOCOLS, Protocol
from gengram.command_line import VerbParser
from gengram.errors import InputError


@dataclasses.dataclass(frozen=True)
class First:
    """Of one protocol."""

    layers: tuple[int, ...] | Literal["all", "last"] = "last"
    rate: float | None = None
    steps: int = 5
    kind: Literal["a", "b"] = "a"
    fast: bool = True

    def __post_init__(self):
        if self.steps < 0:
            raise InputError(f"steps={self.steps}: give more")


@dataclasses.dataclass(frozen=True)
class Second:
    """Of another one."""

    layers: tuple[int, ...] | Literal["all", "last"] = "all"
    names: tuple[str, ...] = ()


@pytest.fixture
def read(monkeypatch):
    """Words -> settings of the protocol `first`, or `second`."""
    monkeypatch.setattr("gengram.benchmarks.evaluation.settings.PROTOCOLS", table := {})
    for name, settings in (("first", First), ("second", Second)):
        table[name] = Protocol(name, 1, name, "", True, settings, "x:y")

    def read(*words: str, protocol: str = "first"):
        parser = VerbParser("v", usage="", description="", example="gengram v")
        add_settings(parser)
        parser.add_common()
        options = vars(parser.parse(list(words)))
        return read_settings(table[protocol], options)

    return read


def test_values_have_the_kinds_of_the_fields(read):
    assert read() == First()
    assert read("--layers", "1", "-1", "--rate", "1e-3", "--steps", "7", "--kind", "b", "--no-fast") == First(
        layers=(1, -1), rate=1e-3, steps=7, kind="b", fast=False
    )
    assert read("--layers", "all").layers == "all" and read("--layers", "3").layers == (3,)
    assert read("--names", "x", "y", protocol="second").names == ("x", "y")
    assert read(protocol="second") == Second()  # the default of this protocol, not of the other


def test_a_setting_of_another_protocol_is_refused_and_not_ignored(read):
    with pytest.raises(InputError, match=r"--names is no setting of first, but of second. Its own: --layers, --rate"):
        read("--names", "x")
    with pytest.raises(InputError, match="steps=-3: give more"):
        read("--steps", "-3")


@pytest.mark.parametrize("words", [["--rate", "nan"], ["--rate", "x"], ["--steps", "1.5"], ["--kind", "c"]])
def test_values_that_are_none_end_with_2(read, words):
    with pytest.raises(SystemExit, match="2"):
        read(*words)


def test_help_names_the_protocols_of_a_setting_and_their_defaults(read, capsys):
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "last in first, all in second" in text and "(second)" in text and "default: yes" in text


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_protocol_can_be_declared(protocol):
    parser = VerbParser("v", usage="", description="", example="gengram v")
    add_settings(parser)
    assert read_settings(protocol, vars(parser.parse([]))) == protocol.settings()
