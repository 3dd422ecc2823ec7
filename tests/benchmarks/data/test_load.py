"""Rows of tasks from folders: every layout into one schema, labels by name; what is wrong is said with its place."""

import gzip

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

import gengram
from gengram.benchmarks.data.load import load_task, read_files, read_task
from gengram.errors import InputError


def test_a_folder_of_train_and_test(write, table):
    write("train.csv.gz", table())
    folder = write("test_shared.csv.gz", table(4))
    loaded = read_task("mine", data=folder)
    assert loaded.splits["train"].features == Features(
        {"sequence": Value("string"), "label": ClassLabel(names=["0", "1"])}
    )
    assert {split: len(rows) for split, rows in loaded.splits.items()} == {"train": 8, "test": 4}
    assert [(each.split, each.rows, each.kind, len(each.sha256)) for each in loaded.sources] == [
        ("train", 8, "folder", 64),
        ("test", 4, "folder", 64),
    ]
    assert (loaded.task.name, loaded.task.problem, loaded.task.metric) == ("mine", "single_label", "mcc")
    assert loaded.survey.warnings == []


def test_the_name_of_the_package_and_a_folder_as_a_name(write, table, capsys):
    write("train.csv", table())
    folder = write("test.csv", table(4) + "ACGTN,1\n")
    assert gengram.load_task is load_task
    rows = gengram.load_task(str(folder))
    assert rows["test"]["sequence"][-1] == "ACGTN"
    assert "test: 1 of 165 letters are not A, C, G or T" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bench/one", "one"])
def test_a_folder_of_folders(write, table, name):
    for task in ("one", "other"):
        write("train.csv", table(), f"data/bench/{task}")
        folder = write("test.csv", table(), f"data/bench/{task}")
    data = folder.parent if name == "one" else folder.parent.parent
    loaded = read_task(name, data=data)
    assert loaded.sources[0].file.endswith("bench/one/train.csv")
    with pytest.raises(InputError, match=r"no task 'bench/ones' here; did you mean 'bench/one'\?.*bench/other"):
        read_task("bench/ones", data=folder.parent.parent)


def test_a_benchmark_is_not_taken_for_another_that_has_a_task_of_the_name(write, table):
    write("train.csv", table(), "NTB/H3K36me3")
    folder = write("test.csv", table(), "NTB/H3K36me3")
    assert read_task("NTB/H3K36me3", data=folder.parent).task.name == "NTB/H3K36me3"
    assert read_task("H3K36me3", data=folder.parent).sources
    with pytest.raises(InputError, match="no task 'NTB-revised/H3K36me3' here"):
        read_task("NTB-revised/H3K36me3", data=folder.parent)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".fna", ".csv.gz", ".fna.gz", ".jsonl.gz"])
def test_formats(tmp_path, draw, suffix):
    rows = [(draw(), str(row % 2)) for row in range(6)]
    for split in ("train", "eval", "test"):
        path = tmp_path / f"{split}{suffix}"
        if ".parquet" in suffix:
            sequences, labels = zip(*rows)
            Dataset.from_dict({"sequence": sequences, "label": [int(label) for label in labels]}).to_parquet(path)
            continue
        if ".fna" in suffix:
            text = "".join(f">chr{row + 1}:0-40|{label}\n{each}\n" for row, (each, label) in enumerate(rows))
        elif ".jsonl" in suffix:
            text = "".join(f'{{"seq": "{each}", "label": {label}}}\n' for each, label in rows)
        else:
            text = "sequence,label\n" + "".join(f"{each},{label}\n" for each, label in rows)
            text = text.replace(",", "\t") if ".tsv" in suffix else text
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    loaded = load_task("any", data=tmp_path)
    assert list(loaded) == ["train", "validation", "test"]
    assert loaded["test"]["sequence"] == [each for each, _ in rows] and loaded["test"]["label"] == [0, 1, 0, 1, 0, 1]
    if ".fna" in suffix:
        assert loaded["test"][2] == {
            "sequence": rows[2][0], "label": 0, "chrom": "chr3", "start": 0, "end": 40, "name": "chr3:0-40",
        }  # fmt: skip


def test_shards_are_one_split(tmp_path, draw):
    for split, count in (("train", 2), ("test", 1)):
        for shard in range(count):
            rows = {"sequence": [draw() for _ in range(4)], "label": [0, 1, 0, 1]}
            Dataset.from_dict(rows).to_parquet(tmp_path / f"{split}-{shard:05}-of-{count:05}.parquet")
    loaded = read_task("any", data=tmp_path)
    assert len(loaded.splits["train"]) == 8 and [each.rows for each in loaded.sources] == [4, 4, 4]
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="1 of the 2 shards of 'train'"):
        read_task("any", data=tmp_path)


def test_pairs_keep_both_sequences(write, draw):
    head = "ref_forward_sequence,alt_forward_sequence,label,chromosome,tissue"
    lines = [f"{draw()},{draw()},{row % 2},chr{row},lung" for row in range(4)]
    write("train.csv", "\n".join([head, *lines]))
    folder = write("test.csv", "\n".join([head.replace("ref_forward_sequence", "ref_seq"), *lines]))
    rows = load_task("pairs", data=folder)["test"]
    assert rows.column_names == ["sequence", "alternative", "label", "chrom"]
    assert rows[3] == {
        "sequence": lines[3].split(",")[0], "alternative": lines[3].split(",")[1], "label": 1, "chrom": "chr3",
    }  # fmt: skip
    write("test.csv", f"seq,label\n{draw()},0\n")
    with pytest.raises(InputError, match=r"test\.csv: no column with the alternative sequences"):
        load_task("pairs", data=folder)


def test_references_alone_are_no_pairs(write, draw):
    lines = [f"{draw()},{draw()},{row % 2}" for row in range(4)]
    for name in ("train.csv", "test.csv"):
        folder = write(name, "\n".join(["ref_seq,mutated,label", *lines]))
    with pytest.raises(InputError, match=r"is of pairs.*'mutated'.*`columns: \{alternative: NAME\}` in the task\.yaml"):
        read_task("LRB/variant_effect_causal_eqtl", data=folder)
    write("task.yaml", "columns: {alternative: mutated}\n")
    rows = read_task("LRB/variant_effect_causal_eqtl", data=folder).splits["train"]
    assert rows["alternative"][:] == [line.split(",")[1] for line in lines]


def test_false_and_true_are_numbers_of_two_classes(tmp_path, write, draw):
    rows = [(draw(), row % 2 == 1) for row in range(6)]
    folder = write("train.csv", "seq,label\n" + "".join(f"{sequence},{label}\n" for sequence, label in rows))
    Dataset.from_dict({"seq": [row[0] for row in rows], "label": [row[1] for row in rows]}).to_parquet(
        folder / "test.parquet"
    )
    for task in ("GB/human_enhancers_cohn", "mine"):
        splits = read_task(task, data=folder).splits
        assert splits["train"]["label"][:] == splits["test"]["label"][:] == [0, 1, 0, 1, 0, 1]
    with pytest.raises(InputError, match=r"data row 1: label 'false'.*is none of the task's classes"):
        read_task("GB/human_ensembl_regulatory", data=folder)


def test_several_tasks_and_splits_in_one_file(write, draw):
    lines = ["dataset,split,label,region,start,end,strand,seq"]
    for dataset in ("one", "other"):
        for split, label in (("train", "positive"), ("train", "negative"), ("test", "negative")):
            lines.append(f"{dataset},{split},{label},chr20,100,140,-,{draw()}")
    folder = write("all.csv", "\n".join(lines))
    loaded = read_task("one", data=folder)
    assert loaded.classes == ("negative", "positive")
    assert {split: rows["label"] for split, rows in loaded.splits.items()} == {"train": [1, 0], "test": [0]}
    assert loaded.splits["test"][0] | {"sequence": ""} == {
        "sequence": "", "label": 0, "chrom": "chr20", "start": 100, "end": 140, "strand": "-",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"the column 'dataset' has 2 tasks, 'one', 'other'; none is called 'ones'"):
        read_task("ones", data=folder)
    folder = write("all.csv", "\n".join(lines).replace("other,test", "other,held"))
    assert len(read_task("one", data=folder).splits["train"]) == 2
    with pytest.raises(InputError, match=r"data row 3: 'held' in column 'split' is no split"):
        read_task("other", data=folder)


def test_labels_go_by_the_names_of_classes_and_numbers_are_ids(write, draw):
    def fill(*labels):
        for split in ("train", "test"):
            write(f"{split}.csv", "seq,label\n" + "".join(f"{draw()},{label}\n" for label in labels), "GB/x")
        return write("README.md", "", "GB/x").parent

    name = "GB/human_ensembl_regulatory"
    data = fill("promoter", "enhancer", "ocr")
    (data / "x").rename(data / "human_ensembl_regulatory")
    loaded = read_task(name, data=data)
    assert loaded.classes == ("enhancer", "ocr", "promoter") and loaded.splits["test"]["label"] == [2, 0, 1]
    data = fill(0, 1, 2)
    assert read_task(name, data=data / "x").splits["test"]["label"] == [0, 1, 2]
    # The copy on the Hub counts promoters first.
    write("task.yaml", "classes: [enhancer, ocr, promoter]\ncodes: {promoter: 0, enhancer: 1, ocr: 2}", "GB/x")
    assert read_task(name, data=data / "x").splits["test"]["label"] == [2, 0, 1]
    fill(0, 1, 3)
    with pytest.raises(InputError, match=r"train\.csv, data row 3: label '3'.*the classes are 0 'promoter', 1 'enh"):
        read_task(name, data=data / "x")
    (data / "x" / "task.yaml").unlink()
    with pytest.raises(InputError, match=r"train\.csv, data row 3: label '3'.*the classes are 0 'enhancer', 1 'ocr'"):
        read_task(name, data=data / "x")
    fill("promoter", "enhancers", "ocr")
    with pytest.raises(InputError, match=r"data row 2: label 'enhancers'.*did you mean 'enhancer'\?"):
        read_task(name, data=data / "x")


def test_classes_that_a_parquet_file_names_keep_their_order(tmp_path, draw):
    features = Features({"sequence": Value("string"), "label": ClassLabel(names=["b", "a", "c"])})
    for split in ("train", "test"):
        rows = {"sequence": [draw() for _ in range(4)], "label": [0, 1, 0, 1]}
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
    loaded = read_task("any", data=tmp_path)
    assert loaded.classes == ("b", "a", "c") and loaded.splits["train"]["label"] == [0, 1, 0, 1]
    assert loaded.survey.warnings == [f"{split}: no row is of class 'c'" for split in ("train", "test")]


@pytest.mark.parametrize(
    "labels, problem, feature, classes",
    [
        (["0.5", "1.25", "-3.5", "2"], "regression", Value("float32"), ("label",)),
        (["0.5;1", "1.25;2", "3;4", "5;6"], "regression", List(Value("float32"), length=2), ("label_0", "label_1")),
        (["a;b", "b", "", "a"], "multi_label", List(Value("int8"), length=2), ("a", "b")),
        (["0110", "1111", "0000", "1010"], "token", List(Value("int64")), ("0", "1")),
    ],
)
def test_other_problems(write, labels, problem, feature, classes):
    text = "seq,label\n" + "".join(f"{'ACGT' if problem == 'token' else 'ACGTA'},{label}\n" for label in labels)
    write("train.csv", text)
    loaded = read_task("any", data=write("test.csv", text))
    assert (loaded.problem, loaded.classes, loaded.splits["test"].features["label"]) == (problem, classes, feature)


def test_a_task_file_says_more(write, table):
    write("train.csv", table())
    write("test.csv", table())
    folder = write(
        "task.yaml",
        "title: Mine\nclasses: [no, yes]\nlicence: CC0-1.0\nassembly: hg19\nproblems: [Made up.]\nmetric: auroc\n",
    )
    task = read_task("mine", data=folder).task
    assert (task.title, task.classes, task.licence, task.assembly) == ("Mine", ("no", "yes"), "CC0-1.0", "hg19")
    assert (task.problems, task.metric) == (("Made up.",), "auroc")
    write("task.yaml", "metric: pearson\n")
    with pytest.raises(InputError, match=r"mine: task\.yaml: metric 'pearson' is none of a single_label task"):
        read_task("mine", data=folder)
    write("task.yaml", "columns: {sequence: bases}\nlabels: [no]\n")
    with pytest.raises(InputError, match=r"task\.yaml, line 2: no field of a task is called 'labels'"):
        read_task("mine", data=folder)


def test_another_test_file(write, table, tmp_path):
    write("train.csv", table())
    write("test_shared.csv", table(4))
    folder = write("test_heldout.csv", table(6))
    with pytest.raises(
        InputError, match=r"several files for the split 'test', 'test_heldout.csv', 'test_shared.csv'.*t"
    ):
        read_task("any", data=folder)
    assert len(read_task("any", data=folder, test_file="test_heldout.csv").splits["test"]) == 6
    (tmp_path / "elsewhere.jsonl").write_text('{"sequence": "ACGT", "label": 1}\n')
    loaded = read_task("any", data=folder, test_file=tmp_path / "elsewhere.jsonl")
    assert loaded.splits["test"]["label"] == [1] and loaded.sources[-1].file.endswith("elsewhere.jsonl")
    with pytest.raises(InputError, match=r"test_file='none\.csv': there is no such file, nor in"):
        read_task("any", data=folder, test_file="none.csv")
    for file in ("test_shared.csv", "test_heldout.csv"):
        (folder / file).unlink()
    assert len(read_task("any", data=folder, test_file=tmp_path / "elsewhere.jsonl").splits) == 2


def test_own_files(write, table):
    write("a.csv", table())
    folder = write("b.csv", table(4))
    loaded = read_files("own", train_file=folder / "a.csv", test_file=folder / "b.csv")
    assert {split: len(rows) for split, rows in loaded.splits.items()} == {"train": 8, "test": 4}


BROKEN = gzip.compress(b"seq,label\n" + b"ACGTACGTAC,1\n" * 2000)[:60]


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"train.csv": "seq,label\nACGT,0\nTTTT,1\n"},
            r"no file for the split 'test'; there is 'train\.csv'.*test_file",
        ),
        ({"test.csv": "seq,label\nACGT,0\n"}, r"no file for the split 'train'"),
        ({"notes.txt": "x"}, "no tables here"),
        ({"a.csv": "seq,label\nACGT,0\n", "b.csv": "seq,label\nACGT,0\n"}, r"none of the tables 'a\.csv', 'b\.csv' is"),
        ({"train.csv": None, "train.csv.gz": None, "test.csv": None}, r"several files for the split 'train'.*keep one"),
        ({"train.csv.gz": BROKEN, "test.csv": None}, r"train\.csv\.gz.*(cut off|damaged|gzip)"),
        ({"train.csv": "seq,label\n", "test.csv": None}, r"train\.csv: the file has a header but no data rows"),
        ({"train.csv": "", "test.csv": None}, r"train\.csv: the file is empty"),
        ({"train.csv": "bases,label\nACGT,0\n", "test.csv": None}, r"train\.csv: no sequence column"),
        (
            {"train.csv": "seq,class\nACGT,0\n", "test.csv": None},
            r"no label column.*'class'\. Name.*`columns: \{label: NAME\}` in",
        ),
        ({"train.csv": None, "test.csv": "seq,label\nACGT,0\nACGT,7\n"}, r"test\.csv, data row 2: label '7'.*are '0'"),
        ({"train.csv": None, "test.csv": "seq,label\nACGT,0\nACGT,nan\n"}, r"test\.csv, data row 2: column 'label'"),
        (
            {"train.csv": "seq,label\nACGT,0\n,1\n", "test.csv": None},
            r"train\.csv, data row 2: column 'seq' has no",
        ),
        (
            {"train.csv": "seq,label\nACGT,0\nACGG,2\n", "test.csv": None},
            r"must be 0\.\.C-1.*`problem: regression` in the task",
        ),
        ({"train.csv": "seq,label\nMKVLAAGIVGLL,0\nMKVL,1\n", "test.csv": None}, r"letters are not DNA"),
        ({"train.bed": "chr1\t0\t10\n", "test.csv": None}, r"no file for the split 'train'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, table, files, message):
    for name, content in files.items():
        folder = write(name, content if isinstance(content, str) else table())
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_task("any", data=folder)


def test_folders_that_are_not_there(tmp_path):
    (tmp_path / "file").write_text("")
    for data, message in (("none", "no such folder"), ("file", "a file; give the folder"), (".", "no tables here")):
        with pytest.raises(InputError, match=message):
            read_task("any", data=tmp_path / data)
    with pytest.raises(InputError, match="there is no task 'GB/human_enhancer_cohn'; did you mean"):
        read_task("GB/human_enhancer_cohn")
    (tmp_path / "data").mkdir()
    (tmp_path / "train.csv").write_text("seq,label\nACGT,0\nTTTT,1\n")
    (tmp_path / "test.csv").write_text("seq,label\nACGT,0\nTTTT,1\n")
    with pytest.raises(InputError, match="no tables here"):
        read_task("../..", data=tmp_path / "data")


def list_real_tasks(shared):
    data = shared / "data" / "benchmarks"
    return data, [path.parent.relative_to(data).as_posix() for path in sorted(data.glob("*/*/train.csv.gz"))]


def test_every_real_folder_loads_as_it_is(shared):
    data, names = list_real_tasks(shared)
    assert len(names) == 55
    for name in names:
        loaded = read_task(name, data=data)
        assert set(loaded.splits) == {"train", "test"}
        assert ("alternative" in loaded.splits["train"].column_names) == (name.split("/")[1] == VARIANTS)
        for split in loaded.survey.splits.values():
            assert min(split.classes.values()) > 0 and sum(split.classes.values()) == split.rows
        assert len(loaded.splits["train"]) == loaded.survey.splits["train"].rows == loaded.sources[0].rows


VARIANTS = "variant_common_vs_singleton_chr20"


def test_copies_that_the_real_folders_have(shared):
    data, _ = list_real_tasks(shared)
    survey = read_task("NTB/enhancers_iEnhancer2L", data=data).survey
    assert survey.shared["train and test"] == {"exact": 58, "reverse_complement": 0}
    survey = read_task("other/promoter_ecoli_81", data=data).survey
    assert survey.shared["train and test"] == {"exact": 0, "reverse_complement": 1}
    assert any("--dedup" in warning for warning in survey.warnings)


def test_samples_of_the_published_layouts(shared):
    data = shared / "data" / "benchmarks" / "layout_samples"
    pairs = read_task("KEGG_variant_disease", data=data)
    assert list(pairs.splits) == ["validation"] and len(pairs.classes) == 27
    assert pairs.splits["validation"].column_names == ["sequence", "alternative", "label"]
    revised = read_task("NTB_revised/splice_sites_all", data=data)
    assert len(revised.splits["train"]) == 503 and set(revised.splits["train"].column_names) == {
        "sequence", "label", "chrom", "start", "end", "name",
    }  # fmt: skip
    assert read_task("NTB-revised/enhancers", data=data / "NTB_revised").task.benchmark == "NTB-revised"
    intervals = read_task("GB/human_nontata_promoters", data=data / "GB_intervals_rebuilt")
    assert intervals.classes == ("negative", "positive") and set(intervals.splits) == {"train", "test"}
    assert intervals.splits["test"].features["start"] == Value("int64")
