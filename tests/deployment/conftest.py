"""The modules of this folder are imported as `deployment.<name>`, the small models as `conformance.testers`."""

import sys
from pathlib import Path

# Behind everything else: beside this folder lie others with common names.
sys.path.append(str(Path(__file__).resolve().parents[1]))
