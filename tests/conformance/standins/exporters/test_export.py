"""In the place of transformers' export tests, which its source distribution lacks: a program says what its model says.

Programs are those of transformers' `DynamoExporter`, run on the ids that they were made of and on others.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves
from transformers import set_seed
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter


class ExportTesterMixin:
    """What an exportable model is tested with; it reads the classes and inputs of `ModelTesterMixin`."""

    @pytest.mark.torch_export_test
    def test_torch_export(self):
        for model_class in self.all_model_classes:
            model, inputs, others = self._make_exported(model_class)
            self._check_program(model, self._export(model, inputs), inputs, others)

    @pytest.mark.torch_export_test
    def test_torch_export_with_dynamic_shapes(self):
        for model_class in self.all_model_classes:
            model, inputs, others = self._make_exported(model_class)
            rows = {name: value[:2] if isinstance(value, torch.Tensor) else value for name, value in others.items()}
            self._check_program(model, self._export(model, inputs, dynamic=True), inputs, others, rows)

    def _make_exported(self, model_class) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """A model in evaluation, inputs to trace it with, and the same with other ids."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        set_seed(0)
        model = model_class(config).eval()
        inputs = self._prepare_for_class(inputs, model_class)
        return model, inputs, {**inputs, "input_ids": inputs["input_ids"].flip(1)}

    def _export(self, model: Any, inputs: dict[str, Any], dynamic: bool = False) -> Any:
        program = DynamoExporter().export(model, copy.deepcopy(inputs), config=DynamoConfig(dynamic=dynamic))
        return program.module() if hasattr(program, "module") else program

    def _check_program(self, model: Any, program: Any, *inputs: dict[str, Any]) -> None:
        for one in inputs:
            with torch.no_grad():
                expected, found = model(**copy.deepcopy(one)), program(**copy.deepcopy(one))
            pairs = [
                [leaf for leaf in tree_leaves(dict(output)) if isinstance(leaf, torch.Tensor)]
                for output in (expected, found)
            ]
            self.assertEqual(*map(len, pairs))
            for wanted, got in zip(*pairs):
                torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
