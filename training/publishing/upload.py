"""One commit on the Hub: everything that goes up is checked before, and is there as a whole or not at all."""

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.repocard import RepoCard

from gengram.command_line import Answer
from gengram.errors import InputError
from gengram.phases import phase
from gengram.printable import make_printable
from gengram.progress import tell
from gengram.training.publishing.secrets import hide_secrets

# What huggingface_hub raises: answers of the Hub (HfHubHTTPError), broken connections, failed uploads, bad metadata.
_HUB_ERRORS = (OSError, RuntimeError, ValueError, HTTPError)


@dataclass(frozen=True)
class Upload:
    """What would be published, complete and checked.

    Attributes:
        repo_id: `organization/name`.
        source: the folder that it comes from.
        card: what `README.md`, one of the files, says.
        files: path in the repository -> file here, or the content itself.
        left_out: name in the folder -> why it does not go up.
        note: what a user should know about the choice, e.g. which seed it is and why.
        repo_type: `"model"` or `"dataset"`.
        stale: patterns (see `matches`) of what earlier pushes may have left in the repository; what fits one of them
            and is not among the files is deleted.
        allowed: what is private in the files and goes up because somebody has said so, in sentences.
    """

    repo_id: str
    source: Path
    card: RepoCard
    files: dict[str, Path | bytes]
    left_out: dict[str, str] = field(default_factory=dict)
    note: str = ""
    repo_type: Literal["model", "dataset"] = "model"
    stale: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def measure(self, path: str) -> int:
        """Size in bytes of one of the files."""
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def push(upload: Upload, *, private: bool = False, revision: str | None = None, token: str | None = None) -> CommitInfo:
    """Publish an upload in one commit, and check that the Hub has every file with its size.

    Args:
        upload: what `prepare_upload` or `prepare_dataset` has gathered and checked.
        private: whether a new repository is private; an existing one stays as it is.
        revision: branch to write to; it has to exist. Default: main.
        token: by default that of `hf auth login` or HF_TOKEN.

    Returns:
        The commit; its `commit_description` names the files of earlier pushes that it deletes.

    Raises:
        `InputError`: no token, or anything that the Hub or the network refused, with what to do. Then nothing of the
            upload is visible in the repository; at worst a new one exists and is empty.
    """
    if token is None and get_token() is None:
        raise InputError("no token: run `hf auth login`, or set HF_TOKEN to a token that may write")
    api, repo_type = HfApi(token=token), upload.repo_type
    try:
        if revision is None:
            api.create_repo(upload.repo_id, private=private, exist_ok=True, repo_type=repo_type)
        head = api.repo_info(upload.repo_id, revision=revision, repo_type=repo_type)
        if revision is not None:
            branches = [ref.name for ref in api.list_repo_refs(upload.repo_id, repo_type=repo_type).branches]
            if revision not in branches:
                raise InputError(f"{revision!r} is not a branch of {upload.repo_id}: it has {', '.join(branches)}")
        there = [sibling.rfilename for sibling in getattr(head, "siblings", None) or []]
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        with phase("Hashing", unit="bytes") as hashing:
            for path, content in upload.files.items():
                operations.append(CommitOperationAdd(path, str(content) if isinstance(content, Path) else content))
                hashing.add(upload.measure(path))
        gone = [path for path in there if matches(path, upload.stale) and path not in upload.files]
        operations += [CommitOperationDelete(path) for path in gone]
        with phase("Uploading", unit="bytes") as uploading:
            commit = api.create_commit(
                upload.repo_id,
                operations,
                commit_message=f"Publish {upload.repo_id.split('/')[-1]} with gengram",
                commit_description=f"deleted, of an earlier push: {', '.join(gone)}" if gone else "",
                repo_type=repo_type,
                revision=revision,
                parent_commit=head.sha,
            )
            uploading.add(hashing.count)
    except InputError:
        raise
    except _HUB_ERRORS as error:
        raise InputError(_explain(error, upload.repo_id, revision)) from error
    _check_commit(api, upload, commit)
    return commit


def send(upload: Upload, *, private: bool, revision: str | None, dry_run: bool) -> Answer:
    """Tell what an upload is, then push it, or only list its files.

    Returns:
        As text the commit's address, or a line `size<TAB>path` for each file; all else goes to standard error.
    """
    sizes = {path: upload.measure(path) for path in upload.files}
    tell(f"{upload.repo_id}: {len(sizes)} files, {sum(sizes.values()):,} bytes, from {upload.source}")
    if upload.note:
        tell(upload.note)
    for name, why in upload.left_out.items():
        tell(f"not published: {hide_secrets(name)} ({why})")
    for what in upload.allowed:
        tell(f"published, as allowed: {what}")
    told: dict[str, Any] = {
        "repo": upload.repo_id,
        "repo_type": upload.repo_type,
        "source": str(upload.source),
        "note": upload.note,
        "files": [{"path": path, "bytes": size} for path, size in sizes.items()],
        "not_published": upload.left_out,
        "allowed": list(upload.allowed),
        "dry_run": dry_run,
    }
    if dry_run:
        # Which of them are there is not asked: a dry run needs no network.
        stale = [pattern for pattern in upload.stale if pattern not in upload.files]
        tell(f"a push deletes, where an earlier one left it: {', '.join(stale)}")
        lines = "\n".join(f"{size}\t{make_printable(path)}" for path, size in sizes.items())
        return Answer(lines, {**told, "would_delete": stale})
    commit = push(upload, private=private, revision=revision)
    if commit.commit_description:
        tell(commit.commit_description)
    return Answer(commit.commit_url, {**told, "commit": commit.commit_url, "description": commit.commit_description})


@phase("Checking the commit")
def _check_commit(api: HfApi, upload: Upload, commit: CommitInfo) -> None:
    done = f"{upload.repo_id}: the commit was made ({commit.commit_url}), but"
    try:
        entries = api.list_repo_tree(upload.repo_id, recursive=True, revision=commit.oid, repo_type=upload.repo_type)
        sizes = {entry.path: getattr(entry, "size", None) for entry in entries}
    except _HUB_ERRORS as error:
        raise InputError(f"{done} the Hub's list of files could not be read to check it: {error}") from error
    wrong = [path for path in upload.files if sizes.get(path) != upload.measure(path)]
    if wrong:
        raise InputError(f"{done} {', '.join(wrong)} is missing there or has another size. Push again.")


def _explain(error: Exception, repo_id: str, revision: str | None) -> str:
    """What the Hub's or the network's answer means for the user, and what to do."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    answered = next((one for one in chain if isinstance(one, HfHubHTTPError)), None)
    where = f", {str(error).rstrip('.')}" if isinstance(error, RuntimeError) else ""  # names the file
    nothing = "Nothing was published."
    if answered is None:
        if any(isinstance(one, HTTPError | ConnectionError) for one in chain):
            said = str(chain[-1]).rstrip(".") or type(chain[-1]).__name__
            return (
                f"{repo_id}: the connection broke{where}: {said}. Nothing is half-published: the commit comes last and "
                "is all or nothing. Push again; files that have arrived are not sent twice."
            )
        return f"{repo_id}: the Hub refused the push: {error}. {nothing}"
    status = answered.response.status_code
    said = answered.server_message or str(answered).strip().splitlines()[0]
    if isinstance(answered, RevisionNotFoundError):
        return (
            f"{repo_id}: there is no revision {revision!r}. {nothing} Make the branch with "
            f"`hf repos branch create {repo_id} {revision}`, or leave --revision out."
        )
    if isinstance(answered, RepositoryNotFoundError):
        return (
            f"{repo_id}: there is no such repository, or the token may not see it. {nothing} Push once without "
            "--revision to make it."
        )
    if status == 401:
        return f"{repo_id}: the Hub does not accept the token ({said}). {nothing} Log in again with `hf auth login`."
    if status == 403:
        return (
            f"{repo_id}: the token may not write there ({said}). {nothing} Use a token with write access to "
            f"{repo_id.split('/')[0]!r}, or another organization."
        )
    if status in (409, 412):
        return f"{repo_id}: somebody else changed the repository at the same time ({said}). {nothing} Push again."
    if status == 429 or status >= 500:
        return f"{repo_id}: the Hub could not do it now ({status}: {said}{where}). {nothing} Push again in a while."
    return f"{repo_id}: the Hub refused the push ({status}: {said}). {nothing}"


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file's path fits one of the patterns, written as in a shell: `*` and `?` end at a `/`."""
    parts = name.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


__all__ = [
    "Upload",
    "matches",
    "push",
    "send",
]
