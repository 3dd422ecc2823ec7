"""transformers' tests of tensor parallelism: two processes on CPUs give what one gives."""

from conformance.cases import FamilyCase, build_cases, list_tests

from .. import test_tensor_parallel_mixin
from ..distributed_testing_utils import fork_ranks
from ..test_tensor_parallel_mixin import TensorParallelTesterMixin

# transformers tests a choice of its own model types; this is its switch for all.
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None
fork_ranks(test_tensor_parallel_mixin)


class SplitCase(FamilyCase, TensorParallelTesterMixin):
    """The causal model of a family, or in its place the one for masked tokens."""

    def setUp(self):
        super().setUp()
        classes = self.tester.list_classes()
        self.model_tester.causal_lm_class = classes.get("AutoModelForCausalLM", classes.get("AutoModelForMaskedLM"))

    # As from 5.21 on: the plan of what a configuration is built around.
    def _has_tp_plan(self):
        return bool(getattr(self.model_tester.get_config().get_text_config(), "base_model_tp_plan", None))

    def _has_ep_plan(self):
        return bool(getattr(self.model_tester.get_config().get_text_config(), "base_model_ep_plan", None))

    def _get_tp_config(self, tie_word_embeddings=None):
        config = super()._get_tp_config(tie_word_embeddings)
        # The tests read 64 tokens of any ids; learned positions begin behind the padding's.
        text = config.get_text_config()
        if hasattr(text, "max_position_embeddings"):
            text.max_position_embeddings = 80
        return config


class TensorParallelCase(SplitCase):
    """Without 5.17's tests of experts, which the suite `expert_parallel` runs."""


for _name in list_tests(TensorParallelTesterMixin):
    if "_ep_" in _name:
        setattr(TensorParallelCase, _name, None)


class EncoderCase(TensorParallelCase):
    """Without the tests of generation."""

    test_tp_generation = test_tp_generation_quantized = None


def _generates(tester):
    return "AutoModelForCausalLM" in tester.list_classes()


build_cases(globals(), TensorParallelCase, fits=_generates)
build_cases(globals(), EncoderCase, fits=lambda tester: not _generates(tester))
