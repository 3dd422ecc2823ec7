"""What the pages say can be done: examples run, commands are understood, names and links lead somewhere.

The Python blocks of a page are one program: they run in order, in one process, in an empty folder, without the network.
Of commands with data or models that are not here, the verb's own parser reads every word; nothing is computed.
"""

import functools
import gzip
import importlib.util
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template

import pyarrow.parquet
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from gengram.cli import VERBS, main
from gengram.training.corpus.recipe import read_corpus_recipe
from gengram.training.pretraining.command import parse_arguments as parse_pretraining
from gengram.training.pretraining.stages import read_stages

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ASSIGNMENT = re.compile(r"[A-Z_]+=")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line number of the first line, text) of every fenced block in that language."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start(2)].count("\n") + 1, match[2]) for match in FENCE.finditer(text) if match[1] == language
    ]


def read_commands(page: Path) -> list[list[str]]:
    """The words of each command of a page's bash blocks: continued lines joined, comments dropped, and `NAME=value` of
    an earlier line put in the place of `$NAME`."""
    lines = "\n".join(text for _, text in read_blocks(page, "bash")).replace("\\\n", " ").splitlines()
    commands, values = [], dict[str, str]()
    for line in lines:
        words = [Template(word).safe_substitute(values) for word in shlex.split(line, comments=True)]
        if words and all(ASSIGNMENT.match(word) for word in words):
            values |= dict(word.split("=", 1) for word in words)
        elif words:
            commands.append(words)
    return commands


def read_verbs(page: Path) -> list[list[str]]:
    """What follows `gengram` in a page's commands; `python -m gengram.cli` is the same."""
    found = []
    for words in read_commands(page):
        while ASSIGNMENT.match(words[0]):
            words = words[1:]
        if words[0] == "gengram":
            found.append(words[1:])
        elif "gengram.cli" in words:
            found.append(words[words.index("gengram.cli") + 1 :])
    return found


def split_verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb, of one word or two, and what follows it."""
    length = next((length for length in (2, 1) if " ".join(words[:length]) in VERBS), 0)
    assert length, f"there is no verb {words}"
    return " ".join(words[:length]), words[length:]


@functools.cache
def list_flags() -> set[str]:
    """All flags of all verbs, with underscores."""
    shown = "\n".join(ask_help(verb) for verb in VERBS)
    return {flag.replace("-", "_") for flag in re.findall(r"--[a-z][\w-]*", shown)}


@functools.cache
def ask_help(verb: str) -> str:
    command = [sys.executable, "-m", "gengram.cli", *verb.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_is_among_the_pages_and_names_the_two_commands():
    commands = read_commands(ROOT / "README.md")
    assert ["make", "quickstart"] in commands and ["make", "test"] in commands
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


@pytest.mark.parametrize("page", [page for page in PAGES if read_verbs(page)], ids=name_page)
def test_gengram_commands_are_understood(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _, text in read_blocks(page, "yaml"):
        if name := re.match(r"# (\S+\.yaml)\n", text):
            Path(name[1]).write_text(text, encoding="utf-8")
    for words in read_verbs(page):
        verb, _ = split_verb(words)
        command = importlib.import_module(VERBS[verb].function.split(":")[0])
        monkeypatch.setattr(command, "run", lambda parser, arguments, work: 0)
        try:
            assert main([word for word in words if word != "--bf16"]) == 0  # transformers asks for a GPU
        except SystemExit as end:
            pytest.fail(f"`gengram {shlex.join(words)}` ends with exit code {end.code}")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"] == []


@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(page, "yaml")], ids=name_page)
def test_recipes_in_the_text_are_read(page, tmp_path):
    for number, (_, text) in enumerate(read_blocks(page, "yaml")):
        recipe = tmp_path / f"{number}.yaml"
        recipe.write_text(text, encoding="utf-8")
        keys = yaml.safe_load(text).keys()
        if "genomes" in keys:
            assert read_corpus_recipe(recipe, tmp_path).recipe.genomes
        elif "stages" in keys:
            arguments = parse_pretraining([str(recipe), "--corpus", str(tmp_path), "--use_cpu"])
            assert all(stage.tokens > 0 for stage in read_stages(*arguments))


def test_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """Those that need no network, in their order, on a small table."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    sequences = ["".join(draw.choices("ACGT", k=30)) for _ in range(40)]
    labelled = [f"{sequence},{index % 2}" for index, sequence in enumerate(sequences)]
    for name, lines in (("train.csv", labelled[:30]), ("test.csv", labelled[30:]), ("new.csv", labelled)):
        Path(name).write_text("\n".join(["sequence,label", *lines]) + "\n")
    Path("sequences.fa").write_text("".join(f">{index}\n{bases}\n" for index, bases in enumerate(sequences)))
    Path("genome.fa").write_text(f">chr1\n{''.join(sequences)}\n")
    Path("yeast").mkdir()
    records = "".join(f">{name}\n{''.join(draw.choices('ACGT', k=3000))}\n" for name in ("XIV", "XV"))
    Path("yeast/chromosomes.fa.gz").write_bytes(gzip.compress(records.encode()))
    [(_, recipe)] = read_blocks(ROOT / "README.md", "yaml")
    Path("yeast.yaml").write_text(recipe)
    absent = {"InstaDeepAI/segment_nt", "quick"}  # a model of the Hub, a suite's data
    commands = [words for words in read_verbs(ROOT / "README.md") if not absent & set(words)]
    assert [words[0] for words in commands] == [
        *["finetune", "predict", "embed", "predict", "push"],
        *["corpus", "pretrain", "evaluate", "leaderboard"],
    ]
    fewer = ["--steps", "1", "--blocks_per_step", "2", "--eval_bases", "1000", "--use_cpu"]
    more = {"pretrain": fewer, "evaluate": ["--cache", "cache"]}
    for words in commands:
        assert main(words + more.get(words[0], [])) == 0, capsys.readouterr().err
    assert Path("runs/yeast/pretraining.json").exists() and Path("runs/yeast/model.safetensors").exists()
    assert len(Path("predictions.tsv").read_text().splitlines()) == 41
    assert "baseline:kmer" in Path("leaderboard.md").read_text()
    assert len(Path("windows.tsv").read_text().splitlines()) == 80  # 1200 bp, a window of 30 bp every 15
    assert pyarrow.parquet.read_metadata("embeddings.parquet").num_rows == 40
    assert Path("embeddings.json").exists() and "model.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_flags_in_the_text_exist(page):
    named = {flag for words in read_commands(page) if words[0] == "python" for flag in words if flag.startswith("--")}
    for _, code in re.findall(r"(?<!`)(`+)(?!`)([^`\n]+)\1(?!`)", page.read_text(encoding="utf-8")):
        named |= set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
    programs = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").glob("*/program.py")]  # `make ... ARGUMENTS=`
    programs += (ROOT / "tests").glob("*/*_table.py")
    flags = "\n".join(path.read_text(encoding="utf-8") for path in programs)
    other = set(re.findall(r"\"(--[a-z][\w-]*)\"", flags))
    for launcher in (launch_command_parser(), get_args_parser()):  # accelerate launch, torchrun
        other |= {flag for action in launcher._actions for flag in action.option_strings}
    assert sorted(flag for flag in named if flag.replace("-", "_") not in list_flags() and flag not in other) == []


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_modules_in_the_text_exist(page):
    names = set(re.findall(r"\bgengram(?:\.[a-z_]\w*)+\b(?!\.(?:py|md))", page.read_text(encoding="utf-8")))
    assert sorted(name for name in names - {"gengram.something"} if not is_there(name)) == []


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.util.find_spec(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        if found is not None:
            thing = importlib.import_module(".".join(parts[:length])) if length < len(parts) else None
            return length == len(parts) or (length == len(parts) - 1 and hasattr(thing, parts[-1]))
    return False


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in read_commands(page) if words[0] == "make" and words[1:]}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_to_headings_lead_somewhere(page):
    missing = []
    for file, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target = (page.parent / file if file else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", FENCE.sub("", target), re.MULTILINE)
        # As GitHub makes them: lower case, no punctuation, hyphens for blanks.
        if anchor not in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}:
            missing.append(f"{file}#{anchor}")
    assert missing == []
