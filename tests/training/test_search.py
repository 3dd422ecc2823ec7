"""`gengram finetune --search`: settings by their validation score, the same trials each time, none trained twice."""

import gc
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.training import search as searching
from gengram.training.command import finetune as main
from gengram.training.command import parse_arguments
from gengram.training.search_space import SEARCHED, SPACES, count_trials, list_combinations, read_space
from gengram.training.trainer import DivergedError, StepTrainer

RANGES = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "sequences_per_step": [10, 20],
    "weight_decay": {"low": 0, "high": 0.1},
}
SMALL = {"backbone": "bert", "max_steps": 2, "no_baselines": None}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


@pytest.fixture(autouse=True, scope="module")
def collect_little():
    """accelerate collects garbage three times a trial, which takes longer than a small training."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def run(command, tmp_path):
    """Run a small search, and return its report."""

    def start(name: str = "run", *flags: str, **changes) -> dict:
        folder = tmp_path / name
        assert main([*command(**{**SMALL, "output_dir": folder, **changes}), "--no_baselines", *flags]) == 0
        return json.loads((folder / "report.json").read_text())

    return start


def read_trials(report: dict) -> list[tuple]:
    """Settings and scores; not how long they took."""
    return [(trial["settings"], trial["value"], trial["validation"]) for trial in report["search"]["trials"]]


def test_the_best_validation_score_is_chosen_and_trained_again(run, tmp_path):
    report = run("run", "--search", search_space=RANGES, search_trials=3, seeds=[0, 2], metric_for_best_model="auroc")
    search = report["search"]
    assert search["sampler"] == "TPE" and search["seed"] == 1 and len(search["trials"]) == 3
    values = [trial["value"] for trial in search["trials"]]
    assert search["chosen"] == values.index(max(values)) and search["direction"] == "maximize"
    assert search["settings"] == search["trials"][search["chosen"]]["settings"]
    assert len({json.dumps(trial["settings"]) for trial in search["trials"]}) == 3
    assert all(trial["seconds"] > 0 and trial["cpu_seconds"] > 0 for trial in search["trials"])
    assert search["seconds"] == pytest.approx(sum(trial["seconds"] for trial in search["trials"]), abs=0.01)
    # The winner, given as flags, is the same run.
    plain = run("plain", seeds=[0, 2], metric_for_best_model="auroc", **search["settings"])
    assert plain["test"] == report["test"] and plain["validation"] == report["validation"]
    # And a trial is a run with the seed of the trials.
    tried = search["trials"][0]
    again = run("again", seeds=[1], metric_for_best_model="auroc", **tried["settings"])
    for metric, value in tried["validation"].items():
        assert again["validation"][metric]["mean"] == pytest.approx(value, abs=1e-6)
    # Nothing of the search is left, and the page says what it cost.
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "report.json",
        "report.md",
        "seed-0",
        "seed-2",
    ]
    page = (tmp_path / "run" / "report.md").read_text()
    assert "## Search" in page and "3 trainings" in page and "(chosen)" in page
    rate = search["settings"]["learning_rate"]
    assert f"| learning rate | `{rate:g}, linear` |" in page and "--search true" in page


def test_the_best_of_a_trials_validations_counts_where_the_run_keeps_it(run):
    flags = ("--search", "--load_best_model_at_end")
    epochs = {"max_steps": None, "num_train_epochs": 3, "metric_for_best_model": "auroc"}
    report = run("run", *flags, search_space={"learning_rate": [1e-2]}, **epochs)
    again = run("again", "--load_best_model_at_end", learning_rate=1e-2, seeds=[1], **epochs)
    (trial,) = report["search"]["trials"]
    best = max(line["eval_auroc"] for line in again["history"][0] if "eval_auroc" in line)
    assert trial["value"] == pytest.approx(best) == pytest.approx(again["validation"]["auroc"]["mean"])


def test_an_interrupted_search_goes_on_and_trains_nothing_twice(run, command, tmp_path, monkeypatch, capsys):
    arguments = {"search_space": RANGES, "search_trials": 3}
    whole = run("whole", "--search", **arguments)
    trained = []
    original = searching._Search.run_trial

    def stop(self, number, before):
        trained.append(number)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return original(self, number, before)

    monkeypatch.setattr(searching._Search, "run_trial", stop)
    argv = [*command(**{**SMALL, **arguments}), "--no_baselines", "--search"]
    assert main(argv) == 130
    capsys.readouterr()
    assert main(argv) == 1
    assert "1 trials of the search are finished" in capsys.readouterr().err
    assert main([*argv, "--resume_from_checkpoint"]) == 0
    assert trained == [0, 1, 1, 2]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert read_trials(report) == read_trials(whole) and report["test"] == whole["test"]
    # A finished run is not searched again.
    assert main([*argv, "--resume_from_checkpoint"]) == 0 and trained == [0, 1, 1, 2]


def test_no_test_row_is_seen_before_the_settings_are_chosen(run, monkeypatch):
    seen = []
    original = StepTrainer.evaluation_loop

    def watch(self, dataloader, *args, **kwargs):
        seen.append((len(dataloader.dataset), self.hp_search_backend is not None))
        return original(self, dataloader, *args, **kwargs)

    monkeypatch.setattr(StepTrainer, "evaluation_loop", watch)
    run("run", "--search", search_space={"learning_rate": [1e-3, 1e-2]})
    assert [rows for rows, searches in seen if searches] == [6, 6] and seen.count((20, False)) == 1


def test_a_training_that_diverges_is_a_trial_without_a_score(run, monkeypatch, command, tmp_path, capsys):
    original = StepTrainer.training_step

    def diverge(self, *args, **kwargs):
        if self.args.learning_rate > 5e-3:
            raise DivergedError("step 1: the training diverged")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StepTrainer, "training_step", diverge)
    report = run("run", "--search", search_space={"learning_rate": [1e-3, 1e-2]})
    assert report["search"]["settings"] == {"learning_rate": 1e-3}
    failed = [trial["failed"] for trial in report["search"]["trials"]]
    assert sorted(failed, key=str) == [None, "step 1: the training diverged"]
    argv = command(**SMALL, search_space={"learning_rate": [1e-2]}, output_dir=tmp_path / "none")
    assert main([*argv, "--search"]) == 1
    assert "none of 1 trials" in capsys.readouterr().err


def test_adapters_are_searched_too(run, tmp_path):
    run("base")
    adapted = {"backbone": None, "model_name_or_path": tmp_path / "base/seed-0", "peft": "lora"}
    space = {"lora_r": [2], "lora_alpha": [4], "learning_rate": [1e-3]}
    report = run("lora", "--search", search_space=space, **adapted)
    assert report["search"]["settings"] == {"lora_r": 2, "lora_alpha": 4, "learning_rate": 1e-3}
    assert report["adapter"]["r"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 0}, "search chooses by validation and never by the test rows"),
        ({"search_space": {"lora_r": [2]}}, "lora_r is read with --peft lora only"),
        ({"search_space": {"learning_rat": [1e-3]}}, "did you mean 'learning_rate'?"),
        ({"search_space": "modernGENA"}, "did you mean 'moderngena'?"),
        ({"search_space": "nowhere.yaml"}, "nowhere.yaml"),
        ({"search_space": {"learning_rate": []}}, "learning_rate has no values"),
        ({"search_space": {"learning_rate": [0]}}, "give a number above 0"),
        ({"search_space": {"learning_rate": {"low": 1, "high": 0.1}}}, "low must be below high"),
        ({"search_space": {"weight_decay": {"low": 0, "high": 1, "log": True}}}, "begins above 0"),
        ({"search_space": {"sequences_per_step": [1.5]}}, "give a whole number of at least 1"),
        ({"search_space": {"warmup_steps": [*range(200)], "weight_decay": [*range(200)]}}, "40,000 combinations"),
        ({"search_space": "{"}, "search_space is not JSON"),
        ({"search_trials": 0}, "search_trials=0: give 1 or more"),
        ({"max_tokens_per_step": 100, "search_space": "moderngena"}, "leave sequences_per_step out"),
    ],
)
def test_what_cannot_be_searched(changes, message, command, run_folder, capsys):
    try:
        code = main([*command(**SMALL, **changes), "--search"])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code in (1, 2) and message in error and "Traceback" not in error
    assert not run_folder.exists()


def test_without_optuna_there_is_a_word_how_to_get_it(command, run_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else 1 / 0)
    assert main([*command(**SMALL), "--search"]) == 1
    assert "pip install 'gengram[search]'" in capsys.readouterr().err and not run_folder.exists()


def test_a_space_without_search_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(command(**SMALL, search_space="moderngena"))
    assert "search_space is read with search only" in capsys.readouterr().err


def test_published_spaces_are_whole_grids():
    for name in SPACES:
        assert read_space(name) == SPACES[name]
    combinations = list_combinations(SPACES["moderngena"])
    assert len(combinations) == 27 == len({json.dumps(one) for one in combinations})
    assert count_trials(SPACES["moderngena"], None) == 27 and count_trials(SPACES["moderngena"], 5) == 5
    assert count_trials(SPACES["caduceus-genomic-benchmarks"], 50) == 4
    assert list_combinations(SPACES["generator"]) is None and count_trials(SPACES["generator"], None) == 10


def test_a_space_in_a_file(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {low: 1e-5, high: 1e-3, log: true}\nsequences_per_step: [8, 16]\n")
    assert read_space(str(path)) == {
        "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "sequences_per_step": [8, 16],
    }
    path.write_text("learning_rate: [1e-5\n")
    with pytest.raises(InputError, match=r"space\.yaml, line"):
        read_space(str(path))


numbers = st.sampled_from([-1, 0, 1, 2, 300, 0.5, 1e-5, float("nan"), float("inf"), True, None, "x"])
ranges = st.dictionaries(st.sampled_from(["low", "high", "log", "step"]), numbers, max_size=4)
spaces = st.dictionaries(
    st.sampled_from([*SEARCHED, "seed"]), st.one_of(numbers, ranges, st.lists(numbers, max_size=3))
)


@given(spaces)
def test_whatever_a_space_says_is_read_or_refused(found):
    try:
        space = read_space(found)
    except InputError as error:
        assert str(error).startswith("search_space")
        return
    assert read_space(space) == space and count_trials(space, None) >= 1
    for name, values in space.items():
        kind = SEARCHED[name].kind
        assert all(
            type(value) is kind for value in (values if isinstance(values, list) else (values["low"], values["high"]))
        )
