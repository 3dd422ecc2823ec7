"""transformers' common tests of tokenizers, on every kind that the package builds or loads, saved and loaded."""

import contextlib
import shutil
import tempfile
import unittest
from pathlib import Path

from conformance.tokenizer_kinds import TOKENIZERS, VARIANTS

from ..test_tokenization_common import TokenizerTesterMixin
from ..test_tokenizers_backend_mixin import TokenizersBackendTesterMixin

SEQUENCE = "GATTACAGGACCTTAGGATCCAACGTTGCATGCAGG"
"""36 bp: whole k-mers of every kind here."""

# A text that the tests read and none uses; the distribution lacks it.
_SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample_text.txt"
_SAMPLE.parent.mkdir(exist_ok=True)
_SAMPLE.write_text(SEQUENCE)


class TokenizerCase:
    """Saves a tokenizer of a kind where the mixins load it from, and gives them sequences for the words of English."""

    kind: str

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="conformance-tokenizer-"))
        tokenizer = TOKENIZERS[cls.kind](cls.folder / "files")
        tokenizer.save_pretrained(cls.folder / "saved")
        cls.tokenizer_class = cls.rust_tokenizer_class = type(tokenizer)
        cls.from_pretrained_id = str(cls.folder / "saved")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def subTest(self, *_, **__):
        """Failures of a part are those of its test."""
        return contextlib.nullcontext()

    def get_clean_sequence(self, tokenizer, with_prefix_space=False, max_length=20, min_length=5):
        """A sequence of at most so many tokens, and its ids; the mixin would join tokens with blanks."""
        del with_prefix_space, min_length
        length = len(SEQUENCE)
        while len(tokenizer.encode(SEQUENCE[:length], add_special_tokens=False)) > (max_length or length):
            length -= 12
        return SEQUENCE[:length], tokenizer.encode(SEQUENCE[:length], add_special_tokens=False)

    def get_input_output_texts(self, tokenizer):
        """A sequence, and how it is written: overlapping k-mers and published BPE between blanks."""
        if tokenizer.backend_tokenizer.decoder is not None:
            return SEQUENCE, SEQUENCE
        return SEQUENCE, " ".join(tokenizer.tokenize(SEQUENCE))


for _family, _kind in VARIANTS.items():
    for _mixin, _name in ((TokenizerTesterMixin, "Common"), (TokenizersBackendTesterMixin, "Backend")):
        _title = f"Test{_name}_{_kind.replace('-', '_')}"
        globals()[_title] = type(_title, (TokenizerCase, _mixin, unittest.TestCase), {"family": _family, "kind": _kind})
