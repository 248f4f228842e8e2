#!/usr/bin/env python3
"""Make tests/fixtures/{bert,distilbert,roberta}{,-mlm}/: tiny random models of Hugging Face transformers, and what it
computes.

Each folder is a model as transformers saves it, with a tokenizer, and `expected.safetensors`: a padded batch
(`tokens`, `types`, `lengths`, `labels`), the logits of f64 arithmetic, and the gradient of the mean cross-entropy by
every parameter (`gradient.<name>`). Of BERT there is `training.safetensors` too: two batches that 50 steps of AdamW
take in turns, and the losses. Those of masked language models (`-mlm`) have logits and labels at `places` of the
batch alone; that of BERT also holds the losses and the gradients (`distilled.<name>`) of 0.3 T² KL to the teacher in
`bert-mlm-teacher` + 0.7 cross-entropy + 1 - cosine of the last hidden states, at T = 2.

`make_encoder_fixtures.py families` makes tests/fixtures/families/<name>.safetensors instead: one model of each family
with every head that the family has. `trunk/<name>` are the parameters that the heads share, as `AutoModel` names them,
`<head>/<name>` those of a head; the metadata hold each head's `config.json` (`<head>.config`) and the names of its file
(`<head>.names`). `tokens`, `types`, `lengths` and `places` are a batch; `<head>.logits` is what f64 arithmetic makes of
it: [rows, classes], of tokens and masked tokens [places, ..], of answers [rows, 2, length], of embeddings the mean
[rows, hidden_size]. `gradient/<name>` is the gradient of the classifier's mean cross-entropy to the classes 2, 0, 1.

Needs torch and transformers.
"""

import json
import sys
import tempfile

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
VOCAB, LABELS, LENGTHS = 40, 3, [9, 4, 1]
BERT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
}


def tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s"]
    words += [chr(ord("a") + i) for i in range(26)] + ["." , ",", "!", "?", "the"]
    assert len(words) == VOCAB
    vocab = {word: i for i, word in enumerate(words)}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(words[:5])
    return made


def fine_tune(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """50 steps of AdamW without dropout, in f64; decay acts on matrices alone."""
    steps, batches, rows, length = 50, 2, 8, 12
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(2, length + 1, (batches, rows), generator=generator)
    mask = torch.arange(length) < lengths[..., None]
    tokens = torch.randint(5, VOCAB, (batches, rows, length), generator=generator) * mask
    labels = torch.randint(LABELS, (batches, rows), generator=generator)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        batch = step % batches
        logits = model(input_ids=tokens[batch], attention_mask=mask[batch].long()).logits
        loss = F.cross_entropy(logits, labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {
        "tokens": tokens.int(),
        "lengths": lengths.int(),
        "labels": labels.int(),
        "losses": torch.tensor(losses, dtype=torch.float64),
    }


def spread(model: torch.nn.Module) -> None:
    """As spread as trained ones, so that nothing is nearly linear."""
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)


def batch(name: str, padding: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, types and mask."""
    generator = torch.Generator().manual_seed(1)
    rows, length = len(LENGTHS), max(LENGTHS)
    mask = torch.arange(length)[None] < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(5, VOCAB, (rows, length), generator=generator)
    tokens = torch.where(mask, tokens, padding)
    types = (torch.arange(length)[None] >= 5).expand(rows, length) & mask
    types = types.long() if name == "bert" else torch.zeros_like(tokens)
    return tokens, types, mask


def language_models() -> None:
    """The masked language models; written later than the classifiers, with a seed of their own."""
    torch.manual_seed(2)
    teacher = BertConfig(
        vocab_size=VOCAB, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=16,
    )
    teacher = BertForMaskedLM(teacher)
    spread(teacher)
    folder = FIXTURES / "bert-mlm-teacher"
    teacher.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    teacher = teacher.double().eval()
    for name, model in {
        "bert": BertForMaskedLM(BertConfig(vocab_size=VOCAB, **BERT)),
        "distilbert": DistilBertForMaskedLM(
            DistilBertConfig(
                vocab_size=VOCAB, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=16
            )
        ),
        "roberta": RobertaForMaskedLM(
            RobertaConfig(vocab_size=VOCAB, **BERT, type_vocab_size=1, layer_norm_eps=1e-5)
        ),
    }.items():
        spread(model)
        folder = FIXTURES / f"{name}-mlm"
        model.save_pretrained(folder)
        tokenizer().save(str(folder / "tokenizer.json"))
        tokens, types, mask = batch(name, model.config.pad_token_id)
        places = torch.tensor([1, 4, 8, 9 + 2, 2 * 9])
        labels = torch.tensor([5, 39, 17, 6, 22])
        inputs = {"input_ids": tokens, "attention_mask": mask.long()}
        if name == "bert":
            inputs["token_type_ids"] = types
        model = model.double().eval()
        outputs = model(**inputs, output_hidden_states=True)
        logits = outputs.logits.reshape(-1, VOCAB)[places]
        hard = F.cross_entropy(logits, labels)
        hard.backward(retain_graph=True)
        expected = {
            "tokens": tokens.int(),
            "types": types.int(),
            "lengths": torch.tensor(LENGTHS).int(),
            "places": places.int(),
            "labels": labels.int(),
            "logits": logits.detach(),
        }
        for parameter_name, parameter in model.named_parameters():
            expected[f"gradient.{parameter_name}"] = parameter.grad.contiguous()
        if name == "bert":
            model.zero_grad()
            with torch.no_grad():
                taught = teacher(**inputs, output_hidden_states=True)
                theirs = taught.logits.reshape(-1, VOCAB)[places]
            soft = 4 * F.kl_div(
                F.log_softmax(logits / 2, -1), F.log_softmax(theirs / 2, -1), reduction="batchmean", log_target=True
            )
            states = [answer.hidden_states[-1] for answer in (outputs, taught)]
            cosine = (1 - F.cosine_similarity(*states, dim=-1))[mask].mean()
            loss = 0.3 * soft + 0.7 * hard + cosine
            loss.backward()
            for parameter_name, parameter in model.named_parameters():
                expected[f"distilled.{parameter_name}"] = parameter.grad.contiguous()
            expected["loss"] = torch.stack([soft, hard, cosine, loss]).detach()
        save_file(expected, folder / "expected.safetensors")


SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
# Class, keys of the configuration, whether token types count.
FAMILIES = {
    "bert": ("Bert", {}, True),
    "bert-untied": ("Bert", {"tie_word_embeddings": False, "hidden_act": "gelu_new"}, True),
    "distilbert": (
        "DistilBert",
        {
            "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "vocab_size": VOCAB,
            "max_position_embeddings": 40,
        },
        False,
    ),
    "roberta": ("Roberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}, False),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}, False),
    "camembert": ("Camembert", {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_act": "relu"}, False),
    "electra": ("Electra", {"embedding_size": 8}, True),
    "electra-wide": ("Electra", {"embedding_size": 16, "hidden_act": "relu"}, True),
    "mpnet": ("MPNet", {}, False),
    "modernbert": (
        "ModernBert",
        {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
        False,
    ),
    "modernbert-biased": (
        "ModernBert",
        {
            "layer_types": ["sliding_attention", "full_attention"], "local_attention": 5, "pad_token_id": 0,
            "cls_token_id": 2, "sep_token_id": 3, "norm_bias": True, "attention_bias": True, "mlp_bias": True,
            "classifier_bias": True, "decoder_bias": False, "classifier_pooling": "mean",
            "classifier_activation": "relu", "hidden_activation": "gelu_new", "tie_word_embeddings": False,
        },
        False,
    ),
    "deberta-v2": (
        "DebertaV2",
        {
            "relative_attention": True, "position_buckets": 6, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
            "norm_rel_ebd": "layer_norm", "position_biased_input": False, "pooler_hidden_size": 16,
        },
        False,
    ),
    "deberta-v2-apart": (
        "DebertaV2",
        {
            "relative_attention": True, "max_relative_positions": 8, "pos_att_type": ["p2c", "c2p"], "legacy": False,
            "type_vocab_size": 2, "pooler_hidden_act": "tanh", "pooler_hidden_size": 16,
        },
        True,
    ),
    "deberta-v2-plain": (
        "DebertaV2",
        {"embedding_size": 8, "pos_att_type": ["c2p"], "pooler_hidden_size": 16},
        False,
    ),
    "albert": ("Albert", {"embedding_size": 8, "num_hidden_layers": 3}, True),
}
HEADS = {
    "classes": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "language": "ForMaskedLM",
    "embedding": "Model",
}


def family(name: str) -> None:
    """A model with every head, and what transformers makes of a batch."""
    kind, keys, has_types = FAMILIES[name]
    lengths = torch.tensor([20, 9, 1])
    rows, length = len(lengths), int(max(lengths))
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(length)[None] < lengths[:, None]
    types = (torch.arange(length)[None] >= 5).expand(rows, length) & mask & has_types
    places = torch.tensor([1, 4, 19, length + 2, 2 * length])
    config_class = getattr(transformers, f"{kind}Config")
    sizes = {} if name == "distilbert" else SIZES
    config = config_class(**(sizes | keys))
    tokens = torch.randint(5, VOCAB, (rows, length), generator=generator)
    tokens = torch.where(mask, tokens, config.pad_token_id)
    inputs = {"input_ids": tokens, "attention_mask": mask.long()}
    if has_types:
        inputs["token_type_ids"] = types.long()
    torch.manual_seed(3)
    base = getattr(transformers, f"{kind}Model")(config)
    spread(base)
    trunk = {name: value.clone() for name, value in base.state_dict().items()}
    made = {f"trunk/{name}": value for name, value in trunk.items()}
    metadata = {}
    for head, suffix in HEADS.items():
        labels = {"num_labels": 3} if head in ("classes", "tokens") else {}
        config = config_class(**(sizes | keys | labels))
        model = getattr(transformers, f"{kind}{suffix}", None)
        if model is None:
            continue
        model = model(config)
        spread(model)
        within = model if head == "embedding" else getattr(model, model.base_model_prefix)
        within.load_state_dict(trunk, strict=False)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            metadata[f"{head}.config"] = (Path(folder) / "config.json").read_text()
            saved = load_file(Path(folder) / "model.safetensors")
        metadata[f"{head}.names"] = json.dumps(sorted(saved))
        for parameter, value in saved.items():
            bare = parameter.removeprefix(f"{model.base_model_prefix}.")
            if bare not in trunk or not torch.equal(trunk[bare], value):
                made[f"{head}/{parameter}"] = value
        model = model.double().eval()
        outputs = model(**inputs)
        if head == "embedding":
            states = outputs.last_hidden_state * mask[..., None]
            logits = states.sum(1) / lengths[:, None]
        elif head == "span":
            logits = torch.stack([outputs.start_logits, outputs.end_logits], 1)
        elif head == "classes":
            logits = outputs.logits
            F.cross_entropy(logits, torch.tensor([2, 0, 1])).backward()
            for parameter, value in model.named_parameters():
                made[f"gradient/{parameter}"] = value.grad.float().contiguous()
        else:
            logits = outputs.logits.flatten(0, 1)[places]
        made[f"{head}.logits"] = logits.detach().contiguous()
    made |= {"tokens": tokens.int(), "types": types.int(), "lengths": lengths.int(), "places": places.int()}
    folder = FIXTURES / "families"
    folder.mkdir(exist_ok=True)
    save_file(made, folder / f"{name}.safetensors", metadata)


def main() -> None:
    if sys.argv[1:2] == ["families"]:
        for name in sys.argv[2:] or FAMILIES:
            family(name)
        return
    torch.manual_seed(0)
    common = {"vocab_size": VOCAB, "num_labels": LABELS}
    for name, model in {
        "bert": BertForSequenceClassification(BertConfig(**common, **BERT)),
        "distilbert": DistilBertForSequenceClassification(
            DistilBertConfig(
                **common, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=16
            )
        ),
        "roberta": RobertaForSequenceClassification(
            RobertaConfig(**common, **BERT, type_vocab_size=1, layer_norm_eps=1e-5)
        ),
    }.items():
        spread(model)
        folder = FIXTURES / name
        model.save_pretrained(folder)
        tokenizer().save(str(folder / "tokenizer.json"))

        tokens, types, mask = batch(name, model.config.pad_token_id)
        labels = torch.tensor([2, 0, 1])

        model = model.double().eval()
        inputs = {"input_ids": tokens, "attention_mask": mask.long()}
        if name == "bert":
            inputs["token_type_ids"] = types
        logits = model(**inputs).logits
        F.cross_entropy(logits, labels).backward()
        expected = {
            "tokens": tokens.int(),
            "types": types.int(),
            "lengths": torch.tensor(LENGTHS).int(),
            "labels": labels.int(),
            "logits": logits.detach(),
        }
        for parameter_name, parameter in model.named_parameters():
            expected[f"gradient.{parameter_name}"] = parameter.grad.contiguous()
        save_file(expected, folder / "expected.safetensors")
        if name == "bert":
            save_file(fine_tune(model), folder / "training.safetensors")
    language_models()


if __name__ == "__main__":
    main()
