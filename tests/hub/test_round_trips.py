"""What is pushed comes back: models, shards, tokenizers, adapters, Trainer runs, datasets, branches and tags."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, GengramForCausalLM, GengramForSequenceClassification
from gengram.tokenization import build_nucleotide_tokenizer

SEQUENCE = "ACGTTGCANACGTAGGCTATATAA"


def make_config(**fields) -> GengramConfig:
    backbone = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=12,
    )
    memory = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 9}
    return GengramConfig(backbone_config=backbone, **memory, **fields)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A causal language model with its tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    GengramForCausalLM(make_config()).save_pretrained(folder)
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    GengramForSequenceClassification(make_config(num_labels=2)).save_pretrained(folder)
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(folder)
    return folder


def predict(path, sequence, auto, **options):
    """Class, whether the package is there, and the logits of a checkpoint."""
    import sys

    import torch
    import transformers

    if "gengram" in sys.modules or not options.get("trust_remote_code"):
        import gengram  # noqa: F401
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, revision=options.get("revision", "main"))
    model = getattr(transformers, auto).from_pretrained(path, **options)
    with torch.no_grad():
        logits = model(**tokenizer(sequence, return_tensors="pt")).logits
    return {"class": type(model).__module__, "package": "gengram" in sys.modules, "logits": logits.tolist()}


def ask(user, path, sequence=SEQUENCE, auto="AutoModelForCausalLM", **options):
    return user.call(predict, path=path, sequence=sequence, auto=auto, **options)


def push(folder, repo, auto="AutoModelForCausalLM", **options):
    import transformers

    import gengram  # noqa: F401

    getattr(transformers, auto).from_pretrained(folder).push_to_hub(repo, **options)
    revision = {"revision": options["revision"]} if "revision" in options else {}
    transformers.AutoTokenizer.from_pretrained(folder).push_to_hub(repo, **revision)


def close(left: list, right: list) -> bool:
    return torch.allclose(torch.tensor(left), torch.tensor(right), rtol=0, atol=1e-6)


def test_a_model_comes_back_with_and_without_the_package(hub, user, stranger, checkpoint):
    expected = ask(user, path=checkpoint)["logits"]
    hub.requests.clear()
    user.call(push, folder=checkpoint, repo="lab/llama")
    writes = ("create", "preupload", "lfs-batch", "lfs-upload", "commit")
    assert {route: hub.requests[route] for route in writes} == {
        "create": 2,
        "preupload": 2,
        "lfs-batch": 1,
        "lfs-upload": 1,
        "commit": 2,
    }
    assert hub.requests.total() < 20, hub.requests
    files = hub.list_files("lab/llama")
    assert {"model.safetensors", "config.json", "tokenizer.json", "modeling_gengram.py", "kmer_index.py"} <= set(files)
    assert files["model.safetensors"].large and not [path for path in files if path.endswith((".bin", ".pt"))]

    hub.requests.clear()
    ours = ask(user, path="lab/llama")
    assert ours["class"] == "gengram.gengram.modeling_gengram"
    assert close(ours["logits"], expected)
    assert hub.requests["resolve"] > 0 and hub.requests["lfs-upload"] == 0

    theirs = ask(stranger, path="lab/llama", trust_remote_code=True)
    assert not theirs["package"] and theirs["class"].startswith("transformers_modules.")
    assert close(theirs["logits"], expected)


def test_a_sharded_model(hub, user, checkpoint):
    user.call(push, folder=checkpoint, repo="lab/sharded", max_shard_size="20KB")
    shards = [path for path in hub.list_files("lab/sharded") if path.endswith(".safetensors")]
    index = json.loads(hub.read("lab/sharded", "model.safetensors.index.json"))
    assert len(shards) > 2 and set(index["weight_map"].values()) == set(shards)
    assert hub.requests["lfs-upload"] == len(shards)
    loaded, local = ask(user, path="lab/sharded"), ask(user, path=checkpoint)
    assert close(loaded["logits"], local["logits"])


def test_a_tokenizer_loads_without_any_code_of_ours(hub, user, stranger, checkpoint):
    def push_tokenizer(folder, repo):
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(folder).push_to_hub(repo)

    def encode(repo, text):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(repo)(text)["input_ids"]

    user.call(push_tokenizer, folder=checkpoint, repo="lab/tokenizer")
    assert not [path for path in hub.list_files("lab/tokenizer") if path.endswith(".py")]
    assert stranger.call(encode, repo="lab/tokenizer", text="ACGTNacgu.") == [8, 5, 6, 7, 9, 8, 5, 6, 7, 1]


def test_an_adapter_finds_its_base_on_the_hub(hub, user, classifier):
    def push_adapter(base, repo, sequence):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import gengram  # noqa: F401

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(base)
        lora = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(base), lora).eval()
        model.push_to_hub(repo)
        tokenizer.push_to_hub(repo)
        with torch.no_grad():
            return model(**tokenizer(sequence, return_tensors="pt")).logits.tolist()

    def load_adapter(repo, sequence):
        import torch
        from peft import AutoPeftModelForSequenceClassification
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(repo)
        model = AutoPeftModelForSequenceClassification.from_pretrained(repo).eval()
        with torch.no_grad():
            return model(**tokenizer(sequence, return_tensors="pt")).logits.tolist()

    user.call(push, folder=classifier, repo="lab/base", auto="AutoModelForSequenceClassification")
    plain = ask(user, path="lab/base", auto="AutoModelForSequenceClassification")["logits"]
    adapted = user.call(push_adapter, base="lab/base", repo="lab/adapter", sequence=SEQUENCE)
    settings = json.loads(hub.read("lab/adapter", "adapter_config.json"))
    assert settings["base_model_name_or_path"] == "lab/base"
    assert "model.safetensors" not in hub.list_files("lab/adapter")
    loaded = user.call(load_adapter, repo="lab/adapter", sequence=SEQUENCE)
    assert close(loaded, adapted) and not close(loaded, plain)


def test_a_trainer_run_that_pushes_every_save(hub, user, classifier, tmp_path):
    def train(folder, repo, output):
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

        import gengram  # noqa: F401

        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = [
            {"input_ids": tokenizer("ACGT" * 5)["input_ids"], "labels": 0},
            {"input_ids": tokenizer("TTTA" * 5)["input_ids"], "labels": 1},
        ] * 4
        arguments = TrainingArguments(
            output,
            push_to_hub=True,
            hub_model_id=repo,
            hub_strategy="every_save",
            save_strategy="steps",
            save_steps=2,
            max_steps=4,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            disable_tqdm=True,
            use_cpu=True,
        )
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        trainer.push_to_hub()
        model.eval()
        with torch.no_grad():
            return model(**tokenizer("ACGT" * 5, return_tensors="pt")).logits.tolist()

    trained = user.call(train, folder=classifier, repo="lab/trained", output=tmp_path / "run")
    messages = hub.repos["models", "lab/trained"].messages
    assert any("step 2" in message for message in messages) and messages[-1] == "End of training", messages
    loaded = ask(
        user, path="lab/trained", auto="AutoModelForSequenceClassification", sequence="ACGT" * 5, revision="main"
    )
    assert close(loaded["logits"], trained)


def test_a_dataset_with_two_configurations(hub, user):
    def push_dataset(repo):
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        features = Features({"sequence": Value("string"), "label": ClassLabel(names=["decoy", "site"])})
        for config, rows in (("donor", 40), ("acceptor", 20)):
            table = {"sequence": [f"{'ACGT' * 6}{i:04d}" for i in range(rows)], "label": [i % 2 for i in range(rows)]}
            data = Dataset.from_dict(table, features=features)
            DatasetDict(train=data, test=data.select(range(8))).push_to_hub(repo, config_name=config)

    def read_dataset(repo):
        from datasets import get_dataset_config_names, load_dataset

        donor = load_dataset(repo, "donor")
        streamed = load_dataset(repo, "acceptor", split="train", streaming=True)
        return {
            "configs": sorted(get_dataset_config_names(repo)),
            "rows": {split: len(data) for split, data in donor.items()},
            "names": donor["train"].features["label"].names,
            "streamed": [row["sequence"][-4:] for row in streamed.take(3)],
        }

    user.call(push_dataset, repo="lab/splice")
    files = hub.list_files("lab/splice", kind="datasets")
    assert {path for path in files if path.endswith(".parquet")} == {
        f"{config}/{split}-00000-of-00001.parquet" for config in ("donor", "acceptor") for split in ("train", "test")
    }
    hub.requests.clear()
    assert user.call(read_dataset, repo="lab/splice") == {
        "configs": ["acceptor", "donor"],
        "rows": {"train": 40, "test": 8},
        "names": ["decoy", "site"],
        "streamed": ["0000", "0001", "0002"],
    }
    assert hub.requests["resolve"] > 0


def test_branches_tags_and_revisions(hub, user, checkpoint, tmp_path):
    def change(folder, target):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        import gengram  # noqa: F401

        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(2)
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(folder).save_pretrained(target)

    def tag(repo):
        from huggingface_hub import HfApi

        HfApi().create_tag(repo, tag="v1.0", revision="main")
        refs = HfApi().list_repo_refs(repo)
        return {"branches": [ref.name for ref in refs.branches], "tags": [ref.name for ref in refs.tags]}

    def delete(repo):
        from huggingface_hub import HfApi

        HfApi().delete_repo(repo)
        return HfApi().repo_exists(repo)

    user.call(change, folder=checkpoint, target=tmp_path / "changed")
    user.call(push, folder=checkpoint, repo="lab/versions")
    user.call(push, folder=tmp_path / "changed", repo="lab/versions", revision="doubled")
    assert user.call(tag, repo="lab/versions") == {"branches": ["main", "doubled"], "tags": ["v1.0"]}
    commit = hub.repos["models", "lab/versions"].branches["doubled"]
    first, tagged, branch, exact = (
        torch.tensor(ask(user, path="lab/versions", revision=revision)["logits"])
        for revision in ("main", "v1.0", "doubled", commit)
    )
    assert torch.equal(first, tagged) and torch.equal(branch, exact)
    torch.testing.assert_close(branch, 2 * first)
    assert user.call(delete, repo="lab/versions") is False


def test_what_the_hub_refuses_reaches_the_client(hub, user):
    def ask_for_too_much(reader):
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError

        api, seen = HfApi(), {}
        api.create_repo("lab/refusals", private=True)

        def attempt(name, function, *args, **kwargs):
            try:
                seen[name] = function(*args, **kwargs)
            except HfHubHTTPError as error:
                seen[name] = [type(error).__name__, error.response.status_code]

        attempt("again", api.create_repo, "lab/refusals")
        attempt("elsewhere", api.create_repo, "other/name")
        attempt("reader", api.create_repo, "lab/new", token=reader)
        attempt("nobody", api.create_repo, "lab/new", token="hf_unknown")
        attempt("private", api.model_info, "lab/refusals", token=False)
        attempt("revision", api.model_info, "lab/refusals", revision="v9")
        attempt("file", api.hf_hub_download, "lab/refusals", "nothing.txt")
        commit = {"operations": [CommitOperationAdd("a.txt", b"a")], "commit_message": "a"}
        attempt("branch", api.create_commit, "lab/refusals", revision="v9", **commit)
        return seen

    assert user.call(ask_for_too_much, reader="hf_reader") == {
        "again": ["HfHubHTTPError", 409],
        "elsewhere": ["HfHubHTTPError", 403],
        "reader": ["HfHubHTTPError", 403],
        "nobody": ["HfHubHTTPError", 401],
        "private": ["RepositoryNotFoundError", 401],
        "revision": ["RevisionNotFoundError", 404],
        "file": ["RemoteEntryNotFoundError", 404],
        "branch": ["RevisionNotFoundError", 404],
    }


def test_an_upload_that_is_cut_once_is_repeated_by_the_client(hub, user, checkpoint):
    hub.large_files.clear()  # or the weights would be there already, from another test
    hub.fail("lfs-upload", times=1)
    user.call(push, folder=checkpoint, repo="lab/cut-once")
    assert hub.requests["lfs-upload"] == 2
    assert hub.read("lab/cut-once", "model.safetensors") == (checkpoint / "model.safetensors").read_bytes()
