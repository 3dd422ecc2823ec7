"""Two processes with a model between them: tensor parallel, and FSDP2 with saving and loading.

`python two_processes.py RANK FOLDER WAY`, with the models in FOLDER and what to try in FOLDER/cases.json; answers go to
FOLDER/RANK.json. One start serves all cases.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

sys.path.append(str(Path(__file__).parents[1]))

from conformance.testers import TESTERS
from deployment.ways import Refused, build_model, draw_batch, measure, read_tensors, tell

RANKS = 2


def try_cases(folder: Path, cases: list[tuple[str, str]], way: str) -> dict[tuple[str, str], float | str]:
    """Save the models, start the processes, and return the worst difference, or the first error, of each."""
    for name, auto in cases:
        build_model(name, auto).save_pretrained(folder / f"{name}-{auto}")
    (folder / "cases.json").write_text(json.dumps(cases))
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder), way]) for rank in range(RANKS)]
    codes = [worker.wait() for worker in workers]
    if codes != [0] * RANKS:
        raise RuntimeError(f"the processes ended with {codes}")
    answers = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]
    return {case: _choose([answer["-".join(case)] for answer in answers]) for case in cases}


def _choose(values: list[float | str]) -> float | str:
    errors = [value for value in values if isinstance(value, str)]
    return errors[0] if errors else max(values)


def load(name: str, auto: str, path: Path, **sizes):
    options = {"distributed_config": DistributedConfig(**sizes)} if sizes else {}
    return TESTERS[name].list_classes()[auto].from_pretrained(path, **options).eval()


def try_tensor_parallel(name: str, auto: str, path: Path, batch: dict, expected: dict) -> float:
    model = load(name, auto, path, tp_size=RANKS)
    whole = {name: weight.shape for name, weight in load(name, auto, path).named_parameters()}
    mine = dict(model.named_parameters())
    if not any(isinstance(mine[name], DTensor) or mine[name].shape != whole[name] for name in whole):
        raise Refused("no weight is spread: the model has no plan")
    return measure([read_tensors(model(**batch))], [expected])


def try_fsdp(name: str, auto: str, path: Path, batch: dict, expected: dict) -> float:
    model = load(name, auto, path, fsdp_size=RANKS)
    if not any(isinstance(weight, DTensor) for weight in model.parameters()):
        raise Refused("no weight is spread: the model has no plan")
    worst = measure([read_tensors(model(**batch))], [expected])
    saved = path.with_name(f"{path.name}-saved")
    model.save_pretrained(saved)
    dist.barrier()
    return max(worst, measure([read_tensors(load(name, auto, saved)(**batch))], [expected]))


WAYS = {"tensor parallel": try_tensor_parallel, "fsdp": try_fsdp}


def run(rank: int, folder: Path, way: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    answers: dict[str, float | str] = {}
    for name, auto in json.loads((folder / "cases.json").read_text()):
        path = folder / f"{name}-{auto}"
        model = load(name, auto, path)
        batch = draw_batch(TESTERS[name], model, 2, TESTERS[name].tokens)
        try:
            with torch.no_grad():
                answers[path.name] = WAYS[way](name, auto, path, batch, read_tensors(model(**batch)))
        except Exception as error:
            answers[path.name] = tell(error)
        dist.barrier()
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
