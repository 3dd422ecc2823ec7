"""One of two processes that train together; for `runpy.run_path`. The caller sets `rank`, `port` and `commands`."""

import os

os.environ |= {
    "RANK": str(rank),  # noqa: F821
    "LOCAL_RANK": str(rank),  # noqa: F821
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": str(port),  # noqa: F821
}

from gengram.training import command, finetune

finetune.write_plots = lambda *_: []
for argv in commands:  # noqa: F821
    if (code := command.finetune(argv)) != 0:
        raise SystemExit(code)
