"""The files of GENA-LM's downstream tasks as tables that `gengram finetune --dataset` reads.

Formats: AIRI-Institute/GENA_LM, downstream_tasks (see docs/gena.md). A folder gets one table a split, `README.md` with
what was done to which files, and `SHA256SUMS`. The tables can go up with `gengram dataset push`.

Promoters are the one task whose published division into folds is not kept by default: every negative is a shuffled
positive of the same file, and most of these pairs lie in different folds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from gengram.command_line import complain
from gengram.errors import InputError
from gengram.files import hash_file, make_whole, write_text
from gengram.genome.tables import add_labels, read_rows
from gengram.markdown import escape_text, format_table

FOLDS = 5
CHROMATIN = {"dnase": 125, "factor": 690, "histone": 104}
"""DeepSEA's 919 labels in their order: DNase I sites, transcription factors, histone marks."""
ACTIVITIES = ("Dev_log2_enrichment", "Hk_log2_enrichment")
"""DeepSTARR's targets: log2 enrichment with a developmental and with a housekeeping promoter."""
FLANK = 5000
"""Bases of a splice-site row before its first label and after its last one."""


def build_promoters(
    source: str | Path, output: str | Path, *, fold: int = 1, folds: str = "leak_free"
) -> dict[str, int]:
    """
    Divide the promoters of EPDnew: one fold tests, the next one validates, three train.

    Args:
        source: folder with fold_1.csv[.gz] ... fold_5.csv[.gz] (`sequence`, `promoter_presence`), for `leak_free` also
            groups.csv (`fold`, `row`, `fold_leakfree`).
        output: folder to make; its tables have `sequence`, `label` (1: promoter, 0: shuffled), and `fold` and `row` of
            the original.
        fold: that tests, 1 to 5.
        folds: `leak_free`, which keep a promoter, its shuffle and promoters that overlap it together; or `published`.

    Returns:
        Rows of each split.

    Raises:
        `InputError`: a file that is missing or does not fit, a fold or division that there is not.
    """
    if folds not in ("leak_free", "published"):
        raise InputError(f"folds={folds!r}: choose leak_free or published")
    if not 1 <= fold <= FOLDS:
        raise InputError(f"fold={fold}: choose 1 to {FOLDS}")
    source = Path(source)
    files = [_find(source, f"fold_{number}.csv") for number in range(1, FOLDS + 1)]
    parts = []
    for number, file in enumerate(files, start=1):
        rows = read_rows(file).to_pandas()
        if "promoter_presence" not in rows:
            raise InputError(f"{file}: no column 'promoter_presence'")
        parts.append(
            pd.DataFrame(
                {
                    "sequence": rows["sequence"],
                    "label": rows["promoter_presence"],
                    "fold": number,
                    "row": np.arange(len(rows)),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    place = table["fold"]
    if folds == "leak_free":
        files.append(_find(source, "groups.csv"))
        groups = pd.read_csv(files[-1])
        merged = table.merge(groups[["fold", "row", "fold_leakfree"]], on=["fold", "row"], how="left", validate="1:1")
        if merged["fold_leakfree"].isna().any():
            first = merged[merged["fold_leakfree"].isna()].iloc[0]
            raise InputError(f"{files[-1]}: no line for row {first['row']} of fold {first['fold']}")
        place = merged["fold_leakfree"].astype(int)
    validation = fold % FOLDS + 1
    splits = {
        "train": table[~place.isin([fold, validation])],
        "validation": table[place == validation],
        "test": table[place == fold],
    }
    note = (
        f"Promoters of EPDnew (label 1) and the same sequences with 12 of their 20 blocks of 15 bp shuffled (label 0). "
        f"Folds: {folds.replace('_', '-')}; fold {fold} tests, fold {validation} validates."
    )
    return _write(output, splits, files, note)


def build_splice_sites(sources: dict[str, str | Path], output: str | Path) -> dict[str, int]:
    """
    Read SpliceAI's rows: 15,000 bp, and a label for each of the 5,000 in the middle.

    Args:
        sources: split -> csv without header: the sequence, then 5,000 labels (0: none, 1 and 2: the two kinds of
            sites, -1: beyond the transcript).
        output: folder to make; its tables have `sequence` and `label`, a list with one label a base: -1 at the flanks.

    Raises:
        `InputError`: another number of bases or labels, a label that there is not.
    """

    def convert(rows: Dataset, file: Path) -> pd.DataFrame:
        frame = rows.to_pandas()
        names = [name for name in frame if name != "sequence"]
        labels = frame[names].to_numpy()
        lengths = frame["sequence"].str.len().to_numpy()
        if (wrong := lengths != len(names) + 2 * FLANK).any():
            row = int(wrong.argmax())
            raise InputError(
                f"{file}, data row {row + 1}: {lengths[row]} bp for {len(names)} labels; {FLANK} bp more on each side "
                "are needed"
            )
        if not np.isin(labels, (-1, 0, 1, 2)).all():
            row = int((~np.isin(labels, (-1, 0, 1, 2))).any(1).argmax())
            raise InputError(f"{file}, data row {row + 1}: a label is none of -1, 0, 1, 2")
        padded = np.pad(labels.astype(np.int8), ((0, 0), (FLANK, FLANK)), constant_values=-1)
        return pd.DataFrame({"sequence": frame["sequence"], "label": list(padded)})

    note = f"Splice sites of SpliceAI. Labels of bases, -1 at the {FLANK:,} bp of context on either side."
    return _convert(sources, output, convert, note, "parquet")


def encode_splice_sites(
    sequence: str, labels: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, np.ndarray]:
    """
    Encode a row of `build_splice_sites` for a model whose tokens are longer than a base, as GENA-LM was trained.

    The labelled middle and its flanks are read on their own: `[CLS] left [SEP] middle [SEP] right [SEP]`. A token of
    the middle has the labels of all its bases. The flanks are cut to the same length, so that everything fits.

    Args:
        sequence: L bp.
        labels: integers [L]: 0, 1, 2, or -1 where nothing is known.
        tokenizer: with `[CLS]` and `[SEP]`, and offsets.
        max_length: T tokens at most; the middle has to fit.

    Returns:
        `input_ids` int64 [T], `labels` float32 [T, 3] for `GenaBertForTokenClassification` with several labels,
        `labels_mask` bool [T]: the tokens of the middle with a base that has a label.

    Raises:
        `ValueError`: no base has a label, or the middle does not fit.
    """
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise ValueError("no base has a label")
    start, end = min(known[0], FLANK), max(known[-1] + 1, len(sequence) - FLANK)
    left, right = (_read_tokens(tokenizer, part)[0] for part in (sequence[:start], sequence[end:]))
    middle, offsets = _read_tokens(tokenizer, sequence[start:end])
    room = max_length - len(middle) - 4
    if room < 0:
        raise ValueError(f"the middle of {end - start} bp is {len(middle)} tokens; with 4 more it exceeds {max_length}")
    before = min(len(left), max(room // 2, room - len(right)))
    after = min(len(right), room - before)
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    ids = np.concatenate([cls, left[len(left) - before :], sep, middle, sep, right[:after], sep]).astype(np.int64)
    classes = np.arange(3)
    spans = [labels[start + a : start + b] for a, b in offsets]
    place = before + 2
    targets = np.zeros((len(ids), 3), dtype=np.float32)
    targets[place : place + len(middle)] = [(span[:, None] == classes).any(0) for span in spans]
    mask = np.zeros(len(ids), dtype=bool)
    mask[place : place + len(middle)] = [(span >= 0).any() for span in spans]
    return {"input_ids": ids, "labels": targets, "labels_mask": mask}


def build_chromatin(sources: dict[str, str | Path], output: str | Path) -> dict[str, int]:
    """
    Read DeepSEA's rows: a sequence and 919 labels, which get the names of their groups.

    Args:
        sources: split -> csv without header: the sequence, then 919 times 0 or 1.
        output: folder to make; its tables have `sequence` and `label_dnase_0` ... `label_histone_103`.

    Raises:
        `InputError`: another number of labels, or one that is not 0 or 1.
    """
    names = [f"label_{group}_{number}" for group, count in CHROMATIN.items() for number in range(count)]

    def convert(rows: Dataset, file: Path) -> pd.DataFrame:
        frame = rows.to_pandas()
        if frame.shape[1] != len(names) + 1:
            raise InputError(f"{file}: {frame.shape[1] - 1} labels a row, not DeepSEA's {len(names)}")
        frame.columns = pd.Index(["sequence", *names])
        labels = frame[names].to_numpy()
        if not np.isin(labels, (0, 1)).all():
            row = int((~np.isin(labels, (0, 1))).any(1).argmax())
            raise InputError(f"{file}, data row {row + 1}: a label is neither 0 nor 1")
        return frame.astype(dict.fromkeys(names, np.int8))

    note = "Chromatin of DeepSEA: " + ", ".join(
        f"{count} labels label_{group}_..." for group, count in CHROMATIN.items()
    )
    return _convert(sources, output, convert, note + ".", "parquet")


def build_enhancers(sources: dict[str, tuple[str | Path, str | Path]], output: str | Path) -> dict[str, int]:
    """
    Read DeepSTARR's sequences and activities.

    Args:
        sources: split -> FASTA file, and the table of activities in the same order.
        output: folder to make; its tables have `sequence`, `name` and the `ACTIVITIES`.

    Raises:
        `InputError`: see `add_labels`; an activity that is missing.
    """
    splits, files = {}, []
    for split, (fasta, activities) in sources.items():
        rows = add_labels(read_rows(fasta, needs_labels=False), fasta, activities).to_pandas()
        if lacking := [name for name in ACTIVITIES if name not in rows]:
            raise InputError(f"{activities}: no column {lacking[0]!r}")
        splits[split] = rows[["sequence", *(["name"] if "name" in rows else []), *ACTIVITIES]].rename(
            columns={name: f"target_{name}" for name in ACTIVITIES}
        )
        files += [Path(fasta), Path(activities)]
    return _write(output, splits, files, "Enhancer activities of DeepSTARR, log2 enrichments.")


def build_polyadenylation(
    source: str | Path, output: str | Path, *, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """
    Divide APARENT's rows; all of a library's variants of one sequence stay on one side as far as they are equal.

    GENA-LM's script chose the checkpoint by the test rows. Here validation rows are drawn for that.

    Args:
        source: csv with `seq_ext` (256 bp around the 186 of `seq`), `library` and `target`, the share of transcripts
            that end at the proximal site.
        output: folder to make; its tables have `sequence` (`seq_ext`), `target` and `library`.
        validation, test: shares of the distinct sequences.
        seed: of the draw.

    Raises:
        `InputError`: a column that is missing, a target that is no share, shares that leave nothing to train on.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(f"validation={validation}, test={test}: together they must be below 1")
    file = Path(source)
    rows = read_rows(file, sequence_column="seq_ext").to_pandas()
    if lacking := [name for name in ("library", "target") if name not in rows]:
        raise InputError(f"{file}: no column {lacking[0]!r}")
    if (wrong := ~rows["target"].between(0, 1)).any():
        raise InputError(f"{file}, data row {int(wrong.to_numpy().argmax()) + 1}: the target is no share from 0 to 1")
    distinct = np.sort(rows["sequence"].unique())
    drawn = np.random.default_rng(seed).permutation(len(distinct))
    bounds = np.floor(np.cumsum([test, validation]) * len(distinct)).astype(int)
    side = pd.Series(np.searchsorted(bounds, np.argsort(drawn), side="right"), index=distinct)
    place = rows["sequence"].map(side)
    table = rows[["sequence", "target", "library"]]
    splits = {name: table[place == number] for number, name in enumerate(("test", "validation", "train"))}
    note = f"Polyadenylation of APARENT. Equal sequences are on one side; drawn with seed {seed}."
    return _write(output, {name: part for name, part in splits.items() if len(part)}, [file], note)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(
        prog="python -m gengram.benchmarks.builders.gena",
        description="Turn the published files of GENA-LM's tasks into tables for `gengram finetune --dataset`.",
        epilog="examples:\n"
        "  python -m gengram.benchmarks.builders.gena promoters len_300 promoters\n"
        "  python -m gengram.benchmarks.builders.gena chromatin deepsea --train train.csv.gz --test test.csv.gz\n"
        "  python -m gengram.benchmarks.builders.gena enhancers deepstarr --train train.fa train.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    promoters = tasks.add_parser("promoters", help="EPDnew: a folder of folds")
    promoters.add_argument("source", help="folder with fold_1.csv.gz ... and groups.csv")
    promoters.add_argument("output", help="folder to make")
    promoters.add_argument("--fold", type=int, default=1, help="that tests (default: 1)")
    promoters.add_argument("--folds", default="leak_free", choices=["leak_free", "published"])
    promoters.set_defaults(build=build_promoters)
    polyadenylation = tasks.add_parser("polyadenylation", help="APARENT: one table")
    polyadenylation.add_argument("source", help="csv with seq_ext, library, target")
    polyadenylation.add_argument("output", help="folder to make")
    polyadenylation.set_defaults(build=build_polyadenylation)
    for name, builder, files in (
        ("splice-sites", build_splice_sites, 1),
        ("chromatin", build_chromatin, 1),
        ("enhancers", build_enhancers, 2),
    ):
        task = tasks.add_parser(name, help=(builder.__doc__ or "").split("\n")[1].strip())
        task.add_argument("output", help="folder to make")
        for split in ("train", "validation", "test"):
            task.add_argument(f"--{split}", nargs=files, metavar="FILE", required=split == "train")
        task.set_defaults(build=builder)
    arguments = vars(parser.parse_args(argv))
    build: Callable[..., dict[str, int]] = arguments.pop("build")
    if arguments.pop("task") not in ("promoters", "polyadenylation"):
        given = {name: arguments.pop(name) for name in ("train", "validation", "test")}
        arguments["sources"] = {
            split: files[0] if len(files) == 1 else tuple(files) for split, files in given.items() if files
        }
    try:
        counts = build(**arguments)
    except (InputError, OSError) as error:
        return complain("gena", str(error))
    print(*(f"{split}: {count:,} rows" for split, count in counts.items()), arguments["output"], sep="\n")
    return 0


def _read_tokens(tokenizer: PreTrainedTokenizerBase, sequence: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    encoded = tokenizer(
        sequence, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    return np.array(encoded["input_ids"], dtype=np.int64), encoded["offset_mapping"]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{folder}: no {name} or {name}.gz")


def _convert(
    sources: dict[str, Any], output: str | Path, convert: Callable[[Dataset, Path], pd.DataFrame], note: str, kind: str
) -> dict[str, int]:
    files = {split: Path(file) for split, file in sources.items()}
    splits = {split: convert(read_rows(file), file) for split, file in files.items()}
    return _write(output, splits, list(files.values()), note, kind)


def _write(
    output: str | Path, splits: dict[str, pd.DataFrame], files: list[Path], note: str, kind: str = "csv.gz"
) -> dict[str, int]:
    """Write the tables, README.md and SHA256SUMS, all of them or none."""
    output = Path(output)
    if output.exists():
        raise InputError(f"{output} is there already: choose another folder")
    counts = {split: len(rows) for split, rows in splits.items()}
    table = format_table(["split", "rows"], [[split, f"{count:,}"] for split, count in counts.items()], numbers=[1])
    lines = [note, "", table, "", "Made from:", ""]
    lines += [f"- {escape_text(file.name)}, sha256 {hash_file(file)}" for file in files]
    with make_whole(output) as partial:
        for split, rows in splits.items():
            path = partial / f"{split}.{kind}"
            if kind == "parquet":
                rows.to_parquet(path, index=False)
            else:
                rows.to_csv(path, index=False, compression={"method": "gzip", "mtime": 0})
        write_text("\n".join(lines) + "\n", partial / "README.md")
        sums = [f"{hash_file(path)}  {path.name}" for path in sorted(partial.iterdir())]
        write_text("\n".join(sums) + "\n", partial / "SHA256SUMS")
    return counts


__all__ = [
    "ACTIVITIES",
    "CHROMATIN",
    "FLANK",
    "build_chromatin",
    "build_enhancers",
    "build_polyadenylation",
    "build_promoters",
    "build_splice_sites",
    "encode_splice_sites",
    "main",
]

if __name__ == "__main__":
    sys.exit(main())
