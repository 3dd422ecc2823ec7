"""What a task file may say: a wrong key or value is told with file and key, and nothing contradictory passes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gengram.benchmarks.tasks.task import Columns, Length, make_task, read_task_file
from gengram.errors import InputError

SMALL = {"title": "t", "problem": "single_label", "metric": "mcc"}


def test_the_least_that_a_task_says():
    task = make_task(SMALL, "mine/one", "task.yaml")
    assert (task.name, task.benchmark, task.short) == ("mine/one", "mine", "one")
    assert task.columns == Columns() and task.length == Length() and task.rows == {} and task.hub is None


def test_lists_and_mappings_inside():
    said = {"columns": {"label": ["a", "b"]}, "problem": "regression", "metric": "pearson", "rows": {"train": None}}
    task = make_task({**SMALL, **said}, "mine/one", "task.yaml")
    assert task.columns.label == ("a", "b")
    assert task.rows == {"train": None}
    assert make_task({**SMALL, "classes": ["x", "y"]}, "m/o", "f").outputs == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"lenght": {}}, "task.yaml: there is no key 'lenght'; did you mean 'length'"),
        ({"zzzz": 1}, "task.yaml: there is no key 'zzzz'; the keys are "),
        ({3: 1}, "task.yaml: there is no key 3"),
        ({"name": "x"}, "the key 'name' is not for the file, its place says it"),
        ({"title": 3}, "task.yaml, title: 3 should be a text"),
        ({"problem": "singel_label"}, "task.yaml, problem: 'singel_label' is none of .*; did you mean 'single_label'"),
        ({"problem": True}, "problem: True is none of"),
        ({"head": "forest"}, "head: 'forest' is none of mlp, xgboost"),
        ({"metric": "auc"}, "metric: 'auc' is no score of a single_label task, which are mcc"),
        ({"metric": "loss"}, "metric: 'loss' is no score"),
        ({"metric": "pearson"}, "metric: 'pearson' is no score of a single_label task"),
        ({"hub": "x/y"}, "task.yaml, hub: 'x/y' should be a mapping"),
        ({"hub": {}}, "task.yaml, hub: the key 'id' is missing"),
        ({"hub": {"id": "x/y", "revison": "a"}}, "task.yaml, hub: there is no key 'revison'; did you mean 'revision'"),
        ({"hub": {"id": "x/y", "revision": "main"}}, "hub.revision: 'main' should be a commit of 40"),
        ({"hub": {"id": "x/y", "script": "yes"}}, "hub.script: 'yes' should be true or false"),
        ({"hub": {"id": "x/y", "data_files": {"dev": "d"}}}, "data_files, a name: 'dev' is none of train"),
        ({"rows": {"train": 1.5}}, "rows.train: 1.5 should be a whole number"),
        ({"rows": {"train": True}}, "rows.train: True should be a whole number"),
        ({"rows": {"train": -1}}, "rows.train: -1 is no number of rows"),
        ({"rows": [1]}, "rows: .* should be a mapping"),
        ({"length": {"min": 5, "max": 3}}, "length: min, median and max should be at least 1 and in this order"),
        ({"length": {"min": 0}}, "length: min, median"),
        ({"classes": "ab"}, "classes: 'ab' should be a list"),
        ({"classes": [0, 1]}, r"classes\[0\]: 0 should be a text"),
        ({"classes": ["a", "a"]}, "classes: a name is there twice"),
        ({"classes": ["a", "b"], "outputs": 3}, "outputs: 3 for 2 classes"),
        ({"outputs": 0}, "outputs: 0 should be at least 1"),
        ({"codes": {"a": 0}}, "codes: these are not the classes"),
        ({"classes": ["a", "b"], "codes": {"a": 0, "b": 0}}, "codes: two classes have one number"),
        ({"problem": "regression", "metric": "r2", "classes": ["a"]}, "classes: a regression has none"),
        ({"unverified": ["rows.dev"]}, "unverified: a task has no 'rows.dev'"),
        ({"unverified": ["length.mean"]}, "unverified: a task has no 'length.mean'"),
        ({"unverified": ["title"]}, "unverified: 'title' has a value"),
        ({"recalled": ["classes"]}, "recalled: 'classes' has no value"),
        ({"problems": "x"}, "problems: 'x' should be a list"),
    ],
)
def test_what_a_task_cannot_be(said, message):
    with pytest.raises(InputError, match=message):
        make_task({**SMALL, **said}, "mine/one", "task.yaml")


@pytest.mark.parametrize("missing", SMALL)
def test_what_is_missing(missing):
    with pytest.raises(InputError, match=f"task.yaml: the key '{missing}' is missing"):
        make_task({key: value for key, value in SMALL.items() if key != missing}, "mine/one", "task.yaml")


def test_a_file_of_a_folder(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("title: t\nproblem: single_label\nmetric: mcc\nclasses: [no, yes]\n")
    assert read_task_file(path, "mine/one").classes == ("no", "yes")
    for text, message in (
        ("title: t\ntitle: u\n", "'title' is given twice"),
        ("title: [t\n", "line .*column"),
        ("- a\n", "should be a mapping"),
        ("", "the key 'title' is missing"),
        ("title: !!python/object:os.system x\n", "cannot be read as YAML"),
        ("&a title: *b\n", "cannot be read as YAML"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_task_file(path, "mine/one")
    with pytest.raises(InputError, match="cannot be read"):
        read_task_file(tmp_path / "none.yaml", "mine/one")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["title", "problem", "metric", "hub", "columns", "classes", "codes", "rows", "length", "unverified", "head"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=5))
def test_anything_is_read_or_refused(said):
    try:
        task = make_task({**SMALL, **said}, "mine/one", "task.yaml")
    except InputError as error:
        assert str(error).startswith("task.yaml")
    else:
        assert isinstance(task.title, str) and isinstance(task.rows, dict)
