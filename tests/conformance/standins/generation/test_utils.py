"""In the place of transformers' generation tests, which its source distribution lacks."""


class GenerationTesterMixin:
    """What a model that generates is tested with."""
