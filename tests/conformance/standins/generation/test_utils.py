"""In the place of transformers' generation tests, which its source distribution lacks: what `generate` promises.

Each way to generate is compared with another that must say the same: with a cache and without, padded and alone, from
ids and from embeddings, in one go and continued, with a draft of its own or of a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import set_seed
from transformers.testing_utils import torch_device

LENGTH = 6
"""New tokens."""


class GenerationTesterMixin:
    """What a model that generates is tested with; to be joined to `ModelTesterMixin`, whose classes it reads."""

    def _make_generators(self) -> Iterator[tuple[Any, torch.Tensor]]:
        """Each model that generates, in evaluation, and a prompt of ids (B, T) without padding."""
        for model_class in self.all_generative_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            set_seed(0)
            model = model_class(config).to(torch_device).eval()
            # It shall write all tokens that are asked for.
            model.generation_config.eos_token_id = None
            yield model, inputs["input_ids"]

    def _generate(self, model: Any, ids: torch.Tensor | None = None, **settings: Any) -> Any:
        """Greedy, unless the settings say otherwise, with the scores of each step."""
        usual = {"do_sample": False, "max_new_tokens": LENGTH, "min_new_tokens": LENGTH, "output_logits": True}
        settings = {**usual, "return_dict_in_generate": True, **settings}
        if ids is not None:
            settings.setdefault("attention_mask", torch.ones_like(ids))
        with torch.no_grad():
            return model.generate(ids, **settings)

    def _check_alike(self, one: Any, other: Any) -> None:
        """The same tokens, and logits that differ by rounding; other tokens only where two are as likely."""
        logits = [torch.stack(output.logits) for output in (one, other)]
        torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-4)
        new = [output.sequences[:, -LENGTH:] for output in (one, other)]
        self.assertEqual(new[0].tolist(), new[1].tolist())

    @pytest.mark.generate
    def test_greedy_generate(self):
        for model, ids in self._make_generators():
            output = self._generate(model, ids)
            self.assertEqual(output.sequences.shape, (len(ids), ids.shape[1] + LENGTH))
            self.assertTrue(torch.equal(output.sequences[:, : ids.shape[1]], ids))
            self.assertTrue(torch.isfinite(torch.stack(output.logits)).all())

    @pytest.mark.generate
    def test_generate_equals_full_forward_passes(self):
        for model, ids in self._make_generators():
            output = self._generate(model, ids)
            with torch.no_grad():
                whole = model(output.sequences, attention_mask=torch.ones_like(output.sequences)).logits
            steps = torch.stack(output.logits, dim=1).to(whole)
            torch.testing.assert_close(steps, whole[:, ids.shape[1] - 1 : -1], rtol=1e-3, atol=1e-4)

    @pytest.mark.generate
    def test_generate_with_and_without_cache(self):
        for model, ids in self._make_generators():
            cached, anew = (self._generate(model, ids, use_cache=use) for use in (True, False))
            self._check_alike(cached, anew)

    @pytest.mark.generate
    def test_generate_with_static_cache(self):
        for model, ids in self._make_generators():
            # Compiling is another question, and takes minutes.
            still = self._generate(model, ids, cache_implementation="static", disable_compile=True)
            self._check_alike(self._generate(model, ids), still)

    @pytest.mark.generate
    def test_left_padding_compatibility(self):
        for model, ids in self._make_generators():
            config = model.config.get_text_config()
            padding = torch.full((len(ids), 5), config.pad_token_id or 0, device=ids.device)
            mask = torch.cat([torch.zeros_like(padding), torch.ones_like(ids)], dim=1)
            padded = self._generate(model, torch.cat([padding, ids], dim=1), attention_mask=mask)
            self._check_alike(self._generate(model, ids), padded)

    @pytest.mark.generate
    def test_prompts_of_a_batch_do_not_see_each_other(self):
        for model, ids in self._make_generators():
            together = self._generate(model, ids)
            alone = self._generate(model, ids[:1])
            torch.testing.assert_close(
                torch.stack(together.logits)[:, :1], torch.stack(alone.logits), rtol=1e-3, atol=1e-4
            )

    @pytest.mark.generate
    def test_generate_from_inputs_embeds(self):
        for model, ids in self._make_generators():
            vectors = model.get_input_embeddings()(ids).detach()
            for use_cache in (True, False):
                from_vectors = self._generate(model, ids, inputs_embeds=vectors, use_cache=use_cache)
                self._check_alike(self._generate(model, ids, use_cache=use_cache), from_vectors)

    @pytest.mark.generate
    def test_generate_from_inputs_embeds_alone(self):
        for model, ids in self._make_generators():
            vectors = model.get_input_embeddings()(ids).detach()
            from_vectors = self._generate(model, inputs_embeds=vectors, attention_mask=torch.ones_like(ids))
            self._check_alike(self._generate(model, ids), from_vectors)

    @pytest.mark.generate
    def test_generate_continue_from_past_key_values(self):
        for model, ids in self._make_generators():
            whole = self._generate(model, ids)
            half = LENGTH // 2
            first = self._generate(model, ids, max_new_tokens=half, min_new_tokens=half)
            rest = {"max_new_tokens": LENGTH - half, "min_new_tokens": LENGTH - half}
            second = self._generate(model, first.sequences, past_key_values=first.past_key_values, **rest)
            self.assertEqual(second.sequences.tolist(), whole.sequences.tolist())
            torch.testing.assert_close(
                torch.stack(first.logits + second.logits), torch.stack(whole.logits), rtol=1e-3, atol=1e-4
            )

    @pytest.mark.generate
    def test_prefill_in_chunks(self):
        for model, ids in self._make_generators():
            self._check_alike(self._generate(model, ids), self._generate(model, ids, prefill_chunk_size=5))

    @pytest.mark.generate
    def test_sample_generate(self):
        for model, ids in self._make_generators():
            drawn = []
            for _ in range(2):
                set_seed(1)
                drawn.append(self._generate(model, ids, do_sample=True, top_k=4, num_return_sequences=2).sequences)
            self.assertEqual(drawn[0].shape, (2 * len(ids), ids.shape[1] + LENGTH))
            self.assertTrue(torch.equal(*drawn))

    @pytest.mark.generate
    def test_beam_search_generate(self):
        for model, ids in self._make_generators():
            settings = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0, "output_scores": True}
            output, anew = (self._generate(model, ids, **settings, use_cache=use) for use in (True, False))
            self.assertEqual(output.sequences.tolist(), anew.sequences.tolist())
            # A beam's score is the sum of the log probabilities of what it has written.
            steps = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
            torch.testing.assert_close(steps.sum(1), output.sequences_scores, rtol=1e-3, atol=1e-4)
            scores = output.sequences_scores.view(len(ids), 2)
            self.assertTrue((scores[:, 0] >= scores[:, 1]).all())

    @pytest.mark.generate
    def test_beam_sample_generate(self):
        for model, ids in self._make_generators():
            set_seed(1)
            output = self._generate(model, ids, num_beams=2, do_sample=True)
            self.assertEqual(output.sequences.shape, (len(ids), ids.shape[1] + LENGTH))

    @pytest.mark.generate
    def test_assisted_decoding_matches_greedy_search(self):
        for model, ids in self._make_generators():
            ids = ids[:1]  # assisted decoding takes one sequence
            greedy = self._generate(model, ids)
            draft = copy.deepcopy(model)
            draft.generation_config.num_assistant_tokens = 2
            draft.generation_config.num_assistant_tokens_schedule = "constant"
            self._check_alike(greedy, self._generate(model, ids, assistant_model=draft))

    @pytest.mark.generate
    def test_prompt_lookup_decoding_matches_greedy_search(self):
        for model, ids in self._make_generators():
            ids = ids[:1, :4].repeat(1, 4)  # a prompt that repeats itself has drafts to offer
            self._check_alike(self._generate(model, ids), self._generate(model, ids, prompt_lookup_num_tokens=2))

    @pytest.mark.generate
    def test_generate_with_hidden_states_and_attentions(self):
        for model, ids in self._make_generators():
            if not self.has_attentions:
                self.skipTest("no attention weights")
            model.set_attn_implementation("eager")
            output = self._generate(model, ids, output_hidden_states=True, output_attentions=True)
            config = model.config.get_text_config()
            self.assertEqual(len(output.hidden_states), LENGTH)
            for step, (hidden_states, attentions) in enumerate(zip(output.hidden_states, output.attentions)):
                new, seen = (1, ids.shape[1] + step) if step else (ids.shape[1], ids.shape[1])
                self.assertEqual(len(hidden_states), config.num_hidden_layers + 1)
                self.assertEqual(hidden_states[-1].shape, (len(ids), new, config.hidden_size))
                self.assertEqual(attentions[-1].shape, (len(ids), config.num_attention_heads, new, seen))

    @pytest.mark.generate
    def test_generate_with_logits_to_keep(self):
        for model, ids in self._make_generators():
            with torch.no_grad():
                every = model(ids).logits
                for kept in (1, 3):
                    torch.testing.assert_close(model(ids, logits_to_keep=kept).logits, every[:, -kept:])
