#!/usr/bin/env python3
"""Measures what all rule packs cost the hook.

Usage: benches/rules_cost.py AGENT AGENT_WITHOUT_RULES [ROUNDS] [--repo CLONE]

Both are release builds of one commit, the second made in a copy of the tree whose `rules/` holds `optional` and one pack
without rules. Each round makes one commit with hooks off and runs both as Git would, in turn, another process holding
the worker's lock. Compared is processor time (user and system), which a loaded machine disturbs less than the clock.

Without `--repo` the commits touch two files of a small repository and trip several rules; with it they are the last
ROUNDS of a clone (bare or not), checked out one after the other by moving a branch: real commits, large ones too.
"""

import argparse
import fcntl
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("agent")
parser.add_argument("without")
parser.add_argument("rounds", nargs="?", type=int, default=200)
parser.add_argument("--repo")
arguments = parser.parse_args()
root = Path(tempfile.mkdtemp(prefix="rules-cost-"))
environment = {
    "PATH": os.environ["PATH"],
    "HOME": str(root),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GITOPS_AGENT_CLASS": "ehr",
    **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
repo = root / "repo"


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repo, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def commits():
    """Makes one commit after the other HEAD."""
    if arguments.repo:
        subprocess.run(["git", "clone", "-q", "-s", "-n", arguments.repo, str(repo)], check=True, env=environment)
        ids = git("rev-list", "--no-merges", f"--max-count={arguments.rounds}", "HEAD").split()
        for commit in reversed(ids):
            git("update-ref", "--no-deref", "HEAD", commit)
            yield
        return
    (repo / "src").mkdir(parents=True)
    git("init", "-q", "-b", "main")
    for number in range(200):
        lines = "".join(f"def function_{line}(value):\n    return value + {line}\n" for line in range(60))
        (repo / f"src/file{number}.py").write_text(lines)
    git("add", "-A")
    git("commit", "-q", "-m", "Begin")
    for number in range(arguments.rounds):
        for file in (number % 200, (number * 7 + 3) % 200):
            with open(repo / f"src/file{file}.py", "a") as text:
                text.write(f"def added_{number}(value):\n    return audit(value, {number})\n")
        git("commit", "-q", "-a", "-m", f"Change {number}")
        yield


def run(name: str) -> float:
    """Milliseconds of processor time of one hook."""
    home = root / name
    child = os.posix_spawn(
        str(root / name / "post-commit"),
        ["post-commit"],
        {**environment, "GITOPS_AGENT_HOME": str(home), "GIT_DIR": git_dir, "GIT_INDEX_FILE": f"{git_dir}/index"},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return (usage.ru_utime + usage.ru_stime) * 1000


times: dict[str, list[float]] = {"all packs": [], "no rules": []}
locks = []
for name, agent in zip(times, (arguments.agent, arguments.without)):
    (root / name).mkdir(mode=0o700)
    os.symlink(os.path.abspath(agent), root / name / "post-commit")
    locks.append(open(root / name / "worker.lock", "a"))
    fcntl.flock(locks[-1], fcntl.LOCK_EX)
try:
    for number, _ in enumerate(commits()):
        git_dir = str(repo / ".git")
        os.chdir(repo)
        order = list(times) if number % 2 else list(times)[::-1]
        for name in order:
            times[name].append(run(name))
    base = statistics.median(times["no rules"])
    print(f"{len(times['no rules'])} commits; processor time of a hook, ms")
    for name, values in times.items():
        values = sorted(values)
        ninetieth = values[int(len(values) * 0.9)]
        print(f"{name:10} median {statistics.median(values):6.2f}  mean {statistics.mean(values):6.2f}  p90 {ninetieth:6.2f}")
    more = sorted(one - other for one, other in zip(times["all packs"], times["no rules"]))
    print(f"difference median {statistics.median(more):.2f} ms, ratio of the medians {statistics.median(times['all packs']) / base:.2f}")
finally:
    os.chdir("/")
    shutil.rmtree(root, ignore_errors=True)
