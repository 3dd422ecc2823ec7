"""transformers' tests of expert parallelism; in 5.17 they are among those of tensor parallelism."""

import importlib.util

from conformance.cases import FamilyCase, build_cases

if importlib.util.find_spec("tests.test_expert_parallel_mixin"):
    from .. import test_expert_parallel_mixin
    from ..test_expert_parallel_mixin import ExpertParallelTesterMixin
    from ..test_tensor_parallel_mixin import TensorParallelTesterMixin

    # transformers tests a choice of its own model types; this is its switch for all.
    test_expert_parallel_mixin.EP_DISTRIBUTED_TEST_MODEL_TYPES = None

    build_cases(
        globals(),
        FamilyCase,
        ExpertParallelTesterMixin,
        TensorParallelTesterMixin,
        fits=lambda tester: bool(getattr(tester.build_configuration().get_text_config(), "base_model_ep_plan", None)),
        drop=TensorParallelTesterMixin,
    )
