"""Delivers one day's commits to a throttled emulator; see throttle.sh."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

agent, emulator, provisioned, commits = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
# The public key of Microsoft's emulators, which is no secret.
KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
root = tempfile.mkdtemp(prefix="throttle-bench-")
repo = os.path.join(root, "repo")


def history():
    """One commit every two seconds from midnight on, so that all have the same date."""
    stream = []
    for number in range(commits):
        message = f"Change {number}\n"
        content = "".join(f"value_{line} = {line * number}\n" for line in range(number % 40))
        stream.append(
            f"commit refs/heads/main\ncommitter A B <a@b.example> {1700006400 + 2 * number} +0000\n"
            f"data {len(message)}\n{message}M 644 inline src/module{number % 7}.py\ndata {len(content)}\n{content}\n"
        )
    subprocess.run(["git", "init", "-q", "-b", "main", repo], check=True)
    subprocess.run(["git", "-C", repo, "fast-import", "--quiet"], input="".join(stream), text=True, check=True)


def main():
    history()
    server = subprocess.Popen(
        [emulator, "--port", "0", "--throughput", str(provisioned)], stdout=subprocess.PIPE, text=True
    )
    try:
        endpoint = server.stdout.readline().split()[1]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": root,
            "GITOPS_AGENT_HOME": os.path.join(root, "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "COSMOS_ENDPOINT": endpoint,
            "COSMOS_KEY": KEY,
            "GITOPS_AGENT_TENANT": "bench",
        }

        def run(*words):
            return subprocess.check_output([agent, *words], cwd=repo, env=env, text=True)

        run("store", "init")
        run("-q", "backfill", "--no-flush")
        start = time.perf_counter()
        report = json.loads(run("flush", "--json"))
        seconds = time.perf_counter() - start
        assert report["delivered"] == commits, report
    finally:
        server.kill()
        server.wait()
    budget = provisioned / 4
    used = report["requestUnits"] / seconds / budget
    refused = report["throttled"] / (report["delivered"] + report["throttled"])
    print(f"records, all of one partition    {commits:8}")
    print(f"its request units a second       {budget:8.0f}")
    print(f"seconds                          {seconds:8.1f}")
    print(f"request units used               {report['requestUnits']:8.0f}   {used:6.1%} of what was provisioned")
    print(f"answered with 429                {report['throttled']:8}   {refused:6.1%} of all requests")
    return 0 if used >= 0.9 and refused <= 0.02 else 1


try:
    sys.exit(main())
finally:
    shutil.rmtree(root, ignore_errors=True)
