"""What is to be predicted, and what is measured of it: the words that data, training, reports and inference share."""

from typing import Literal

Problem = Literal["single_label", "multi_label", "regression", "token"]
"""One class a row; any number of labels a row; numbers; one class a base."""

PROBLEMS: tuple[Problem, ...] = ("single_label", "multi_label", "regression", "token")

MASKS = ("-1", "-100", ".")
"""Labels of a base that mean "not known": the base is neither trained on nor measured."""

IGNORED = -100
"""The id of a base whose label is not known: what the losses of transformers leave out."""

ROW_COLUMN = "data_row"
"""The row in its file, counted from 1 as in messages: the header of a table is not a row."""

METRICS: dict[Problem, tuple[str, ...]] = {
    "single_label": ("mcc", "accuracy", "auroc", "loss", "macro_f1", "auprc"),
    "multi_label": ("auroc", "auprc", "macro_f1", "mcc", "accuracy", "loss"),
    "regression": ("pearson", "spearman", "r2", "loss"),
    "token": ("mcc", "accuracy", "auroc", "loss", "macro_f1", "auprc"),
}
"""What is reported for each split; `loss` is the mean cross-entropy in nats, of a regression the mean squared error."""

__all__ = ["IGNORED", "MASKS", "METRICS", "PROBLEMS", "ROW_COLUMN", "Problem"]
