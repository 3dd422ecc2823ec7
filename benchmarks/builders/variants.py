"""Pairs of windows with the reference and the alternative allele of a variant, as the Long-Range Benchmark has them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.tables import shorten
from gengram.genome.values import is_text
from gengram.genome.variants import Header, Record, get_values, read_variants

from .folder import Built
from .genome import Finder, StoredGenome, read_contig_names, store_genome
from .places import NAMES, PlaceTable, RowCollector, finish, is_vcf, keep_name, order_labels, plan_schema
from .window_rows import RESERVED, Cutting, Output, TaskPlan, Window, centre, has_many_n, write_task
from .window_splits import SplitRule

REFS = ("ref", "reference", "ref_allele", "reference_allele")
ALTS = ("alt", "alternative", "alternate", "alt_allele", "alternate_allele")
_LETTERS = re.compile("[ACGTN]+")
_TAKEN = (*RESERVED, "position", "ref", "alt")
_END, _N = "windows at the end of a contig", "windows with too many N"


class ReferenceCheck:
    """Compares reference alleles with the genome.

    Args:
        genome: that they are of.
        skip: whether rows that disagree are left out and counted; if not, the first is an error.
        counts: of what is left out.
    """

    def __init__(self, genome: StoredGenome, skip: bool, counts: Counter[str]):
        self.genome, self.skip, self.counts = genome, skip, counts

    def agrees(self, where: str, record: int, start: int, ref: str) -> bool:
        """Whether the genome has these letters; N in one of them fits every letter, but such a row is left out.

        Raises:
            `InputError`: it has others, naming both.
        """
        there = self.genome.read(record, start, start + len(ref))
        if there == ref:
            if "N" in there:
                self.counts["variants where the genome has N"] += 1
                return False
            return True
        place = next(
            (place for place, (one, other) in enumerate(zip(ref, there)) if one != other and "N" not in (one, other)),
            None,
        )
        if place is None:
            self.counts["variants where the genome has N"] += 1
            return False
        if self.skip:
            self.counts["variants whose REF is not what the genome has"] += 1
            return False
        position = self.genome.offsets[record] + start + place + 1
        raise InputError(
            f"{where}: REF has {ref[place]!r} at {self.genome.chroms[record]}:{position}, but the genome "
            f"{self.genome.path} has {there[place]!r} there. Is the file of another assembly, or are its contigs named "
            "otherwise (--contigs)? --skip_mismatches leaves such variants out"
        )


class _Variant(NamedTuple):
    where: str
    record: int
    start: int
    ref: str
    alt: str
    label: Any
    name: str | None
    cells: dict[str, Any]


def build_variants(
    genome: str,
    variants: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    label_column: str = "label",
    contigs: Sequence[str] = (),
    skip_mismatches: bool = False,
    pad: bool = False,
    max_n: float = 1.0,
) -> Built:
    """Make a task of pairs: windows with the reference and with the alternative allele.

    The variant's first base is at `length // 2` of both windows, from 0. Behind an insertion or a deletion the genome
    goes on, so that both windows have the same length.

    Args:
        genome: a FASTA file.
        variants: a table or VCF file with labels; or `CLASS=FILE`, one for each class.
        length: of windows, in bp.
        out: where to.
        rule: of the splits.
        label_column: of a table, or the INFO key of a VCF file. Text is classes; a column of decimal numbers is a
            regression's.
        contigs: of `read_contig_names`.
        skip_mismatches: whether variants whose REF the genome does not have are left out; if not, they are an error.
        pad, max_n: see `Cutting`.

    Raises:
        `InputError`: see `PlaceTable`, `ReferenceCheck`, `write_task`.
    """
    cutting = Cutting(length, pad, max_n)
    files = _name_files(variants)
    out.check(genome, *files.values())
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        check = ReferenceCheck(stored, skip_mismatches, counts)
        plan, is_number = _plan(stored, files, label_column, read_contig_names(contigs), check, cutting)
        rows = len(plan)
        if not rows:
            told = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
            raise InputError(f"{', '.join(files.values())}: no variant is left ({told or 'the files have none'})")
        classes = None if is_number else order_labels(plan["label"].unique().to_pylist(), ", ".join(files.values()))
        notes: dict[str, Any] = {
            "title": f"Variants, {length:,} bp",
            "description": "The window with the reference allele, and with the alternative allele; the variant's first "
            f"base is at {length // 2} of both, from 0.",
            "problem": "regression" if is_number else "single_label",
            **({} if classes is None else {"classes": classes, "metric": "auroc"}),
        }
        task = TaskPlan(
            "variants",
            plan,
            **notes,
            settings={"label_column": label_column, "contigs": list(contigs), "skip_mismatches": skip_mismatches},
            sources={"variants": list(files.values())},
            counts=counts,
            cut=lambda row: cut_pair(stored, row, cutting),
            pairs=True,
        )
        return write_task(stored, task, cutting, rule, out)


def cut_pair(genome: StoredGenome, row: Mapping[str, Any], cutting: Cutting) -> Window | str:
    """Return both windows of a variant, or why there are none."""
    record, start, end = row["record"], row["start"], row["end"]
    sequence = genome.cut(record, start, end, cutting.pad)
    if sequence is None:
        return _END
    if has_many_n(genome, row, sequence, cutting):
        return _N
    ref, alt = row["ref"], row["alt"]
    at = cutting.length // 2
    behind = at + len(ref)
    lacking = cutting.length - (at + len(alt))
    rest = sequence[behind:]
    if len(rest) < lacking:
        after = start + max(behind, cutting.length)
        more = genome.cut(record, after, start + behind + lacking, cutting.pad)
        if more is None:
            return _END
        rest += more
    alternative = (sequence[:at] + alt + rest[: max(lacking, 0)])[: cutting.length]
    return Window(sequence, alternative, row["label"])


def _name_files(variants: Sequence[str]) -> dict[str | None, str]:
    """Return the files by class; a single one without a class has labels of its own."""
    named = [text for text in variants if "=" in text and not Path(text).exists()]
    if not named:
        if len(variants) > 1:
            raise InputError(f"--variants {' '.join(variants)}: several files are CLASS=FILE, one for each class")
        return {None: variants[0]}
    found: dict[str | None, str] = {}
    for text in variants:
        name, sign, file = text.partition("=")
        if not (name and sign and file) or name in found:
            raise InputError(f"--variants {text!r}: write CLASS=FILE, each class once, as in benign=common.vcf.gz")
        found[name] = file
    return found


def _plan(
    genome: StoredGenome,
    files: Mapping[str | None, str],
    label_column: str,
    contigs: Mapping[str, str],
    check: ReferenceCheck,
    cutting: Cutting,
) -> tuple[pa.Table, bool]:
    """Return the rows of all files, and whether their labels are numbers."""
    tables, is_number = [], False
    for label, file in files.items():
        if is_vcf(file):
            header, records = read_variants(file)
            finder = Finder(genome, file, contigs, header.contigs)
            stream = _read_vcf(file, header, records, finder, label, label_column, check.counts)
            kinds: dict[str, pa.DataType] = {}
            label_kind = pa.string()
        else:
            table = PlaceTable(file, (*REFS, *ALTS, *map(str.upper, (*REFS, *ALTS)), "chrom_pos", "tissue"))
            finder = Finder(genome, file, contigs)
            stream, label_kind, kinds = _read_table(table, finder, label, label_column)
            is_number = is_number or label_kind == pa.float32()
        kept = {name: keep_name(name, _TAKEN) for name in kinds}
        more = [("label", label_kind), ("name", pa.string()), ("position", pa.int64())]
        more += [("ref", pa.string()), ("alt", pa.string()), *((kept[name], kind) for name, kind in kinds.items())]
        rows = RowCollector(plan_schema(*more))
        for one in stream:
            alt, ref = one.alt.upper().replace("U", "T"), one.ref.upper().replace("U", "T")
            if not (_LETTERS.fullmatch(alt) and _LETTERS.fullmatch(ref)):
                check.counts["alleles that are no bases (symbolic, spanning, breakends, IUPAC codes)"] += 1
                continue
            if alt == ref:
                check.counts["variants whose alleles are the same"] += 1
                continue
            if not check.agrees(one.where, one.record, one.start, ref):
                continue
            start = centre(one.start, cutting.length)
            position = genome.offsets[one.record] + one.start + 1
            name = one.name or f"{genome.chroms[one.record]}:{position}:{ref}>{alt}"
            rows.add(
                one.record, start, start + cutting.length, ".", one.label, name, position, ref, alt, *one.cells.values()
            )
        finish([finder], check.counts)
        tables.append(rows.finish())
    if len({one.schema.field("label").type for one in tables}) > 1:
        raise InputError(f"{', '.join(files.values())}: labels are names in one file and numbers in another")
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks(), is_number
    except pa.ArrowException as error:
        raise InputError(
            f"{', '.join(files.values())}: a column has another kind of values in each ({error})"
        ) from error


def _read_table(
    table: PlaceTable, finder: Finder, label: str | None, label_column: str
) -> tuple[Iterator[_Variant], pa.DataType, dict[str, pa.DataType]]:
    ref, alt = table.find_column(REFS, "the reference allele"), table.find_column(ALTS, "the alternative allele")
    column = None if label is not None else table.seek_column([label_column])
    if label is None and column is None:
        raise InputError(
            f"{table.path}: no column {label_column!r} has the labels; the columns are "
            f"{shorten(table.table.column_names)}. Name the right one with --label_column"
        )
    if column is None:
        kind = pa.string()
    else:
        found = table.table[column].type
        if found == pa.bool_() or pa.types.is_integer(found) or is_text(found):
            kind = pa.string()
        elif pa.types.is_floating(found):
            kind = pa.float32()
        else:
            raise InputError(f"{table.path}: column {column!r} holds {found}; a label is a name or a number")
    kinds = {name: table.table[name].type for name in table.others if name not in (ref, alt, column)}

    def read() -> Iterator[_Variant]:
        for place in table.stream(finder):
            value: Any = label
            if column is not None:
                value = place.cells[column]
                if value is None or value == "":
                    raise InputError(f"{place.where}: column {column!r} has no label; fill it in, or remove the row")
                value = float(value) if kind == pa.float32() else str(value).strip()
            cells = {name: place.cells[name] for name in kinds}
            first, second = (str(place.cells[name] or "") for name in (ref, alt))
            end = place.start + len(first)
            if end > finder.genome.lengths[place.record]:
                raise InputError(
                    f"{place.where}: REF {first[:20]!r} goes past the end of "
                    f"{finder.genome.names[place.record]!r}; is it of another assembly?"
                )
            yield _Variant(place.where, place.record, place.start, first, second, value, place.name, cells)

    return read(), kind, kinds


def _read_vcf(
    file: str,
    header: Header,
    records: Iterator[Record],
    finder: Finder,
    label: str | None,
    key: str,
    counts: Counter[str],
) -> Iterator[_Variant]:
    if label is None and key not in header.info and header.info:
        raise InputError(
            f"{file}: INFO has no key {key!r} with the labels; it has {shorten(list(header.info))}. Name the right one "
            "with --label_column, or give CLASS=FILE for each class"
        )
    for record in records:
        where = f"{file}, line {record.line}"
        value = label
        if label is None:
            values = get_values(record, key, header)
            if not values or values[0] is None:
                raise InputError(
                    f"{where}: INFO has no {key!r}, which has the labels; remove the record, or fill it in"
                )
            value = values[0]
        for number, alt in enumerate(record.alts):
            if record.pos < 1:
                counts["alleles that are no bases (symbolic, spanning, breakends, IUPAC codes)"] += 1
                continue
            spot = finder.find(where, record.chrom, record.pos - 1, record.pos - 1 + len(record.ref))
            if spot is None:
                continue
            one = value
            if label is None and values is not None and len(values) == len(record.alts) > 1:
                one = values[number]
                if one is None:
                    raise InputError(f"{where}: {key} has no label for the allele {alt[:20]!r}")
            name = record.id if record.id != "." else None
            if name and len(record.alts) > 1:
                name = f"{name}:{alt}"
            yield _Variant(where, spot.record, spot.start, record.ref, alt, one, name, {})


__all__ = ["ALTS", "NAMES", "REFS", "ReferenceCheck", "build_variants", "cut_pair"]
