#!/usr/bin/env python3
"""Plants one bug after the other in a copy of the tree, and says which suite sees it, and after how many simulated worlds.

A bug is a file `NN.patch` beside this one: a first line that says what is wrong, then a diff with one line of context. Those from 60
on are of the store, which the simulator does not have: it is asked about the others first, and the other suites only where it has
seen nothing.

    python3 tests/planted/run.py [--work DIR] [--target DIR] [--check] [--record] [NN ...]

`--check` only looks whether every patch applies. `--record` writes the table of `README.md` anew, with the bugs that the simulator
plants itself (`tests/sim/mutations.rs`).

Promises:
1. The tree is not changed, but for `README.md`.
2. A patch that does not apply is a failure: it is stale, and has to be made anew. So is one that no suite sees, and fewer than 20 that
   the simulator sees alone. Nothing is planted where the simulator fails without.
3. It may be ended at any moment, and goes on where it was: what is known of a patch and a tree is kept in the work directory.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# The worlds that a bug may take to be seen, in runs that grow: most are seen at once. None is long enough for floors to count.
WORLDS = [(0, 30), (30, 300), (300, 1000), (1000, 2000), (2000, 3000)]
# A run that takes so many seconds does not end.
PATIENCE = 900
# What is asked where the simulator's seeds have seen nothing.
CORE = ["--no-default-features"]
OTHER_SUITES = [
    ("simulator, worlds by hand", [*CORE, "--release", "--test", "sim"], ["--skip", "seeds_", "--skip", "planted", "--skip", "crowd"]),
    ("core", [*CORE, "--release", "--test", "core"], []),
    ("unit tests", [*CORE, "--release", "--lib"], []),
    ("model", [*CORE, "--release", "--test", "model"], []),
]
# What the store's patches are shown to; it needs the whole program.
STORE_SUITES = [
    ("store_model", ["--test", "store_model"], []),
    ("unit tests", ["--lib", "store::"], []),
    ("store_crash", ["--test", "store_crash"], []),
]
# At least so many of the patches are seen by the simulator alone.
SEEN_BY_SIMULATOR = 20
FIRST_OF_STORE = "60"


class Planter:
    """A copy of the tree, and its build, in a target directory of its own: the two trees are one and the same to cargo."""

    def __init__(self, tree, work, target):
        self.tree, self.work, self.copy, self.target = tree, work, work / "tree", target
        self.copy.mkdir(parents=True, exist_ok=True)
        self.fingerprint = self.copy_tree()
        # What matters here is how soon one changed file is built and run.
        quick = {"CARGO_INCREMENTAL": "1", "CARGO_PROFILE_RELEASE_DEBUG": "none", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "2"}
        self.settings = {**os.environ, **quick, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}

    def copy_tree(self):
        """Copies what git knows, as it is now; what has not changed keeps its time, and so its build. Gives a hash of it."""
        names = subprocess.check_output(["git", "ls-files", "-z"], cwd=self.tree).decode().split("\0")
        wanted = sorted(name for name in names if name and (self.tree / name).is_file())
        for old in [path for path in self.copy.rglob("*") if path.is_file() and ".git" not in path.parts]:
            if str(old.relative_to(self.copy)) not in wanted:
                old.unlink()
        known = hashlib.sha256()
        for name in wanted:
            content, place = (self.tree / name).read_bytes(), self.copy / name
            if name.startswith("src/") or name.startswith("tests/") and not name.startswith("tests/planted/"):
                known.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
            if not place.is_file() or place.read_bytes() != content:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.tree / name, place)
        if not (self.copy / ".git").exists():
            # `git apply` would else take the paths for those of a repository above.
            subprocess.check_call(["git", "init", "-q"], cwd=self.copy)
        return known.hexdigest()

    def build(self, target):
        """The test's executable."""
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json-render-diagnostics", *target]
        done = subprocess.run(command, cwd=self.copy, env=self.settings, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"the tree with the patch does not build:\n{done.stderr[-3000:]}")
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found = [message["executable"] for message in messages if message.get("executable") and message["profile"]["test"]]
        return found[-1]

    def run(self, target, arguments, **environment):
        """Whether the suite passed, and what it printed."""
        filters = [argument for argument in target if argument.endswith("::")]
        command = [self.build([argument for argument in target if argument not in filters]), *filters, *arguments]
        settings = {**self.settings, **environment, "RUST_BACKTRACE": "0"}
        running = subprocess.Popen(
            command, cwd=self.copy, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
        )
        try:
            text, _ = running.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            text, _ = running.communicate()
            return False, f"it does not end\n{text[-2000:]}"
        return running.returncode == 0, text

    def simulate(self):
        """The number of worlds up to the first that fails, and why it does."""
        for start, end in WORLDS:
            passed, text = self.run([*CORE, "--release", "--test", "sim"], ["seeds_keep", "--nocapture"], SIM_SEEDS=f"{start}..{end}")
            if not passed:
                failed = [(int(seed), why) for seed, why in re.findall(r"^seed (\d+) of [^:]*: (.*)$", text, re.M)]
                seed, why = min(failed, default=(end - 1, text.strip().splitlines()[0] if text.strip() else "it ended at once"))
                return seed + 1, why
        return None, None

    def apply(self, patch, *options):
        return git_apply(self.copy, patch, *options)

    def seen_by(self, patch):
        """What sees the patch, which is applied: the suite, after how many worlds, and what it says."""
        is_of_store = patch.stem >= FIRST_OF_STORE
        if not is_of_store:
            worlds, why = self.simulate()
            if worlds is not None:
                return {"suite": "simulator", "worlds": worlds, "why": why}
        for name, target, arguments in STORE_SUITES if is_of_store else OTHER_SUITES:
            passed, text = self.run(target, arguments)
            if not passed:
                failed = re.findall(r"^test (\S+) \.\.\. FAILED", text, re.M) or re.findall(r"^    (\S+)$", text, re.M)
                return {"suite": name, "worlds": None, "why": ", ".join(failed[:3]) or text.strip()[-200:]}
        return {"suite": None, "worlds": None, "why": ""}


def git_apply(directory, patch, *options):
    return subprocess.run(["git", "apply", "-C1", *options, str(patch)], cwd=directory, capture_output=True, text=True)


def text_of(patch):
    return patch.read_text(encoding="utf-8").splitlines()[0]


def check(tree, patches):
    """Every patch applies, and says what is wrong."""
    stale = [patch.stem for patch in patches if git_apply(tree, patch, "--check").returncode != 0]
    if stale:
        sys.exit(f"stale, to be made anew for the code as it is: {', '.join(stale)}")
    silent = [patch.stem for patch in patches if text_of(patch).startswith("diff ")]
    if silent:
        sys.exit(f"they do not say what is wrong: {', '.join(silent)}")


def found_for(planter, patches):
    """What sees each patch; what was found before is not looked for again."""
    kept = planter.work / "found.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    base = f"base {planter.fingerprint}"
    if base not in known:
        worlds, why = planter.simulate()
        if worlds is not None:
            sys.exit(f"without any patch the simulator fails at seed {worlds - 1}: {why}")
        known[base] = True
        kept.write_text(json.dumps(known, indent=1))
    for patch in patches:
        key = f"{patch.stem} {planter.fingerprint} {hashlib.sha256(patch.read_bytes()).hexdigest()}"
        if key not in known:
            planter.apply(patch).check_returncode()
            try:
                known[key] = planter.seen_by(patch)
            finally:
                planter.apply(patch, "-R").check_returncode()
            kept.write_text(json.dumps(known, indent=1))
        found = known[key]
        print(f"{patch.stem}: {found['suite'] or 'NOTHING'}, {found['worlds'] or ''}: {found['why'][:160]}", flush=True)
        yield patch, found


def planted_in_simulator(planter):
    """The bugs that the simulator plants itself: name, text, and after how many worlds."""
    source = (planter.copy / "tests/sim/mutations.rs").read_text(encoding="utf-8")
    texts = dict((name, text) for text, name in re.findall(r"/// ([^\n]*(?:\n    /// [^\n]*)*)\n    (\w+),", source))
    _, output = planter.run([*CORE, "--release", "--test", "sim"], ["every_planted_bug", "--nocapture"])
    for name, seed, why in re.findall(r"^(\w+): (?:seed (\d+): (.*)|missed)$", output, re.M):
        text = re.sub(r"\s*///\s*", " ", texts.get(name, ""))
        yield name, text, int(seed) + 1 if seed else None, why


def row(name, what, suite, worlds, why):
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in (name, what, suite, worlds, why)) + " |"


def short(why):
    """What a suite says, without the ids of one run of it."""
    why = re.sub(r"[0-9a-f]{16,}", "..", why)
    return why if len(why) <= 110 else why[:107] + "..."


def record(found, own, result):
    table = ["| bug | what is wrong | seen by | worlds | as |", "|---|---|---|---|---|"]
    for patch, seen in found:
        table.append(row(patch.stem, text_of(patch), seen["suite"] or "nothing", seen["worlds"] or "", short(seen["why"])))
    for name, text, worlds, why in own:
        table.append(row(name, text, "simulator" if worlds else "nothing", worlds or "", short(why)))
    readme = HERE / "README.md"
    before = readme.read_text(encoding="utf-8").split("<!-- table -->")[0]
    readme.write_text(f"{before}<!-- table -->\n{result}\n\n" + "\n".join(table) + "\n", encoding="utf-8")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", type=pathlib.Path)
    options.add_argument("--target", type=pathlib.Path)
    options.add_argument("--check", action="store_true")
    options.add_argument("--record", action="store_true")
    options.add_argument("numbers", nargs="*")
    chosen = options.parse_args()
    tree = HERE.parent.parent
    patches = sorted(HERE.glob("*.patch"))
    if chosen.numbers:
        patches = [patch for patch in patches if patch.stem in chosen.numbers]
    check(tree, patches)
    if chosen.check:
        print(f"{len(patches)} patches apply")
        return
    work = (chosen.work or tree / "target" / "planted").resolve()
    planter = Planter(tree, work, (chosen.target or work / "target").resolve())
    found = list(found_for(planter, patches))
    worlds = sorted(seen["worlds"] for _, seen in found if seen["suite"] == "simulator")
    unseen = [patch.stem for patch, seen in found if seen["suite"] is None]
    of_core = sum(patch.stem < FIRST_OF_STORE for patch in patches)
    median = worlds[len(worlds) // 2] if worlds else "no"
    own = list(planted_in_simulator(planter)) if chosen.record else []
    missed = [name for name, _, worlds_to, _ in own if worlds_to is None]
    result = f"{len(patches)} patches, {of_core} of them of the core: the simulator's seeds see {len(worlds)}, after {median} worlds at the median; {len(unseen)} are seen by nothing."
    if chosen.record:
        result += f" Of its own {len(own)} bugs the simulator sees {len(own) - len(missed)}."
        record(found, own, result)
    print(result)
    if unseen or missed:
        sys.exit(f"seen by nothing: {', '.join(unseen + missed)}")
    if not chosen.numbers and len(worlds) < SEEN_BY_SIMULATOR:
        sys.exit(f"the simulator is to see at least {SEEN_BY_SIMULATOR}")


if __name__ == "__main__":
    main()
