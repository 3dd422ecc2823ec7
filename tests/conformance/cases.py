"""From testers to test cases: what a suite's module calls to get one `unittest` class a variant.

    from conformance.cases import FamilyCase, build_cases
    from ..test_modeling_common import ModelTesterMixin

    build_cases(globals(), FamilyCase, ModelTesterMixin)

`build_cases` makes `Test_<variant>` for every entry of `TESTERS` (or those that `fits` picks) with these bases and puts
it into the module. Its attribute `family` is the variant: `--family` and the table of outcomes read it. A test module
without such classes parametrises by `family` instead.
"""

from __future__ import annotations

import copy
import unittest
from collections.abc import Callable, MutableMapping
from typing import Any

from conformance.testers import BATCH, TESTERS, Tester
from transformers import PreTrainedConfig, PreTrainedModel, set_seed
from transformers.models.auto import modeling_auto
from transformers.testing_utils import torch_device

# What the mixins ask for the names of classes: which has a loss, and what its labels are.
_NAMES = {
    "AutoModel": modeling_auto.MODEL_MAPPING_NAMES,
    "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForMaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "AutoModelForSequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}


class ModelTester:
    """
    What transformers' mixins ask of a `model_tester`: sizes, a configuration, a batch.

    Args:
        case: the test that asks.
        tester: of the variant.
    """

    is_training = True

    def __init__(self, case: unittest.TestCase, tester: Tester):
        self.parent, self.tester = case, tester
        config = tester.build_configuration()
        text = config.get_text_config()
        self.batch_size, self.seq_length = BATCH, tester.tokens
        self.encoder_seq_length = self.key_length = tester.attended or tester.tokens
        self.hidden_size = text.hidden_size
        self.num_hidden_layers = text.num_hidden_layers
        self.num_attention_heads = text.num_attention_heads
        self.vocab_size = text.vocab_size
        classes = tester.list_classes()
        self.base_model_class = classes["AutoModel"]
        self.causal_lm_class = classes.get("AutoModelForCausalLM")
        self.sequence_classification_class = classes.get("AutoModelForSequenceClassification")

    def get_config(self) -> PreTrainedConfig:
        """A small configuration of its own."""
        return self.tester.build_configuration()

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, Any]]:
        """Configuration and inputs of a forward."""
        config = self.get_config()
        inputs = self.tester.draw_inputs(config)
        return config, {name: value.to(torch_device) for name, value in inputs.items()}


class FamilyCase:
    """First base of every case: the variant's model tester, classes and labels, where the mixins look for them."""

    family: str
    tester: Tester
    model_tester: Any = None  # by `setUp`; some mixins have an abstract property of this name
    all_model_classes: tuple[type[PreTrainedModel], ...] = ()

    def setUp(self):
        super().setUp()
        set_seed(0)
        self.model_tester = ModelTester(self, self.tester)

    def _prepare_for_class(self, inputs_dict: dict[str, Any], model_class, return_labels: bool = False) -> dict:
        # The mixin's own gives labels of one shape for all.
        inputs = copy.deepcopy(inputs_dict)
        if return_labels:
            auto_class = {one: name for name, one in self.tester.list_classes().items()}.get(model_class, "AutoModel")
            labels = self.tester.draw_labels(auto_class, len(inputs["input_ids"]))
            inputs |= {name: value.to(torch_device) for name, value in labels.items()}
        return inputs


def build_cases(
    module: MutableMapping[str, Any],
    *bases: type,
    fits: Callable[[Tester], bool] = lambda tester: True,
    choose: Callable[[Tester], tuple[type, ...]] = lambda tester: (),
    drop: type | tuple[type, ...] = (),
) -> None:
    """
    Put a test case of each variant into a module.

    Args:
        module: `globals()` of a suite.
        bases: `FamilyCase` and mixins.
        fits: which variants have a case.
        choose: further bases of a variant.
        drop: mixins whose tests another suite runs; they are bases only because other mixins insist on it.
    """
    dropped = {name for one in (drop if isinstance(drop, tuple) else (drop,)) for name in list_tests(one)}
    for family, tester in TESTERS.items():
        if not fits(tester):
            continue
        name = f"Test_{family.replace('-', '_')}"
        for auto_class, one in tester.list_classes().items():
            _NAMES[auto_class][f"{family} of gengram"] = one.__name__
        classes = tuple(tester.list_classes().values())
        content = {
            "__module__": module["__name__"],
            "family": family,
            "tester": tester,
            "all_model_classes": classes,
            "has_attentions": tester.has_attentions,
            "test_all_params_have_gradient": tester.trains_all,
            "additional_model_inputs": list(tester.draw_more(tester.build_configuration(), BATCH)),
            **dict.fromkeys(dropped),
        }
        module[name] = type(name, (*bases, *choose(tester), unittest.TestCase), content)


def list_tests(mixin: type) -> list[str]:
    """Names of a mixin's tests."""
    return [name for name in vars(mixin) if name.startswith("test_") and callable(getattr(mixin, name))]
