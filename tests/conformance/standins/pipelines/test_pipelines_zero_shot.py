"""Stand-in: what `pipeline("zero-shot-classification")` promises; what it asks of DNA is the user's affair."""

import unittest

from transformers import ZeroShotClassificationPipeline

from .sequences import OTHERS, SEQUENCE, make_pipeline, stream


class ZeroShotClassificationPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        options = {"candidate_labels": ["TATA", "CCGG"], "hypothesis_template": "{}"}
        return make_pipeline(ZeroShotClassificationPipeline, model, tokenizer, dtype, **options), [SEQUENCE, *OTHERS]

    def run_pipeline_test(self, pipe, examples):
        """A score a candidate, from the best on, that add up to one unless several may be true; wrong questions."""
        found = pipe(SEQUENCE)
        self.assertEqual(set(found), {"sequence", "labels", "scores"})
        self.assertEqual(found["sequence"], SEQUENCE)
        self.assertEqual(set(found["labels"]), {"TATA", "CCGG"})
        self.assertAlmostEqual(sum(found["scores"]), 1.0, places=2)
        self.assertEqual(found["scores"], sorted(found["scores"], reverse=True))
        self.assertEqual(set(pipe(SEQUENCE, candidate_labels="AA, CC, GG")["labels"]), {"AA", "CC", "GG"})
        free = pipe(SEQUENCE, multi_label=True)
        self.assertEqual(len(free["scores"]), 2)
        together = pipe([SEQUENCE, OTHERS[0]])
        self.assertEqual([one["sequence"] for one in together], [SEQUENCE, OTHERS[0]])
        self.assertEqual(len(list(pipe(stream(examples)))), len(examples))
        for wrong in ({"candidate_labels": ""}, {"candidate_labels": "AA", "hypothesis_template": "no place"}):
            with self.assertRaises(ValueError):
                pipe(SEQUENCE, **wrong)
        with self.assertRaises(ValueError):
            pipe("")
