"""A BPE tokenizer of one's own from genomes, and how well it reads what it has not seen."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace, Strip
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from gengram.errors import InputError
from gengram.files import make_whole, save_figure, write_json, write_text
from gengram.genome.alphabet import ANY_BASE, BASES, reverse_complement
from gengram.genome.fasta import read_fasta
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey
from gengram.genome.text import FileDigest
from gengram.phases import phase
from gengram.progress import track
from gengram.tokenization.bpe import GAP, BpeTokenizer, fold_letters, wrap_bpe
from gengram.tokenization.encode_bpe import BpeEncoder

PIECE = 1000
"""Bases that are learned from together. A merge costs time in every piece that has it: whole contigs would be slow."""
HELD_OUT = 20
"""One piece of so many does not train: it is measured."""
_MOST_HELD_OUT = 1000
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
_LARGEST = 10_000_000  # far beyond every use
_LONGEST_RUN = 32  # what the bulk encoder looks for


def train_bpe_tokenizer(
    pieces: Iterable[str],
    *,
    vocab_size: int = 32000,
    max_token_length: int = 64,
    n_run: int = 10,
    model_max_length: int = 512,
    progress: bool = False,
) -> BpeTokenizer:
    """
    Train a tokenizer like GENA-LM's: byte pair encoding of bases, `[CLS]` and `[SEP]` around a sequence.

    The same pieces give the same tokenizer. Its ids are in the order of its merges, as `BpeEncoder` needs them. N is a
    letter, and no longer token has one; so is a base in lower case, which is read as upper case, and U, read as T.

    Args:
        pieces: DNA, a few hundred to thousand bp each; what is not A, C, G, T separates.
        vocab_size: tokens, special ones included; there are fewer if the pieces have no more pairs.
        max_token_length: in bp. Without a limit a genome's satellites become tokens of many hundred.
        n_run: so many N in a row, or more, are one token `-`; 0: each N is a token.
        model_max_length: in tokens, for the tokenizer's configuration.
        progress: show progress bars.

    Raises:
        `ValueError`: a number that is out of range.

    Example:
        >>> tokenizer = train_bpe_tokenizer(["ACGTACGTTT" * 50], vocab_size=16)
        >>> tokenizer.tokenize("acgtacgt")
        ['ACGTACGT']
    """
    special = [*_SPECIAL, *([GAP] if n_run else [])]
    smallest = len(special) + len(BASES) + 1
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size}: special tokens and single letters are {smallest} already")
    if vocab_size > _LARGEST:  # The library makes room for all of them before it begins.
        raise ValueError(f"vocab_size={vocab_size}: give at most {_LARGEST:,} tokens")
    if not 2 <= max_token_length <= _LARGEST:
        raise ValueError(f"max_token_length={max_token_length}: give 2 to {_LARGEST:,} bp")
    if n_run not in range(_LONGEST_RUN + 1) or n_run == 1:
        raise ValueError(f"n_run={n_run}: give 2 to {_LONGEST_RUN} N, or 0 for no token of runs")
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in special],
        initial_alphabet=[*BASES, ANY_BASE],
        max_token_length=max_token_length + 1,  # its own tokens stay below the number
        show_progress=progress,
    )
    learner = Tokenizer(BPE(unk_token=_SPECIAL[0]))
    learner.train_from_iterator(_split_bases(pieces), trainer)
    model = json.loads(learner.to_str())["model"]
    backend = Tokenizer(BPE(model["vocab"], _drop_repeats(model["merges"]), unk_token=_SPECIAL[0]))
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    steps = [Strip(), *fold_letters({*BASES, ANY_BASE}, case="fold", uracil="thymine")]
    if n_run:
        steps.append(Replace(Regex(f"{ANY_BASE}{{{n_run},}}"), GAP))
        backend.pre_tokenizer = Split(GAP, "isolated")
    backend.normalizer = NormalizerSequence(steps)
    cls, sep = ((name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]"))
    backend.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[cls, sep]
    )
    return wrap_bpe(backend, model_max_length)


def sample_pieces(
    files: Sequence[str | Path],
    sample: int = 20_000_000,
    both_strands: bool = True,
    seed: int = 0,
    max_non_dna: float = MAX_NON_DNA,
    digests: Mapping[str, FileDigest] | None = None,
) -> tuple[list[str], list[str], dict[str, Any]]:
    """
    Cut genomes into pieces of `PIECE` bp and draw some of them; a genome is read twice and never kept as a whole.

    Args:
        files: FASTA, plain or .gz.
        sample: most bp to train on, before the other strand is added.
        both_strands: add the reverse complement of each piece.
        seed: of the draw.
        max_non_dna: largest share of a file's letters that are not DNA, see `LetterSurvey`.
        digests: by the name of a file, to take its checksum in passing.

    Returns:
        The pieces to train on; the pieces to measure (those that train, if there are fewer than `HELD_OUT`); and how
        many bases there are.

    Raises:
        `InputError`: see `read_fasta` and `LetterSurvey`; nothing to train on.
    """
    if seed < 0:
        raise InputError(f"seed={seed}: give 0 or more")
    if sample < PIECE:
        raise InputError(f"sample={sample}: give {PIECE} bp or more")
    lengths = []
    surveys = {str(file): LetterSurvey(str(file), max_non_dna) for file in files}
    for name, record, sequence in _read_records(files, "Counting", digests or {}):
        surveys[name].look([sequence], [record].__getitem__)
        lengths.append(len(sequence))
    for survey in surveys.values():
        survey.judge()
    total = sum(-(-length // PIECE) for length in lengths)
    order = np.random.default_rng(seed).permutation(total)
    held = min(total // HELD_OUT, _MOST_HELD_OUT)
    roles = np.zeros(total, dtype=np.uint8)  # 1: measured, 2: trained on
    roles[order[:held]] = 1
    roles[order[held : held + sample // PIECE]] = 2
    train, others, measured, number = list[str](), list[str](), list[str](), 0
    for _, _, sequence in _read_records(files, "Reading", {}):
        for start in range(0, len(sequence), PIECE):
            piece = sequence[start : start + PIECE].upper()
            if roles[number] == 1:
                measured.append(piece)
            elif roles[number] == 2:
                train.append(piece)
                others.append(reverse_complement(piece, keep_others=True))
            number += 1
    if not any(True for _ in _split_bases(train)):
        raise InputError(f"{', '.join(map(str, files))}: no A, C, G or T in what was drawn to train on")
    strands = [*train, *others] if both_strands else train
    counts = {"contigs": len(lengths), "bp": sum(lengths), "trained_bp": sum(map(len, strands))}
    return strands, measured or train, counts | {"piece_bp": PIECE, "held_out": held > 0}


def measure_tokenizer(tokenizer: BpeTokenizer, pieces: Sequence[str]) -> dict[str, Any]:
    """
    Measure how a tokenizer reads pieces.

    Returns:
        - `bp`, `tokens`, `bp_per_token`; `unknown_share` and `n_share`, of the bases: read as `[UNK]`, and as N or run
          of N; `used_share` of the vocabulary's tokens of bases.
        - `lengths`: for each length of a token in bp, how many are in the `vocabulary`, and `used` in the pieces.
    """
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    bases = {index: len(token) for index, token in vocabulary.items() if set(token) <= set(BASES)}
    encoded = BpeEncoder(tokenizer)(pieces, add_special_tokens=False, split_special_tokens=True)
    counts = np.bincount(encoded.ids, minlength=len(vocabulary))
    size = np.zeros(len(counts), dtype=np.int64)
    size[list(bases)] = list(bases.values())
    bp = sum(map(len, pieces))
    unknown = int(counts[tokenizer.unk_token_id])
    known, used = Counter(bases.values()), Counter[int]()
    for index, length in bases.items():
        used[length] += int(counts[index])
    return {
        "bp": bp,
        "tokens": len(encoded.ids),
        "bp_per_token": bp / max(len(encoded.ids), 1),
        "unknown_share": unknown / max(bp, 1),
        "n_share": (bp - unknown - int(counts @ size)) / max(bp, 1),
        "used_share": sum(counts[index] > 0 for index in bases) / len(bases),
        "lengths": [
            {"bp": length, "vocabulary": known[length], "used": used[length]} for length in range(1, max(known) + 1)
        ],
    }


def train_tokenizer(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    vocab_size: int = 32000,
    max_token_length: int = 64,
    n_run: int = 10,
    both_strands: bool = True,
    sample: int = 20_000_000,
    seed: int = 0,
    max_non_dna: float = MAX_NON_DNA,
    model_max_length: int = 512,
    progress: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Train a tokenizer on genomes and save it in a folder that `AutoTokenizer` and `load_bpe_tokenizer` read.

    Beside it are `report.json`, `token_lengths.tsv` and, where matplotlib is, `token_lengths.png`.

    Args:
        files, sample, both_strands, seed, max_non_dna: see `sample_pieces`.
        out: folder to make.
        overwrite: whether one that is there is replaced, when the new one is whole.
        others: see `train_bpe_tokenizer`.

    Returns:
        The report: `files` with their checksums, `settings`, `sample`, and `measured` of `measure_tokenizer`.

    Raises:
        `InputError`: the folder is there already, or cannot be written; see `sample_pieces` and `train_bpe_tokenizer`.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another folder")
    digests = {str(file): FileDigest() for file in files}
    with phase("Reading genomes", unit="bp") as reading:
        pieces, measured, counts = sample_pieces(files, sample, both_strands, seed, max_non_dna, digests)
        reading.add(counts["bp"])
    try:
        with phase("Training the tokenizer", unit="bp") as training:
            tokenizer = train_bpe_tokenizer(
                pieces,
                vocab_size=vocab_size,
                max_token_length=max_token_length,
                n_run=n_run,
                model_max_length=model_max_length,
                progress=progress,
            )
            training.add(counts["trained_bp"])
    except ValueError as error:
        raise InputError(str(error)) from error
    with phase("Measuring the tokenizer"):
        found = measure_tokenizer(tokenizer, measured)
    report: dict[str, Any] = {
        "files": [{"file": str(file), "sha256": digests[str(file)].finish(file)} for file in files],
        "settings": {
            "vocab_size": vocab_size,
            "max_token_length": max_token_length,
            "n_run": n_run,
            "both_strands": both_strands,
            "sample": sample,
            "seed": seed,
        },
        "sample": counts,
        "vocabulary": len(tokenizer),
        "measured": found,
    }
    lengths = report["measured"]["lengths"]
    rows = ["bp\tvocabulary\tused", *(f"{row['bp']}\t{row['vocabulary']}\t{row['used']}" for row in lengths)]
    with make_whole(out) as partial:
        tokenizer.save_pretrained(partial)
        write_json(report, partial / "report.json")
        write_text("\n".join(rows) + "\n", partial / "token_lengths.tsv")
        if find_spec("matplotlib"):
            plot_lengths(lengths, partial / "token_lengths.png")
    return report


def plot_lengths(lengths: list[dict[str, int]], path: Path) -> None:
    """Draw how long tokens are: in the vocabulary, and in the pieces that were measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for shift, name in ((-0.2, "vocabulary"), (0.2, "used")):
        total = max(sum(row[name] for row in lengths), 1)
        share = [row[name] / total for row in lengths]
        axes.bar([row["bp"] + shift for row in lengths], share, width=0.4, label=f"{name} ({total:,} tokens)")
    axes.set_xlabel("length of a token, bp")
    axes.set_ylabel("share of tokens")
    axes.legend()
    save_figure(figure, path, dpi=150)


def tabulate(report: dict[str, Any]) -> str:
    """Return what a terminal shows: the figures, and lengths in ranges with bars."""
    measured, sample = report["measured"], report["sample"]
    seen = "held out" if sample["held_out"] else "that it was trained on"
    lines = [
        f"{report['vocabulary']:,} tokens, trained on {sample['trained_bp']:,} bp of "
        f"{'both strands' if report['settings']['both_strands'] else 'one strand'} of {sample['bp']:,} bp",
        f"{measured['bp']:,} bp {seen}: {measured['bp_per_token']:.2f} bp per token, "
        f"{measured['unknown_share']:.2%} unknown, {measured['n_share']:.2%} N, "
        f"{measured['used_share']:.0%} of the vocabulary used",
        f"{'bp':>7}  {'vocabulary':>10}  {'used':>10}",
    ]
    used = max(sum(row["used"] for row in measured["lengths"]), 1)
    for first in range(1, len(measured["lengths"]) + 1, 4):
        rows = measured["lengths"][first - 1 : first + 3]
        known, found = (sum(row[name] for row in rows) for name in ("vocabulary", "used"))
        span = f"{first}-{rows[-1]['bp']}"
        lines.append(f"{span:>7}  {known:>10,}  {found:>10,}  {'#' * round(50 * found / used)}")
    return "\n".join(line.rstrip() for line in lines)


def _read_records(
    files: Sequence[str | Path], what: str, digests: Mapping[str, FileDigest]
) -> Iterator[tuple[str, str, str]]:
    """File, place and sequence of each record, with a progress bar of bases."""
    with track(desc=what, unit=" bp", unit_scale=True) as progress:
        for file in files:
            for line, header, sequence in read_fasta(file, digests.get(str(file))):
                yield str(file), f"the record in line {line}, {header[:60]!r}", sequence
                progress.update(len(sequence))


def _split_bases(pieces: Iterable[str]) -> Iterator[str]:
    """The stretches of A, C, G, T in pieces."""
    for piece in pieces:
        yield from re.findall(f"[{BASES}]+", piece.upper().replace("U", "T"))


def _drop_repeats(merges: list) -> list[tuple[str, str]]:
    """Leave out a merge whose token an earlier merge makes: ids would not be in the order of merges any more."""
    made: set[str] = set()
    kept = []
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left + right not in made:
            made.add(left + right)
            kept.append((left, right))
    return kept


__all__ = ["PIECE", "measure_tokenizer", "sample_pieces", "train_bpe_tokenizer", "train_tokenizer"]
