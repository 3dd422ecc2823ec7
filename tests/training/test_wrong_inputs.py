"""Wrong inputs of `gengram finetune`: a message that names the place, an exit code that is not 0, nothing written."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import BertConfig, BertForMaskedLM, TokenizersBackend

from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.command import finetune as main


def expect_failure(argv: list[str], capsys, *messages: str, code: int = 1, leaves: Path | None = None) -> None:
    """Run and check the message on stderr, the exit code, and that the output folder was not made."""
    try:
        returned = main(argv)
    except SystemExit as stop:
        returned = stop.code
    error = capsys.readouterr().err
    assert returned == code, error
    for message in messages:
        assert message in error
    assert "Traceback" not in error
    if leaves is not None:
        assert not leaves.exists()


def append_row(path: str, sequence: str, label: str) -> None:
    with open(path, "a") as file:
        file.write(f"{sequence},{label},chr1\n")


def test_an_empty_file(command, task, capsys, run_folder):
    Path(task["train_file"]).write_text("")
    expect_failure(command(), capsys, "train.csv: the file is empty", leaves=run_folder)


def test_a_header_without_rows(command, task, capsys, run_folder):
    Path(task["test_file"]).write_text("seq,label\n")
    expect_failure(command(), capsys, "test.csv: the file has a header but no data rows", leaves=run_folder)


def test_a_missing_file(command, capsys, run_folder):
    expect_failure(command(train_file="nowhere.csv"), capsys, "nowhere.csv: there is no such file", leaves=run_folder)


def test_a_csv_without_the_column(command, task, capsys, run_folder, draw_table):
    draw_table(20, 0).rename(columns={"seq": "bases"}).to_csv(task["train_file"], index=False)
    message = "the file's columns are 'bases', 'label', 'chrom'. Name the right one with"
    expect_failure(command(), capsys, message, "--sequence_column", leaves=run_folder)


def test_an_unknown_label_in_the_test_rows(command, task, capsys, run_folder):
    append_row(task["test_file"], "ACGT", "wiht")
    expect_failure(command(), capsys, "test.csv, data row 21: label 'wiht' is not one of", leaves=run_folder)


def test_an_unknown_label_in_the_validation_rows(command, tmp_path, capsys, run_folder, draw_table):
    draw_table(6, 3, classes=("with", "other")).to_csv(tmp_path / "own.csv", index=False)
    argv = command(validation_file=tmp_path / "own.csv")
    expect_failure(argv, capsys, "own.csv, data row 2: label 'other' is not one of", leaves=run_folder)


def test_a_label_column_with_missing_values(command, task, capsys, run_folder):
    append_row(task["train_file"], "ACGT", "")
    expect_failure(command(), capsys, "train.csv, data row 61: column 'label' has no value", leaves=run_folder)


def test_a_label_column_with_gaps_between_the_numbers(command, task, capsys, run_folder, draw_table):
    draw_table(60, 0, classes=(0, 1, 3)).to_csv(task["train_file"], index=False)
    message = "class numbers must be 0..C-1 without gaps, but 0, 1, 3 were found (label 3 first in data row 3)"
    expect_failure(command(), capsys, "train.csv", message, leaves=run_folder)


def test_a_gzip_file_that_is_cut_off(command, task, capsys, run_folder, tmp_path):
    whole = gzip.compress(Path(task["train_file"]).read_bytes())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    argv = command(train_file=tmp_path / "cut.csv.gz")
    expect_failure(argv, capsys, "cut.csv.gz: the gzip file is cut off or damaged", leaves=run_folder)


def test_a_parquet_file_that_is_none(command, task, capsys, run_folder, tmp_path):
    Path(task["train_file"]).rename(tmp_path / "train.parquet")
    argv = command(train_file=tmp_path / "train.parquet")
    expect_failure(argv, capsys, "train.parquet: not a Parquet file, or cut off", leaves=run_folder)


def test_a_sequence_longer_than_the_model(command, task, capsys, run_folder):
    append_row(task["train_file"], "ACGT" * 20, "with")
    argv = command(backbone_config={"max_position_embeddings": 64})
    message = "train.csv, data row 61: the sequence of 80 bp is 80 tokens, but the limit is 64 tokens (1 of 61 rows"
    expect_failure(argv, capsys, message, "--too_long truncate", "max_position_embeddings", leaves=run_folder)


def test_a_sequence_longer_than_esm_with_its_shifted_positions(command, task, capsys, run_folder):
    append_row(task["train_file"], "ACGT" * 16, "with")
    expect_failure(command(backbone="esm"), capsys, "64 bp is 64 tokens, but the limit is 63", leaves=run_folder)


def test_a_max_length_beyond_the_model(command, capsys, run_folder):
    message = "max_length=4096 tokens is longer than the model, which takes 2048 tokens"
    expect_failure(command(max_length=4096), capsys, message, leaves=run_folder)


def test_a_memory_layer_that_does_not_exist(command, capsys, run_folder):
    argv = command(memory={"memory_layers": [0, 2]})
    expect_failure(argv, capsys, "memory does not fit: memory_layers=[0, 2]: layer 2 does not exist", leaves=run_folder)


def test_a_window_shorter_than_the_largest_kmer(command, capsys, run_folder):
    argv = command(memory={"window_size": 2})
    message = "memory does not fit: window_size=2 is shorter than the largest k-mer (3 bases)"
    expect_failure(argv, capsys, message, leaves=run_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"memory": {"memory_layer": [0]}},
            "memory: GengramConfig has no field 'memory_layer'; did you mean 'memory_layers'?",
        ),
        ({"memory": {"memory_layers": [0], "gate": "relu"}}, "memory does not fit"),
        ({"backbone_config": {"hiden_size": 8}}, "LlamaConfig has no field 'hiden_size'; did you mean 'hidden_size'?"),
        ({"backbone_config": {"hidden_size": "8"}}, "backbone_config does not fit llama"),
        ({"backbone_config": {"hidden_size": 10, "num_attention_heads": 4}}, "backbone_config does not fit llama"),
        (
            {"backbone": "lama"},
            "backbone='lama' is no architecture of transformers; did you mean",
        ),
        (
            {"backbone_config": {"vocab_size": 12}},
            "tokenizer has the id 15, but the model has 12 embeddings",
        ),
        ({"load_best_model_at_end": True, "save_strategy": "epoch", "validation_fraction": 0}, "need validation rows"),
        ({"early_stopping_patience": 1, "validation_fraction": 0}, "need validation rows"),
        (
            {"early_stopping_patience": 1, "metric_for_best_model": "pearson"},
            "metric_for_best_model='pearson': choose mcc, accuracy, auroc, loss, macro_f1, auprc",
        ),
        ({"max_tokens_per_step": 20}, "max_tokens_per_step=20: the longest training sequence has 30 tokens"),
        ({"push_to_hub": True}, "push_to_hub needs the name of the repository"),
        ({"push_to_hub": True, "hub_model_id": "a b"}, "'a b' is no name for a repository"),
        ({"validation_fraction": 0.001}, "cannot put every class on both sides of a split"),
        ({"validation_chromosomes": ["chr9"]}, "validation_chromosomes: no row is on 'chr9'"),
        ({"tokenizer_name_or_path": "no/such/folder"}, "no/such/folder: no tokenizer can be read here"),
    ],
)
def test_arguments_that_do_not_fit_the_model_or_the_data(changes, message, command, capsys, run_folder):
    expect_failure(command(**changes), capsys, message, leaves=run_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_file": None}, "train_file is missing"),
        ({"backbone": None}, "give either model_name_or_path"),
        ({"model_name_or_path": "x", "backbone": "llama"}, "give either model_name_or_path"),
        ({"memory": "{memory_layers: [0]}"}, "memory is not JSON"),
        ({"memory": "[0, 1]"}, "memory must be a mapping"),
        ({"model_name_or_path": "x", "backbone_config": {}}, "a checkpoint brings its own configuration"),
        ({"validation_fraction": 1}, "validation_fraction=1.0: give a share"),
        ({"max_length": 0}, "max_length=0"),
        ({"group_similarity": 0.5}, "group_similarity=0.5: give a share from 0.8 to 1"),
        ({"test_chromosomes": ["chr1"]}, "give either test_file or test_chromosomes, not both"),
        ({"dataset": "x"}, "give either a dataset or files"),
        ({"label_start": -1}, "label_start=-1"),
        ({"problem": "ranking"}, "invalid choice: 'ranking'"),
        ({"seeds": [1, 1]}, "the same seed twice"),
        ({"seeds": [-1]}, "seeds=[-1]"),
        ({"seed": 3}, "there is no --seed; did you mean '--seeds'?"),
        ({"learning_rat": 3}, "there is no --learning_rat; did you mean '--learning_rate'?"),
        ({"num_train_epochs": "many"}, "invalid float value: 'many'"),
        ({"too_long": "cut"}, "invalid choice: 'cut'"),
    ],
)
def test_wrong_arguments_exit_with_2(changes, message, command, capsys, run_folder):
    expect_failure(command(**changes), capsys, message, "usage: gengram finetune", code=2, leaves=run_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_flie: x.csv", "no argument is called 'train_flie'; did you mean 'train_file'?"),
        ("- a\n- b", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("seeds: [0, 1", "cannot be read as YAML"),
        (None, "there is no such file"),
    ],
)
def test_a_wrong_recipe(text, message, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    if text is not None:
        recipe.write_text(text)
    expect_failure([str(recipe)], capsys, "recipe.yaml", message)


class TestCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path, small) -> Path:
        torch.manual_seed(0)
        BertForMaskedLM(BertConfig(vocab_size=128, **small)).save_pretrained(tmp_path / "checkpoint")
        build_nucleotide_tokenizer(model_max_length=64).save_pretrained(tmp_path / "checkpoint")
        return tmp_path / "checkpoint"

    @pytest.mark.parametrize("memory", [None, True], ids=["as it is", "with a memory"])
    @pytest.mark.parametrize("fault", ["cut off", "overwritten", "empty"])
    def test_corrupt_safetensors(self, fault, memory, folder, command, capsys, run_folder):
        weights = folder / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes({"cut off": content[:-100], "overwritten": b"\xff" * 1000, "empty": b""}[fault])
        argv = command(model_name_or_path=folder, memory=memory)
        expect_failure(argv, capsys, f"{folder}: the model's weights cannot be loaded: ", leaves=run_folder)

    def test_no_such_folder(self, command, capsys, run_folder, tmp_path):
        argv = command(model_name_or_path=tmp_path / "none")
        expect_failure(argv, capsys, "no repository of that name was asked for", leaves=run_folder)

    def test_no_weights(self, folder, command, capsys, run_folder):
        (folder / "model.safetensors").unlink()
        argv = command(model_name_or_path=folder)
        expect_failure(argv, capsys, "the model's weights cannot be loaded", leaves=run_folder)

    def test_a_broken_configuration(self, folder, command, capsys, run_folder):
        (folder / "config.json").write_text('{"model_type": "bert",')
        argv = command(model_name_or_path=folder)
        expect_failure(argv, capsys, str(folder), "no ", "can be read here", leaves=run_folder)

    @pytest.mark.parametrize("memory", [None, True], ids=["as it is", "with a memory"])
    def test_layers_that_the_checkpoint_does_not_have(self, memory, folder, command, capsys, run_folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        argv = command(model_name_or_path=folder, memory=memory)
        message = "16 weights of the model's body are missing or of another size, e.g. "
        expect_failure(argv, capsys, "the checkpoint does not fit Bert", message, "layer.2.", leaves=run_folder)

    def test_a_broken_configuration_beside_another_tokenizer(self, folder, command, capsys, run_folder, tmp_path):
        build_nucleotide_tokenizer().save_pretrained(tmp_path / "tokenizer")
        (folder / "config.json").write_text('{"model_type": "none such"}')
        argv = command(model_name_or_path=folder, tokenizer_name_or_path=tmp_path / "tokenizer")
        expect_failure(argv, capsys, f"{folder}: model_type is 'none such'", leaves=run_folder)

    def test_a_memory_for_tokens_that_are_no_bases(self, command, capsys, run_folder, tmp_path):
        words = {"[PAD]": 0, "[UNK]": 1, "ACG": 2, "TN": 3}
        model = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        model.pre_tokenizer = Split(Regex("ACG|TN|."), behavior="isolated")
        tokenizer = TokenizersBackend(tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]")
        tokenizer.save_pretrained(tmp_path / "words")
        argv = command(memory=True, tokenizer_name_or_path=tmp_path / "words")
        expect_failure(argv, capsys, "the tokenizer does not give one token a base", leaves=run_folder)

    @pytest.mark.parametrize("memory", [None, True], ids=["as it is", "with a memory"])
    def test_weights_of_another_size_than_the_configuration_says(self, memory, folder, command, capsys, run_folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
        argv = command(model_name_or_path=folder, memory=memory)
        message = "6 weights of the model's body are missing or of another size, e.g. "
        expect_failure(argv, capsys, "the checkpoint does not fit Bert", message, "layer.0.", leaves=run_folder)

    def test_a_memory_for_a_model_that_has_one(self, command, capsys, run_folder, tmp_path):
        assert main(command(memory=True, output_dir=tmp_path / "first")) == 0
        argv = command(model_name_or_path=tmp_path / "first/seed-0", memory=True)
        expect_failure(argv, capsys, "is a Gengram model and brings its own memory", leaves=run_folder)

    def test_a_tokenizer_that_cannot_pad(self, folder, command, capsys, run_folder):
        plain = TokenizersBackend(tokenizer_object=build_nucleotide_tokenizer().backend_tokenizer)
        plain.save_pretrained(folder)
        argv = command(model_name_or_path=folder)
        expect_failure(argv, capsys, "the tokenizer has no padding token", leaves=run_folder)


class TestOutput:
    def test_a_file_in_the_way(self, command, task, capsys):
        argv = command(output_dir=Path(task["train_file"]) / "run")
        expect_failure(argv, capsys, "train.csv is not a folder")

    @pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
    def test_a_folder_that_is_not_writable(self, command, capsys, tmp_path):
        (tmp_path / "closed").mkdir(mode=0o500)
        argv = command(output_dir=tmp_path / "closed/run")
        expect_failure(argv, capsys, "closed cannot be written to", leaves=tmp_path / "closed/run")

    def test_a_folder_that_says_it_is_not_writable(self, command, capsys, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        argv = command(output_dir=tmp_path / "closed/run")
        expect_failure(argv, capsys, f"the folder {tmp_path} cannot be written to", leaves=tmp_path / "closed")

    def test_an_earlier_report_is_kept(self, command, capsys, run_folder):
        assert main(command()) == 0
        before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
        expect_failure(command(seeds=[5]), capsys, "already holds the report of a run", "--overwrite")
        assert before == {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}

    def test_a_wrong_input_does_not_overwrite(self, command, task, capsys, run_folder):
        assert main(command()) == 0
        Path(task["test_file"]).write_text("")
        expect_failure([*command(), "--overwrite"], capsys, "test.csv: the file is empty")
        assert (run_folder / "report.json").exists() and (run_folder / "seed-0/model.safetensors").exists()

    def test_a_training_that_diverges(self, command, capsys, run_folder):
        argv = command(learning_rate=1e38, num_train_epochs=3, warmup_steps=0, max_grad_norm=0)
        expect_failure(argv, capsys, "the training diverged", "Lower --learning_rate", leaves=run_folder)

    def test_a_failure_of_the_second_seed_leaves_the_first_model_and_no_report(
        self, command, capsys, run_folder, monkeypatch
    ):
        from gengram.training import finetune

        build = finetune.build_classifier

        def spoil(arguments, config, classes, seed, problem):
            model, new = build(arguments, config, classes, seed, problem)
            if seed == 1:
                torch.nn.init.constant_(model.classifier.weight, torch.nan)
            return model, new

        monkeypatch.setattr(finetune, "build_classifier", spoil)
        expect_failure(command(seeds=[0, 1]), capsys, "the training diverged")
        assert sorted(path.name for path in run_folder.iterdir()) == ["seed-0", "unfinished.json"]

    def test_a_device_that_is_too_small(self, command, capsys, run_folder, monkeypatch):
        def fill(*_, **__):
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")

        monkeypatch.setattr(torch.optim.AdamW, "step", fill)
        message = "not enough memory (tried to allocate 80 GiB). Lower --per_device_train_batch_size"
        expect_failure(command(), capsys, message, leaves=run_folder)


def test_a_fasta_header_without_label(command, capsys, run_folder, tmp_path):
    (tmp_path / "train.fa").write_text(">a|0\nACGT\n>b\nGGCC\n")
    argv = command(train_file=tmp_path / "train.fa")
    expect_failure(argv, capsys, "train.fa, line 3: the header 'b' has no label; write it as", leaves=run_folder)


def test_an_interval_past_the_end_of_its_contig(command, capsys, run_folder, tmp_path):
    (tmp_path / "genome.fa").write_text(">chr1\nACGTACGT\n")
    (tmp_path / "train.bed").write_text("chr1\t0\t4\tx\nchr1\t6\t9\ty\n")
    argv = command(train_file=tmp_path / "train.bed", genome=tmp_path / "genome.fa")
    message = "train.bed, line 2: interval chr1:6-9 goes past the end of contig 'chr1', which has 8 bp"
    expect_failure(argv, capsys, message, leaves=run_folder)


def test_a_data_set_that_is_not_there(command, capsys, run_folder, tmp_path):
    argv = command(train_file=None, test_file=None, dataset=tmp_path)
    expect_failure(
        [*argv, "--dataset", str(tmp_path / "none")], capsys, "cannot be read as a data set", leaves=run_folder
    )


class TestLabels:
    """What can be wrong with labels that are no single classes."""

    def test_a_target_that_is_no_number(self, command, task, capsys, run_folder, draw_table):
        table = draw_table(20, 0)
        table["label"] = [index / 7 for index in range(20)]
        table.to_csv(task["test_file"], index=False)
        table.loc[4, "label"] = float("nan")
        table.to_csv(task["train_file"], index=False)
        message = "train.csv, data row 5: target 'label' is nan, not a finite number in float32 (rows like"
        expect_failure(command(problem="regression"), capsys, message, leaves=run_folder)
        expect_failure(command(), capsys, message, leaves=run_folder)

    def test_labels_of_bases_that_are_too_few(self, command, task, capsys, run_folder, draw_table):
        for file in task.values():
            table = draw_table(20, 0)
            table["label"] = ["01" * 10 + "0" * (len(sequence) - 20) for sequence in table["seq"]]
            table.loc[7, "label"] = "0101"
            table.to_csv(file, index=False)
        length = len(table["seq"][7])
        message = f"train.csv, data row 8: 4 labels for a sequence of {length} bp (rows like this: 1 of 20)"
        expect_failure(command(problem="token"), capsys, message, "--label_start", leaves=run_folder)

    def test_a_test_file_with_fewer_labels(self, command, task, capsys, run_folder, draw_table):
        table = draw_table(20, 0).drop(columns="label")
        table.assign(label_a=[0, 1] * 10, label_b=[1, 0] * 10).to_csv(task["train_file"], index=False)
        table.assign(label_a=[0, 1] * 10).to_csv(task["test_file"], index=False)
        message = "test.csv: no label column 'label_b'; the file's columns are"
        expect_failure(command(), capsys, message, leaves=run_folder)

    def test_a_label_of_a_base_that_training_does_not_know(self, command, task, capsys, run_folder, draw_table):
        for file, letters in zip(task.values(), ("01", "02")):
            table = draw_table(20, 0)
            table["label"] = [letters * 10 + "0" * (len(sequence) - 20) for sequence in table["seq"]]
            table.to_csv(file, index=False)
        message = "test.csv, data row 1: label '2' is not one of the training file's classes '0', '1'"
        expect_failure(command(), capsys, message, leaves=run_folder)

    def test_labels_of_bases_for_longer_tokens(self, command, task, capsys, run_folder, tmp_path, draw_table):
        for file in task.values():
            table = draw_table(20, 0)
            table["seq"] = "ACG" + table["seq"]
            table["label"] = ["01" * 10 + "0" * (len(sequence) - 20) for sequence in table["seq"]]
            table.to_csv(file, index=False)
        words = {"[PAD]": 0, "[UNK]": 1, "ACG": 2, "TN": 3, **{letter: ord(letter) for letter in "ACGTN"}}
        model = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        model.pre_tokenizer = Split(Regex("ACG|TN|."), behavior="isolated")
        tokenizer = TokenizersBackend(tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]")
        tokenizer.save_pretrained(tmp_path / "words")
        message = "train.csv: the labels are of bases, but the tokenizer has longer tokens (one of 3 bases at position"
        expect_failure(
            command(tokenizer_name_or_path=tmp_path / "words", backbone_config={"vocab_size": 128}),
            capsys,
            message,
            leaves=run_folder,
        )

    def test_labels_that_are_cut_off(self, command, task, capsys, run_folder, draw_table):
        for file in task.values():
            table = draw_table(20, 0)
            table["label"] = ["." * 15 + "01" + "0" * (len(sequence) - 17) for sequence in table["seq"]]
            table.to_csv(file, index=False)
        argv = command(max_length=12, too_long="truncate")
        expect_failure(argv, capsys, "train.csv: no base that the model reads has a label", leaves=run_folder)

    def test_labels_that_can_mean_several_things(self, command, task, capsys, run_folder, draw_table):
        for file in task.values():
            table = draw_table(20, 0).drop(columns="label")
            table.assign(label_a=range(20), label_b=range(20)).to_csv(file, index=False)
        expect_failure(command(), capsys, "--problem regression or --problem token", leaves=run_folder)


class TestSequenceFiles:
    """From the command line, so that code and output folder are seen too."""

    @pytest.fixture
    def genome(self, tmp_path) -> Path:
        (tmp_path / "genome.fa").write_text(">chr1\n" + "ACGTTGCAAC" * 30 + "\n")
        return tmp_path / "genome.fa"

    def test_lower_case_and_iupac_codes_are_read_and_counted(self, command, tmp_path, run_folder, draw_table):
        table = draw_table(40, 0)
        records = [f">r{row}|{label}\n{bases[:6].lower()}RYKN{bases[6:]}" for row, (bases, label) in enumerate(
            zip(table["seq"], table["label"]))]  # fmt: skip
        (tmp_path / "mixed.fa").write_text("\n".join(records) + "\n")
        argv = command(train_file=tmp_path / "mixed.fa", test_file=None, average_strands=True, reverse_complement=0.5)
        assert main(argv) == 0
        described = json.loads((run_folder / "report.json").read_text())["data"]["train"]
        letters = described["characters"]
        assert described["iupac_share"] == described["non_acgt_share"] == pytest.approx(4 * described["rows"] / letters)
        assert described["lower_case_share"] == pytest.approx(6 * described["rows"] / letters)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("t.fa", ">a|0\nACGT\n>b\nGGTT\n", "t.fa, line 3: the header 'b' has no label; write it as '>name|label'"),
            ("t.bed", "chr1\t0\t40\tx\nchr1\t290\t310\ty\n", "t.bed, line 2: interval chr1:290-310"),
            ("t.csv", "sequence,gc,at\nACGT,0.5,0.5\nACGG,0.75,nan\n", "t.csv, data row 2: target 'at' is nan"),
            ("t.csv", "sequence,label\nACGT,01a0\nACGG,01a\n", "t.csv, data row 2: 3 labels for a sequence of 4 bp"),
            (
                "t.jsonl",
                '{"sequence": "ACGT", "label": [0, 1, 0, 1]}\n{"sequence": "ACGG", "label": [0, 1, 0, 1, 1]}\n',
                "t.jsonl, data row 2: 5 labels for a sequence of 4 bp",
            ),
        ],
        ids=["header without label", "interval past the end", "target is nan", "text too short", "list too long"],
    )
    def test_faults(self, name, text, message, genome, command, tmp_path, capsys, run_folder):
        (tmp_path / name).write_text(text)
        changes = {"genome": genome} if name == "t.bed" else {}
        if "gc," in text:
            changes |= {"label_column": ["gc", "at"], "problem": "regression"}
        if "labels for" in message:
            changes |= {"problem": "token"}
        argv = command(train_file=tmp_path / name, test_file=None, validation_fraction=0, **changes)
        expect_failure(argv, capsys, message, leaves=run_folder)
