"""What `gengram dataset push` would publish: configurations, splits, parquet, checksums, card."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import DatasetCard

from gengram.errors import InputError
from gengram.training.publishing.command import push_dataset as main
from gengram.training.publishing.dataset import prepare_dataset

TABLE = "seq,label,chrom\nACGT,1,chr1\n ACGTN ,0,chr2\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(TABLE)
    (tmp_path / "data" / "test_shared.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    (tmp_path / "data" / "README.md").write_text("notes")
    return tmp_path / "data"


@pytest.fixture
def workspace(tmp_path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def test_one_configuration(folder, workspace):
    upload = prepare_dataset(folder, "lab/data", workspace, license="mit")
    assert set(upload.files) == {
        "default/train-00000-of-00001.parquet",
        "default/test-00000-of-00001.parquet",
        "SHA256SUMS",
        "README.md",
    }
    assert upload.left_out == {"README.md": "no table of a split"} and upload.repo_type == "dataset"
    rows = Dataset.from_parquet(str(upload.files["default/test-00000-of-00001.parquet"]))
    assert rows.to_dict() == {"sequence": ["ACGT", "ACGTN"], "label": [1, 0], "chrom": ["chr1", "chr2"]}
    card = DatasetCard(upload.files["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.configs == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "default/train-*"},
                {"split": "test", "path": "default/test-*"},
            ],
        }
    ]
    digest = hashlib.sha256((folder / "train.csv").read_bytes()).hexdigest()[:12]
    assert f"| default | train | 2 | 4 to 5 | `sequence`, `label`, `chrom` | train.csv | `{digest}` |" in card.text


def test_the_checksums_are_those_of_the_files_and_do_not_change(folder, workspace, tmp_path):
    upload = prepare_dataset(folder, "lab/data", workspace)
    sums = dict(reversed(line.split("  ")) for line in upload.files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(content.read_bytes()).hexdigest()
        for name, content in upload.files.items()
        if isinstance(content, Path)
    }
    (tmp_path / "again").mkdir()
    assert prepare_dataset(folder, "lab/data", tmp_path / "again").files["SHA256SUMS"] == upload.files["SHA256SUMS"]


def test_folders_are_configurations_and_what_is_published_loads(tmp_path, workspace):
    for config in ("donor", "acceptor"):
        (tmp_path / "data" / config).mkdir(parents=True)
        for name in ("train.tsv", "dev.tsv"):
            (tmp_path / "data" / config / name).write_text(TABLE.replace(",", "\t"))
    (tmp_path / "data" / "figures").mkdir()
    (tmp_path / "data" / "figures" / "plot.svg").write_text("<svg/>")
    upload = prepare_dataset(tmp_path / "data", "lab/data", workspace)
    for name, content in upload.files.items():
        if isinstance(content, bytes):
            (workspace / name).write_bytes(content)
    loaded = load_dataset(str(workspace), "donor", cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "validation": 2}
    assert "4 sequences" not in upload.card.text and "8 sequences in 2 configurations" in upload.card.text
    assert upload.left_out["figures"] == upload.left_out["figures/plot.svg"] == "no table of a split"
    assert 'load_dataset("lab/data", "acceptor", split="train")' in upload.card.text


def test_an_unknown_licence_is_said(folder, workspace):
    card = prepare_dataset(folder, "lab/data", workspace).card
    assert card.data.license == "unknown" and "Nobody has stated one" in card.text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("train.tsv", TABLE.replace(",", "\t"), r"train\.csv and train\.tsv are both the train split"),
        ("dev.csv", "seq,label\nACGT,1\n", r"dev\.csv: column 'chrom' is missing"),
        ("valid.csv", TABLE.replace("1,", "one,").replace("0,", "none,"), r"column 'label' is (large_)?string, but in"),
        ("dev.csv", "", r"dev\.csv"),
        ("dev.csv", "name,label\na,1\n", r"dev\.csv: .*sequence"),
    ],
)
def test_tables_that_do_not_fit(folder, workspace, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=message):
        prepare_dataset(folder, "lab/data", workspace)


def test_folders_without_tables(tmp_path, workspace):
    with pytest.raises(InputError, match="there is no such folder"):
        prepare_dataset(tmp_path / "nothing", "lab/data", workspace)
    with pytest.raises(InputError, match="Name them train, validation and test"):
        prepare_dataset(workspace, "lab/data", workspace)


def test_the_command(folder, capsys):
    assert main([str(folder), "lab/data", "--dry-run"]) == 0
    names = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert "default/train-00000-of-00001.parquet" in names and "SHA256SUMS" in names
    assert main([str(folder / "none"), "lab/data", "--dry-run"]) == 1
    assert "gengram dataset push: error:" in capsys.readouterr().err
    for argv in ([str(folder), "data"], [str(folder), "lab/data", "more"], []):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_that_lead_out_of_the_folder_are_refused_and_named(folder, workspace, kind):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "train.csv").write_text(TABLE)
    if kind == "file":
        (folder / "train.csv").unlink()
        (folder / "train.csv").symlink_to(outside / "train.csv")
    else:
        (folder / "train.csv").unlink()
        (folder / "test_shared.csv.gz").unlink()
        (folder / "donor").symlink_to(outside)
    with pytest.raises(InputError, match=rf"^{'donor/' if kind == 'folder' else ''}train\.csv: .* leads out of"):
        prepare_dataset(folder, "lab/data", workspace)


def test_what_is_no_file_is_left_out_by_name_and_a_link_to_the_folder_is_fine(folder, workspace):
    os.mkfifo(folder / "dev.csv")
    (folder / "valid.csv").symlink_to("nowhere")
    (folder / ".train.csv").write_text(TABLE)
    (folder.parent / "way").symlink_to(folder)
    left_out = prepare_dataset(folder.parent / "way", "lab/data", workspace).left_out
    assert {name: left_out[name] for name in ("dev.csv", "valid.csv", ".train.csv")} == {
        "dev.csv": "a pipe",
        "valid.csv": "a link that leads nowhere",
        ".train.csv": "hidden",
    }


@pytest.mark.parametrize(
    "name, content, place",
    [
        ("train.csv", TABLE.replace("chr2", "/home/alice/x"), r"train\.csv, row 2, column 'chrom'"),
        ("train.csv", TABLE.replace("chrom", "/home/alice/x"), r"train\.csv, names of columns and metadata"),
        ("train_hf" + "_" + "a1" * 17 + ".csv", TABLE, r"README\.md, line "),
    ],
)
def test_what_is_private_in_a_table_is_refused_unless_it_is_allowed(folder, workspace, name, content, place, capsys):
    (folder / "test_shared.csv.gz").unlink()
    (folder / "train.csv").unlink()
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=place):
        prepare_dataset(folder, "lab/data", workspace)
    if "hf_" not in name:
        upload = prepare_dataset(folder, "lab/data", workspace, allow=["path"])
        assert upload.allowed[0].startswith("train.csv: an absolute path (1 place)")
        assert main([str(folder), "lab/data", "--dry-run", "--allow", "path"]) == 0
        assert "published, as allowed: train.csv: an absolute path" in capsys.readouterr().err


def test_letters_that_are_not_dna_are_told_or_refused(folder, workspace, capsys):
    (folder / "validation.csv").write_text("seq,label,chrom\nMKVLAAGIVGLL,1,chr1\n")
    with pytest.raises(InputError, match=r"validation\.csv: 8 of 12 letters are not DNA.*'M' at position 0"):
        prepare_dataset(folder, "lab/data", workspace)
    prepare_dataset(folder, "lab/data", workspace, max_non_dna=1)
    assert "validation.csv: 8 of 12 letters are not DNA" in capsys.readouterr().err


def test_the_classes_of_a_task_are_the_names_of_its_labels(folder, workspace):
    (folder / "task.yaml").write_text(
        "title: Odd | even\nclasses: [odd, even]\ncodes: {odd: 1, even: 0}\nlicence: MIT\nproblems: [Made <up>.]\n"
    )
    upload = prepare_dataset(folder, "lab/data", workspace)
    rows = Dataset.from_parquet(str(upload.files["default/test-00000-of-00001.parquet"]))
    assert rows.features["label"].names == ["odd", "even"] and rows["label"][:] == [0, 1]
    assert upload.files["default/task.yaml"] == folder / "task.yaml" and "task.yaml" not in upload.left_out
    assert "default/task.yaml" in upload.files["SHA256SUMS"].decode()
    assert upload.card.data.license == "mit" and "| Odd &#124; even | 0 odd, 1 even | MIT |" in upload.card.text
    assert "- default: Made " in upload.card.text and "<up>" not in upload.card.text
    (folder / "train.csv").write_text(TABLE + "ACGT,7,chr1\n")
    with pytest.raises(InputError, match=r"train\.csv, data row 3: label '7'.*the classes are 1 'odd', 0 'even'"):
        prepare_dataset(folder, "lab/data", workspace)


def test_folders_of_folders_are_configurations_too(tmp_path, workspace):
    for task in ("GB/one", "NTB/one"):
        (tmp_path / "data" / task).mkdir(parents=True)
        (tmp_path / "data" / task / "train.csv").write_text(TABLE)
        (tmp_path / "data" / task / "eval.fna").write_text(">a|1\nACGT\n")
    (tmp_path / "data" / "GB" / "one" / "eval.fna").unlink()
    (tmp_path / "data" / "NTB" / "one" / "train.csv").unlink()
    upload = prepare_dataset(tmp_path / "data", "lab/data", workspace)
    assert {name for name in upload.files if name.endswith("parquet")} == {
        "GB--one/train-00000-of-00001.parquet",
        "NTB--one/validation-00000-of-00001.parquet",
    }
