"""`gengram push` against a Hub: what is published runs as its card says, and what fails leaves nothing behind."""

import json
import random
import re
import shutil
import zlib
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import BertConfig, LlamaConfig

from gengram import GengramConfig, GengramForMaskedLM, GengramForSequenceClassification, GengramModel
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.finetune import finetune

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """Two seeds of a small classifier, as `gengram finetune` leaves them."""
    folder = tmp_path_factory.mktemp("push")
    draw = random.Random(0)
    rows = [("".join(draw.choices("ACG", k=24)), "none") for _ in range(30)]
    rows += [(f"{bases[:9]}TATAAA{bases[15:]}", "tata") for bases, _ in rows]
    table = "\n".join(["sequence,label", *(",".join(row) for row in rows)]) + "\n"
    (folder / "train.csv").write_text(table)
    finetune(
        ModelArguments(backbone="llama", backbone_config=SMALL, memory=MEMORY),
        DataArguments(train_file=str(folder / "train.csv"), test_file=str(folder / "train.csv")),
        FinetuneArguments(output_dir=str(folder / "run"), seeds=[0, 1], num_train_epochs=1, disable_tqdm=True),
    )
    return folder / "run"


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of the run with weights of its own, so that no other test has uploaded them."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    for folder in run.glob("seed-*"):
        model = GengramForSequenceClassification.from_pretrained(folder)
        with torch.no_grad():
            model.classifier.bias += torch.randn(
                2, generator=torch.Generator().manual_seed(zlib.crc32(str(run).encode()))
            )
        model.save_pretrained(folder)
    return run


def save(model, folder: Path, template: str = "plain") -> Path:
    model.save_pretrained(folder)
    build_nucleotide_tokenizer(template=template, model_max_length=64).save_pretrained(folder)
    return folder


def call_push(argv, token="hf_writer"):
    """`gengram push ARGV` with a token (or none); the exit code."""
    import os

    from gengram.cli import main

    before = os.environ.pop("HF_TOKEN")
    if token is not None:
        os.environ["HF_TOKEN"] = token
    try:
        return main(["push", *argv])
    finally:
        os.environ["HF_TOKEN"] = before


def run_code(code, package):
    """Run a card's example; the class that answered and what it said."""
    import sys

    if package:
        import gengram  # noqa: F401
    names = {}
    exec(code, names)
    model = names["predict"].model if "predict" in names else names["model"]
    outputs = names.get("predictions", names.get("vectors"))
    if outputs is None:
        outputs = names["outputs"].logits.tolist()
    return {"module": type(model).__module__, "package": "gengram" in sys.modules, "outputs": outputs}


def read_example(hub, repo: str) -> str:
    card = hub.read(repo, "README.md").decode()
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_a_run_is_published_in_one_commit_and_runs_as_the_card_says(hub, user, stranger, run):
    argv = [str(run), "lab/tata", "--license", "mit", "--dataset", "lab/promoters"]
    assert user.call(call_push, argv=[*argv, "--dry-run"], token=None) == 0
    assert hub.requests.total() == 0, "a dry run asks nobody"
    listed = {line.split("\t")[1]: int(line.split("\t")[0]) for line in user.out.splitlines()}

    assert user.call(call_push, argv=argv) == 0, user.err
    repo = hub.repos["models", "lab/tata"]
    assert len(repo.commits) == 2 and user.out.strip() == f"{hub.url}/lab/tata/commit/{repo.branches['main']}"
    files = hub.list_files("lab/tata")
    assert {name: len(blob.data) for name, blob in files.items() if name != ".gitattributes"} == listed
    assert not {"training_args.bin", "report.json"} & set(files)
    assert hub.requests == {
        route: 1
        for route in ("create", "info", "validate-yaml", "preupload", "lfs-batch", "lfs-upload", "commit", "tree")
    }

    report = json.loads((run / "report.json").read_text())
    scores = report["validation"]["mcc"]["per_seed"], report["validation"]["loss"]["per_seed"]
    best = max((0, 1), key=lambda seed: (scores[0][seed], -scores[1][seed]))
    assert files["model.safetensors"].data == (run / f"seed-{best}" / "model.safetensors").read_bytes()
    card = ModelCard(files["README.md"].data.decode())
    assert card.data.license == "mit" and card.data.model_name == "tata"
    assert f"Seed {best} is published" in card.text
    assert ".eval_results/promoters.yaml" in files

    example = read_example(hub, "lab/tata")
    ours = user.call(run_code, code=example, package=True)
    theirs = stranger.call(run_code, code=example, package=False)
    assert ours["module"] == "gengram.gengram.modeling_gengram" and ours["outputs"][0]["label"] in ("none", "tata")
    assert theirs["module"].startswith("transformers_modules.") and not theirs["package"]
    assert theirs["outputs"][0]["label"] == ours["outputs"][0]["label"]
    assert theirs["outputs"][0]["score"] == pytest.approx(ours["outputs"][0]["score"], abs=1e-5)


@pytest.mark.parametrize("task", ["fill-mask", "feature-extraction"])
def test_pipelines_of_models_without_a_run(hub, user, stranger, tmp_path, task):
    torch.manual_seed(0)
    if task == "fill-mask":
        backbone = BertConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **SMALL)
        model = GengramForMaskedLM(GengramConfig(backbone_config=backbone, **MEMORY))
    else:
        backbone = LlamaConfig(vocab_size=128, pad_token_id=0, max_position_embeddings=64, **SMALL)
        model = GengramModel(GengramConfig(backbone_config=backbone, **MEMORY))
    folder = save(model, tmp_path / "model", template="cls_sep")
    assert user.call(call_push, argv=[str(folder), f"lab/{task}"]) == 0, user.err
    assert ModelCard(hub.read(f"lab/{task}", "README.md").decode()).data.pipeline_tag == task
    example = read_example(hub, f"lab/{task}")
    ours = user.call(run_code, code=example, package=True)["outputs"]
    theirs = stranger.call(run_code, code=example, package=False)["outputs"]
    if task == "fill-mask":
        assert {one["token_str"] for one in ours} == set("ACGT")
        assert [one["token"] for one in ours] == [one["token"] for one in theirs]
    else:
        assert torch.tensor(ours).shape == (38, 16)  # 36 bases and two special tokens
        torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours), rtol=0, atol=1e-5)


def test_an_adapter_is_published_with_its_base(hub, user, stranger, run, tmp_path):
    def make_adapter(base, folder):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import gengram  # noqa: F401

        torch.manual_seed(0)
        lora = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(AutoModelForSequenceClassification.from_pretrained(base), lora).save_pretrained(folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)

    assert user.call(call_push, argv=[str(run), "lab/tata-base"]) == 0, user.err
    user.call(make_adapter, base=run / "seed-0", folder=tmp_path / "adapter")
    argv = [str(tmp_path / "adapter"), "lab/tata-lora"]
    assert user.call(call_push, argv=argv) == 1
    assert "Push the base first" in user.err and ("models", "lab/tata-lora") not in hub.repos
    assert user.call(call_push, argv=[*argv, "--base-model", "lab/tata-base"]) == 0, user.err
    card = ModelCard(hub.read("lab/tata-lora", "README.md").decode())
    assert (card.data.base_model, card.data.base_model_relation) == ("lab/tata-base", "adapter")
    example = read_example(hub, "lab/tata-lora")
    ours = user.call(run_code, code=example, package=True)["outputs"]
    theirs = stranger.call(run_code, code=example, package=False)["outputs"]
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours), rtol=0, atol=1e-5)


def test_pushing_again_replaces_the_weights_and_the_same_again_changes_nothing(hub, user, run):
    def leave_files(repo, paths):
        from huggingface_hub import CommitOperationAdd, HfApi

        files = [CommitOperationAdd(path, b"from Trainer") for path in paths]
        HfApi().create_commit(repo, files, commit_message="End of training")

    folder = run / "seed-0"
    model = GengramForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    argv = [str(folder), "lab/again"]
    assert user.call(call_push, argv=argv) == 0, user.err
    assert "model.safetensors.index.json" in hub.list_files("lab/again")
    kept = ["figure.svg", "onnx/model.safetensors", "embeddings.safetensors", "plots/mine.png", "plots/old/loss.png"]
    user.call(leave_files, repo="lab/again", paths=["README.md", "training_args.bin", "plots/scatter.png", *kept])
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    model.save_pretrained(folder)
    before = set(hub.list_files("lab/again"))
    assert user.call(call_push, argv=[*argv, "--dry-run"]) == 0
    assert "deletes" in user.err and "model-?????-of-?????.safetensors" in user.err and "plots/scatter.png" in user.err
    assert user.call(call_push, argv=argv) == 0, user.err
    after = set(hub.list_files("lab/again"))
    weights = {path for path in before if path.startswith("model") and "safetensors" in path}
    assert len(weights) > 2 and before - after == weights | {"training_args.bin", "plots/scatter.png"}
    assert after - before == {"model.safetensors"} and set(kept) <= after
    said = next(line for line in user.err.splitlines() if line.startswith("deleted, of an earlier push: "))
    assert set(said.partition(": ")[2].split(", ")) == before - after
    assert b"How to use" in hub.read("lab/again", "README.md")
    commits = len(hub.repos["models", "lab/again"].commits)
    assert user.call(call_push, argv=argv) == 0, user.err
    assert len(hub.repos["models", "lab/again"].commits) == commits


def test_branches_and_private_repositories(hub, user, run):
    def make_branch(repo, branch):
        from huggingface_hub import HfApi

        HfApi().create_branch(repo, branch=branch)

    argv = [str(run), "lab/hidden", "--private"]
    assert user.call(call_push, argv=[*argv, "--revision", "v2"]) == 1
    assert "Push once without --revision" in user.err and ("models", "lab/hidden") not in hub.repos
    assert user.call(call_push, argv=argv) == 0, user.err
    assert hub.repos["models", "lab/hidden"].private
    before = hub.list_files("lab/hidden")
    assert user.call(call_push, argv=[*argv, "--revision", "v2"]) == 1
    assert "no revision 'v2'" in user.err and "hf repos branch create lab/hidden v2" in user.err
    user.call(make_branch, repo="lab/hidden", branch="v2")
    assert user.call(call_push, argv=[*argv, "--license", "mit", "--revision", "v2"]) == 0, user.err
    assert hub.list_files("lab/hidden") == before
    assert b"license: mit" in hub.read("lab/hidden", "README.md", revision="v2")


@pytest.mark.parametrize(
    "route, failure, message",
    [
        ("create", {"status": 500}, "could not do it now (500"),
        ("preupload", {"status": 401}, "does not accept the token"),
        ("lfs-batch", {"status": 403}, "may not write there"),
        ("lfs-upload", {"status": 503, "times": 99}, "could not do it now (503"),
        ("lfs-upload", {"status": None, "times": 99}, "the connection broke"),
        ("commit", {"status": None}, "the connection broke"),
        ("commit", {"status": 409}, "at the same time"),
        ("commit", {"status": 412}, "at the same time"),
        ("commit", {"status": 502}, "could not do it now (502"),
        ("commit", {"status": 400, "message": "no such key"}, "refused the push (400"),
    ],
)
def test_a_failure_has_a_message_leaves_nothing_and_a_retry_works(hub, user, run, request, route, failure, message):
    repo = f"lab/{re.sub('[^a-z0-9]+', '-', request.node.callspec.id.lower()).strip('-')[:60].strip('-')}"
    argv = [str(run), repo]
    hub.fail(route, **failure)
    assert user.call(call_push, argv=argv) == 1
    print(user.err)  # shown by pytest -rA
    assert f"gengram push: error: {repo}" in user.err and message in user.err
    assert "Traceback" not in user.err and user.out == ""
    if ("models", repo) in hub.repos:
        assert set(hub.list_files(repo)) == {".gitattributes"}
    hub.recover()
    assert user.call(call_push, argv=argv) == 0, user.err
    assert {"model.safetensors", "README.md", "config.json"} <= set(hub.list_files(repo))


@pytest.mark.parametrize(
    "token, repo, message",
    [
        (None, "lab/nobody", "no token: run `hf auth login`"),
        ("hf_unknown", "lab/unknown", "does not accept the token"),
        ("hf_reader", "lab/reader", "may not write there"),
        ("hf_writer", "elsewhere/model", "or another organization"),
    ],
)
def test_who_may_not_push_is_told_so(hub, user, finished_run, token, repo, message):
    assert user.call(call_push, argv=[str(finished_run), repo], token=token) == 1
    assert message in user.err and ("models", repo) not in hub.repos


def test_a_commit_that_somebody_else_makes_meanwhile_is_not_overwritten(hub, user, run, monkeypatch):
    assert user.call(call_push, argv=[str(run), "lab/busy"]) == 0, user.err
    handler = hub.server.RequestHandlerClass
    original = handler.answer_preupload

    def commit_meanwhile(self, body, kind, repo, revision):
        answer = original(self, body, kind, repo, revision)
        found = hub.repos[kind, repo]
        found.commit("main", dict(found.commits[found.branches["main"]]), "theirs")
        return answer

    monkeypatch.setattr(handler, "answer_preupload", commit_meanwhile)
    assert user.call(call_push, argv=[str(run), "lab/busy", "--license", "mit"]) == 1
    assert "somebody else changed the repository" in user.err
    assert hub.repos["models", "lab/busy"].messages[-1] == "theirs"


def test_what_the_hub_lost_is_noticed(hub, user, run, monkeypatch):
    handler = hub.server.RequestHandlerClass
    original = handler.answer_tree

    def forget(self, *args, **kwargs):
        status, headers, entries = original(self, *args, **kwargs)
        return status, headers, [entry for entry in entries if entry["path"] != "model.safetensors"]

    monkeypatch.setattr(handler, "answer_tree", forget)
    assert user.call(call_push, argv=[str(run), "lab/forgetful"]) == 1
    assert "the commit was made" in user.err and "model.safetensors is missing there" in user.err


def test_a_folder_of_tables_becomes_a_dataset(hub, user, tmp_path):
    def call_dataset(argv):
        from gengram.cli import main

        return main(["dataset", "push", *argv])

    def read_dataset(repo):
        import hashlib
        from pathlib import Path

        from datasets import get_dataset_config_names, load_dataset
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(repo, repo_type="dataset"))
        sums = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
        streamed = load_dataset(repo, "donor", split="test", streaming=True)
        return {
            "configs": sorted(get_dataset_config_names(repo)),
            "rows": len(load_dataset(repo, "acceptor", split="train")),
            "streamed": [row["sequence"] for row in streamed],
            "intact": [hashlib.sha256((folder / name).read_bytes()).hexdigest() == one for one, name in sums],
        }

    def leave_tables(repo, paths):
        from huggingface_hub import CommitOperationAdd, HfApi

        files = [CommitOperationAdd(path, b"by hand") for path in paths]
        HfApi().create_commit(repo, files, commit_message="by hand", repo_type="dataset")

    for config in ("donor", "acceptor"):
        (tmp_path / config).mkdir()
        for split, rows in (("train", 5), ("test", 2)):
            lines = ["seq,label", *(f"ACGT{'A' * row},{row % 2}" for row in range(rows))]
            (tmp_path / config / f"{split}.csv").write_text("\n".join(lines))
    argv = [str(tmp_path), "lab/tables", "--license", "cc0-1.0"]
    hub.fail("lfs-upload", times=99)
    assert user.call(call_dataset, argv=argv) == 1
    assert "the connection broke" in user.err
    assert set(hub.list_files("lab/tables", kind="datasets")) == {".gitattributes"}
    hub.recover()
    assert user.call(call_dataset, argv=argv) == 0, user.err
    assert len(hub.repos["datasets", "lab/tables"].commits) == 2
    assert user.call(read_dataset, repo="lab/tables") == {
        "configs": ["acceptor", "donor"],
        "rows": 5,
        "streamed": ["ACGT", "ACGTA"],
        "intact": [True] * 4,
    }
    (tmp_path / "donor" / "test.csv").unlink()
    shutil.rmtree(tmp_path / "acceptor")
    kept = ["annotation.parquet", "donor/raw/train-00000-of-00001.parquet", "donor/genes.parquet"]
    user.call(leave_tables, repo="lab/tables", paths=["donor/train-00001-of-00002.parquet", *kept])
    before = set(hub.list_files("lab/tables", kind="datasets"))
    assert user.call(call_dataset, argv=argv) == 0, user.err
    gone = before - set(hub.list_files("lab/tables", kind="datasets"))
    assert gone == {"donor/train-00001-of-00002.parquet", "donor/test-00000-of-00001.parquet"}
    assert all(path in user.err for path in gone)


def test_a_revision_of_a_dataset_that_does_not_exist(hub, user, tmp_path):
    def call_dataset(argv):
        from gengram.cli import main

        return main(["dataset", "push", *argv])

    def call_finetune(argv):
        from gengram.cli import main

        return main(["finetune", *argv])

    (tmp_path / "tables").mkdir()
    lines = ["seq,label", *(f"ACGT{'A' * row},{row % 2}" for row in range(20))]
    (tmp_path / "tables" / "train.csv").write_text("\n".join(lines))
    assert user.call(call_dataset, argv=[str(tmp_path / "tables"), "lab/revised", "--license", "cc0-1.0"]) == 0, (
        user.err
    )
    argv = ["--dataset", "lab/revised", "--backbone", "llama", "--output_dir", str(tmp_path / "run")]
    assert user.call(call_finetune, argv=[*argv, "--dataset_revision", "nowhere"]) == 1
    assert "gengram finetune: error: dataset='lab/revised'" in user.err and "nowhere" in user.err, user.err
    assert not (tmp_path / "run").exists()


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789"
# Put together here, so that no file of the project holds one: kind -> ten things that must not be published.
LEAKS = [
    ("hub-token", "hf" + "_" + LETTERS[:34]),
    ("github-token", "gh" + "p_" + LETTERS[:36]),
    ("aws-key", "AK" + "IAQ3EGRZ7TK5WXB2JD"),
    ("private-key", "-----BEGIN OPENSSH PRIVATE" + " KEY-----"),
    ("url-password", "https" + "://alice:Tr0ub4dor-and-3@data.example.org/x"),
    ("path", "/home/alice/projects/splice"),
    ("path", "C:\\Users\\alice\\corpus.txt"),
    ("chat-token", "https://hooks.slack" + ".com/services/T0123ABCD/B0123ABCD/" + LETTERS[:24]),
    ("password", "WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567"),
    ("ai-key", "sk" + "-ant-api03-" + LETTERS),
]
LOOK_ALIKES = [
    "hf_transfer",
    "ghp_",
    "AKIAVLLGGSEEAQRKLLLL",
    "-----BEGIN CERTIFICATE-----",
    "https://huggingface.co/home/docs",
    "5'/3' UTR",
    "/home",
    "s3://bucket/data/x",
    "alice@example.org",
    "ACGTTGCA" * 40,
]


def plant(folder: Path, texts: list[str]) -> list[str]:
    """Put ten texts into ten places of a model's folder, each in another way; the places, in order."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    def change(name: str, **more) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | more))

    (folder / "vocab.txt").write_text(f"[UNK]\n{texts[0]}\n", "utf-16")
    (folder / "spm.model").write_bytes(b"\x00\x0a\x30" + texts[1].encode() + b"\x15\x00\xff")
    with safe_open(folder / "model.safetensors", "pt") as weights:
        metadata = weights.metadata()
    save_file(
        load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={**metadata, "origin": texts[2]}
    )
    (folder / "chat_template.jinja").write_text(f"{{# {texts[3]} #}}")
    change("tokenizer_config.json", source=texts[4])
    (folder / "generation_config.json").write_text(json.dumps({"source": texts[5]}).replace("/", "\\/"))
    change("config.json", corpus=texts[6])
    (folder / "merges.txt").write_bytes(b"caf\xe9 " + texts[7].encode("latin-1"))
    (folder / "special_tokens_map.json").write_text(json.dumps({"extra": json.dumps({"key": texts[8]})}))
    (folder / "gengram_notes.py").write_text(f"NOTE = {texts[9]!r}\n")
    (folder / "modeling_gengram.py").write_text(
        (folder / "modeling_gengram.py").read_text() + "\nfrom .gengram_notes import NOTE\n"
    )
    return [
        "vocab.txt, line 2: ",
        "spm.model, byte 3",
        "model.safetensors, metadata 'origin'",
        "chat_template.jinja, line 1, ",
        "tokenizer_config.json, line 1, ",
        "generation_config.json, line 1, ",
        "config.json, line 1, ",
        "merges.txt, line 1, ",
        "special_tokens_map.json, line 1, ",
        "gengram_notes.py, line 1, ",
    ]


def test_ten_leaks_in_a_model_are_found_and_ten_look_alikes_are_not(hub, user, run):
    """Half of the files also get a look-alike beside the leak; nobody is asked anything before the refusal."""
    folder = run / "seed-0"
    places = plant(folder, [f"{leak} {alike}" for (_, leak), alike in zip(LEAKS, LOOK_ALIKES)])
    argv = [str(run), "lab/leaks", "--seed", "0"]
    assert user.call(call_push, argv=argv) == 1
    told = user.err.partition("10 private things would be published: ")[2].split(". Take them out")[0].split("; ")
    asked = hub.requests.total()
    print(f"{len(told)} found, {asked} requests before the refusal")
    print("\n".join(told))
    assert len(told) == 10 and asked == 0 and ("models", "lab/leaks") not in hub.repos
    for place in places:
        assert sum(line.startswith(place) for line in told) == 1, place
    for kind, leak in LEAKS:
        assert kind == "path" or leak not in user.err, "a secret is not shown"
    kinds = sorted({kind for kind, _ in LEAKS} - {"hub-token"})
    allowed = [part for kind in kinds for part in ("--allow", kind)]
    assert user.call(call_push, argv=[*argv, *allowed]) == 1
    assert user.err.count("would be published") == 1 and hub.requests.total() == 0
    assert "vocab.txt, line 2: a token of the Hub (hub-token) would be published" in user.err

    plant(folder, LOOK_ALIKES)
    assert user.call(call_push, argv=argv) == 0, user.err
    assert {"vocab.txt", "spm.model", "merges.txt", "gengram_notes.py"} <= set(hub.list_files("lab/leaks"))
    (message,) = hub.repos["models", "lab/leaks"].messages[1:]
    assert message.split("\n")[0] == "Publish leaks with gengram", "the folder's name is nobody's business"


def test_ten_leaks_in_rows_are_found_and_ten_look_alikes_are_not(hub, user, tmp_path):
    def call_dataset(argv):
        from gengram.cli import main

        return main(["dataset", "push", *argv])

    def write(texts: list[str]) -> None:
        rows = [{"sequence": "ACGT" * 8, "label": 0, "notes": [{"text": "fine"}]} for _ in range(30)]
        for number, text in enumerate(texts):
            rows[3 * number]["notes"].append({"text": f"see {text}"})
        for config in ("donor", "acceptor"):
            (tmp_path / "data" / config).mkdir(parents=True, exist_ok=True)
            lines = "\n".join(json.dumps(row) for row in rows)
            (tmp_path / "data" / config / "train.jsonl").write_text(
                lines if config == "donor" else lines.splitlines()[1]
            )

    write([f"{leak} {alike}" for (_, leak), alike in zip(LEAKS, LOOK_ALIKES)])
    argv = [str(tmp_path / "data"), "lab/rows", "--license", "cc0-1.0"]
    assert user.call(call_dataset, argv=argv) == 1
    told = user.err.partition("10 private things would be published: ")[2].split(". Take them out")[0].split("; ")
    print(f"{len(told)} found, {hub.requests.total()} requests before the refusal")
    print("\n".join(told))
    assert len(told) == 10 and hub.requests.total() == 0 and ("datasets", "lab/rows") not in hub.repos
    assert [line.split(": ")[0] for line in told] == [
        f"donor/train.jsonl, row {3 * number + 1}, column 'notes'" for number in range(10)
    ]
    for kind, leak in LEAKS:
        assert kind == "path" or leak not in user.err, "a secret is not shown"
    write(LOOK_ALIKES)
    assert user.call(call_dataset, argv=argv) == 0, user.err
    assert "donor/train-00000-of-00001.parquet" in hub.list_files("lab/rows", kind="datasets")
    write([leak for kind, leak in LEAKS if kind == "path"])
    assert user.call(call_dataset, argv=[*argv, "--allow", "path:train.jsonl"]) == 0, user.err
    assert "published, as allowed: donor/train.jsonl: an absolute path (2 places)" in user.err
