"""Stand-in: what `pipeline("text-generation")` promises, on the beginnings of sequences."""

import unittest

from transformers import TextGenerationPipeline

from .sequences import OTHERS, SEQUENCE, make_pipeline, stream


class TextGenerationPipelineTests(unittest.TestCase):
    """Asked by `PipelineTesterMixin` for a pipeline and examples, and then to try them."""

    def get_test_pipeline(self, model, tokenizer=None, dtype="float32", **processors):
        """Return a pipeline and inputs for it."""
        options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
        return make_pipeline(TextGenerationPipeline, model, tokenizer, dtype, **options), [SEQUENCE, *OTHERS]

    def run_pipeline_test(self, pipe, examples):
        """With the prompt and without, as ids, several, in lists and batches, long prompts cut, the model's own ids."""
        [whole] = pipe(SEQUENCE)
        [rest] = pipe(SEQUENCE, return_full_text=False)
        self.assertEqual(whole["generated_text"], SEQUENCE + rest["generated_text"])
        [ids] = pipe(SEQUENCE, return_tensors=True)
        inputs = pipe.tokenizer(SEQUENCE, return_tensors="pt")
        expected = pipe.model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)[0].tolist()
        self.assertEqual(list(ids["generated_token_ids"]), expected)
        self.assertEqual(len(expected), inputs["input_ids"].shape[1] + 5)
        with self.assertRaises(ValueError):
            pipe(SEQUENCE, return_full_text=True, return_text=True)
        with self.assertRaises(ValueError):
            pipe(SEQUENCE, return_full_text=True, return_tensors=True)

        several = pipe(SEQUENCE, num_return_sequences=2, num_beams=2)
        self.assertEqual([set(one) for one in several], [{"generated_text"}] * 2)
        sampled = pipe([SEQUENCE, OTHERS[0]], num_return_sequences=2, do_sample=True)
        self.assertEqual([len(one) for one in sampled], [2, 2])

        alone = [pipe(one) for one in examples]
        for together in (pipe(examples), pipe(examples, batch_size=2), list(pipe(stream(examples), batch_size=2))):
            self.assertEqual(together, alone)
        longest = pipe.tokenizer.model_max_length
        pipe.tokenizer.model_max_length = 12
        try:
            [cut] = pipe(SEQUENCE, handle_long_generation="hole", return_full_text=False)
        finally:
            pipe.tokenizer.model_max_length = longest
        self.assertEqual(set(cut), {"generated_text"})
