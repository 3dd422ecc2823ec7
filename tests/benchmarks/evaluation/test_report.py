"""Reports of evaluations: ranks, tables, pictures, and the parts that go to the Hub."""

import copy
import json
import random

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, parse_eval_result_entries

from gengram.benchmarks.evaluation.leaderboard import find_reports, make_leaderboard, render_leaderboard, write_table
from gengram.benchmarks.evaluation.plots import Column, draw_grid, draw_scores
from gengram.benchmarks.evaluation.report import (
    make_file_name,
    rank_entrants,
    rank_scores,
    render_report,
    tabulate_scores,
)
from gengram.errors import InputError
from gengram.loading.evaluations import check_evaluation
from gengram.model_cards.evaluation import choose_entrant, describe_evaluation, list_entries, list_index


def measure(mean: float) -> dict:
    interval = [mean - 0.02, mean + 0.02]
    return {
        "mean": mean,
        "per_seed": [mean - 0.01, mean, mean + 0.01],
        "seed_interval": interval,
        "seed_interval_method": "Student's t over seeds, 95%",
        "row_interval": interval,
    }


@pytest.fixture
def report(tmp_path) -> dict:
    """Two models and a baseline on a task of the Hub and on one of a folder."""
    tasks, cells = {}, {}
    for place, (name, dataset) in enumerate((("GB/human_enhancers_cohn", "lab/cohn"), ("mine/x", None))):
        published = [
            {"model": "Evo2-40B", "metric": "auroc", "value": 0.7756, "protocol": "frozen probe", "source": "a paper",
             "status": "recalled", "note": None},
        ]  # fmt: skip
        tasks[name] = {
            "title": "t", "benchmark": "GB", "problem": "single_label", "classes": ["a", "b"], "metric": "auroc",
            "fingerprint": f"{place}" * 64, "rows": {"train": 90, "validation": 10, "test": 1_234}, "validation": "own",
            "sources": [{"split": "test", "file": "t.csv", "rows": 1_234, "sha256": "ab" * 32, "revision": "c" * 40}],
            "hygiene": {"test_in_train": 3, "test_in_train_reverse": 1, "duplicates_in_train": 2, "warnings": ["a|b"],
                        "removed": {}},
            "dataset": dataset, "dataset_config": None, "dataset_revision": "c" * 40 if dataset else None,
            "published": published if dataset else [],
        }  # fmt: skip
        cells[name] = {
            entrant: {
                "status": "done", "key": "k", "metrics": {"auroc": measure(mean), "loss": measure(0.5)},
                "chosen": [{}] * 3,
                "validation": [{}] * 3, "versions": {}, "predictions": "k.npz",
            }
            for entrant, mean in (("mine", 0.9 - 0.1 * place), ("other", 0.7), ("baseline:kmer", 0.8))
        }  # fmt: skip
    entrant = {"protocol": "p", "version": 1, "settings": {}, "seeds": [0, 1, 2], "fingerprint": "f" * 64,
               "source": "x", "revision": None, "random": None, "weights": []}  # fmt: skip
    kinds = {"mine": "model", "other": "model", "baseline:kmer": "baseline"}
    made = {
        "kind": "gengram evaluate", "format": 1, "seeds": [0, 1, 2], "tasks": tasks, "cells": cells, "differences": [],
        "protocol": {"name": "genos-probe", "version": 2, "title": "a probe", "settings": {}, "warning": ""},
        "data": {"max_train_rows": 5_000, "max_test_rows": None, "dedup": False, "metric": None},
        "entrants": {name: {**entrant, "kind": kind} for name, kind in kinds.items()},
        "versions": {"gengram": "0.1.0"}, "complete": True,
    }  # fmt: skip
    check_evaluation(made, tmp_path / "report.json")
    return made


def test_ranks_share_ties_and_less_loss_is_better():
    assert rank_scores({"a": 0.9, "b": 0.5, "c": 0.9, "d": None}, "auroc") == {"a": 1.5, "b": 3, "c": 1.5}
    assert rank_scores({"a": 0.9, "b": 0.5}, "loss") == {"a": 2, "b": 1}


def test_mean_ranks_are_of_tasks_on_which_all_have_a_score(report):
    assert rank_entrants(report) == {"mine": 1.25, "other": 3.0, "baseline:kmer": 1.75}
    report["cells"]["mine/x"]["other"] = {"status": "failed", "reason": "no"}
    assert rank_entrants(report) == {"mine": 1.0, "other": 3.0, "baseline:kmer": 2.0}


def test_the_text_has_scores_intervals_sources_and_what_is_wrong(report):
    report["cells"]["mine/x"]["other"] = {"status": "refused", "reason": "9 tokens | 8"}
    report["tasks"]["<script>"] = copy.deepcopy(report["tasks"]["mine/x"])
    report["cells"]["<script>"] = copy.deepcopy(report["cells"]["mine/x"])
    text = render_report(report, "scores.png")
    for part in ("0.9000 (0.880, 0.920)", "Student", "recalled", "a paper", "9 tokens &#124; 8", "a&#124;b", "refused",
                 "At most 5,000 training rows", "abababababab"):  # fmt: skip
        assert part in text
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "| GB/human_enhancers_cohn | auroc | 0.9000" in tabulate_scores(report)


def test_a_picture_of_many_and_of_one(report, tmp_path):
    assert draw_scores(report) is not None
    names = ["a very long name of a task with no end, really none", "$x^2$ _b"]
    columns = [
        Column("$\\frac{a}$" * 9, "model", [0.5, None], [[0.4, 0.6], None]),
        Column("_p", "published", [None, 0.1], [None] * 2),
    ]
    for suffix in ("png", "svg"):
        figure = draw_grid(names, ["auroc", "loss"], columns, "note")
        assert figure is not None
        figure.savefig(tmp_path / f"f.{suffix}")
    assert draw_grid(["a"], ["mcc"], [Column("x", "model", [None], [None])], "") is None
    assert draw_grid(["a"], ["mcc"], [Column("x", "model", [0.0], [None])], "") is not None


def test_entries_of_a_datasets_page_are_of_its_own_rows(report):
    entries = list_entries(report, "mine")
    assert list(entries) == ["lab/cohn"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(yaml.safe_dump(entries["lab/cohn"])))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("lab/cohn", "default", 0.9)
    assert entry.dataset_revision == "c" * 40
    assert "genos-probe 2" in entry.notes and "1,234 test rows" in entry.notes and "5,000 training rows" in entry.notes


def test_the_index_of_a_card_can_be_read_again(report):
    results = list_index(report, "mine")
    assert [(one.dataset_name, one.metric_type, one.metric_value) for one in results] == [
        ("GB/human_enhancers_cohn", "roc_auc", 0.9),
        ("mine/x", "roc_auc", 0.8),
    ]
    assert results[0].dataset_type == "lab/cohn" and results[0].dataset_revision == "c" * 40
    assert results[1].dataset_type == "mine/x" and results[1].dataset_revision is None
    from huggingface_hub import ModelCardData

    data = ModelCardData(model_name="mine", eval_results=results)
    read = ModelCard(f"---\n{data.to_yaml()}\n---\n").data
    assert all(isinstance(one, EvalResult) for one in read.eval_results or [])
    assert {one.metric_value for one in read.eval_results or []} == {0.9, 0.8}


def test_the_part_of_a_card_has_the_model_beside_baselines(report):
    parts = describe_evaluation(report, "mine")
    assert "genos-probe" in parts["protocol"] and "5,000" in parts["protocol"]
    assert "0.9000 (0.880, 0.920)" in parts["results"] and "baseline:kmer" in parts["results"]
    assert "other" not in parts["results"]


def test_which_model_a_card_is_about(report):
    with pytest.raises(InputError, match="2 models were evaluated: mine, other; name one with --evaluated_as"):
        choose_entrant(report, None, "runs/x")
    assert choose_entrant(report, "other", "runs/x") == "other"
    with pytest.raises(InputError, match=r"no model 'othr' was evaluated.*did you mean 'other'"):
        choose_entrant(report, "othr", "runs/x")
    report["entrants"]["other"]["random"] = 0
    assert choose_entrant(report, None, "runs/x") == "mine"
    with pytest.raises(InputError, match="no model 'other'"):
        choose_entrant(report, "other", "runs/x")


@pytest.mark.parametrize(("name", "file"), [("lab/a", "lab-a"), ("../..", "model"), ("a\n|b", "a-b"), ("", "model")])
def test_names_of_files(name, file):
    assert make_file_name(name) == file


def list_paths(content, path=()):
    """Every place in a JSON value."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from list_paths(value, (*path, key))


@pytest.mark.parametrize(
    "wrong",
    ["any", *(pytest.param(wrong, marks=pytest.mark.slow) for wrong in ("gone", None, 7, "x", [], {}, {"a": 1}))],
)
def test_a_changed_report_is_read_or_told_and_no_reader_breaks(report, tmp_path, wrong):
    """Each place changed in turn; what the check lets through, leaderboard and card can use."""
    file = tmp_path / "report.json"
    told = 0
    draw = random.Random(0)
    for path in list(list_paths(report)):
        new = draw.choice(["gone", None, 7, "x", [], {}]) if wrong == "any" else wrong
        changed = copy.deepcopy(report)
        place = changed
        for key in path[:-1]:
            place = place[key]
        if new == "gone":
            del place[path[-1]]
        else:
            place[path[-1]] = new
        file.write_text(json.dumps(changed))
        try:
            board = make_leaderboard(find_reports([tmp_path]))
            render_leaderboard(board), write_table(board)
            describe_evaluation(changed, "mine"), list_index(changed, "mine"), list_entries(changed, "mine")
        except InputError as error:
            told += 1
            assert "report.json" in str(error)
    assert told > 50
