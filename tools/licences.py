#!/usr/bin/env python3
"""Writes crates/cli/src/licences.tsv: every crate of Cargo.lock, its licence, and whether the program contains it.

    tools/licences.py

It asks `cargo metadata`, so it needs the sources of all crates, those of other systems too. A crate is "in" where a
program for some system contains it, and "beside" where it only helps to build or to test (macros, build scripts,
benchmarks).
"""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
metadata = json.loads(
    subprocess.check_output(
        ["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, text=True
    )
)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


inside, waiting = set(), [p["id"] for p in metadata["packages"] if p["name"] == "distil-gpu"]
while waiting:
    crate = waiting.pop()
    if crate in inside or is_macro(packages[crate]):
        continue
    inside.add(crate)
    for dependency in nodes[crate]["deps"]:
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            waiting.append(dependency["pkg"])

rows = []
for package in packages.values():
    if package["source"] is None:
        continue
    licence = (package["license"] or "").replace(" / ", " OR ").replace("/", " OR ")
    if not licence:
        raise SystemExit(f"{package['name']} {package['version']} names no licence: look at its files")
    part = "in" if package["id"] in inside else "beside"
    rows.append((package["name"], package["version"], licence, part))
text = "".join("\t".join(row) + "\n" for row in sorted(rows))
(ROOT / "crates/cli/src/licences.tsv").write_text(text)
print(f"{sum(row[3] == 'in' for row in rows)} crates in the program, of {len(rows)}")
