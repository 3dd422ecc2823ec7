"""Stand-in: what `pipeline("fill-mask")` promises, on sequences with masks."""

import unittest

import torch
from transformers import FillMaskPipeline
from transformers.pipelines import PipelineException

from .sequences import SEQUENCE, choose_batch_size, get_tolerance, make_pipeline, stream


class FillMaskPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        pipe = make_pipeline(FillMaskPipeline, model, tokenizer, dtype)
        mask = tokenizer.mask_token
        return pipe, [f"{SEQUENCE[:8]}{mask}{SEQUENCE[8:]}", f"ACGTACGT{mask}", f"{mask}TTGCATTG"]

    def run_pipeline_test(self, pipe, examples):
        """Tokens and scores are the model's, `top_k` and `targets` are kept, several masks, none at all."""
        tokenizer, tolerance = pipe.tokenizer, get_tolerance(pipe)
        inputs = tokenizer(examples[0], return_tensors="pt")
        place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        with torch.no_grad():
            scores = pipe.model(**inputs).logits[0, place].float().softmax(-1)
        found = pipe(examples[0])
        self.assertEqual([set(one) for one in found], [{"sequence", "score", "token", "token_str"}] * 5)
        self._compare([one["score"] for one in found], scores.topk(5).values.tolist(), tolerance)
        for one in found:
            self.assertAlmostEqual(one["score"], scores[one["token"]].item(), delta=tolerance)
            self.assertEqual(one["token_str"], tokenizer.decode([one["token"]]))

        self.assertEqual(len(pipe(examples[0], top_k=2)), 2)
        words = [token for token in tokenizer.get_vocab() if set(token) <= set("ACGT")][:3]
        limited = pipe(examples[0], targets=words)
        self.assertEqual({one["token_str"] for one in limited}, set(words))
        self.assertEqual({one["token"] for one in limited}, set(tokenizer.convert_tokens_to_ids(words)))
        self.assertEqual(len(pipe(examples[0], targets=[words[0]] * 3, top_k=10)), 1)
        with self.assertRaises(ValueError):
            pipe(examples[0], targets=[])
        if tokenizer.decode(tokenizer(SEQUENCE)["input_ids"], skip_special_tokens=True) == SEQUENCE:
            for one in limited:
                self.assertEqual(one["sequence"], examples[0].replace(tokenizer.mask_token, one["token_str"]))

        both = pipe(f"AC{tokenizer.mask_token}GT{tokenizer.mask_token}", top_k=2)
        self.assertEqual([len(each) for each in both], [2, 2])
        with self.assertRaises(PipelineException):
            pipe(SEQUENCE)
        alone = [pipe(one, top_k=3) for one in examples]
        batched = pipe(stream(examples), top_k=3, batch_size=choose_batch_size(pipe))
        for together in (pipe(examples, top_k=3), list(batched)):
            for one, other in zip(alone, together, strict=True):
                self.assertEqual([each["token"] for each in one], [each["token"] for each in other])
                self._compare([each["score"] for each in one], [each["score"] for each in other], tolerance)

    def _compare(self, one: list[float], other: list[float], tolerance: float):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), atol=tolerance, rtol=0.0)
