"""An evaluation on its way to the Hub: card, metadata, `.eval_results`, and no scores of other weights."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from gengram.cli import main
from gengram.errors import InputError
from gengram.training.publishing.model import prepare_upload

from .conftest import write_rows


@pytest.fixture(scope="module")
def evaluated(model, tmp_path_factory) -> Path:
    """The model on a table, as if its test rows were those of a dataset of the Hub."""
    root = tmp_path_factory.mktemp("evaluated")
    write_rows(root / "train.csv", 60, 0)
    write_rows(root / "test.csv", 30, 1)
    files = ["--train_file", str(root / "train.csv"), "--test_file", str(root / "test.csv")]
    words = [*files, "--model", f"mine={model}", "--seeds", "0", "--baselines", "majority", "--quiet"]
    assert main(["evaluate", *words, "--cache", str(root / "cache"), "--out", str(root / "out")]) == 0
    path = root / "out" / "report.json"
    report = json.loads(path.read_text())
    report["tasks"]["own"] |= {"dataset": "lab/own", "dataset_revision": "c" * 40}
    path.write_text(json.dumps(report))
    return root / "out"


def test_scores_go_into_card_metadata_and_results(model, evaluated):
    upload = prepare_upload(model, "lab/tiny", evaluation=evaluated)
    report = json.loads((evaluated / "report.json").read_text())
    mcc = report["cells"]["own"]["mine"]["metrics"]["mcc"]["mean"]
    assert (
        "## Benchmarks" in upload.card.text
        and f"{mcc:.4f}" in upload.card.text
        and "baseline:majority" in upload.card.text
    )
    assert "claims no figures" not in upload.card.text
    indexed = {one.metric_name: one.metric_value for one in upload.card.data.eval_results}
    assert indexed["mcc"] == mcc and upload.card.data.datasets == ["lab/own"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(upload.files[".eval_results/lab--own.yaml"]))
    assert (entry.dataset_id, entry.value, entry.dataset_revision) == ("lab/own", mcc, "c" * 40)
    assert not [name for name in prepare_upload(model, "lab/tiny").files if name.startswith(".eval_results")]


def test_scores_of_other_weights_are_refused(model, evaluated, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "copy")
    assert prepare_upload(tmp_path / "copy", "lab/tiny", evaluation=evaluated)  # the same weights elsewhere
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main(["card", "lab/tiny", "--model", str(tmp_path / "copy"), "--evaluation", str(evaluated)]) == 1
    assert "mine was evaluated with other weights" in capsys.readouterr().err


def test_what_is_no_evaluation_is_told(model, tmp_path):
    with pytest.raises(InputError, match=r"no report\.json of gengram evaluate"):
        prepare_upload(model, "lab/tiny", evaluation=tmp_path)
    with pytest.raises(InputError, match="--evaluation"):
        prepare_upload(model, "lab/tiny", evaluated_as="mine")
