"""Moves a history from the local store to the emulator and back and compares; see move.sh."""

import collections
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

agent, emulator, repo = sys.argv[1:4]
root = tempfile.mkdtemp(prefix="move-bench-")
clone = os.path.join(root, "clone")
KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
env = {
    "PATH": os.environ["PATH"],
    "HOME": root,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GITOPS_AGENT_HOME": os.path.join(root, "home"),
    "GITOPS_AGENT_TENANT": "move",
    "COSMOS_KEY": KEY,
    # The emulator goes through all documents for each page; the SDK's 6 s are for a service that has an index.
    "AZURE_COSMOS_CONNECTION_POOL_MAX_DATAPLANE_REQUEST_TIMEOUT_MS": "60000",
}


def run(what, words, records=0, store="local", **extra):
    """Runs the agent and says how long it took and how much memory at most."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [agent, *words], cwd=clone, env=dict(env, GITOPS_AGENT_STORE=store, **extra), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{what} ended with {process.returncode}")
    seconds = time.perf_counter() - start
    rate = f"{records / seconds:8.0f} records/s" if records else " " * 18
    print(f"{what:38} {seconds:7.2f} s {rate}   peak {usage.ru_maxrss / 1024:.0f} MB", flush=True)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same(one, other):
    if digest(one) != digest(other):
        sys.exit(f"{one} and {other} differ")


def filters(path):
    """Each filter with values that some records have; those that most and those that few have."""
    values = collections.defaultdict(collections.Counter)
    with open(path, encoding="utf-8") as file:
        for record in map(json.loads, file):
            day = record["commitDate"]
            values["since"][day] += 1
            values["commit"][record["id"]] += 1
            values["level"][record["riskLevel"]] += 1
            values["min-risk"][str(record["riskScore"])] += 1
            values["author"][record["author"]["email"]] += 1
            values["repository"][record["repository"]["name"]] += 1
            values["tag"].update(record["compliance"])
            for finding in record["findings"]:
                values["rule"][finding["rule"]] += 1
                values["citation"].update(finding["citations"])
            for changed in record["filesChanged"]:
                values["path"][changed["path"]] += 1
                values["path"][changed["path"].split("/")[0] + "/"] += 1
    days = sorted(values["since"])
    third = len(days) // 3
    for name, counter in sorted(values.items()):
        common = [value for value, _ in counter.most_common()]
        for value in dict.fromkeys([common[0], common[len(common) // 2], common[-1]]):
            yield [f"--{name}={value}"]
    yield [f"--until={days[third]}"]
    yield [f"--since={days[third]}", f"--until={days[third]}"]
    yield [f"--since={days[third]}", f"--until={days[2 * third]}", "--level=high"]
    yield [f"--commit={next(iter(values['commit']))[:8]}"]
    yield [f"--tag={tag}" for tag in values["tag"]]
    yield ["--limit=100"]
    yield [f"--since={days[2 * third]}", "--min-risk=0.3", "--limit=10"]
    yield []


def answer(words, store):
    words = [agent, "query", "--format", "ndjson", *words]
    return subprocess.check_output(words, cwd=clone, env=dict(env, GITOPS_AGENT_STORE=store))


def main():
    subprocess.run(["git", "clone", "-q", "--shared", repo, clone], env=env, check=True)
    serving = subprocess.Popen([emulator, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        env["COSMOS_ENDPOINT"] = serving.stdout.readline().removeprefix("ready ").strip()
        move()
    finally:
        serving.kill()
        serving.wait()


def move():
    local, cosmos, back = (os.path.join(root, f"{name}.ndjson") for name in ("local", "cosmos", "back"))
    audit = {"GITOPS_AGENT_HOME": os.path.join(root, "audit")}
    run("store init", ["-q", "store", "init"], store="cosmos")
    run("backfill into the local store", ["-q", "backfill"])
    run("export from the local store", ["-q", "export", "--output", local])
    with open(local, "rb") as file:
        count = sum(1 for _ in file)
    print(f"{count} records, {os.path.getsize(local) / 1e6:.1f} MB, SHA-256 {digest(local)}")
    run("import into the emulator", ["import", local], count, "cosmos")
    run("the same once more", ["import", local], count, "cosmos")
    run("export from the emulator", ["-q", "export", "--output", cosmos], count, "cosmos")
    same(local, cosmos)
    run("import into an empty local store", ["import", cosmos], count, **audit)
    run("export from there", ["-q", "export", "--output", back], count, **audit)
    same(local, back)
    print("three exports, the same bytes")
    asked, found = 0, 0
    for words in filters(local):
        ours, theirs = answer(words, "local"), answer(words, "cosmos")
        if ours != theirs:
            sys.exit(f"query {words}: the stores differ")
        asked, found = asked + 1, found + ours.count(b"\n")
    print(f"{asked} queries, {found} records, the same from both stores")


try:
    main()
finally:
    shutil.rmtree(root, ignore_errors=True)
