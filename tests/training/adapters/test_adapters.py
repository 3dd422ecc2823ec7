"""LoRA and IA3: where adapters go, what a run saves, and that it is what everyone loads."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from packaging.version import Version
from peft import (
    AutoPeftModelForSequenceClassification,
    AutoPeftModelForTokenClassification,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from scipy.special import softmax
from transformers import (
    CONFIG_MAPPING,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
)

from gengram import (
    GenaBertConfig,
    GengramConfig,
    GengramForCausalLM,
    GengramForSequenceClassification,
    NucleotideTransformerConfig,
)
from gengram.errors import InputError
from gengram.pipelines.command import predict
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.training.arguments import FinetuneArguments, ModelArguments
from gengram.training.command import finetune as main
from gengram.training.publishing.model import prepare_upload
from gengram.training.train_seed import set_up_seed

_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_TARGETS = {
    "llama": ({"q_proj", "v_proj"}, {"k_proj", "v_proj", "down_proj"}),
    "bert": ({"query", "value"}, {"key", "value", "dense"}),
    "esm": ({"query", "value"}, {"key", "value", "dense"}),
    "modernbert": ({"Wqkv"}, {"Wqkv", "Wo"}),
    "deepseek_v3": ({"q_b_proj", "kv_b_proj"}, {"kv_b_proj", "down_proj"}),
    "gpt_neox": ({"query_key_value"}, {"query_key_value", "dense_4h_to_h"}),
}


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def make_base(folder: Path, backbone: str = "llama", **changes) -> Path:
    """Save a Gengram language model with its tokenizer; its folder."""
    torch.manual_seed(len(folder.name))
    fields = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, **_SMALL, **changes}
    config = CONFIG_MAPPING[backbone](vocab_size=128, **fields)
    memory = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
    GengramForCausalLM(GengramConfig(backbone_config=config, **memory)).save_pretrained(folder)
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path) -> Path:
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("backbone", _TARGETS)
def test_peft_finds_the_layers_of_every_backbone(backbone, small, memory):
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 1}
    special = special if backbone == "modernbert" else {"pad_token_id": 0}
    config = CONFIG_MAPPING[backbone](vocab_size=128, **small, **special)
    for method, expected in zip((LoraConfig, IA3Config), _TARGETS[backbone]):
        model = GengramForSequenceClassification(GengramConfig(backbone_config=config, num_labels=3, **memory))
        adapted = get_peft_model(model, method(task_type="SEQ_CLS"))
        trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
        owners = {name.split(".lora_")[0].split(".ia3_l")[0] for name in trained if "classifier" not in name}
        assert {owner.split(".")[-1] for owner in owners} == expected
        assert not any("memory" in owner for owner in owners)
        adapted(input_ids=torch.randint(5, 9, (2, 9))).logits.square().sum().backward()
        assert sum("classifier" in name for name in trained) == 2


def test_other_methods_that_take_the_layers_of_lora_find_them(small, memory):
    config = CONFIG_MAPPING["llama"](vocab_size=128, **small)
    model = GengramForSequenceClassification(GengramConfig(backbone_config=config, **memory))
    names = [name for name, _ in get_peft_model(model, LoHaConfig(task_type="SEQ_CLS")).named_parameters()]
    assert any("v_proj.hada_w1_a" in name for name in names)


def test_prompt_tuning_is_told_what_is_missing(small, memory):
    config = CONFIG_MAPPING["llama"](vocab_size=128, **small)
    model = GengramForSequenceClassification(GengramConfig(backbone_config=config, **memory))
    prompts = PromptTuningConfig(
        task_type="SEQ_CLS", num_virtual_tokens=2, token_dim=16, num_layers=2, num_attention_heads=2
    )
    adapted = get_peft_model(model, prompts)
    with pytest.raises(ValueError, match="prompt tuning"):
        adapted(input_ids=torch.randint(5, 9, (2, 9)), attention_mask=torch.ones(2, 9, dtype=torch.long))


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_a_run_saves_an_adapter_that_everyone_loads(method, base, command, task, run_folder, tmp_path, draw_table):
    classes = ("a", "b", "c")
    draw_table(90, 0, classes).to_csv(task["train_file"], index=False)
    table = draw_table(21, 1, classes)
    table.to_csv(task["test_file"], index=False)
    untouched = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    argv = command(model_name_or_path=base, peft=method, learning_rate=1e-2, seeds=[0, 1])
    assert main(argv) == 0
    assert hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest() == untouched

    report, folder = read_report(run_folder), run_folder / "seed-1"
    files = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "labels.json", "tokenizer.json"} <= files
    assert not files & {"model.safetensors", "config.json", "README.md", "training_args.bin"}
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base) and settings["task_type"] == "SEQ_CLS"
    assert report["adapter"]["method"] == method and report["model"]["class"] == "GengramForSequenceClassification"
    weights = load_file(folder / "adapter_model.safetensors")
    assert report["adapter"]["trained"] == sum(tensor.numel() for tensor in weights.values())
    assert "base_model.model.classifier.weight" in weights and not any("memory" in name for name in weights)
    other = load_file(run_folder / "seed-0" / "adapter_model.safetensors")
    assert all((weights[name] != other[name]).any() for name in weights)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(table["seq"].tolist(), padding=True, return_tensors="pt")
    adapted = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    assert isinstance(adapted, PeftModel) and isinstance(plain, GengramForSequenceClassification)
    with torch.no_grad():
        logits = adapted(**batch).logits
        if Version(transformers.__version__) >= Version("5.23"):  # 5.17 itself loses the head that PEFT saved.
            torch.testing.assert_close(plain(**batch).logits, logits, rtol=0, atol=0)
        merged = adapted.merge_and_unload()(**batch).logits
    torch.testing.assert_close(merged, logits, rtol=1e-4, atol=1e-5)
    assert predict([str(folder), task["test_file"], "--out", str(tmp_path / "out.parquet"), "--overwrite"]) == 0
    predicted = pd.read_parquet(tmp_path / "out.parquet")
    expected = torch.tensor(softmax(logits.numpy(), axis=1))
    found = torch.tensor(predicted[[f"probability_{name}" for name in classes]].to_numpy())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (predicted["prediction"] == [classes[label] for label in logits.argmax(-1)]).all()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([classes.index(one) for one in table["label"]]))
    assert report["test"]["loss"]["per_seed"][1] == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("family", ["gena_bert", "nucleotide_transformer"])
def test_other_families_need_no_list_of_layers_and_load_again(
    family, method, command, task, run_folder, tmp_path, draw_table
):
    torch.manual_seed(0)
    if family == "gena_bert":
        config, tokenizer = GenaBertConfig(vocab_size=128, **_SMALL), build_nucleotide_tokenizer(model_max_length=64)
    else:
        config, tokenizer = NucleotideTransformerConfig(**_SMALL), build_kmer_tokenizer(model_max_length=64)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    assert main(command(model_name_or_path=tmp_path / "base", peft=method, learning_rate=1e-2)) == 0
    folder = run_folder / "seed-0"
    weights = load_file(folder / "adapter_model.safetensors")
    owners = {name.split(".lora_")[0].split(".ia3_l")[0].split("layer.")[-1] for name in weights if ".layer." in name}
    attention = {"query", "value"} if method == "lora" else {"key", "value", "output.dense"}
    expected = {f"{layer}.attention{'' if '.' in name else '.self'}.{name}" for layer in (0, 1) for name in attention}
    assert owners == expected | ({"0.output.dense", "1.output.dense"} if method == "ia3" else set())
    assert any("classifier" in name for name in weights)
    assert any("pooler" in name for name in weights) == (family == "gena_bert")  # no masked model has one
    assert (folder / "adapter_model.safetensors").stat().st_size < 20_000

    batch = tokenizer(draw_table(8, 2)["seq"].tolist(), padding=True, return_tensors="pt")
    adapted = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    with torch.no_grad():
        logits = adapted(**batch).logits
        assert logits.std() > 0
        if Version(transformers.__version__) >= Version("5.23"):  # 5.17 itself loses the head that PEFT saved.
            torch.testing.assert_close(plain(**batch).logits, logits, rtol=0, atol=0)


def test_learning_rates_and_sizes_are_the_published_ones(base, command, run_folder, tmp_path):
    assert main(command(model_name_or_path=base, peft="lora", max_steps=1)) == 0
    report = read_report(run_folder)
    assert report["arguments"]["training"]["learning_rate"] == 5e-4
    assert {name: report["adapter"][name] for name in ("r", "lora_alpha", "lora_dropout")} == {
        "r": 1,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
    }
    arguments = [ModelArguments(model_name_or_path="x", peft="ia3"), FinetuneArguments(output_dir=str(tmp_path))]
    assert set_up_seed(arguments[1], arguments[0], 0, validates=False).learning_rate == 3e-3
    arguments[1].learning_rate = 1e-4
    assert set_up_seed(arguments[1], arguments[0], 0, validates=False).learning_rate == 1e-4


def test_the_memory_is_trained_and_saved_if_asked_for(base, command, run_folder, task, tmp_path):
    assert main(command(model_name_or_path=base, peft="lora", peft_memory=True, learning_rate=1e-2)) == 0
    weights = load_file(run_folder / "seed-0" / "adapter_model.safetensors")
    before = load_file(base / "model.safetensors")
    memories = {name.removeprefix("base_model.model."): value for name, value in weights.items() if "memory" in name}
    assert set(memories) == {name for name in before if "memory" in name}
    assert any((memories[name] != before[name]).any() for name in memories)
    assert read_report(run_folder)["adapter"]["modules_to_save"][-2:] == ["memory.1", "score"]
    assert predict([str(run_folder), task["test_file"], "--out", str(tmp_path / "out.parquet"), "--overwrite"]) == 0
    saved = pd.read_parquet(run_folder / "seed-0/predictions-test.parquet")["probability_with"]
    found = pd.read_parquet(tmp_path / "out.parquet")["probability_with"]
    assert (found - saved).abs().max() < 1e-5


def test_named_layers_are_adapted_and_no_others(base, command, run_folder):
    targets = ["o_proj", "key_proj"]
    assert main(command(model_name_or_path=base, peft="lora", peft_target_modules=targets, lora_r=3, max_steps=1)) == 0
    weights = load_file(run_folder / "seed-0" / "adapter_model.safetensors")
    adapted = {name.split(".")[-3] for name in weights if "lora_A" in name}
    assert adapted == set(targets)
    assert all(tensor.shape[0] == 3 for name, tensor in weights.items() if "lora_A" in name)


def test_classes_of_bases(base, command, task, run_folder, tmp_path, draw_table):
    for path, rows, seed in ((task["train_file"], 60, 0), (task["test_file"], 20, 1)):
        table = draw_table(rows, seed)
        table["label"] = [bases.replace("C", "A").replace("T", "G") for bases in table["seq"]]
        table.to_csv(path, index=False)
    assert main(command(model_name_or_path=base, peft="ia3", problem="token")) == 0
    adapted = AutoPeftModelForTokenClassification.from_pretrained(run_folder / "seed-0", num_labels=2).eval()
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "seed-0")
    with torch.no_grad():
        logits = adapted(**tokenizer(table["seq"][0], return_tensors="pt")).logits[0]
    assert predict([str(run_folder), task["test_file"], "--out", str(tmp_path / "out.parquet"), "--overwrite"]) == 0
    found = pd.read_parquet(tmp_path / "out.parquet")["probability_G"][0]
    assert found == pytest.approx(softmax(logits.numpy(), axis=1)[:, 1], abs=1e-6)


def test_a_checkpoint_of_another_architecture_and_its_new_pooler(command, run_folder, task, tmp_path, small):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **small)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    build_nucleotide_tokenizer(model_max_length=64, template="cls_sep").save_pretrained(tmp_path / "bert")
    assert main(command(model_name_or_path=tmp_path / "bert", peft="lora")) == 0
    weights = load_file(run_folder / "seed-0" / "adapter_model.safetensors")
    assert "base_model.model.bert.pooler.dense.weight" in weights
    assert predict([str(run_folder), task["test_file"], "--out", str(tmp_path / "out.parquet"), "--overwrite"]) == 0
    saved = pd.read_parquet(run_folder / "seed-0/predictions-test.parquet")["probability_with"]
    assert (pd.read_parquet(tmp_path / "out.parquet")["probability_with"] - saved).abs().max() < 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `base` and, trained on it once for these tests, `run`."""
    folder = tmp_path_factory.mktemp("adapter")
    rows = [f"ACG{'GTAC'[row % 4] * 5}ATTC,{'without' if row % 2 else 'with'}" for row in range(40)]
    (folder / "test.csv").write_text("\n".join(["seq,label", *rows]))
    argv = ["--train_file", folder / "test.csv", "--model_name_or_path", make_base(folder / "base")]
    argv += ["--peft", "lora", "--max_steps", 1, "--validation_fraction", 0, "--output_dir", folder / "run"]
    assert main([*map(str, argv), "--disable_tqdm", "True"]) == 0
    return folder


class TestAnotherBase:
    @pytest.fixture
    def run(self, trained) -> Path:
        return trained / "run"

    @pytest.fixture
    def base(self, trained) -> Path:
        return trained / "base"

    @pytest.fixture
    def moved(self, run, tmp_path) -> Path:
        """The same adapter, whose base is no longer where it says."""
        shutil.copytree(run / "seed-0", tmp_path / "moved")
        path = tmp_path / "moved" / "adapter_config.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps(settings | {"base_model_name_or_path": str(tmp_path / "gone")}))
        return tmp_path / "moved"

    @pytest.mark.parametrize(
        "changes",
        [
            {"hidden_size": 32},
            {"num_hidden_layers": 3},
            {"backbone": "gpt_neox"},
            {},
        ],
        ids=["width", "layers", "architecture", "other weights"],
    )
    def test_is_refused_with_both_names(self, changes, run, base, task, tmp_path, capsys):
        other, out = make_base(tmp_path / "another", **changes), tmp_path / "out.parquet"
        argv = [str(run), task["test_file"], "--out", str(out), "--base_model", str(other)]
        assert predict(argv) == 1
        error = capsys.readouterr().err
        assert f"the adapter was trained on '{base}' and does not fit '{other}'" in error and "--base_model" in error
        assert not out.exists() and not list(tmp_path.glob("*.partial"))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"id2label": ["a", "b"]}, "'id2label' is"),
            ({"id2label": {"0": "a", "2": "b"}}, "count from 0"),
            ({"id2label": {"0": "a", "1": "a"}}, "gives the name 'a' to several outputs"),
            ({"problem_type": ["regression"]}, "'problem_type' is"),
            ({"base_sha256": [1]}, "'base_sha256' is"),
        ],
    )
    def test_names_of_classes_that_were_changed(self, changes, told, run, base, task, tmp_path, capsys):
        shutil.copytree(run / "seed-0", tmp_path / "changed")
        file, out = tmp_path / "changed" / "labels.json", tmp_path / "out.parquet"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        assert predict([str(tmp_path / "changed"), task["test_file"], "--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert f"{file}: " in error and told in error and not out.exists()
        with pytest.raises(InputError, match=re.escape(told)):
            prepare_upload(tmp_path / "changed", "lab/adapter", base_model="lab/base")

    def test_the_same_base_at_another_place_gives_the_same(self, run, moved, base, task, tmp_path):
        found = []
        for argv in ([str(run)], [str(moved), "--base_model", str(base)]):
            assert predict([*argv, task["test_file"], "--out", str(tmp_path / "out.parquet"), "--overwrite"]) == 0
            found.append(pd.read_parquet(tmp_path / "out.parquet"))
        pd.testing.assert_frame_equal(*found)

    def test_a_base_that_is_gone(self, moved, task, tmp_path, capsys):
        out = tmp_path / "out.parquet"
        assert predict([str(moved), task["test_file"], "--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert f"the adapter's base '{tmp_path / 'gone'}' cannot be loaded" in error
        assert "name it with --base_model" in error and not out.exists()

    def test_training_does_not_start_from_an_adapter(self, run, command, tmp_path, capsys):
        assert main(command(model_name_or_path=run / "seed-0", output_dir=tmp_path / "more")) == 1
        assert "is an adapter, which cannot be trained on from here" in capsys.readouterr().err
        assert not (tmp_path / "more").exists()

    def test_a_whole_model_has_no_base(self, base, task, tmp_path, capsys):
        argv = [str(base), task["test_file"], "--out", str(tmp_path / "out.parquet"), "--base_model", "lab/base"]
        assert predict(argv) == 1
        assert "is no adapter, so it has no base to name" in capsys.readouterr().err

    def test_what_is_pushed_names_the_base_on_the_hub_and_no_path(self, run):
        with pytest.raises(ValueError, match="which is not a model on the Hub"):
            prepare_upload(run, "lab/adapter")
        upload = prepare_upload(run, "lab/adapter", base_model="lab/base", license="mit")
        assert {"adapter_config.json", "adapter_model.safetensors", "labels.json", "tokenizer.json"} <= set(
            upload.files
        )
        for name, content in upload.files.items():
            content = content if isinstance(content, bytes) else content.read_bytes()
            assert str(run.parent).encode() not in content, name
        assert json.loads(upload.files["adapter_config.json"])["base_model_name_or_path"] == "lab/base"
        assert (upload.card.data.base_model, upload.card.data.base_model_relation) == ("lab/base", "adapter")


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"peft": "prompt"}, "invalid choice: 'prompt'", 2),
        ({"peft": "lora", "memory": True}, "peft and memory exclude each other", 2),
        ({"peft": "lora", "lora_r": 0}, "lora_r and lora_alpha must be at least 1", 2),
        ({"peft_memory": True}, "describe an adapter: say which with peft", 2),
        ({"peft": "lora", "peft_target_modules": ["queries"]}, "peft_target_modules=['queries']", 1),
    ],
)
def test_adapters_that_cannot_be(changes, message, code, base, command, capsys, run_folder):
    try:
        returned = main(command(model_name_or_path=base, **changes))
    except SystemExit as stop:
        returned = stop.code
    assert returned == code and message in capsys.readouterr().err
    assert not run_folder.exists()


def test_a_new_backbone_has_nothing_to_adapt(command, capsys):
    with pytest.raises(SystemExit):
        main(command(peft="lora"))
    assert "a new backbone has nothing to keep" in capsys.readouterr().err
