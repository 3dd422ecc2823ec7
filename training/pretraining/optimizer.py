"""Which parameters share a learning rate and a weight decay?"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from gengram.gengram.motif_memory import MotifTable


def group_parameters(
    model: nn.Module, decayed: Iterable[str], weight_decay: float, learning_rate: float, table_learning_rate: float
) -> list[dict[str, Any]]:
    """Return the parameters in groups for an optimizer, empty groups left out.

    Embeddings have no weight decay: a row whose token is rare would shrink in all the steps that do not read it. The
    tables of a motif memory are embeddings with a learning rate of their own, as in Engram.

    Args:
        model: its parameters that are not trained are left out.
        decayed: names that may have weight decay, as Trainer has them (no norms, no biases).
        weight_decay, learning_rate: of what is no embedding.
        table_learning_rate: of the tables.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, MotifTable)}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    names = set(decayed)
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": [], "weight_decay": weight_decay, "lr": learning_rate},
        {"name": "without decay", "params": [], "weight_decay": 0.0, "lr": learning_rate},
        {"name": "tables", "params": [], "weight_decay": 0.0, "lr": table_learning_rate},
    ]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = id(parameter) in embeddings or name not in names
            groups[2 if id(parameter) in tables else int(plain)]["params"].append(parameter)
    return [group for group in groups if group["params"]]


__all__ = ["group_parameters"]
