"""What may be done with a checkpoint? Its licences, of the weights and of the code."""

from gengram.catalogue.rows import ModelRow, find_model_row

# SPDX ids of licences under which a model may be used for money, and BSD, which the Hub knows without its number.
COMMERCIAL = frozenset(
    {
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD-3-Clause-LBNL",
        "CC-BY-4.0",
        "MIT",
    }
)
NON_COMMERCIAL = frozenset(
    {"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "InstaDeep-non-commercial", "InstaDeep-Open-Model-License"}
)
# Their models run by code of this package or of transformers, both Apache-2.0; the authors' code is not needed.
BY_OUR_CODE = ("gengram", "transformers", "convert")


def allows_commercial_use(row: ModelRow) -> bool | None:
    """Return whether the licences of the weights and of the code that runs them allow commercial use; None: unknown."""
    licences = [row.license_weights]
    if row.loads not in BY_OUR_CODE:
        licences.append(row.license_code)
    if any(licence in NON_COMMERCIAL for licence in licences):
        return False
    return True if all(licence in COMMERCIAL for licence in licences) else None


def describe_licence(id: str) -> str | None:
    """Return a sentence on the weights of a checkpoint that may not be used for money; None for all others."""
    row = find_model_row(id)
    if row is None or row.license_weights not in NON_COMMERCIAL:
        return None
    return f"the weights of {row.id} are licensed for non-commercial use only ({row.license_weights})"


__all__ = ["BY_OUR_CODE", "COMMERCIAL", "NON_COMMERCIAL", "allows_commercial_use", "describe_licence"]
