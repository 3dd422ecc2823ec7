"""`gengram models`: which rows are shown, how a table fits a terminal, and one model with the source of every fact."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.catalogue import allows_commercial_use, list_families, list_models
from gengram.catalogue.command import amount
from gengram.catalogue.listing import describe_row, format_amount, format_tokens, show_model, show_models
from gengram.catalogue.rows import LOADS, ModelRow
from gengram.cli import main
from gengram.errors import InputError

ROWS = {row.id: row for row in list_models()}
ID = "InstaDeepAI/nucleotide-transformer-v2-100m-multi-species"


def ask(*words: str, capsys) -> dict:
    assert main(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nucleotide-transformer-v2-100m-multi-species"], f"did you mean '{ID}'?"),
        (["InstaDeepAI/nucleotide-transformer-v2-100m-multi-specie"], f"did you mean '{ID}'?"),
        (["grover"], "did you mean 'PoetschLab/GROVER'?"),
        (["zzzz"], "the catalogue has no such model"),
        ([""], "the catalogue has no such model"),
        (["\x1b[31m"], "\\x1b[31m: the catalogue has no such model"),
        (["--family", "gena-lm"], "did you mean 'gena_lm'?"),
        (["--family", "GENA-LM"], "did you mean 'gena_lm'?"),
        (["--family", ""], "there is no family ''"),
        ([ID, "--family", "evo", "--commercial_ok"], "leave out --family, --commercial_ok"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_similar(words, told, capsys):
    assert main(["models", *words]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--max_parameters", "0"],
        ["--max_parameters", "-1"],
        ["--max_parameters", "many"],
        ["--min_bases", "10kbb"],
        ["--min_bases", "1e3"],
        ["--min_bases", "9" * 30],
        ["--loads", "pickle"],
        ["--objective", "none"],
        [ID, "another"],
    ],
)
def test_a_wrong_filter_is_a_wrong_command_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["models", *words])
    assert stop.value.code == 2 and "gengram models: error:" in capsys.readouterr().err


def test_amounts():
    known = {"500": 500, "10k": 10_000, "10K": 10_000, "200M": 200_000_000, "1.5B": 1_500_000_000, "0.5k": 500}
    known |= {"500bp": 500, "5kb": 5_000, "12.2kbp": 12_200, "1Mb": 1_000_000}
    assert {text: amount(text) for text in known} == known


@given(st.integers(min_value=1, max_value=10**11))
def test_an_amount_is_read_back_within_its_three_digits(number):
    assert amount(format_amount(number)) == pytest.approx(number, rel=0.006)
    assert len(format_amount(number)) <= 5


def test_filters_keep_what_fits_and_name_what_might(capsys):
    told = ask("--max_parameters", "100M", "--min_bases", "5k", "--objective", "masked", capsys=capsys)
    assert told["models"] and told["unknown"]
    for row in told["models"]:
        assert row["parameters"] <= 100_000_000 and row["max_bases"] >= 5000 and row["objective"] == "masked"
    shown = {row["id"] for row in told["models"]}
    assert not shown & told["unknown"].keys()
    for id, flags in told["unknown"].items():
        row = ROWS[id]
        lacking = {"--max_parameters": row.parameters, "--min_bases": row.max_bases, "--objective": row.objective}
        assert flags == [flag for flag in flags if lacking[flag] is None] and flags
    # All others fail a filter that has an answer.
    for row in list_models():
        if row.id not in shown and row.id not in told["unknown"]:
            no = [row.parameters and row.parameters > 100_000_000, row.max_bases and row.max_bases < 5000]
            assert any(no) or row.objective not in (None, "masked"), row.id


@pytest.mark.parametrize("loads", LOADS)
def test_filter_by_loading(loads, capsys):
    ids = [row["id"] for row in ask("--loads", loads, capsys=capsys)["models"]]
    assert ids == [row.id for row in list_models() if row.loads == loads] and ids
    assert main(["models", "--loads", loads]) == 0
    told = "None of these loads here yet" in capsys.readouterr().out
    assert told == (loads in ("remote_code", "planned", "elsewhere"))


@pytest.mark.parametrize("family", list_families())
def test_filter_by_family(family, capsys):
    rows = ask("--family", family, capsys=capsys)["models"]
    assert rows and {row["family"] for row in rows} == {family}


def test_filter_by_licence(capsys):
    told = ask("--commercial-ok", capsys=capsys)
    assert [row["commercial_ok"] for row in told["models"]] == [True] * len(told["models"])
    assert len(told["models"]) == sum(allows_commercial_use(row) is True for row in list_models())
    assert len(told["unknown"]) == sum(allows_commercial_use(row) is None for row in list_models())
    assert main(["models", "--commercial_ok"]) == 0
    out = capsys.readouterr().out
    assert f"{len(told['unknown'])} more may fit: they lack a fact that --commercial_ok asks for" in out
    assert "CC-BY-NC" not in out


def test_nothing_fits(capsys):
    assert main(["models", "--max_parameters", "1"]) == 0
    out = capsys.readouterr().out
    assert "No model of the catalogue fits" in out and "more may fit" in out


def test_what_loads_comes_first():
    loads = [row["loads"] for row in show_models().data["models"]]
    assert loads == sorted(loads, key=LOADS.index) and len(loads) == len(ROWS)


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 200])
def test_a_table_fits_a_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = show_models(family="nucleotide_transformer").text.splitlines()[:-2]
    assert len(table) == 11
    assert max(map(len, table)) <= max(columns, 68)
    assert table[1].startswith("InstaDeepAI/") and table[1].endswith("gengram")
    assert ("licence" in table[0]) == (columns >= 80)
    assert ("trained" in table[0]) == (columns >= 100)


def test_in_a_pipe_nothing_is_cut():
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "gengram.cli", "models"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and all(id in done.stdout for id in ROWS) and "…" not in done.stdout


@pytest.mark.parametrize("family", list_families())
def test_one_model_is_shown_with_everything(family):
    for row in (row for row in list_models() if row.family == family):
        answer = show_model(row.id)
        assert answer.data == json.loads(json.dumps(answer.data)) == describe_row(row)
        assert all(source in answer.text for source in row.sources.values()) and "None" not in answer.text, row.id
        uses = [line for line in answer.text.splitlines() if line.startswith(("  gengram ", "  hf "))]
        assert bool(uses) == (row.loads in ("gengram", "transformers", "convert")), row.id
        assert row.instead is None or f"Instead: {row.instead}" in answer.text


def test_the_commands_of_a_model_are_understood(monkeypatch, tmp_path):
    import shlex
    from importlib import import_module

    from gengram.cli import VERBS

    monkeypatch.chdir(tmp_path)
    for id in (ID, "BGI-HangzhouAI/Genos-1.2B", "ZhejiangLab/Gengram-torch"):
        for line in show_model(id).text.splitlines():
            if line.startswith("  gengram "):
                words = shlex.split(line)[1:]
                verb = words[0] if words[0] in VERBS else " ".join(words[:2])
                monkeypatch.setattr(import_module(VERBS[verb].function.split(":")[0]), "run", lambda *a: 0)
                assert main(words) == 0


def test_tokens_in_a_word():
    row = {"id": "a/b", "family": "a", "loads": "planned", "verified": "unverified"}
    forms = [
        ({"tokenizer": "base"}, "base"),
        ({"tokenizer": "k-mer", "kmer_size": 6, "kmer_stride": 6}, "6-mer"),
        ({"tokenizer": "k-mer", "kmer_size": 6, "kmer_stride": 1}, "6-mer/1"),
        ({"tokenizer": "k-mer", "kmer_size": 6}, "6-mer"),
        ({"tokenizer": "BPE", "vocabulary": 32000}, "BPE 32k"),
        ({"tokenizer": "BPE"}, "BPE"),
        ({}, "?"),
    ]
    for facts, word in forms:
        assert format_tokens(ModelRow(**row, **facts)) == word


def test_from_python():
    with pytest.raises(InputError, match="there is no family 'gena'"):
        show_models(family="gena")
    with pytest.raises(InputError, match="no such model"):
        show_model("lab/nothing")


def test_it_is_fast_and_needs_no_torch():
    code = "import sys; from gengram.cli import main; main(['models']); print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
