#!/usr/bin/env python3
"""Time a transformer encoder of MiniLM-L6's sizes in PyTorch, as a peer to compare with.

32 texts of 64 tokens, f32: a fine-tuning step of transformers' sequence classifier (forward, backward, fused AdamW,
dropout on), a forward pass, and single operations. `benches/encoder.rs` times the same here.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification, BertConfig
from transformers.models.bert import BertForSequenceClassification

import timing

ROWS, LENGTH, HIDDEN, WIDE, HEADS, CLASSES, VOCAB = 32, 64, 384, 1536, 12, 2, 30522
PARAMETERS = 22_713_986
FOLDER = Path(__file__).parent.parent / "data/cache/minilm"


def model() -> torch.nn.Module:
    if FOLDER.is_dir():
        return AutoModelForSequenceClassification.from_pretrained(FOLDER, num_labels=CLASSES)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        num_hidden_layers=6,
        num_attention_heads=HEADS,
        intermediate_size=WIDE,
        num_labels=CLASSES,
    )
    return BertForSequenceClassification(config)


def forward_and_backward(name: str, forward, inputs, args) -> None:
    """Times a forward pass without gradients, then the backward pass alone."""
    leaves = [tensor.requires_grad_() for tensor in inputs]
    with torch.no_grad():
        timing.report(name, lambda: forward(*leaves), args)
    out = forward(*leaves)
    upstream = torch.randn_like(out)
    backward = lambda: torch.autograd.grad(out, leaves, upstream, retain_graph=True)
    timing.report(f"{name} backward", backward, args)


def adamw(length: int) -> torch.optim.Optimizer:
    parameter = torch.nn.Parameter(torch.randn(length))
    parameter.grad = torch.randn(length)
    return torch.optim.AdamW([parameter], lr=1e-5, weight_decay=0.01, fused=True)


def main() -> None:
    parser = timing.parser(__doc__, warmup=3, runs=20)
    parser.add_argument("--only", help="of step, forward, layer_norm, gelu, attention, adamw")
    args = parser.parse_args()
    timing.begin(args)
    wanted = lambda name: args.only in (None, name)

    ids = torch.randint(VOCAB, (ROWS, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = torch.arange(ROWS) % CLASSES
    encoder = model().to(args.device)
    if wanted("step"):
        encoder.train()
        optimizer = torch.optim.AdamW(
            encoder.parameters(), lr=2e-5, weight_decay=0.01, fused=True
        )

        def step() -> None:
            optimizer.zero_grad()
            encoder(**batch, labels=labels).loss.backward()
            optimizer.step()

        timing.report("step", step, args)
    if wanted("forward"):
        encoder.eval()
        with torch.inference_mode():
            timing.report("forward", lambda: encoder(**batch).logits, args)

    if wanted("layer_norm"):
        inputs = [torch.randn(ROWS * LENGTH, HIDDEN), torch.randn(HIDDEN), torch.randn(HIDDEN)]
        norm = lambda x, weight, bias: F.layer_norm(x, (HIDDEN,), weight, bias, 1e-12)
        forward_and_backward("layer_norm", norm, inputs, args)
    if wanted("gelu"):
        forward_and_backward("gelu", F.gelu, [torch.randn(ROWS * LENGTH, WIDE)], args)
    if wanted("attention"):
        # As the model has them: [rows, heads, length, head size] seen in [rows, length, hidden].
        shape = (ROWS, LENGTH, HEADS, HIDDEN // HEADS)
        inputs = [torch.randn(shape).transpose(1, 2) for _ in range(3)]
        attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
        forward_and_backward("attention", attend, inputs, args)
    if wanted("adamw"):
        timing.report("adamw", adamw(PARAMETERS).step, args)


if __name__ == "__main__":
    main()
