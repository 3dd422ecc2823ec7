"""How good is a language model on contigs that it has never read, and what does its memory do there?

Names load on first use.
"""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.training.evaluation.bits_per_base import measure_bits, summarise_bits
    from gengram.training.evaluation.curves import draw_curves
    from gengram.training.evaluation.evaluate import evaluate_corpus
    from gengram.training.evaluation.expert_balance import measure_expert_balance
    from gengram.training.evaluation.haplotypes import measure_haplotypes
    from gengram.training.evaluation.held_out import choose_windows
    from gengram.training.evaluation.logit_lens import measure_logit_lens
    from gengram.training.evaluation.memory_writes import measure_memory_writes
    from gengram.training.evaluation.scoring import WindowScorer
    from gengram.training.evaluation.strand_gap import measure_strand_gap

_DEFINED_IN = {
    "measure_bits": "gengram.training.evaluation.bits_per_base",
    "summarise_bits": "gengram.training.evaluation.bits_per_base",
    "draw_curves": "gengram.training.evaluation.curves",
    "evaluate_corpus": "gengram.training.evaluation.evaluate",
    "measure_expert_balance": "gengram.training.evaluation.expert_balance",
    "measure_haplotypes": "gengram.training.evaluation.haplotypes",
    "choose_windows": "gengram.training.evaluation.held_out",
    "measure_logit_lens": "gengram.training.evaluation.logit_lens",
    "measure_memory_writes": "gengram.training.evaluation.memory_writes",
    "WindowScorer": "gengram.training.evaluation.scoring",
    "measure_strand_gap": "gengram.training.evaluation.strand_gap",
}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = [
    "WindowScorer",
    "choose_windows",
    "draw_curves",
    "evaluate_corpus",
    "measure_bits",
    "measure_expert_balance",
    "measure_haplotypes",
    "measure_logit_lens",
    "measure_memory_writes",
    "measure_strand_gap",
    "summarise_bits",
]
