"""Are the files of a checkpoint good, before they go to others? Asked without making a model of them."""

from pathlib import Path

from gengram.errors import InputError
from gengram.loading.checkpoints import CONFIG
from gengram.loading.configurations import require_config
from gengram.loading.faults import tell_faults
from gengram.loading.finite import find_faulty
from gengram.loading.labels import read_labels
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.phases import phase


@phase("Checking the weights")
def inspect_checkpoint(folder: Path) -> None:
    """Refuse a folder that nobody could use: tokenizer, configuration and weights are read, without torch.

    Raises:
        `InputError`: a tokenizer that cannot be read, does not read DNA or does not fit the configuration; names of an
            adapter's classes, or weights, that cannot be read; weights that are not finite.
    """
    config = require_config(folder) if (folder / CONFIG).is_file() else None  # An adapter has none.
    if config is None:
        read_labels(folder)
    check_tokenizer(require_tokenizer(folder), folder, config)
    for file in sorted(folder.glob("*.safetensors")):
        with tell_faults(f"{file}: no weights can be read here"):
            faulty = find_faulty(file)
        if faulty:
            raise InputError(
                f"{file}: {len(faulty)} tensors have values that are not finite (NaN or infinite), e.g. {faulty[0]}: "
                "the training diverged, or the file is damaged"
            )


__all__ = ["inspect_checkpoint"]
