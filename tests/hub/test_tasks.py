"""Benchmark tasks on the Hub: pushed, streamed, loaded by configuration or by files, from the cache."""

import json
from pathlib import Path

import pytest


def call_push(argv):
    from gengram.cli import main

    return main(["dataset", "push", *argv])


def publish(repo, files):
    from huggingface_hub import CommitOperationAdd, HfApi

    HfApi().create_repo(repo, repo_type="dataset", exist_ok=True)
    add = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    return HfApi().create_commit(repo, add, commit_message="rows", repo_type="dataset").oid


def call_read(name, data=None, hub=None, revision=None, **task):
    """Read a task; one of the registry, or of these attributes."""
    from gengram.benchmarks.data import load
    from gengram.benchmarks.tasks.task import make_task
    from gengram.errors import InputError

    known = load.find_task
    if hub is not None:
        made = make_task({"title": name, "problem": "single_label", "metric": "mcc", "hub": hub, **task}, name, "test")
        load.find_task = lambda _: made
    try:
        loaded = load.read_task(name, data=data, revision=revision)
    except InputError as error:
        return str(error)
    finally:
        load.find_task = known
    return {
        "task": loaded.task.name,
        "classes": list(loaded.classes),
        "labels": {split: list(rows["label"]) for split, rows in loaded.splits.items()},
        "columns": loaded.splits["train"].column_names,
        "kinds": sorted({source.kind for source in loaded.sources}),
        "warnings": loaded.survey.warnings,
    }


@pytest.fixture
def benchmarks(tmp_path) -> Path:
    """Two benchmarks with a task each: one whose numbers are not ids, one of pairs."""
    first, second = tmp_path / "data" / "GB" / "human_ensembl_regulatory", tmp_path / "data" / "mine" / "pairs"
    for folder in (first, second):
        folder.mkdir(parents=True)
    for split in ("train", "test"):
        (first / f"{split}.csv").write_text("seq,label\nACGTA,0\nACGGA,1\nTTTTA,2\n")
        (second / f"{split}.tsv").write_text("seq\talt_seq\tlabel\nACGTA\tACGTC\tbenign\nACGGA\tACGGC\tharmful\n")
    (first / "task.yaml").write_text(
        "title: Regulatory elements\nclasses: [enhancer, ocr, promoter]\ncodes: {promoter: 0, enhancer: 1, ocr: 2}\n"
        "licence: Apache-2.0\nassembly: GRCh38\nproblems: ['Codes are a trap | of one copy.']\n"
    )
    return tmp_path / "data"


def test_two_benchmarks_are_pushed_streamed_and_loaded(hub, user, benchmarks):
    def stream(repo, config):
        from datasets import load_dataset

        rows = load_dataset(repo, config, split="test", streaming=True)
        return {"names": rows.features["label"].names, "rows": [row["label"] for row in rows]}

    assert user.call(call_push, argv=[str(benchmarks), "lab/two"]) == 0, user.err
    files = hub.list_files("lab/two", kind="datasets")
    assert "GB--human_ensembl_regulatory/task.yaml" in files and "mine--pairs/test-00000-of-00001.parquet" in files
    card = hub.repos["datasets", "lab/two"].commits
    card = list(card.values())[-1]["README.md"].data.decode()
    assert "| Regulatory elements | 0 enhancer, 1 ocr, 2 promoter | Apache-2.0 | GRCh38 |" in card
    assert ": Codes are a trap" in card and "Known problems" in card
    config = "GB--human_ensembl_regulatory"
    streamed = user.call(stream, repo="lab/two", config=config)
    assert streamed == {"names": ["enhancer", "ocr", "promoter"], "rows": [2, 0, 1]}
    read = {"name": "GB/human_ensembl_regulatory", "data": "lab/two"}
    loaded = user.call(call_read, **read)
    assert loaded["labels"] == {"train": [2, 0, 1], "test": [2, 0, 1]}
    assert loaded["task"] == "GB/human_ensembl_regulatory"
    pairs = user.call(call_read, name="pairs", data="lab/two")
    assert (pairs["classes"], pairs["columns"]) == (["benign", "harmful"], ["sequence", "alternative", "label"])
    told = user.call(call_read, name="mine/pears", data="lab/two")
    assert told.startswith("lab/two: no configuration is called 'mine/pears'") and "'mine--pairs'" in told


def test_a_fetched_copy_is_a_folder_of_tasks(hub, user, benchmarks, tmp_path):
    def fetch(repo, to):
        from gengram.cli import main

        return main(["models", "fetch", "--dataset", repo, "--to", to])

    assert user.call(call_push, argv=[str(benchmarks), "lab/copied"]) == 0, user.err
    assert user.call(fetch, repo="lab/copied", to=str(tmp_path / "here")) == 0, user.err
    data = str(tmp_path / "here" / "lab--copied")
    loaded = user.call(call_read, name="GB/human_ensembl_regulatory", data=data)
    assert loaded["labels"]["test"] == [2, 0, 1] and loaded["kinds"] == ["folder"]
    assert user.call(call_read, name="mine/pairs", data=data)["classes"] == ["benign", "harmful"]


def test_numbers_on_the_hub_go_by_the_codes_of_the_registry(hub, user):
    rows = "seq,label\nACGTA,0\nACGGA,1\n"
    user.call(publish, repo="lab/codes", files={"train.csv": rows, "test.csv": rows})
    task = {"name": "GB/x", "hub": {"id": "lab/codes"}, "classes": ["negative", "positive"]}
    coded = user.call(call_read, **task, codes={"negative": 1, "positive": 0})
    assert coded["labels"]["test"] == [1, 0] and not any("taken for" in each for each in coded["warnings"])
    ids = user.call(call_read, **task)
    assert ids["labels"]["test"] == [0, 1] and "taken for 0 'negative', 1 'positive'" in ids["warnings"][0]
    told = user.call(call_read, **task, codes={"negative": 1, "positive": 2})
    assert "data row 1: label '0'" in told and "the classes are 1 'negative', 2 'positive'" in told


def test_files_of_a_pinned_revision_come_from_the_cache_where_they_are(hub, user):
    fasta = ">chr1:0-5|1\nACGTA\n>chr1:5-10|0\nACGGA\n"
    files = {f"H3/{split}.fna": fasta for split in ("train", "test")} | {"H4/train.fna": fasta, "README.md": "# x\n"}
    revision = user.call(publish, repo="lab/fasta", files=files)
    patterns = {split: f"H3/{split}.fna" for split in ("train", "test")}
    task = {"name": "NTB/H3", "hub": {"id": "lab/fasta", "data_files": patterns, "revision": revision}}
    task |= {"classes": ["negative", "positive"]}
    first = user.call(call_read, **task)
    assert first["kinds"] == ["hub"] and first["labels"]["test"] == [1, 0]
    assert first["columns"] == ["sequence", "label", "chrom", "start", "end", "name"]
    hub.requests.clear()
    assert user.call(call_read, **task)["kinds"] == ["cache"] and hub.requests.total() == 0
    task["hub"]["data_files"] = {"train": "H3/train.fna", "test": "H3/test_*.fna"}
    assert "lab/fasta at" in (told := user.call(call_read, **task)) and "no file is called 'H3/test_*.fna'" in told


def test_without_a_network_the_cache_is_read(hub, user, offline_user, benchmarks):
    assert user.call(call_push, argv=[str(benchmarks), "lab/kept"]) == 0, user.err
    read = {"name": "GB/human_ensembl_regulatory", "data": "lab/kept"}
    revision = user.call(publish, repo="lab/kept-files", files={"a.csv": "seq,label\nACGTA,0\nACGGA,1\n"})
    files = {"train": "a.csv", "test": "a.csv"}
    task = {"name": "GB/x", "hub": {"id": "lab/kept-files", "data_files": files, "revision": revision}}
    for each in (read, task):
        loaded = user.call(call_read, **each)
        assert offline_user.call(call_read, **each) == loaded | {"kinds": ["cache"]}
    told = offline_user.call(call_read, name="GB/x", hub={"id": "lab/elsewhere"})
    assert "not in the cache, and HF_HUB_OFFLINE is set" in told


def test_what_the_hub_does_not_have(hub, user):
    script = "import datasets\n\n\nclass Rows(datasets.GeneratorBasedBuilder):\n    pass\n"
    user.call(publish, repo="lab/program", files={"program.py": script})
    task = {"name": "LRB/x", "classes": ["negative", "positive"], "builder": "variants"}
    for known in (True, False):
        told = user.call(call_read, **task, hub={"id": "lab/program", "script": known})
        assert "lab/program is a loading script" in told and "gengram dataset build variants" in told, json.dumps(told)
    for read in (task | {"hub": {"id": "lab/nowhere"}}, {"name": "pairs", "data": "lab/nowhere"}):
        assert "lab/nowhere" in user.call(call_read, **read)
