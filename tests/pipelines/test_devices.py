"""`--devices`: how many processes, and on what each of them computes."""

import pytest

from gengram.errors import InputError
from gengram.pipelines import devices as module
from gengram.pipelines.devices import choose_own, list_devices
from gengram.team import Team


@pytest.fixture
def have(monkeypatch):
    """Give this machine accelerators."""

    def give(count: int, kind: str = "cuda") -> None:
        monkeypatch.setattr(module, "_find_accelerators", lambda: (kind, count) if count else ("cpu", 0))

    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    give(0)
    return give


CUDA = ["cuda:0", "cuda:1", "cuda:2"]


@pytest.mark.parametrize(
    ("text", "with_three", "without"),
    [
        (None, [None], [None]),
        ("cpu", ["cpu"], ["cpu"]),
        ("cpu:0", ["cpu"], ["cpu"]),
        ("cpu:3", ["cpu"] * 3, ["cpu"] * 3),
        ("cpu:003", ["cpu"] * 3, ["cpu"] * 3),
        ("cpu:1000", "number of processes, at most 999", "at most 999"),
        ("cpu:", ["cpu:"], ["cpu:"]),
        ("cpu,cpu", ["cpu"] * 2, ["cpu"] * 2),
        ("cuda", ["cuda"], ["cuda"]),
        ("cuda:1", ["cuda:1"], ["cuda:1"]),
        ("1", CUDA[:1], ["cpu"]),
        ("2", CUDA[:2], ["cpu"] * 2),
        ("03", CUDA, ["cpu"] * 3),
        ("all", CUDA, [None]),
        ("0,2", [CUDA[0], CUDA[2]], "no device '0' here; there is the CPU: .* write cpu:2"),
        ("cuda:2,0", [CUDA[2], CUDA[0]], "no device 'cuda:2'"),
        ("0,3", "no device '3' here; there are cuda:0 to cuda:2", "no device '0'"),
        ("0,", "no device '' here", "no device '0'"),
        ("cuda:0,xpu:1", "no device 'xpu:1'", "no device 'cuda:0'"),
        ("0,cpu", "two kinds", "no device '0'"),
        ("4", "there are fewer; there are cuda:0 to cuda:2", ["cpu"] * 4),
        ("0", "from 1 to 999; the first device is cuda:0", "from 1 to 999$"),
        ("1000", "from 1 to 999", "from 1 to 999"),
        ("٣", ["٣"], ["٣"]),
    ],
)
def test_what_is_given_and_what_it_means(text, with_three, without, have):
    for count, expected in ((3, with_three), (0, without)):
        have(count)
        if isinstance(expected, str):
            with pytest.raises(InputError, match=expected):
                list_devices(text)
        else:
            assert list_devices(text) == expected


@pytest.mark.parametrize(
    ("text", "with_three", "without"),
    [
        (None, CUDA + CUDA[:1], [None] * 4),
        ("cuda", CUDA + CUDA[:1], ["cuda"] * 4),
        ("cpu", ["cpu"] * 4, ["cpu"] * 4),
        ("cpu:2", ["cpu"] * 4, ["cpu"] * 4),
        ("cuda:1", ["cuda:1"] * 4, ["cuda:1"] * 4),
        ("0,2", ["cuda:0", "cuda:2"] * 2, None),
        ("all", CUDA + CUDA[:1], [None] * 4),
    ],
)
def test_each_process_has_its_own(text, with_three, without, have, monkeypatch):
    for count, expected in ((3, with_three), (0, without)):
        have(count)
        found = []
        for rank in range(4):
            monkeypatch.setenv("LOCAL_RANK", str(rank))
            if expected is not None:
                found.append(choose_own(text, Team(4 + rank, 8, None)))
        assert found == (expected or [])


def test_accelerate_can_ask_for_the_cpu(have, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for count in (0, 2):
        have(count)
        assert list_devices(None) == ["cpu"] and choose_own(None, Team(1, 2, None)) == "cpu"
    assert choose_own("0,1", Team(1, 2, None)) == "cuda:1"
