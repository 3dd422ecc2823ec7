"""Names of outputs: what a configuration says, and what it must not."""

import json

import pytest
from transformers import BertConfig

from gengram.errors import InputError
from gengram.loading.classes import name_outputs
from gengram.loading.configurations import load_config


def test_names_are_in_the_order_of_the_outputs():
    names = [f"class {number}" for number in range(12)]
    assert name_outputs({str(number): names[number] for number in reversed(range(12))}, "x") == names
    assert name_outputs({1: "a|b", 0: ""}, "x") == ["", "a|b"]
    assert name_outputs(None, "x") == name_outputs({}, "x") == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"0": "a", "2": "b"}, "count from 0"),
        ({1: "a", 2: "b"}, "count from 0"),
        ({"0": "a", "00": "b"}, "count from 0"),
        ({"0": "a", "x": "b"}, "outputs 0, x"),
        ({"0": "a", "²": "b"}, "count from 0"),
        ({"0": "a", "1" * 5000: "b"}, "count from 0"),
        ({0: "a", -1: "b"}, "count from 0"),
        ({0: "a", 1: None}, "has None as a name"),
        ({0: "a", 1: 1}, "has 1 as a name"),
        ({0: "a", 1: "b", 2: "a"}, "gives the name 'a' to several"),
    ],
)
def test_names_that_would_be_taken_for_another_output(names, told):
    with pytest.raises(InputError) as error:
        name_outputs(names, "config.json")
    assert told in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("count", [10**18, -1, "2", 1.5, [2]])
def test_more_classes_than_there_can_be(count, tmp_path):
    fields = {**BertConfig().to_dict(), "num_labels": count}
    fields.pop("id2label"), fields.pop("label2id")
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=r"num_labels=.* in config\.json is no number"):
        load_config(tmp_path)
