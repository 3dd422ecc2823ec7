"""The metrics agree with scikit-learn and work offline, by class and by path."""

import sys

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss, matthews_corrcoef, roc_auc_score

from gengram.benchmarks.metrics import Accuracy, MatthewsCorrelation, RocAuc, measure_classification


def draw_scores(classes: int, rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) that know something about the classes (N,); every class occurs."""
    random = np.random.default_rng(seed)
    references = np.resize(np.arange(classes), rows)
    return random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[references], references


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_measures_are_those_of_scikit_learn(classes):
    logits, references = draw_scores(classes)
    predictions, scores = logits.argmax(1), softmax(logits, axis=1)
    auroc = roc_auc_score(references, scores[:, 1] if classes == 2 else scores, multi_class="ovr")
    assert measure_classification(logits, references) == pytest.approx(
        {
            "accuracy": accuracy_score(references, predictions),
            "mcc": matthews_corrcoef(references, predictions),
            "auroc": auroc,
            "cross_entropy": log_loss(references, scores),
        },
        abs=1e-12,
    )


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_accuracy_and_mcc_on_any_labels(pairs):
    predictions, references = map(list, zip(*pairs))
    accuracy = Accuracy(keep_in_memory=True).compute(predictions=predictions, references=references)
    mcc = MatthewsCorrelation(keep_in_memory=True).compute(predictions=predictions, references=references)
    assert accuracy == {"accuracy": pytest.approx(accuracy_score(references, predictions))}
    assert mcc == {"matthews_correlation": pytest.approx(matthews_corrcoef(references, predictions))}


def test_a_perfect_a_chance_and_a_reversed_classifier():
    references = np.array([0, 1] * 10)
    logits = np.stack([1.0 - references, references], axis=1)
    for sign, accuracy, mcc, auroc in ((1, 1.0, 1.0, 1.0), (-1, 0.0, -1.0, 0.0), (0, 0.5, 0.0, 0.5)):
        expected = {"accuracy": accuracy, "mcc": mcc, "auroc": auroc, "cross_entropy": np.log1p(np.exp(-sign))}
        assert measure_classification(sign * logits, references) == pytest.approx(expected)


def test_auroc_leaves_out_a_class_that_is_absent():
    logits, references = draw_scores(3)
    present = references != 2
    result = RocAuc(keep_in_memory=True).compute(prediction_scores=logits[present], references=references[present])
    assert np.isnan(result["per_class"][2])
    expected = [roc_auc_score(references[present] == label, logits[present, label]) for label in (0, 1)]
    assert result["per_class"][:2] == pytest.approx(expected)
    assert result["roc_auc"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("classes", [2, 3])
def test_with_one_class_only_auroc_is_not_defined_and_mcc_is_zero(classes):
    logits, _ = draw_scores(classes, rows=10)
    measured = measure_classification(logits, np.zeros(10, dtype=int))
    assert np.isnan(measured["auroc"]) and measured["mcc"] == 0.0


def test_logits_that_are_not_finite_are_refused():
    logits, references = draw_scores(2)
    logits[3, 1] = np.nan
    logits[5] = np.inf
    with pytest.raises(ValueError, match="2 of 60 rows have NaN or infinite logits"):
        measure_classification(logits, references)


@pytest.mark.parametrize("label", [-1, 2])
def test_auroc_refuses_a_class_without_scores(label):
    with pytest.raises(ValueError, match="the scores are of 2 classes"):
        RocAuc(keep_in_memory=True).compute(prediction_scores=[[0.1, 0.9], [0.8, 0.2]], references=[0, label])


def test_huge_logits_do_not_overflow():
    logits, references = draw_scores(3)
    assert measure_classification(1e6 * logits, references)["accuracy"] == accuracy_score(references, logits.argmax(1))


@pytest.mark.parametrize("metric", [Accuracy, MatthewsCorrelation, RocAuc])
def test_each_file_loads_by_its_path_without_a_network(metric, tmp_path):
    module = evaluate.load(sys.modules[metric.__module__].__file__, cache_dir=str(tmp_path))
    assert type(module).__name__ == metric.__name__
    names = {"references": [0, 1]}
    names |= {"prediction_scores": [[1.0, 0.0], [0.0, 1.0]]} if metric is RocAuc else {"predictions": [0, 1]}
    assert module.compute(**names)[module.name] == 1.0
    assert module.description and module.inputs_description and module.reference_urls
