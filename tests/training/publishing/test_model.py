"""What a push would publish, and what a card says: all that can be known without a Hub."""

import configparser
import gzip
import json
import os
import random
import re
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, parse_eval_result_entries
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM

from gengram import GengramConfig, GengramForMaskedLM
from gengram.errors import InputError
from gengram.loading.checkpoints import check_repo_id, find_checkpoint, is_hub_id
from gengram.model_cards.card import CODE_LICENSE, count_parameters, describe_alphabet
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.finetune import finetune
from gengram.training.publishing.command import card as main_card
from gengram.training.publishing.command import push as main_push
from gengram.training.publishing.model import prepare_upload

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
SEEDS = [3, 0, 5]
PLOTS = ("loss", "curves", "confusion", "calibration") if find_spec("matplotlib") else ()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """Three seeds of a small classifier, as `gengram finetune` leaves them."""
    folder = tmp_path_factory.mktemp("publish")
    draw = random.Random(0)
    for split, rows in (("train", 60), ("test", 20)):
        lines = ["sequence,label"]
        for row in range(rows):
            bases = "".join(draw.choices("ACG", k=24))
            lines.append(f"{bases[:9]}TATAAA{bases[15:]},tata" if row % 2 else f"{bases},none")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    finetune(
        ModelArguments(backbone="llama", backbone_config=SMALL, memory=MEMORY),
        DataArguments(
            train_file=str(folder / "train.csv"), test_file=str(folder / "test.csv"), validation_fraction=0.5
        ),
        FinetuneArguments(output_dir=str(folder / "run"), seeds=SEEDS, num_train_epochs=1, disable_tqdm=True),
    )
    return folder / "run"


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def report(run) -> dict:
    return json.loads((run / "report.json").read_text())


def write_report(run: Path, report: dict) -> None:
    (run / "report.json").write_text(json.dumps(report))


def make_adapter(run: Path, folder: Path, base: str) -> Path:
    model = AutoModelForSequenceClassification.from_pretrained(run / "seed-0")
    adapter = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"]))
    adapter.peft_config["default"].base_model_name_or_path = base
    adapter.save_pretrained(folder, save_embedding_layers=False)
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(folder)
    return folder


# Which model


def test_the_seed_with_the_best_validation_score_is_published(run, report):
    report["validation"]["mcc"]["per_seed"] = [0.1, 0.9, 0.9]
    report["validation"]["loss"]["per_seed"] = [0.1, 0.7, 0.6]
    report["test"]["mcc"]["per_seed"] = [1.0, 0.0, 0.0]
    write_report(run, report)
    found = find_checkpoint(run)
    assert (found.seed, found.folder.name) == (5, "seed-5")
    assert "highest mcc on the validation rows" in found.choice
    report["validation"]["mcc"]["per_seed"] = [0.1, None, 0.0]
    write_report(run, report)
    assert find_checkpoint(run).seed == 3


def test_without_validation_rows_it_is_the_first_and_the_card_says_so(run, report):
    write_report(run, report | {"validation": None})
    found = find_checkpoint(run)
    assert found.seed == SEEDS[0] and "no validation rows" in found.choice


def test_a_seed_can_be_asked_for(run):
    assert find_checkpoint(run, 0).folder == run / "seed-0"
    by_folder = find_checkpoint(run / "seed-5")
    assert by_folder.seed == 5 and by_folder.report is not None
    with pytest.raises(InputError, match=r"there is no seed 7; the run has 3, 0, 5"):
        find_checkpoint(run, 7)
    with pytest.raises(InputError, match="the model of seed 5, not of seed 0"):
        find_checkpoint(run / "seed-5", 0)


def test_a_folder_that_is_no_model(run, tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        find_checkpoint(tmp_path / "nothing")
    with pytest.raises(InputError, match="neither a run"):
        find_checkpoint(tmp_path)
    shutil.rmtree(run / "seed-0")
    with pytest.raises(InputError, match="'seed-0', which is not there"):
        find_checkpoint(run, 0)
    (run / "report.json").unlink()
    with pytest.raises(InputError, match="did not come to its end"):
        find_checkpoint(run)


# Which files


@pytest.mark.skipif(not PLOTS, reason="matplotlib is not installed")
def test_the_card_shows_the_plots_that_go_up(run, tmp_path):
    upload = prepare_upload(run, "lab/model")
    shown = re.findall(r"!\[(.+)\]\((.+)\)", str(upload.card))
    assert sorted(file for _, file in shown) == sorted(f"plots/{name}.png" for name in PLOTS)
    assert all((run / file).read_bytes() == Path(upload.files[file]).read_bytes() for _, file in shown)
    (run / "plots/loss.png").unlink()
    assert "plots/loss.png" not in str(prepare_upload(run, "lab/model").card)
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\nMine.\n")
    assert not any(path.endswith(".png") for path in prepare_upload(run, "lab/model", card=tmp_path / "card.md").files)


def test_only_what_makes_the_model_goes_up(run):
    folder = run / "seed-0"
    (folder / "training_args.bin").write_bytes(b"\x80")
    (folder / "optimizer.pt").write_bytes(b"\x80")
    (folder / "README.md").write_text("written by Trainer")
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-10").mkdir()
    upload = prepare_upload(run, "lab/model", seed=0)
    code = {path.name for path in (Path(__file__).parents[3] / "modeling_gengram/gengram").glob("*.py")}
    assert {path for path in upload.files if path.endswith(".py")} <= code - {"__init__.py"}
    assert {path for path in upload.files if not path.endswith(".py")} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        *(f"plots/{name}.png" for name in PLOTS),
    }
    assert upload.left_out == {
        **{f"predictions-{split}.parquet": "predictions of single rows" for split in ("validation", "test")},
        "trainer_state.json": "the log of the training",
        "README.md": "a new card is written",
        "checkpoint-10": "a checkpoint of the training",
        "notes.txt": "not part of a model",
        "optimizer.pt": "a pickle",
        "training_args.bin": "a pickle",
    }
    assert b"written by Trainer" not in upload.files["README.md"]
    assert upload.measure("model.safetensors") == (folder / "model.safetensors").stat().st_size


def test_a_checkpoint_with_a_poor_auto_map_is_completed(run):
    folder = run / "seed-0"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoModelForSequenceClassification": config["auto_map"]["AutoModelForSequenceClassification"]
    }
    (folder / "config.json").write_text(json.dumps(config))
    for path in folder.glob("*.py"):
        path.unlink()
    upload = prepare_upload(folder, "lab/model")
    published = json.loads(upload.files["config.json"])
    assert published["auto_map"] == GengramConfig.auto_classes
    assert len(published["auto_map"]) == 7
    assert {"modeling_gengram.py", "configuration_gengram.py", "kmer_index.py"} <= set(upload.files)
    assert json.loads((folder / "config.json").read_text()) == config, "the folder itself stays as it is"


def test_code_that_is_named_but_missing_is_an_error(run):
    (run / "seed-0" / "kmer_index.py").unlink()
    with pytest.raises(InputError, match=r"config\.json names code in modeling_gengram\.py"):
        prepare_upload(run, "lab/model", seed=0)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "no weights in safetensors",
        ),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "no tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: cannot be read as JSON"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "b.safetensors"}}'
            ),
            r"names b\.safetensors, which is not there",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "no card can be written"),
    ],
)
def test_folders_that_cannot_be_published(run, change, message):
    change(run / "seed-0")
    with pytest.raises(InputError, match=message):
        prepare_upload(run, "lab/model", seed=0)


def test_an_adapter_is_pushed_with_its_base(run, tmp_path):
    folder = make_adapter(run, tmp_path / "adapter", base="lab/base")
    upload = prepare_upload(folder, "lab/adapter", license="mit")
    data = upload.card.data
    assert (data.base_model, data.base_model_relation, data.library_name) == ("lab/base", "adapter", "peft")
    assert data.pipeline_tag == "text-classification" and {"peft", "lora"} <= set(data.tags)
    assert "adapter_model.safetensors" in upload.files and "model.safetensors" not in upload.files


def test_an_adapter_of_a_local_base_needs_the_base_on_the_hub(run, tmp_path):
    folder = make_adapter(run, tmp_path / "adapter", base=str(run / "seed-0"))
    with pytest.raises(InputError, match=r"Push the base first, then name it with --base_model"):
        prepare_upload(folder, "lab/adapter")
    upload = prepare_upload(folder, "lab/adapter", base_model="lab/base")
    assert json.loads(upload.files["adapter_config.json"])["base_model_name_or_path"] == "lab/base"


# What may not go up


def test_a_push_that_would_leak_is_refused_with_file_line_and_path(run, capsys):
    path = run / "seed-0" / "config.json"
    path.write_text(path.read_text().replace("{", '{\n  "trained_in": "/home/somebody/runs",', 1))
    assert main_push([str(run), "lab/model", "--seed", "0", "--dry-run"]) == 1
    message = capsys.readouterr().err
    assert "config.json, line 2, column 18: an absolute path '/home/somebody/runs' (path) would be published" in message
    assert main_push([str(run), "lab/model", "--seed", "0", "--dry-run", "--allow", "path:config.json"]) == 0
    assert "published, as allowed: config.json: an absolute path (1 place)" in capsys.readouterr().err


def test_metadata_of_weights_is_looked_at_too(run, capsys):
    path = run / "seed-0" / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "from": "/home/somebody/x.ckpt"})
    with pytest.raises(InputError, match=r"model\.safetensors, metadata 'from'"):
        prepare_upload(run, "lab/model", seed=0)


# The card


def test_the_card_holds_the_reports_figures_and_no_others(run, report):
    upload = prepare_upload(run, "lab/model", license="cc-by-4.0")
    card, seed = ModelCard(upload.files["README.md"].decode()), find_checkpoint(run).seed
    position = SEEDS.index(seed)
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "transformers", "text-classification")
    assert {"biology", "genomics", "dna", "k-mer", "custom_code"} <= set(data.tags)
    indexed = {result.metric_name: result.metric_value for result in data.eval_results}
    defined = {name: scores["per_seed"][position] for name, scores in report["test"].items()}
    assert indexed == {name: value for name, value in defined.items() if value is not None}
    for split in ("test", "validation"):
        for metric, scores in report[split].items():
            row = next(line for line in card.text.splitlines() if line.startswith(f"| {split} | {metric} |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            shown = [*cells[2:5], *cells[-1].split(", ")]
            values = [scores["per_seed"][position], scores["mean"], scores["sd"], *scores["per_seed"]]
            assert shown == ["-" if value is None else f"{value:.4f}" for value in values]
    for split in ("train", "validation", "test"):
        described = report["data"][split]
        assert f"| {split} | {Path(described['file']).name} | `{described['sha256'][:12]}` |" in card.text
    assert upload.note and upload.note in card.text
    assert f"{report['data']['max_length']:,} tokens (0 of them special)" in card.text
    assert str(run) not in card.text


def test_intervals_and_classes_of_a_report_are_shown(run, report):
    metrics = {name: {"mean": [0.1, 0.2], "per_seed": [[0.0, 1.0], [0.3125, 0.75], None]} for name in report["test"]}
    report["intervals"] = {"confidence": 0.95, "resamples": 1000, "seed": 0, "metrics": metrics}
    report["per_class"] = {"test": {"f1": {"none": 0.25, "tata": None}, "auroc": {"none": 0.5, "tata": 0.625}}}
    write_report(run, report)
    text = prepare_upload(run, "lab/model", seed=0).card.text
    assert "| 0.3125 to 0.7500 |" in text and "over 1,000 resamples" in text
    assert "| `none` | 0.2500 | 0.5000 |" in text and "| `tata` | - | 0.6250 |" in text
    assert "0.3125" not in prepare_upload(run, "lab/model", seed=5).card.text


def test_many_classes_are_not_listed_one_by_one(run, report):
    names = [f"mark{index}" for index in range(919)]
    for split in ("train", "validation", "test"):
        report["data"][split]["rows_per_class"] = dict.fromkeys(names, 1)
    report["per_class"] = {"test": {"auroc": dict.fromkeys(names, 0.5)}}
    write_report(run, report)
    config = json.loads((run / "seed-0" / "config.json").read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: label for label, name in enumerate(names)}}
    (run / "seed-0" / "config.json").write_text(json.dumps(config))
    text = prepare_upload(run, "lab/model", seed=0).card.text
    assert "39 `mark39` and 879 more" in text and "mark40" not in text


def test_models_with_several_outputs_show_them_all(run):
    config = json.loads((run / "seed-0" / "config.json").read_text())
    (run / "seed-0" / "config.json").write_text(json.dumps(config | {"problem_type": "regression"}))
    card = prepare_upload(run, "lab/model", seed=0).card
    assert "## Targets" in card.text
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1].replace("lab/model", str(run / "seed-0"))
    names: dict = {}
    exec(code, names)
    assert {one["label"] for one in names["predictions"]} == {"none", "tata"}


@pytest.mark.parametrize(("problem", "name"), [("regression", "mse"), ("single_label", "cross_entropy")])
def test_the_loss_has_the_name_of_what_it_is(problem, name, run, report):
    report["data"]["problem"] = problem
    write_report(run, report)
    results = prepare_upload(run, "lab/model").card.data.eval_results
    assert [one.metric_type for one in results if one.metric_name == "loss"] == [name]


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_base_that_was_a_folder_is_no_model_on_the_hub(is_folder, run, report, tmp_path):
    """A folder `runs/base` looks like a Hub id where it is not, e.g. on the machine that publishes."""
    report["model"] |= {"checkpoint": "runs/base", "checkpoint_is_folder": is_folder}
    write_report(run, report)
    card = prepare_upload(run, "lab/model").card
    assert card.data.base_model == (None if is_folder else "runs/base")
    assert ("Fine-tuned from a checkpoint that has no Hub id" in card.text) == is_folder
    adapter = make_adapter(run, tmp_path / "adapter", base="runs/base")
    shutil.rmtree(run / "seed-0")
    shutil.move(adapter, run / "seed-0")
    if is_folder:
        with pytest.raises(InputError, match="'runs/base', which is not a model on the Hub"):
            prepare_upload(run, "lab/model", seed=0)
    assert prepare_upload(run, "lab/model", seed=0, base_model="lab/base").card.data.base_model == "lab/base"


def test_an_unknown_licence_is_said(run):
    card = prepare_upload(run, "lab/model").card
    assert card.data.license == "unknown" and "Weights: unknown. Nobody has stated one" in card.text
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    assert setup["metadata"]["license_expression"] == CODE_LICENSE and f"gengram, {CODE_LICENSE};" in card.text


def test_a_model_without_a_run_claims_no_figures(tmp_path):
    torch.manual_seed(0)
    backbone = BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **SMALL)
    model = GengramForMaskedLM(GengramConfig(backbone_config=backbone, **MEMORY))
    model.save_pretrained(tmp_path / "model")
    build_nucleotide_tokenizer(template="cls_sep", model_max_length=64).save_pretrained(tmp_path / "model")
    upload = prepare_upload(tmp_path / "model", "lab/model")
    assert upload.card.data.pipeline_tag == "fill-mask" and upload.card.data.eval_results is None
    assert (
        "claims no figures" in upload.card.text and "64 tokens (2 of them special), that is 62 bp" in upload.card.text
    )
    assert count_parameters(tmp_path / "model") == model.num_parameters()


def test_a_model_of_transformers_needs_no_remote_code(tmp_path):
    BertForMaskedLM(BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **SMALL)).save_pretrained(
        tmp_path / "bert"
    )
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "bert")
    upload = prepare_upload(tmp_path / "bert", "lab/bert", base_model="lab/other")
    assert "trust_remote_code" not in upload.card.text and "custom_code" not in upload.card.data.tags
    assert upload.card.data.base_model == "lab/other" and upload.card.data.base_model_relation == "finetune"
    assert not [path for path in upload.files if path.endswith(".py")]


def test_results_for_the_datasets_page(run, report):
    import yaml

    upload = prepare_upload(run, "lab/model", seed=5, dataset="lab/tata", task="promoter")
    (entry,) = parse_eval_result_entries(yaml.safe_load(upload.files[".eval_results/tata.yaml"]))
    assert (entry.dataset_id, entry.task_id) == ("lab/tata", "promoter")
    assert entry.value == report["test"]["mcc"]["per_seed"][2] and "seed 5 of 3" in entry.notes
    assert upload.card.data.datasets == ["lab/tata"]
    assert not [path for path in prepare_upload(run, "lab/model").files if path.startswith(".eval_results")]
    write_report(run, report | {"test": None})
    assert not [p for p in prepare_upload(run, "lab/model", dataset="lab/tata").files if p.startswith(".eval_results")]


def test_the_alphabet_is_what_the_tokenizer_does():
    assert describe_alphabet(build_nucleotide_tokenizer()) == (
        "lower case is read as upper case, `U` as `T`, `N` as a token of its own, other IUPAC codes as `N`"
    )
    strict = build_nucleotide_tokenizer(case="unknown", uracil="unknown", ambiguous="unknown")
    assert describe_alphabet(strict) == (
        "lower case is not read as upper case, `U` as unknown, `N` as a token of its own, other IUPAC codes as unknown"
    )


def test_a_card_of_ones_own(run, tmp_path):
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    upload = prepare_upload(run, "lab/model", card=tmp_path / "card.md")
    assert upload.files["README.md"].decode().endswith("# Mine\n")
    (tmp_path / "card.md").write_text("# no metadata\n")
    with pytest.raises(InputError, match="the card has no metadata"):
        prepare_upload(run, "lab/model", card=tmp_path / "card.md")


@pytest.mark.parametrize(
    "metadata",
    ["- a", "license: [", "tags: 5", "5: mit", "a: " + "[" * 5000, "license: !!python/object/apply:os.getcwd []"],
    ids=["list", "cut off", "tags", "a number as key", "deep", "code"],
)
def test_a_card_whose_metadata_is_none(metadata, run, tmp_path):
    (tmp_path / "card.md").write_text(f"---\n{metadata}\n---\n# Mine\n")
    with pytest.raises(InputError, match=r"card\.md: cannot be read as a card"):
        prepare_upload(run, "lab/model", card=tmp_path / "card.md")


def test_a_report_that_lacks_what_a_card_says_is_named(run):
    report = json.loads((run / "report.json").read_text())
    del report["arguments"]
    (run / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"and the run's report\.json: no card can be written: KeyError: 'arguments'"):
        prepare_upload(run, "lab/model")


# The commands


def test_card_writes_to_a_file_or_to_standard_output(run, tmp_path, capsys):
    assert main_card([str(run), "lab/model", "--license", "mit"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("---\n") and "license: mit" in printed and 'model="lab/model"' in printed
    assert main_card([str(run), "lab/model", "--license", "mit", "--output", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text() == printed.removesuffix("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.md", "run"]


def test_a_dry_run_lists_sizes_and_needs_no_token(run, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main_push([str(run), "lab/model", "--dry-run"]) == 0
    shown = capsys.readouterr()
    sizes = dict(reversed(line.split("\t")) for line in shown.out.splitlines())
    assert int(sizes["model.safetensors"]) == (run / "seed-0/model.safetensors").stat().st_size
    assert "README.md" in sizes and "is published: of 3" in shown.err


def test_a_push_without_a_token(run, capsys, monkeypatch):
    monkeypatch.setattr("gengram.training.publishing.upload.get_token", lambda: None)
    assert main_push([str(run), "lab/model"]) == 1
    assert "no token: run `hf auth login`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["model", "lab/model.git", "a/b/c", "lab/mo--del", "lab/-x", "lab/é", "datasets/lab/x"]
)
def test_names_that_are_not_allowed(run, name, capsys):
    with pytest.raises(SystemExit) as stop:
        main_push([str(run), name])
    assert stop.value.code == 2 and "is no name for a repository" in capsys.readouterr().err
    with pytest.raises(InputError):
        check_repo_id(name)


def test_a_hub_id_is_not_a_folder(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert is_hub_id("lab/model") and not is_hub_id("run/seed-0") and not is_hub_id("bert") and not is_hub_id("/a/b")


@pytest.mark.parametrize("name", ["vocab.txt", "motif_memory.py", "../plots/loss.png", "../report.json"])
def test_links_that_lead_out_of_the_run_are_refused_and_named(run, name, tmp_path):
    path = run / "seed-0" / name
    (tmp_path / "outside").write_bytes(path.read_bytes() if path.exists() else b"not to be published")
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=rf"{Path(name).name}: .* is a link that leads out of"):
        prepare_upload(run, "lab/model", seed=0)


def test_a_folder_of_plots_that_leads_out_is_refused_and_a_link_to_the_run_is_not(run, tmp_path):
    (tmp_path / "way").symlink_to(run)
    assert "model.safetensors" in prepare_upload(tmp_path / "way", "lab/model", seed=0).files
    (run / "plots").rename(tmp_path / "elsewhere")
    (run / "plots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link that leads out of"):
        prepare_upload(run, "lab/model", seed=0)


def test_a_model_folder_of_its_own_and_a_seed_that_is_a_link(run, tmp_path):
    shutil.copytree(run / "seed-0", tmp_path / "model")
    (tmp_path / "passwords").write_text("root")
    (tmp_path / "model" / "vocab.txt").symlink_to(tmp_path / "passwords")
    with pytest.raises(InputError, match=r"vocab\.txt: .* is a link that leads out of"):
        prepare_upload(tmp_path / "model", "lab/model")
    shutil.move(run / "seed-0", tmp_path / "elsewhere")
    (run / "seed-0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link that leads out of"):
        prepare_upload(run, "lab/model", seed=0)


def test_a_link_within_the_run_may_not_lead_to_something_hidden(run):
    folder = run / "seed-0"
    (folder / "vocab.txt").symlink_to("tokenizer_config.json")
    assert "vocab.txt" in prepare_upload(run, "lab/model", seed=0).files
    (run / ".env").write_text("PASSWORD=x")
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to("../.env")
    with pytest.raises(InputError, match=r"vocab\.txt: .* leads to something hidden, \.env"):
        prepare_upload(run, "lab/model", seed=0)


def test_what_is_no_file_is_left_out_by_name(run):
    folder = run / "seed-0"
    os.mkfifo(folder / "merges")
    (folder / "vocab").symlink_to("nowhere")
    (folder / "chat_template").symlink_to("/dev/zero")
    (folder / ".netrc").write_text("machine x login y")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # The path of a socket is short.
        listener.bind("socket")
        os.chdir(here)
        left_out = prepare_upload(run, "lab/model", seed=0).left_out
    assert {name: left_out[name] for name in ("merges", "vocab", "chat_template", "socket")} == {
        "merges": "a pipe",
        "vocab": "a link that leads nowhere",
        "chat_template": "a device",
        "socket": "a socket",
    }
    assert left_out[".netrc"] == "hidden"


def test_no_library_waits_for_a_pipe_in_the_place_of_a_models_file(run):
    os.mkfifo(run / "seed-0" / "merges.txt")
    with pytest.raises(InputError, match=r"merges\.txt: a pipe or device cannot be read twice"):
        prepare_upload(run, "lab/model", seed=0)


@pytest.mark.parametrize("name", ["../outside", "{outside}", "pack/../../outside"])
def test_code_that_lies_elsewhere_is_refused(run, tmp_path, name):
    (run.parent / "outside.py").write_text("class Model: pass\n")
    (run / "outside.py").write_text("class Model: pass\n")
    name = name.format(outside=tmp_path / "outside")
    folder = run / "seed-0"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "somebodys", "auto_map": {"AutoModel": f"{name}.Model"}})
    )
    with pytest.raises(InputError, match=r"does not lie in this folder|config\.json names code"):
        prepare_upload(folder, "lab/model", card=write_card(tmp_path))


def test_code_that_imports_from_elsewhere_is_refused(run, tmp_path):
    folder = run / "seed-0"
    (folder / "pack").mkdir()
    (run / "outside.py").write_text("SECRET = 1\n")
    (folder / "own.py").write_text("from .pack/../../outside import SECRET\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "somebodys", "auto_map": {"AutoModel": "own.Model"}})
    )
    with pytest.raises(InputError, match=r"outside\.py, which does not lie in this folder"):
        prepare_upload(folder, "lab/model", card=write_card(tmp_path))
    (folder / "own.py").unlink()
    os.mkfifo(folder / "own.py")
    with pytest.raises(InputError, match=r"own\.py: no file of code, but a pipe"):
        prepare_upload(folder, "lab/model", card=write_card(tmp_path))


def test_compressed_files_are_refused_and_pickles_stay(run):
    folder = run / "seed-0"
    (folder / "vocab.pkl").write_bytes(b"\x80\x04N.")
    assert prepare_upload(run, "lab/model", seed=0).left_out["vocab.pkl"] == "not part of a model"
    (folder / "vocab.txt").write_bytes(gzip.compress(b"hidden"))
    with pytest.raises(InputError, match=r"vocab\.txt: the file is compressed"):
        prepare_upload(run, "lab/model", seed=0)


@pytest.mark.parametrize("allow", ["paths", "path:", "hub-token", "hub-token:vocab.txt", ""])
def test_what_cannot_be_allowed(run, allow, capsys):
    assert main_push([str(run), "lab/model", "--dry-run", "--allow", allow]) == 1
    assert f"allow={allow!r}" in capsys.readouterr().err


def write_card(folder: Path) -> Path:
    (folder / "own-card.md").write_text("---\nlicense: mit\n---\nMine.\n")
    return folder / "own-card.md"
