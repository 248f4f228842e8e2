#!/usr/bin/env python3
"""Holds the cache that distil-gpu makes of a hub's model to the one that huggingface_hub makes, and lets each read the
other's without a network. The hub is on loopback.

    pip install huggingface_hub
    tools/check_hub_cache.py target/release/distil-gpu
"""

import argparse
import hashlib
import http.server
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "model_type": "mlp", "input_size": 2, "hidden_sizes": [], "num_classes": 2, "activation": "relu", "dropout": 0.0,
    "input_dropout": 0.0, "input_shape": [2], "class_names": ["a", "b"],
    "normalisation": {"mean": [0.0], "std": [1.0]},
}  # fmt: skip


def safetensors(tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": safetensors(
        {"layers.0.weight": ([2, 2], [1.0, -2.0, 0.5, 0.25]), "layers.0.bias": ([2], [0.5, -1.0])}
    ),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """As the hub does it: small files by a redirect on the same host, large ones on another."""

    protocol_version = "HTTP/1.1"
    asked = []

    def log_message(self, *_):
        pass

    def reply(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        path = self.path.split("?")[0]
        if path.startswith("/api/models/o/m/revision/"):
            info = {"id": "o/m", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self.reply(200, {"Content-Type": "application/json"}, json.dumps(info).encode())
        found = re.match(r"/(o/m/resolve/[^/]+|small|large)/(.+)$", path)
        if not found or found[2] not in FILES:
            return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        where, name = found.groups()
        body = FILES[name]
        if where in ("small", "large"):
            etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            return self.reply(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
        if name.endswith(".safetensors"):
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            headers = {"X-Linked-Etag": etag, "X-Linked-Size": len(body)}
            headers["Location"] = f"{storage}/large/{name}"
        else:
            headers = {"Location": f"/small/{name}"}
        return self.reply(302, {**headers, "X-Repo-Commit": COMMIT})


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def tree(folder):
    """Every path, with what links lead to and files hold; without notes of what there is not, and locks."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if ".no_exist" in name or ".locks" in name or path.name == "CACHEDIR.TAG":
            continue
        if path.is_symlink():
            entries[name] = os.readlink(path)
        else:
            entries[name] = path.read_bytes() if path.is_file() else None
    return entries


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("program", type=Path)
program = parser.parse_args().program.resolve()
endpoint, storage = serve(), serve()

with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / "x.csv").write_text("x,y,label\n2,1,a\n-4,2,b\n")

    def run(home, command, **variables):
        env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "secret", "HF_HOME": str(folder / home)}
        done = subprocess.run(command, env={**env, **variables}, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            sys.exit(f"{command} failed:\n{done.stderr}")
        return done.stdout

    def ours(home, **variables):
        recipe = folder / "r.toml"
        recipe.write_text(
            'device = "cpu"\n'
            'data = { source = "csv", train = "x.csv", test = "x.csv", label = "label", normalise = "none" }\n'
            'teacher = { folder = "hf:o/m" }\n'
            'student = { model = { type = "mlp", hidden_sizes = [2] } }\n'
            'train = { epochs = 1, batch = 2, optimizer = { name = "sgd", lr = 0.05 } }\n'
        )
        return run(home, [program, "plan", "r.toml", "--json"], **variables)

    def theirs(home, code, **variables):
        return run(home, [sys.executable, "-c", f"from huggingface_hub import *\n{code}"], **variables)

    first = ours("ours")
    leaked = [path for path, token in Hub.asked if path.startswith("/large/") and token]
    assert not leaked, f"the token went to another host: {leaked}"
    assert any(token == "Bearer secret" for _, token in Hub.asked), "the hub was sent no token"
    theirs("theirs", "\n".join(f"hf_hub_download('o/m', '{name}')" for name in FILES))
    mine, yours = tree(folder / "ours/hub"), tree(folder / "theirs/hub")
    assert mine == yours, f"{sorted(mine)} is not {sorted(yours)}"
    asked = len(Hub.asked)
    assert ours("theirs", HF_HUB_OFFLINE="1") == first
    listed = theirs(
        "ours",
        "import os\nprint(sorted(os.listdir(snapshot_download('o/m', local_files_only=True))))\n"
        "print(type(try_to_load_from_cache('o/m', 'modules.json')).__name__)",
        HF_HUB_OFFLINE="1",
    )
    assert listed.split("\n")[:2] == [str(sorted(FILES)), "object"], listed
    assert len(Hub.asked) == asked, "the hub was asked offline"
print(f"{len(mine)} entries alike; each reads the other's cache without a network")
