"""How is a published checkpoint used, and what stands in the way? Sentences for a terminal and for messages."""

from gengram.catalogue.rows import ModelRow, find_model_row, list_models
from gengram.errors import suggest

# Architectures that have no head for classes, so there is nothing to fine-tune.
WITHOUT_CLASSES = frozenset({"mamba", "ntv3_posttrained", "segment_nt"})
_WHY = {
    "convert": "it is a Megatron checkpoint, which is converted first",
    "remote_code": "it needs code that lies in its repository, and such code is never run",
    "planned": "gengram does not load it yet; classes for it are planned",
    "elsewhere": "it loads by a package of its authors only",
}


def describe_use(row: ModelRow) -> list[str]:
    """Return lines on how it is used, with command lines."""
    if row.loads in ("gengram", "transformers"):
        by = "gengram's own classes" if row.loads == "gengram" else "classes of transformers"
        uses = [f"  gengram embed sequences.fa --model {row.id} --out embeddings.parquet"]
        if row.model_type == "segment_nt":
            uses = [f"  gengram segment genome.fa --model {row.id} --out tracks"]
        if row.model_type not in WITHOUT_CLASSES:
            uses.append(
                f"  gengram finetune --train_file train.csv --test_file test.csv --model {row.id} --out runs/mine"
            )
        return [f"It loads by {by}; no code of the repository is run:", *uses]
    why = f"{_WHY[row.loads][0].upper()}{_WHY[row.loads][1:]}"
    if row.loads == "convert":
        name = row.id.partition("/")[2]
        last = f"gengram embed sequences.fa --model {name}-hf --out embeddings.parquet"
        return [f"{why}:", *(f"  {line}" for line in (*_write_conversion(row), last))]
    return [f"{why}.", *([f"Instead: {row.instead}"] if row.instead else [])]


def tell_obstacle(id: str) -> str:
    """Return why no verb can load a checkpoint as it is, and what to do about it, for the end of a message; empty if
    one can, or if the catalogue does not know it."""
    row = find_model_row(id)
    if row is None or row.loads not in _WHY:
        return ""
    if row.loads == "convert":
        return f"{_WHY[row.loads]}: {', then '.join(f'`{line}`' for line in _write_conversion(row))}"
    return f"{_WHY[row.loads]}.{f' What loads instead: {row.instead}' if row.instead else ''}"


def _write_conversion(row: ModelRow) -> list[str]:
    name = row.id.partition("/")[2]
    return [f"hf download {row.id} --local-dir {name}", f"gengram convert megatron {name} --out {name}-hf"]


def suggest_id(id: str) -> str:
    """Return a question that names a similar id, also for one without its organization, for the end of a message; empty
    if none is."""
    ids = {row.id.casefold(): row.id for row in list_models()}
    names = {row.id.casefold().partition("/")[2]: row.id for row in list_models()}
    for known, word in ((ids, id.casefold()), (names, id.casefold().rpartition("/")[2])):
        if word in known:
            return f"; did you mean {known[word]!r}?"
        if question := suggest(word, known):
            return f"; did you mean {known[question.split(chr(39))[1]]!r}?"
    return ""


__all__ = ["WITHOUT_CLASSES", "describe_use", "suggest_id", "tell_obstacle"]
