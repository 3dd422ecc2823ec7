"""How can a model be judged on a task? Every protocol by its name, with its version and its settings; no torch here.

A score is worth what is known of how it came about: name, version and settings of the protocol are kept beside it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gengram.benchmarks.protocols.probe_settings import GenosProbeSettings, LinearProbeSettings
from gengram.benchmarks.protocols.tuning_settings import FinetuneSettings, LoraSettings, TenfoldSettings


@dataclass(frozen=True)
class Outcome:
    """What a model, judged with one seed or on one fold, says of the test rows.

    Attributes:
        seed: of the training, or the number of the fold.
        outputs: float64 [N, C], of N test rows the logits or log-probabilities of C classes or labels (higher is
            likelier), of a regression the predictions.
        validation: `METRICS` of the problem on the validation rows, of the setting that was chosen.
        chosen: that setting, and as `tried` every setting with its score on the rows that it was chosen by; JSON.
            `seconds` is what it took of this process.
    """

    seed: int
    outputs: np.ndarray
    validation: dict[str, float]
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A named way to judge a model.

    Attributes:
        name: as in `--protocol`.
        version: raised with every change that may move a score.
        title: what it does, in a line.
        source: whose protocol it is, and where that is written down.
        frozen: whether the model's own weights stay as they are.
        settings: a dataclass whose fields have defaults and are flags of `gengram evaluate`. Its method `resolve` says
            what they come to on a task, where that is not the same for all.
        run: "module:function", imported when it is needed: entrant, task, settings, seeds, cache -> list of `Outcome`.
        warning: what a reader must know beside every score; empty if there is nothing.
    """

    name: str
    version: int
    title: str
    source: str
    frozen: bool
    settings: type
    run: str
    warning: str = ""


_GENOS = "BGI-HangzhouAI/Genos, Technical_Notes/benchmarks-code; used by the Genos and Gengram papers"

PROTOCOLS: dict[str, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            "linear-probe",
            1,
            "linear model on frozen embeddings; layer and penalty are chosen on validation rows",
            "logistic and ridge regression of scikit-learn, as in many papers",
            True,
            LinearProbeSettings,
            "gengram.benchmarks.protocols.linear_probe:run_linear_probe",
        ),
        Protocol(
            "genos-probe",
            1,
            "the Genos papers' MLP or XGBoost on frozen embeddings; layer chosen on validation rows, dropout in every "
            "epoch",
            _GENOS,
            True,
            GenosProbeSettings,
            "gengram.benchmarks.protocols.genos_probe:run_genos_probe",
        ),
        Protocol(
            "genos-probe-compat",
            1,
            "the Genos papers' probe as published, with its defects: layer chosen on TEST rows, dropout in the first "
            "epoch only",
            _GENOS,
            True,
            GenosProbeSettings,
            "gengram.benchmarks.protocols.genos_probe:run_compatible_probe",
            "the layer is chosen on the test rows, so these scores are too high where several layers are offered; they "
            "are for a comparison with published ones only",
        ),
        Protocol(
            "finetune",
            1,
            "all weights are trained; the epoch, and what a search tries, are chosen on validation rows",
            "gengram finetune; --preset takes the numbers of DNABERT-2, HyenaDNA, Caduceus, the Nucleotide "
            "Transformer, GENERator, modernGENA or LRB",
            False,
            FinetuneSettings,
            "gengram.benchmarks.protocols.finetune:run_finetune",
        ),
        Protocol(
            "lora",
            1,
            "an adapter (LoRA or IA3) and a head are trained; the epoch is chosen on validation rows",
            "gengram finetune --peft; --preset takes the numbers of the Nucleotide Transformer or of DNABERT-2's "
            "baselines",
            False,
            LoraSettings,
            "gengram.benchmarks.protocols.lora:run_lora",
        ),
        Protocol(
            "nt-10fold",
            1,
            "ten folds of the training rows: nine train, one chooses, the test rows are the same; an adapter, all "
            "weights, or a logistic regression on frozen embeddings",
            "Dalla-Torre et al., Nature Methods 2025; modernGENA's script, stratified folds with seed 42",
            False,
            TenfoldSettings,
            "gengram.benchmarks.protocols.tenfold:run_nt_10fold",
        ),
    )
}
"""By name, in the order of the documentation."""

__all__ = ["PROTOCOLS", "Outcome", "Protocol"]
