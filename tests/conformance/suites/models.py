"""transformers' common tests of a model: saving, loading, initialisation, embeddings, attention, training, outputs."""

from conformance.cases import FamilyCase, build_cases

from ..exporters.test_export import ExportTesterMixin
from ..generation.test_utils import GenerationTesterMixin
from ..test_modeling_common import ModelTesterMixin

build_cases(
    globals(),
    FamilyCase,
    ModelTesterMixin,
    # The mixin insists on the generation tests; the suites `generation` and `export` run those.
    choose=lambda tester: (GenerationTesterMixin,) if "AutoModelForCausalLM" in tester.list_classes() else (),
    drop=(GenerationTesterMixin, ExportTesterMixin),
)
