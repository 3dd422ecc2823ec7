"""The metrics agree with scikit-learn and work offline, by class and by path."""

import sys
import tracemalloc

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from transformers import EvalPrediction

from gengram.training.metrics import (
    Accuracy,
    MatthewsCorrelation,
    RocAuc,
    bootstrap,
    measure_classification,
    measure_multi_label,
    measure_regression,
)
from gengram.training.metrics.bootstrap import (
    choose_resamples,
    draw_in_parts,
    draw_resamples,
    find_interval,
    resample_classification,
    resample_multi_label,
    resample_regression,
)
from gengram.training.metrics.classification import measure_each_class, rank_each_row, select_labelled_bases
from gengram.training.metrics.multi_label import measure_each_label
from gengram.training.metrics.regression import measure_each_target
from gengram.training.metrics.scores import measure, score


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
            "macro_f1": f1_score(references, predictions, average="macro"),
            "auroc": auroc,
            "auprc": average_precision_score(references, scores[:, 1] if classes == 2 else scores),
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
        measured = measure_classification(sign * logits, references)
        assert {name: measured[name] for name in expected} == pytest.approx(expected)


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


@pytest.mark.parametrize("digits", [None, 1, 0], ids=["scores", "ties", "many ties"])
def test_each_of_many_columns_is_that_of_scikit_learn(digits):
    random = np.random.default_rng(0)
    truth = random.random((30, 200)) < np.linspace(0, 1, 30)[:, None]  # the first has no positive, the last no other
    scores = random.normal(size=truth.shape) + truth
    scores = expit(40 * (scores if digits is None else scores.round(digits)))  # most are 0 or 1 to the last digit
    ranked = rank_each_row(scores, truth)
    assert np.isnan([ranked["auroc"][0], ranked["auprc"][0], ranked["auroc"][-1], ranked["auprc"][-1]]).all()
    for row in range(1, 29):
        assert ranked["auroc"][row] == pytest.approx(roc_auc_score(truth[row], scores[row]), abs=1e-12)
        assert ranked["auprc"][row] == pytest.approx(average_precision_score(truth[row], scores[row]), abs=1e-12)


def test_a_class_that_never_occurs_and_ids_in_a_narrow_type():
    logits, references = draw_scores(30, rows=300)
    references = np.where(references == 7, 8, references).astype(np.int8)
    each, predictions = measure_each_class(logits, references), logits.argmax(axis=1)
    expected = f1_score(references, predictions, labels=range(30), average=None, zero_division=0.0)
    np.testing.assert_allclose(each["f1"], expected, atol=1e-12)
    assert np.isnan(each["auroc"][7]) and not np.isnan(each["auroc"][8])
    measured = measure_classification(logits, references)
    assert measured["mcc"] == pytest.approx(matthews_corrcoef(references, predictions), abs=1e-12)
    assert measured["macro_f1"] == pytest.approx(f1_score(references, predictions, average="macro"), abs=1e-12)


def expand(counts: np.ndarray) -> list[np.ndarray]:
    """The row numbers of each resample, as often as they were drawn."""
    return [np.repeat(np.arange(len(line)), line) for line in counts]


def expect_equal(resampled: dict[str, np.ndarray], measured: list[dict[str, float]]) -> None:
    assert set(resampled) == set(measured[0])
    for metric, values in resampled.items():
        np.testing.assert_allclose(values, [one[metric] for one in measured], atol=1e-9, err_msg=metric)


class TestMultiLabel:
    def test_measures_are_those_of_scikit_learn(self):
        random = np.random.default_rng(0)
        truth = random.integers(0, 2, (50, 4))
        logits = random.normal(size=(50, 4)) + truth
        measured = measure_multi_label(logits, truth)
        assert measured["auroc"] == pytest.approx(roc_auc_score(truth, logits, average="macro"))
        assert measured["auprc"] == pytest.approx(average_precision_score(truth, logits, average="macro"))
        assert measured["macro_f1"] == pytest.approx(f1_score(truth, logits > 0, average="macro"))
        assert measured["accuracy"] == pytest.approx((truth == (logits > 0)).mean())
        entropy = [log_loss(column, expit(guess)) for column, guess in zip(truth.T, logits.T)]
        assert measured["cross_entropy"] == pytest.approx(np.mean(entropy))
        assert measured["mcc"] == pytest.approx(
            np.mean([matthews_corrcoef(column, guess > 0) for column, guess in zip(truth.T, logits.T)])
        )

    def test_one_label(self):
        truth, logits = np.array([[1], [0], [1], [0]]), np.array([[2.0], [-1.0], [-2.0], [-3.0]])
        each = measure_each_label(logits, truth)
        assert each["f1"] == [pytest.approx(2 / 3)] and each["auroc"] == [0.75]
        assert each["mcc"] == [pytest.approx(matthews_corrcoef(truth[:, 0], logits[:, 0] > 0))]

    def test_labels_without_positives_are_left_out_of_the_mean_areas(self):
        truth = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
        logits = np.where(truth == 1, 2.0, -2.0)
        each = measure_each_label(logits, truth)
        assert each["auroc"][0] == each["auroc"][2] == 1.0 and np.isnan(each["auroc"][1])
        measured = measure_multi_label(logits, truth)
        assert measured["auroc"] == measured["auprc"] == 1.0 and measured["macro_f1"] == pytest.approx(2 / 3)

    def test_logits_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="1 of 2 rows have NaN"):
            measure_multi_label(np.array([[0.0, np.inf], [1.0, 1.0]]), np.zeros((2, 2)))


class TestRegression:
    def test_measures_are_those_of_scipy_and_scikit_learn(self):
        random = np.random.default_rng(0)
        truth = random.normal(size=(40, 2))
        guess = truth + random.normal(size=(40, 2))
        measured = measure_regression(guess, truth)
        assert measured["r2"] == pytest.approx(r2_score(truth, guess))
        assert measured["mse"] == pytest.approx(np.square(truth - guess).mean())
        assert measured["pearson"] == pytest.approx(
            np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, guess.T)])
        )
        ranks = [np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1] for a, b in zip(truth.T, guess.T)]
        assert measured["spearman"] == pytest.approx(np.mean(ranks))

    @pytest.mark.parametrize("scale", [1.0, 1e-170, 1e150])
    def test_each_target_is_that_of_scipy_and_scikit_learn(self, scale):
        random = np.random.default_rng(0)
        truth = random.normal(size=(60, 5)) + 100
        guess = truth + random.normal(size=(60, 5))
        guess[:, 1], truth[:, 2], guess[:, 2] = guess[:, 1].round(), truth[:, 2].round(), 101.0
        guess, truth = scale * guess, scale * truth
        each = measure_each_target(guess, truth)
        for target in range(5):
            side = guess[:, target], truth[:, target]
            assert each["r2"][target] == pytest.approx(r2_score(*side[::-1]), abs=1e-12)
            assert each["mse"][target] == pytest.approx(mean_squared_error(*side), rel=1e-12)
            for metric, correlate in (("pearson", pearsonr), ("spearman", spearmanr)):
                expected = np.nan if target == 2 else correlate(*side).statistic
                assert each[metric][target] == pytest.approx(expected, abs=1e-12, nan_ok=True)

    def test_a_constant_side_has_no_correlation(self):
        assert np.isnan(measure_regression(np.ones(4), np.arange(4.0))["pearson"])
        assert measure_regression(np.ones(4), np.arange(4.0))["r2"] < 0
        assert np.isnan(measure_regression(np.arange(4.0), np.ones(4))["r2"])
        each = measure_each_target(np.stack([np.ones(4), np.arange(4.0)], 1), np.stack([np.arange(4.0)] * 2, 1))
        assert np.isnan(each["pearson"][0]) and each["pearson"][1] == pytest.approx(1)

    def test_predictions_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="1 of 3 rows"):
            measure_regression(np.array([0.0, np.nan, 1.0]), np.arange(3.0))


class TestBootstrap:
    """Each vectorized metric is the plain one on the rows that were drawn."""

    @pytest.mark.parametrize("classes", [2, 3, 5])
    @pytest.mark.parametrize("ties", [False, True])
    def test_classification(self, classes, ties):
        logits, references = draw_scores(classes, rows=25)
        logits = logits.round() if ties else logits
        counts = draw_resamples(25, 30, seed=1)
        expect_equal(
            resample_classification(logits, references, counts),
            [measure_classification(logits[rows], references[rows]) for rows in expand(counts)],
        )

    def test_bases_are_drawn_with_their_sequence(self):
        random = np.random.default_rng(0)
        logits, labels = random.normal(size=(6, 9, 3)), random.integers(0, 3, (6, 9))
        labels[:, 7:] = -100
        labels[2, 1:4] = -100
        counts = draw_resamples(6, 20, seed=0)
        flat, references, rows = select_labelled_bases(logits, labels)
        assert len(flat) == 6 * 7 - 3 and (references >= 0).all()
        expected = [measure_classification(*select_labelled_bases(logits[i], labels[i])[:2]) for i in expand(counts)]
        expect_equal(resample_classification(flat, references, counts, rows), expected)

    def test_multi_label(self):
        random = np.random.default_rng(0)
        truth = random.random((20, 4)) < [0.5, 0.2, 0.05, 0.0]
        logits = (random.normal(size=(20, 4)) + truth).round(1)
        counts = draw_resamples(20, 30, seed=2)
        expected = [measure_multi_label(logits[rows], truth[rows]) for rows in expand(counts)]
        expect_equal(resample_multi_label(logits, truth, counts), expected)

    def test_regression(self):
        random = np.random.default_rng(0)
        truth = random.normal(size=(15, 2)).round(1)
        guess = (truth + random.normal(size=(15, 2))).round(1)
        counts = draw_resamples(15, 40, seed=3)
        expected = [measure_regression(guess[rows], truth[rows]) for rows in expand(counts)]
        expect_equal(resample_regression(guess, truth, counts), expected)

    def test_shared_thresholds_change_little(self, monkeypatch):
        logits, references = draw_scores(2, rows=2000)
        counts = draw_resamples(2000, 20, seed=0)
        exact = resample_classification(logits, references, counts)
        monkeypatch.setattr(bootstrap, "_THRESHOLDS", 200)
        shared = resample_classification(logits, references, counts)
        for metric, values in shared.items():
            assert np.abs(values - exact[metric]).max() < 2e-3, metric
        assert (shared["auroc"] != exact["auroc"]).any()

    def test_many_bases_need_little_memory_and_time(self):
        random = np.random.default_rng(0)
        labels = random.choice(3, (40, 5000), p=[0.998, 0.001, 0.001])
        logits = random.normal(size=(40, 5000, 3)) + 2 * np.eye(3)[labels]
        flat, references, rows = select_labelled_bases(logits, labels)
        counts = draw_resamples(40, 1000, seed=0)
        tracemalloc.start()
        resampled = resample_classification(flat, references, counts, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 300e6, "a thousand weights of each base are 1.6 GB"
        assert np.isfinite(resampled["auprc"]).all()

    def test_chunks_make_no_difference(self, monkeypatch):
        logits, references = draw_scores(3, rows=40)
        counts = draw_resamples(40, 50, seed=0)
        whole = resample_classification(logits, references, counts)
        monkeypatch.setattr(bootstrap, "_CHUNK", 90)
        for metric, values in resample_classification(logits, references, counts).items():
            np.testing.assert_allclose(values, whole[metric], atol=1e-12)

    def test_an_interval_of_a_mean_is_that_of_the_normal_distribution(self):
        random = np.random.default_rng(0)
        right = random.random(2000) < 0.8
        logits = np.stack([~right, right], axis=1).astype(float)
        accuracy = resample_classification(logits, np.ones(2000, dtype=int), draw_resamples(2000, 1000, 0))["accuracy"]
        low, high = find_interval(accuracy)
        half = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
        assert low == pytest.approx(right.mean() - half, abs=4e-3)
        assert high == pytest.approx(right.mean() + half, abs=4e-3)

    def test_the_seed_decides_and_every_resample_is_as_large_as_the_test_set(self):
        assert (draw_resamples(30, 5, 0) == draw_resamples(30, 5, 0)).all()
        assert (draw_resamples(30, 5, 0) != draw_resamples(30, 5, 1)).any()
        assert (draw_resamples(30, 5, 0).sum(axis=1) == 30).all()

    def test_parts_of_the_resamples_are_the_resamples(self, monkeypatch):
        random = np.random.default_rng(0)
        truth = random.normal(size=(50, 2))
        prediction = EvalPrediction(truth + random.normal(size=(50, 2)), truth)
        whole = score("regression", prediction, with_resamples=True).resamples
        monkeypatch.setattr(bootstrap, "_DRAWN", 50 * 300)
        assert [len(part) for part in draw_in_parts(50, 1000, 0)] == [300, 300, 300, 100]
        assert (np.concatenate(list(draw_in_parts(50, 1000, 0))) == draw_resamples(50, 1000, 0)).all()
        for metric, values in score("regression", prediction, with_resamples=True).resamples.items():
            np.testing.assert_allclose(values, whole[metric], atol=1e-12)

    def test_the_draws_stay_those_of_earlier_versions(self):
        """Intervals of other releases can be compared."""
        assert draw_resamples(6, 3, seed=0).tolist() == [[1, 2, 0, 2, 0, 1], [2, 1, 0, 1, 1, 1], [0, 0, 0, 4, 1, 1]]

    def test_a_metric_that_is_hardly_ever_defined_has_no_interval(self):
        values = np.full(100, np.nan)
        assert find_interval(values) is None
        values[:60] = 0.5
        assert find_interval(values) == [0.5, 0.5]

    def test_very_large_test_sets_get_fewer_resamples(self):
        assert choose_resamples(10_000, 3) == 1000
        assert 200 <= choose_resamples(1_000_000, 10) < 1000
        assert choose_resamples(10**9, 100) == 200
        assert choose_resamples(10, 2, most=50) == 50


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression", "token"])
def test_batches_have_the_scores_of_all_rows_together(problem):
    random = np.random.default_rng(0)
    labels = {
        "single_label": random.integers(0, 3, 40),
        "multi_label": random.integers(0, 2, (40, 3)),
        "regression": random.normal(size=(40, 3)),
        "token": np.where(np.arange(12) < 9, random.integers(0, 3, (40, 12)), -100),
    }[problem]
    outputs = random.normal(size=(40, 12, 3) if problem == "token" else (40, 3))
    bounds = [16, 32]
    batches = EvalPrediction(np.split(outputs, bounds), np.split(labels, bounds))
    if problem == "token":  # a batch is as long as its longest row
        batches = EvalPrediction(
            [batch[:, :10] for batch in batches.predictions], [part[:, :10] for part in batches[1]]
        )
    whole, parts = (score(problem, one, with_resamples=True) for one in (EvalPrediction(outputs, labels), batches))
    assert parts.overall == whole.overall == measure(problem, batches) and parts.per_class == whole.per_class
    for metric, values in whole.resamples.items():
        np.testing.assert_array_equal(parts.resamples[metric], values)
