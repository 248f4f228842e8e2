#!/usr/bin/env python3
"""Make tests/fixtures/minilm/embeddings.safetensors: sentence embeddings of MiniLM as sentence-transformers makes them.

The model is that of data/cache/minilm (data/fetch-text.sh), the sentences are those of sentences.txt beside the
result: the mean of the last hidden states over the tokens that are no padding, divided by its L2 norm; in f64, stored
as f32. Needs torch and transformers.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModel

ROOT = Path(__file__).resolve().parent.parent
MODEL, FIXTURES = ROOT / "data/cache/minilm", ROOT / "tests/fixtures/minilm"


def main() -> None:
    sentences = (FIXTURES / "sentences.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    model = AutoModel.from_pretrained(MODEL).double().eval()
    mask = torch.tensor([text.attention_mask for text in encoded])
    with torch.no_grad():
        states = model(
            input_ids=torch.tensor([text.ids for text in encoded]), attention_mask=mask
        ).last_hidden_state
    weights = mask.double()[..., None]
    pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    save_file({"embeddings": F.normalize(pooled, dim=1).float()}, FIXTURES / "embeddings.safetensors")


if __name__ == "__main__":
    main()
