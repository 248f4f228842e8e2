#!/usr/bin/env python3
"""Load saved encoders of every family in Hugging Face transformers and hold their answers to distil-gpu's.

    SAVED_ENCODERS=saved tests/run.sh --test families
    tools/check_saved_families.py saved

The test leaves models with every head there, as distil-gpu saves them, and students cut out of them, with its own
answers to the fixtures' batch (`found.bin`), and tokenizers with the ids of some texts (`ids.json`). Fails if a parameter
is missing or unknown to transformers, ids are others, or an answer differs by more than 1e-5. Needs torch and
transformers.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

HEADS = {
    "classes": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "language": "AutoModelForMaskedLM",
    "embedding": "AutoModel",
}
# What a model for embeddings has no use for, and an untied decoder leaves unused.
UNUSED = ("pooler.", "cls.predictions.bias", "lm_head.bias")


def answer(model: torch.nn.Module, head: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    lengths = batch["lengths"].long()
    tokens = batch["tokens"].long()
    mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    inputs = {"input_ids": tokens, "attention_mask": mask.long()}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = batch["types"].long()
    with torch.no_grad():
        outputs = model(**inputs)
    if head == "classes":
        return outputs.logits.flatten()
    if head in ("tokens", "language"):
        return outputs.logits.flatten(0, 1)[batch["places"].long()].flatten()
    if head == "span":
        rows = zip(outputs.start_logits, outputs.end_logits, lengths)
        return torch.cat([torch.cat([start[:length], end[:length]]) for start, end, length in rows])
    mean = (outputs.last_hidden_state * mask[..., None]).sum(1) / lengths[:, None]
    return torch.nn.functional.normalize(mean, dim=-1).flatten()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved", help="folder that the test left models in")
    args = parser.parse_args()
    failed = []
    folders = sorted(path.parent for path in Path(args.saved).glob("*/found.bin"))
    for folder in folders:
        head = next(part for part in reversed(folder.name.split("-")) if part in HEADS)
        loader = getattr(transformers, HEADS[head])
        model, info = loader.from_pretrained(folder, output_loading_info=True)
        missing = [key for key in info["missing_keys"] if not key.startswith(UNUSED)]
        found = load_file(folder / "found.bin")["found"]
        batch = load_file(folder / "fixture.bin")
        theirs = answer(model.double().eval(), head, batch)
        difference = (found - theirs).abs().max().item()
        wrong = difference > 1e-5 or missing or info["unexpected_keys"] or info["mismatched_keys"]
        print(f"{folder.name}: {type(model).__name__}, largest difference {difference:.1e} {missing or ''}")
        if wrong:
            failed.append(folder.name)
    for folder in sorted(path.parent for path in Path(args.saved).glob("*/ids.json")):
        told = json.loads((folder / "ids.json").read_text())
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        same = tokenizer(told["texts"], truncation=True, max_length=20).input_ids == told["ids"]
        print(f"{folder.name}: {type(tokenizer).__name__}, ids are {'the same' if same else 'others'}")
        if not same:
            failed.append(folder.name)
    print(f"{len(folders)} models, {len(failed)} differ")
    if failed or not folders:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
