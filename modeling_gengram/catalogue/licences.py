"""What may be done with a checkpoint? Its licences, of the weights and of the code."""

from gengram.catalogue.rows import ModelRow, find_model_row

# SPDX ids of licences under which a model may be used for money; others are refused or unknown.
COMMERCIAL = frozenset(
    {
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC0-1.0",
        "GPL-3.0-only",
        "AGPL-3.0-only",
        "AGPL-3.0-or-later",
        "MIT",
        "MPL-2.0",
        "OpenMDW-1.0",
        "Unlicense",
    }
)
NON_COMMERCIAL = frozenset({"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"})


def allows_commercial_use(row: ModelRow) -> bool | None:
    """Return whether the licences of weights and code both allow commercial use; None if one of them is not known.

    Where the code is that of this package or of transformers, it is the licence of the authors' code all the same: the
    weights were made with it, and many authors give one licence for both.
    """
    licences = (row.license_weights, row.license_code)
    if any(licence in NON_COMMERCIAL for licence in licences):
        return False
    return True if all(licence in COMMERCIAL for licence in licences) else None


def describe_licence(id: str) -> str | None:
    """Return a sentence on the weights of a checkpoint that may not be used for money; None for all others."""
    row = find_model_row(id)
    if row is None or row.license_weights not in NON_COMMERCIAL:
        return None
    return f"the weights of {row.id} are licensed for non-commercial use only ({row.license_weights})"


__all__ = ["COMMERCIAL", "NON_COMMERCIAL", "allows_commercial_use", "describe_licence"]
