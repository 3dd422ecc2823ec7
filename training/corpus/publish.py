"""A corpus on the Hub, in one commit: `gengram corpus push`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES
from gengram.loading.checkpoints import check_repo_id
from gengram.loading.faults import tell_faults
from gengram.phases import phase
from gengram.training.corpus.card import render_corpus_card
from gengram.training.corpus.letters import DATASET_FILES, FEATURES
from gengram.training.corpus.store import FACTS_FILE, LETTERS_FOLDER, open_corpus
from gengram.training.publishing.inside import refuse_outsiders, tell_why_not
from gengram.training.publishing.scan import read_allowances, refuse_private
from gengram.training.publishing.upload import Upload

_CARD = "README.md"
_DATASET = tuple(f"{LETTERS_FOLDER}/{name}" for name in DATASET_FILES)
_LONGEST_METADATA = 1000
_LETTERS = np.zeros(256, dtype=bool)
_LETTERS[list((BASES + ANY_BASE + AMBIGUITY_CODES).encode())] = True
_LETTERS[list((BASES + ANY_BASE + AMBIGUITY_CODES).lower().encode())] = True


def prepare_corpus(folder: str | Path, repo_id: str, *, allow: Sequence[str] = ()) -> Upload:
    """Check what a push of a corpus would publish; needs no network.

    All text is searched for what is private. Letters are no text: of their files it is made sure that they hold nothing
    else.

    Args:
        folder: of the corpus.
        repo_id: `organization/name`.
        allow: what is private and may go up all the same, see `read_allowances`.

    Raises:
        `InputError`: no corpus, a file that is missing or has changed, a link that leads out of the folder, something
            private.
    """
    check_repo_id(repo_id)
    read_allowances(allow)
    folder = Path(folder)
    with phase("Comparing checksums"):
        facts = open_corpus(folder, check=True).facts
    names = [one["file"] for one in facts["shards"]]
    files: dict[str, Path | bytes] = {name: folder / name for name in [FACTS_FILE, *_DATASET, *names]}
    for name in (FACTS_FILE, *_DATASET):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: the file is missing. Build the corpus again, or copy the folder again")
    refuse_outsiders(files, folder)
    with tell_faults(f"{folder / FACTS_FILE}: it does not say what gengram corpus build writes"):
        card = render_corpus_card(folder, facts, repo_id)
    files[_CARD] = str(card).encode()
    letters = [name for name in names if name.startswith(f"{LETTERS_FOLDER}/") and name not in _DATASET]
    with phase("Looking at letters", unit="files", total=len(letters)) as looking:
        for name in letters:
            _refuse_text(folder / name)
            looking.add()
    searched = {name: content for name, content in files.items() if name not in letters}
    allowed = refuse_private(searched, allow, source=folder)
    left_out = {
        path.relative_to(folder).as_posix(): tell_why_not(path) or "no file of the corpus"
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).as_posix() not in files and not path.is_dir()
    }
    stale = (f"{LETTERS_FOLDER}/data-?????-of-?????.arrow", "classes.arrow", "haplotypes.arrow")
    return Upload(repo_id, folder, card, files, left_out, repo_type="dataset", stale=stale, allowed=allowed)


def _refuse_text(path: Path) -> None:
    """Refuse a file of letters that holds anything else: columns, metadata or bytes that are no letters."""
    known = FEATURES.arrow_schema
    with (
        tell_faults(f"{path}: the letters cannot be read", (pa.ArrowException, OSError)),
        pa.memory_map(str(path)) as source,
        pa.ipc.open_stream(source) as stream,
    ):
        if not stream.schema.equals(known, check_metadata=False):
            raise InputError(f"{path}: the file has other columns than letters")
        metadata = stream.schema.metadata or {}
        if set(metadata) - {b"huggingface"} or len(metadata.get(b"huggingface", b"")) > _LONGEST_METADATA:
            raise InputError(f"{path}: the file has metadata that gengram corpus build does not write")
        for batch in stream:
            if not _LETTERS[batch["letters"].values.to_numpy()].all():
                raise InputError(f"{path}: the file holds bytes that are no letters of DNA")


__all__ = ["prepare_corpus"]
