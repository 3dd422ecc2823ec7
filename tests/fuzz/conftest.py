"""Test folders are no packages: the files beside this one are found by the folder's place on the path, here and in the
processes that are forked for each input."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def sound() -> Iterator[Path]:
    """A folder with a sound file of every kind, which other users may read too: some inputs are read without rights."""
    from sound import make_sound

    root = Path(tempfile.mkdtemp(prefix="sound-"))
    root.chmod(0o755)
    yield make_sound(root / "files")
    shutil.rmtree(root)
