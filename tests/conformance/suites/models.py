"""transformers' common tests of a model: saving, loading, initialisation, embeddings, attention, training, outputs."""

import torch
from conformance.cases import FamilyCase, build_cases
from transformers import PreTrainedConfig

from gengram.gengram.motif_memory import MotifTable

from .. import test_modeling_common
from ..exporters.test_export import ExportTesterMixin
from ..generation.test_utils import GenerationTesterMixin
from ..padding.test_padding import PaddingTesterMixin
from ..test_modeling_common import (
    ModelTesterMixin,
    set_config_for_less_flaky_test,
    set_model_for_less_flaky_test,
)


def _keep_states_small(model: torch.nn.Module) -> None:
    """What the mixin does before it compares half precision, for the tables of a motif memory, too.

    They start with a variance of 1, embeddings of transformers with 0.02, and rounding grows with the states.
    """
    set_model_for_less_flaky_test(model)
    for module in model.modules():
        if isinstance(module, MotifTable):
            module.weight.data.mul_(0.02)


def _damp_norms(config: PreTrainedConfig) -> None:
    """Likewise: the mixin knows sub-configurations by transformers' names for them."""
    for one in (config, *(getattr(config, name) for name in config.sub_configs)):
        set_config_for_less_flaky_test(one)


test_modeling_common.set_model_for_less_flaky_test = _keep_states_small
test_modeling_common.set_config_for_less_flaky_test = _damp_norms

build_cases(
    globals(),
    FamilyCase,
    PaddingTesterMixin,
    ModelTesterMixin,
    # The mixin insists on the generation tests; the suites `generation` and `export` run those.
    choose=lambda tester: (GenerationTesterMixin,) if "AutoModelForCausalLM" in tester.list_classes() else (),
    drop=(GenerationTesterMixin, ExportTesterMixin),
)
