"""Times backfill against `git log -p -U0 --no-renames`, interleaved; see backfill.sh."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

agent, repo, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
root = tempfile.mkdtemp(prefix="backfill-bench-")
env = {"PATH": os.environ["PATH"], "HOME": root, "GIT_CONFIG_NOSYSTEM": "1"}


def run(words, **extra):
    """Seconds and peak resident bytes of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(words, cwd=repo, env=dict(env, **extra), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{words} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def main():
    commits = subprocess.check_output(["git", "rev-list", "--count", "HEAD"], cwd=repo, env=env, text=True).strip()
    git_times, agent_times, peak = [], [], 0
    for number in range(rounds + 1):
        git_time, _ = run(["git", "log", "-p", "-U0", "--no-renames", "HEAD"])
        home = os.path.join(root, f"home{number}")
        agent_time, memory = run([agent, "backfill", "--no-flush", "HEAD"], GITOPS_AGENT_HOME=home)
        shutil.rmtree(home)
        if number:  # the first round warms the page cache
            git_times.append(git_time)
            agent_times.append(agent_time)
            peak = max(peak, memory)
    git_median, agent_median = statistics.median(git_times), statistics.median(agent_times)
    print(f"commits                              {commits}")
    print(f"git log -p -U0 --no-renames          {git_median:8.2f} s")
    print(f"gitops-agent backfill --no-flush     {agent_median:8.2f} s   peak {peak / 1e6:.0f} MB")
    print(f"ratio                                {agent_median / git_median:8.2f}")


try:
    main()
finally:
    shutil.rmtree(root, ignore_errors=True)
