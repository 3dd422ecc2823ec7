"""transformers' common tests of pipelines: every task that a family has a head for, saved and loaded by name."""

import importlib.machinery
import os
import re
import shutil
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import torch
import transformers
from conformance.cases import FamilyCase, build_cases

import gengram.pipelines

TASKS = {
    "AutoModel": ("feature-extraction",),
    "AutoModelForMaskedLM": ("fill-mask",),
    "AutoModelForSequenceClassification": ("text-classification", "zero-shot"),
    "AutoModelForTokenClassification": ("token-classification",),
    "AutoModelForCausalLM": ("text-generation",),
}
"""Auto class -> the tasks of its models that are of sequences."""


def _import_mixin() -> type:
    """
    Import the mixin, which reads files of transformers' repository that no distribution has: a list of tiny models on
    the Hub (ours is made by `PipelineCase`), the package beside the tests, and test modules of tasks that have no text.
    """
    package = Path(__file__).parents[1]
    reports = Path(os.environ["TRANSFORMERS_TINY_MODEL_PATH"]) / "reports"
    reports.mkdir()
    (reports / "tiny_model_summary.json").write_text("{}")
    for module, name in re.findall(
        r"^from \.pipelines\.(\w+) import (\w+)$", (package / "test_pipeline_mixin.py").read_text(), re.MULTILINE
    ):
        if not (package / "pipelines" / f"{module}.py").is_file():
            title = f"{package.name}.pipelines.{module}"
            sys.modules[title] = empty = types.ModuleType(title)
            empty.__spec__ = importlib.machinery.ModuleSpec(title, None)
            setattr(empty, name, type(name, (), {}))
    with mock.patch("transformers.utils.direct_transformers_import", lambda path: transformers):
        from ..test_pipeline_mixin import PipelineTesterMixin
    return PipelineTesterMixin


_FOLDER = Path(tempfile.mkdtemp(prefix="conformance-pipelines-"))
os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = str(_FOLDER)
_Mixin = _import_mixin()


class PipelineCase(FamilyCase):
    """Saves a model of each class with the family's tokenizer where the mixin looks for tiny models."""

    is_standin = True
    pipeline_model_mapping: dict

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp(dir=_FOLDER))
        cls.pipeline_model_mapping, summary = {}, {}
        for auto_class, model_class in cls.tester.list_classes().items():
            torch.manual_seed(0)
            folder = cls.folder / model_class.config_class.model_type / model_class.__name__
            model_class(cls.tester.build_configuration()).save_pretrained(folder)
            cls.tester.build_tokenizer().save_pretrained(folder)
            cls.pipeline_model_mapping |= dict.fromkeys(TASKS.get(auto_class, ()), model_class)
            summary[model_class.__name__] = {"tokenizer_classes": ["AutoTokenizer"], "processor_classes": []}
        module = sys.modules[_Mixin.__module__]
        cls.looks_into = mock.patch.multiple(
            module, TRANSFORMERS_TINY_MODEL_PATH=str(cls.folder), tiny_model_summary=summary
        )
        cls.looks_into.start()

    @classmethod
    def tearDownClass(cls):
        cls.looks_into.stop()
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    def skipTest(self, reason: str):
        """A model that cannot be loaded is no reason to skip."""
        if "Could not" in reason:
            self.fail(reason)
        super().skipTest(reason)

    def test_pipeline_dna_embedding(self):
        """This package's task, which the mixin does not know."""
        self._embed("float32")

    def test_pipeline_dna_embedding_fp16(self):
        """See above."""
        self._embed("float16")

    def _embed(self, dtype: str):
        model_class = self.tester.list_classes()["AutoModel"]
        folder = self.folder / model_class.config_class.model_type / model_class.__name__
        model = model_class.from_pretrained(folder, dtype=dtype).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        embed = transformers.pipeline("dna-embedding", model=model, tokenizer=tokenizer, device="cpu")
        self.assertIsInstance(embed, gengram.pipelines.EmbeddingPipeline)
        sequences = ["ACGTTGCATGCCGATA", "TTGACGTACCGATGCA"]
        [one, other] = embed(sequences)
        with torch.no_grad():
            vectors = model(**tokenizer(sequences[0], return_tensors="pt"))[0][0].float()
        if model.config.model_type == "rmt":  # Each segment has special tokens of its own: they have no vector.
            added = tokenizer(sequences[0], return_special_tokens_mask=True)["special_tokens_mask"]
            vectors = vectors[torch.tensor(added) == 0]
        torch.testing.assert_close(torch.tensor(one), vectors.mean(0), atol=1e-2, rtol=0.0)
        torch.testing.assert_close(torch.tensor(embed(sequences[1])), torch.tensor(other))
        self.assertEqual(len(list(embed(one for one in sequences))), 2)


_TASKS = {task.replace("-", "_") for tasks in TASKS.values() for task in tasks}
for _name in vars(_Mixin):
    if _name.startswith("test_pipeline_") and _name.removeprefix("test_pipeline_").removesuffix("_fp16") not in _TASKS:
        setattr(PipelineCase, _name, None)  # Of images, sound, tables.

build_cases(globals(), PipelineCase, _Mixin)
