"""What the stand-ins of this folder share: sequences that every family reads, and how outputs are compared."""

import torch

SEQUENCE = "ACGTTGCATGCCGATA"
"""16 bp: whole k-mers of 2 and 4 letters, and no more tokens than the smallest tester reads."""
OTHERS = ["TTGACGTACCGATGCA", "GATTACAC", "AC"]
TOLERANCE = {"float32": 1e-5, "float16": 5e-2}
"""Between a sequence alone and among others in a batch, or the pipeline and the model."""


def make_pipeline(pipeline_class, model, tokenizer, dtype, **options):
    """The pipeline as a user makes it of objects, its model in the dtype."""
    pipe = pipeline_class(model=model.to(getattr(torch, dtype)), tokenizer=tokenizer, device="cpu", **options)
    assert pipe.dtype is getattr(torch, dtype)
    return pipe


def choose_batch_size(pipe) -> int:
    """Of unequal sequences in one batch: 2, or 1 for NTv3, which has no attention mask and reads padding as N."""
    return 1 if pipe.model.config.model_type == "ntv3" else 2


def get_tolerance(pipe) -> float:
    """How far apart two answers of a pipeline may be."""
    return TOLERANCE[str(pipe.dtype).removeprefix("torch.")]


def stream(sequences):
    """A generator: pipelines take what they cannot index."""
    yield from sequences
