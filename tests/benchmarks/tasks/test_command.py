"""`gengram tasks`: filters, one task, published scores, wrong words; and the file of facts that the registry reads."""

import json

import pytest

from gengram.benchmarks.tasks.overlay import VARIABLE, Facts, read_overlay, update_task, write_overlay
from gengram.benchmarks.tasks.registry import find_task
from gengram.cli import main
from gengram.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe: names are not shortened

    def call(*words):
        code = main(["tasks", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def list_names(answer):
    return [task["name"] for task in json.loads(answer[1])["tasks"]]


def test_counts_a_benchmark(call):
    code, out, _ = call()
    assert code == 0
    assert "110 tasks: GB 9, NTB 18, NTB-revised 18, LRB 9, GeB 14, GUE 28, GENA 13, other 1." in out
    assert json.loads(call("--json")[1])["counts"]["GUE"] == 28


def test_filters(call):
    paper = list_names(call("--suite", "gengram-18", "--json"))
    assert paper[0] == "GB/demo_coding_vs_intergenomic_seqs" and len(paper) == 18
    assert list_names(call("--suite", "gengram-18", "--benchmark", "ntb", "--json")) == [
        "NTB/splice_sites_all",
        "NTB/H3",
        "NTB/H3K36me3",
    ]
    assert list_names(call("--problem", "multi_label", "--json")) == [
        "LRB/chromatin_features_dna_accessibility",
        "LRB/chromatin_features_histone_marks",
        "GENA/deepsea",
    ]
    assert set(list_names(call("--metric", "pearson", "--json"))) == {"GENA/deepstarr", "GENA/enformer_cage"}
    assert len(list_names(call("--license", "mit", "--json"))) == 13
    short = json.loads(call("--benchmark", "LRB", "--max_length", "8192bp", "--json")[1])
    assert [task["name"] for task in short["tasks"]] == [
        "LRB/regulatory_element_enhancer",
        "LRB/regulatory_element_promoter",
        "LRB/variant_effect_causal_eqtl",
        "LRB/variant_effect_pathogenic_clinvar",
    ]
    assert short["unknown"]["LRB/cage_prediction"] == ["--max_length"]
    assert (
        "5 more may fit: they lack a fact that --max_length asks for"
        in call("--benchmark", "LRB", "--max_length", "9k")[1]
    )
    code, out, _ = call("--problem", "token", "--license", "MIT", "--max_length", "10")
    assert code == 0 and "No task fits. Leave out a filter." in out


def test_what_is_not_known_is_shown_so(call):
    code, out, _ = call("--unverified", "--benchmark", "GeB")
    assert code == 0
    assert "GeB/Multi_species_three_prime_utr" in out and "rows.test" in out
    assert "all tasks" not in out and "14 tasks: GeB 14." in out


def test_one_task_whole(call):
    code, out, _ = call("GB/human_enhancers_cohn")
    assert code == 0
    for words in (
        "GB/human_enhancers_cohn: Human enhancers (Cohn)",
        "train 20,843, test 6,948",
        "negative 0, positive 1",
        "min 500, median 500, max 500 (recalled)",
        "published (",
        "0.8358",
        "numbers differ between copies",
        "unverified        hub.revision",
    ):
        assert words in out, words
    told = json.loads(call("cpc_8192", "--json")[1])
    assert told["name"] == "GeB/CPC_8192" and told["rows"] == {"train": 59011, "validation": 526, "test": 3192}
    assert {figure["table"] for figure in told["published"]} == {"gengram", "gengram_baselines", "genos"}
    assert "published: nothing" in call("GeB/Human_classify_1048576")[1]
    assert "a loading script only" in call("LRB/cage_prediction")[1]


def test_published_scores_of_several(call):
    code, out, _ = call("--benchmark", "NTB-revised", "--published")
    assert code == 0 and "modernGENA large" in out and "0.643 ± 0.012" in out and "1 published scores." in out
    told = json.loads(call("--suite", "gengram-18", "--published", "--json")[1])
    assert sum(figure["table"] == "gengram" for figure in told["published"]) == 144


def test_a_narrow_terminal_loses_columns_and_cuts_no_line(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), ("--published", "--benchmark", "GB"), ("GeB/CPC_8192",)):
        lines = call(*words)[1].splitlines()
        assert max(map(len, lines[:-2])) <= 100
    assert "unverified" not in call()[1].splitlines()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GB/nothing_like_it"], "there is no task 'GB/nothing_like_it'"),
        (["promoter_tata"], "2 tasks are called so: NTB/promoter_tata, NTB-revised/promoter_tata; name one"),
        (["NTB/H3", "--metric", "mcc", "--unverified"], "without a filter; leave out --metric, --unverified"),
        (["--benchmark", "GEBB"], "there is no benchmark 'GEBB'; did you mean 'GeB'?"),
        (["--suite", "gengram18"], "there is no suite 'gengram18'; did you mean 'gengram-18'?"),
        (["--refresh", "--published"], "leave out --published or --refresh"),
        (["--refresh", "--out", "facts.csv"], "must end with .yaml, .yml"),
        (["\x1b[31m"], "there is no task '\\x1b[31m'"),
    ],
)
def test_wrong_words_are_told(words, message, call):
    code, out, err = call(*words)
    assert (code, out) == (1, "")
    assert message in err and "Traceback" not in err


def test_out_needs_refresh(call, capsys):
    with pytest.raises(SystemExit) as stop:
        call("--out", "facts.yaml")
    assert stop.value.code == 2 and "are of --refresh" in capsys.readouterr().err


def test_offline_the_hub_is_not_asked(call, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, err = call("--refresh", "--out", str(tmp_path / "facts.yaml"))
    assert code == 1 and "HF_HUB_OFFLINE is set, so the Hub cannot be asked; unset it" in err
    assert not list(tmp_path.iterdir())


def test_a_file_of_facts_is_read_where_the_variable_names_it(call, monkeypatch, tmp_path):
    path = tmp_path / "facts.yaml"
    facts = {
        "NTB/splice_sites_all": Facts(
            revision=COMMIT,
            rows={"train": 26_999},
            classes=("acceptor", "donor", "none"),
            codes={"donor": 0, "acceptor": 1, "none": 2},
        ),
        "NTB-revised/H3K9me3": Facts(rows={"test": 851}, licence="MIT"),
    }
    write_overlay(facts, path, "for a test")
    assert read_overlay(path) == facts
    before = find_task("splice_sites_all")
    monkeypatch.setenv(VARIABLE, str(path))
    task = find_task("splice_sites_all")
    assert task.hub.revision == COMMIT and task.rows == {"train": 26_999, "test": 3_000}
    assert task.codes == {"donor": 0, "acceptor": 1, "none": 2}
    assert set(before.unverified) - set(task.unverified) == {"hub.revision", "classes", "codes"}
    other = find_task("NTB-revised/H3K9me3")
    assert other.rows["test"] == 851 and other.recalled == () and other.licence == "MIT"
    assert "train 26,999" in call("splice_sites_all")[1]
    monkeypatch.delenv(VARIABLE)
    assert find_task("splice_sites_all") is before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NTB/H33:\n  licence: MIT\n", "there is no task 'NTB/H33'; did you mean 'NTB/H3'?"),
        ("NTB/H3:\n  license: MIT\n", "NTB/H3: there is no key 'license'; did you mean 'licence'?"),
        ("NTB/H3:\n  revision: main\n", "hub.revision: 'main' should be a commit of 40 hexadecimal digits"),
        ("NTB/H3:\n  classes: [a, b, b]\n", "classes: a name is there twice"),
        (f"GUE/mouse_0:\n  revision: {COMMIT}\n", "GUE/mouse_0: it is on no data set of the Hub"),
        ("- NTB/H3\n", "should be a mapping of tasks to facts"),
        ("NTB/H3: {", "cannot be read as YAML"),
        ("? [a]\n: b\n", "cannot be read as YAML"),
        (None, "there is no such file, and the variable GENGRAM_TASKS names it; mend or unset it"),
    ],
)
def test_a_file_of_facts_that_cannot_be_used(text, message, call, monkeypatch, tmp_path):
    path = tmp_path / "facts.yaml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(VARIABLE, str(path))
    code, _, err = call("NTB/H3")
    assert code == 1 and message in err and str(path) in err and "Traceback" not in err


def test_facts_that_contradict_a_task():
    with pytest.raises(InputError, match="codes: these are not the classes of the task"):
        update_task(find_task("NTB/H3"), Facts(codes={"a": 0, "b": 1}), "facts.yaml")
