"""transformers' tests of sharded weights (FSDP2), over two processes on CPUs: structure, saving, training like DDP."""

import transformers
from conformance.cases import FamilyCase, build_cases

from .. import test_fsdp_mixin
from ..distributed_testing_utils import fork_ranks
from ..test_fsdp_mixin import FSDPTesterMixin

# transformers tests a choice of its own model types; this is its switch for all.
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
fork_ranks(test_fsdp_mixin)


class ShardedCase(FamilyCase, FSDPTesterMixin):
    """The causal model of a family."""

    auto_class = "AutoModelForCausalLM"

    def _get_tiny_config(self):
        # The mixin's own sets sizes one by one, which a configuration of two parts checks against each other.
        config = self.model_tester.get_config()
        text = config.get_text_config()
        if hasattr(text, "max_position_embeddings"):  # The tests read 64 tokens of any ids.
            text.max_position_embeddings = 80
        return type(config), config.to_diff_dict()

    def _run_fsdp2_distributed_test(self, test_name, test_impl, *test_args, **test_kwargs):
        super()._run_fsdp2_distributed_test(
            test_name, run_with_class, self.auto_class, test_impl, *test_args, **test_kwargs
        )


class MaskedCase(ShardedCase):
    """Of an encoder the model for masked tokens, which the mixin does not know of."""

    auto_class = "AutoModelForMaskedLM"
    test_fsdp_plan_declared = None


def run_with_class(rank, config_class, config_dict, auto_class, test_impl, *args, **kwargs):
    """Run one of the mixin's tests, in the process of a rank, with another Auto class."""
    test_fsdp_mixin.AutoModelForCausalLM = getattr(transformers, auto_class)
    test_impl(rank, config_class, config_dict, *args, **kwargs)


build_cases(globals(), ShardedCase, fits=lambda tester: "AutoModelForCausalLM" in tester.list_classes())
build_cases(globals(), MaskedCase, fits=lambda tester: "AutoModelForMaskedLM" in tester.list_classes())
