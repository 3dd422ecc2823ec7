"""transformers' training test: a small model learns one batch by heart, and says it again if it can generate."""

import torch
from conformance.cases import FamilyCase, build_cases

from ..test_training_mixin import TrainingTesterMixin

_HEADS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForTokenClassification", "AutoModel")


class TrainingCase(FamilyCase, TrainingTesterMixin):
    """The language model of a family, or else a label for each token, of the ids that are inputs of the family."""

    training_overfit_steps = 100
    training_overfit_learning_rate = 1e-2
    training_overfit_log_freq = 100

    def _get_trainable_model_class(self):
        classes = self.tester.list_classes()
        return next(classes[name] for name in _HEADS if name in classes)

    def _create_text_training_batch(self, batch_size, seq_length, vocab_size):
        config = self.model_tester.get_config()
        # A model that reads single bases generates bases only.
        bases = getattr(config, "base_token_ids", None)
        pattern = bases[:4] if bases else list(range(self.tester.first_id, vocab_size))
        T = self.tester.tokens
        row = (pattern * (T // len(pattern) + 1))[:T]
        ids = torch.tensor([row] * batch_size)
        labels = ids.clone()
        if (shape := self.tester.label_shape) is not None:
            labels = (torch.arange(torch.Size(shape).numel()) % 2).view(1, *shape).expand(batch_size, *shape)
        return {"input_ids": ids, "labels": labels, **self.tester.draw_more(config, batch_size)}


build_cases(globals(), TrainingCase)
