"""What lies inside of a folder? Only that goes up: no link that leads out of it, nothing hidden, no pipe or socket."""

from collections.abc import Mapping
from pathlib import Path

from gengram.errors import InputError
from gengram.training.publishing.secrets import hide_secrets


def refuse_outsiders(files: Mapping[str, Path | bytes], home: Path) -> None:
    """Refuse what is in a folder by its name only.

    Hard links cannot be told from files. Files that lie elsewhere by their own path are not looked at.

    Args:
        files: how messages call it -> a file or folder that is to be read; contents are passed over.
        home: the folder.

    Raises:
        `InputError`: a file that is, or lies behind, a link to the outside or to something hidden.
    """
    real = home.resolve()
    for name, content in files.items():
        if not isinstance(content, Path) or not content.absolute().is_relative_to(home.absolute()):
            continue
        target = content.resolve()
        if not target.is_relative_to(real):
            where = f"leads out of {home}"
        elif any(part.startswith(".") for part in target.relative_to(real).parts):
            where = f"leads to something hidden, {target.relative_to(real)}"
        else:
            continue
        raise InputError(
            f"{hide_secrets(name)}: {hide_secrets(str(content))} is a link that {hide_secrets(where)}. Put the file "
            "itself there, or remove the link."
        )


def tell_why_not(path: Path) -> str:
    """Say why something is never published, whatever its name; empty for an ordinary file or folder."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    if path.is_fifo():
        return "a pipe"
    if path.is_socket():
        return "a socket"
    if path.is_block_device() or path.is_char_device():
        return "a device"
    return ""


__all__ = ["refuse_outsiders", "tell_why_not"]
