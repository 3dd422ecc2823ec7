"""Which problem do labels mean, what are their names and ids, and every way in which they can be wrong."""

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.training.data.labels import encode_labels, find_label_columns, infer_problem, order_classes, read_labels
from gengram.training.problems import IGNORED


def make_rows(sequences=("ACGT", "GGNAT", "ttagtt"), **columns) -> Dataset:
    return Dataset.from_dict({"sequence": list(sequences), **columns})


def encode(rows: Dataset, problem: str | None = None, wanted=None, classes=None, **options) -> tuple[list, Dataset]:
    """Names and encoded rows, as a training file is read."""
    columns = find_label_columns(rows, "t.csv", wanted)
    labels = read_labels(rows, columns, problem or infer_problem(rows, columns, "t.csv"), "t.csv")
    classes = classes or order_classes(labels, "t.csv")
    return classes, encode_labels(rows, labels, classes, columns, "t.csv", **options)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"label": [0, 1, 1]}, "single_label"),
        ({"label": ["0", "1", "1.0"]}, "single_label"),
        ({"label": [5, 900, 33]}, "single_label"),
        ({"label": ["exon", "intron", "exon"]}, "single_label"),
        ({"label": [True, False, True]}, "single_label"),
        ({"label": [0.0, 1.0, 2.0]}, "single_label"),
        ({"label": [0.1, 1.0, 2.0]}, "regression"),
        ({"label": ["0.1", "1", "nan"]}, "regression"),
        ({"label": ["0.1;3", "1;2", "2;4"]}, "regression"),
        ({"label": [[0.1, 3], [1, 2], [2, 4]]}, "regression"),
        ({"label_a": [0, 1, 7], "label_b": [0.5, 1, 0]}, "regression"),
        ({"label_a": [0, 1, 1], "label_b": [0, 1, 0]}, "multi_label"),
        ({"target_a": ["0", "1", "1"], "target_b": [True, True, False]}, "multi_label"),
        ({"label": ["dnase;ctcf", "ctcf", ""]}, "multi_label"),
        ({"label": [["dnase", "ctcf"], ["ctcf"], []]}, "multi_label"),
        ({"label": [[0, 1], [1, 1], [0, 0]]}, "multi_label"),
        ({"label": ["0010", "00100", "001002"]}, "token"),
        ({"label": ["...E", "..EEI", "IIIIEE"]}, "token"),
        ({"label": [[0, 0, 1, 0], [0, 0, 1, 0, -1], [1] * 6]}, "token"),
        ({"label": [list("IIEE"), list("IIEEI"), list("IIIIIE")]}, "token"),
    ],
)
def test_the_problem_is_what_labels_can_only_mean(columns, problem):
    rows = make_rows(**columns)
    assert infer_problem(rows, find_label_columns(rows, "t.csv"), "t.csv") == problem


@pytest.mark.parametrize(
    "columns",
    [
        {"label_a": [0, 1, 7], "label_b": [3, 1, 0]},
        {"label": [[0, 3], [7], [1, 1]]},
        {"label": [[0], [1], [1]]},
        {"label_a": ["x", "y", "z"], "label_b": [3, 1, 0]},
    ],
)
def test_labels_that_can_mean_several_problems_are_not_guessed(columns):
    rows = make_rows(**columns)
    with pytest.raises(InputError, match=r"--problem|Name one column with --label_column"):
        infer_problem(rows, find_label_columns(rows, "t.csv"), "t.csv")


def test_a_class_label_feature_is_a_class_whatever_its_names_look_like():
    rows = make_rows(label=[0, 1, 0]).cast_column("label", ClassLabel(names=["0.5", "1.5"]))
    assert infer_problem(rows, ["label"], "t.csv") == "single_label"
    assert encode(rows)[0] == ["0.5", "1.5"]


def test_columns_are_found_by_alias_name_and_pattern():
    rows = make_rows(targets=[0, 1, 0], label_a=[0, 1, 1], label_b=[0, 0, 1], other=[1, 2, 3])
    assert find_label_columns(rows, "t.csv") == ["targets"]
    assert find_label_columns(rows.remove_columns("targets"), "t.csv") == ["label_a", "label_b"]
    assert find_label_columns(rows, "t.csv", ["label_*"]) == ["label_a", "label_b"]
    assert find_label_columns(rows, "t.csv", ["other", "label_b", "other"]) == ["other", "label_b"]
    with pytest.raises(InputError, match=r"t\.csv: no label column 'kind_\*'; the file's columns are .*--label_column"):
        find_label_columns(rows, "t.csv", ["kind_*"])


class TestMultiLabel:
    EXPECTED = [[1, 1], [1, 0], [0, 0]]

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            ({"label": ["ctcf; dnase", "ctcf", None]}, ["ctcf", "dnase"]),
            ({"label": [["dnase", "ctcf", "ctcf"], ["ctcf"], []]}, ["ctcf", "dnase"]),
            ({"label": [[1, 1], [1, 0], [0, 0]]}, ["0", "1"]),
            ({"label": [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]}, ["0", "1"]),
            ({"label": [[3, 20], [3], []]}, ["3", "20"]),
            ({"label_z": [1, 1, 0], "label_a": [True, False, False]}, ["label_z", "label_a"]),
            ({"label_z": ["1", "1", "0"], "label_a": [1.0, 0.0, 0.0]}, ["label_z", "label_a"]),
        ],
    )
    def test_every_form_gives_the_same_matrix(self, labels, names):
        classes, rows = encode(make_rows(**labels), "multi_label")
        assert classes == names and rows["label"][:] == self.EXPECTED
        assert rows.column_names == ["sequence", "label"]
        assert rows.features["label"].feature.dtype == "int8"

    def test_names_go_to_the_columns_of_the_training_file(self):
        _, rows = encode(make_rows(label_b=[1, 0, 0], label_a=[1, 1, 0]), classes=["label_a", "label_b"])
        assert rows["label"][:] == [[1, 1], [1, 0], [0, 0]]
        assert (
            encode(make_rows(label=["b", "b", "b"]), "multi_label", classes=["a", "b"])[1]["label"][:] == [[0, 1]] * 3
        )

    @pytest.mark.parametrize(
        ("labels", "classes", "message"),
        [
            ({"label": ["a;b", "b", "c;a"]}, ["a", "b"], r"data row 3: label 'c' is not one of"),
            ({"label": [[0, 1], [1, 1], [0, 0]]}, ["0", "1", "2"], r"2 labels \('0', '1'\), the training file has 3"),
            ({"label_a": [0, 1, 2], "label_b": [0, 1, 1]}, None, r"data row 3: column 'label_a' holds 2, not 0 or 1"),
            ({"label_a": [0, None, 1], "label_b": [0, 1, 1]}, None, r"data row 2: column 'label_a' has no value"),
            ({"label": [["a"], None, ["b"]]}, None, r"data row 2: column 'label' has no value"),
            ({"label": [["a"], ["b", None], ["b"]]}, None, r"data row 2: a label of column 'label' has no value"),
            ({"label": ["", "", ""]}, None, r"no row has any label"),
        ],
    )
    def test_faults(self, labels, classes, message):
        with pytest.raises(InputError, match=message):
            encode(make_rows(**labels), "multi_label", classes=classes)


class TestRegression:
    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            ({"label": ["0.5;-1", "2;3", "4;5e-1"]}, ["label_0", "label_1"]),
            ({"label": [[0.5, -1.0], [2, 3], [4, 0.5]]}, ["label_0", "label_1"]),
            ({"target_dev": [0.5, 2, 4], "target_hk": ["-1", "3", "0.5"]}, ["target_dev", "target_hk"]),
        ],
    )
    def test_every_form_gives_the_same_targets(self, labels, names):
        classes, rows = encode(make_rows(**labels), "regression")
        assert classes == names and rows["label"][:] == [[0.5, -1], [2, 3], [4, 0.5]]

    def test_one_target_may_be_whole(self):
        assert encode(make_rows(label=[3, 7, 40]), "regression")[1]["label"][:] == [[3], [7], [40]]

    @pytest.mark.parametrize("fault", [None, float("nan"), float("inf")])
    def test_a_target_that_is_no_number_names_its_row(self, fault):
        with pytest.raises(
            InputError, match=r"t\.csv, data row 2: target 'target_b' is (nan|inf), not a finite number"
        ):
            encode(make_rows(target_a=[0.5, 1.5, 2.5], target_b=[1.5, fault, fault]))
        with pytest.raises(InputError, match=r"data row 2: target 'label_1' is (nan|inf).*\(rows like this: 1 of 3\)"):
            encode(make_rows(label=[[0.5, 1], [1, fault], [2, 2]]), "regression")

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"label": [[0.5, 1], [1.5], [2, 3]]}, "data row 2: 1 targets in column 'label', the first row has 2"),
            ({"label": ["x", "y", "z"]}, "data row 1: 'x' is no number"),
            ({"label_a": [[0.5], [1], [2]], "label_b": [1, 2, 3]}, "either one column of lists or numbers"),
        ],
    )
    def test_faults(self, labels, message):
        with pytest.raises(InputError, match=message):
            encode(make_rows(**labels), "regression")


class TestBases:
    @pytest.mark.parametrize(
        "labels",
        [
            ["01.1", "0....", "111111"],
            [[0, 1, -1, 1], [0, -1, -1, -100, -1], [1] * 6],
            [list("01.1"), list("0...."), list("111111")],
            [[0.0, 1.0, -1.0, 1.0], [0.0, -1.0, -1.0, -1.0, -1.0], [1.0] * 6],
        ],
    )
    def test_every_form_gives_the_same_ids(self, labels):
        if isinstance(labels[0], list) and isinstance(labels[0][0], float):
            labels = [[int(label) for label in row] for row in labels]
        classes, rows = encode(make_rows(label=labels))
        assert classes == ["0", "1"]
        assert rows["label"][:] == [[0, 1, IGNORED, 1], [0] + [IGNORED] * 4, [1] * 6]

    def test_one_column_a_base(self):
        rows = make_rows(["ACGT"] * 2, label_0=[0.0, 1.0], label_1=[2, -1], label_2=[1, 1], label_3=[0, 0])
        classes, encoded = encode(rows, "token")
        assert classes == ["0", "1", "2"] and encoded["label"][:] == [[0, 2, 1, 0], [1, IGNORED, 1, 0]]

    def test_labels_of_a_stretch(self):
        _, rows = encode(make_rows(label=["ab", "ab", "abb"]), "token", label_start=2)
        x = IGNORED
        assert rows["label"][:] == [[x, x, 0, 1], [x, x, 0, 1, x], [x, x, 0, 1, 1, x]]

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.text("ab.", min_size=2, max_size=9), min_size=1, max_size=6), st.integers(0, 3))
    def test_ids_lie_at_their_bases(self, labels, start):
        labels = ["ab", *labels]
        rows = make_rows(["A" * (len(text) + start) for text in labels], label=labels)
        _, encoded = encode(rows, "token", label_start=start)
        expected = [[IGNORED] * start + [{"a": 0, "b": 1, ".": IGNORED}[one] for one in text] for text in labels]
        assert encoded["label"][:] == expected

    @pytest.mark.parametrize(
        ("labels", "start", "message"),
        [
            (["0101", "0101", "010101"], 0, r"data row 2: 4 labels for a sequence of 5 bp .*1 of 3\)"),
            (["0101", "01", "01"], 1, r"data row 1: 4 labels from base 1 on for a sequence of 4 bp"),
            (["....", ".....", "......"], 0, "no base has a label, all are masked"),
            (["0000", "00000", "000000"], 0, "all bases have the label '0'"),
            (["0303", "00000", "000000"], 0, r"class numbers must be 0\.\.C-1 .*label 3 first in data row 1"),
            (["0101", None, "010101"], 0, "data row 2: column 'label' has no value"),
            ([[0, 1, 0, 1], [0, 1, None, 1, 1], [0] * 6], 0, "data row 2: a label of column 'label' has no value"),
            ([5, 6, 7], 0, "one label a base is a list, a text"),
        ],
    )
    def test_faults(self, labels, start, message):
        with pytest.raises(InputError, match=message):
            encode(make_rows(label=labels), "token", label_start=start)

    def test_an_unknown_class_names_its_row(self):
        with pytest.raises(InputError, match="data row 3: label '2' is not one of"):
            encode(make_rows(label=["0101", "01010", "010102"]), "token", classes=["0", "1"])


class TestFaultsOfNames:
    def test_decimals_with_a_comma_are_no_classes(self):
        for labels in (["0,5", "1,5", "2"], ["0,5;1", "1;2", "2;3,5"]):
            with pytest.raises(InputError, match="has a comma where a number has a point"):
                encode(make_rows(label=labels))
        with pytest.raises(InputError, match=r"column 'label_b', data row 2: '1,5' is no number, with a comma"):
            encode(make_rows(label_a=["1.5", "2", "3"], label_b=["2", "1,5", "3"]))
        with pytest.raises(InputError, match=r"data row 3: '2,5' is no number, with a comma"):
            encode(make_rows(label=["1.5", "2", "2,5"]), "regression")
        with pytest.raises(InputError, match=r"data row 2: '3,5' is no number, with a comma"):
            encode(make_rows(label=["1.5;2", "2;3,5", "2,5;4"]), "regression")
        assert encode(make_rows(label=["1,2", "2", "1,2"]), "single_label")[0] == ["1,2", "2"]

    @pytest.mark.parametrize("labels", [[f"gene{row}" for row in range(10)], list(range(10))])
    def test_a_name_of_its_own_for_each_row_is_an_identifier(self, labels):
        with pytest.raises(InputError, match=r"each of the 10 rows has a label of its own .* --label_column"):
            encode(make_rows(["ACGT"] * 10, label=labels))
        encode(make_rows(["ACGT"] * 11, label=[*labels, labels[0]]))

    @pytest.mark.parametrize("twin", ["donor", "Donor\u200b", "\uff24onor", "Do\u00adnor"])
    def test_names_that_look_the_same_are_told(self, twin):
        with pytest.warns(UserWarning, match=r"'Donor' \(data row 1\) and .* \(data row 2\) are two classes"):
            encode(make_rows(label=["Donor", twin, "Donor"]))

    def test_codes_are_names_in_the_order_of_their_letters(self):
        rows = make_rows(["ACGT"] * 4, label=["01", "00", "1", "٣"])
        assert encode(rows)[0] == ["00", "01", "1", "٣"]
        assert encode(make_rows(label=["0", "9" * 5000, "0"]))[0] == ["0", "9" * 5000]

    @pytest.mark.parametrize(
        ("labels", "problem", "message"),
        [
            ([0.0, float("inf"), 1.0], "single_label", "data row 2: label inf in column 'label' is not finite"),
            ([0.0, 1.0, 2.0**60], "single_label", r"data row 3: label 1\.15\S+ in column 'label' is beyond 2\^53"),
            ([[0.0, 1.0], [2.5], [0.0]], "multi_label", "data row 2: label 2.5 in column 'label' is a fraction"),
            ([[0, 1, 0], [1, 2, 0], [0, 0, 1]], "multi_label", "data row 2: 'label' holds 1, 2, 0, and some lists"),
            (
                [[0, 1, 0], [1, 0, 0], [0, 1]],
                "multi_label",
                "data row 3: 'label' holds 0, 1, .* 3 zeros and ones",
            ),
            ([[0, 1, 0], [1, 0, 0], []], "multi_label", "data row 3: 'label' holds nothing"),
            (["0;1;1", "0;1;3", "1;0;0"], "multi_label", "data row 2: 'label' holds 0, 1, 3"),
            (["3;4", "3;NA", "4"], "multi_label", "data row 2: a label of column 'label' has no value"),
            ([[0.0] * 4, [0.0] * 4 + [float("inf")], [0.0] * 6], "token", "data row 2: label inf .* is not finite"),
        ],
    )
    def test_numbers_that_are_no_names(self, labels, problem, message):
        with pytest.raises(InputError, match=message):
            encode(make_rows(label=labels), problem)

    def test_lists_of_class_numbers(self):
        classes, rows = encode(make_rows(label=[[0, 1], [2, 0], [1]]), "multi_label")
        assert classes == ["0", "1", "2"] and rows["label"][:] == [[1, 1, 0], [1, 0, 1], [0, 1, 0]]

    def test_numbers_between_semicolons_are_those_of_a_list(self):
        assert encode(make_rows(label=["0;1", "1;1", "0;0"]))[1]["label"][:] == [[0, 1], [1, 1], [0, 0]]
        with pytest.raises(InputError, match="lists of whole numbers can be class numbers"):
            encode(make_rows(label=["3;20", "3", "5"]))

    def test_a_class_label_beyond_its_names(self):
        rows = make_rows(label=[0, 1, 0]).cast_column("label", ClassLabel(names=["x", "y"]))
        table = rows.data.table.set_column(1, "label", pa.array([0, 5, 1]))
        with pytest.raises(InputError, match="data row 2: label 5 in column 'label', which has 2 classes"):
            encode(Dataset(table, info=rows.info))

    def test_lists_of_a_class_label_have_its_names(self):
        features = Features({"sequence": Value("string"), "label": List(ClassLabel(names=["dnase", "ctcf"]))})
        rows = Dataset.from_dict({"sequence": ["A", "C", "G"], "label": [[0, 1], [1], []]}, features=features)
        assert encode(rows)[0] == ["ctcf", "dnase"]
        rows = Dataset.from_dict({"sequence": ["AC", "CCT"], "label": [[0, 1], [1, -1, 1]]}, features=features)
        names, encoded = encode(rows)
        assert names == ["ctcf", "dnase"] and encoded["label"][:] == [[1, 0], [0, IGNORED, 0]]


def test_the_value_that_keeps_columns_from_being_several_labels_is_named():
    rows = Dataset.from_dict(
        {"sequence": ["ACGT"] * 4, "label_a": ["0", "1", "1", "0"], "label_b": ["1", "0", "2", "0"]}
    )
    with pytest.raises(InputError, match="data row 3, column 'label_b' has 2"):
        infer_problem(rows, ["label_a", "label_b"], "some.csv")
