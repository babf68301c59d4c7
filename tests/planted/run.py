#!/usr/bin/env python3
"""Plants one bug after the other in a copy of the tree, and says which suite sees it, and after how many simulated worlds.

A bug is a file `NN.patch` beside this one: a first line that says what is wrong in it, then a diff with one line of context. A patch
that does not apply is a failure: it is stale, and has to be made anew. One that no suite sees is a failure, too: a rule of the core
or of the store is held by nothing.

    python3 tests/planted/run.py [--tree DIR] [--work DIR] [--target DIR] [--check] [NN ...]

`--check` only looks whether every patch applies. The copy and its build stay in the work directory, so that a second run is quick.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

# The worlds that a bug may take to be seen, in runs that grow: most are seen at once.
WORLDS = [(0, 50), (50, 300), (300, 1000), (1000, 3000)]
SIMULATOR = ["cargo", "test", "--release", "--locked", "--no-default-features", "--test", "sim", "seeds_keep", "--", "--nocapture"]
# What is asked when the simulator saw nothing; the last ones need the whole program.
OTHER_SUITES = [
    ("unit tests", ["cargo", "test", "--locked", "--no-default-features", "--lib"]),
    ("core", ["cargo", "test", "--locked", "--no-default-features", "--test", "core"]),
    ("store_model", ["cargo", "test", "--locked", "--test", "store_model"]),
    ("store_crash", ["cargo", "test", "--locked", "--test", "store_crash"]),
]
# At least so many of the patches are seen by the simulator alone.
SEEN_BY_SIMULATOR = 20


def copy_tree(tree, copy):
    """The files that git knows, as they are in the tree now; those that have not changed keep their time, and so their build."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=tree).decode().split("\0")
    wanted = {name for name in names if name and (tree / name).is_file()}
    for old in [path for path in copy.rglob("*") if path.is_file() and ".git" not in path.parts]:
        if str(old.relative_to(copy)) not in wanted:
            old.unlink()
    for name in wanted:
        source, place = tree / name, copy / name
        if not place.is_file() or source.read_bytes() != place.read_bytes():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
    if not (copy / ".git").exists():
        # `git apply` would else take the paths for those of a repository above.
        subprocess.check_call(["git", "init", "-q"], cwd=copy)


def apply(copy, patch, *options):
    command = ["git", "apply", "--unidiff-zero", "-C1", *options, str(patch)]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True)


def run(copy, target, command, **environment):
    """Whether the suite passed, and what it printed. A tree that does not build ends everything."""
    settings = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never", **environment}
    try:
        done = subprocess.run(command, cwd=copy, env=settings, capture_output=True, text=True, errors="replace", timeout=1800)
    except subprocess.TimeoutExpired:
        return False, "it does not end"
    text = done.stdout + done.stderr
    if "could not compile" in text:
        sys.exit(f"the tree with the patch does not build:\n{text[-3000:]}")
    return done.returncode == 0, text


def seen_by(copy, target):
    """The suite that fails, and for the simulator the number of worlds up to the first that fails."""
    for start, end in WORLDS:
        passed, text = run(copy, target, SIMULATOR, SIM_SEEDS=f"{start}..{end}")
        if not passed:
            seeds = [int(seed) for seed in re.findall(r"^seed (\d+):", text, re.M)]
            return "simulator", min(seeds, default=end) + 1
    for name, command in OTHER_SUITES:
        passed, _ = run(copy, target, command)
        if not passed:
            return name, None
    return None, None


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent
    options.add_argument("--tree", type=pathlib.Path, default=here.parent.parent)
    options.add_argument("--work", type=pathlib.Path, default=None)
    options.add_argument("--target", type=pathlib.Path, default=None)
    options.add_argument("--check", action="store_true")
    options.add_argument("numbers", nargs="*")
    chosen = options.parse_args()
    tree = chosen.tree.resolve()
    work = (chosen.work or tree / "target" / "planted").resolve()
    target = (chosen.target or work / "target").resolve()
    copy = work / "tree"
    copy.mkdir(parents=True, exist_ok=True)
    copy_tree(tree, copy)

    patches = sorted((tree / "tests" / "planted").glob("*.patch"))
    if chosen.numbers:
        patches = [patch for patch in patches if patch.stem in chosen.numbers]
    stale = [patch.stem for patch in patches if apply(copy, patch, "--check").returncode != 0]
    if stale:
        sys.exit(f"stale, to be made anew for the code as it is: {', '.join(stale)}")
    if chosen.check:
        print(f"{len(patches)} patches apply")
        return

    by_simulator, unseen = [], []
    print("| bug | what is wrong | seen by | worlds |\n|---|---|---|---|", flush=True)
    for patch in patches:
        what = patch.read_text(encoding="utf-8").splitlines()[0]
        apply(copy, patch).check_returncode()
        try:
            suite, worlds = seen_by(copy, target)
        finally:
            apply(copy, patch, "-R").check_returncode()
        print(f"| {patch.stem} | {what} | {suite or 'NOTHING'} | {worlds or ''} |", flush=True)
        if suite == "simulator":
            by_simulator.append(worlds)
        elif suite is None:
            unseen.append(patch.stem)
    by_simulator.sort()
    median = by_simulator[len(by_simulator) // 2] if by_simulator else "none"
    print(f"{len(patches)} planted, {len(by_simulator)} seen by the simulator (after {median} worlds at the median), {len(unseen)} unseen")
    if unseen:
        sys.exit(f"seen by nothing: {', '.join(unseen)}")
    if not chosen.numbers and len(by_simulator) < SEEN_BY_SIMULATOR:
        sys.exit(f"the simulator is to see at least {SEEN_BY_SIMULATOR}")


if __name__ == "__main__":
    main()
