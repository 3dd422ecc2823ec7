"""Every verb that writes, interrupted: full disks, limits, kills, signals, pipes and folders that cannot be written to.

The outcomes are the table of docs/interruptions.md; with WRITE_TABLES in the environment they are written there.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "interruptions.md"
SERVER = Path(__file__).with_name("interrupted_verbs.py")
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LIMITS, KILLS = 10, 5
TEMPORARY = 2000  # bytes; less than what a verb without an output has in between
FULL = (" are free on this disk", "No space left on device", "File too large")


class Verb(NamedTuple):
    """How a verb is called, and what it promises.

    Attributes:
        line: of the command, from its working folder on; `{things}` is where its input is.
        out: what it writes.
        keeps: names of what may stay after an error, so that the next run goes on from there.
        again: flags with which the next run does so.
        replaces: whether what is there stays until all is written.
    """

    line: str
    out: str
    keeps: str = ""
    again: str = ""
    replaces: bool = True


TRAIN = (
    "--train_file {things}/tables/train.csv --backbone bert --num_train_epochs 2 --use_cpu --save_strategy epoch "
    f"--backbone_config {shlex.quote(json.dumps(SIZE))}"
)
VERBS = {
    "finetune": Verb(f"finetune {TRAIN}", "run", "partial/checkpoint-", "--resume_from_checkpoint", False),
    "predict": Verb("predict {things}/tables/train.csv --model {things}/run", "p.parquet", ".parts/"),
    "predict --json": Verb(
        "predict {things}/tables/train.csv --model {things}/run --json a.json", "p.parquet", "p.parquet"
    ),
    "predict --too_long window": Verb(
        "predict {things}/genome.fa --model {things}/run --too_long window --stride 2", "w.parquet", ".parts/"
    ),
    "embed": Verb("embed {things}/tables/train.csv --model {things}/run", "v.safetensors", ".parts/"),
    "segment": Verb(
        "segment {things}/genome.fa --model {things}/segment_nt --window 480 --overlap 240 --arrays", "t", "t/"
    ),
    "card": Verb("card lab/model --model {things}/run", "card.md"),
    "train-tokenizer": Verb("train-tokenizer {things}/genome.fa --vocab_size 20 --sample 10000", "bpe"),
    "convert megatron": Verb("convert megatron {things}/megatron --max_shard_size 20KB", "hf", ".partial/"),
    "convert to-megatron": Verb("convert to-megatron {things}/causal", "back"),
    "quickstart": Verb("quickstart", "quick", again="--overwrite", replaces=False),
    "corpus build": Verb("corpus build {things}/corpus.yaml", "c", ".partial/"),
    "dataset build": Verb(
        "dataset build species-windows --genome worm={things}/worm.fa fly={things}/fly.fa --length 200 --block 1000",
        "b",
    ),
    "dataset push": Verb("dataset push {things}/tables lab/data --dry_run", ""),
}
SITUATIONS = ["disk full", "file limit", "kill -9", "SIGINT", "SIGTERM", "closed pipe", "read-only"]
# What `make test` runs; the others are slow.
QUICK = {("predict", "file limit"), ("embed", "kill -9"), ("convert to-megatron", "SIGINT"), ("predict", "read-only")}
QUICK |= {("convert to-megatron", "file limit"), ("embed", "disk full")}


class Server:
    """Runs verbs; see `interrupted_verbs.py`."""

    def __init__(self, things: dict[str, str]):
        self.things = str(Path(things["run"]).parent)
        apart = ["unshare", "-Urm"]
        self.mounts = (
            not subprocess.run([*apart, "true"], capture_output=True).returncode if shutil.which("unshare") else False
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [*(apart if self.mounts else ()), sys.executable, str(SERVER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **request: Any) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def mount(self, folder: Path, options: str) -> None:
        fault = self.ask(do="mount", folder=str(folder), options=options)["fault"] if self.mounts else "no unshare"
        if fault:
            pytest.skip(f"no file system can be mounted here: {fault}")

    def shell(self, line: str) -> None:
        assert self.ask(do="shell", line=line)["code"] == 0

    def run(self, verb: Verb, folder: Path, more: str = "", **options: Any) -> dict[str, Any]:
        out = f"--out {verb.out}" if verb.out else ""
        words = shlex.split(f"{verb.line.replace('{things}', self.things)} {out} --quiet {more}")
        return self.ask(do="run", words=words, folder=str(folder), **options)


@pytest.fixture(scope="session")
def server(things):
    server = Server(things)
    yield server
    server.process.stdin.close()
    server.process.wait()


def make_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    (folder / "tmp").mkdir(parents=True)
    return folder


def check_left(verb: Verb, done: dict[str, Any], before: dict[str, Any], killed: bool = False) -> str:
    """What a verb that did not come to its end has left: all is whole, and what was there still is; in a few words."""
    faults = {name: fault for name, (_, _, fault) in done["files"].items() if fault}
    assert not faults, faults
    if verb.replaces:
        changed = {name for name, known in before.items() if done["files"].get(name) != known}
        assert not changed, (changed, done["told"])
    new = done["files"].keys() - before.keys() if verb.replaces else done["files"].keys()
    kept = {name for name in new if verb.keeps and verb.keeps in name}
    if trained := [name for name in new if name.endswith("/trained.json")]:  # the model is whole, but not measured yet
        kept |= {name for name in new if name.startswith(trained[0].removesuffix("trained.json"))}
    others = new - kept
    if killed:
        finished = {name for name in others if ".partial" not in name and not name.startswith("tmp/")}
        return "temporary files" if others - finished else "parts" if kept else "nothing"
    if kept:  # and what says what they are parts of
        others = {name for name in others if Path(name).name not in ("unfinished.json", "complete.json")}
    if not verb.replaces and before:
        others -= before.keys()
    if others == {verb.out} and done["code"] in (130, 143):  # the signal came when all was written
        return "the result"
    assert not others, (others, done["told"])
    return "parts" if kept else "nothing"


def interrupt(verb: Verb, situation: str, server: Server, tmp_path: Path, points: int) -> set[str]:
    """Outcomes of a verb in a situation at some points: exit code and what is left."""
    whole = make_folder(tmp_path, "whole")
    reference = server.run(verb, whole)
    assert reference["code"] == 0, reference["told"]
    sizes = [size for size, _, _ in reference["files"].values()] or [TEMPORARY]
    outcomes = set()
    for point in range(1, points + 1):
        share = point / (points + 1)
        folder = make_folder(tmp_path, f"{situation.replace(' ', '-')}-{point}")
        if situation == "disk full":
            server.mount(folder, f"size={4 * max(1, int(share * sum(-(-size // 4096) for size in sizes)))}k")
            server.shell(f"mkdir {shlex.quote(str(folder))}/tmp")
        options: dict[str, Any] = {}
        more, before = "", {}
        if point % 2 == 0 and verb.out and situation != "disk full":  # something is there already
            before = server.run(verb, folder)["files"]
            more = "--overwrite"
        if situation == "file limit":
            options["limit"] = int(share * max(sizes))
        elif situation in ("kill -9", "SIGINT", "SIGTERM"):
            options["number"] = {"kill -9": signal.SIGKILL, "SIGINT": signal.SIGINT}.get(situation, signal.SIGTERM)
            options["moment"] = max(1, int(share * reference["changes"]))
        elif situation == "closed pipe":
            options["closed"] = True
        elif situation == "read-only":
            server.mount(folder, "size=16k,ro")
        done = server.run(verb, folder, more, **options)
        assert "Traceback" not in done["told"] and "panicked" not in done["told"], done["told"]
        code = done["code"]
        if code == 0 and situation == "disk full":
            continue  # what is only in between took less than that
        if situation in ("disk full", "file limit"):
            assert code == 1 and any(words in done["told"] for words in FULL), done
            assert not verb.out or verb.out in done["told"] or "a.json" in done["told"], done["told"]
        if situation == "closed pipe":
            assert {name: known[2] for name, known in done["files"].items()} == dict.fromkeys(reference["files"])
            outcomes.add(f"{code}, the result")
            continue
        killed = situation == "kill -9"
        outcomes.add(f"{'' if killed else f'{code}, '}{check_left(verb, done, before, killed)}")
        if killed or verb.keeps:
            if situation in ("disk full", "read-only"):
                continue
            there = any(name.split("/")[0] == verb.out for name in done["files"])
            again = "--overwrite" if verb.again != "--resume_from_checkpoint" and there else verb.again
            next_one = server.run(verb, folder, again)
            assert next_one["code"] == 0, next_one["told"]
            stays = {name for name in next_one["files"] if "partial" in name or ".parts" in name}
            stays -= {name for name in done["files"] if name.startswith("tmp/")}  # the system clears it
            assert not stays, stays
            missing = {name for name in reference["files"] if name not in next_one["files"]}
            assert not missing, missing
    return outcomes


def describe(outcomes: set[str]) -> str:
    return "; ".join(sorted(outcomes)) or "0"


def read_cells() -> dict[tuple[str, str], str]:
    """The cells of the table in the page."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    table = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in VERBS}
    return {(verb, name): cell.strip() for verb, cells in table.items() for name, cell in zip(SITUATIONS, cells)}


def write_cell(verb: str, situation: str, found: str) -> None:
    lines = PAGE.read_text().splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith(f"| `{verb}` |"))
    cells = lines[row].split(" | ")
    cells[1 + SITUATIONS.index(situation)] = found + (" |" if situation == SITUATIONS[-1] else "")
    lines[row] = " | ".join(cells)
    PAGE.write_text("\n".join(lines) + "\n")


def pick_points(situation: str) -> int:
    if situation in ("closed pipe", "read-only"):
        return 1
    return LIMITS if situation in ("disk full", "file limit") else KILLS


@pytest.mark.parametrize(("verb", "situation"), [(verb, situation) for verb in VERBS for situation in SITUATIONS])
@pytest.mark.slow
def test_the_table_of_the_page_is_what_happens(verb, situation, server, tmp_path):
    found = describe(interrupt(VERBS[verb], situation, server, tmp_path, pick_points(situation)))
    if os.environ.get("WRITE_TABLES"):
        write_cell(verb, situation, found)
    assert found == read_cells()[verb, situation]


@pytest.mark.parametrize(("verb", "situation"), sorted(QUICK))
def test_a_part_of_the_table(verb, situation, server, tmp_path):
    found = interrupt(VERBS[verb], situation, server, tmp_path, min(2, pick_points(situation)))
    assert found <= set(read_cells()[verb, situation].split("; "))
