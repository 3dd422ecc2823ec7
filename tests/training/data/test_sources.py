"""Where rows come from: files, folders, data sets that `datasets` wrote, and ids that cannot be reached."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from transformers import BertConfig

from gengram.errors import InputError
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments
from gengram.training.command import finetune as main
from gengram.training.data.inputs import prepare_splits
from gengram.training.data.sources import read_sources

GENOMES = Path(__file__).parents[4] / "shared" / "data" / "genomes"


@pytest.fixture
def tables(draw_table) -> dict[str, pd.DataFrame]:
    return {"train": draw_table(40, 0), "validation": draw_table(12, 1), "test": draw_table(10, 2)}


def read(dataset: Path, **options) -> dict:
    return read_sources(DataArguments(dataset=str(dataset), **options))


def test_a_folder_with_one_file_a_split(tables, tmp_path):
    tables["train"].to_csv(tmp_path / "train.csv", index=False)
    tables["validation"].to_json(tmp_path / "dev.jsonl", orient="records", lines=True)
    records = "".join(f">r|{label}\n{bases}\n" for bases, label in tables["test"][["seq", "label"]].to_numpy())
    (tmp_path / "test.fna.gz").write_bytes(gzip.compress(records.encode()))
    sources = read(tmp_path)
    assert list(sources) == ["train", "validation", "test"]
    for split, source in sources.items():
        assert source.rows["sequence"][:] == tables[split]["seq"].tolist()
        assert source.rows["label"][:] == tables[split]["label"].tolist()
    assert sources["validation"].name == str(tmp_path / "dev.jsonl")
    (tmp_path / "valid.csv").write_text("seq,label\n")
    with pytest.raises(InputError, match=r"two files for the split 'validation': valid\.csv and dev\.jsonl"):
        read(tmp_path)


def test_a_task_in_a_sub_folder(tables, tmp_path):
    (tmp_path / "H3").mkdir()
    tables["train"].to_csv(tmp_path / "H3/train.csv", index=False)
    assert list(read(tmp_path, dataset_config="H3")) == ["train"]


def test_a_data_set_that_was_saved(tables, tmp_path):
    splits = {"train": tables["train"], "valid": tables["validation"], "test": tables["test"], "extra": tables["test"]}
    data = DatasetDict({name: Dataset.from_pandas(table) for name, table in splits.items()})
    data = data.cast_column("label", ClassLabel(names=["without", "with"]))
    data.save_to_disk(tmp_path / "saved")
    sources = read(tmp_path / "saved")
    assert list(sources) == ["train", "validation", "test"]
    assert sources["train"].rows.features["label"].names == ["without", "with"]
    assert sources["train"].rows["sequence"][:] == tables["train"]["seq"].tolist()
    data["train"].save_to_disk(tmp_path / "one")
    assert list(read(tmp_path / "one")) == ["train"]
    assert read(tmp_path / "one")["train"].sha256 == sources["train"].sha256


def test_a_folder_that_datasets_can_read(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub/data").mkdir(parents=True)
    for split, table in tables.items():
        table.to_parquet(tmp_path / f"hub/data/{split}-00000-of-00001.parquet")
    sources = read(tmp_path / "hub")
    assert {split: len(source.rows) for split, source in sources.items()} == {"train": 40, "validation": 12, "test": 10}


def test_a_run_on_a_folder(tables, tmp_path, command, run_folder):
    (tmp_path / "task").mkdir()
    for split, table in tables.items():
        table.to_csv(tmp_path / f"task/{split}.tsv", sep="\t", index=False)
    assert main(command(train_file=None, test_file=None, dataset=tmp_path / "task", validation_fraction=0)) == 0
    assert (run_folder / "report.json").exists()


def test_a_data_set_without_a_split_to_train_on(tables, tmp_path):
    DatasetDict({"test": Dataset.from_pandas(tables["test"])}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="no split is called 'train'; the splits are test"):
        read(tmp_path / "saved")


def test_a_hub_id_without_a_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"nobody/nothing: .*data set is not in the cache.*models fetch --dataset nobody/no"
    ):
        read(Path("nobody/nothing"))


def test_an_empty_folder(tmp_path):
    with pytest.raises(
        InputError,
        match=r"this folder cannot be read as a data set: .*[^.]\. Its tables are found by their names: train.csv",
    ):
        read(tmp_path)


@pytest.mark.parametrize("files", [{"train_file": "a.csv"}, {"test_file": "a.csv"}])
def test_files_beside_a_data_set_are_refused(files):
    with pytest.raises(ValueError, match="either a dataset or files"):
        DataArguments(dataset="x", **files)


@pytest.mark.skipif(not GENOMES.exists(), reason=f"no real genomes at {GENOMES}")
def test_soft_masked_contigs_and_intervals_of_a_real_genome(command, tmp_path, run_folder):
    genome = GENOMES / "yeast_R64/R64-1-1_without_XVI.fa.gz"
    with gzip.open(genome, "rt") as file:
        contig = file.readline()[1:].split()[0]
    lines = [f"{contig}\t{i * 100}\t{i * 100 + 40}\t{'odd' if i % 2 else 'even'}\t0\t{'+-'[i % 2]}" for i in range(40)]
    (tmp_path / "peaks.bed").write_text("\n".join(lines) + "\n")
    argv = command(train_file=tmp_path / "peaks.bed", test_file=tmp_path / "peaks.bed", genome=genome)
    assert main(argv) == 0


def test_lower_case_and_iupac_codes_work_and_are_counted(command, task, tmp_path, run_folder, draw_table):
    table = draw_table(40, 0)
    records = "".join(
        f">r{i}|{label}\nacgtRY\n{bases}\n" for i, (bases, label) in enumerate(table[["seq", "label"]].values)
    )
    (tmp_path / "mixed.fa").write_text(records)
    argv = command(train_file=tmp_path / "mixed.fa", validation_fraction=0)
    assert main(argv) == 0
    described = json.loads((run_folder / "report.json").read_text())["data"]["train"]
    characters = table["seq"].str.len().sum() + 6 * 40
    assert described["characters"] == characters and described["unknown_token_share"] == 0
    assert described["lower_case_share"] == pytest.approx(4 * 40 / characters)
    assert described["iupac_share"] == pytest.approx(2 * 40 / characters)


def test_a_label_that_a_bed_file_lacks_is_named_with_its_line(tmp_path):
    (tmp_path / "genome.fa").write_text(">chr1\n" + "ACGTTGCA" * 8 + "\n")
    for text, told in [
        ("# peaks\nchr1\t0\t8\tyes\nchr1\t8\t16\t\n", r"line 3: column 4 \('name'\)"),
        ("#chrom\tstart\tend\tx\tlabel\nchr1\t0\t8\tx\t\n", r"line 2: column 5 \('label'\)"),
        ("chr1\t0\t8\tyes\nchr1\t8\t16\t.\nchr1\t16\t24\tno\n", r"line 2: column 4 \('name'\)"),
    ]:
        (tmp_path / "train.bed").write_text(text)
        with pytest.raises(InputError, match=rf"train\.bed, {told} has no value"):
            read(tmp_path, genome=str(tmp_path / "genome.fa"))


def test_a_label_column_that_a_bed_file_has_twice_is_refused(tmp_path):
    (tmp_path / "genome.fa").write_text(">chr1\n" + "ACGTTGCA" * 8 + "\n")
    (tmp_path / "train.bed").write_text("#chrom\tstart\tend\tlabel\tLabel\nchr1\t0\t8\ta\tb\nchr1\t8\t16\tb\ta\n")
    with pytest.raises(InputError, match=r"train\.bed: two columns are called 'label'; rename"):
        read(tmp_path, genome=str(tmp_path / "genome.fa"))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["0.5", "1.5", "inf"], "data row 1: target 'label' is inf"),
        (["0.5", "1_000", "2.5"], "column 'label', data row 2: '1_000' is no number"),
        (["0.5", "1.5", ""], "data row 1: target 'label' is nan"),
    ],
)
def test_a_fault_in_a_table_of_labels_is_told_of_that_table(tmp_path, small, labels, told):
    """Rows go together by name, so the table may have them in another order: they count as in the file of sequences."""
    (tmp_path / "train.fa").write_text("".join(f">{name}\n{'ACGTTGCA' * 3}\n" for name in "cba"))
    (tmp_path / "train.tsv").write_text("name\tlabel\n" + "".join(f"{n}\t{v}\n" for n, v in zip("abc", labels)))
    arguments = DataArguments(
        train_file=str(tmp_path / "train.fa"), label_files=[str(tmp_path / "train.tsv")], problem="regression"
    )
    with pytest.raises(InputError, match=rf"train\.tsv \(rows counted as in .*train\.fa\).*{told}"):
        prepare_splits(arguments, build_nucleotide_tokenizer(), BertConfig(**small))
