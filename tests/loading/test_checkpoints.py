"""Which model is meant? Folders, runs, adapters and Hub ids, without loading any and without a network."""

import json
from pathlib import Path

import pytest

from gengram.errors import InputError
from gengram.loading import checkpoints
from gengram.loading.checkpoints import check_repo_id, find_checkpoint, find_model, is_hub_id


def make_model(folder: Path, name: str = "config.json") -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text("{}")
    return folder


def make_run(folder: Path, scores: list[float | None], losses: list[float] | None = None, validation=True) -> Path:
    losses = [1.0] * len(scores) if losses is None else losses
    for seed in range(len(scores)):
        make_model(folder / f"seed-{seed}")
    report = {
        "seeds": list(range(len(scores))),
        "model_folders": [f"seed-{seed}" for seed in range(len(scores))],
        "validation": {"mcc": {"per_seed": scores}, "loss": {"per_seed": losses}} if validation else None,
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_folder_with_a_model_is_itself(name, tmp_path, capsys):
    model = make_model(tmp_path / "model", name)
    assert find_model(model) == find_model(str(model)) == str(model)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ([0.1, 0.3, 0.2], None, 1),
        ([0.3, 0.3, 0.2], [0.9, 0.4, 0.1], 1),
        ([None, -0.5, None], None, 1),
        ([None, None], [0.7, 0.6], 1),
        ([0.5], None, 0),
    ],
)
def test_of_a_run_the_best_seed_on_the_validation_rows(scores, losses, best, tmp_path, capsys):
    run = make_run(tmp_path / "run", scores, losses)
    assert find_model(run) == str(run / f"seed-{best}")
    told = capsys.readouterr().err
    if len(scores) == 1:
        assert told == ""
    else:
        why = f"of {len(scores)}, it has the highest mcc on the validation rows (where equal, the lower loss)"
        assert told == f"{run}: seed {best} is taken: {why}\n"


def test_without_validation_rows_it_is_the_first_seed(tmp_path, capsys):
    run = make_run(tmp_path / "run", [0.1, 0.2], validation=False)
    assert find_model(run) == str(run / "seed-0")
    assert "there were no validation rows to choose by" in capsys.readouterr().err


def test_a_seed_can_be_named(tmp_path, capsys):
    run = make_run(tmp_path / "run", [0.1, 0.2, 0.0])
    assert find_checkpoint(run, 2).folder == run / "seed-2"
    with pytest.raises(InputError, match="there is no seed 7; the run has 0, 1, 2"):
        find_checkpoint(run, 7)
    # A seed's folder knows its run, and is taken without a word.
    found = find_checkpoint(run / "seed-2")
    assert (found.seed, found.report["seeds"]) == (2, [0, 1, 2])
    assert find_model(run / "seed-2") == str(run / "seed-2") and capsys.readouterr().err == ""
    with pytest.raises(InputError, match="is the model of seed 2, not of seed 0"):
        find_checkpoint(run / "seed-2", 0)
    with pytest.raises(InputError, match="is a single model, not a run"):
        find_checkpoint(make_model(tmp_path / "model"), 0)


def test_folders_without_a_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: neither a run \(report.json\) nor a model \(config.json\)"):
        find_model(tmp_path / "empty")
    make_model(tmp_path / "runs" / "mine")
    with pytest.raises(InputError, match=r"runs: neither .*; name a folder in it, e.g. 'mine'"):
        find_model(tmp_path / "runs")
    make_model(tmp_path / "unfinished" / "seed-0")
    with pytest.raises(InputError, match="this run did not come to its end"):
        find_model(tmp_path / "unfinished")
    run = make_run(tmp_path / "run", [0.1, 0.2])
    (run / "seed-1" / "config.json").unlink()
    (run / "seed-1").rmdir()
    with pytest.raises(InputError, match="names the model folder 'seed-1', which is not there"):
        find_model(run)
    (tmp_path / "notes").write_text("")
    with pytest.raises(InputError, match="this is a file; a model is a folder"):
        find_model(tmp_path / "notes")


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"seeds": 3, "model_folders": ["a"]}'])
def test_a_report_that_is_none(content, tmp_path):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(
        InputError, match=r"report.json: (cannot be read as JSON|a JSON object|not the report|'seeds' is 3)"
    ):
        find_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nope", "a Hub id has the form organization/name"),
        ("a/b/c", "a Hub id has the form organization/name"),
        ("./model", "it is written like a folder"),
        ("/no/such", "it is written like a folder"),
        ("../model", "it is written like a folder"),
        ("runs/", "it is written like a folder"),
        ("lab/my model", "the Hub allows no such name"),
        ("lab/..", "the Hub allows no such name"),
        ("", "a Hub id has the form organization/name"),
    ],
)
def test_what_is_no_folder_and_no_name_on_the_hub_is_told_with_the_reason(name, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told:
        find_model(name)
    because = f"there is no folder {name!r}, and no repository of that name was asked for, because {reason}"
    assert because in str(told.value)
    assert not is_hub_id(name)


def test_a_hub_id_stays_and_a_folder_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "require_repository", lambda name: None)  # the Hub has it
    assert find_model("lab/model") == "lab/model" and is_hub_id("lab/model")
    make_model(tmp_path / "lab" / "model")
    assert find_model("lab/model") == str(Path("lab/model")) and not is_hub_id("lab/model")


def test_names_of_repositories():
    assert check_repo_id("lab/model") == "lab/model"
    for name in ("model", "lab/model/x", "lab/-", "lab/a b"):
        with pytest.raises(InputError, match="is no name for a repository"):
            check_repo_id(name)
