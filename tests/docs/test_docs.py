"""What the pages say can be done: examples run, commands exist, links lead somewhere.

The Python blocks of a page are one program: they run in order, in one process, in an empty folder, without the network.
"""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gengram.cli import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line number of the first line, text) of every fenced block in that language."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start(2)].count("\n") + 1, match[2]) for match in FENCE.finditer(text) if match[1] == language
    ]


def read_commands(page: Path) -> list[str]:
    """The command lines of a page's bash blocks, continued lines joined, comments dropped."""
    lines = "\n".join(text for _, text in read_blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.join(shlex.split(line, comments=True)))]


@functools.cache
def ask_help(verb: str) -> str:
    done = subprocess.run([sys.executable, "-m", "gengram.cli", verb, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_is_among_the_pages_and_names_the_two_commands():
    commands = read_commands(ROOT / "README.md")
    assert "make quickstart" in commands and "make test" in commands
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(page, "python")], ids=name_page)
def test_python_blocks_run(page, tmp_path):
    # Blank lines stand for the prose, so that a traceback names the line of the page.
    program: list[str] = []
    for line, text in read_blocks(page, "python"):
        program += [""] * (line - 1 - len(program)) + text.splitlines()
    script = tmp_path / f"{page.stem}-page.py"  # not tokenizers.py: a script's folder comes first among the imports
    script.write_text("\n".join(program) + "\n", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, str(script)], cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{name_page(page)}:\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_gengram_commands_exist_with_their_options(page):
    for command in read_commands(page):
        program, *words = shlex.split(command)
        if Path(program).name != "gengram":
            continue
        if words == ["--version"] or words == ["--help"]:
            continue
        assert words and words[0] in VERBS, f"`{command}`: no such verb"
        options = [word.split("=")[0] for word in words[1:] if word.startswith("--")]
        unknown = [option for option in options if not re.search(rf"{re.escape(option)}\b", ask_help(words[0]))]
        assert not unknown, f"`{command}`: gengram {words[0]} --help does not know {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for command in read_commands(page) if (words := shlex.split(command))[0] == "make" and words[1:]}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
