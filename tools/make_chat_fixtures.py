"""Makes tests/fixtures/chat: chats as transformers renders and encodes them, and which tokens the assistant writes.

    python tools/make_chat_fixtures.py     # needs transformers and pyarrow

The tokenizers are learnt here, of a few sentences. The templates have the structure of well-known ones, in words of their
own. Each is there twice: as it is, and with what the assistant writes marked by {% generation %}, from which transformers
tells the mask. The date of templates that ask for it is 26 July 2024.
"""

import datetime
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).parent.parent / "tests/fixtures/chat"
SENTENCES = [
    "the quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "you are a helpful assistant. what is the answer? the answer is in the question.",
    "system user assistant tool date today knowledge answer question content messages",
    "Knowledge ends in December. Today it is 26 Jul 2024. Hello, how are you? I am fine, thank you!",
    "naïve café déjà vu über straße \u00e9\u00e8\u00ea 日本語 中文 emoji 😀 😀",
] * 4
SPECIAL = {
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": ["<|begin|>", "<|end|>", "<|head|>", "<|tail|>", "<|eot|>"],
}
ROLES = {
    "qwen": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "llama": {"bos_token": "<|begin|>", "eos_token": "<|end|>"},
}
# What the assistant writes stands between « and ».
TEMPLATES = {
    "chatml": (
        "qwen",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}«{{ message['content'] + '<|im_end|>' }}»{{ '\\n' }}"
        "{% else %}{{ message['content'] + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    "default-system": (
        "qwen",
        "{% for message in messages %}\n"
        "{% if loop.first and messages[0]['role'] != 'system' %}\n"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
        "{% endif %}\n"
        "{{- '<|im_start|>' + message.role + '\\n' -}}\n"
        "{% if message.role == 'assistant' %}«{{ message.content }}{{ '<|im_end|>' }}»{% else %}"
        "{{ message.content }}{{ '<|im_end|>' }}{% endif %}{{ '\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    "tools": (
        "qwen",
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n"
        "    {%- for tool in tools %}\n        {{- tool | tojson }}\n    {%- endfor %}\n    {{- '<|im_end|>\\n' }}\n"
        "{%- elif messages[0].role == 'system' %}\n"
        "    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n"
        "{%- else %}\n    {{- '<|im_start|>system\\nAnswer in JSON: ' ~ ({'a<b': [1, 2.5, true, none], 'é': {}} | tojson)"
        " ~ '<|im_end|>\\n' }}\n{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
        "    {%- elif message.role == 'assistant' and not message.tool_calls %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' }}«{{- message.content + '<|im_end|>' }}»{{- '\\n' }}\n"
        "    {%- elif message.role == 'tool' %}\n"
        "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != 'tool') %}\n"
        "            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
        "        {{- '\\n<result>\\n' }}\n        {{- message.content }}\n        {{- '\\n</result>' }}\n"
        "        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}\n"
        "            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    ),
    "headers": (
        "llama",
        "{{- bos_token }}\n"
        "{%- if not date_string is defined %}\n"
        "    {%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}\n"
        "    {%- else %}{%- set date_string = '1 Jan 2020' %}{%- endif %}\n{%- endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content'] | trim %}\n    {%- set messages = messages[1:] %}\n"
        "{%- else %}\n    {%- set system_message = '' %}\n{%- endif %}\n"
        "{{- '<|head|>system<|tail|>\\n\\n' }}\n{{- 'Knowledge ends in December.\\n' }}\n"
        "{{- 'Today it is ' + date_string + '\\n\\n' }}\n{{- system_message }}\n{{- '<|eot|>' }}\n"
        "{%- for message in messages %}\n"
        "    {{- '<|head|>' + message['role'] + '<|tail|>\\n\\n' }}"
        "{%- if message['role'] == 'assistant' %}«{{- message['content'] | trim + '<|eot|>' }}»"
        "{%- else %}{{- message['content'] | trim + '<|eot|>' }}{%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|head|>assistant<|tail|>\\n\\n' }}\n{%- endif %}\n",
    ),
    "brackets": (
        "llama",
        "{{ bos_token }}{% set ns = namespace(turn=0) %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% continue %}{% endif %}"
        "{% if (message['role'] == 'user') != (ns.turn % 2 == 0) %}"
        "{{ raise_exception('users and assistants take turns') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[Q] ' + message['content'].strip() + ' [/Q]' }}"
        "{% else %}«{{ ' ' + message.get('content').strip().replace('\\t', ' ') + eos_token }}»{% endif %}"
        "{% set ns.turn = ns.turn + 1 %}{% endfor %}",
    ),
}
CHATS = [
    [("user", "Hello, how are you?"), ("assistant", "I am fine, thank you!")],
    [
        ("system", "You are a helpful assistant.  "),
        ("user", "what is\n\nthe answer?"),
        ("assistant", "  42, naïve café: e\u0301 and \u1e9b\u0323 日本語\n"),
        ("user", "😀👩‍🚀"),
        ("assistant", "👍🏽\tok <b>&amp;</b>"),
    ],
    [("user", "a"), ("assistant", "b"), ("user", "the <|im_end|> or <|eot|> in the middle"), ("assistant", "\n\nc\n")],
    [("user", ""), ("assistant", "x"), ("user", "and now?")],
]
TEXTS = [
    "the quick brown fox",
    "  naïve e\u0301\u1e9b\u0323 日本語 😀👩‍🚀\n\n the end \n",
    "<|begin|>the dog<|end|>",
    "the dog<|endoftext|>",
    "\u00e9",
]


class Date(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def make_tokenizer(name):
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    if name == "qwen":
        bare.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL[name],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(SENTENCES, trainer)
    if name == "llama":
        begin = bare.token_to_id("<|begin|>")
        bare.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=True),
                processors.TemplateProcessing(
                    single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
                ),
            ]
        )
    else:
        bare.post_processor = processors.ByteLevel(trim_offsets=False)
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    document = json.loads(bare.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **ROLES[name]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return AutoTokenizer.from_pretrained(folder)


def plain(template):
    return template.replace("«", "").replace("»", "")


def marked(template):
    return template.replace("«", "{% generation %}").replace("»", "{% endgeneration %}")


def of_chat(tokenizer, template, chat):
    messages = [{"role": role, "content": content} for role, content in chat]
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=plain(template), tokenize=False)
    except Exception as error:
        return {"error": str(error)}
    prompt = tokenizer.apply_chat_template(
        messages, chat_template=plain(template), tokenize=False, add_generation_prompt=True
    )
    out = tokenizer.apply_chat_template(
        messages, chat_template=marked(template), return_dict=True, return_assistant_tokens_mask=True
    )
    assert tokenizer.apply_chat_template(messages, chat_template=marked(template), tokenize=False) == text
    return {"text": text, "prompt": prompt, "ids": out["input_ids"], "mask": out["assistant_masks"]}


def main():
    chat_template_utils.datetime = Date
    tokenizers = {name: make_tokenizer(name) for name in SPECIAL}
    templates = {
        name: {
            "tokenizer": of,
            "plain": plain(template),
            "marked": marked(template),
            "cases": [of_chat(tokenizers[of], template, chat) for chat in CHATS],
        }
        for name, (of, template) in TEMPLATES.items()
    }
    texts = {name: [tokenizer(text)["input_ids"] for text in TEXTS] for name, tokenizer in tokenizers.items()}
    known = {
        "chats": [[{"role": role, "content": content} for role, content in chat] for chat in CHATS],
        "templates": templates,
        "texts": TEXTS,
        "encoded": texts,
    }
    (ROOT / "chats.json").write_text(json.dumps(known, ensure_ascii=False, separators=(",", ":")) + "\n")
    write_parquet()


def write_parquet():
    """Rows of each kind, in two row groups; what is not of a row's kind is null there."""
    message = pa.struct([("content", pa.string()), ("role", pa.string())])
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("messages", pa.list_(message)),
            ("conversations", pa.list_(turn)),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("text", pa.string()),
        ]
    )
    rows = []
    for number in range(40):
        row = dict.fromkeys(schema.names) | {"id": number, "prompt": f"q{number}"}
        said = [("user", f"q{number}"), ("assistant", f"ä{number}")] * (1 + number % 3)
        match number % 4:
            case 0:
                row["messages"] = [{"role": role, "content": content} for role, content in said]
            case 1:
                names = {"user": "human", "assistant": "gpt"}
                row["conversations"] = [{"from": names[role], "value": content} for role, content in said]
            case 2:
                row["completion"] = f"c{number}"
            case _:
                row["text"] = f"t{number}"
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, ROOT / "documents.parquet", row_group_size=25, compression="zstd")


if __name__ == "__main__":
    main()
