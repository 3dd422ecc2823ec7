"""What docs/security.md promises about checkpoints: none of their code and none of their pickles runs, and no name in
them leads out of their folder."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch

from gengram.cli import main
from gengram.conversion.megatron_files import open_checkpoint
from gengram.errors import InputError

ROOT = Path(__file__).parents[2]


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def verbs(sound, tmp_path):
    """Run each verb that loads a model on a folder; returns the exit codes."""

    def run(model: Path) -> list[int]:
        table = str(sound / "table.csv")
        training = ["--train_file", table, "--label_column", "label", "--max_steps", "1", "--use_cpu"]
        return [
            main(["predict", table, "--model", str(model), "--out", str(tmp_path / "p.parquet")]),
            main(["embed", table, "--model", str(model), "--out", str(tmp_path / "e.npz")]),
            main(["finetune", "--model", str(model), *training, "--out", str(tmp_path / "run"), "--report_to", "none"]),
            main(["convert", "to-megatron", str(model), "--out", str(tmp_path / "back")]),
        ]

    return run


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["model", "causal"])
def test_code_beside_the_weights_is_not_run(sound, tmp_path, verbs, mark, name):
    model = shutil.copytree(sound / name, tmp_path / "model")
    for path in model.glob("*.py"):
        path.write_text(f"import os\nos.mkdir({str(mark)!r})\n" + path.read_text())
    verbs(model)
    assert not mark.exists()


def test_code_of_an_unknown_architecture_is_not_run(sound, tmp_path, verbs, mark, capsys):
    model = shutil.copytree(sound / "model", tmp_path / "model")
    (model / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    names = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")}
    edit(model / "config.json", model_type="evil", auto_map=names)
    edit(
        model / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Slow", "evil.Fast"]}
    )
    assert verbs(model) == [1, 1, 1, 1]
    assert not mark.exists() and "Traceback" not in capsys.readouterr().err


def test_pickles_are_not_executed(sound, tmp_path, verbs, mark, capsys):
    model = shutil.copytree(sound / "pickled", tmp_path / "model")
    for write in (
        lambda path: torch.save({"w": Bomb(mark)}, path),
        lambda path: path.write_bytes(pickle.dumps(Bomb(mark))),
    ):
        write(model / "pytorch_model.bin")
        assert verbs(model)[:3] == [1, 1, 1]
        assert not mark.exists() and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "item, file",
    [
        ("megatron", "release/mp_rank_00/model_optim_rng.pt"),
        ("distributed", "common.pt"),
        ("distributed", ".metadata"),
        ("distributed", "__0_0.distcp"),
    ],
)
def test_pickles_of_megatron_are_not_executed(sound, tmp_path, mark, capsys, item, file):
    folder = shutil.copytree(sound / item, tmp_path / "checkpoint")
    for content in (Bomb(mark), {"args": Bomb(mark), "model": {}}):
        if file == ".metadata":
            (folder / file).write_bytes(pickle.dumps(content))
        else:
            torch.save(content, folder / file)
        assert main(["convert", "megatron", str(folder), "--out", str(tmp_path / "out")]) == 1
        assert not mark.exists() and "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_names_in_a_megatron_checkpoint_do_not_lead_out(sound, tmp_path):
    folder = shutil.copytree(sound / "distributed", tmp_path / "checkpoint")
    shutil.move(folder / "__0_0.distcp", tmp_path / "x_0.distcp")
    content = (folder / ".metadata").read_bytes()
    # In a pickle, the length of a text stands before it.
    assert b"\x0c__0_0.distcp" in content
    (folder / ".metadata").write_bytes(content.replace(b"\x0c__0_0.distcp", b"\x0d../x_0.distcp"))
    source = open_checkpoint(folder)
    with pytest.raises(InputError, match=r"\.\./x_0\.distcp.*not in this folder"):
        source.read(sorted(source.names)[0])


def test_the_tests_that_the_page_names_exist():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert len(named) > 8
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
