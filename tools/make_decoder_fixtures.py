#!/usr/bin/env python3
"""Make tests/fixtures/decoders/<name>.safetensors: tiny random models of Hugging Face transformers that guess next tokens,
and what it computes.

`model/<name>` are the tensors of the model's file, the metadata hold its `config.json` (`config`). `tokens` [2, length]
are two texts; `logits` is what f64 arithmetic makes of them [2, length, vocab_size], `loss` the mean cross-entropy of all
next tokens, and `gradient/<name>` its gradient by every parameter. Of llama there are `batches` [2, rows, length] too, which
50 steps of AdamW take in turns, and the `losses`.

Needs torch and transformers.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/decoders"
VOCAB, LENGTH, STEPS = 40, 14, 50
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "attn_implementation": "eager",
}


def rope(kind: str, theta: float = 100.0, **more: float) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def near_and_full(full: float, near: float) -> dict:
    bases = {"full_attention": full, "sliding_attention": near}
    return {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in bases.items()}}


CASES = {
    "llama": ("Llama", {**rope("default"), "tie_word_embeddings": False}),
    "llama-biases": (
        "Llama",
        {**rope("default"), "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 6},
    ),
    "llama-linear": ("Llama", {**rope("linear", factor=4.0), "tie_word_embeddings": True}),
    "llama-llama3": (
        "Llama",
        {
            **rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
            "tie_word_embeddings": True,
        },
    ),
    "llama-yarn": (
        "Llama",
        {
            **rope("yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0),
            "tie_word_embeddings": True,
            "head_dim": 8,
        },
    ),
    "mistral": ("Mistral", {**rope("default"), "sliding_window": 5, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2", {**rope("default"), "tie_word_embeddings": True}),
    "qwen2-windows": (
        "Qwen2",
        {
            **rope("default"),
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
            "tie_word_embeddings": False,
        },
    ),
    "qwen3": ("Qwen3", {**rope("default"), "head_dim": 8, "tie_word_embeddings": True}),
    "gpt2": (
        "GPT2",
        {
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 3,
            "n_positions": 64,
            "n_inner": 40,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
        },
    ),
    "gemma3": (
        "Gemma3Text",
        {
            **near_and_full(full=100.0, near=20.0),
            "head_dim": 8,
            "query_pre_attn_scalar": 12,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
        },
    ),
    # As wide as the heads of its models are.
    "gemma3-wide": (
        "Gemma3Text",
        {
            **near_and_full(full=1e6, near=1e4),
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 5,
            "tie_word_embeddings": True,
        },
    ),
}


def model_of(kind: str, more: dict) -> torch.nn.Module:
    sizes = {key: SIZES[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "attn_implementation")}
    config = getattr(transformers, f"{kind}Config")(**(sizes if kind == "GPT2" else SIZES) | more)
    name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind.removesuffix('Text')}ForCausalLM"
    model = getattr(transformers, name)(config)
    # As they start, norms are ones and biases zeros, and a forgotten one would not be seen.
    for name, parameter in model.named_parameters():
        spread = 0.3 if parameter.dim() > 1 else 0.2
        # Gemma's multiply by one more.
        start = 1.0 if parameter.dim() == 1 and name.endswith("weight") and kind != "Gemma3Text" else 0.0
        torch.nn.init.normal_(parameter, start, spread)
    return model


def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))


def fine_tune(model: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Steps of AdamW in f64; decay acts on matrices alone."""
    batches = torch.randint(4, VOCAB, (2, 4, 12), generator=generator)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        tokens = batches[step % 2]
        loss = next_token_loss(model(input_ids=tokens).logits, tokens)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"batches": batches.int(), "losses": torch.tensor(losses, dtype=torch.float64)}


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for seed, (name, (kind, more)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = model_of(kind, more)
        config = json.loads(model.config.to_json_string(use_diff=False))
        tensors = {}
        for key, value in model.state_dict().items():
            if key == "lm_head.weight" and model.config.tie_word_embeddings:
                continue
            tensors[f"model/{key}"] = value.clone().contiguous()
        model = model.double().eval()
        tokens = torch.randint(4, VOCAB, (2, LENGTH), generator=generator)
        logits = model(input_ids=tokens).logits
        loss = next_token_loss(logits, tokens)
        loss.backward()
        for key, parameter in model.named_parameters():
            tensors[f"gradient/{key}"] = parameter.grad.float()
        tensors |= {"tokens": tokens.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
        if name == "llama":
            tensors |= fine_tune(model, generator)
        metadata = {"config": json.dumps({"model_type": model.config.model_type} | config)}
        save_file(tensors, FIXTURES / f"{name}.safetensors", metadata)
        print(name, round(loss.item(), 4))


if __name__ == "__main__":
    main()
