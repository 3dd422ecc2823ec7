"""Weights of classes and of positives: the loss, the numbers that are chosen, and what training makes of them."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers.utils import ModelOutput

from gengram.training.arguments import FinetuneArguments
from gengram.training.command import finetune as main
from gengram.training.data.inputs import LabelledSplits
from gengram.training.losses import StepLoss, choose_loss


def make_data(problem: str, counts: dict[str, int], rows: int = 100) -> LabelledSplits:
    kind = "bases_per_class" if problem == "token" else "rows_per_class"
    return LabelledSplits({}, problem, list(counts), {"train": {kind: counts, "rows": rows, "file": "train.csv"}})


def choose(tmp_path, problem: str, counts: dict[str, int], **changes) -> dict[str, float] | None:
    loss = choose_loss(FinetuneArguments(output_dir=str(tmp_path), **changes), make_data(problem, counts))
    return loss and loss.weights


@pytest.mark.parametrize("problem", ["single_label", "token"])
def test_the_loss_of_classes(problem):
    torch.manual_seed(0)
    weights = {"a": 0.5, "b": 1.0, "c": 3.0}
    logits, labels = torch.randn(6, 5, 3, requires_grad=True), torch.randint(0, 3, (6, 5))
    if problem == "token":
        labels[:, ::2] = -100
    else:
        logits, labels = logits[:, 0].detach().requires_grad_(), labels[:, 0]
    loss = StepLoss(problem, weights=weights)(ModelOutput(logits=logits), labels)
    flat, known = logits.reshape(-1, 3), labels.flatten() != -100
    each = F.cross_entropy(flat[known], labels.flatten()[known], reduction="none")
    expected = (each * torch.tensor([0.5, 1.0, 3.0])[labels.flatten()[known]]).mean()
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_the_loss_of_several_labels():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 2), torch.randint(0, 2, (7, 2)).float()
    loss = StepLoss("multi_label", weights={"a": 4.0, "b": 0.5})(ModelOutput(logits=logits), labels)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([4.0, 0.5]))(logits, labels)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("problem", ["single_label", "token", "multi_label"])
def test_the_loss_of_a_step_is_the_sum_over_its_batches(problem):
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    if problem == "token":
        logits, labels = torch.randn(8, 4, 3), torch.randint(-1, 3, (8, 4))
        labels[labels < 0] = -100
    if problem == "multi_label":
        labels = torch.randint(0, 2, (8, 3)).float()
    loss = StepLoss(problem, 0.1, {"a": 2.0, "b": 0.5, "c": 1.0})
    items = labels.ne(-100).sum()
    parts = [loss(ModelOutput(logits=logits[rows]), labels[rows], items) for rows in (slice(0, 1), slice(1, 8))]
    torch.testing.assert_close(sum(parts), loss(ModelOutput(logits=logits), labels))


def test_balanced_classes_count_alike(tmp_path):
    counts = {"rare": 10, "common": 70, "other": 20}
    weights = choose(tmp_path, "single_label", counts, class_weights="balanced")
    assert weights == pytest.approx({name: 100 / (3 * count) for name, count in counts.items()})
    assert len({round(weights[name] * count, 6) for name, count in counts.items()}) == 1
    assert choose(tmp_path, "token", counts, class_weights="balanced") == weights


def test_weights_by_name_keep_their_ratio_and_the_size_of_the_loss(tmp_path):
    weights = choose(tmp_path, "single_label", {"a": 80, "b": 20}, class_weights='{"b": 4}')
    assert weights["b"] / weights["a"] == pytest.approx(4)
    assert weights["a"] * 80 + weights["b"] * 20 == pytest.approx(100)


def test_weights_of_positives(tmp_path):
    counts = {"rare": 5, "half": 50, "never": 0, "always": 100}
    assert choose(tmp_path, "multi_label", counts, pos_weight="balanced") == pytest.approx(
        {"rare": 19.0, "half": 1.0, "never": 1.0, "always": 1.0}
    )
    assert choose(tmp_path, "multi_label", counts, pos_weight={"half": 3})["half"] == 3
    assert choose(tmp_path, "multi_label", counts) is None
    assert choose(tmp_path, "regression", {"x": 1}) is None


def run(command, argv: dict, folder) -> tuple[dict, dict]:
    assert main(command(**argv, output_dir=folder)) == 0
    return json.loads((folder / "report.json").read_text()), load_file(folder / "seed-0/model.safetensors")


def test_training_rows_alone_decide_and_the_report_says_so(command, task, tmp_path, draw_table):
    table = draw_table(90, 0, classes=("a", "b", "c"))
    table["chrom"] = ["chr0" if row < 30 else "chr1" for row in range(90)]
    table = table[(table["label"] != "c") | (table["chrom"] == "chr0") | (table.index > 80)]
    table.to_csv(task["train_file"], index=False)
    options = {"test_file": None, "validation_chromosomes": ["chr0"]}
    report, weights = run(command, options | {"class_weights": "balanced"}, tmp_path / "weighted")
    counts = report["data"]["train"]["rows_per_class"]
    assert counts == {"a": 20, "b": 20, "c": 3}
    assert report["loss_weights"] == pytest.approx({name: 43 / (3 * count) for name, count in counts.items()})
    plain, others = run(command, options, tmp_path / "plain")
    assert plain["loss_weights"] is None
    assert any(not torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("problem", ["token", "multi_label"])
def test_accumulated_batches_give_the_weights_of_whole_ones(problem, command, task, tmp_path, draw_table):
    """Rows of different lengths: the labelled bases of a step are not spread evenly over its batches."""
    for path, rows, seed in ((task["train_file"], 48, 0), (task["test_file"], 20, 1)):
        table = draw_table(rows, seed).drop(columns="label")
        if problem == "token":
            table["label"] = [("." * (row % 20) + bases[row % 20 :]).replace("C", "A") for row, bases in
                              enumerate(table["seq"])]  # fmt: skip
        else:
            table["label_t"] = table["seq"].str.contains("TATAAA").astype(int)
            table["label_g"] = (np.arange(rows) % 5 == 0).astype(int)
        table.to_csv(path, index=False)
    weighted = {"pos_weight": "balanced"} if problem == "multi_label" else {"class_weights": "balanced"}
    options = {**weighted, "problem": problem, "validation_fraction": 0, "test_file": None, "max_steps": 3}
    options["optim"], options["lr_scheduler_type"], options["learning_rate"] = "sgd", "constant", 0.5
    whole = run(command, options | {"per_device_train_batch_size": 16}, tmp_path / "whole")
    parts = run(
        command,
        options | {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
        tmp_path / "parts",
    )
    assert whole[0]["loss_weights"] == parts[0]["loss_weights"]
    for name in whole[1]:
        torch.testing.assert_close(whole[1][name], parts[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"class_weights": '{"wiht": 2}'}, "a weight is given for 'wiht', which is none of the classes", 1),
        ({"pos_weight": "balanced"}, "pos_weight does not fit: the problem is single_label; use class_weights", 1),
        ({"class_weights": '{"with": 0}'}, "class_weights: 'with' has the weight 0; give a number above 0", 2),
        ({"class_weights": '{"with": "2"}'}, "class_weights: 'with' has the weight '2'", 2),
        ({"class_weights": "balance"}, "class_weights is not JSON", 2),
    ],
)
def test_weights_that_do_not_fit(changes, message, code, command, capsys, run_folder):
    try:
        returned = main(command(**changes))
    except SystemExit as stop:
        returned = stop.code
    assert returned == code and message in capsys.readouterr().err
    assert not run_folder.exists()


def test_class_weights_of_several_labels_and_of_a_class_without_rows(tmp_path):
    with pytest.raises(ValueError, match="class_weights does not fit: the problem is multi_label; use pos_weight"):
        choose(tmp_path, "multi_label", {"a": 5}, class_weights="balanced")
    with pytest.raises(ValueError, match=r"train.csv: no row is left to train the class 'b'"):
        choose(tmp_path, "single_label", {"a": 5, "b": 0}, class_weights="balanced")
