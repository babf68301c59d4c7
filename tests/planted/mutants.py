#!/usr/bin/env python3
"""Draws mutants of the core and of the store, and says which of them no suite sees.

The mutants are those that cargo-mutants (`cargo install --locked cargo-mutants`) lists; here they are drawn by a fixed number, put
into the copy of the tree that `run.py` works with, and shown to the suites that are quick. What does not build is no mutant, and
the next one is drawn instead.

    python3 tests/planted/mutants.py core|store [--count N] [--seed N] [--work DIR] [--target DIR]

Promises:
1. The tree is not changed.
2. A mutant that survives is a failure, unless the table in `README.md` explains it: by its name, without the line.
3. It may be ended at any moment, and goes on where it was, as `run.py`.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys

import run

CORE = ["--no-default-features"]
PARTS = {
    "core": {
        "count": 60,
        "files": ["src/block/**", "src/verify.rs", "src/sync/**"],
        "suites": [
            ("unit tests", [*CORE, "--release", "--lib"], [], {}),
            ("core", [*CORE, "--release", "--test", "core"], [], {}),
            ("simulator", [*CORE, "--release", "--test", "sim"], ["seeds_keep"], {"SIM_SEEDS": "0..1000"}),
            ("model", [*CORE, "--release", "--test", "model"], [], {}),
        ],
    },
    "store": {
        "count": 20,
        "files": ["src/store/guard.rs", "src/store/keys.rs", "src/store/watermark.rs"],
        "suites": [
            ("unit tests", ["--lib", "store::"], [], {}),
            ("store_model", ["--test", "store_model"], [], {}),
            ("store_crash", ["--test", "store_crash"], [], {}),
        ],
    },
}


def drawn(planter, files, seed):
    """All mutants of these files, in an order that is drawn by name: it stays what it is when the code around them changes."""
    command = ["cargo", "mutants", "--list", "--json", "--no-config"]
    for file in files:
        command += ["-f", file]
    mutants = json.loads(subprocess.check_output(command, cwd=planter.copy, env=planter.settings))
    order = lambda mutant: hashlib.sha256(f"{seed} {name_of(mutant)}".encode()).hexdigest()
    return sorted(mutants, key=lambda mutant: (order(mutant), mutant["name"]))


def mutated(text, mutant):
    """The file's text with the span replaced; lines and columns count from 1, columns in characters."""
    lines = text.splitlines(keepends=True)
    at = lambda place: sum(map(len, lines[: place["line"] - 1])) + place["column"] - 1
    start, end = at(mutant["span"]["start"]), at(mutant["span"]["end"])
    return text[:start] + mutant["replacement"] + text[end:]


def name_of(mutant):
    """Without the line: `src/sync/chain.rs: replace > with >= in Chain::durable`."""
    return re.sub(r":\d+:\d+:", ":", mutant["name"])


def seen_by(planter, suites):
    for name, target, arguments, environment in suites:
        try:
            passed, text = planter.run(target, arguments, **environment)
        except SystemExit:
            return "does not build", ""
        if not passed:
            failed = re.findall(r"^test (\S+) \.\.\. FAILED", text, re.M)
            return name, ", ".join(failed[:3])
    return None, ""


def judge(planter, mutant, suites):
    path = planter.copy / mutant["file"]
    before = path.read_text(encoding="utf-8")
    path.write_text(mutated(before, mutant), encoding="utf-8")
    try:
        return seen_by(planter, suites)
    finally:
        path.write_text(before, encoding="utf-8")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("part", choices=PARTS)
    options.add_argument("--count", type=int)
    options.add_argument("--seed", type=int, default=9)
    options.add_argument("--work", type=pathlib.Path)
    options.add_argument("--target", type=pathlib.Path)
    chosen = options.parse_args()
    part, tree = PARTS[chosen.part], run.HERE.parent.parent
    work = (chosen.work or tree / "target" / "planted").resolve()
    planter = run.Planter(tree, work, (chosen.target or work / "target").resolve())
    mutants = drawn(planter, part["files"], chosen.seed)
    kept = planter.work / f"mutants-{chosen.part}.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    explained = (run.HERE / "README.md").read_text(encoding="utf-8")
    count, seen, unexplained, excused = chosen.count or part["count"], 0, [], 0
    for mutant in mutants:
        if seen + excused + len(unexplained) >= count:
            break
        key = f"{mutant['name']} {hashlib.sha256((planter.copy / mutant['file']).read_bytes()).hexdigest()}"
        if key not in known or known[key][0] is None:
            known[key] = judge(planter, mutant, part["suites"])
            kept.write_text(json.dumps(known, indent=1))
        suite, by = known[key]
        print(f"{mutant['name']}: {suite or 'SURVIVES'} {by[:100]}", flush=True)
        if suite == "does not build":
            continue
        if suite is not None:
            seen += 1
        elif f"`{name_of(mutant)}`" in explained:
            excused += 1
        else:
            unexplained.append(mutant["name"])
    print(f"{count} of {len(mutants)} mutants (seed {chosen.seed}): {seen} seen, {excused} explained, {len(unexplained)} survive")
    if unexplained:
        sys.exit("\n".join(unexplained))


if __name__ == "__main__":
    main()
