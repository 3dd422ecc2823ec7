"""The modules of this folder are imported as `conformance.<name>`, here and where the suites are laid out."""

import sys
from pathlib import Path

# Behind everything else: beside this folder lie others with common names.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# They belong among the tests of transformers and PEFT.
collect_ignore = ["standins", "suites"]
