"""What changed files are read by: functions of the package, in this process, that answer or raise an `InputError`."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Reader(NamedTuple):
    """A reader of one kind of file.

    Attributes:
        item, file: as those of `commands.Command`.
        form: `text`, `json`, `yaml`, `gzip`, `safetensors`, `zip` or `binary`; how its files are mutated.
        read: takes the item's path. Where an accepted file can be checked, it is, and a fault is an `AssertionError`.
        others: items beside the file that it needs.
    """

    item: str
    file: str
    form: str
    read: Callable[[Path], Any]
    others: tuple[str, ...] = ()


def _read_rows_both_ways(path: Path, **options: Any) -> int:
    """Read a table as a whole and in pieces: what both accept has the same sequences."""
    from gengram.errors import InputError
    from gengram.genome.streams import stream_rows, survey_rows
    from gengram.genome.tables import read_rows

    try:
        whole = list(read_rows(path, needs_labels=False, **options)["sequence"])
    except InputError:
        whole = None
    # Faults of one way only are for the tables of formats; here it counts that each answers or refuses.
    survey_rows(path, **options)
    pieces = [one for block in stream_rows(path, **options) for one in block["sequence"].to_pylist()]
    assert whole is None or whole == pieces, "a table read whole and in pieces has different sequences"
    return len(pieces)


def _read_bed(path: Path) -> int:
    from gengram.genome.intervals import read_regions

    places = read_regions(path)
    rows = _read_rows_both_ways(path, genome=path.parent / "genome.fa")
    assert rows == len(places)
    return rows


def _read_places(path: Path) -> int:
    """Rows with places as a BED file: read again, it has the same places."""
    from gengram.genome.intervals import read_regions
    from gengram.genome.places import place_rows, survey_places
    from gengram.genome.row_files import write_rows
    from gengram.genome.tables import read_rows

    counted_from = survey_places(path)
    rows = place_rows(read_rows(path, needs_labels=False).data.table, counted_from)
    out = path.with_name("written.bed")
    write_rows(out, rows)
    found = [(region.chrom, region.start, region.end) for region in read_regions(out)]
    assert found == list(zip(*(rows[name].to_pylist() for name in ("chrom", "start", "end"))))
    return len(rows)


def _read_slices(path: Path) -> int:
    from gengram.genome.contigs import Genome
    from gengram.genome.intervals import read_intervals

    rows = read_intervals(path.parent / "places.bed", Genome(path, slices=True))
    lengths = [end - start for start, end in zip(rows["start"].to_pylist(), rows["end"].to_pylist())]
    assert lengths == list(map(len, rows["sequence"].to_pylist()))
    return len(rows)


def _unpack(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _read_annotations(path: Path) -> int:
    from gengram.genome.annotations import Feature, read_annotations

    entries = list(read_annotations(path).entries)
    assert "".join(entry.text for entry in entries).encode() == _unpack(path)
    for entry in entries:
        if isinstance(entry, Feature):
            assert 0 <= entry.start < entry.end
            _ = entry.attributes, entry.parents
    return len(entries)


def _read_variants(path: Path) -> int:
    from gengram.genome.variants import get_values, read_variants

    header, found = read_variants(path)
    records = list(found)
    assert "".join([*header.lines, *(record.text for record in records)]).encode() == _unpack(path)
    for record in records:
        _ = record.columns, record.qual, record.filters, [get_values(record, key, header) for key in record.info]
    return len(records)


def _read_corpus_regions(path: Path) -> int:
    """Intervals or an annotation of a corpus: spans are in order, apart and inside of their records."""
    from gengram.training.corpus.records import Records
    from gengram.training.corpus.regions import classify_record, read_annotation, read_spans

    records = Records({"chr1": 1000, "chr2:1-800": 800}, "genome.fa")
    tables = [read_spans(path, records, flank=10)]
    annotation = read_annotation(path, records)
    tables += [annotation.find_genes(5), annotation.exons, annotation.introns]
    tables += [{name: classify_record(name, length, annotation)[0] for name, length in records.lengths.items()}]
    for table in tables:
        for record, spans in table.items():
            bounds = [0, *spans.ravel().tolist(), records.lengths[record]]
            assert bounds == sorted(bounds) and all(start < end for start, end in spans.tolist())
    return sum(len(spans) for table in tables for spans in table.values())


def _read_gene_models(path: Path) -> int:
    """Genes of an annotation: the parts of a transcript are in order and apart, UTRs and coding bases do not meet."""
    from gengram.benchmarks.builders.transcripts import read_gene_models

    models = read_gene_models(path)
    for one in models.transcripts:
        assert one.strand in ("+", "-") and one.exons
        for spans in (one.exons, one.cds):
            bounds = [bound for span in spans for bound in span]
            assert bounds == sorted(bounds) and all(start < end for start, end in spans)
        if not one.cds:
            assert not one.five_prime_utr and not one.three_prime_utr
    return len(models.genes) + len(models.transcripts)


def _read_corpus_variants(path: Path) -> int:
    """Variants of a corpus: edits are in order, apart and inside of their records."""
    import numpy as np

    from gengram.training.corpus.haplotypes import choose_haplotypes, stream_edits
    from gengram.training.corpus.records import Records

    text = f"{'A' * 19}TA{'A' * 18}G"
    letters = np.frombuffer(text.ljust(900, "C").encode(), dtype=np.uint8)
    count = 0
    for samples in ("all", None):
        choice = choose_haplotypes([path], samples, 4, unphased="coin")
        records = Records({"chr1": 900}, "genome.fa")
        reached: dict[int, int] = {}
        for table in stream_edits(path, choice, records, {"chr1": 0}, lambda name: letters):
            for row in table.to_pylist():
                end = row["position"] + row["reference_length"]
                assert reached.get(row["haplotype"], 0) <= row["position"] and end <= 900
                assert row["alternative"] or row["reference_length"]
                reached[row["haplotype"]] = end
                count += 1
    return count


def _read_corpus(folder: Path) -> int:
    """A built corpus: windows of it lie in its segments, and have as many letters as they say."""
    import numpy as np

    from gengram.training.corpus.reading import read_window
    from gengram.training.corpus.store import open_corpus
    from gengram.training.corpus.windows import Drawing, WindowSource

    corpus = open_corpus(folder)
    windows = WindowSource(corpus, Drawing(length=100), 0).draw(np.arange(20))
    for number in range(20):
        window = windows.get(number)
        assert 0 <= window.start < window.end <= corpus.contigs[window.contig].length
        assert len(read_window(corpus, window)) == 100
    return 20


def _read_text(path: Path) -> int:
    from gengram.genome.text import read_lines

    return len(list(read_lines(path))) + len(list(read_lines(path, universal=True)))


def _read_labels(path: Path) -> int:
    from gengram.genome.tables import add_labels, read_rows

    fasta = path.parent / "plain.fa"
    rows = add_labels(read_rows(fasta, needs_labels=False), fasta, path, ("label",))
    assert len(rows) == 24
    return len(rows)


def _read_recipe(path: Path) -> Any:
    from gengram.errors import InputError
    from gengram.training.command import parse_arguments

    try:
        return parse_arguments([str(path)])
    except SystemExit as stop:  # a value that goes with no other, as on a command line
        assert stop.code == 2
        raise InputError(f"{path}: arguments that do not fit") from stop


def _read_space(path: Path) -> Any:
    from gengram.training.search_space import count_trials, read_space

    space = read_space(str(path))
    assert space and count_trials(space, None) >= 1
    return space


def _read_task(path: Path) -> Any:
    from gengram.benchmarks.tasks.task import read_task_file

    return read_task_file(path, "mine/one")


def _read_facts(path: Path) -> Any:
    from gengram.benchmarks.tasks.overlay import read_overlay, update_task
    from gengram.benchmarks.tasks.registry import find_task

    return [update_task(find_task("NTB/H3"), facts, str(path)) for facts in read_overlay(path).values()]


def _read_task_folder(folder: Path) -> int:
    """A benchmark task: every row has a class of those that are named, and what is prepared has all rows."""
    from gengram.benchmarks.data.load import read_task
    from gengram.benchmarks.data.prepared import prepare_task

    loaded = read_task("task", data=folder)
    prepared = prepare_task(loaded, max_train_rows=20)
    for rows in (prepared.train, prepared.validation, prepared.test):
        assert len(rows.labels) == len(rows.sequences)
        assert loaded.problem != "single_label" or 0 <= rows.labels.min() <= rows.labels.max() < len(loaded.classes)
    return len(prepared.test)


def _read_card(path: Path) -> Any:
    from gengram.training.publishing.model import prepare_upload

    return prepare_upload(path.parent / "model", "lab/model", card=path).card


def _read_config(folder: Path) -> Any:
    from gengram.loading.configurations import require_config

    return require_config(folder)


def _read_weights(folder: Path) -> Any:
    import torch

    from gengram.loading.models import require_model

    return require_model(folder, "sequence_classification", device=torch.device("cpu"))


def _read_tokenizer(folder: Path) -> Any:
    from gengram.loading.tokenizers import require_tokenizer

    return require_tokenizer(folder)


def _read_adapter(folder: Path) -> Any:
    from gengram.loading.adapters import load_adapter

    return load_adapter(folder, str(folder.parent / "model"))


def _read_report(folder: Path) -> Any:
    from gengram.training.publishing.model import prepare_upload

    return prepare_upload(folder, "lab/model").card


def _read_megatron(folder: Path) -> Any:
    from gengram.conversion.megatron import plan_model
    from gengram.conversion.megatron_files import open_checkpoint

    source = open_checkpoint(folder)
    _, recipes = plan_model(source)
    return [recipe.make(source) for recipe in recipes.values()]


def _read_task_places(path: Path) -> int:
    """Rows of a table or BED file, found in a genome, and the windows around them: each as long as it should be."""
    from gengram.benchmarks.builders.genome import Finder, store_genome
    from gengram.benchmarks.builders.places import PlaceTable

    with store_genome(path.parent / "genome.fa") as genome:
        places = list(PlaceTable(path).stream(Finder(genome, path)))
        for place in places:
            window = genome.cut(place.record, place.start - 9, place.start + 9, pad=True)
            assert window is not None and len(window) == 18 and set(window) <= set("ACGTN")
    return len(places)


def _read_task_variants(path: Path) -> int:
    """Variants of a table or VCF file whose REF is that of a genome, with both windows."""
    from gengram.benchmarks.builders.variants import build_variants
    from gengram.benchmarks.builders.window_rows import Output
    from gengram.benchmarks.builders.window_splits import SplitRule

    with tempfile.TemporaryDirectory() as folder:
        output, key = Output(folder, "task"), "KIND" if path.suffix == ".vcf" else "label"
        rule = SplitRule(block=120, validation_share=0.0)
        built = build_variants(str(path.parent / "genome.fa"), [str(path)], 20, output, rule, label_column=key)
    return sum(one["rows"] for one in built.facts["rows"].values())


READERS = {
    "fasta": Reader("sequences.fa", "", "text", _read_rows_both_ways),
    "fasta.gz": Reader("sequences.fa.gz", "", "gzip", _read_rows_both_ways),
    "bed": Reader("places.bed", "", "text", _read_bed, ("genome.fa",)),
    "places": Reader("placed.csv", "", "text", _read_places),
    "slices": Reader("slices.fa", "", "text", _read_slices, ("places.bed",)),
    "csv": Reader("table.csv", "", "text", _read_rows_both_ways),
    "csv.gz": Reader("table.csv.gz", "", "gzip", _read_rows_both_ways),
    "tsv": Reader("table.tsv", "", "text", _read_rows_both_ways),
    "jsonl": Reader("table.jsonl", "", "json", _read_rows_both_ways),
    "json": Reader("table.json", "", "json", _read_rows_both_ways),
    "parquet": Reader("table.parquet", "", "binary", _read_rows_both_ways),
    "labels": Reader("names.tsv", "", "text", _read_labels, ("plain.fa",)),
    "gff3": Reader("features.gff3", "", "text", _read_annotations),
    "gtf": Reader("features.gtf", "", "text", _read_annotations),
    "genes, GFF3": Reader("genes.gff3", "", "text", _read_gene_models),
    "genes, GTF": Reader("genes.gtf", "", "text", _read_gene_models),
    "genes, BED": Reader("genes.bed", "", "text", _read_gene_models),
    "genes, table": Reader("genes.tsv", "", "text", _read_gene_models),
    "vcf": Reader("calls.vcf", "", "text", _read_variants),
    "places of a task, BED": Reader("elements.bed", "", "text", _read_task_places, ("genome.fa",)),
    "places of a task, table": Reader("sites.csv", "", "text", _read_task_places, ("genome.fa",)),
    "variants of a task, table": Reader("snps.csv", "", "text", _read_task_variants, ("genome.fa",)),
    "variants of a task, VCF": Reader("phased.vcf", "", "text", _read_task_variants, ("genome.fa",)),
    "regions of a corpus, BED": Reader("places.bed", "", "text", _read_corpus_regions),
    "regions of a corpus, GFF3": Reader("features.gff3", "", "text", _read_corpus_regions),
    "regions of a corpus, GTF": Reader("features.gtf", "", "text", _read_corpus_regions),
    "facts of a corpus": Reader("corpus", "corpus.json", "json", _read_corpus),
    "letters of a corpus": Reader("corpus", "letters/data-00000-of-00001.arrow", "binary", _read_corpus),
    "variants of a corpus": Reader("calls.vcf", "", "text", _read_corpus_variants),
    "lines": Reader("sequences.fa.gz", "", "gzip", _read_text),
    "recipe": Reader("recipe.yaml", "", "yaml", _read_recipe),
    "space of a search": Reader("space.yaml", "", "yaml", _read_space),
    "task": Reader("task.yaml", "", "yaml", _read_task),
    "facts of tasks": Reader("facts.yaml", "", "yaml", _read_facts),
    "tables of a task": Reader("task", "test.csv", "text", _read_task_folder),
    "facts of a task": Reader("task", "task.yaml", "yaml", _read_task_folder),
    "card": Reader("card.md", "", "yaml", _read_card, ("model",)),
    "config": Reader("model", "config.json", "json", _read_config),
    "safetensors": Reader("model", "model.safetensors", "safetensors", _read_weights),
    "index": Reader("sharded", "model.safetensors.index.json", "json", _read_weights),
    "pickle": Reader("pickled", "pytorch_model.bin", "zip", _read_weights),
    "tokenizer": Reader("model", "tokenizer.json", "json", _read_tokenizer),
    "tokenizer of pairs": Reader("pairs", "tokenizer.json", "json", _read_tokenizer),
    "tokenizer_config": Reader("model", "tokenizer_config.json", "json", _read_tokenizer),
    "vocab": Reader("kmers", "vocab.txt", "text", _read_tokenizer),
    "vocab, overlapping": Reader("overlapping", "vocab.txt", "text", _read_tokenizer),
    "vocab, whole k-mers": Reader("whole_kmers", "vocab.txt", "text", _read_tokenizer),
    "settings of k-mers": Reader("overlapping", "tokenizer_config.json", "json", _read_tokenizer),
    "adapter_config": Reader("adapter", "adapter_config.json", "json", _read_adapter, ("model",)),
    "adapter_weights": Reader("adapter", "adapter_model.safetensors", "safetensors", _read_adapter, ("model",)),
    "adapter_labels": Reader("adapter", "labels.json", "json", _read_adapter, ("model",)),
    "report": Reader("run", "report.json", "json", _read_report),
    "megatron": Reader("megatron", "release/mp_rank_00/model_optim_rng.pt", "zip", _read_megatron),
    "megatron.common": Reader("distributed", "common.pt", "zip", _read_megatron),
    "megatron.metadata": Reader("distributed", ".metadata", "binary", _read_megatron),
    "megatron.data": Reader("distributed", "__0_0.distcp", "binary", _read_megatron),
}
