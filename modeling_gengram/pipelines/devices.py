"""Which devices does `--devices` mean, and which of them is this process's own?"""

import os
import re

from gengram.errors import InputError
from gengram.team import Team


def list_devices(text: str | None) -> list[str | None]:
    """Return the device of each process that shares the work; None is an accelerator if there is one.

    Args:
        text: `2`: so many accelerators, and where there is none so many processes on the CPUs; `0,2` or
            `cuda:0,cuda:2`: these; `all`: all accelerators; `cpu:4`: four processes on the CPUs. Anything else is one
            device by its name.

    Raises:
        `InputError`: there are no such devices here, or they are of several kinds.
    """
    if match := re.fullmatch("cpu:0*([0-9]+)", text or ""):
        if len(match[1]) > 3:
            raise InputError(f"--devices {text}: give the number of processes, at most 999")
        return ["cpu"] * max(1, int(match[1]))
    if text is None:
        return ["cpu"] if is_told_to_use_cpus() else [None]
    if not re.fullmatch("[0-9]+|all|.*,.*", text, re.DOTALL):
        return [text]
    kind, count = _find_accelerators()
    if text == "all":
        return [f"{kind}:{index}" for index in range(count)] or [None]
    if text.isdecimal():
        return _take_first(text, kind, count)
    devices: list[str | None] = []
    for item in text.split(","):
        name = f"{kind}:{int(item)}" if re.fullmatch("[0-9]{1,4}", item) and count else item
        if name != "cpu" and not (re.fullmatch(f"{kind}:[0-9]{{1,4}}", name) and int(name.split(":")[1]) < count):
            raise InputError(f"--devices {text}: there is no device {item!r} here; {_describe(kind, count)}")
        devices.append(name)
    if "cpu" in devices and set(devices) != {"cpu"}:
        raise InputError(f"--devices {text}: devices of two kinds give two kinds of numbers; take those of one kind")
    return devices


def choose_own(text: str | None, team: Team) -> str | None:
    """Return the device of one of several processes, by its number on its machine.

    Args:
        text: of `--devices`; without it, or with the name of a kind, each process has an accelerator of its own as far
            as there are enough.
        team: the processes.

    Raises:
        `InputError`: see `list_devices`.
    """
    kind, count = _find_accelerators()
    if count and (text == kind or (text is None and not is_told_to_use_cpus())):
        return f"{kind}:{team.local_rank % count}"
    devices = list_devices(text)
    return devices[team.local_rank % len(devices)]


def is_told_to_use_cpus() -> bool:
    """Whether `accelerate launch --cpu`, or a configuration of accelerate, has started this process."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"


def _take_first(text: str, kind: str, count: int) -> list[str | None]:
    if not re.fullmatch("0*[1-9][0-9]{0,2}", text):
        first = f"; the first device is {kind}:0" if count else ""
        raise InputError(f"--devices {text}: give the number of devices, from 1 to 999{first}")
    number = int(text)
    if count and number > count:
        raise InputError(f"--devices {text}: there are fewer; {_describe(kind, count)}")
    return [f"{kind}:{index}" if count else "cpu" for index in range(number)]


def _describe(kind: str, count: int) -> str:
    if not count:
        return "there is the CPU: for two processes on it write cpu:2"
    return f"there is {kind}:0" if count == 1 else f"there are {kind}:0 to {kind}:{count - 1}"


def _find_accelerators() -> tuple[str, int]:
    """Return of what kind the accelerators of this machine are, and how many; `cpu` and 0 without one."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return (found.type, torch.accelerator.device_count()) if found is not None else ("cpu", 0)


__all__ = ["choose_own", "is_told_to_use_cpus", "list_devices"]
