#!/usr/bin/env python3
"""Make tests/fixtures/attention.safetensors: attention of several families as transformers computes it.

Each family's own module runs on random numbers, its output projection being the identity. Its queries, keys and values
go to the file, with what else it reads, its output, and the gradients of Σ output · weights. `modernbert` is a layer
with a sliding window and rotary positions, `modernbert_rotary` what those make of the queries; `mistral_mask` which key a
query sees; `mpnet` adds a table of relative positions, `deberta` the disentangled terms. `t5_buckets.*` and
`log_buckets.*` are the buckets of distances, `glu.*` gated units. Needs torch and transformers.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import DebertaV2Config, MistralConfig, ModernBertConfig, MPNetConfig
from transformers.masking_utils import (
    create_bidirectional_sliding_window_mask,
    create_sliding_window_causal_mask,
)
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta
from transformers.models.modernbert import modeling_modernbert as modernbert
from transformers.models.mpnet import modeling_mpnet as mpnet

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/attention.safetensors"
LENGTHS = [9, 5]
LENGTH, HEADS, HEAD_DIM = 9, 2, 12
WIDTH = HEADS * HEAD_DIM
# The last row of each is distances from -DISTANCE to DISTANCE.
T5 = [(32, 128), (32, 40), (16, 64), (8, 200)]
LOG = [(256, 512), (32, 128), (8, 64), (256, 2048)]
DISTANCE = 700


def numbers(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator).float()


def real() -> torch.Tensor:
    """Positions that are no padding [examples, positions]."""
    return torch.arange(LENGTH)[None] < torch.tensor(LENGTHS)[:, None]


def weights(generator: torch.Generator) -> torch.Tensor:
    return numbers(generator, len(LENGTHS), LENGTH, WIDTH) * real()[..., None]


def with_gradients(name: str, out: torch.Tensor, weigh: torch.Tensor, by: dict[str, torch.Tensor]) -> dict:
    """Output and gradients; padding's output is nobody's."""
    gradients = torch.autograd.grad((out * weigh).sum(), list(by.values()))
    made = {f"{name}.out": out * real()[..., None], f"{name}.weights": weigh}
    made |= {f"{name}.{key}": tensor for key, tensor in by.items()}
    return made | {f"{name}.grad.{key}": g for key, g in zip(by, gradients)}


def modernbert_layer(generator: torch.Generator) -> dict:
    config = ModernBertConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        layer_types=["full_attention", "sliding_attention"],
        local_attention=5,
        local_rope_theta=100.0,
        attn_implementation="eager",
    )
    layer = modernbert.ModernBertAttention(config, layer_idx=1).eval()
    layer.Wo.weight.data = torch.eye(WIDTH)
    qkv = numbers(generator, len(LENGTHS), LENGTH, 3 * WIDTH).requires_grad_()
    layer.Wqkv = torch.nn.Identity()
    rotary = modernbert.ModernBertRotaryEmbedding(config)
    angles = rotary(qkv, torch.arange(LENGTH)[None], "sliding_attention")
    mask = create_bidirectional_sliding_window_mask(
        config=config, inputs_embeds=qkv[..., :WIDTH], attention_mask=real().long()
    )
    out, _ = layer(qkv, position_embeddings=angles, attention_mask=mask)
    made = with_gradients("modernbert", out, weights(generator), {"qkv": qkv})
    queries = qkv[..., :WIDTH].reshape(len(LENGTHS), LENGTH, HEADS, HEAD_DIM).transpose(1, 2)
    turned, _ = modernbert.apply_rotary_pos_emb(queries, queries, *angles)
    return made | {"modernbert_rotary": turned.transpose(1, 2).reshape(len(LENGTHS), LENGTH, WIDTH)}


def mistral_mask() -> dict:
    config = MistralConfig(sliding_window=3, attn_implementation="eager")
    mask = create_sliding_window_causal_mask(
        config=config,
        inputs_embeds=torch.zeros(1, LENGTH, WIDTH),
        attention_mask=None,
        past_key_values=None,
        position_ids=None,
    )
    return {"mistral_mask": (mask[0, 0] == 0).int()}


def mpnet_layer(generator: torch.Generator) -> dict:
    config = MPNetConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=1,
        relative_attention_num_buckets=32,
        attn_implementation="eager",
    )
    encoder = mpnet.MPNetEncoder(config).eval()
    table = encoder.relative_attention_bias.weight
    table.data = numbers(generator, *table.shape)
    attention = encoder.layer[0].attention.attn
    parts = [numbers(generator, len(LENGTHS), LENGTH, WIDTH).requires_grad_() for _ in range(3)]
    for name, part in zip("qkv", parts):
        setattr(attention, name, Constant(part))
    attention.o = torch.nn.Identity()
    mask = torch.where(real(), 0.0, torch.finfo(torch.float32).min)[:, None, None]
    out = attention(parts[0], mask, position_bias=encoder.compute_position_bias(parts[0]))[0]
    by = dict(zip("qkv", parts)) | {"table": table}
    return with_gradients("mpnet", out, weights(generator), by)


class Constant(torch.nn.Module):
    """A projection whose result is known."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value


def deberta_layer(generator: torch.Generator) -> dict:
    config = DebertaV2Config(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=4,
        max_relative_positions=16,
        attn_implementation="eager",
    )
    attention = deberta.DisentangledSelfAttention(config).eval()
    parts = [numbers(generator, len(LENGTHS), LENGTH, WIDTH).requires_grad_() for _ in range(3)]
    for name, part in zip(["query_proj", "key_proj", "value_proj"], parts):
        setattr(attention, name, Constant(part))
    rows = [numbers(generator, 2 * 4, WIDTH).requires_grad_() for _ in range(2)]
    attention.pos_key_proj, attention.pos_query_proj = (Constant(part[None]) for part in rows)
    mask = (real()[:, None, :] & real()[:, :, None])[:, None]
    out, _ = attention(parts[0], mask, rel_embeddings=rows[0])
    by = dict(zip("qkv", parts)) | {"pos_keys": rows[0], "pos_queries": rows[1]}
    return with_gradients("deberta", out, weights(generator), by)


def buckets() -> dict:
    distances = torch.arange(-DISTANCE, DISTANCE + 1)
    made = {}
    for case, (count, most) in enumerate(T5):
        of = mpnet.MPNetEncoder.relative_position_bucket(distances, count, most)
        made |= {f"t5_buckets.{case}": of.int(), f"t5_buckets.{case}.settings": torch.tensor([count, most]).int()}
    for case, (count, most) in enumerate(LOG):
        of = deberta.make_log_bucket_position(distances, count, most)
        made |= {f"log_buckets.{case}": of.int(), f"log_buckets.{case}.settings": torch.tensor([count, most]).int()}
    return made


def gated(generator: torch.Generator) -> dict:
    x = numbers(generator, 5, 14)
    a, b = x.double().chunk(2, dim=-1)
    return {
        "glu.x": x,
        "glu.sigmoid_last": F.glu(x.double()),
        "glu.gelu": F.gelu(a) * b,
        "glu.gelu_tanh": F.gelu(a, approximate="tanh") * b,
        "glu.silu": F.silu(a) * b,
        "glu.relu": F.relu(a) * b,
    }


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    made = {"lengths": torch.tensor(LENGTHS).int()}
    for part in (modernbert_layer, mpnet_layer, deberta_layer, gated):
        made |= part(generator)
    made |= mistral_mask() | buckets()
    tensors = {name: tensor.detach().contiguous() for name, tensor in made.items()}
    by = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    save_file(tensors, FIXTURE, metadata={"made_by": by})


if __name__ == "__main__":
    main()
