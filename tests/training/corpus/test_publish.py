"""`gengram corpus show` and `corpus push`: facts, checksums, what goes up and what does not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gengram.cli import main
from gengram.errors import InputError
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.publish import prepare_corpus


@pytest.fixture
def corpus(tmp_path) -> Path:
    random = np.random.default_rng(0)
    text = "".join(f">{name}\n{''.join(random.choice(list('ACGT'), 3000))}\n" for name in ("a", "b"))
    (tmp_path / "some.fa").write_text(text)
    recipe = "name: some\nlicence: cc0-1.0\ngenomes: [{species: s, fasta: some.fa, hold_out: {test: [b]}}]\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    return tmp_path / "corpus"


def test_everything_goes_up_with_a_card_of_its_place(corpus):
    (corpus / "notes.txt").write_text("mine")
    upload = prepare_corpus(corpus, "lab/some")
    letters = ["letters/data-00000-of-00001.arrow", "letters/dataset_info.json", "letters/state.json"]
    tables = ["README.md", "anchors.arrow", "contigs.arrow", "corpus.json", "segments.arrow"]
    assert sorted(upload.files) == sorted([*letters, *tables])
    assert upload.repo_type == "dataset" and "notes.txt" in upload.left_out
    card = str(upload.card)
    assert 'load_dataset("lab/some", "letters", split="train")' in card and "license: cc0-1.0" in card
    assert "| s | b | b | 0 | 3,000 | test | some.fa |" in card


def test_a_licence_that_nobody_has_stated_is_said(corpus):
    facts = json.loads((corpus / "corpus.json").read_text())
    (corpus / "corpus.json").write_text(json.dumps({**facts, "licence": "unknown"}))
    assert "Unknown. Nobody has stated one" in str(prepare_corpus(corpus, "lab/some").card)


@pytest.mark.parametrize("file", ["segments.arrow", "letters/data-00000-of-00001.arrow", "letters/state.json"])
def test_a_changed_byte_is_found(corpus, file, capsys):
    data = bytearray((corpus / file).read_bytes())
    data[len(data) // 2] ^= 1
    (corpus / file).write_bytes(data)
    with pytest.raises(InputError, match=f"{file}: its checksum is another"):
        prepare_corpus(corpus, "lab/some")
    assert main(["corpus", "show", str(corpus), "--check"]) == 1
    assert "its checksum is another" in capsys.readouterr().err


def test_show_says_what_is_there_and_what_is_no_corpus(corpus, tmp_path, capsys):
    assert main(["corpus", "show", str(corpus)]) == 0
    out = capsys.readouterr().out
    assert "some: 6,000 bases of 1 species in, 0 left out; 0 haplotypes" in out
    assert "0 of 2,970 distinct 31-mers of test, 0.00 %, are in training, too" in out
    assert "windows of 1,024" in out and "shares no stretch of 500 bases" in out
    assert main(["corpus", "show", str(tmp_path)]) == 1
    assert "no corpus" in capsys.readouterr().err
    facts = json.loads((corpus / "corpus.json").read_text())
    (corpus / "corpus.json").write_text(json.dumps({**facts, "totals": []}))
    assert main(["corpus", "show", str(corpus)]) == 1
    assert "it does not say what gengram corpus build writes" in capsys.readouterr().err


def rewrite(corpus: Path, letters: bytes, metadata: dict[bytes, bytes] | None = None) -> None:
    """Put other letters into a corpus, with checksums that are right."""
    from gengram.files import hash_file

    path = corpus / "letters" / "data-00000-of-00001.arrow"
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        schema = stream.schema
    schema = schema.with_metadata({**schema.metadata, **(metadata or {})})
    rows = [{"contig": 0, "start": 0, "letters": list(letters)}]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    facts = json.loads((corpus / "corpus.json").read_text())
    facts["shards"][0] |= {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    (corpus / "corpus.json").write_text(json.dumps(facts))


def test_letters_are_made_sure_to_be_letters(corpus):
    rewrite(corpus, b"ACGT" * 10)
    prepare_corpus(corpus, "lab/some")
    rewrite(corpus, b"ACGT/home/me/secret")
    with pytest.raises(InputError, match="holds bytes that are no letters of DNA"):
        prepare_corpus(corpus, "lab/some")
    rewrite(corpus, b"ACGT", {b"note": b"mine"})
    with pytest.raises(InputError, match="metadata that gengram corpus build does not write"):
        prepare_corpus(corpus, "lab/some")


def test_what_is_private_in_a_text_is_refused(corpus):
    facts = json.loads((corpus / "corpus.json").read_text())
    (corpus / "corpus.json").write_text(json.dumps({**facts, "name": "/home/somebody/data/x.fa"}))
    with pytest.raises(InputError, match=r"corpus\.json.*\(path\)"):
        prepare_corpus(corpus, "lab/some")


def test_a_link_that_leads_out_is_refused(corpus, tmp_path):
    (corpus / "segments.arrow").rename(tmp_path / "elsewhere.arrow")
    (corpus / "segments.arrow").symlink_to(tmp_path / "elsewhere.arrow")
    with pytest.raises(InputError, match="is a link that leads out"):
        prepare_corpus(corpus, "lab/some")
