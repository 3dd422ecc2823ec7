"""The registry: every file has the form, every name leads to one task, suites hold what they say."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from gengram.benchmarks.builders.command import KINDS
from gengram.benchmarks.tasks import registry
from gengram.benchmarks.tasks.registry import expand_suite, find_task, list_suites, list_tasks
from gengram.benchmarks.tasks.task import list_unknown_facts, make_task
from gengram.errors import InputError
from gengram.training.yaml_files import read_yaml

ROWS = Path(str(registry.FOLDER)) / "rows"
FILES = sorted(ROWS.rglob("*.yaml"))
COUNTS = {"GB": 9, "NTB": 18, "NTB-revised": 18, "LRB": 9, "GeB": 14, "GUE": 28, "GENA": 13, "other": 1}
PAPER = [
    "demo_coding_vs_intergenomic_seqs",
    "splice_sites_all",
    "human_genomic_element",
    "mouse_genomic_element",
    "multi_species_exon",
    "multi_species_three_prime_utr",
    "multi_species_five_prime_utr",
    "regulatory_element_promoter_8k",
    "regulatory_element_enhancer_8k",
    "human_enhancers_cohn",
    "human_ocr_ensembl",
    "variant_effect_causal_eqtl_8k",
    "cpc_8192",
    "cpc_32768",
    "H3",
    "H3K36me3",
    "primate_mammal_species_8192",
    "primate_mammal_species_32768",
]


def test_counts_of_the_benchmarks():
    assert Counter(task.benchmark for task in list_tasks()) == COUNTS
    assert len(FILES) == len(list_tasks())
    assert {benchmark: len(list_tasks(benchmark)) for benchmark in COUNTS} == COUNTS


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_file_reads_the_same_by_the_strict_reader(file):
    """No key twice, no `no` that becomes false."""
    root, loader = read_yaml(file)
    data = loader.construct_document(root)
    assert data == yaml.load(file.read_text(encoding="utf-8"), registry.LOADER)
    task = make_task(data, f"{file.parent.name}/{file.stem}", str(file))
    assert set(list_unknown_facts(task)) <= set(task.unverified)
    assert task == find_task(task.name)


def test_every_name_and_alias_leads_to_one_task():
    for task in list_tasks():
        for name in (task.name, *task.aliases):
            assert find_task(name) is task
            assert find_task(name.upper()) is task


def test_a_name_without_its_benchmark():
    assert find_task("human_enhancers_cohn").name == "GB/human_enhancers_cohn"
    assert find_task("H3").name == "NTB/H3"  # the name in the paper's tables
    with pytest.raises(
        InputError, match=r"2 tasks are called so: NTB/promoter_all, NTB-revised/promoter_all; name one"
    ):
        find_task("promoter_all")


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(
        InputError, match=r"there is no task 'GB/human_enhancer_cohn'; did you mean 'GB/human_enhancers_"
    ):
        find_task("GB/human_enhancer_cohn")
    with pytest.raises(InputError, match=r"there is no task 'zzzzzzzz'; `gengram tasks` lists"):
        find_task("zzzzzzzz")
    with pytest.raises(InputError, match=r"no benchmark 'GBX'; did you mean"):
        list_tasks("GBX")
    with pytest.raises(InputError, match=r"there is no suite 'x'; there are gengram-18, "):
        expand_suite("x")


def test_the_paper_s_suite_has_its_tasks_in_its_order():
    assert [find_task(name).name for name in PAPER] == list(list_suites()["gengram-18"])
    heads = Counter(task.head for task in expand_suite("Gengram-18"))
    assert heads == {"mlp": 16, "xgboost": 2}


def test_suites():
    suites = list_suites()
    assert set(suites) == {"gengram-18", "GB-8", "quick", *COUNTS} - {"other"}
    assert all(len(set(tasks)) == len(tasks) for tasks in suites.values())
    assert [len(expand_suite(name)) for name in suites] == [len(tasks) for tasks in suites.values()]
    assert set(suites["GB"]) - set(suites["GB-8"]) == {"GB/drosophila_enhancers_stark"}
    assert all((task.length.max or 0) <= 500 for task in expand_suite("quick"))


def test_builders_are_kinds_that_there_are():
    builders = {task.builder for task in list_tasks()} - {None}
    assert builders <= set(KINDS)
    assert all(task.builder for task in list_tasks("LRB"))


def test_folders_of_published_tasks_have_names_of_tasks(shared):
    root = shared / "data" / "benchmarks"
    folders = [folder for benchmark in ("GB", "GUE", "NTB") for folder in sorted((root / benchmark).glob("*/"))]
    assert len(folders) >= 30
    names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    found = {name: find_task(name).name for name in names}
    assert {name for name in names if found[name] != name} == {"NTB/enhancers_iEnhancer2L"}
    assert found["NTB/enhancers_iEnhancer2L"] == "other/enhancers_iEnhancer2L"
    with pytest.raises(InputError):
        find_task("derived/multi_species_exon_classification")
