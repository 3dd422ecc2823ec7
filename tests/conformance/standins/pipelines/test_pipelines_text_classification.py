"""Stand-in: what `pipeline("text-classification")` promises, on sequences and pairs of them."""

import unittest

import torch
from transformers import TextClassificationPipeline

from .sequences import OTHERS, SEQUENCE, choose_batch_size, get_tolerance, make_pipeline, stream


class TextClassificationPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        return make_pipeline(TextClassificationPipeline, model, tokenizer, dtype), [SEQUENCE, *OTHERS]

    def run_pipeline_test(self, pipe, examples):
        """Labels and scores are the model's: the best, the best k, all, without softmax; pairs; lists, batches."""
        labels, tolerance = pipe.model.config.id2label, get_tolerance(pipe)
        with torch.no_grad():
            logits = pipe.model(**pipe.tokenizer(SEQUENCE, return_tensors="pt")).logits[0].float()
        [best] = pipe(SEQUENCE)
        self.assertEqual(set(best), {"label", "score"})
        self.assertAlmostEqual(best["score"], logits.softmax(-1).max().item(), delta=tolerance)
        every = pipe(SEQUENCE, top_k=None)
        self.assertEqual({one["label"] for one in every}, set(labels.values()))
        self.assertAlmostEqual(sum(one["score"] for one in every), 1.0, places=2)
        self.assertEqual([one["score"] for one in every], sorted((one["score"] for one in every), reverse=True))
        self.assertEqual(len(pipe(SEQUENCE, top_k=1)), 1)
        raw = {one["label"]: one["score"] for one in pipe(SEQUENCE, top_k=None, function_to_apply="none")}
        for index, label in labels.items():
            self.assertAlmostEqual(raw[label], logits[index].item(), delta=tolerance)
        self.assertEqual(len(pipe([SEQUENCE, *OTHERS])), 1 + len(OTHERS))
        if pipe.model.config.model_type != "rmt":  # Its segments have no pairs.
            self._read_pair(pipe)

        alone = [pipe(one, top_k=None) for one in examples]
        batched = pipe(stream(examples), top_k=None, batch_size=choose_batch_size(pipe))
        for together in (pipe(examples, top_k=None), list(batched)):
            for one, other in zip(alone, together, strict=True):
                scores = [{each["label"]: each["score"] for each in row} for row in (one, other)]
                for label in labels.values():
                    self.assertAlmostEqual(scores[0][label], scores[1][label], delta=tolerance)

    def _read_pair(self, pipe):
        pair = {"text": SEQUENCE[:8], "text_pair": SEQUENCE[8:]}
        found = pipe(pair)
        self.assertEqual(set(found if isinstance(found, dict) else found[0]), {"label", "score"})
