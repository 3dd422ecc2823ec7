"""Stand-in: what `pipeline("token-classification")` promises, with places in bases."""

import itertools
import unittest

import torch
from transformers import TokenClassificationPipeline

from .sequences import OTHERS, SEQUENCE, choose_batch_size, get_tolerance, make_pipeline, stream


class TokenClassificationPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        return make_pipeline(TokenClassificationPipeline, model, tokenizer, dtype), [SEQUENCE, *OTHERS]

    def run_pipeline_test(self, pipe, examples):
        """An entity a token, with its bases; neighbours of one label joined; labels left out; lists, batches, parts."""
        tokenizer, tolerance = pipe.tokenizer, get_tolerance(pipe)
        encoded = tokenizer(SEQUENCE, return_offsets_mapping=True, return_special_tokens_mask=True)
        places = [
            tuple(pair) for pair, added in zip(encoded["offset_mapping"], encoded["special_tokens_mask"]) if not added
        ]
        with torch.no_grad():
            logits = pipe.model(**tokenizer(SEQUENCE, return_tensors="pt")).logits[0].float()
        best = logits.softmax(-1).max(-1)
        found = pipe(SEQUENCE)
        self.assertEqual([(one["start"], one["end"]) for one in found], places)
        for one in found:
            self.assertAlmostEqual(one["score"], best.values[one["index"]].item(), delta=tolerance)
            self.assertEqual(one["word"], SEQUENCE[one["start"] : one["end"]])

        joined = pipe(SEQUENCE, aggregation_strategy="simple")
        self.assertEqual(joined[0]["start"], places[0][0])
        self.assertEqual(joined[-1]["end"], places[-1][1])
        for one in joined:
            self.assertEqual(one["word"], SEQUENCE[one["start"] : one["end"]])
        for before, after in itertools.pairwise(joined):
            self.assertEqual(before["end"], after["start"])
            self.assertNotEqual(before["entity_group"], after["entity_group"])
        for strategy in ("first", "average", "max"):  # To them a text without blanks is one word.
            [word] = pipe(SEQUENCE, aggregation_strategy=strategy)
            self.assertEqual((word["word"], word["start"], word["end"]), (SEQUENCE, places[0][0], places[-1][1]))
        self.assertEqual(pipe(SEQUENCE, ignore_labels=[*pipe.model.config.id2label.values()]), [])

        alone = [pipe(one) for one in examples]
        for together in (pipe(examples), list(pipe(stream(examples), batch_size=choose_batch_size(pipe)))):
            self.assertEqual(
                [[(each["start"], each["entity"]) for each in one] for one in alone],
                [[(each["start"], each["entity"]) for each in one] for one in together],
            )
        self._read_in_parts(pipe, SEQUENCE * 2)

    def _read_in_parts(self, pipe, sequence: str):
        longest = pipe.tokenizer.model_max_length
        pipe.tokenizer.model_max_length = 12
        try:
            parts = pipe(sequence, aggregation_strategy="simple", stride=2)
        finally:
            pipe.tokenizer.model_max_length = longest
        # Of entities of two parts that overlap the longer one is kept, so there may be bases in none.
        self.assertEqual(parts[0]["start"], 0)
        self.assertGreater(parts[-1]["end"], len(sequence) // 2)
        for one in parts:
            self.assertEqual(one["word"], sequence[one["start"] : one["end"]])
