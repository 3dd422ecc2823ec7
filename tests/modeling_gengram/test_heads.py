"""Classification heads: problems, pooling, padding."""

import pytest
import torch

from gengram import GengramForSequenceClassification, GengramForTokenClassification
from gengram.gengram.modeling_gengram import pool_tokens


def make_classifier(config):
    torch.manual_seed(0)
    return GengramForSequenceClassification(config).double().eval()


@pytest.mark.parametrize(
    "num_labels, labels, problem",
    [
        (3, torch.tensor([0, 2]), "single_label_classification"),
        (3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64), "multi_label_classification"),
        (1, torch.tensor([0.5, -1.0], dtype=torch.float64), "regression"),
    ],
)
def test_problem_types(backbone_config, make_config, make_ids, num_labels, labels, problem):
    model = make_classifier(make_config(backbone_config, num_labels=num_labels))
    outputs = model(make_ids(2, 20), labels=labels)
    logits = outputs.logits.detach()
    expected = {
        "single_label_classification": lambda: torch.nn.functional.cross_entropy(logits, labels),
        "multi_label_classification": lambda: torch.nn.functional.binary_cross_entropy_with_logits(logits, labels),
        "regression": lambda: torch.nn.functional.mse_loss(logits.squeeze(), labels),
    }[problem]()
    torch.testing.assert_close(outputs.loss.detach(), expected)
    assert model.config.problem_type == problem
    outputs.loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "contact_head" not in name)


def test_regression_with_several_targets(make_backbone, make_config, make_ids):
    model = make_classifier(make_config(make_backbone("bert"), num_labels=2, problem_type="regression"))
    labels = torch.tensor([[0.1, 2.0], [1.0, -1.0]], dtype=torch.float64)
    outputs = model(make_ids(2, 20), labels=labels)
    torch.testing.assert_close(outputs.loss, torch.nn.functional.mse_loss(outputs.logits, labels))


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_micro_batches_have_their_share_of_the_loss(make_backbone, make_config, make_ids, problem):
    model = make_classifier(make_config(make_backbone("bert"), num_labels=2, problem_type=problem))
    ids, labels = make_ids(3, 20), torch.rand(3, 2).round().double()
    parts = [
        model(ids[rows], labels=labels[rows], num_items_in_batch=labels.numel()).loss
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), model(ids, labels=labels).loss)


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_takes_no_part(backbone_config, make_config, make_ids, pooling, side):
    model = make_classifier(make_config(backbone_config, num_labels=3, pooling=pooling))
    ids = make_ids(1, 20)
    padding = torch.zeros(1, 7, dtype=torch.int64)
    padded = torch.cat([padding, ids] if side == "left" else [ids, padding], dim=1)
    mask = (padded != 0).long()
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(ids).logits
        with_mask = model(padded, attention_mask=mask, position_ids=position_ids).logits
    torch.testing.assert_close(with_mask, expected, rtol=0, atol=1e-9)


def test_pooling_reads_the_right_tokens():
    hidden = torch.arange(12.0).view(2, 3, 2)
    real = torch.tensor([[False, True, True], [True, True, False]])
    assert pool_tokens(hidden, real, "mean").tolist() == [[3.0, 4.0], [7.0, 8.0]]
    assert pool_tokens(hidden, real, "last").tolist() == [[4.0, 5.0], [8.0, 9.0]]
    assert pool_tokens(hidden, real, "cls").tolist() == [[2.0, 3.0], [6.0, 7.0]]
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert torch.isfinite(pool_tokens(hidden, nothing, "mean")).all()


def test_without_a_mask_padding_is_the_padding_id(make_backbone, make_config, make_ids):
    model = make_classifier(make_config(make_backbone("llama-mha"), num_labels=3))
    ids = make_ids(1, 20)
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(padded).logits, model(ids).logits, rtol=0, atol=1e-9)


def test_half_precision_pools_in_single(make_backbone, make_config, make_ids):
    hidden = torch.full((1, 4096, 1), 0.1, dtype=torch.bfloat16)
    hidden[0, 0] = 16.0  # bf16 sums would stop growing long before 4096 tokens
    pooled = pool_tokens(hidden, torch.ones(1, 4096, dtype=torch.bool), "mean")
    assert pooled.dtype == torch.bfloat16
    assert float(pooled) == pytest.approx(float(hidden.double().mean()), rel=1e-2)


def test_token_classification_ignores_masked_labels(backbone_config, make_config, make_ids):
    torch.manual_seed(0)
    model = GengramForTokenClassification(make_config(backbone_config, num_labels=4)).double().eval()
    ids = make_ids(2, 20)
    labels = torch.randint(0, 4, (2, 20))
    labels[:, 5:15] = -100
    outputs = model(ids, labels=labels)
    assert outputs.logits.shape == (2, 20, 4)
    keep = labels != -100
    expected = torch.nn.functional.cross_entropy(outputs.logits[keep], labels[keep])
    torch.testing.assert_close(outputs.loss.double(), expected, rtol=1e-6, atol=1e-6)


def test_dropout_of_the_head(make_backbone, make_config, make_ids):
    model = make_classifier(make_config(make_backbone("llama-mha"), num_labels=3, classifier_dropout=0.5))
    ids = make_ids(1, 20)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)
        model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
