"""The simple models of every table: what each sees and does not see, on every problem, pairs too, and on real tasks."""

import csv
import dataclasses
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gengram.benchmarks.data.load import read_task
from gengram.benchmarks.data.prepared import PreparedTask, Rows, prepare_task
from gengram.benchmarks.protocols.baselines import BASELINES, find_baselines, measure_rows
from gengram.errors import InputError

SHARED = Path(__file__).parents[4] / "shared"
DATA, REFERENCE = SHARED / "data" / "benchmarks", SHARED / "specs" / "kmer_baseline.csv"
QUICK = ("GB/human_ocr_ensembl", "GUE/mouse_3", "other/promoter_bacillus_81")
LINEAR = [f"baseline:{name}" for name in ("composition", "kmer", "positions")]


def draw_sequences(count: int, seed: int, bp: int = 60) -> tuple[list[str], np.ndarray]:
    """Sequences, the second half of them rich in G and C, in random order; and which they are."""
    random = np.random.default_rng(seed)
    rich = random.permutation(np.arange(count) >= count / 2)
    shares = {False: [0.4, 0.1, 0.1, 0.4], True: [0.1, 0.4, 0.4, 0.1]}
    return ["".join(random.choice(list("ACGT"), bp, p=shares[bool(each)])) for each in rich], rich


def make_task(
    draw, problem="single_label", classes=("poor", "rich"), metric="auroc", sizes=(120, 40, 60)
) -> PreparedTask:
    """A task of rows that `draw` makes: number of rows, seed -> Rows."""
    train, validation, test = (draw(size, seed) for seed, size in enumerate(sizes))
    alternatives = None if train.alternatives is None else train.alternatives + validation.alternatives
    joined = Rows(
        train.sequences + validation.sequences, alternatives, np.concatenate([train.labels, validation.labels])
    )
    facts = types.SimpleNamespace(name="mine/task", metric=metric)
    return PreparedTask(
        facts, problem, classes, train, validation, test, joined, "0" * 64, {"caps": {"train": None, "test": None}}
    )


def draw_classes(count: int, seed: int) -> Rows:
    sequences, rich = draw_sequences(count, seed)
    return Rows(sequences, None, rich.astype(np.int64))


def draw_labels(count: int, seed: int) -> Rows:
    sequences, rich = draw_sequences(count, seed)
    return Rows(sequences, None, np.stack([rich, ~rich, np.ones(count, dtype=bool)], axis=1))


def draw_numbers(count: int, seed: int) -> Rows:
    sequences, _ = draw_sequences(count, seed)
    gc = np.array([sum(base in "GC" for base in sequence) / len(sequence) for sequence in sequences])
    return Rows(sequences, None, np.stack([100 * gc, 3 - gc], axis=1))


def draw_pairs(count: int, seed: int) -> Rows:
    """Pairs that differ in the base in the middle; the class is whether it became a G."""
    random = np.random.default_rng(seed)
    sequences, _ = draw_sequences(count, seed, bp=60)
    classes = random.integers(0, 2, count)
    context = [(f"{one[:25]}TTTTT", f"AAAAA{one[36:]}") for one in sequences]
    references = ["A".join(sides) for sides in context]
    return Rows(references, ["TG"[each].join(sides) for sides, each in zip(context, classes)], classes)


def measure(task: PreparedTask, name: str, metric: str, seeds=(3,)) -> float:
    (outcome, *_) = BASELINES[name].judge(task, seeds)
    assert outcome.seed == 3 and outcome.outputs.dtype == np.float64
    assert len(outcome.outputs) == len(task.test) and np.isfinite(outcome.outputs).all()
    return measure_rows(task, outcome.outputs, task.test).get(metric, np.nan)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_learn_classes_labels_and_numbers(name):
    assert measure(make_task(draw_classes), name, "auroc") > 0.9
    labels = make_task(draw_labels, "multi_label", ("rich", "poor", "all"))
    assert measure(labels, name, "auroc") > 0.9
    numbers = make_task(draw_numbers, "regression", ("gc", "rest"), "pearson")
    assert measure(numbers, name, "pearson") > (0.9 if name == "baseline:composition" else 0.6)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_read_both_sides_of_a_pair(name):
    task = make_task(draw_pairs, classes=("T", "G"), sizes=(100, 40, 60))
    assert measure(task, name, "auroc") > 0.9
    swapped = dataclasses.replace(task, **{
        split: Rows(rows.sequences, rows.sequences, rows.labels)
        for split, rows in (("train", task.train), ("all_train", task.all_train), ("test", task.test))
    })  # fmt: skip
    assert measure(dataclasses.replace(swapped, validation=Rows([], [], np.zeros(0, int))), name, "auroc") < 0.7


def test_kmers_of_a_pair_are_those_of_the_reference_where_the_other_side_says_nothing():
    def draw(count: int, seed: int) -> Rows:
        sequences, rich = draw_sequences(count, seed)
        changed = [f"{one[:30]}{'ACGT'[len(one.split('A')) % 4]}{one[31:]}" for one in sequences]
        return Rows(sequences, changed, rich.astype(np.int64))

    (outcome,) = BASELINES["baseline:kmer"].judge(make_task(draw), (0,))
    losses = {one["features"]: one["validation"]["loss"] for one in outcome.chosen["tried"]}
    assert outcome.chosen["features"] == min(losses, key=losses.get) and set(losses) == {"reference", "pair"}
    (outcome,) = BASELINES["baseline:kmer"].judge(make_task(draw_pairs, classes=("T", "G"), sizes=(100, 40, 60)), (0,))
    assert outcome.chosen["features"] == "pair"


def test_the_majority_says_the_same_of_every_row():
    task = make_task(draw_classes)
    uneven = dataclasses.replace(task.all_train, labels=np.arange(len(task.all_train)) // 120)
    (outcome,) = BASELINES["baseline:majority"].judge(dataclasses.replace(task, all_train=uneven), (0, 1, 2))
    np.testing.assert_allclose(np.exp(outcome.outputs), [[0.75, 0.25]] * 60)
    numbers = make_task(draw_numbers, "regression", ("gc", "rest"), "pearson")
    (outcome,) = BASELINES["baseline:majority"].judge(numbers, (0,))
    np.testing.assert_allclose(outcome.outputs, [numbers.all_train.labels.mean(axis=0)] * 60)


def test_a_class_that_no_training_row_has_is_unlikely():
    task = make_task(draw_classes, classes=("poor", "rich", "never"))
    for name in ("baseline:majority", *LINEAR):
        (outcome,) = BASELINES[name].judge(task, (0,))
        assert outcome.outputs.shape == (60, 3) and (np.exp(outcome.outputs[:, 2]) < 1e-6).all()


def test_only_the_seeded_are_run_for_each_seed():
    assert [name for name, one in BASELINES.items() if one.seeded] == ["baseline:cnn"]
    task = make_task(draw_classes, sizes=(32, 16, 8))
    assert len(BASELINES["baseline:kmer"].judge(task, (0, 1, 2))) == 1
    assert [one.seed for one in BASELINES["baseline:cnn"].judge(task, (4, 5))] == [4, 5]


@pytest.mark.parametrize(("place", "width"), [(50, 40), (2, 100)])  # at the middle, far from it
def test_positions_choose_their_width_on_validation_rows(place, width):
    random = np.random.default_rng(0)

    def draw(count: int, seed: int) -> Rows:
        sequences, _ = draw_sequences(count, seed + 10, bp=100)
        classes = random.integers(0, 2, count)
        marked = [f"{one[:place]}{'AC'[each]}{one[place + 1 :]}" for one, each in zip(sequences, classes)]
        return Rows(marked, None, classes)

    (outcome,) = BASELINES["baseline:positions"].judge(make_task(draw), (0,))
    tried = outcome.chosen["tried"]
    assert outcome.chosen["width"] == width and [one["width"] for one in tried] == [40, 100]
    assert outcome.validation == max((one["validation"] for one in tried), key=lambda one: one["auroc"])


def test_positions_align_rows_of_unequal_length_at_the_middle():
    random = np.random.default_rng(0)

    def draw(count: int, seed: int) -> Rows:
        classes = random.integers(0, 2, count)
        sides = [["".join(random.choice(list("ACGT"), random.integers(25, 60))) for _ in range(2)] for _ in classes]
        cut = [(one[: min(map(len, (one, other)))], other[: min(map(len, (one, other)))]) for one, other in sides]
        return Rows([f"{one}{'AC'[each]}{other}" for (one, other), each in zip(cut, classes)], None, classes)

    task = make_task(draw)
    assert measure(task, "baseline:positions", "auroc") > 0.95
    (outcome,) = BASELINES["baseline:positions"].judge(task, (0,))
    assert outcome.chosen == {"width": 40, "tried": []}


def test_what_is_not_available_says_why():
    task = make_task(lambda count, seed: Rows(["ACGT" * 5] * count, None, np.arange(count) % 2))
    with pytest.raises(
        InputError, match=r"baseline:positions: 100% of the training rows of mine/task are shorter than the 40"
    ):
        BASELINES["baseline:positions"].judge(task, (0,))
    one_class = dataclasses.replace(task, all_train=Rows(["ACGT"] * 4, None, np.zeros(4, dtype=int)))
    with pytest.raises(InputError, match="baseline:kmer: the training rows of mine/task are all of one class"):
        BASELINES["baseline:kmer"].judge(one_class, (0,))
    with pytest.raises(InputError, match="baseline:cnn: mine/task has no validation rows"):
        BASELINES["baseline:cnn"].judge(dataclasses.replace(task, validation=Rows([], None, np.zeros(0, int))), (0,))
    with pytest.raises(InputError, match="the labels of mine/task are of bases"):
        BASELINES["baseline:majority"].judge(dataclasses.replace(task, problem="token"), (0,))
    with pytest.raises(InputError, match="has no training rows"):
        BASELINES["baseline:majority"].judge(dataclasses.replace(task, train=Rows([], None, np.zeros(0, int))), (0,))


def test_rows_are_the_first_of_one_permutation_capped_or_not(monkeypatch):
    """10,000 rows of a permutation of the train rows; rows that `--max_train_rows` has left are in such an order."""
    from gengram.training.baselines import predictors

    seen = []

    def fit(problem, features, rows, labels, classes, strength):
        seen.append(rows)
        return lambda others: np.zeros((len(others), classes))

    monkeypatch.setattr(predictors, "fit_linear", fit)
    sequences = [f"{number:06d}" for number in range(12_000)]
    rows = Rows(sequences, None, np.arange(12_000) % 2)
    task = dataclasses.replace(make_task(draw_classes), all_train=rows)
    BASELINES["baseline:kmer"].judge(task, (0,))
    order = np.random.default_rng(0).permutation(12_000)
    assert seen[-1] == [sequences[row] for row in order[:10_000]]
    capped = dataclasses.replace(
        task, all_train=Rows([sequences[row] for row in order[:11_000]], None, rows.labels[:11_000])
    )
    capped.report["caps"]["train"] = 11_000
    BASELINES["baseline:kmer"].judge(capped, (0,))
    assert seen[-1] == seen[-2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["kmer", "baseline:majority"], ["majority", "kmer"]),
        (["all"], ["majority", "composition", "kmer", "positions", "cnn"]),
        (["none"], []),
    ],
)
def test_baselines_are_found_by_name(names, expected):
    assert [one.name for one in find_baselines(names)] == [f"baseline:{name}" for name in expected]


def test_unknown_baselines_are_refused():
    with pytest.raises(InputError, match="there is no baseline 'kmers'; there are majority, composition, kmer"):
        find_baselines(["kmers"])
    with pytest.raises(InputError, match="'none' is given beside others"):
        find_baselines(["none", "kmer"])


def test_the_table_needs_no_torch():
    code = "import sys, gengram.benchmarks.protocols.baselines; assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def read_reference() -> dict[str, float]:
    """AUROC of the 6-mer model on each task folder, as another program has it."""
    if not REFERENCE.is_file() or not DATA.is_dir():
        return {}
    with open(REFERENCE, newline="") as file:
        return {row["task"]: float(row["auroc"]) for row in csv.DictReader(file)}


def score_task(name: str, baseline: str) -> float:
    """AUROC on a task folder as scikit-learn has it."""
    task = prepare_task(read_task(name, data=DATA))
    (outcome,) = BASELINES[baseline].judge(task, (0,))
    shares = np.exp(outcome.outputs)
    shares /= shares.sum(axis=1, keepdims=True)
    if len(task.classes) == 2:
        return roc_auc_score(task.test.labels, shares[:, 1])
    return roc_auc_score(task.test.labels, shares, multi_class="ovr", labels=range(len(task.classes)))


@pytest.mark.skipif(not read_reference(), reason=f"no real data at {SHARED}")
@pytest.mark.parametrize("name", QUICK)
def test_the_kmer_model_has_its_published_score(name):
    assert score_task(name, "baseline:kmer") == pytest.approx(read_reference()[name], abs=0.005)


@pytest.mark.slow
@pytest.mark.skipif(not read_reference(), reason=f"no real data at {SHARED}")
def test_the_kmer_model_has_its_published_score_on_every_task():
    expected = read_reference()
    found = {name: score_task(name, "baseline:kmer") for name in expected}
    far = {name: (score, expected[name]) for name, score in found.items() if abs(score - expected[name]) > 0.005}
    assert len(found) == 55 and not far


@pytest.mark.slow
@pytest.mark.skipif(not read_reference(), reason=f"no real data at {SHARED}")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GUE/splice_reconstructed", 0.926),
        ("derived/human_splice_sites_600", 0.960),
        ("other/celegans_splice_42", 0.992),
        ("other/uci_primate_splice_60", 0.994),
    ],
)
def test_positions_tell_splice_sites(name, expected):
    # The published figures are of twice as many test rows.
    assert score_task(name, "baseline:positions") == pytest.approx(expected, abs=0.01)
