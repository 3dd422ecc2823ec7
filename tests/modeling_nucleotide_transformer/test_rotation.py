"""The rotation against its definition, and the bytes that a layer moves beside its products."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.esm.modeling_esm import EsmIntermediate, apply_rotary_pos_emb

from gengram import NTv3Config, NucleotideTransformerConfig, NucleotideTransformerModel
from gengram.nucleotide_transformer.modeling_nucleotide_transformer import (
    NucleotideTransformerIntermediate,
    NucleotideTransformerRotaryEmbedding,
)
from gengram.nucleotide_transformer.rotation import rotate

B, T, HEADS, WIDTH = 2, 5, 3, 8


def make_input(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries as attention has them, heads in front of tokens; cosines and sines of far positions."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(B, T, HEADS, WIDTH, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2)
    rotary = NucleotideTransformerRotaryEmbedding(NTv3Config(embed_dim=HEADS * WIDTH, key_size=WIDTH))
    return x, *rotary(torch.randint(0, 10_000, (1, T), generator=generator))


def rotate_exactly(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Pairs (x_i, x_{i + d/2}) as complex numbers, times those of the angles, in float64."""
    pairs = torch.complex(*(half.double() for half in x.chunk(2, dim=-1)))
    turned = pairs * torch.complex(cosines.double(), sines.double())[:, None]
    return torch.cat([turned.real, turned.imag], dim=-1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_rotation_is_rounded_once(dtype):
    x, cosines, sines = make_input(dtype)
    found, exact = rotate(x, cosines, sines), rotate_exactly(x, cosines, sines)
    assert found.dtype == dtype
    assert found.stride() == x.stride()
    # One rounding to the dtype, and those of a few float32 operators where the two products cancel.
    few = 8 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps / 2, atol=few)


def test_gradients_of_the_rotation():
    x, cosines, sines = make_input(torch.float64)
    x = x.detach().requires_grad_()
    tables = cosines.double(), sines.double()
    assert torch.autograd.gradcheck(lambda x: rotate(x, *tables), x)
    assert torch.autograd.gradgradcheck(lambda x: rotate(x, *tables), x)


def test_compiled_rotation_is_the_same():
    x, cosines, sines = make_input(torch.bfloat16)
    compiled = torch.compile(rotate, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x, cosines, sines), rotate(x, cosines, sines))


class CountBytes(TorchDispatchMode):
    """Bytes that operators read and write, apart from matrix products and attention, each tensor of a call once."""

    left_out = ("mm", "scaled_dot_product", "empty", "view")

    def __init__(self):
        super().__init__()
        self.bytes = self.calls = 0

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        results = operator(*arguments, **(keywords or {}))
        name = operator.overloadpacket.__name__
        if not operator.is_view and not any(part in name for part in self.left_out):
            tensors = [x for x in tree_leaves((arguments, keywords, results)) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.nbytes for x in {(x.data_ptr(), x.shape): x for x in tensors}.values())
            self.calls += 1
        return results


@torch.no_grad()
def count(call) -> CountBytes:
    with CountBytes() as counted:
        call()
    return counted


def test_a_rotation_moves_less_than_a_third():
    x, cosines, sines = make_input(torch.bfloat16)
    doubled = [torch.cat([table, table], dim=-1) for table in (cosines, sines)]
    whole = count(lambda: apply_rotary_pos_emb(x, x, *doubled))
    ours = count(lambda: (rotate(x, cosines, sines), rotate(x, cosines, sines)))
    tables = 8 * (cosines.nbytes + sines.nbytes)  # small where there are more heads than here
    assert ours.bytes < 0.34 * (whole.bytes + tables)
    assert ours.calls == 8 and whole.calls >= 16


def test_gelu_moves_a_fifth_and_is_the_same():
    config = NucleotideTransformerConfig(
        hidden_size=16, num_attention_heads=2, intermediate_size=64, gated_mlp=False, mlp_bias=True
    )
    torch.manual_seed(0)
    plain, ours = EsmIntermediate(config), NucleotideTransformerIntermediate(config)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 50, 16)
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-6, atol=1e-7)
    assert 5 * count(lambda: ours(x)).bytes < 1.1 * count(lambda: plain(x)).bytes


@pytest.mark.parametrize(
    "fields, passes",
    [
        # Reads and writes of [T, D] in half precision: norms 2 + 2, residuals 3 + 3, the rotations of query and key
        # 2 * 7 (float32 counts twice), SiLU and its product 5 * F / D with an MLP of width F = 2 D.
        ({}, 4 + 6 + 2 * 7 + 5 * 2),
        # Norms, residuals, the scaled query, GELU.
        ({"position_embedding_type": "absolute", "gated_mlp": False, "mlp_bias": True}, 4 + 6 + 2 + 2 * 2),
    ],
    ids=["v2", "v1"],
)
def test_bytes_of_a_layer(fields, passes):
    D, tokens = 64, 96
    config = NucleotideTransformerConfig(
        hidden_size=D, num_attention_heads=4, intermediate_size=2 * D, num_hidden_layers=2, vocab_size=75, **fields
    )
    model = NucleotideTransformerModel(config).to(torch.bfloat16).eval()
    ids = torch.randint(10, 75, (2, tokens), generator=torch.Generator().manual_seed(0))
    inputs = []
    handle = model.encoder.layer[0].register_forward_pre_hook(lambda _, *given: inputs.append(given), with_kwargs=True)
    with torch.no_grad():
        model(ids)
    handle.remove()
    ((arguments, keywords),) = inputs
    moved = count(lambda: model.encoder.layer[0](*arguments, **keywords)).bytes
    assert moved <= 1.1 * passes * ids.numel() * D * 2  # a tenth for tables, weights of norms and their statistics
