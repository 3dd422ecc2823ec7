"""`gengram tasks --refresh`: what the Hub says of a task becomes a file of facts; no rows are fetched."""

import json

import pytest
import yaml

GB = "katarinagresova/Genomic_Benchmarks_human_ocr_ensembl"
REVISED = "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised"
HOTSPOTS = "BGI-HangzhouAI/Benchmark_Dataset-variant_hotspot"
LONG = "InstaDeepAI/genomics-long-range-benchmark"


def publish(folder):
    """Data sets of three forms: a card with sizes and classes, Parquet without a card, lines of JSON with a licence."""
    from pathlib import Path

    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    from huggingface_hub import HfApi

    features = Features({"seq": Value("string"), "label": ClassLabel(names=["positive", "negative"])})
    splits = {
        split: Dataset.from_dict({"seq": ["ACGT"] * rows, "label": [1] * rows}, features=features)
        for split, rows in (("train", 7), ("test", 3))
    }
    DatasetDict(splits).push_to_hub("lab/facts-ocr")
    folder = Path(folder)
    for split, rows in (("train", 23274), ("test", 5)):
        (folder / "revised" / "H3K9ac").mkdir(parents=True, exist_ok=True)
        table = Dataset.from_dict({"sequence": ["ACGT"] * rows, "label": [0] * rows})
        table.to_parquet(folder / "revised" / "H3K9ac" / f"{split}.parquet")
    for split in ("train", "eval", "test"):
        (folder / "hotspots" / "CPC_8192").mkdir(parents=True, exist_ok=True)
        (folder / "hotspots" / "CPC_8192" / f"{split}.jsonl").write_text('{"seq": "ACGT", "label": 0}\n')
    (folder / "hotspots" / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "long").mkdir()
    (folder / "long" / "genomics-long-range-benchmark.py").write_text("1 / 0")
    (folder / "long" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    api = HfApi()
    for name in ("revised", "hotspots", "long"):
        api.create_repo(f"lab/facts-{name}", repo_type="dataset")
        api.upload_folder(repo_id=f"lab/facts-{name}", folder_path=folder / name, repo_type="dataset")


def call_tasks(argv):
    from gengram.cli import main

    return main(["tasks", *argv])


@pytest.fixture(scope="module")
def published(hub_server, user, tmp_path_factory):
    user.call(publish, folder=tmp_path_factory.mktemp("published"))
    for name, real in (("ocr", GB), ("revised", REVISED), ("hotspots", HOTSPOTS), ("long", LONG)):
        hub_server.repos["datasets", real] = hub_server.repos["datasets", f"lab/facts-{name}"]
    yield
    for real in (GB, REVISED, HOTSPOTS, LONG):
        del hub_server.repos["datasets", real]


def refresh(user, *words):
    code = user.call(call_tasks, argv=[*words, "--refresh", "--json", "--quiet"])
    return code, json.loads(user.out) if user.out else {}


def test_sizes_and_classes_of_a_card(hub, user, published, tmp_path):
    out = tmp_path / "facts.yaml"
    code, told = refresh(user, "GB/human_ocr_ensembl", "--out", str(out))
    assert code == 0, user.err
    facts = yaml.safe_load(out.read_text())["GB/human_ocr_ensembl"]
    repo = hub.repos["datasets", GB]
    assert facts == {
        "revision": repo.branches["main"],
        "rows": {"train": 7, "test": 3},
        "codes": {"positive": 0, "negative": 1},
    }
    assert told["notes"]["GB/human_ocr_ensembl"] == [
        "train 7 rows, here 139,804",
        "test 3 rows, here 34,952",
        "classes positive, negative, here negative, positive",
    ]
    assert hub.requests["resolve"] == 1, "its card, and no rows"


def test_the_file_is_read_by_the_registry(hub, user, published, tmp_path):
    out = tmp_path / "facts.yaml"
    assert refresh(user, "GB/human_ocr_ensembl", "--out", str(out))[0] == 0

    def find(path):
        import os

        from gengram.benchmarks.tasks.registry import find_task

        os.environ["GENGRAM_TASKS"] = path
        try:
            task = find_task("human_ocr_ensembl")
        finally:
            del os.environ["GENGRAM_TASKS"]
        return [task.hub.revision, task.rows, task.codes, list(task.unverified)]

    assert user.call(find, path=str(out)) == [
        hub.repos["datasets", GB].branches["main"],
        {"train": 7, "test": 3},
        {"positive": 0, "negative": 1},
        [],
    ]
    assert refresh(user, "GB/human_ocr_ensembl", "--out", str(out))[0] == 1
    assert "the file is there already" in user.err
    assert refresh(user, "GB/human_ocr_ensembl", "--out", str(out), "--overwrite")[0] == 0


def test_the_ends_of_parquet_files_say_how_many_rows(hub, user, published):
    code, told = refresh(user, "NTB-revised/H3K9ac")
    assert code == 0, user.err
    assert told["tasks"]["NTB-revised/H3K9ac"]["rows"] == {"train": 23274, "test": 5}
    assert told["notes"]["NTB-revised/H3K9ac"] == ["test 5 rows, here 1,004"]
    assert told["out"] is None
    assert refresh(user, "NTB-revised/H4K20me1")[1]["notes"] == {
        "NTB-revised/H4K20me1": ["there is no file H4K20me1/train.parquet"]
    }


def test_lines_of_json_and_scripts_say_what_the_card_says(hub, user, published):
    code, told = refresh(user, "CPC_8192")
    assert code == 0, user.err
    assert told["tasks"]["GeB/CPC_8192"]["licence"] == "MIT" and told["tasks"]["GeB/CPC_8192"]["rows"] is None
    assert "GeB/CPC_8192" not in told["notes"]
    code, told = refresh(user, "--benchmark", "LRB")
    assert code == 0 and len(told["tasks"]) == 9
    assert told["notes"]["LRB/cage_prediction"] == [
        "licence cc-by-4.0, here CC-BY-NC-SA-4.0",
        "a loading script only: sizes and classes cannot be asked",
    ]


def test_data_sets_that_do_not_answer_are_told_and_the_others_kept(hub, user, published, tmp_path):
    out = tmp_path / "facts.yaml"
    code, told = refresh(user, "--suite", "gengram-18", "--out", str(out))
    assert code == 1 and "Traceback" not in user.err
    assert (
        "there is no such data set on the Hub" in told["failed"]["InstaDeepAI/nucleotide_transformer_downstream_tasks"]
    )
    assert {name for name in yaml.safe_load(out.read_text())} == set(told["tasks"]) >= {"GeB/CPC_8192", "GeB/CPC_32768"}


def test_tasks_on_no_data_set(hub, user):
    code, told = refresh(user, "--benchmark", "GENA")
    assert code == 0 and told["tasks"] == {} and told["failed"] == {}
    assert user.call(call_tasks, argv=["--benchmark", "GENA", "--refresh"]) == 0
    assert "13 tasks are on no data set" in user.out


def test_a_hub_that_fails_is_told(hub, user, published):
    hub.fail("info", 500, times=99)
    code, told = refresh(user, "GB/human_ocr_ensembl")
    assert code == 1 and "it did not answer" in told["failed"][GB]
