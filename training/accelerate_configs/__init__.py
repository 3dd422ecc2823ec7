"""How is a model divided among devices? Configurations for `accelerate launch --config_file`.

    accelerate launch --config_file "$(python -m gengram.training.accelerate_configs fsdp2)" --num_processes 8 \\
        -m gengram.training.finetune recipe.yaml
"""

from pathlib import Path

CONFIGS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Name of each configuration -> its file."""

__all__ = ["CONFIGS"]
