"""Sound files of every kind that the package reads, small; what damages and mutations begin with."""

import argparse
import gzip
import json
import os
import random
import shutil
from pathlib import Path

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}

GFF3 = """##gff-version 3
##sequence-region chr1 1 900
chr1\thand\tgene\t11\t300\t.\t+\t.\tID=gene1;Name=first%2C gene
chr1\thand\tmRNA\t11\t300\t.\t+\t.\tID=rna1;Parent=gene1
chr1\thand\tCDS\t21\t80\t0.5\t+\t0\tID=cds1;Parent=rna1,rna2;Note=a,b
# a remark
chr2\thand\tregion\t5\t60\t1e-3\t-\t.\tID=r;Dbxref="x"
"""
GTF = """#!genome-build hand
chr1\thand\tgene\t11\t300\t.\t+\t.\tgene_id "g1"; gene_name "first; gene";
chr1\thand\tCDS\t21\t80\t.\t-\t2\tgene_id "g1"; transcript_id "t1"; tag "a"; tag "b \\"c\\"";
"""
VCF = """##fileformat=VCFv4.3
##contig=<ID=chr1,length=900>
##INFO=<ID=AF,Number=A,Type=Float,Description="share, of \\"all\\"">
##INFO=<ID=DB,Number=0,Type=Flag,Description="known">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo
chr1\t11\trs1\tA\tC,GT\t30\tPASS\tAF=0.5,0.1;DB\tGT\t0/1\t1|1
chr1\t20\t.\tTA\tT\t.\tq10;s50\tAF=1e-3\tGT\t0/0\t.
chr1\t30\tx;y\tN\t<DEL>,*\t.\t.\tEND=80\tGT\t0/0\t0/1
chr1\t40\t.\tG\tG]chr2:5]\t.\tPASS\t.\tGT\t0/0\t0/1
"""
GENES_GFF3 = """##gff-version 3
chr1\thand\tgene\t101\t600\t.\t+\t.\tID=g1;Name=one;biotype=protein_coding
chr1\thand\tmRNA\t101\t600\t.\t+\t.\tID=t1;Parent=g1
chr1\thand\texon\t101\t260\t.\t+\t.\tParent=t1
chr1\thand\texon\t361\t600\t.\t+\t.\tParent=t1
chr1\thand\tCDS\t141\t260\t.\t+\t0\tParent=t1,p1
chr1\thand\tCDS\t361\t520\t.\t+\t0\tParent=t1,p1
chr2\thand\tgene\t201\t500\t.\t-\t.\tID=g2
chr2\thand\tncRNA\t201\t500\t.\t-\t.\tID=t2;Parent=g2
chr2\thand\texon\t201\t300\t.\t-\t.\tParent=t2
chr2\thand\texon\t401\t500\t.\t-\t.\tParent=t2
"""
GENES_GTF = """chr1\thand\texon\t101\t260\t.\t+\t.\tgene_id "g1"; transcript_id "t1";
chr1\thand\texon\t361\t600\t.\t+\t.\tgene_id "g1"; transcript_id "t1";
chr1\thand\tCDS\t141\t260\t.\t+\t0\tgene_id "g1"; transcript_id "t1";
chr1\thand\tstop_codon\t261\t263\t.\t+\t0\tgene_id "g1"; transcript_id "t1";
chr2\thand\texon\t201\t300\t.\t-\t.\tgene_id "g2"; transcript_id "t2";
chr2\thand\texon\t401\t500\t.\t-\t.\tgene_id "g2"; transcript_id "t2";
"""
GENES_BED = """chr1\t100\t600\tt1\t0\t+\t140\t520\t0\t2\t160,240,\t0,260,
chr2\t200\t500\tt2\t0\t-\t200\t200\t0\t2\t100,100,\t0,200,
"""
GENES_TSV = """#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END
t1\tchr1\t+\t100\t600\t100,360,\t260,600,
t2\tchr2\t-\t200\t500\t200,400,\t300,500,
"""
CARD = "---\nlicense: mit\ntags:\n- dna\n---\n\n# A model\n\nIt reads DNA.\n"


def draw_sequences(count: int, seed: int = 0, length: int = 30) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ACGT", k=length)) for _ in range(count)]


def make_tables(root: Path) -> None:
    """Tables, sequences, places and annotations."""
    import pyarrow as pa
    import pyarrow.parquet

    sequences = draw_sequences(24)
    rows = [(one, ("with", "without")[place % 2], place / 4) for place, one in enumerate(sequences)]
    for name, mark in (("table.csv", ","), ("table.tsv", "\t")):
        lines = [mark.join(map(str, row)) for row in [("sequence", "label", "value"), *rows]]
        (root / name).write_text("\n".join(lines) + "\n")
    records = [dict(zip(("sequence", "label", "value"), row)) for row in rows]
    (root / "table.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (root / "table.json").write_text(json.dumps(records))
    pyarrow.parquet.write_table(pa.Table.from_pylist(records), root / "table.parquet")
    (root / "table.csv.gz").write_bytes(gzip.compress((root / "table.csv").read_bytes(), mtime=0))
    fasta = "".join(f">s{place}|{label}\n{one[:20]}\n{one[20:]}\n" for place, (one, label, _) in enumerate(rows))
    (root / "sequences.fa").write_text(fasta)
    (root / "sequences.fa.gz").write_bytes(gzip.compress(fasta.encode(), mtime=0))
    (root / "plain.fa").write_text("".join(f">s{place}\n{one}\n" for place, one in enumerate(sequences)))
    names = "".join(f"s{place}\t{label}\n" for place, (_, label, _) in enumerate(rows))
    (root / "names.tsv").write_text("name\tlabel\n" + names)
    contigs = draw_sequences(2, seed=1, length=900)
    (root / "genome.fa").write_text("".join(f">chr{place} of two\n{one}\n" for place, one in enumerate(contigs, 1)))
    # Of one contig two that overlap, of the other one by its other name.
    cut = (("chr1", 0, 1, 600), ("chr1", 0, 20, 900), ("2", 1, 2, 800))
    slices = "".join(f">{name}:{first}-{end}\n{contigs[one][first - 1 : end]}\n" for name, one, first, end in cut)
    (root / "slices.fa").write_text(slices)
    places = "".join(
        f"chr{place % 2 + 1}\t{place}\t{place + 30}\tn{place % 2}\t0\t{'+-.'[place % 3]}\n" for place in range(24)
    )
    placed = [f"{one},chr{place % 2},{place},{place + len(one)}\n" for place, one in enumerate(sequences)]
    (root / "placed.csv").write_text("".join(["sequence,chrom,start,end\n", *placed]))
    (root / "places.bed").write_text(f"track name=places\n{places}")
    for name, text in (("features.gff3", GFF3), ("features.gtf", GTF), ("calls.vcf", VCF)):
        (root / name).write_text(text)
    genes = {"gff3": GENES_GFF3, "gtf": GENES_GTF, "bed": GENES_BED, "tsv": GENES_TSV}
    for ending, text in genes.items():
        (root / f"genes.{ending}").write_text(text)
    make_windows(root, contigs)
    recipe = {"species": "one", "fasta": "genome.fa", "hold_out": {"validation": ["chr2"]}}
    (root / "corpus.yaml").write_text(
        f"name: corpus\nlicence: mit\ngenomes:\n  - {json.dumps(recipe)}\nmax_n_run: 50\n"
    )
    folder = root / "dataset"
    folder.mkdir()
    shutil.copy(root / "table.csv", folder / "train.csv")
    (folder / "README.md").write_text(CARD)
    make_task(root / "task")


def make_task(folder: Path) -> None:
    """The tables of a benchmark task, and what is known of it."""
    folder.mkdir()
    draw = random.Random(1)
    for split, count in (("train", 24), ("test", 12)):
        lines = [f"{''.join(draw.choices('ACGT', k=30))},{row % 2},chr{row % 3}\n" for row in range(count)]
        (folder / f"{split}.csv").write_text("".join(["seq,label,chrom\n", *lines]))
    (folder / "task.yaml").write_text(
        "title: Made up\nproblem: single_label\nclasses: [negative, positive]\n"
        "codes: {negative: 1, positive: 0}\ncolumns: {sequence: seq, label: label, chrom: chrom}\n"
        "rows: {train: 24, test: 12}\nlicence: CC0-1.0\nassembly: none\nproblems: [Rows are drawn.]\n"
        "validation_chromosomes: [chr1]\n"
    )


def make_windows(root: Path, contigs: list[str]) -> None:
    """Variants, samples and places of `genome.fa`, of which tasks of windows are made."""
    spots = [(number, at) for number in (1, 2) for at in range(60, 840, 13)]
    spots = sorted({*spots, *((1, at) for at in range(300, 360)), *((2, at) for at in range(510, 570))})
    calls, snps, sites = [], ["chrom,position,ref,alt,label,tissue"], ["symbol,chrom,TSS,strand,one,two"]
    for number, at in spots:
        ref = contigs[number - 1][at]
        alt = "CGTA"["ACGT".index(ref)]
        left, right, more = at % 2, at % 3 // 2, at % 5 // 4
        calls.append(f"chr{number}\t{at + 1}\t.\t{ref}\t{alt}\t.\tPASS\tKIND={'ab'[at % 2]}\tGT\t")
        calls[-1] += "\t".join([f"{left}|{right}", f"{right}|{more}", f"{more}|1", f"0|{left}"]) + "\n"
        snps.append(f"chr{number},{at + 1},{ref},{alt},{('benign', 'causal')[at % 2]},t{at % 3}")
        sites.append(f"G{at},chr{number},{at + 1},{'+-'[at % 2]},{at / 8},{at % 7 / 2}")
    kind = '##INFO=<ID=KIND,Number=1,Type=String,Description="class">'
    head = ["##fileformat=VCFv4.3", kind, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\tS3\tS4"]
    (root / "phased.vcf").write_text("\n".join(head) + "\n" + "".join(calls))
    (root / "snps.csv").write_text("\n".join(snps) + "\n")
    (root / "sites.csv").write_text("\n".join(sites[:1] + sites[1::8]) + "\n")
    (root / "panel.tsv").write_text("sample\tpopulation\nS1\tone\nS2\ttwo\nS3\tone\nS4\ttwo\n")
    elements = [f"chr{number}\t{at}\t{at + 17}\te{at}\n" for number in (1, 2) for at in range(60, 840, 130)]
    (root / "elements.bed").write_text("".join(elements))


def make_models(root: Path) -> None:
    """A run, an adapter, weights in each form, tokenizers of each kind, a causal model and its Megatron checkpoints."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM, LlamaConfig, set_seed

    from gengram import (
        GengramConfig,
        GengramForCausalLM,
        SegmentNTConfig,
        SegmentNTForTokenClassification,
    )
    from gengram.cli import main
    from gengram.conversion.to_megatron import convert_to_megatron
    from gengram.loading import auto
    from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer, list_kmer_vocabulary
    from gengram.tokenization.overlapping import list_overlapping_vocabulary
    from gengram.tokenization.train_tokenizer import train_bpe_tokenizer

    set_seed(0)
    assert main(["corpus", "build", str(root / "corpus.yaml"), "--out", str(root / "corpus"), "--quiet"]) == 0
    table = ["--train_file", str(root / "table.csv"), "--label_column", "label", "--max_steps", "1", "--use_cpu"]
    table += ["--report_to", "none", "--validation_fraction", "0", "--quiet"]
    backbone = ["--backbone", "bert", "--backbone_config", json.dumps(SIZE)]
    assert main(["finetune", *table, *backbone, "--out", str(root / "run")]) == 0
    model = root / "model"
    shutil.copytree(root / "run" / "seed-0", model)
    adapting = ["--model", str(model), "--peft", "lora", "--out", str(root / "adapted")]
    assert main(["finetune", *table, *adapting]) == 0
    shutil.move(root / "adapted" / "seed-0", root / "adapter")
    loaded = auto(model, "sequence_classification")
    for name in ("sharded", "pickled"):
        shutil.copytree(model, root / name)
        (root / name / "model.safetensors").unlink()
    loaded.save_pretrained(root / "sharded", max_shard_size="8KB")
    torch.save(loaded.state_dict(), root / "pickled" / "pytorch_model.bin")
    for name, tokenizer in (
        ("bases", build_nucleotide_tokenizer()),
        ("pairs", train_bpe_tokenizer(draw_sequences(40, length=200), vocab_size=60)),
    ):
        tokenizer.save_pretrained(root / name)
    kmers = EsmConfig(vocab_size=75, pad_token_id=1, mask_token_id=2, max_position_embeddings=64, **SIZE)
    EsmForMaskedLM(kmers).save_pretrained(root / "kmers")
    (root / "kmers" / "vocab.txt").write_text("\n".join(list_kmer_vocabulary(3)) + "\n")
    settings = {"tokenizer_class": "EsmTokenizer", "model_max_length": 60}
    (root / "kmers" / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, vocabulary, settings in (
        ("overlapping", list_overlapping_vocabulary(2), {"shift": 2, "max_len": 60}),
        ("whole_kmers", ["<oov>", "<s>", "</s>", "<pad>", "<mask>", *list_overlapping_vocabulary(2)[5:]], {"k": 2}),
    ):
        (root / name).mkdir()
        (root / name / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (root / name / "tokenizer_config.json").write_text(json.dumps(settings))
    SegmentNTForTokenClassification(SegmentNTConfig(features=["exon"], **SIZE)).save_pretrained(root / "segmenter")
    build_kmer_tokenizer().save_pretrained(root / "segmenter")
    llama = LlamaConfig(vocab_size=128, max_position_embeddings=64, pad_token_id=0, **SIZE)
    memory = {"memory_layers": [0], "kmer_sizes": [1, 2], "memory_dim": 4, "window_size": 6}
    GengramForCausalLM(GengramConfig(backbone_config=llama, **memory)).save_pretrained(root / "causal")
    build_nucleotide_tokenizer().save_pretrained(root / "causal")
    convert_to_megatron(root / "causal", root / "megatron")
    _spread(root / "megatron" / "release" / "mp_rank_00" / "model_optim_rng.pt", root / "distributed")


def _spread(file: Path, folder: Path) -> None:
    """Write a legacy checkpoint of one rank as `torch_dist`."""
    import torch
    import torch.distributed.checkpoint as dcp

    content = torch.load(file, weights_only=False)  # written a moment ago
    torch.save(content, file)  # with the checksums of the data, which were filled in later
    tensors = {name: tensor for name, tensor in content["model"].items() if isinstance(tensor, torch.Tensor)}
    state = {
        name.replace("decoder.layers.0.", "decoder.layers."): tensor[None] if ".layers.0." in name else tensor
        for name, tensor in tensors.items()
    }
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    torch.save({"args": argparse.Namespace(**vars(content["args"]))}, folder / "common.pt")


def make_texts(root: Path) -> None:
    """A recipe, the space of a search and a card."""
    recipe = {"model": str(root / "model"), "train_file": str(root / "table.csv"), "label_column": "label"}
    recipe |= {"max_steps": 1, "learning_rate": 1e-4, "use_cpu": True, "report_to": "none", "validation_fraction": 0}
    (root / "task.yaml").write_text(
        "title: one\nproblem: single_label\nmetric: mcc\nhub: {id: lab/one, data_files: {test: a.csv}}\n"
        "columns: {sequence: seq, label: [a, b]}\nclasses: [x, y]\ncodes: {x: 1, y: 0}\nrows: {train: 3, test: ~}\n"
        "length: {min: 1, max: 9}\nunverified: [rows.test]\nrecalled: [classes]\n"
    )
    (root / "facts.yaml").write_text(
        f"NTB/H3:\n  revision: {'0' * 40}\n  rows: {{train: 3}}\n  licence: MIT\n  classes: [negative, positive]\n"
    )
    (root / "recipe.yaml").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in recipe.items()))
    space = "learning_rate: {low: 1e-5, high: 1e-3, log: true}\nsequences_per_step: [8, 16]\n"
    (root / "space.yaml").write_text(space)
    (root / "card.md").write_text(CARD)


def make_sound(root: Path) -> Path:
    """Write all of them into a folder; returns it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    root.mkdir(parents=True, exist_ok=True)
    make_tables(root)
    make_models(root)
    make_texts(root)
    for path in (root, *root.rglob("*")):  # also for a process without rights
        path.chmod(0o755 if path.is_dir() else 0o644)
    return root


if __name__ == "__main__":
    import sys

    make_sound(Path(sys.argv[1]))
