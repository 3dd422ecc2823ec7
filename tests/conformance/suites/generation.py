"""What `generate` promises, of every model that can (a stand-in: transformers' distribution has no such tests)."""

from conformance.cases import FamilyCase, build_cases

from ..generation.test_utils import GenerationTesterMixin


class GeneratingCase(FamilyCase, GenerationTesterMixin):
    """The causal model of a family."""

    @property
    def all_generative_model_classes(self):
        return tuple(one for one in self.all_model_classes if one.can_generate())


build_cases(globals(), GeneratingCase, fits=lambda tester: "AutoModelForCausalLM" in tester.list_classes())
