"""A run of `gengram finetune` in a process of its own; for `runpy.run_path`.

Names that the caller sets: `argv`, and `said`, the file for what it prints. Arguments of Trainer turn knobs of the
whole process (deterministic algorithms, mixed precision, levels of logging), so that each is tried in another one.
"""

import os
import sys

from gengram.training import command, finetune

finetune.write_plots = lambda *_: []
stream = open(said, "w")  # noqa: F821, SIM115
os.dup2(stream.fileno(), 1)
os.dup2(stream.fileno(), 2)
sys.exit(command.finetune(argv))  # noqa: F821
