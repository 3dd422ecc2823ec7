"""Print the path of a configuration for `accelerate launch --config_file`."""

import argparse

from gengram.training.accelerate_configs import CONFIGS

parser = argparse.ArgumentParser(prog="python -m gengram.training.accelerate_configs", description=__doc__)
parser.add_argument("name", choices=CONFIGS, help="ddp, fsdp2, or DeepSpeed's ZeRO")
print(CONFIGS[parser.parse_args().name])
