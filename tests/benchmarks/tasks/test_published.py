"""Published figures: each belongs to a task or to none, and is what its source prints."""

import dataclasses
import math

import pytest

from gengram.benchmarks.tasks.published import Column, Row, Table, check_table, list_published, list_tables
from gengram.benchmarks.tasks.registry import expand_suite, find_task, list_tasks
from gengram.errors import InputError
from gengram.training.problems import METRICS

KNOWN_METRICS = {"f1"}.union(*METRICS.values())


def test_figures_have_a_task_a_metric_and_a_range():
    figures = list_published()
    names = {task.name for task in list_tasks()}
    assert len(figures) > 700
    assert {figure.task for figure in figures} - names == {None}
    assert {figure.metric for figure in figures} <= KNOWN_METRICS
    for figure in figures:
        assert math.isfinite(figure.value) and 0 <= figure.value <= 1, figure
        assert figure.source and figure.protocol and figure.status in ("verified", "recalled", "digitised")
        assert (figure.spread is None) == (figure.spread_of is None)


def find(task, model, table):
    (figure,) = [f for f in list_published(task) if f.model == model and f.table == table]
    return figure


# Copied by hand from the tables.
@pytest.mark.parametrize(
    ("task", "model", "table", "value", "metric", "status"),
    [
        ("splice_sites_all", "Gengram-10B, window 21, 8k", "gengram", 0.9009, "auroc", "verified"),
        ("H3K36me3", "Gengram-10B, no window, 8k", "gengram", 0.7227, "auroc", "verified"),
        ("H3K36me3", "Genos-10B", "gengram", 0.7658, "auroc", "verified"),
        ("H3K36me3", "Genos-10B-1M", "genos", 0.8300, "auroc", "verified"),
        ("primate_mammal_species_8192", "NTv3-650M", "gengram", 0.8652, "auroc", "verified"),
        ("primate_mammal_species_32768", "Gengram-10B, no window, 32k", "gengram", 0.9785, "auroc", "verified"),
        ("CPC_32768", "Gengram-10B without the memory, 8k", "gengram_baselines", 0.9205, "auroc", "digitised"),
        ("H3K36me3", "Gengram-10B without the memory, 32k", "gengram_baselines", 0.6555, "auroc", "digitised"),
        ("splice_sites_all", "without Gengram", "gengram_press", 0.776, "auroc", "verified"),
        ("variant_effect_pathogenic_clinvar", "Genos-10B-1M", "genos", 0.9298, "auroc", "verified"),
        ("CPC_131072", "HyenaDNA-1M", "genos", 0.9735, "auroc", "verified"),
        ("GB/human_ocr_ensembl", "Caduceus-Ph", "random_forest", 0.7650, "auroc", "verified"),
        ("GUE/prom_300_tata", "HyenaDNA", "random_forest", 0.8077, "auroc", "verified"),
        ("GUE/mouse_3", "NT-v2", "random_forest", 0.6942, "auroc", "verified"),
        ("GUE/tf_4", "GROVER", "random_forest", 0.9310, "auroc", "verified"),
        ("GUE/EMP_H4ac", "GROVER", "random_forest", 0.7175, "auroc", "verified"),
        ("NTB/H4ac", "GROVER", "random_forest", 0.7175, "auroc", "verified"),
        ("GB/human_enhancers_ensembl", "CNN (TensorFlow)", "gb", 0.811, "accuracy", "verified"),
        ("GB/human_nontata_promoters", "Caduceus-PS", "gb", 0.945, "accuracy", "recalled"),
        ("GB/demo_human_or_worm", "DNABERT-2", "gb", 0.974, "accuracy", "recalled"),
        ("GB/human_nontata_promoters", "seqrep", "gb_seqrep", 0.954, "accuracy", "verified"),
        ("GB/human_ensembl_regulatory", "Caduceus-PH", "gb_rerun", 0.721, "accuracy", "verified"),
        ("GB/human_ocr_ensembl", "JanusDNA", "gb_rerun", 0.821, "accuracy", "verified"),
        ("NTB/H3K4me3", "Caduceus-PS", "ntb_caduceus", 0.440, "mcc", "verified"),
        ("NTB/promoter_tata", "Caduceus-Ph", "ntb_caduceus", 0.953, "f1", "verified"),
        ("NTB/splice_sites_all", "Caduceus-PS", "ntb_caduceus", 0.927, "accuracy", "verified"),
        ("NTB/splice_sites_donors", "Caduceus-PS", "ntb_caduceus", 0.874, "f1", "verified"),
        ("GUE/covid", "NT-2500M-multi", "gue", 0.7304, "f1", "verified"),
        ("GUE/prom_core_tata", "DNABERT-2", "gue", 0.7417, "mcc", "verified"),
        ("GUE/prom_300_all", "DNABERT-2", "gue", 0.8677, "mcc", "verified"),
        ("GUE/tf_0", "NT-2500M-multi", "gue", 0.6664, "mcc", "recalled"),
        ("GUE/tf_2", "DNABERT-2", "gue", 0.6652, "mcc", "verified"),
        ("GUE/mouse_3", "CNN", "gue", 0.4548, "mcc", "verified"),
        ("GENA/promoters_2000", "gena-lm-bert-large-t2t", "gena", 0.9370, "f1", "verified"),
        ("GENA/spliceai", "gena-lm-bert-large-t2t", "gena", 0.9359, "auprc", "verified"),
        ("NTB-revised/H3K4me3", "modernGENA large", "moderngena", 0.643, "mcc", "verified"),
    ],
)
def test_figures_as_printed(task, model, table, value, metric, status):
    figure = find(task, model, table)
    assert (figure.value, figure.metric, figure.status) == (pytest.approx(value, abs=1e-9), metric, status)


def test_sums_of_the_tables_of_the_papers():
    """Column sums, added up from the printed table: a slip in any cell shows."""
    sums = {column.model: 0.0 for column in list_tables()["gengram"].columns}
    for row in list_tables()["gengram"].rows:
        for column, value in zip(list_tables()["gengram"].columns, row.values):
            sums[column.model] += value
    assert len(list_tables()["gengram"].rows) == 18
    assert {model: round(total, 4) for model, total in sums.items()} == SUMS


SUMS = {
    "Gengram-10B, window 21, 8k": 16.0613,
    "Gengram-10B, no window, 8k": 14.7067,
    "Gengram-10B, window 21, 32k": 16.1042,
    "Gengram-10B, no window, 32k": 16.0200,
    "Genos-10B": 16.0375,
    "Evo2-40B": 16.1189,
    "GENERator-3B": 15.5861,
    "NTv3-650M": 15.8491,
}


def test_spreads_and_notes():
    figure = find("NTB/H3K14ac", "Caduceus-PS", "ntb_caduceus")
    assert (figure.spread, figure.spread_of) == (0.212, "range over 10 seeds")
    assert find("NTB/H4", "Caduceus-PS", "ntb_caduceus").spread is None
    assert "may be swapped" in (find("GUE/prom_300_tata", "HyenaDNA", "gue").note or "")
    assert "set right" in (find("GUE/prom_core_all", "DNABERT-2", "gue").note or "")
    assert find("GUE/prom_core_notata", "DNABERT-2", "gue").note is None


def test_every_task_of_the_paper_has_the_paper_s_figures():
    for task in expand_suite("gengram-18"):
        tables = {figure.table for figure in list_published(task)}
        assert {"gengram", "gengram_baselines"} <= tables
        assert len([figure for figure in list_published(task) if figure.table == "gengram"]) == 8


def test_a_task_that_nobody_has_scored_and_a_local_one():
    assert list_published("GeB/Human_classify_1048576") == []
    local = dataclasses.replace(find_task("NTB/H3"), name="derived/mine")
    assert list_published(local) == []
    with pytest.raises(InputError, match="no task 'derived/mine'"):
        list_published("derived/mine")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"values": (0.1, 0.2)}, "t.yaml, row 'x': 2 numbers for 1 columns"),
        ({"spreads": (0.1, 0.2)}, "2 numbers for 1 columns"),
        ({"notes": {"b": "?"}}, "there is no column 'b'"),
        ({"statuses": {"b": "recalled"}}, "there is no column 'b'"),
        ({"tasks": ("NTB/H33",)}, "there is no task 'NTB/H33'; did you mean"),
        ({"tasks": ("ntb/h3",)}, "name the task 'NTB/H3', not 'ntb/h3'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(row, message):
    row = Row(**{"name": "x", "tasks": ("NTB/H3",), "values": (0.5,), **row})
    table = Table(
        title="t", source="s", metric="mcc", protocol="p", status="verified", columns=(Column(model="a"),), rows=(row,)
    )
    with pytest.raises(InputError, match=message):
        check_table(table, "t.yaml")
