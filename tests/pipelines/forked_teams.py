"""A process that runs verbs in forks of itself, as a launcher would start them: a line of JSON in, a line of JSON out.

So the libraries are imported once. Blocks and pieces are small, so that a few rows are several parts. Fields of a
request: `verb`, `argv`; `count` of processes; `folder` for what they agree on, and for what each prints (`0.out`,
`0.err`, ...); `before`, code that each runs first, with its `rank`.
"""

import json
import os
import sys
import traceback

import torch

from gengram.pipelines import command, embed_file, predict, run_folder, scan_file, segment_genome
from gengram.team import STORE

torch.set_num_threads(1)
embed_file._BLOCK_BASES = 200
predict._BLOCK_ROWS = 4
scan_file._WINDOWS = 5
segment_genome._PIECE = 500


def run(verb, argv, count, folder, before, rank):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{rank}.{name}", os.O_WRONLY | os.O_CREAT), number)
    if count > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), STORE: f"{folder}/store"}
    exec(before, {"rank": rank, "folder": folder, "RunFolder": run_folder.RunFolder})
    return getattr(command, verb)(argv)


for line in sys.stdin:
    request = json.loads(line)
    children = []
    for rank in range(request["count"]):
        if not (child := os.fork()):
            code = 99
            try:
                code = run(**request, rank=rank)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
