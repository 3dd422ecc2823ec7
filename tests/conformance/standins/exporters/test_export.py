"""In the place of transformers' export tests, which its source distribution lacks."""


class ExportTesterMixin:
    """What an exportable model is tested with."""
