"""What an exported model promises (a stand-in: transformers' distribution has no such tests)."""

from conformance.cases import FamilyCase, build_cases

from ..exporters.test_export import ExportTesterMixin

build_cases(globals(), FamilyCase, ExportTesterMixin)
