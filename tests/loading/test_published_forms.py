"""Every published form of a model in every verb that reads models: the verb's numbers are those of the model itself.

A form is a folder as its authors publish it: their config.json and names of weights (golden cases have both, small),
and their vocabulary or tokenizer. `gengram.auto` and `load_tokenizer` read it for the numbers that are expected.
docs/published_forms.md has the table of what comes out; a row there that is another one fails here.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from transformers import ModernBertConfig, ModernBertForMaskedLM

import gengram
from gengram.loading import load_tokenizer
from gengram.pipelines.command import embed, predict
from gengram.pipelines.segment_genome import load_segmenter
from gengram.training.command import finetune
from gengram.training.publishing.model import prepare_upload

PAGE = Path(__file__).parents[2] / "docs/published_forms.md"
COLUMNS = (
    "form",
    "class",
    "`predict`",
    "`embed`",
    "`segment`",
    "`finetune`, `predict`",
    "`--peft lora`, `predict`",
    "`push`",
)
TOLERANCE = 1e-5
BPE_ROWS = 32000


class Form(NamedTuple):
    """A row of the table: the golden case (None: made here), the vocabulary, and fields that the case leaves open."""

    case: str | None
    vocabulary: str
    fields: dict


CLASSIFIER = {"architectures": ["EsmForSequenceClassification"]}
FORMS = {
    "Nucleotide Transformer v1": Form("nt/nt_v1_seqcls", "vocab_v1_6mer", CLASSIFIER),
    "Nucleotide Transformer v2": Form("nt/nt_v2_seqcls", "vocab_v2_6mer", CLASSIFIER),
    "AgroNT": Form("nt/agro_nt_mlm", "vocab_v1_6mer", {}),
    "SegmentNT": Form("nt/segment_nt", "vocab_v2_6mer", {}),
    "NTv3": Form("nt/ntv3_pre", "remote", {}),
    "GENA-LM, norms before": Form("gena/bert_preln_lastln_seqcls_single", "t2t_1000h_multi_32k", {}),
    "GENA-LM, norms after": Form("gena/bert_postln_seqcls_single", "t2t_1000h_multi_32k", {}),
    "GENA-LM, rotary": Form("gena/bert_rope_preln_nolastln_fullattn_seqcls_single", "t2t_1000h_multi_32k", {}),
    "GENA-LM, BigBird": Form("gena/bigbird_seqcls_single", "t2t_1000h_multi_32k", {}),
    "modernGENA": Form(None, "t2t_1000h_multi_32k", {}),
}


@pytest.fixture(scope="module")
def golden(request) -> Path:
    given = request.config.getoption("--golden-dir")
    root = Path(__file__).resolve().parents[3] / "shared/golden" if given is None else Path(given)
    if not root.is_dir():
        pytest.skip("no ../shared beside the project")
    return root


@pytest.fixture(params=FORMS, scope="module")
def published(request, golden, tmp_path_factory) -> tuple[str, Path]:
    """The name of a form and its folder."""
    form, folder = FORMS[request.param], tmp_path_factory.mktemp("published")
    if form.case is None:
        write_modern_gena(folder)
    else:
        fields, weights = (
            json.loads((golden / form.case / "config.json").read_text()),
            load_file(golden / form.case / "model.safetensors"),
        )
        if form.case.startswith("gena/"):  # the case has fewer rows than the tokenizer has tokens
            words = weights["bert.embeddings.word_embeddings.weight"]
            more = torch.randn(BPE_ROWS, words.shape[1], generator=torch.Generator().manual_seed(0))
            weights["bert.embeddings.word_embeddings.weight"] = more * words.std()
            fields["vocab_size"] = BPE_ROWS
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps({**fields, **form.fields}))
    write_tokenizer(folder, form.vocabulary, golden)
    return request.param, folder


def write_modern_gena(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    special = {"pad_token_id": 3, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = ModernBertConfig(vocab_size=BPE_ROWS, max_position_embeddings=1024, local_attention=8, **sizes, **special)
    ModernBertForMaskedLM(config).save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    for name in ("rope_parameters", "layer_types"):  # as the published file has them, which an older version wrote
        fields.pop(name)
    fields |= {"global_rope_theta": 10000.0, "local_rope_theta": 10000.0, "global_attn_every_n_layers": 3}
    (folder / "config.json").write_text(json.dumps(fields))


def write_tokenizer(folder: Path, name: str, golden: Path) -> None:
    settings: dict = {"tokenizer_class": "EsmTokenizer", "clean_up_tokenization_spaces": True, "eos_token": None}
    if name == "remote":
        settings = {"tokenizer_class": "NTv3Tokenizer", "auto_map": {"AutoTokenizer": ["remote.Tokenizer", None]}}
    elif name.startswith("vocab"):
        (folder / "vocab.txt").write_text((golden / f"nt/vocab/{name}.txt").read_text())
        settings["model_max_length"] = 1000
    else:
        for file in (golden / "gena/tokenizers" / name).glob("*.json"):
            (folder / file.name).write_text(file.read_text())
        return
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Eight labelled sequences of 192 bp, which every form reads whole; every other one is soft-masked."""
    random = np.random.default_rng(0)
    rows = ["".join(random.choice(list("ACGT"), 192)) for _ in range(8)]
    rows = [row.lower() if number % 2 else row for number, row in enumerate(rows)]
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    pd.DataFrame({"sequence": rows, "label": ["a", "b"] * 4}).to_csv(file, index=False)
    return file


@torch.no_grad()
def ask(model, tokenizer, table: Path, read: Callable) -> np.ndarray:
    """What the model itself says to each sequence alone."""
    model.eval()
    sequences = pd.read_csv(table)["sequence"]
    return np.stack([read(model(**tokenizer(each, return_tensors="pt"))).numpy() for each in sequences])


def read_logits(outputs) -> torch.Tensor:
    return outputs.logits[0].float()


def read_mean(outputs) -> torch.Tensor:
    """Over the tokens, of whose number there may be more or fewer."""
    states = outputs.logits if "logits" in outputs else outputs.last_hidden_state
    return states[0].float().mean(0)


def compare(found: np.ndarray, expected: np.ndarray) -> str:
    """The word of a cell: equal numbers, which differ from row to row."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(expected).max())))
    assert len(np.unique(expected, axis=0)) == len(expected), "one and the same answer to different sequences"
    return "equal"


def refuse(code: int, told: str) -> str:
    """The word of a cell in which the verb says why not."""
    assert code == 1 and "error: " in told and "Traceback" not in told, told
    return "refused"


def predict_and_compare(folder: Path, model, table: Path, out: Path) -> str:
    assert predict([str(folder), str(table), "--out", str(out)]) == 0
    found = pd.read_parquet(out)
    names = [name for _, name in sorted(model.config.id2label.items())]
    expected = softmax(ask(model, load_tokenizer(folder), table, read_logits), axis=1)
    return compare(found[[f"probability_{name}" for name in names]].to_numpy(), expected)


def try_predict(folder: Path, table: Path, out: Path, capsys) -> str:
    config = json.loads((folder / "config.json").read_text())
    if not str(config["architectures"][0]).endswith("ForSequenceClassification"):
        capsys.readouterr()
        code = predict([str(folder), str(table), "--out", str(out)])
        return f"{refuse(code, capsys.readouterr().err)} (no head)" if "features" not in config else "refused"
    return predict_and_compare(folder, gengram.auto(folder, "sequence_classification"), table, out)


def try_embed(folder: Path, table: Path, out: Path) -> str:
    options = ["--model", str(folder), "--out", str(out), "--dtype", "float32"]
    assert embed([str(table), *options]) == 0
    return compare(np.load(out)["embeddings"], ask(gengram.auto(folder), load_tokenizer(folder), table, read_mean))


def try_segment(folder: Path, table: Path) -> str:
    try:
        segmenter = load_segmenter(folder, 192, 48)
    except gengram.errors.InputError:
        return "refused"
    sequences = pd.read_csv(table)["sequence"]
    found = np.stack([segmenter.read(each) for each in sequences])
    logits = ask(gengram.auto(folder, "token_classification"), load_tokenizer(folder), table, read_logits)
    return compare(found.reshape(8, -1), softmax(logits, axis=-1)[..., 1].reshape(8, -1))


def try_push(folder: Path, task: str, table: Path, arrived: Path) -> str:
    """What goes up is written to a folder as it is, and loaded from there."""
    arrived.mkdir()
    for name, content in prepare_upload(folder, "lab/model").files.items():
        (arrived / name).parent.mkdir(exist_ok=True)
        (arrived / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    read = read_logits if task == "sequence_classification" else read_mean
    found, expected = (ask(gengram.auto(each, task), load_tokenizer(each), table, read) for each in (arrived, folder))
    return compare(found.reshape(8, -1), expected.reshape(8, -1))


def train(folder: Path, table: Path, run: Path, *options: str) -> int:
    argv = ["--train_file", table, "--model_name_or_path", folder, "--output_dir", run, "--max_steps", 2]
    argv += ["--validation_fraction", 0, "--report_to", "none", "--learning_rate", 1e-2, *options]
    return finetune(list(map(str, argv)))


def try_finetune(folder: Path, table: Path, tmp_path: Path, capsys) -> str:
    code = train(folder, table, tmp_path / "run")
    if code:
        return refuse(code, capsys.readouterr().err)
    trained = tmp_path / "run/seed-0"
    model = gengram.auto(trained, "sequence_classification")
    return predict_and_compare(trained, model, table, tmp_path / "trained.parquet")


def try_adapter(folder: Path, table: Path, tmp_path: Path, capsys) -> str:
    code = train(folder, table, tmp_path / "run", "--peft", "lora")
    if code:
        return refuse(code, capsys.readouterr().err)
    trained = tmp_path / "run/seed-0"
    base = gengram.auto(
        folder, "sequence_classification", num_labels=2, id2label={0: "a", 1: "b"}, ignore_mismatched_sizes=True
    )
    return predict_and_compare(trained, PeftModel.from_pretrained(base, trained), table, tmp_path / "adapted.parquet")


def read_rows() -> dict[str, list[str]]:
    """The cells of the page's table by form."""
    lines = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {row[0]: row for row in rows if len(row) == len(COLUMNS) and not set(row[0]) <= {"-"}}


def test_the_page_has_every_form():
    rows = read_rows()
    assert list(rows) == ["form", *FORMS] and rows["form"] == list(COLUMNS)


def test_lower_case_is_read_as_upper_case(published, table, tmp_path):
    _, folder = published
    rows = pd.read_csv(table)
    rows["sequence"] = rows["sequence"].str.upper()
    rows.to_csv(tmp_path / "upper.csv", index=False)
    for name, file in (("mixed", table), ("upper", tmp_path / "upper.csv")):
        out = str(tmp_path / f"{name}.npz")
        assert embed([str(file), "--model", str(folder), "--out", out, "--dtype", "float32"]) == 0
    mixed, upper = (np.load(tmp_path / f"{name}.npz")["embeddings"] for name in ("mixed", "upper"))
    np.testing.assert_array_equal(mixed, upper)


def test_reading(published, table, tmp_path, capsys):
    """The columns for which nothing is trained."""
    form, folder = published
    task = "sequence_classification" if FORMS[form].case and "seqcls" in FORMS[form].case else "masked_lm"
    task = "token_classification" if form == "SegmentNT" else task
    found = [
        form,
        f"`{type(gengram.auto(folder, task)).__name__}`",
        try_predict(folder, table, tmp_path / "p.parquet", capsys),
        try_embed(folder, table, tmp_path / "e.npz"),
        try_segment(folder, table),
        try_push(folder, task, table, tmp_path / "arrived"),
    ]
    row = read_rows()[form]
    assert " | ".join(found) == " | ".join([*row[:5], row[7]])


@pytest.mark.slow
def test_training(published, table, tmp_path, capsys):
    form, folder = published
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = [try_finetune(folder, table, tmp_path / "a", capsys), try_adapter(folder, table, tmp_path / "b", capsys)]
    assert " | ".join(found) == " | ".join(read_rows()[form][5:7])
