"""Facts of the tasks beside the published tables, which are copied here by hand, apart from the YAML files."""

import pytest

from gengram.benchmarks.tasks.registry import find_task, list_tasks

# task: rows of train, (validation,) test; outputs; bases: median, or (min, median, max), None where nobody says
GB = {
    "demo_coding_vs_intergenomic_seqs": ((75_000, 25_000), 2, (200, 200, 200)),
    "demo_human_or_worm": ((75_000, 25_000), 2, (200, 200, 200)),
    "drosophila_enhancers_stark": ((5_184, 1_730), 2, (236, 2_142, 4_237)),
    "dummy_mouse_enhancers_ensembl": ((968, 242), 2, (331, 2_381, 4_707)),
    "human_enhancers_cohn": ((20_843, 6_948), 2, (500, 500, 500)),
    "human_enhancers_ensembl": ((123_872, 30_970), 2, (2, 269, 573)),
    "human_ensembl_regulatory": ((231_348, 57_713), 3, (71, 401, 802)),
    "human_nontata_promoters": ((27_097, 9_034), 2, (251, 251, 251)),
    "human_ocr_ensembl": ((139_804, 34_952), 2, (71, 315, 593)),
}
NTB = {
    "promoter_all": ((53_276, 5_920), 2, 300),
    "promoter_no_tata": ((47_767, 5_299), 2, 300),
    "promoter_tata": ((5_509, 621), 2, 300),
    "enhancers": ((14_968, 400), 2, 200),
    "enhancers_types": ((14_968, 400), 3, 200),
    "splice_sites_all": ((27_000, 3_000), 3, 400),
    "splice_sites_acceptors": ((19_961, 2_218), 2, 600),
    "splice_sites_donors": ((19_775, 2_198), 2, 600),
    "H3": ((13_468, 1_497), 2, 500),
    "H4": ((13_140, 1_461), 2, 500),
    "H3K9ac": ((25_003, 2_779), 2, 500),
    "H3K14ac": ((29_743, 3_305), 2, 500),
    "H4ac": ((30_685, 3_410), 2, 500),
    "H3K4me1": ((28_509, 3_168), 2, 500),
    "H3K4me2": ((27_614, 3_069), 2, 500),
    "H3K4me3": ((33_119, 3_680), 2, 500),
    "H3K36me3": ((31_392, 3_488), 2, 500),
    "H3K79me3": ((25_953, 2_884), 2, 500),
}
NTB_REVISED = {
    "promoter_all": ((30_000, 1_584), 2, 300),
    "promoter_no_tata": ((30_000, 1_372), 2, 300),
    "promoter_tata": ((5_062, 212), 2, 300),
    "enhancers": ((30_000, 3_000), 2, 400),
    "enhancers_types": ((30_000, 3_000), 3, 400),
    "splice_sites_all": ((30_000, 3_000), 3, 600),
    "splice_sites_acceptors": ((30_000, 3_000), 2, 600),
    "splice_sites_donors": ((30_000, 3_000), 2, 600),
    "H2AFZ": ((30_000, 3_000), 2, 1_000),
    "H3K27me3": ((30_000, 3_000), 2, 1_000),
    "H3K36me3": ((30_000, 3_000), 2, 1_000),
    "H3K4me1": ((30_000, 3_000), 2, 1_000),
    "H3K27ac": ((30_000, 1_616), 2, 1_000),
    "H3K4me2": ((30_000, 2_138), 2, 1_000),
    "H3K4me3": ((30_000, 776), 2, 1_000),
    "H3K9ac": ((23_274, 1_004), 2, 1_000),
    "H3K9me3": ((27_438, 850), 2, 1_000),
    "H4K20me1": ((30_000, 2_270), 2, 1_000),
}
LRB = {
    "variant_effect_causal_eqtl": ((88_717, 8_846), 2, 8_192),
    "variant_effect_pathogenic_clinvar": ((38_634, 1_018), 2, 8_192),
    "variant_effect_pathogenic_omim": ((2_321_473,), 2, None),
    "cage_prediction": ((33_891, None, 1_922), 50, None),
    "bulk_rna_expression": ((22_827, 990), 218, None),
    "chromatin_features_histone_marks": ((2_203_689, 227_456), 20, None),
    "chromatin_features_dna_accessibility": ((2_203_689, 227_456), 20, None),
    "regulatory_element_promoter": ((953_376, 96_240), 2, 8_192),
    "regulatory_element_enhancer": ((1_914_575, 192_201), 2, 8_192),
}
GEB = {
    "Human_genomic_element_classification": ((12_000, 6_000, 6_000), 4, (None, None, 1_024)),
    "Mouse_genomic_element_classification": ((12_000, 6_000, 6_000), 4, (None, None, 1_024)),
    "Multi_species_exon_classification": ((16_346, 7_592, 7_593), None, (None, None, 1_024)),
    "Multi_species_three_prime_utr": ((None, None, None), None, (None, None, 1_024)),
    "Multi_species_five_prime_utr": ((None, None, None), None, (None, None, 1_024)),
    "CPC_8192": ((59_011, 526, 3_192), 2, 8_192),
    "CPC_32768": ((14_471, 132, 788), 2, 32_768),
    "CPC_131072": ((3_605, 32, 188), 2, 131_072),
    "primate_mammal_species_classification_8192": ((None, None, None), None, 8_192),
    "primate_mammal_species_classification_32768": ((None, None, None), None, 32_768),
    "Human_population_classification_8192": ((23_172, 2_906, 2_916), 3, 8_192),
    "Human_population_classification_32768": ((23_207, 2_913, 2_925), 3, 32_768),
    "Human_population_classification_131072": ((23_623, 2_830, 2_957), 3, 131_072),
    "Human_classify_1048576": ((None, None, None), None, 1_048_576),
}
NOTHING = (None, None, None)
GUE = {
    "mouse_0": ((6_478, 810, 810), 2, 101),
    "mouse_1": ((53_952, 6_745, 6_745), 2, 101),
    "mouse_2": ((2_620, 328, 328), 2, 101),
    "mouse_3": ((1_904, 239, 239), 2, 101),
    "mouse_4": ((15_064, 1_883, 1_883), 2, 101),
    "prom_300_all": ((47_356, 5_920, 5_920), 2, 300),
    "prom_300_notata": ((42_452, 5_307, 5_307), 2, 300),
    "prom_300_tata": ((4_904, 613, 613), 2, 300),
    "prom_core_all": ((47_356, 5_920, 5_920), 2, 70),
    "prom_core_notata": ((42_452, 5_307, 5_307), 2, 70),
    "prom_core_tata": ((4_904, 613, 613), 2, 70),
    "splice_reconstructed": ((36_496, 4_562, 4_562), 3, 400),
    "tf_0": ((32_378, 1_000, 1_000), 2, 101),
    "tf_1": ((30_672, 1_000, 1_000), 2, 101),
    "tf_2": ((19_000, 1_000, 1_000), 2, 101),
    "tf_3": ((27_294, 1_000, 1_000), 2, 101),
    "tf_4": ((19_000, 1_000, 1_000), 2, 101),
    **{
        f"EMP_{mark}": (NOTHING, 2, (None, None, 500))
        for mark in ("H3", "H3K14ac", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K79me3", "H3K9ac", "H4", "H4ac")
    },
    "covid": (NOTHING, 9, NOTHING),
}
GENA = {
    "promoters_300": ((59_196, ...), 2, 300),
    "promoters_2000": ((None, ...), 2, 2_000),
    "promoters_8000": ((None, ...), 2, 8_000),
    "promoters_16000": ((None, ...), 2, 16_000),
    "spliceai": ((146_436, 16_270, 16_505), 3, 15_000),
    "deepstarr": ((402_296, 40_570, 41_186), 2, 249),
    "deepsea": (NOTHING, 919, (None, None, 8_000)),
    "aparent": ((None, None), 1, (None, None, 256)),
    "enformer_cage": (NOTHING, 5_313, 196_608),
}
TABLES = {"GB": GB, "NTB": NTB, "NTB-revised": NTB_REVISED, "LRB": LRB, "GeB": GEB, "GUE": GUE, "GENA": GENA}
EXPECTED = {f"{name}/{task}": facts for name, table in TABLES.items() for task, facts in table.items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_outputs_and_lengths(name):
    task, (rows, outputs, length) = find_task(name), EXPECTED[name]
    splits = {1: ("test",), 2: ("train", "test"), 3: ("train", "validation", "test")}[len(rows)]
    expected = {split: count for split, count in zip(splits, rows) if count is not ...}
    assert task.rows == expected
    assert task.outputs == outputs
    if name.startswith("NTB/H"):  # up to 500: no shorter ones are promised
        length = (None, length, length)
    if length is None or isinstance(length, int):
        length = (length,) * 3
    assert (task.length.min, task.length.median, task.length.max) == length


def test_every_task_of_a_table_is_there():
    for benchmark, table in TABLES.items():
        names = {task.short for task in list_tasks(benchmark)}
        assert names - set(table) <= (
            {"clinvar", "splicing_onemut", "ctcf_liver", "ctcf_signal"} if benchmark == "GENA" else set()
        )
        assert set(table) <= names


def test_class_numbers():
    """What somebody has looked up, and not more."""
    ocr = find_task("GB/human_ensembl_regulatory")
    assert ocr.classes == ("enhancer", "ocr", "promoter")
    assert ocr.codes == {"promoter": 0, "enhancer": 1, "ocr": 2}
    for name in ("human_enhancers_cohn", "human_nontata_promoters", "human_ocr_ensembl"):
        assert find_task(f"GB/{name}").codes == {"negative": 0, "positive": 1}
    for name in set(GB) - {
        "human_enhancers_cohn",
        "human_nontata_promoters",
        "human_ocr_ensembl",
        "human_ensembl_regulatory",
    }:
        task = find_task(f"GB/{name}")
        assert task.codes is None and "codes" in task.unverified
    element = find_task("GeB/Human_genomic_element_classification")
    assert element.codes == {"3'UTR": 0, "5'UTR": 1, "exon": 2, "protein-coding gene": 3}
    assert find_task("GeB/Human_population_classification_8192").codes == {"EUR": 0, "AFR": 1, "EAS": 2}
    assert find_task("GeB/Multi_species_exon_classification").classes is None
    assert find_task("GUE/splice").classes == ("acceptor", "donor", "none")


def test_classes_of_published_tasks_are_in_the_order_of_their_names():
    odd = {task.name for task in list_tasks() if task.classes and list(task.classes) != sorted(task.classes)}
    assert odd == {"GENA/spliceai"}  # none, acceptor, donor: the numbers of its files


def test_splits_by_chromosome_and_loading_scripts():
    assert find_task("LRB/variant_effect_causal_eqtl").test_chromosomes == ("chr9", "chr10")
    assert find_task("LRB/variant_effect_pathogenic_clinvar").test_chromosomes == ("chr8",)
    assert find_task("LRB/regulatory_element_promoter").validation_chromosomes == ("chr22",)
    assert find_task("LRB/bulk_rna_expression").assembly == "hg19"
    assert all(task.hub and task.hub.script for task in list_tasks("LRB"))
    assert not any(task.hub and task.hub.script for task in list_tasks() if task.benchmark != "LRB")


def test_licences():
    assert {task.licence for task in list_tasks("GB")} == {"Apache-2.0"}
    assert {task.licence for task in list_tasks("LRB")} == {"CC-BY-NC-SA-4.0"}
    assert {task.licence for task in list_tasks("NTB")} == {"CC-BY-NC-SA-4.0"}
    assert {task.licence for task in list_tasks("GeB") if task.hub} == {"MIT"}
    assert {task.licence for task in list_tasks("GUE")} == {None}


def test_heads_of_the_frozen_probe():
    boosted = {task.name for task in list_tasks() if task.head == "xgboost"}
    assert boosted == {
        *(f"GeB/primate_mammal_species_classification_{bases}" for bases in (8192, 32768)),
        *(f"GeB/Human_population_classification_{bases}" for bases in (8192, 32768, 131072)),
    }


def test_what_is_remembered_only_says_so():
    for task in list_tasks("NTB-revised"):
        if task.short.startswith("splice"):
            assert not task.recalled
        elif task.short == "H3K9me3":
            assert task.recalled == ("rows.test",)
        else:
            assert set(task.recalled) == {"rows.train", "rows.test"}
    assert {"length.min", "length.max"} <= set(find_task("GB/drosophila_enhancers_stark").recalled)


def test_known_traps_are_told():
    assert all("numbers differ between copies" in " ".join(task.problems) for task in list_tasks("GB"))
    assert "3,789 sequences are repeated" in find_task("GUE/tf_4").problems[0]
    assert "80 %" in find_task("GENA/promoters_300").problems[0]
    assert "5 %" in find_task("promoter_8k").problems[-1]
    assert all("loading script" in task.problems[0] for task in list_tasks("LRB"))
