"""Which rows train and which validate? Splits by groups of similar sequences, by a column, or by chromosome."""

import difflib
import unicodedata

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from gengram.errors import InputError, suggest
from gengram.genome.columns import list_texts, read_column
from gengram.genome.contigs import fold_name, match_names, tell_renamed
from gengram.genome.tables import read_identifiers, shorten
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.arguments import SIMILARITY
from gengram.training.data.duplicates import group_sequences

CHROMOSOME_COLUMNS = ("chrom", "chr", "chromosome", "contig", "seqname")
"""Names under which the column of chromosomes is looked for, in this order; upper and lower case are the same."""

_VARIANTS = (
    "Are they variants of a few sequences? --group_column COLUMN divides by the sequence that they are of, and "
    "--group_similarity 1 lets variants of one sequence train and validate. "
)


def split_validation(
    dataset: Dataset,
    fraction: float,
    seed: int,
    similarity: float = SIMILARITY,
    group_column: str | None = None,
    path: str = "",
) -> tuple[Dataset, Dataset]:
    """Split rows into training and validation; rows with one class each are stratified by class.

    Copies of a sequence, its reverse complement and near-duplicates of either go to the same side, see
    `group_sequences`, so that validation never sees what training has seen. A group is stratified by its first row's
    class.

    Args:
        dataset: N rows with `sequence` (string); stratified if `label` is a `ClassLabel`.
        fraction: share of the groups that validate, between 0 and 1.
        seed: of the split; the same seed gives the same split, whatever the seed of the training.
        similarity: from which on two sequences are near-duplicates; 1: only copies and reverse complements are.
        group_column: whose rows of one value go to the same side too, with the near-duplicates of each.
        path: where the rows are from, for messages.

    Returns:
        The training and the validation rows, both in the order of the file.

    Raises:
        `InputError`: a class with fewer than two groups, or too few groups for each class on each side; no such column,
            or a row without a value.
    """
    with phase("Grouping near-duplicates", "rows") as grouping:
        groups = group_sequences(list_texts(dataset), similarity)
        grouping.add(len(dataset))
    if group_column is not None:
        groups = _join_values(groups, dataset, group_column, path)
    distinct, first_rows = np.unique(groups, return_index=True)
    feature = dataset.features.get("label")
    strata = read_column(dataset, "label").to_numpy()[first_rows] if isinstance(feature, ClassLabel) else None
    class_names = feature.names if isinstance(feature, ClassLabel) else [""]
    counts = np.bincount(strata, minlength=len(class_names)) if strata is not None else np.array([len(distinct)])
    held_out = int(np.ceil(fraction * len(distinct)))
    if counts.min() < 2 or min(held_out, len(distinct) - held_out) < len(class_names):
        rarest = class_names[counts.argmin()]
        raise InputError(
            f"validation_fraction={fraction}: cannot put {'every class' if rarest else 'rows'} on both sides of a "
            f"split of {len(distinct)} distinct sequences"
            + (f" (the rarest class, {rarest!r}, has {counts.min()})" if rarest else "")
            + f"; near-duplicates, similarity {similarity} or more, count as one"
            + (f", and so do rows with one {group_column!r}. " if group_column is not None else ". ")
            + (_VARIANTS if similarity < 1 and len(dataset) > 2 * len(distinct) else "")
            + "Give a validation_file, another fraction, or validation_fraction=0 to train without validation."
        )
    with phase("Splitting", "rows") as splitting:
        _, validation_groups = train_test_split(distinct, test_size=held_out, stratify=strata, random_state=seed)
        splitting.add(len(dataset))
        return _divide(dataset, np.isin(groups, validation_groups))


def split_chromosomes(
    dataset: Dataset, chromosomes: list[str], path: str, argument: str
) -> tuple[Dataset, Dataset, dict[str, str]]:
    """Take the rows of some chromosomes out.

    Args:
        dataset: N rows with one of `CHROMOSOME_COLUMNS`; a BED file and FASTA names like `chr3:100-200` bring it.
        chromosomes: names as they are in that column, or as another custom has them, see `match_names`.
        path: where the rows are from, for messages.
        argument: the name of the argument that has the chromosomes, for messages.

    Returns:
        The rows of the other chromosomes and the rows of these, both in the order of the file; the names of that column
        for those of `chromosomes` that are others.

    Raises:
        `InputError`: there is no such column, a row has nothing in it, a chromosome has no rows, or has more under
            another name; no rows are left.
    """
    lower = {name.lower(): name for name in dataset.column_names}
    column = next((lower[name] for name in CHROMOSOME_COLUMNS if name in lower), None)
    if column is None:
        raise InputError(
            f"{path}: {argument} needs a column {' or '.join(map(repr, CHROMOSOME_COLUMNS))}; the columns are "
            f"{shorten(_list_columns(dataset))}"
        )
    values = _read_values(dataset, column, path)
    chromosomes = [unicodedata.normalize("NFC", chromosome) for chromosome in chromosomes]
    present = sorted(set(values.tolist()))
    meant: dict[str, str] = {}
    for chromosome in chromosomes:
        match = match_names({chromosome: None}, dict.fromkeys(present))  # two names of one are no harm here
        if chromosome not in match.found:
            close = difflib.get_close_matches(chromosome, present, n=1)
            told = f"; did you mean {close[0]!r}?" if close else "."
            if doubt := match.doubts.get(chromosome):
                told = f". {doubt}."
            raise InputError(
                f"{path}: {argument}: no row is on {chromosome!r}{told} The column {column!r} has {shorten(present)}."
            )
        meant |= match.found
    folded = {fold_name(chromosome): chromosome for chromosome in meant.values()}
    if more := [other for other in present if other not in meant.values() and fold_name(other) in folded]:
        raise InputError(
            f"{path}: {argument}: rows are on {folded[fold_name(more[0])]!r} and on {more[0]!r}; if both are one "
            "chromosome, name both here, or give it one name in the file"
        )
    taken = np.isin(values, list(meant.values()))
    renamed = {name: contig for name, contig in meant.items() if name != contig}
    if told := tell_renamed(renamed, f"{path}: {argument}: chromosomes have other names there"):
        tell(told)
    if taken.all():
        raise InputError(f"{path}: {argument}: all rows are on {shorten(chromosomes)}, none are left for training")
    return *_divide(dataset, taken), renamed


def _join_values(groups: np.ndarray, dataset: Dataset, column: str, path: str) -> np.ndarray:
    """Join groups, int64 (N,), that have rows with one value of a column; numbered in the order of their first rows."""
    if column not in dataset.column_names:
        others = [name for name in _list_columns(dataset) if name not in ("sequence", "label", "labels")]
        raise InputError(
            f"{path}: --group_column: no column {column!r}{suggest(column, others) or '.'} Beside sequences and "
            f"labels, the file has {shorten(others) if others else 'none'}."
        )
    _, values = np.unique(_read_values(dataset, column, path), return_inverse=True)
    edges = coo_matrix((np.ones(len(groups), dtype=np.int8), (groups, groups.max() + 1 + values)))
    size = int(groups.max() + values.max()) + 2
    edges.resize(size, size)
    _, joined = connected_components(edges, directed=False)
    _, first, numbers = np.unique(joined[groups], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def _list_columns(dataset: Dataset) -> list[str]:
    """Return the columns that rows have from their file, under the names that sequences and labels have here."""
    made = ("data_row", "input_ids", "attention_mask")
    return [name for name in dataset.column_names if name not in made]


def _read_values(dataset: Dataset, column: str, path: str) -> np.ndarray:
    """Return a name for each row: text as it is, 7 and 7.0 of other formats as `7`, an id of a class as its name."""
    feature, values = dataset.features[column], read_column(dataset, column)
    if isinstance(feature, ClassLabel) and feature.names:
        names = [feature.names[one] if one is not None and one >= 0 else None for one in values.to_pylist()]
        values = pa.chunked_array([pa.array(names, pa.string())])
    return np.asarray(read_identifiers(values, path, column))


def _divide(dataset: Dataset, taken: np.ndarray) -> tuple[Dataset, Dataset]:
    return dataset.select(np.flatnonzero(~taken)), dataset.select(np.flatnonzero(taken))


__all__ = ["CHROMOSOME_COLUMNS", "split_chromosomes", "split_validation"]
