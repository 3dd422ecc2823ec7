"""Beside transformers' common tests, of which none sees a model that ignores its mask unless it generates."""

import torch

_WIDTH = 4  # padded places


class PaddingTesterMixin:
    """What stands in padding says nothing about what stands elsewhere."""

    def test_padding_is_not_read(self):
        for model_class in self.all_model_classes:
            for side, place in (("left", slice(0, _WIDTH)), ("right", slice(-_WIDTH, None))):
                with self.subTest(f"{model_class.__name__} {side}"):
                    config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
                    torch.manual_seed(0)
                    model = model_class(config).eval()
                    inputs["attention_mask"][:, place] = 0
                    ids, other = inputs["input_ids"], inputs["input_ids"].clone()
                    other[:, place] = ids[:, place].roll(1, 0)
                    self.assertFalse(torch.equal(ids, other))
                    with torch.no_grad():
                        told = [model(**{**inputs, "input_ids": one})[0] for one in (ids, other)]
                    if told[0].shape[:2] == ids.shape:  # one vector a token
                        told = [one[inputs["attention_mask"].bool()] for one in told]
                    elif side == "left":
                        continue  # The heads of encoders read the first token.
                    torch.testing.assert_close(*told)
