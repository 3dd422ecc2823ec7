"""From the name of an objective, or of a published recipe, to what makes batches."""

import inspect
from typing import Any

from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError, suggest
from gengram.training.objectives.causal import CausalObjective
from gengram.training.objectives.masked import MaskedObjective

Objective = CausalObjective | MaskedObjective

SETTINGS: dict[str, dict[str, Any]] = {
    "causal": {},
    "masked": {},
    # Runs of one to three tokens; the share is one of all tokens, [CLS] and [SEP] included, of which none is chosen,
    # while N is; random tokens are of the whole vocabulary.
    "gena": {"choice": "ngrams", "length": 3, "replacement": "vocabulary", "skip_n": False, "count_all": True},
    # The same masks, of the rows of `PairBlocks`: GENA-LM's first models learned the order of two pieces as well.
    "next_sentence": {"choice": "ngrams", "length": 3, "replacement": "vocabulary", "skip_n": False, "count_all": True},
    # 15 % of the 6-mers, 80/10/10. The papers do not say what random tokens are drawn from, nor whether N is hidden.
    "nucleotide_transformer": {"choice": "tokens"},
    # A base is hidden in all k-mers that have it.
    "dnabert": {"choice": "words"},
}
"""What each name stands for, in arguments of `CausalObjective` (`causal`) or `MaskedObjective` (all others)."""


PAIR_OPTIONS = ("sentence", "short_share", "negatives")
"""Options of `"next_sentence"` that are of its rows: arguments of `PairBlocks`, not of the objective."""


def build_objective(name: str, tokenizer: PreTrainedTokenizerBase, seed: int = 0, **options: Any) -> Objective:
    """Return what turns rows of `Blocks` into batches; give it to a Trainer as `data_collator`.

    Trainer drops what the model does not take, the number of the block among it, unless `remove_unused_columns` is
    False.

    Args:
        name: `"causal"`, `"masked"`, or a published recipe of `SETTINGS`.
        tokenizer: that made the ids.
        seed: of the masks.
        options: of `CausalObjective` or `MaskedObjective`; they go before those of a recipe.

    Raises:
        `InputError`: a name or an option that does not exist; a value that cannot be.

    Example:
        >>> from gengram.tokenization import build_kmer_tokenizer
        >>> tokenizer = build_kmer_tokenizer()
        >>> objective = build_objective("nucleotide_transformer", tokenizer, seed=1)
        >>> batch = objective([{"input_ids": tokenizer("ACGTAC" * 8)["input_ids"], "block": 0}])
        >>> int((batch["labels"] != -100).sum())
        2
    """
    if name not in SETTINGS:
        raise InputError(f"objective {name!r}: give one of {', '.join(SETTINGS)}{suggest(str(name), SETTINGS)}")
    kind = CausalObjective if name == "causal" else MaskedObjective
    known = [each for each in inspect.signature(kind).parameters if each not in ("tokenizer", "seed")]
    for option in options:
        if option not in known:
            raise InputError(
                f"objective {name!r} has no option {option!r}: it takes {', '.join(known)}{suggest(option, known)}"
            )
    if kind is CausalObjective:
        return CausalObjective(tokenizer, **options)
    return MaskedObjective(tokenizer, seed, **(SETTINGS[name] | options))


__all__ = ["PAIR_OPTIONS", "SETTINGS", "Objective", "build_objective"]
