#!/usr/bin/env python3
"""Rules of the house that no compiler checks. Run by tests/run.

    python3 tests/tidy.py               check the checkout; exit code 1 on a finding
    python3 tests/tidy.py --self-test   prove that every rule can fail

A rule is a function that yields (line, message) for one file; the list RULES
at the end says which exist. Standard library only, no network.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MAX_LINES = 500
WARN_LINES = 400
MAIN_LINES = 90  # about 60, and the text of --help

# Technology -> the only folders whose Rust code may spell it. The benchmarks measure the bare drivers beside us.
ROOMS = {
    "sqlx": ("crates/store/", "bench/"),
    "lapin": ("crates/queue/", "bench/"),
    "fred": ("crates/bus/",),
}
# Adapters are named where a process is put together, and nowhere else in it.
ADAPTERS = re.compile(r"\bflowfleet_(store|queue|bus|blob)\b")
SERVICES = ("dispatcher/src/", "worker/src/")

# Package -> packages of this workspace it may depend on (tests apart).
ADAPTER_PACKAGES = {"flowfleet-store", "flowfleet-queue", "flowfleet-bus", "flowfleet-blob"}
SERVICE_PACKAGES = {"flowfleet-core", "flowfleet-engine", "flowfleet-runtime"} | ADAPTER_PACKAGES
MAY_DEPEND = {
    "flowfleet-core": set(),
    "flowfleet-mock-model": set(),
    # Decisions are pure: they know nobody, and only what drives them knows them.
    "flowfleet-plan": set(),
    "flowfleet-simulate": {"flowfleet-plan"},
    **{name: {"flowfleet-core"} for name in ADAPTER_PACKAGES | {"flowfleet-engine", "flowfleet-runtime"}},
    "flowfleet-dispatcher": SERVICE_PACKAGES,
    "flowfleet-python": {"flowfleet-engine"},
    "flowfleet-worker": SERVICE_PACKAGES | {"flowfleet-python"},
}

VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "misc"}
# Spelled in pieces so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?<![\w./-])/" + r"(?:home|Users|root|work)/[\w.-]")
LEFTOVERS = re.compile(r"\b(todo|unimplemented|dbg)!\s*[(\[{]")
ALLOW = re.compile(r"#!?\[\s*(?:cfg_attr\(.*,\s*)?allow\s*\(")
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")


def code_of(line):
    """The line without a trailing or whole-line comment (string contents stay)."""
    return re.sub(r"(^|\s)//.*$", "", line)


def lines_of(text):
    return list(enumerate(text.split("\n"), 1))


def length(path, text):
    count = text.count("\n")
    if count > MAX_LINES:
        yield count, f"{count} lines; {MAX_LINES} at most: it is usually two ideas"
    if path.endswith("/main.rs") and path.startswith(SERVICES) and count > MAIN_LINES:
        yield count, f"a service's main.rs has {MAIN_LINES} lines at most: parse, build, run, drain"


def header(path, text):
    if not text.lstrip().startswith("//!"):
        yield 1, "does not open with `//!`: what the module is for, what it owns, what it leaves to others"


def allow(path, text):
    for number, line in lines_of(text):
        if ALLOW.search(code_of(line)):
            yield number, '`#[allow(...)]`: use `#[expect(lint, reason = "...")]`'


def leftovers(path, text):
    for number, line in lines_of(text):
        if found := LEFTOVERS.search(code_of(line)):
            yield number, f"`{found[1]}!` is left over"


def rooms(path, text):
    for name, room in ROOMS.items():
        if path.startswith(room):
            continue
        spelled = re.compile(rf"\b{name}::|\buse\s+{name}\b|\bextern\s+crate\s+{name}\b|#\[{name}\b")
        for number, line in lines_of(text):
            if spelled.search(code_of(line)):
                yield number, f"`{name}` is spelled only under {' and '.join(room)}"


def adapters(path, text):
    if not path.startswith(SERVICES) or path.endswith("/main.rs"):
        return
    for number, line in lines_of(text):
        if found := ADAPTERS.search(code_of(line)):
            yield number, f"`{found[0]}` is named only in main.rs: services are handed ports"


def vague_name(path, text):
    parts = Path(path).with_suffix("").parts
    if found := VAGUE_NAMES & set(parts):
        yield 1, f"a module called `{found.pop()}` collects anything: name it for what it does"


def machine_path(path, text):
    for number, line in lines_of(text):
        if found := MACHINE_PATHS.search(line):
            yield number, f"`{found[0]}...` exists on one machine only"


def links(path, text):
    for number, line in lines_of(text):
        for target in MARKDOWN_LINK.findall(line):
            if re.match(r"[a-z]+:|#", target):
                continue
            if not (Path(path).parent / target.split("#")[0]).exists():
                yield number, f"links to {target}, which is not there"


@functools.cache
def functions():
    """Every function in the checkout's Rust files."""
    text = "".join(Path(name).read_text(encoding="utf-8") for name in tracked() if name.endswith(".rs"))
    return set(re.findall(r"\bfn (\w+)", text))


def cited(path, text):
    """Tests that a document names: long names in backticks."""
    for number, line in lines_of(text):
        for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`", line):
            if name not in functions():
                yield number, f"names the test {name}, which is not there"


# Name -> (suffixes of the files it looks at, function).
RULES = {
    "length": ((".rs",), length),
    "header": ((".rs",), header),
    "allow": ((".rs",), allow),
    "leftovers": ((".rs",), leftovers),
    "rooms": ((".rs",), rooms),
    "adapters": ((".rs",), adapters),
    "vague name": ((".rs", ".py", ".sh"), vague_name),
    "machine path": ((".rs", ".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".json", "Dockerfile", "run", "justfile"), machine_path),
    "links": ((".md",), links),
    "cited": (("ARCHITECTURE.md",), cited),
}


def tracked():
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout
    return sorted({name for name in out.split("\0") if name and Path(name).is_file()})


def findings(names, rules=RULES):
    for name in names:
        wanted = [(rule, check) for rule, (suffixes, check) in rules.items() if name.endswith(suffixes)]
        if not wanted:
            continue
        text = Path(name).read_text(encoding="utf-8")
        for rule, check in wanted:
            for line, message in check(name, text):
                yield f"{name}:{line}: {message} ({rule})"


def wrong_dependencies(packages):
    """Arrows between our packages that point the wrong way."""
    ours = {package["name"] for package in packages}
    for package in packages:
        permitted = MAY_DEPEND.get(package["name"])
        if permitted is None:
            continue
        for dependency in package["dependencies"]:
            name = dependency["name"]
            if dependency["kind"] is None and name in ours and name not in permitted:
                yield f"{package['name']} may not depend on {name} (direction)"


def workspace_packages():
    out = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"],
        check=True, capture_output=True, text=True,
    ).stdout
    return json.loads(out)["packages"]


# Rule -> a file that must be found and one that must pass.
SAMPLES = {
    "length": ("dispatcher/src/main.rs", "//! Main.\n" + "\n" * MAIN_LINES, "//! Main.\n"),
    "header": ("crates/core/src/a.rs", "use std::fmt;\n", "//! What it is for.\n"),
    "allow": ("crates/core/src/a.rs", "#![" + "allow(unused)]\n", "// #[" + "allow(unused)] would be wrong\n"),
    "leftovers": ("crates/core/src/a.rs", "fn a() { to" + "do!() }\n", "// to" + "do!() is not code here\n"),
    "rooms": ("crates/core/src/a.rs", "use sqlx::Row;\n", "let sqlx_like = 1;\n"),
    "adapters": ("worker/src/a.rs", "flowfleet_store::open(url)\n", "flowfleet_core::port::Store\n"),
    "vague name": ("crates/core/src/utils.rs", "", None),
    "machine path": ("a.md", "see /" + "home/me/notes\n", "see docs/" + "home/me and ~/.cache\n"),
    "links": ("a.md", "[a](gone.md)\n", "[a](#here) [b](a.md)\n"),
    "cited": ("ARCHITECTURE.md", "`no_such_test_here`\n", "`lease_s` and `a_b_c_d` in a.rs\n"),
}


def self_test():
    subprocess.run(["git", "init", "-q"], check=True)
    Path("a.rs").write_text("//! A.\nfn a_b_c_d() {}\n", encoding="utf-8")
    missed = [rule for rule in RULES if rule not in SAMPLES]
    for rule, (name, bad, good) in SAMPLES.items():
        for text, expected in ((bad, True), (good, False)):
            if text is None:
                continue
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if any(findings([name], {rule: RULES[rule]})) is not expected:
                missed.append(f"{rule} ({'bad' if expected else 'good'} sample)")
    wrong = [{"name": "flowfleet-core", "dependencies": [{"name": "flowfleet-store", "kind": None}]},
             {"name": "flowfleet-store", "dependencies": [{"name": "flowfleet-core", "kind": None}]}]
    if len(list(wrong_dependencies(wrong))) != 1:
        missed.append("direction")
    return missed


def main():
    if sys.argv[1:] == ["--self-test"]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            missed = self_test()
            os.chdir("/")
        for rule in missed:
            print(f"tidy: the rule {rule} does not do what it says", file=sys.stderr)
        return 1 if missed else 0
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1] in ("-h", "--help") else 2

    names = tracked()
    found = [*findings(names), *wrong_dependencies(workspace_packages())]
    for name in names:
        if name.endswith(".rs") and WARN_LINES < (count := Path(name).read_text(encoding="utf-8").count("\n")) <= MAX_LINES:
            print(f"    note: {name} has {count} lines; about {WARN_LINES} is the aim")
    for line in found:
        print(line, file=sys.stderr)
    print(f"    {len(names)} files, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
