"""Every option of this package changes something; numbers that make no sense are refused before anything is loaded."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.command import finetune as main
from gengram.training.command import parse_arguments


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the options below name: tables of every kind, a genome, and (made by the first run) a checkpoint."""
    return {"folder": tmp_path_factory.mktemp("options")}


SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MEMORY = {"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
SCRATCH = {"backbone": "bert", "backbone_config": SMALL}
BASE = {"model_name_or_path": "{base}"}
LORA = {**BASE, "peft": "lora"}
TOKENS = {"train_file": "{bases}", "test_file": None, "problem": "token"}
LATE = {**TOKENS, "train_file": "{late}", "label_start": 2}

TRIED = {"search_space": {"learning_rate": [3e-3], "weight_decay": [0.1]}}

# What is given in both runs, and what is changed in the second; text is a message of a refusal.
OPTIONS: dict[str, tuple[dict, dict] | tuple[dict, dict, str]] = {
    "model_name_or_path": (SCRATCH, {**BASE, "backbone": None, "backbone_config": None}),
    "backbone": (SCRATCH, {"backbone": "llama"}),
    "backbone_config": (SCRATCH, {"backbone_config": {**SMALL, "hidden_size": 8}}),
    "memory": (SCRATCH, {"memory": MEMORY}),
    "rmt": (SCRATCH, {"rmt": {"num_memory_tokens": 2, "segment_length": 16}}),
    "tokenizer_name_or_path": (SCRATCH, {"tokenizer_name_or_path": "{base}"}),
    "peft": (BASE, {"peft": "ia3"}),
    "peft_target_modules": (LORA, {"peft_target_modules": ["key"]}),
    "peft_memory": ({**LORA, "model_name_or_path": "{remembers}"}, {"peft_memory": True}),
    "lora_r": (LORA, {"lora_r": 2}),
    "lora_alpha": (LORA, {"lora_alpha": 4}),
    "lora_dropout": (LORA, {"lora_dropout": 0.5}),
    "train_file": (SCRATCH, {"train_file": "{other}"}),
    "validation_file": (SCRATCH, {"validation_file": "{other}"}),
    "test_file": (SCRATCH, {"test_file": "{other}"}),
    "label_files": (
        {**SCRATCH, "train_file": "{fasta}", "test_file": None, "label_files": ["{labels}"]},
        {"label_files": ["{labels2}"]},
    ),
    "dataset": ({**SCRATCH, "test_file": None}, {"dataset": "{dataset}", "train_file": None}),
    "dataset_config": (
        {**SCRATCH, "train_file": None, "test_file": None, "dataset": "{dataset}"},
        {"dataset_config": "part"},
    ),
    "dataset_revision": (SCRATCH, {"dataset_revision": "main"}, "read with a dataset only"),
    "genome": ({**SCRATCH, "train_file": "{bed}", "test_file": None, "genome": "{genome}"}, {"genome": "{genome2}"}),
    "slices": (
        {**SCRATCH, "train_file": "{bed}", "test_file": None, "genome": "{genome}"},
        {"slices": True, "genome": "{slices}"},
    ),
    "sequence_column": ({**SCRATCH, "train_file": "{columns}", "test_file": None}, {"sequence_column": "dna"}),
    "max_non_dna": (SCRATCH, {"max_non_dna": 0, "train_file": "{protein}"}, "max_non_dna"),
    "num_proc": (SCRATCH, {"num_proc": 0}, "give a number of processes"),
    "label_column": ({**SCRATCH, "train_file": "{columns}", "test_file": None}, {"label_column": ["kind"]}),
    "problem": ({**SCRATCH, "train_file": "{shares}", "test_file": None}, {"problem": "regression"}),
    "label_start": ({**SCRATCH, **LATE}, {"label_start": 5}),
    "mask_labels": ({**SCRATCH, **TOKENS}, {"mask_labels": ["y"]}),
    "validation_fraction": (SCRATCH, {"validation_fraction": 0.3}),
    "group_similarity": ({**SCRATCH, "train_file": "{alike}", "test_file": None}, {"group_similarity": 1}),
    "group_column": (
        {**SCRATCH, "train_file": "{alike}", "test_file": None, "group_similarity": 1, "validation_fraction": 0.2},
        {"group_column": "parent"},
    ),
    "validation_chromosomes": (SCRATCH, {"validation_chromosomes": ["chr1"]}),
    "test_chromosomes": ({**SCRATCH, "test_file": None}, {"test_chromosomes": ["chr1"]}),
    "split_seed": (SCRATCH, {"split_seed": 1}),
    "max_length": ({**SCRATCH, "too_long": "truncate"}, {"max_length": 20}),
    "too_long": ({**SCRATCH, "too_long": "truncate", "max_length": 20}, {"too_long": "center"}),
    "search": (SCRATCH, {"search": True, **TRIED}),
    "search_space": (
        {**SCRATCH, "search": True, **TRIED},
        {"search_space": {"learning_rate": [1e-2], "weight_decay": [0.0]}},
    ),
    "search_trials": (
        {**SCRATCH, "search": True, "search_space": {"learning_rate": [1e-3, 1e-2, 3e-3]}, "search_trials": 1},
        {"search_trials": 3},
    ),
    "output_dir": (SCRATCH, {"output_dir": "{elsewhere}"}),
    "overwrite": (SCRATCH, {"overwrite": True, "output_dir": "{there}", "seeds": [1]}),
    "resume_from_checkpoint": (
        SCRATCH,
        {"resume_from_checkpoint": True, "output_dir": "{there}", "seeds": [2]},
        "the run that is to be resumed is another one",
    ),
    "seeds": (SCRATCH, {"seeds": [1]}),
    "reverse_complement": (SCRATCH, {"reverse_complement": 1.0}),
    "max_shift": (SCRATCH, {"max_shift": 3}),
    "average_strands": (SCRATCH, {"average_strands": True}),
    "class_weights": (SCRATCH, {"class_weights": {"with": 3}}),
    "pos_weight": ({**SCRATCH, "train_file": "{several}", "test_file": None}, {"pos_weight": 5}),
    "baselines": (SCRATCH, {"baselines": False}),
    "sequences_per_step": (SCRATCH, {"sequences_per_step": 7}),
    "max_tokens_per_step": (SCRATCH, {"max_tokens_per_step": 200}),
    "early_stopping_patience": (
        {**SCRATCH, "num_train_epochs": 4, "max_steps": -1, "learning_rate": 0},
        {"early_stopping_patience": 1},
    ),
    "hub_license": (SCRATCH, {"hub_license": "mit"}, "hub_license is read with push_to_hub only"),
}
# Trainer's arguments that have another default or another form here: see test_trainer_flags.py.
OF_TRAINER = {
    "num_train_epochs", "train_sampling_strategy", "per_device_train_batch_size", "per_device_eval_batch_size",
    "learning_rate", "warmup_steps", "weight_decay", "eval_strategy", "logging_strategy", "logging_steps",
    "save_strategy", "metric_for_best_model", "push_to_hub", "disable_tqdm", "include_num_input_tokens_seen",
    "liger_kernel_config", "do_train", "do_eval", "do_predict",
}  # fmt: skip


def list_own() -> list[str]:
    fields = {entry.name for kind in (ModelArguments, DataArguments) for entry in dataclasses.fields(kind)}
    own = [entry.name for entry in dataclasses.fields(FinetuneArguments) if entry.init]
    return [*fields, *(name for name in own if name in FinetuneArguments.__annotations__)]


def test_every_option_of_ours_is_tried():
    assert set(OPTIONS) == set(list_own()) - OF_TRAINER


@pytest.fixture(scope="module")
def given_alone():
    """What runs without the option give; by their arguments."""
    return {}


@pytest.fixture
def make_files(files, draw_table, command):
    """Write what the options name, once."""
    folder: Path = files["folder"]
    if len(files) > 1:
        return files
    table = draw_table(60, 0)

    def write(name: str, content) -> None:
        files[name] = folder / f"{name}.csv"
        content.to_csv(files[name], index=False)

    write("other", draw_table(40, 5))
    write("protein", table.assign(seq=["ACGTE" + seq for seq in table["seq"]]))
    write("columns", table.assign(dna=draw_table(60, 7)["seq"], kind=[f"k{row % 3}" for row in range(60)]))
    write("shares", table.assign(label=[row % 3 for row in range(60)]))
    write("several", table.assign(label=["a;b" if row % 3 else "a" if row % 2 else "" for row in range(60)]))
    # Fifteen groups of four that differ in their last base.
    alike = ["".join(table["seq"][row // 4 : row // 4 + 2])[:30] + "ACGT"[row % 4] for row in range(60)]
    write(
        "alike",
        table.assign(seq=alike, label=[row // 4 % 2 for row in range(60)], parent=[row // 4 for row in range(60)]),
    )
    write("bases", table.assign(label=["xyz"[row % 3] * len(seq) for row, seq in enumerate(table["seq"])]))
    write("late", table.assign(label=["xy" * 5 for _ in range(60)]))
    write("labels", pd.DataFrame({"label": [f"l{row % 2}" for row in range(60)]}))
    write("labels2", pd.DataFrame({"label": [f"l{row % 3}" for row in range(60)]}))
    files["fasta"] = folder / "records.fa"
    files["fasta"].write_text("".join(f">r{row}\n{seq}\n" for row, seq in enumerate(table["seq"])))
    for name, seed in (("genome", 0), ("genome2", 1)):
        bases = "".join(draw_table(60, seed)["seq"])[:1200]
        files[name] = folder / f"{name}.fa"
        files[name].write_text(f">chr1\n{bases}\n")
    files["slices"] = folder / "slices.fa"
    files["slices"].write_text(f">chr1:1-{len(bases)}\n{bases}\n")
    files["bed"] = folder / "intervals.bed"
    files["bed"].write_text("".join(f"chr1\t{row * 19}\t{row * 19 + 25}\tk{row % 2}\n" for row in range(60)))
    for split, part in (("dataset", draw_table(40, 8)), ("dataset/part", draw_table(40, 9))):
        (folder / split).mkdir()
        part.to_csv(folder / split / "train.csv", index=False)
    files["dataset"] = folder / "dataset"
    for name, memory in (("base", None), ("remembers", MEMORY), ("there", None)):
        assert main(command(**SCRATCH, memory=memory, max_steps=1, output_dir=folder / name)) == 0
        files[name] = folder / name / "seed-0"
    files["there"] = folder / "there"
    return files


def fill_in(value, files):
    if isinstance(value, list):
        return [fill_in(entry, files) for entry in value]
    if isinstance(value, str) and value.startswith("{") and value.endswith("}") and value[1:-1] in files:
        return str(files[value[1:-1]])
    return value


def collect(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text())
    seed = folder / report["model_folders"][0]
    return {
        "weights": next(seed.glob("*model.safetensors")).read_bytes(),
        "scores": (report["test"], report["validation"]),
        "log": report["history"],
        "simple models": report["baselines"],
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_what_comes_out(name, command, make_files, given_alone, tmp_path, run_folder, capsys):
    given, tried, *messages = OPTIONS[name]
    files = {**make_files, "elsewhere": tmp_path / "elsewhere"}
    runs = [
        {key: fill_in(value, files) for key, value in changes.items()}
        for changes in ({"max_steps": 2, **given}, {"max_steps": 2, **given, **tried})
    ]
    capsys.readouterr()
    if messages:
        try:
            code = main(command(**{"output_dir": tmp_path / "tried", **runs[1]}))
        except SystemExit as stop:
            code = stop.code
        assert code in (1, 2) and messages[0] in capsys.readouterr().err
        return
    key = json.dumps(runs[0])
    if key not in given_alone:
        assert main(command(**runs[0])) == 0, capsys.readouterr().err
        given_alone[key] = collect(run_folder)
    second = {"output_dir": tmp_path / "tried", **runs[1]}
    assert main(command(**second)) == 0, capsys.readouterr().err
    before, after = given_alone[key], collect(Path(second["output_dir"]))
    if name == "output_dir":
        assert after == before
        return
    assert [what for what in before if before[what] != after[what]], "nothing has changed"


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("num_train_epochs", ["0", "-1", "nan", "inf"]),
        ("max_steps", ["0", "-5"]),
        ("learning_rate", ["nan", "inf", "-1"]),
        ("warmup_steps", ["-1", "nan", "inf"]),
        ("weight_decay", ["-0.1", "nan"]),
        ("adam_beta1", ["1", "-0.1", "nan"]),
        ("adam_beta2", ["1.5"]),
        ("adam_epsilon", ["0", "-1", "nan"]),
        ("max_grad_norm", ["-1", "nan", "inf"]),
        ("label_smoothing_factor", ["1", "-0.1", "nan"]),
        ("neftune_noise_alpha", ["-1", "nan"]),
        ("gradient_accumulation_steps", ["0", "-2"]),
        ("per_device_train_batch_size", ["0", "-1"]),
        ("per_device_eval_batch_size", ["0"]),
        ("eval_accumulation_steps", ["0"]),
        ("logging_steps", ["0", "-1", "1.5", "nan"]),
        ("save_steps", ["0", "-3", "inf"]),
        ("eval_steps", ["0", "nan"]),
        ("eval_delay", ["-1", "nan"]),
        ("save_total_limit", ["0", "-1"]),
        ("torch_empty_cache_steps", ["0"]),
        ("data_seed", ["-1"]),
        ("dataloader_num_workers", ["-1"]),
        ("dataloader_prefetch_factor", ["0"]),
        ("ddp_timeout", ["0"]),
        ("ddp_bucket_cap_mb", ["-1"]),
        ("sequences_per_step", ["0"]),
        ("max_tokens_per_step", ["-1"]),
        ("early_stopping_patience", ["0"]),
        ("reverse_complement", ["nan", "1.1"]),
        ("max_shift", ["-1"]),
        ("validation_fraction", ["nan", "-0.1"]),
        ("lora_r", ["3"]),
    ],
)
def test_numbers_that_make_no_sense(flag, values, command, run_folder, capsys):
    for value in values:
        with pytest.raises(SystemExit) as stopped:
            parse_arguments(command(**{flag: value}))
        message = capsys.readouterr().err
        assert stopped.value.code == 2 and f"error: {flag}" in message, message
    assert not run_folder.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"load_best_model_at_end": True, "eval_strategy": "no"}, "leave --eval_strategy no out"),
        ({"early_stopping_patience": 1, "eval_strategy": "no"}, "leave --eval_strategy no out"),
        ({"accelerator_config": '{"bogus": true}'}, "unexpected keyword argument 'bogus'"),
        ({"accelerator_config": '{"even_batches": false}'}, "accelerator_config: even_batches has no place here"),
        ({"accelerator_config": "nowhere.json"}, "nowhere.json"),
        ({"lr_scheduler_kwargs": "x"}, "lr_scheduler_kwargs is not JSON"),
        ({"lr_scheduler_kwargs": "[1]"}, "lr_scheduler_kwargs must be a mapping"),
        ({"backbone_config": '{"hidden_size": 8, "hidden_size": 16}'}, "'hidden_size' is given twice"),
        ({"class_weights": '{"with": NaN}'}, "NaN is no number of JSON"),
        ({"memory": "[" * 100_000}, "memory is not JSON"),
        ({"memory": {"dtype": "bfloat16"}}, "memory: leave dtype out"),
        ({"dataset_config": "x"}, "read with a dataset only"),
    ],
)
def test_arguments_that_do_not_go_together(changes, message, command, run_folder, capsys):
    argv = command(**{key: value for key, value in changes.items() if not isinstance(value, str)})
    for key, value in changes.items():
        argv += [f"--{key}", value] if isinstance(value, str) else []
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(argv)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not run_folder.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": "adamw_bnb_8bit"}, "`bitsandbytes`"),
        ({"optim": "galore_adamw"}, "`galore_torch`"),
        ({"optim_args": "bogus"}, "'bogus' is no name=value"),
        ({"optim_args": "a=b"}, "'a=b' is not read by optim=adamw_torch_fused"),
        ({"optim": "sgd", "optim_args": "momentum=0.9,a=b"}, "'a=b' is not read by optim=sgd"),
        ({"optim": "sgd", "optim_args": "momentum=-1"}, "Invalid momentum value"),
        ({"optim_target_modules": "q"}, "GaLore and APOLLO only"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "One of min_lr or min_lr_rate should be set"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"lr_scheduler_kwargs": {"bogus": 1}}, "unexpected keyword argument 'bogus'"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "validation_fraction": 0}, "needs validation rows"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "no"}, "requires an eval strategy"),
        ({"eval_on_start": True, "validation_fraction": 0}, "eval_on_start needs validation rows"),
        ({"eval_strategy": "steps", "validation_fraction": 0}, "eval_strategy=steps needs validation rows"),
        ({"metric_for_best_model": "mc"}, "metric_for_best_model='mc': choose mcc"),
        ({"metric_for_best_model": "loss", "greater_is_better": True}, "a lower loss is the better one"),
        ({"report_to": "wandb"}, "wandb"),
        ({"report_to": "bogus"}, "bogus is not supported"),
        ({"torch_compile_backend": "bogus"}, "not a valid DynamoBackend"),
        ({"backbone_config": {"dtype": "bfloat16"}}, "backbone_config: leave dtype out"),
    ],
)
def test_what_the_rows_or_the_optimizer_refuse(changes, message, command, run_folder, capsys):
    try:
        code = main(command(backbone="bert", **changes))
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code in (1, 2) and message in error and "Traceback" not in error
    assert not run_folder.exists()


def test_steps_that_the_strategy_does_not_read_are_told(command, capsys):
    assert main(command(max_steps=1, eval_steps=5, save_steps=7)) == 0
    message = capsys.readouterr().err
    assert "eval_steps=5 is not read, as eval_strategy is epoch: give --eval_strategy steps" in message
    assert "save_steps=7 is not read, as save_strategy is no" in message


def test_label_smoothing_is_for_classes(command, tmp_path, draw_table, capsys, run_folder):
    draw_table(60, 0).assign(label=[row / 7 for row in range(60)]).to_csv(tmp_path / "numbers.csv", index=False)
    argv = command(train_file=tmp_path / "numbers.csv", test_file=None, label_smoothing_factor=0.1)
    assert main(argv) == 1
    assert "label_smoothing_factor does not fit" in capsys.readouterr().err and not run_folder.exists()
