"""Stand-in: what `pipeline("feature-extraction")` promises, on sequences."""

import unittest

import torch
from transformers import FeatureExtractionPipeline

from .sequences import OTHERS, SEQUENCE, choose_batch_size, get_tolerance, make_pipeline, stream


class FeatureExtractionPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        return make_pipeline(FeatureExtractionPipeline, model, tokenizer, dtype), [SEQUENCE, *OTHERS]

    def run_pipeline_test(self, pipe, examples):
        """One vector a token, the model's; alone, in a list, from a generator, in batches, as tensors, cut."""
        inputs = pipe.tokenizer(SEQUENCE, return_tensors="pt")
        with torch.no_grad():
            expected = pipe.model(**inputs)[0].float()
        found = torch.tensor(pipe(SEQUENCE))
        self.assertEqual(found.shape, expected.shape)
        torch.testing.assert_close(found, expected, atol=get_tolerance(pipe), rtol=0.0)
        torch.testing.assert_close(pipe(SEQUENCE, return_tensors=True).float(), expected, atol=1e-2, rtol=0.0)

        alone = [pipe(one) for one in examples]
        self.assertEqual(len(pipe(examples)), len(examples))
        for batched in (pipe(examples), list(pipe(stream(examples), batch_size=choose_batch_size(pipe)))):
            for one, other in zip(alone, batched, strict=True):
                one, other = torch.tensor(one), torch.tensor(other)[:, : len(one[0])]  # Padding has vectors, too.
                torch.testing.assert_close(one, other, atol=get_tolerance(pipe), rtol=0.0)
        tokens = len(pipe.tokenizer(SEQUENCE)["input_ids"])
        cut = pipe(SEQUENCE * 2, tokenize_kwargs={"truncation": True, "max_length": tokens})
        self.assertEqual(len(cut[0]), tokens)
