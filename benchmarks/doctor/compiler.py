"""Which compiler is found, and does it start?"""

import os
import shutil
import subprocess

from gengram.benchmarks.doctor.facts import Fact, Step

GROUP = "libraries"


def list_steps() -> list[Step]:
    """One."""
    return [Step(GROUP, "C++ compiler", examine_compiler)]


def examine_compiler() -> Fact:
    """The one that the C++ kernels, torch.compile and Triton use; whether it compiles, the kernels tell."""
    given = os.environ.get("CXX")
    found = given or next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    data = {"CXX": given, "compiler": found}
    remedy = "install one (apt-get install g++, conda install cxx-compiler), or name one in the variable CXX"
    if found is None:
        return Fact(GROUP, "C++ compiler", "none on the path (c++, g++, clang++)", "fails", remedy, data)
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        return Fact(GROUP, "C++ compiler", f"{found} does not start: {error}", "fails", remedy, data)
    version = said.strip().splitlines()[0] if said.strip() else "of unknown version"
    return Fact(GROUP, "C++ compiler", f"{found}: {version}", data={**data, "version": version})


__all__ = ["examine_compiler", "list_steps"]
