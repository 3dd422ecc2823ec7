"""`gengram predict`: for every problem the answers of the model itself, from every kind of file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from gengram.errors import InputError
from gengram.pipelines.command import embed
from gengram.pipelines.command import predict as main
from gengram.pipelines.predictions import check_spread
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.command import finetune

LABELS = {
    "single_label": {"label": ["a", "b", "a"] * 20},
    "multi_label": {"label": ["a;b", "b", ""] * 20},
    "regression": {"target_x": np.arange(60) / 7, "target_y": np.arange(60) / 11},
}


@pytest.fixture
def train(command, task, tmp_path, draw_table):
    """Train a small model for a problem; its folder."""

    def run(problem: str, **changes) -> Path:
        table = draw_table(60, 0).drop(columns="label")
        labels = LABELS.get(problem) or {"label": [bases.replace("C", "A") for bases in table["seq"]]}
        table.assign(**labels).to_csv(task["train_file"], index=False)
        arguments = {"problem": problem, "memory": True, "test_file": None, "validation_fraction": 0, **changes}
        assert finetune(command(**arguments)) == 0
        return tmp_path / "run/seed-0"

    return run


def ask(folder: Path, sequences: list[str], auto=AutoModelForSequenceClassification) -> list[np.ndarray]:
    """Logits of each sequence alone."""
    model, tokenizer = auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(sequence, return_tensors="pt")).logits[0].numpy() for sequence in sequences]


def predict(folder: Path, file: Path, *options) -> pd.DataFrame:
    out = file.with_suffix(".predictions.parquet")
    assert main([str(folder), str(file), "--out", str(out), "--overwrite", *map(str, options)]) == 0
    assert not list(out.parent.glob("*.partial"))
    return pd.read_parquet(out)


@pytest.fixture
def new(tmp_path, draw_table) -> Path:
    draw_table(10, 5).to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "new.csv"


def test_classes(train, new):
    folder = train("single_label")
    table, source = predict(folder, new, "--batch_size", 3), pd.read_csv(new)
    assert list(table.columns) == ["label", "chrom", "prediction", "probability_a", "probability_b"]
    assert table["chrom"].tolist() == source["chrom"].tolist()
    expected = softmax(np.stack(ask(folder, source["seq"].tolist())), axis=1)
    np.testing.assert_allclose(table[["probability_a", "probability_b"]], expected, atol=1e-6)
    assert table["prediction"].tolist() == ["ab"[label] for label in expected.argmax(axis=1)]
    again = predict(folder.parent, new)
    np.testing.assert_allclose(again["probability_a"], table["probability_a"], atol=1e-6)


def test_several_labels(train, new):
    folder = train("multi_label")
    table = predict(folder, new)
    expected = expit(np.stack(ask(folder, pd.read_csv(new)["seq"].tolist())))
    np.testing.assert_allclose(table[["probability_a", "probability_b"]], expected, atol=1e-6)
    chosen = [[name for name, one in zip("ab", row) if one > 0.5] for row in expected]
    assert [list(one) for one in table["prediction"]] == chosen


def test_targets_from_a_fasta_without_labels(train, tmp_path, draw_table):
    folder = train("regression")
    sequences = draw_table(6, 3)["seq"].tolist()
    (tmp_path / "new.fa").write_text("".join(f">r{i}\n{bases}\n" for i, bases in enumerate(sequences)))
    table = predict(folder, tmp_path / "new.fa")
    assert list(table.columns) == ["name", "prediction_target_x", "prediction_target_y"]
    np.testing.assert_allclose(table.iloc[:, 1:].astype(float), np.stack(ask(folder, sequences)), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"backbone": "bert", "memory": {"pooling": "cls"}}], ids=["plain", "cls"])
def test_a_class_for_each_base(options, train, new):
    folder = train("token", **options)
    table, sequences = predict(folder, new), pd.read_csv(new)["seq"].tolist()
    assert table["prediction_start"].tolist() == [0] * 10
    assert [len(one) for one in table["prediction"]] == [len(sequence) for sequence in sequences]
    logits = ask(folder, sequences, AutoModelForTokenClassification)
    inner = slice(1, -1) if options else slice(None)
    for found, expected in zip(table["probability_G"], logits):
        np.testing.assert_allclose(found, softmax(expected[inner], axis=1)[:, 1], atol=1e-5)
    middle = predict(folder, new, "--max_length", 14, "--too_long", "center")
    room = 12 if options else 14
    assert middle["prediction_start"].tolist() == [(len(sequence) - room) // 2 for sequence in sequences]
    assert {len(one) for one in middle["probability_A"]} == {room}


def test_of_a_run_with_several_models_the_best_one_on_the_validation_rows_is_taken(train, new, tmp_path, capsys):
    run = train("single_label", seeds=[0, 1], validation_fraction=0.2).parent
    capsys.readouterr()
    assert main([str(new), "--model", str(run), "--out", str(tmp_path / "run.parquet")]) == 0
    validation = json.loads((run / "report.json").read_text())["validation"]
    scores = list(zip(validation["mcc"]["per_seed"], (-loss for loss in validation["loss"]["per_seed"])))
    best = scores.index(max(scores))
    assert f"seed {best} is taken: of 2, it has the highest mcc" in capsys.readouterr().err
    assert main([str(new), "--model", str(run / f"seed-{best}"), "--out", str(tmp_path / "one.parquet")]) == 0
    assert (tmp_path / "run.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_one_output_without_a_problem_type_is_a_regression(small, new, tmp_path):
    """As transformers saves what it has trained with its default loss of one output."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=128, num_labels=1, **small)).eval()
    assert model.config.problem_type is None
    model.save_pretrained(tmp_path / "one")
    build_nucleotide_tokenizer().save_pretrained(tmp_path / "one")
    table = predict(tmp_path / "one", new)
    expected = np.concatenate(ask(tmp_path / "one", pd.read_csv(new)["seq"].tolist()))
    assert "prediction" not in table and len(set(expected)) > 1
    np.testing.assert_allclose(table["prediction_LABEL_0"], expected, atol=1e-6)


def test_columns_that_give_way_to_the_predictions_are_told(train, new, tmp_path, capsys):
    """As when the predictions of another model are the input."""
    pd.read_csv(new).assign(prediction="x").to_csv(tmp_path / "again.csv", index=False)
    assert "prediction" in predict(train("single_label"), tmp_path / "again.csv")
    assert "again.csv: 'prediction': columns of the predictions are called so" in capsys.readouterr().err


class TestWrongInputs:
    def expect(self, argv, capsys, message, code=1):
        try:
            returned = main([str(word) for word in argv])
        except SystemExit as stop:
            returned = stop.code
        error = capsys.readouterr().err
        assert returned == code and message in error and "Traceback" not in error, error

    def test_messages(self, train, new, tmp_path, capsys):
        folder, out = train("single_label"), tmp_path / "out.parquet"
        capsys.readouterr()
        self.expect(
            [tmp_path / "none", new, "--out", out], capsys, "none', and no repository of that name was asked for"
        )
        self.expect([folder, tmp_path / "none.csv", "--out", out], capsys, "none.csv: there is no such file")
        self.expect([folder, new, "--out", tmp_path / "no/out.parquet"], capsys, "the folder")
        self.expect([folder, new, "--out", out, "--max_length", 9], capsys, "new.csv, data row 1: the sequence of")
        self.expect([folder, new, "--out", out, "--max_length", 9999], capsys, "longer than the model")
        self.expect(
            [folder, new, "--out", out, "--batch_size", 0], capsys, "--batch_size: '0': give a whole number", code=2
        )
        assert not out.exists()

    def test_an_earlier_output_is_replaced_only_if_asked(self, train, new, tmp_path, capsys):
        out = tmp_path / "out.parquet"
        out.write_text("mine")
        argv = [train("single_label"), new, "--out", out]
        self.expect(argv, capsys, "out.parquet: the file is there already")
        assert out.read_text() == "mine"
        self.expect([*argv, "--overwrite"], capsys, "", code=0)
        assert pd.read_parquet(out).shape[0] == 10

    def test_a_model_without_a_head(self, small, new, tmp_path, capsys):
        BertForMaskedLM(BertConfig(vocab_size=128, **small)).save_pretrained(tmp_path / "lm")
        build_nucleotide_tokenizer().save_pretrained(tmp_path / "lm")
        message = "lm: ['BertForMaskedLM'] has no head that classifies or measures; fine-tune it first"
        self.expect([tmp_path / "lm", new, "--out", tmp_path / "out.parquet"], capsys, message)


class TestNotFinite:
    """Weights that are finite, and sequences at which they overflow: those with a T."""

    @pytest.fixture
    def overflowing(self, small, tmp_path):
        def make(problem_type, num_labels, model_class=BertForSequenceClassification, everywhere=False) -> Path:
            torch.manual_seed(0)
            config = BertConfig(vocab_size=128, num_labels=num_labels, problem_type=problem_type, **small)
            model = model_class(config)
            tokenizer = build_nucleotide_tokenizer(model_max_length=64)
            with torch.no_grad():
                # The sum of 16 such channels is infinite.
                rows = slice(None) if everywhere else tokenizer.convert_tokens_to_ids("T")
                model.bert.embeddings.word_embeddings.weight[rows] = 3e38
            model.save_pretrained(tmp_path / "big")
            tokenizer.save_pretrained(tmp_path / "big")
            return tmp_path / "big"

        return make

    @pytest.fixture
    def file(self, tmp_path) -> Path:
        pd.DataFrame({"seq": ["CGAAGC", "CGTAAG", "GGAACC", "TCCGAG"]}).to_csv(tmp_path / "some.csv", index=False)
        return tmp_path / "some.csv"

    @pytest.mark.parametrize(
        ("problem_type", "num_labels"),
        [("single_label_classification", 2), ("multi_label_classification", 3), ("regression", 2), (None, 1)],
    )
    def test_rows_without_a_prediction_are_null_and_told(self, problem_type, num_labels, overflowing, file, capsys):
        model = overflowing(problem_type, num_labels)
        table = predict(model, file)
        told = f"{file}: the outputs of {model} are not finite for 2 of 4 rows, the first is data row 2: these have no"
        assert told in capsys.readouterr().err
        columns = [name for name in table.columns if name.startswith(("prediction", "probability"))]
        assert columns
        for name in columns:
            assert table[name].isna().tolist() == [False, True, False, True], name

    def test_bases_without_a_prediction_are_null(self, overflowing, file, capsys):
        table = predict(overflowing(None, 3, BertForTokenClassification), file)
        assert "for 2 of 4 rows, the first is data row 2" in capsys.readouterr().err
        for name in ("prediction", "probability_LABEL_1"):
            assert not pd.isna(list(table[name][0])).any() and pd.isna(list(table[name][1])).all(), name

    def test_no_prediction_at_all_is_an_error(self, overflowing, file, tmp_path, capsys):
        folder = overflowing("single_label_classification", 2, everywhere=True)
        assert main([str(folder), str(file), "--out", str(tmp_path / "out.parquet")]) == 1
        assert "are not finite for 4 of 4 rows: " in capsys.readouterr().err
        assert not (tmp_path / "out.parquet").exists()

    def test_no_vector_at_all_is_written(self, overflowing, file, tmp_path, capsys):
        folder = overflowing(None, 2)
        assert embed([str(file), "--model", str(folder), "--out", str(tmp_path / "out.npz")]) == 1
        assert f"{file}, data row 2: the vector is not finite" in capsys.readouterr().err
        assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("model_class", "fields", "message"),
    [
        (
            BertForSequenceClassification,
            {"problem_type": "classes"},
            "problem_type='classes' in config.json is none of",
        ),
        (
            BertForSequenceClassification,
            {"problem_type": "single_label_classification", "id2label": {"0": "a"}},
            "single_label_classification",  # transformers' newer versions say it themselves
        ),
        (
            BertForTokenClassification,
            {"problem_type": "multi_label_classification"},
            "of single bases only classes are predicted here",
        ),
    ],
    ids=["unknown", "one class", "labels of bases"],
)
def test_problem_types_that_are_not_predicted(model_class, fields, message, small, new, tmp_path, capsys):
    model_class(BertConfig(vocab_size=128, **small)).save_pretrained(tmp_path / "model")
    build_nucleotide_tokenizer().save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**config, **fields}))
    assert main([str(tmp_path / "model"), str(new), "--out", str(tmp_path / "out.parquet")]) == 1
    assert f"{tmp_path / 'model'}: " in (told := capsys.readouterr().err) and message in told


class TestSeeds:
    """A run with three models: one of them by its seed, or what they say together."""

    @pytest.fixture
    def run(self, train, new):
        def make(problem: str) -> Path:
            return train(problem, seeds=[0, 1, 5], num_train_epochs=1).parent

        return make

    @pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression", "token"])
    def test_all_is_the_mean_with_its_standard_deviation(self, problem, run, new):
        folder = run(problem)
        tables = [predict(folder / f"seed-{seed}", new) for seed in (0, 1, 5)]
        found = predict(folder, new, "--seed", "all")
        numbers = [
            name for name in tables[0] if name.startswith(("probability_", "prediction_")) and "start" not in name
        ]
        assert list(found) == [
            one for name in tables[0] for one in ([name, f"{name}_sd"] if name in numbers else [name])
        ]  # fmt: skip
        for name in numbers:
            for row in range(10):
                values = np.array([np.asarray(table[name][row], dtype=np.float64) for table in tables])
                np.testing.assert_allclose(found[name][row], values.mean(axis=0), atol=1e-6)
                np.testing.assert_allclose(found[f"{name}_sd"][row], values.std(axis=0, ddof=1), atol=1e-6)
        means = {name.removeprefix("probability_"): found[name] for name in numbers}
        for row in range(10):
            if problem == "single_label":
                assert found["prediction"][row] == max(means, key=lambda name: means[name][row])
            elif problem == "multi_label":
                assert list(found["prediction"][row]) == [name for name in means if means[name][row] > 0.5]
            elif problem == "token":
                best = np.argmax([means[name][row] for name in means], axis=0)
                assert list(found["prediction"][row]) == [list(means)[place] for place in best]

    def test_one_of_them_and_what_there_is_not(self, run, new, tmp_path, capsys):
        folder = run("single_label")
        assert predict(folder, new, "--seed", 5).equals(predict(folder / "seed-5", new))
        out = ["--out", str(tmp_path / "out.tsv")]
        for model, seed, words in (
            (folder, "7", f"{folder}: there is no seed 7; the run has 0, 1, 5"),
            (folder / "seed-1", "all", "seed-1 is a single model; --seed all takes the folder of a run"),
            (folder / "seed-1", "0", "seed-1 is the model of seed 1, not of seed 0"),
            ("lab/model", "all", "lab/model: only the folder of a run has seeds"),
            ("none", "all", "there is no folder 'none'"),
        ):
            capsys.readouterr()
            assert main([str(new), "--model", str(model), "--seed", seed, *out]) == 1
            assert words in capsys.readouterr().err
        with pytest.raises(SystemExit) as stop:
            main([str(new), "--model", str(folder), "--seed", "-1", *out])
        assert stop.value.code == 2 and "give the number of a seed, or all" in capsys.readouterr().err
        assert embed([str(new), "--model", str(folder), "--seed", "5", "--out", str(tmp_path / "a.npz")]) == 0
        assert embed([str(new), "--model", str(folder / "seed-5"), "--out", str(tmp_path / "b.npz")]) == 0
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    def test_of_one_model_there_is_no_spread(self, train, new, tmp_path, capsys):
        folder = train("single_label").parent
        table = predict(folder, new, "--seed", "all")
        assert table["probability_a_sd"].isna().all()
        np.testing.assert_allclose(table["probability_a"], predict(folder, new)["probability_a"], atol=1e-7)
        capsys.readouterr()
        out = str(tmp_path / "out.csv")
        assert main([str(new), "--model", str(folder), "--seed", "all", "--out", out, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["model"] == str(folder) and answer["models"] == [str(folder / "seed-0")]

    def test_names_that_leave_none_for_the_spread(self):
        with pytest.raises(InputError, match="the outputs 'a' and 'a_sd' leave no name"):
            check_spread(["a", "b", "a_sd"], "all")
        check_spread(["a", "a_sd"], 1)
