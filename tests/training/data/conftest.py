"""The table of all kinds of tokenizers lies in `tests/conformance`."""

import sys
from pathlib import Path

# Behind everything else: beside that folder lie others with common names.
sys.path.append(str(Path(__file__).resolve().parents[2]))
