"""llama.cpp, by xllamacpp: what it makes of a GGUF file."""
import contextlib
import json
import os
import urllib.request

import xllamacpp


@contextlib.contextmanager
def quiet():
    """llama.cpp tells on the second stream, from its own threads, what nobody asked for."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class Llama:
    def __init__(self, path, threads=2):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.warmup, parameters.cpuparams.n_threads = 512, False, threads
        # Nothing of what is compared is rounded but the weights.
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(parameters)

    def ask(self, path, request):
        data, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
        return json.load(urllib.request.urlopen(urllib.request.Request(self.server.listening_address + path, data, kind)))

    def ids(self, text, add=False):
        return self.ask("/tokenize", {"content": text, "add_special": add, "parse_special": True})["tokens"]

    def greedy(self, ids, count):
        request = {"prompt": ids, "n_predict": count, "temperature": 0, "return_tokens": True, "cache_prompt": False}
        return self.ask("/completion", request)["tokens"]

    def next(self, ids, count):
        # The likeliest token may end everything or be a part of a letter, of which nothing is told; so "e" is taken.
        # Probabilities are those before that.
        request = {"prompt": ids, "n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": False,
                   "logit_bias": [[self.ids("e")[0], 1000.0]]}
        first = self.ask("/completion", request)["completion_probabilities"][0]
        return {one["id"]: one["logprob"] for one in first["top_logprobs"]}

    def of_each(self, ids):
        """Log-probabilities of all tokens but the first, each behind those before it."""
        found = []
        for at in range(1, len(ids)):
            # It is made to choose the token, of which it tells how likely it was before that; what it has read is kept.
            request = {"prompt": ids[:at], "n_predict": 1, "n_probs": 1, "temperature": 0, "cache_prompt": True,
                       "logit_bias": [[ids[at], 1000.0]]}
            told = self.ask("/completion", request).get("completion_probabilities")
            if told is None:
                # It is a part of a letter: then it is looked for among all.
                found.append(self.next(ids[:at], 1 << 20)[ids[at]])
                continue
            assert told[0]["id"] == ids[at], (told, ids[at])
            found.append(told[0]["logprob"])
        return found
