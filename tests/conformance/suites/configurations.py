"""transformers' common tests of a configuration: its fields, to and from JSON, sub-configurations, labels."""

from dataclasses import fields
from typing import Any

from conformance.cases import FamilyCase, build_cases
from transformers import PreTrainedConfig

from ..test_configuration_common import ConfigTester

_TESTS = [name for name in vars(ConfigTester) if name.startswith(("create_and_test", "check_config"))]


class ConfigurationCase(FamilyCase):
    """One test a check of `ConfigTester`, so that each has an outcome."""

    def setUp(self):
        super().setUp()
        config = self.model_tester.get_config()
        self.checks = ConfigTester(self, type(config), **_list_fields(config))


def _list_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the fields of the family's own that differ from its defaults, as JSON has them."""
    own = {field.name for field in fields(config)} - {field.name for field in fields(PreTrainedConfig)}
    given, usual = config.to_dict(), type(config)().to_dict()
    return {name: given[name] for name in sorted(own & given.keys()) if given[name] != usual.get(name)}


def _write_test(name: str):
    def test(self):
        if name == "create_and_test_config_to_json_string":
            # JSON has more of a sub-configuration than it was made of.
            for sub in self.checks.config_class.sub_configs:
                del self.checks.inputs_dict[sub]
        getattr(self.checks, name)()

    return test


for _name in _TESTS:
    setattr(ConfigurationCase, f"test_{_name.removeprefix('create_and_test_')}", _write_test(_name))

build_cases(globals(), ConfigurationCase)
