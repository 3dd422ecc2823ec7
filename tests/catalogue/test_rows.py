"""The catalogue itself: every row has what a row needs, every fact a source, and what is said of loading is true."""

import re

import pytest
import transformers
import yaml
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

import gengram
from gengram.catalogue import find_model_row, list_families, list_models
from gengram.catalogue.licences import COMMERCIAL, NON_COMMERCIAL
from gengram.catalogue.rows import FACTS, LOADS, OBJECTIVES, ModelRow
from gengram.catalogue.uses import WITHOUT_CLASSES
from gengram.loading.checkpoints import check_repo_id
from gengram.registration import FAMILIES, find_configuration

ROWS = {row.id: row for row in list_models()}


def list_rows(**wanted: str) -> list[ModelRow]:
    return [row for row in list_models() if all(getattr(row, name) == value for name, value in wanted.items())]


each_family = pytest.mark.parametrize("family", list_families())


def test_no_id_is_there_twice_and_ids_are_found_in_any_case():
    ids = [row.id.casefold() for row in list_models()]
    assert len(ids) == len(set(ids)) == len(ROWS)
    assert find_model_row("airi-institute/GENA-lm-bert-base-t2t") is ROWS["AIRI-Institute/gena-lm-bert-base-t2t"]
    assert find_model_row("lab/nothing") is None


@each_family
def test_a_row_has_what_it_needs(family):
    assert list_rows(family=family)
    for row in list_rows(family=family):
        assert check_repo_id(row.id) == row.id
        assert row.loads in LOADS and row.architecture, row.id
        assert row.objective in OBJECTIVES, row.id
        assert (row.instead is not None) == (row.loads in ("remote_code", "planned", "elsewhere")), row.id
        assert re.fullmatch(r"unverified|sizes|\d{4}-\d\d-\d\d", row.verified), row.id


@each_family
def test_every_fact_has_a_source_and_only_facts_have_one(family):
    for row in list_rows(family=family):
        assert row.sources.keys() == {name for name in FACTS if getattr(row, name) is not None}, row.id
        assert all(len(source) > 10 for source in row.sources.values()), row.id


@each_family
def test_facts_have_their_types_and_agree_with_each_other(family):
    numbers = (
        "parameters",
        "layers",
        "hidden_size",
        "max_tokens",
        "max_bases",
        "kmer_size",
        "kmer_stride",
        "vocabulary",
    )
    for row in list_rows(family=family):
        for name in numbers:
            value = getattr(row, name)
            assert value is None or (type(value) is int and value > 0), (row.id, name)
        assert row.tokenizer in (None, "base", "k-mer", "BPE"), row.id
        assert (row.kmer_size is not None) == (row.tokenizer == "k-mer"), row.id
        if row.tokenizer == "base":
            assert row.bases_per_token == 1, row.id
        if row.kmer_stride:
            assert row.bases_per_token == row.kmer_stride <= row.kmer_size, row.id
        if row.max_tokens and row.max_bases:
            longest = row.max_tokens * (row.bases_per_token or 6) + (row.kmer_size or 0)
            assert row.max_bases <= longest, row.id
        for licence in (row.license_weights, row.license_code):
            assert licence in {None, *COMMERCIAL, *NON_COMMERCIAL}, row.id
        assert row.paper is None or row.paper.startswith("https://"), row.id


def test_what_gengram_loads_is_a_family_that_it_registers():
    for row in list_rows(loads="gengram"):
        assert row.model_type in FAMILIES, row.id
        package, _, name = row.classes.partition(".")
        found = getattr(gengram, name).config_class.model_type
        assert (package, found) == ("gengram", row.model_type), row.id


def test_what_transformers_loads_has_a_class_there():
    for row in list_rows(loads="transformers"):
        assert row.model_type in CONFIG_MAPPING_NAMES and row.model_type not in FAMILIES, row.id
        if row.classes:
            package, _, name = row.classes.partition(".")
            found = getattr(transformers, name).config_class.model_type
            assert (package, found) == ("transformers", row.model_type), row.id


def test_what_has_a_head_for_classes_can_be_fine_tuned():
    types = {row.model_type for row in list_models() if row.loads in ("gengram", "transformers")}
    with_classes = {name for name in types if name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES} | {
        name
        for name in types & FAMILIES.keys()
        if "AutoModelForSequenceClassification" in find_configuration(name).auto_classes
    }
    assert types - with_classes == WITHOUT_CLASSES


def test_what_is_named_instead_loads_here():
    for row in list_models():
        named = [word.strip("(),;.") for word in (row.instead or "").split()]
        assert all(ROWS[id].loads in ("gengram", "transformers") for id in named if id in ROWS), row.id


def test_files_use_every_source_that_they_name_and_say_nothing_twice():
    from gengram.catalogue.rows import _FOLDER

    for file in _FOLDER.iterdir():
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        groups = [data.get("shared", {}), *(model.get("facts", {}) for model in data["models"])]
        assert data["sources"].keys() == {source for group in groups for source in group}, file.name
        for group in groups:
            names = [name for facts in group.values() for name, value in facts.items() if value is not None]
            assert len(names) == len(set(names)), (file.name, group)
            assert {name for facts in group.values() for name in facts} <= set(FACTS), file.name
        assert all(model.keys() <= {"id", "loads", "instead", "verified", "facts"} for model in data["models"])


def test_the_families_of_this_package_and_of_others_are_there():
    organizations = {row.id.partition("/")[0] for row in list_models()}
    assert {"AIRI-Institute", "InstaDeepAI", "ZhejiangLab", "LongSafari", "zhihan1996", "PoetschLab"} <= organizations
    assert len(ROWS) > 150
    shown = {row.model_type for row in list_models() if row.loads == "gengram"}
    assert shown == {"gena_bert", "nucleotide_transformer", "segment_nt", "ntv3", "ntv3_posttrained"}
