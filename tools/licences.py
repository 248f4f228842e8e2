#!/usr/bin/env python3
"""Writes crates/cli/src/licences.tsv: every crate of Cargo.lock, its licence, and whether the program contains it.

    tools/licences.py

It asks `cargo metadata`, so it needs the sources of all crates, those of other systems too. A crate is "in" where a
program for one of the systems of deny.toml contains it, and "beside" where it only helps to build or to test (macros, build scripts,
benchmarks).
"""

import json
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = tomllib.loads((ROOT / "deny.toml").read_text())["graph"]["targets"]


def metadata(*options):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *options]
    return json.loads(subprocess.check_output(command, cwd=ROOT, text=True))


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def contained(target):
    """The crates that a program for a target contains."""
    tree = metadata("--filter-platform", target)
    packages = {package["id"]: package for package in tree["packages"]}
    nodes = {node["id"]: node for node in tree["resolve"]["nodes"]}
    found, waiting = set(), [p["id"] for p in tree["packages"] if p["name"] == "distil-gpu"]
    while waiting:
        crate = waiting.pop()
        if crate in found or is_macro(packages[crate]):
            continue
        found.add(crate)
        for dependency in nodes[crate]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return found


packages = {package["id"]: package for package in metadata()["packages"]}
inside = set().union(*map(contained, TARGETS))
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
