"""Which rows train, validate and test? Files, a folder with one file a split, or a data set of the Hub."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, Value, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.csv.csv import CsvConfig

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.genome.columns import read_columns
from gengram.genome.contigs import Genome
from gengram.genome.formats import SUFFIXES, find_format
from gengram.genome.intervals import require_values
from gengram.genome.tables import SEQUENCE_COLUMNS, add_labels, arrange_rows, read_rows, type_columns
from gengram.loading.checkpoints import is_hub_id
from gengram.loading.hub import require_repository
from gengram.training.arguments import DataArguments
from gengram.training.data.labels import LABEL_COLUMNS

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}
"""What splits are called in folders and data sets, in the order of preference."""

# What looking for a data set can raise: no network, no such id, broken or foreign files.
_LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    StopIteration,
    DatasetsError,
    pa.ArrowException,
)


@dataclasses.dataclass(frozen=True)
class Source:
    """The rows of one split as they were found.

    Attributes:
        name: the file, or data set and split; for messages and the report.
        rows: of `read_rows`.
        sha256: of the file's bytes; of a data set, of its sequences, one a line.
        label_columns: where the labels are by default, if not in a column of `LABEL_COLUMNS`.
        label_file, label_sha256: the table that the labels are from, if they have a file of their own.
    """

    name: str
    rows: Dataset
    sha256: str
    label_columns: list[str] | None = None
    label_file: str | None = None
    label_sha256: str | None = None

    @property
    def labels_from(self) -> str:
        """Where a label is, for messages that count data rows: a table of labels may have others, in another order."""
        return self.name if self.label_file is None else f"{self.label_file} (rows counted as in {self.name})"


def read_sources(arguments: DataArguments, genome: Genome | None = None) -> dict[str, Source]:
    """Read the rows of `train`, and where there are such rows of `validation` and `test`.

    Args:
        arguments: which files, data set and columns.
        genome: of `arguments.open_genome`; it has afterwards which contigs were found under other names.

    Raises:
        `InputError`: see `read_rows`; a data set that is not there or cannot be reached, or that has no split `train`.
    """
    if arguments.dataset is None:
        files = {"train": arguments.train_file, "validation": arguments.validation_file, "test": arguments.test_file}
        given = {split: file for split, file in files.items() if file is not None}
        label_files: list[str] | list[None] = arguments.label_files or [None] * len(given)
        return {
            split: read_file(file, arguments, label_file=label_file, genome=genome)
            for (split, file), label_file in zip(given.items(), label_files, strict=True)
        }
    folder = Path(arguments.dataset)
    if arguments.dataset_config is not None and (folder / arguments.dataset_config).is_dir():
        folder = folder / arguments.dataset_config
    if found := _find_files(folder):
        return {split: read_file(str(file), arguments, genome=genome) for split, file in found.items()}
    loaded = load_splits(
        str(arguments.dataset), arguments.dataset_config, arguments.dataset_revision, _find_text_columns(arguments)
    )
    sources = {}
    for split, names in SPLIT_NAMES.items():
        if name := next((name for name in names if name in loaded), None):
            origin = f"{arguments.dataset} ({name})"
            rows = arrange_rows(loaded[name], origin, arguments.sequence_column)
            sources[split] = Source(origin, rows, hash_texts(rows))
    if "train" not in sources:
        raise InputError(f"{arguments.dataset}: no split is called 'train'; the splits are {', '.join(loaded)}")
    return sources


def hash_texts(rows: Dataset) -> str:
    """Return the SHA-256 of the sequences of all rows, one a line."""
    digest, between = hashlib.sha256(), b""
    for block in read_columns(rows, ["sequence"]):
        digest.update(between + "\n".join(block["sequence"].to_pylist()).encode())
        between = b"\n"
    return digest.hexdigest()


def read_file(
    file: str,
    arguments: DataArguments,
    needs_labels: bool = True,
    label_file: str | None = None,
    genome: Genome | None = None,
) -> Source:
    """Read one file, see `read_rows`, and its labels where they are in another one, see `add_labels`."""
    text_columns = _find_text_columns(arguments)
    genome = genome or arguments.open_genome()
    rows = read_rows(
        file, arguments.sequence_column, text_columns, genome, needs_labels and not label_file, narrow=True
    )
    if label_file is not None:
        rows = add_labels(rows, file, label_file, text_columns, narrow=True)
        return Source(file, rows, hash_file(file), None, label_file, hash_file(label_file))
    # A BED file has its labels in the fourth column, unless its columns have names.
    named = [name for name in rows.column_names if name.lower() in LABEL_COLUMNS]
    is_bed = find_format(file) == ".bed"
    if is_bed and needs_labels:
        for column in arguments.label_column or named or ["name"]:
            require_values(file, column)  # What reads labels of tables knows rows, not lines.
    return Source(file, rows, hash_file(file), ["name"] if is_bed and not named else None)


def _find_text_columns(arguments: DataArguments) -> list[str]:
    """Return the columns in which digits may be names: that of a single label and that of the sequences."""
    wanted = arguments.label_column or []
    sequences = [arguments.sequence_column] if arguments.sequence_column else SEQUENCE_COLUMNS
    return [*sequences, *LABEL_COLUMNS, *(wanted if len(wanted) == 1 else [])]


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the file of each split in a folder of files that `read_rows` reads; none if there is no `train`."""
    found = {}
    for split, names in SPLIT_NAMES.items():
        files = [folder / f"{name}{suffix}{gz}" for name in names for suffix in SUFFIXES for gz in ("", ".gz")]
        files = [file for file in files if file.is_file()]
        if len(files) > 1:
            raise InputError(f"{folder}: two files for the split {split!r}: {files[0].name} and {files[1].name}")
        if files:
            found[split] = files[0]
    return found if "train" in found else {}


def load_splits(
    path: str, config: str | None, revision: str | None, text_columns: Iterable[str]
) -> dict[str, pa.Table]:
    """Load a data set of the Hub, or a folder that `datasets` reads.

    Args:
        path: `organization/name`, or the folder.
        config, revision: of `datasets.load_dataset`.
        text_columns: of csv files, what stays text, see `type_columns`.

    Returns:
        The table of each split, with the types that the data set says, else those of `read_rows`.

    Raises:
        `InputError`: it is not there, or cannot be read.
    """
    options: dict[str, Any] = {}
    if is_hub_id(path):
        require_repository(path, "dataset")
    try:
        if (Path(path) / "dataset_dict.json").is_file() or (Path(path) / "state.json").is_file():
            loaded = load_from_disk(path)
        else:
            builder = load_dataset_builder(path, config, revision=revision)
            if isinstance(builder.config, CsvConfig) and builder.info.features is None:
                # Its types would be guessed: 0001 is 1 then, 2310009E13 a number, the class NA missing.
                first = next(iter(next(iter(builder.as_streaming_dataset().values()))))
                kinds = Features({name: Value("string") for name in first})
                options = {"features": kinds, "keep_default_na": False, "na_values": [""]}
            loaded = load_dataset(path, config, revision=revision, **options)
    except _LOADING_ERRORS as error:
        here = "it is no folder here, and from the Hub"
        fetch = f"gengram models fetch --dataset {path} --to FOLDER"
        remedy = f"Without a network: fetch it elsewhere (`{fetch}`) and give the folder."
        if Path(path).is_dir():
            here, remedy = "this folder", "Its tables are found by their names: train.csv, validation.csv, test.csv."
        why = (str(error) or type(error).__name__).rstrip(".")
        raise InputError(f"dataset={path!r}: {here} cannot be read as a data set: {why}. {remedy}") from error
    splits = loaded if isinstance(loaded, DatasetDict) else DatasetDict({"train": loaded})
    tables = {}
    for split, rows in splits.items():
        table = rows.flatten_indices().data.table
        if options:
            tables[str(split)] = type_columns(table.column_names, table, text_columns)
        else:
            tables[str(split)] = table.replace_schema_metadata(rows.features.arrow_schema.metadata)
    return tables


__all__ = ["SPLIT_NAMES", "Source", "hash_texts", "load_splits", "read_file", "read_sources"]
