"""Names are data: whatever letters they have, a card keeps its metadata, its outline and an example that is Python."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gengram.errors import InputError
from gengram.model_cards.card import _show_usage, render_card
from gengram.printable import make_printable
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.finetune import finetune
from gengram.training.publishing.command import card as main_card
from gengram.training.publishing.command import push as main_push
from gengram.training.publishing.dataset import _render_card, prepare_dataset
from gengram.training.publishing.model import prepare_upload


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A small classifier of two classes, with validation and test rows."""
    folder = tmp_path_factory.mktemp("names")
    rows = [f"{'ACGT'[row % 4] * 12}{'ACGT'[row // 4 % 4] * 12},{row % 2}" for row in range(16)]
    (folder / "rows.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    file = str(folder / "rows.csv")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    finetune(
        ModelArguments(backbone="llama", backbone_config=small),
        DataArguments(train_file=file, validation_file=file, test_file=file),
        FinetuneArguments(output_dir=str(folder / "run"), max_steps=1, disable_tqdm=True),
    )
    return folder / "run"


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    return shutil.copytree(finished_run, tmp_path / "run")


HOSTILE = [
    "a|b",
    "`</code><img src=x>",
    "a\n\n# Heading\n---\nb: c\n---",
    "x](https://example.org) ![y](z)",
    "\x1b[31m\u202e\x85\u2028",
    'A"); run(); ("',
    "``` \\ ' $\\frac{1}{2}$ {{ 7 * 7 }} {% raw %}",
    "\U0001f9ec",
    "\udcff",
    "",
    "x" * 10_000,
    "- key: [value",
    "null",
]
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))
READER = MarkdownIt("commonmark", {"html": True}).enable("table")


def outline(text: str) -> list[str]:
    """Every block and everything inline of a text but its words and code."""
    kinds = []
    for block in READER.parse(text):
        kinds.append(block.type)
        kinds += [one.type for one in block.children or () if one.type not in ("text", "text_special", "code_inline")]
    return kinds


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES, min_size=9, max_size=9, unique=True))
@example(names=["a", "b", "\x85", "c", "d", "e", "f", "\x85", "g"])
def test_names_of_any_letters_change_neither_the_metadata_nor_the_text_of_a_card(finished_run, names):
    report = json.loads((finished_run / "report.json").read_text())
    config = json.loads((finished_run / "seed-0" / "config.json").read_text())

    def render(report: dict, config: dict, title: str) -> ModelCard:
        plots = {"plots/loss.png": title}
        folder = finished_run / "seed-0"
        return render_card(folder, config, repo_id="lab/model", report=report, seed=0, license="mit", plots=plots)

    plain = render(report, config, "Loss")
    first, second, file, title, version, chromosome, optimizer, metric, kind = names
    for split in ("train", "validation", "test"):
        report["data"][split] |= {"file": f"/data/{file}", "rows_per_class": {first: 1, second: 2}}
    for values in report["per_class"].values():
        for measured in values:
            values[measured] = {first: 0.5, second: None}
    report["torch_version"], report["arguments"]["training"]["optim"] = version, optimizer
    report["arguments"]["data"]["validation_chromosomes"] = [chromosome]
    report["test"] = {metric if name == "loss" else name: values for name, values in report["test"].items()}
    config |= {"id2label": {"0": first, "1": second}, "architectures": [f"{kind}ForSequenceClassification"]}
    card = render(report, config, f"Loss {title}")

    read = ModelCard(str(card).encode().decode())
    assert read.data.to_dict() == card.data.to_dict() and read.text == card.text
    before, after = plain.data.to_dict(), card.data.to_dict()
    assert {name for name in after if after[name] != before[name]} <= {"model-index", "metrics"}
    shown = after["model-index"][0]["results"][0]["dataset"]
    assert shown["name"] == shown["type"] == make_printable(Path(f"/data/{file}").name)
    assert outline(card.text) == outline(plain.text)


@settings(max_examples=40, deadline=None)
@given(mask=NAMES)
def test_the_example_has_tokens_as_literals(mask):
    tokenizer = build_nucleotide_tokenizer(model_max_length=64)
    tokenizer.mask_token = mask or "[MASK]"
    code = _show_usage("lab/model", {"architectures": ["BertForMaskedLM"]}, tokenizer, 0)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "predict"]
    (sequence,) = (ast.literal_eval(argument) for argument in call.args)
    assert str(tokenizer.mask_token) in sequence
    assert sequence.replace(str(tokenizer.mask_token), "", 1).strip("ACGT") == ""


@pytest.mark.parametrize("license", ["", "mit\nx: y", "two words", "<b>", "x" * 200, "-", "\x1b[31m"])
def test_a_licence_is_one_word(run, license, capsys):
    for command in (main_card, main_push):
        assert command(["lab/model", "--model", str(run), f"--license={license}"]) == 1
        error = capsys.readouterr().err
        assert "--license" in error and "apache-2.0" in error and "\x1b" not in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("architectures", "Bert"), ("model_type", ["bert"]), ("id2label", ["a"]), ("id2label", {"a": "b"})],
)
def test_a_configuration_of_other_kinds_of_values_is_refused_with_the_key(run, key, value):
    path = run / "seed-0" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=key):
        prepare_upload(run, "lab/model", seed=0)


def test_an_entry_of_results_holds_its_names_exactly(run):
    task = "a: b\n- c # \x1b[31m\u202e"
    upload = prepare_upload(run, "lab/model", seed=0, dataset="lab/data", task=task)
    (entry,) = yaml.safe_load(upload.files[".eval_results/data.yaml"])
    assert entry["dataset"] == {"id": "lab/data", "task_id": task} and set(entry) == {"dataset", "value", "notes"}


COLUMNS = st.lists(
    st.one_of(
        st.sampled_from(
            ["a|b", "`<b>", "x\n# y\n---", "](http://z)", "\x1b[31m\u202e", "", "- k: [v", "\U0001f9ec", "null"]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    max_size=6,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(columns=COLUMNS, source=COLUMNS.filter(bool))
def test_names_of_columns_and_files_are_text_of_the_card(columns, source):
    table = {
        "config": "default",
        "split": "train",
        "rows": 3,
        "shortest": 1,
        "longest": 2,
        "columns": ["sequence", *columns],
        "source": f"train_{source[0]}.csv",
        "sha256": "0" * 12,
    }
    card = _render_card("lab/data", [table, table], {}, "mit")
    read = DatasetCard(str(card).encode().decode())
    assert read.data.to_dict() == card.data.to_dict() and read.text == card.text
    plain = _render_card("lab/data", [table | {"columns": ["sequence"], "source": "train.csv"}] * 2, {}, "mit")
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    assert [block.type for block in reader.parse(card.text)] == [block.type for block in reader.parse(plain.text)]
    kinds = {token.type for block in reader.parse(card.text) for token in block.children or ()}
    assert kinds <= {"text", "text_special", "code_inline", "softbreak"}
    assert card.data.to_dict() == plain.data.to_dict()


def test_a_licence_of_several_words_is_refused_for_a_dataset(tmp_path):
    with pytest.raises(InputError, match="--license 'two words': write the licence as the Hub names it"):
        prepare_dataset(tmp_path, "lab/data", tmp_path, license="two words")
