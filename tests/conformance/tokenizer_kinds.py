"""Every kind of tokenizer that the package builds, or makes of the files that others publish: one entry each."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TokenizersBackend

from gengram.loading import load_tokenizer
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer, load_bpe_tokenizer
from gengram.tokenization.ntv3 import build_ntv3_tokenizer
from gengram.tokenization.overlapping import build_overlapping_tokenizer, list_overlapping_vocabulary
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.tokenization.whole_kmer import build_whole_kmer_tokenizer

BRACKETS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
GENERATOR = ["<oov>", "<s>", "</s>", "<pad>", "<mask>", *("".join(letters) for letters in product("ATCG", repeat=3))]
ESM = ["<unk>", "<pad>", "<mask>", "<cls>", *("".join(letters) for letters in product("ATCG", repeat=3)), *"ATCGN"]
DNA = ["GATTACAGATTACATTAGGGTTAGGG" * 20, "AACCGGTTACGTTGCA" * 30]


def train_published(path: Path, names: list[str], **options) -> Path:
    """A BPE as others publish it, with special tokens by these names."""
    backend = Tokenizer(models.BPE(unk_token=names[0]))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")])
    backend.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
    special = [AddedToken(name, special=True, normalized=False) for name in [*names, "-"]]
    backend.train_from_iterator(DNA, trainers.BpeTrainer(vocab_size=80, special_tokens=special, show_progress=False))
    backend.post_processor = processors.BertProcessing((names[2], 2), (names[1], 1))
    kinds = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
    TokenizersBackend(tokenizer_object=backend, **dict(zip(kinds, names)), **options).save_pretrained(path)
    return path


def publish(path: Path, name: str, lines: list[str], **settings) -> Path:
    """A folder with a vocabulary and `tokenizer_config.json`, and nothing else."""
    path.mkdir()
    (path / name).write_text("\n".join(lines))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


TOKENIZERS: dict[str, Callable[[Path], PreTrainedTokenizerBase]] = {
    "nucleotide": lambda path: build_nucleotide_tokenizer(),
    "nucleotide-cls-sep": lambda path: build_nucleotide_tokenizer(template="cls_sep"),
    "nucleotide-unknown": lambda path: build_nucleotide_tokenizer(
        case="unknown", uracil="unknown", ambiguous="unknown"
    ),
    "kmer-v1": lambda path: build_kmer_tokenizer(3, "v1"),
    "kmer-v2": lambda path: build_kmer_tokenizer(3),
    "kmer-one": lambda path: build_kmer_tokenizer(1),
    "kmer-of-files": lambda path: load_tokenizer(publish(path, "vocab.txt", [*ESM, "<eos>"], eos_token="<eos>")),
    "overlapping": lambda path: build_overlapping_tokenizer(list_overlapping_vocabulary(3)),
    "overlapping-stride": lambda path: build_overlapping_tokenizer(list_overlapping_vocabulary(4), 2),
    "overlapping-of-files": lambda path: load_tokenizer(publish(path, "vocab.txt", list_overlapping_vocabulary(3))),
    "whole_kmer": lambda path: build_whole_kmer_tokenizer(GENERATOR),
    "whole_kmer-of-files": lambda path: load_tokenizer(publish(path, "vocab.txt", GENERATOR, add_eos_token=False)),
    "bpe-trained": lambda path: train_bpe_tokenizer(DNA, vocab_size=60),
    "bpe-as-published": lambda path: AutoTokenizer.from_pretrained(train_published(path, BRACKETS)),
    "bpe-mended": lambda path: load_bpe_tokenizer(train_published(path, BRACKETS)),
    "bpe-of-files": lambda path: load_tokenizer(train_published(path, BRACKETS)),
    "bpe-other-names": lambda path: load_tokenizer(
        train_published(path, ["<unk>", "<cls>", "<sep>", "<pad>", "<mask>"])
    ),
    "ntv3": lambda path: build_ntv3_tokenizer(),
}
"""Kind -> what makes it, given a folder that is not there yet, for files. The first word of a name, before `-`, is
that of the module of `gengram.tokenization`."""

VARIANTS = {f"tokenizer-{kind}": kind for kind in TOKENIZERS}
"""Name of a variant, as the list and the table of outcomes have it -> kind."""

__all__ = ["BRACKETS", "TOKENIZERS", "VARIANTS", "train_published"]
