"""Which commands read which files? A row for each reader of the table of damaged files."""

import os
import resource
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

MOST_MEMORY = 6 << 30
NOBODY = 65534

_TRAIN = "--label_column label --max_steps 1 --use_cpu --report_to none --validation_fraction 0"


class Command(NamedTuple):
    """A reader, through the verb that it serves.

    Attributes:
        item: of the sound files, a file or folder, which is copied to `{case}`.
        file: in the item, what is damaged; empty: the item itself.
        form: `text`, `json` or `binary`.
        words: the command; `{sound}`, `{case}` and `{out}` are folders, `{size}` is that of a backbone.
            `read NAME`: a reader of `functions.READERS`
            that no verb has.
        passes: damages that leave what this reader can read.
        leaves_out: damages that are not tried, for it is the work on what was read that takes its time.
    """

    item: str
    file: str
    form: str
    words: str
    passes: tuple[str, ...] = ()
    leaves_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file or self.item).name


def _predict(item: str) -> str:
    return f"predict {{case}}/{item} --model {{sound}}/model --out {{out}}/p.parquet"


def _embed(item: str) -> str:
    return f"embed {{case}}/{item} --model {{sound}}/model --out {{out}}/e.npz"


def _ask(folder: str, more: str = "") -> str:
    return f"predict {{sound}}/table.csv --model {{case}}/{folder} --out {{out}}/p.parquet {more}"


COMMANDS = {
    "CSV": Command("table.csv", "", "text", _predict("table.csv")),
    "CSV, in pieces": Command("table.csv", "", "text", _embed("table.csv")),
    "CSV, labelled": Command(
        "table.csv",
        "",
        "text",
        f"finetune --train_file {{case}}/table.csv --model {{sound}}/model --out {{out}}/run {_TRAIN}",
        leaves_out=("long",),
    ),
    "CSV of a dataset": Command("dataset", "train.csv", "text", "dataset push {case}/dataset lab/data --dry_run"),
    "task.yaml": Command(
        "task", "task.yaml", "text", "dataset push {case}/task lab/data --dry_run", passes=("missing",)
    ),
    "TSV": Command("table.tsv", "", "text", _predict("table.tsv")),
    "TSV, in pieces": Command("table.tsv", "", "text", _embed("table.tsv")),
    "CSV, gzip": Command("table.csv.gz", "", "binary", _predict("table.csv.gz")),
    "CSV, gzip, in pieces": Command("table.csv.gz", "", "binary", _embed("table.csv.gz")),
    "JSON lines": Command("table.jsonl", "", "json", _predict("table.jsonl")),
    "JSON lines, in pieces": Command("table.jsonl", "", "json", _embed("table.jsonl")),
    "JSON": Command("table.json", "", "json", _predict("table.json")),
    "JSON, in pieces": Command("table.json", "", "json", _embed("table.json")),
    "Parquet": Command("table.parquet", "", "binary", _predict("table.parquet")),
    "Parquet, in pieces": Command("table.parquet", "", "binary", _embed("table.parquet")),
    "label file": Command(
        "names.tsv",
        "",
        "text",
        "finetune --train_file {sound}/plain.fa --label_files {case}/names.tsv --model {sound}/model --out {out}/run "
        + _TRAIN,
        leaves_out=("long",),
    ),
    "FASTA": Command("sequences.fa", "", "text", _predict("sequences.fa")),
    "FASTA, in pieces": Command("sequences.fa", "", "text", _embed("sequences.fa")),
    "FASTA, gzip": Command("sequences.fa.gz", "", "binary", _predict("sequences.fa.gz")),
    "genome of a BED file": Command(
        "genome.fa",
        "",
        "text",
        "predict {sound}/places.bed --genome {case}/genome.fa --model {sound}/model --out {out}/p.parquet",
    ),
    "genome to segment": Command(
        "genome.fa",
        "",
        "text",
        "segment {case}/genome.fa --model {sound}/segmenter --out {out}/tracks --format bedgraph --window 480 "
        "--overlap 240",
        leaves_out=("long",),
    ),
    "genome of a tokenizer": Command(
        "genome.fa", "", "text", "train-tokenizer {case}/genome.fa --out {out}/tokenizer --vocab_size 20"
    ),
    **{
        f"genes of a task, {ending}": Command(
            f"genes.{ending}",
            "",
            "text",
            f"dataset build exon-intron --genome {{sound}}/genome.fa --annotation {{case}}/genes.{ending} --length 20 "
            "--block 60 --out {out}/tasks",
        )
        for ending in ("gff3", "gtf", "bed", "tsv")
    },
    "genome of a task": Command(
        "genome.fa",
        "",
        "text",
        "dataset build exon-intron --genome {case}/genome.fa --annotation {sound}/genes.gff3 --length 20 --block 60 "
        "--out {out}/tasks",
    ),
    "VCF of hotspots": Command(
        "phased.vcf",
        "",
        "text",
        "dataset build hotspots --genome {sound}/genome.fa --vcf {case}/phased.vcf --length 30 --block 100 "
        "--ratio 3 --out {out}/tasks",
    ),
    "VCF of variants": Command(
        "phased.vcf",
        "",
        "text",
        "dataset build variants --genome {sound}/genome.fa --variants {case}/phased.vcf --label_column KIND "
        "--length 20 --block 120 --out {out}/tasks",
    ),
    "VCF of populations": Command(
        "phased.vcf",
        "",
        "text",
        "dataset build populations --genome {sound}/genome.fa --vcf {case}/phased.vcf --samples {sound}/panel.tsv "
        "--length 60 --validation_share 0 --out {out}/tasks",
    ),
    "samples of populations": Command(
        "panel.tsv",
        "",
        "text",
        "dataset build populations --genome {sound}/genome.fa --vcf {sound}/phased.vcf --samples {case}/panel.tsv "
        "--length 60 --validation_share 0 --out {out}/tasks",
    ),
    "table of variants": Command(
        "snps.csv",
        "",
        "text",
        "dataset build variants --genome {sound}/genome.fa --variants {case}/snps.csv --length 20 --block 120 "
        "--out {out}/tasks",
    ),
    "table of sites": Command(
        "sites.csv",
        "",
        "text",
        "dataset build sites --genome {sound}/genome.fa --table {case}/sites.csv --label_columns one two --length 20 "
        "--block 120 --out {out}/tasks",
    ),
    "table of promoters": Command(
        "sites.csv",
        "",
        "text",
        "dataset build promoters --genome {sound}/genome.fa --sites {case}/sites.csv --length 20 --block 120 "
        "--out {out}/tasks",
    ),
    "BED of enhancers": Command(
        "elements.bed",
        "",
        "text",
        "dataset build enhancers --genome {sound}/genome.fa --intervals {case}/elements.bed --length 20 --block 120 "
        "--out {out}/tasks",
    ),
    "BED of regulatory elements": Command(
        "elements.bed",
        "",
        "text",
        "dataset build regulatory --genome {sound}/genome.fa --positives {case}/elements.bed --length 40 --chunk 10 "
        "--block 120 --out {out}/tasks",
    ),
    "genome of windows": Command(
        "genome.fa",
        "",
        "text",
        "dataset build enhancers --genome {case}/genome.fa --intervals {sound}/elements.bed --length 20 --block 120 "
        "--out {out}/tasks",
    ),
    "BED": Command(
        "places.bed",
        "",
        "text",
        "predict {case}/places.bed --genome {sound}/genome.fa --model {sound}/model --out {out}/p.parquet",
    ),
    "BED of regions": Command(
        "places.bed",
        "",
        "text",
        "segment {sound}/genome.fa --regions {case}/places.bed --model {sound}/segmenter --out {out}/tracks "
        "--format bedgraph --window 480 --overlap 240",
    ),
    "GFF3": Command("features.gff3", "", "text", "read gff3", ("blank",)),
    "GTF": Command("features.gtf", "", "text", "read gtf", ("blank",)),
    "VCF": Command("calls.vcf", "", "text", "read vcf"),
    "recipe": Command("recipe.yaml", "", "text", "finetune {case}/recipe.yaml --out {out}/run"),
    "recipe of a corpus": Command(
        "corpus.yaml", "", "text", "corpus build {case}/corpus.yaml --genomes {sound} --out {out}/corpus"
    ),
    "genome of a corpus": Command(
        "genome.fa", "", "text", "corpus build {sound}/corpus.yaml --genomes {case} --out {out}/corpus"
    ),
    "corpus.json": Command("corpus", "corpus.json", "json", "corpus show {case}/corpus --check"),
    "corpus.json, push": Command("corpus", "corpus.json", "json", "corpus push {case}/corpus lab/corpus --dry_run"),
    "letters of a corpus": Command(
        "corpus",
        "letters/data-00000-of-00001.arrow",
        "binary",
        "corpus push {case}/corpus lab/corpus --dry_run",
    ),
    "contigs of a corpus": Command(
        "corpus", "contigs.arrow", "binary", "corpus push {case}/corpus lab/corpus --dry_run"
    ),
    "card": Command("card.md", "", "text", "push lab/model --model {sound}/run --card {case}/card.md --dry_run"),
    "config.json": Command("model", "config.json", "json", _ask("model")),
    "config.json, embed": Command(
        "model", "config.json", "json", "embed {sound}/table.csv --model {case}/model --out {out}/e.npz"
    ),
    "config.json, finetune": Command(
        "model",
        "config.json",
        "json",
        f"finetune --train_file {{sound}}/table.csv --model {{case}}/model --out {{out}}/run {_TRAIN}",
    ),
    "config.json, push": Command("model", "config.json", "json", "push lab/model --model {case}/model --dry_run"),
    "config.json, to Megatron": Command(
        "causal", "config.json", "json", "convert to-megatron {case}/causal --out {out}/back"
    ),
    "safetensors": Command("model", "model.safetensors", "binary", _ask("model")),
    "safetensors, push": Command(
        "model", "model.safetensors", "binary", "push lab/model --model {case}/model --dry_run"
    ),
    "safetensors, to Megatron": Command(
        "causal", "model.safetensors", "binary", "convert to-megatron {case}/causal --out {out}/back"
    ),
    "shard": Command("sharded", "model-00002-of-00004.safetensors", "binary", _ask("sharded")),
    "index of shards": Command("sharded", "model.safetensors.index.json", "json", _ask("sharded")),
    "pytorch_model.bin": Command("pickled", "pytorch_model.bin", "binary", _ask("pickled")),
    "tokenizer.json": Command("model", "tokenizer.json", "json", _ask("model")),
    "tokenizer.json, finetune": Command(
        "pairs",
        "tokenizer.json",
        "json",
        "finetune --train_file {sound}/table.csv --backbone bert --tokenizer_name_or_path {case}/pairs --out {out}/run "
        "--backbone_config {size} "
        f"{_TRAIN}",
    ),
    "tokenizer.json, push": Command("model", "tokenizer.json", "json", "push lab/model --model {case}/model --dry_run"),
    "tokenizer_config.json": Command("model", "tokenizer_config.json", "json", _ask("model")),
    "vocab.txt": Command(
        "kmers", "vocab.txt", "text", "embed {sound}/table.csv --model {case}/kmers --out {out}/e.npz"
    ),
    "adapter_config.json": Command(
        "adapter", "adapter_config.json", "json", _ask("adapter", "--base_model {sound}/model")
    ),
    "adapter's weights": Command(
        "adapter", "adapter_model.safetensors", "binary", _ask("adapter", "--base_model {sound}/model")
    ),
    "adapter's labels.json": Command(
        "adapter", "labels.json", "json", _ask("adapter", "--base_model {sound}/model"), passes=("missing",)
    ),
    "report.json": Command("run", "report.json", "json", _ask("run")),
    "report.json, push": Command("run", "report.json", "json", "push lab/model --model {case}/run --dry_run"),
    "report.json, card": Command("run", "report.json", "json", "card lab/model --model {case}/run --out {out}/card.md"),
    "report.json, resumed": Command(
        "run",
        "report.json",
        "json",
        "finetune --train_file {sound}/table.csv --backbone bert --backbone_config {size} --out {case}/run "
        f"--resume_from_checkpoint {_TRAIN}",
        passes=("loop", "dangling", "missing"),  # The run begins anew.
    ),
    "Megatron's tracker": Command(
        "megatron", "latest_checkpointed_iteration.txt", "text", "convert megatron {case}/megatron --out {out}/model"
    ),
    "Megatron, torch": Command(
        "megatron",
        "release/mp_rank_00/model_optim_rng.pt",
        "binary",
        "convert megatron {case}/megatron --out {out}/model",
    ),
    "Megatron, torch_dist: common.pt": Command(
        "distributed", "common.pt", "binary", "convert megatron {case}/distributed --out {out}/model"
    ),
    "Megatron, torch_dist: .metadata": Command(
        "distributed", ".metadata", "binary", "convert megatron {case}/distributed --out {out}/model"
    ),
    "Megatron, torch_dist: data": Command(
        "distributed", "__0_0.distcp", "binary", "convert megatron {case}/distributed --out {out}/model"
    ),
}


def run_command(words: list[str], home: Path, nobody: bool) -> None:
    """Run a command in this process, which has been forked for it: its output goes to files of the folder `home`."""
    for name, stream in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["TMPDIR"] = str(home / "tmp")
    os.chdir(home / "cwd")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if nobody and os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    code = 99
    try:
        from gengram.cli import main

        code = _read(*words[1:]) if words[0] == "read" else main(words)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        (home / "code").write_text(str(code))
        os._exit(code)


def _read(kind: str, file: str) -> int:
    """Read a file that no verb reads, as a verb would."""
    from functions import READERS

    from gengram.errors import InputError
    from gengram.files import check_input_files

    try:
        check_input_files(file)
        READERS[kind].read(Path(file))
    except InputError as error:
        print(f"gengram read: error: {error}", file=sys.stderr)
        return 1
    return 0
