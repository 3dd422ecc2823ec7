"""transformers' tests of expert parallelism, over two processes; in 5.17 they are among those of tensor parallelism."""

import importlib.util

from conformance.cases import build_cases, list_tests

from ..test_tensor_parallel_mixin import TensorParallelTesterMixin
from .test_tensor_parallel import SplitCase

if importlib.util.find_spec("tests.test_expert_parallel_mixin"):
    from .. import test_expert_parallel_mixin
    from ..test_expert_parallel_mixin import ExpertParallelTesterMixin as Mixin

    # transformers tests a choice of its own model types; this is its switch for all.
    test_expert_parallel_mixin.EP_DISTRIBUTED_TEST_MODEL_TYPES = None
else:
    Mixin = TensorParallelTesterMixin


class ExpertParallelCase(SplitCase, *({Mixin} - {TensorParallelTesterMixin})):
    """A causal model with experts."""


for _name in list_tests(TensorParallelTesterMixin):
    if "_ep_" not in _name:
        setattr(ExpertParallelCase, _name, None)

build_cases(
    globals(),
    ExpertParallelCase,
    fits=lambda tester: bool(getattr(tester.build_configuration().get_text_config(), "base_model_ep_plan", None)),
)
