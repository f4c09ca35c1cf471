#!/usr/bin/env python3
"""Makes components.tsv: the sha256 of every released version of the components that have a native implementation.

The native engine stands in for a node only if it knows the node's code, byte for byte. This script downloads the
released wheels of lfx, langflow-base (its starter flows carry code too) and lfx-openai with pip, finds the code of the
components in them, and writes one line for each version of the code that was reviewed.

A version is listed only if a flow cannot tell it from the native component. So nothing new is listed by itself: code
that is neither in components.tsv nor left out below is reported with the version it is closest to, and is added with
--accept SHA256 after somebody has compared the two (--show prints a diff). Python 3.9+, standard library only.

  python3 generate.py                     check and rewrite the list for the releases on PyPI
  python3 generate.py --show SHA256       how this code differs from the closest listed version
  python3 generate.py --accept SHA256     list it
"""

import argparse
import ast
import difflib
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

LIST = pathlib.Path(__file__).with_name("components.tsv")

# Class of the component -> kind of the engine.
KINDS = {
    "ChatInput": "ChatInput",
    "ChatOutput": "ChatOutput",
    "TextInputComponent": "TextInput",
    "TextOutputComponent": "TextOutput",
    "PromptComponent": "Prompt",
    "LanguageModelComponent": "LanguageModel",
    "OpenAIModelComponent": "OpenAiModel",
    "ParserComponent": "Parser",
    "ConditionalRouterComponent": "ConditionalRouter",
    "AgentComponent": "Agent",
    "CalculatorComponent": "Calculator",
    "CurrentDateComponent": "CurrentDate",
    "WebhookComponent": "Webhook",
    "FileComponent": "File",
    "SplitTextComponent": "SplitText",
    "CombineTextComponent": "CombineText",
    "TypeConverterComponent": "TypeConverter",
    "SaveToFileComponent": "SaveToFile",
    "StructuredOutputComponent": "StructuredOutput",
    "BatchRunComponent": "BatchRun",
    "URLComponent": "Url",
    "WebSearchComponent": "WebSearch",
    "MemoryComponent": "MessageHistory",
    "MemoryBaseComponent": "MemoryBase",
    "LoopComponent": "Loop",
    "ArXivComponent": "ArXiv",
    "KnowledgeComponent": "Knowledge",
    "KnowledgeIngestionComponent": "KnowledgeIngestion",
    "KnowledgeBaseComponent": "KnowledgeBase",
    "APIRequestComponent": "ApiRequest",
    "DataOperationsComponent": "DataOperations",
}

# Versions that are a kind of their own.
VARIANTS = {
    # {current_date} is a time, to the second.
    "14306d4a9373": "TimedAgent",
    # A table that is the only input is not cleaned.
    "8c87e536cca4": "EarlyChatOutput",
    "84009527d08c": "EarlyChatOutput",
    # "End" keeps the separator at the start.
    "859adebdf672": "EarlySplitText",
    "29ae597d2d86": "EarlySplitText",
    # Append or Update and Combine give keys to data by name.
    "92f9d0b781ef": "EarlyDataOperations",
    "4ad7dbc5a8b8": "EarlyDataOperations",
    "3f0652c61376": "EarlyDataOperations",
    "1e5bfda1706b": "EarlyDataOperations",
    # Redirects take credentials to other ports, or are followed by httpx itself.
    "f102aadfb328": "EarlyApiRequest",
    "2af407885294": "EarlyApiRequest",
    "4f329dec9a39": "EarlyApiRequest",
    "1a052ebb9519": "EarlyApiRequest",
}

# First release that is looked at: Langflow 1.8.
FIRST = {"lfx": (0, 3, 0), "langflow-base": (0, 8, 0), "lfx-openai": (0, 1, 0)}

# Versions that a flow can tell from the native component.
LEFT_OUT = {
    # If-Else of lfx 0.3 and 0.4: with an empty "Case True" or "Case False" it passes on empty text, not the input.
    "e92b1b243e5f": "an empty case message is passed on instead of the input",
    # Parser in the starter flows of Langflow 1.8: Stringify prints data as one line of plain JSON, and a key that is
    # missing fails the run.
    "3a7765108a7f": "Stringify prints one line, a missing key fails",
    # Agent of lfx 0.3 and 0.4: built on another library, which words its prompts and limits otherwise.
    "108da32d83f1": "another agent loop",
    "40d1976f4718": "another agent loop",
    "154c71cf7441": "another agent loop",
    "3c0fdab9e061": "another agent loop",
    # Agent of lfx 1.10 to 1.12.3: {current_date} is a time, to the second, and long conversations fail.
    "d08c17dbf863": "the time stands in the instructions, long conversations fail",
    "b609bb446885": "the time stands in the instructions, long conversations fail",
    "fd007e4b71a0": "the time stands in the instructions, long conversations fail",
    "e3c6d36a2020": "the time stands in the instructions, long conversations fail",
    "d7994f67e4fa": "the time stands in the instructions, long conversations fail",
    "52a387b4d967": "the time stands in the instructions, long conversations fail",
    # Batch Run of lfx 0.3: the model's class comes from what the editor stored, and without it the run fails.
    "8b1ec3b03475": "fails without the model's metadata",
    # Write File before lfx 1.10.2: names with folders are written too.
    "6d0e4842271e": "writes into folders",
    "075c3772b3de": "writes into folders",
    "837120b2e497": "writes into folders",
    # Another Split Text, of long ago: takes lists, gives a list.
    "8bf0c56a5e7e": "another component",
    "9e0311c09f2f": "another component",
    # Message History before lfx 1.10: with an order of "Descending" it gives the oldest messages, not the newest.
    "efd064ef48ff": "the oldest messages, not the newest, in descending order",
    "7608453efb4e": "the oldest messages, not the newest, in descending order",
    # Loop before lfx 1.10.1: goes around the cycle itself, so that its body runs in the flow, not in turns of its own.
    "e516ea99611c9898": "goes around the cycle",
    "0b08e58a5c70b4f6": "goes around the cycle",
    # Calculator before lfx 0.4.3: another word for numbers it does not know.
    "acbe2603b034": "other errors",
    "37caa1aba62c": "other errors",
}

# Differences that were seen and found not to matter, for the next reader:
# - ChatInput 7a26c54d89ed: does not check where files lie. Files are references here and not opened.
# - ChatOutput 8c87e536cca4, 84009527d08c: older ones set no token usage.
# - Parser 3cda25c3f7b5, cda7b997a730: refuse a list of data and fail on a table in Stringify. Here both give text.
# - URLComponent before lfx 1.13: no limits on the size of pages.
# - Prompt 17f7347639ab, 5b3e6730923e: only logging, and whether a field that no template names is shown.
# - LanguageModel: only what the editor shows, defaults of other providers, and the override fields, which the exports
#   of older versions do not have.
# - FileComponent, all before 196bbc1a65f8: no field Text Encoding (as if it were empty), how documents are converted,
#   cancelled and fetched from other storages (all of that is refused here). Which encoding a file had, as a column and as
#   metadata, comes from the library beside the component since lfx 1.12; it is always there.
# - StructuredOutputComponent 058ca1f51e9f, 6df6b4102fcf: how calls are traced and remedied. An answer of another shape is
#   corrected here in other words.
# - SaveToFileComponent 22345a32005b, e919fa367ee8, 372172f6939b, c6c0bbb3a1f0, 06768dd5465c: other storages and folders of users.
# - TypeConverterComponent be7797f8df1c, 6ce26e994c2d: fail on a plain dictionary, which no edge carries.
# - Message History: whose messages are read. Those of other flows and owners are out of reach here anyway.
# - Memory Base: where the vectors lie. There are none here: all versions fail before they look.
# - ArXivComponent before 9475ee946974: waits for arXiv without a limit.
# - APIRequestComponent 941f801d5a8c, 71438e194131: how hosts in other scripts are pinned; an answer that is neither JSON nor
#   UTF-8 failed before lfx 1.12. f102aadfb328, 2af407885294 only warn of private addresses, for which the engine has its
#   own guard.
# - DataOperationsComponent 3f0652c61376, 1e5bfda1706b: another operation, which goes to Python; 1e5bfda1706b fails where jq is not
#   installed.
# - LoopComponent 2712a1de7210: the library beside it gave the item to one branch only before lfx 1.12; here to all.
# - OpenAiModel: how the key is unwrapped, the words of errors, usage of streamed answers, and the guards on custom
#   endpoints, for which the engine has its own.


def version_of(text):
    """A release as a tuple; None for what is not a plain release."""
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+)*", text) else None


def releases(package):
    """The package's releases from FIRST on, oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", "--disable-pip-version-check", package]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Available versions: (.*)", output)
    versions = [version_of(text.strip()) for text in found.group(1).split(",")] if found else []
    return sorted(v for v in versions if v and v >= FIRST[package])


def wheel(package, version, folder):
    """The wheel's path; downloaded unless it is there."""
    number = ".".join(map(str, version))
    stem = f"{package.replace('-', '_')}-{number}-"
    for path in folder.glob(f"{stem}*.whl"):
        return path
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), f"{package}=={number}"], check=True)
    return next(folder.glob(f"{stem}*.whl"))


def nodes_of(flow):
    """All nodes of a flow, those inside groups too."""
    waiting = list(flow.get("data", {}).get("nodes", []))
    while waiting:
        node = waiting.pop().get("data", {}).get("node") or {}
        yield node
        waiting.extend((node.get("flow") or {}).get("data", {}).get("nodes", []))


def codes_in(path):
    """Every piece of component code in a wheel."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if re.search(r"/components/.*\.py$", name):
                yield archive.read(name).decode()
            elif name.endswith("component_index.json"):
                for _, components in json.loads(archive.read(name))["entries"]:
                    for component in components.values():
                        yield component.get("template", {}).get("code", {}).get("value")
            elif "/starter_projects/" in name and name.endswith(".json"):
                for node in nodes_of(json.loads(archive.read(name))):
                    code = node.get("template", {}).get("code")
                    yield code.get("value") if isinstance(code, dict) else None


def component_class(code):
    """The class in this code that is one of ours."""
    if not any(name in code for name in KINDS):
        return None
    try:
        classes = [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    except SyntaxError:
        return None
    return next((name for name in classes if name in KINDS), None)


def scan(folder):
    """{sha256: (class, code, {package: {versions}})} and the releases that were looked at."""
    found, looked_at = {}, {}
    for package in FIRST:
        looked_at[package] = releases(package)
        for version in looked_at[package]:
            for code in codes_in(wheel(package, version, folder)):
                name = component_class(code) if isinstance(code, str) else None
                if name:
                    digest = hashlib.sha256(code.encode()).hexdigest()
                    entry = found.setdefault(digest, (name, code, {}))
                    entry[2].setdefault(package, set()).add(version)
    return found, looked_at


def spans(versions, all_versions):
    """Releases in order, neighbours joined: 0.3.0-0.3.4."""
    parts, run = [], []
    for version in [*all_versions, None]:
        if version in versions:
            run.append(".".join(map(str, version)))
        elif run:
            parts.append(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
    return " ".join(parts)


def listed():
    """The sha256s of the list as it is."""
    if not LIST.exists():
        return set()
    return {line.split("\t")[0] for line in LIST.read_text().splitlines() if line and not line.startswith("#")}


def closest(digest, found, among):
    """The listed version of the same component that is most like this one."""
    name, code, _ = found[digest]
    same = [other for other in among if other in found and found[other][0] == name and other != digest]
    return max(same, key=lambda other: difflib.SequenceMatcher(None, code, found[other][1]).ratio(), default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "flowfleet" / "releases"
    parser.add_argument("--wheels", type=pathlib.Path, default=cache, help="folder for wheels (%(default)s)")
    parser.add_argument("--accept", metavar="SHA256", action="append", default=[], help="list this code from now on")
    parser.add_argument("--show", metavar="SHA256", help="print how this code differs, and change nothing")
    arguments = parser.parse_args()
    arguments.wheels.mkdir(parents=True, exist_ok=True)
    found, looked_at = scan(arguments.wheels)
    known = listed()

    def full(prefix):
        matches = [digest for digest in found if digest.startswith(prefix)]
        if len(prefix) < 8 or len(matches) != 1:
            sys.exit(f"{prefix}: {len(matches)} versions of code begin so; write at least 8 digits of one")
        return matches[0]

    if arguments.show:
        digest = full(arguments.show)
        other = closest(digest, found, known)
        before = found[other][1].splitlines() if other else []
        lines = difflib.unified_diff(before, found[digest][1].splitlines(), other or "nothing", digest, lineterm="")
        print("\n".join(lines))
        return
    accepted = known | {full(prefix) for prefix in arguments.accept}
    out = {digest for digest in found if any(digest.startswith(prefix) for prefix in LEFT_OUT)}

    def kind(digest):
        return next((variant for prefix, variant in VARIANTS.items() if digest.startswith(prefix)), KINDS[found[digest][0]])

    order = lambda digest: (kind(digest), max(max(v) for v in found[digest][2].values()), digest)
    rows = []
    for digest in sorted((accepted & set(found)) - out, key=order):
        name, _, packages = found[digest]
        where = ", ".join(f"{p} {spans(packages[p], looked_at[p])}" for p in FIRST if p in packages)
        rows.append(f"{digest}\t{kind(digest)}\t{name}\t{where}")
    newest = ", ".join(f"{package} {'.'.join(map(str, versions[-1]))}" for package, versions in looked_at.items())
    head = [
        "# Code of components that the native engine stands in for. Made by generate.py; see there before editing.",
        f"# Releases up to {newest}.",
        "# sha256\tkind\tclass\treleases",
    ]
    LIST.write_text("\n".join([*head, *rows]) + "\n")
    print(f"{LIST.name}: {len(rows)} versions of {len(set(row.split(chr(9))[1] for row in rows))} components")
    for digest in sorted(known - set(found)):
        print(f"dropped, in no release: {digest}")
    for digest in sorted(set(found) - accepted - out, key=order):
        name, _, packages = found[digest]
        other = closest(digest, found, accepted)
        where = ", ".join(f"{p} {spans(packages[p], looked_at[p])}" for p in FIRST if p in packages)
        print(f"not listed: {digest[:16]} {name} ({where}); closest {other[:12] if other else 'none'}")


if __name__ == "__main__":
    main()
