"""One of several processes that score a corpus; for `runpy.run_path`: the caller sets `rank`, `processes`, `meet`,
`folder` and `out`."""

import json

import torch
from torch import distributed
from transformers import LlamaConfig, LlamaForCausalLM

from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.corpus.store import open_corpus
from gengram.training.evaluation import evaluate_corpus

torch.set_num_threads(1)
torch.manual_seed(0)
size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=16, pad_token_id=0, **size))
if processes > 1:  # noqa: F821
    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=processes)  # noqa: F821
    model = torch.nn.parallel.DistributedDataParallel(model)
found = evaluate_corpus(
    model,
    build_nucleotide_tokenizer(),
    "causal",
    open_corpus(folder),  # noqa: F821
    length=100,
    batch_tokens=300,
    paired_bases=500,
)
with open(f"{out}/{rank}_of_{processes}.json", "w") as file:  # noqa: F821
    json.dump(found, file)
if processes > 1:  # noqa: F821
    distributed.destroy_process_group()
