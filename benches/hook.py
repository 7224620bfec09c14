"""Times hook programs the way Git starts them; see hook.sh.

Each round makes one commit with hooks off, then runs each hook once in a rotating order, as Git would:
working folder, environment, standard streams. Medians over the rounds; a warm-up of ten rounds is dropped. The hook
that starts the worker is timed after the others, or its worker would run beside them.
"""

import fcntl
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

agent, rounds = sys.argv[1], int(sys.argv[2])
root = tempfile.mkdtemp(prefix="hook-bench-")
repo, home = os.path.join(root, "repo"), os.path.join(root, "home")
env = {
    "PATH": os.environ["PATH"],
    "HOME": root,
    "GITOPS_AGENT_HOME": home,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(*words):
    subprocess.run(["git", *words], cwd=repo, env=env, check=True, stdout=subprocess.DEVNULL)


def script(name, text):
    path = os.path.join(root, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return path


def main():
    os.makedirs(repo)
    git("init", "-q", "-b", "main")
    for number in range(200):
        folder = os.path.join(repo, f"src/module{number % 20}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file{number}.py"), "w") as file:
            file.write("".join(f"def function_{line}(value):\n    return value + {line}\n" for line in range(60)))
    git("add", "-A")
    git("commit", "-q", "-m", "Begin")

    link = os.path.join(root, "post-commit")
    os.symlink(agent, link)
    hooks = {
        "nothing (exit 0 in sh)": [script("none", "#!/bin/sh\nexit 0\n")],
        "git show --numstat in sh": [script("show", "#!/bin/sh\ngit show --numstat HEAD >/dev/null\n")],
        "git show --numstat, no shell": ["git", "show", "--numstat", "HEAD"],
        "gitops-agent": [link],
        "gitops-agent, worker included": [link],
    }
    times = {name: [] for name in hooks}
    alone = list(hooks)[:-1]
    # Another process holds the worker's lock: the hook sees a worker at work, and none runs beside what is timed.
    lock = hold(home)
    for round_number in range(rounds + 10):
        change(round_number)
        shift = round_number % len(alone)
        for name in alone[shift:] + alone[:shift]:
            elapsed = run(hooks[name])
            if round_number >= 10:
                times[name].append(elapsed)
    lock.close()
    # A fifth of the rounds: the worker of one round must have ended before the next.
    for round_number in range(rounds + 10, rounds + 10 + rounds // 5):
        change(round_number)
        times[list(hooks)[-1]].append(run(hooks[list(hooks)[-1]]))
        time.sleep(0.3)
        hold(home).close()
    base = statistics.median(times["git show --numstat in sh"])
    print(f"{'hook':34} {'median ms':>9} {'p90 ms':>9} {'ratio':>6}")
    for name, values in times.items():
        values.sort()
        median = statistics.median(values)
        print(f"{name:34} {median:9.2f} {values[int(len(values) * 0.9)]:9.2f} {median / base:6.2f}")


def change(number):
    """A commit that touches two files."""
    for file in (number % 200, (number * 7 + 3) % 200):
        path = os.path.join(repo, f"src/module{file % 20}/file{file}.py")
        with open(path, "a") as text:
            text.write(f"def added_{number}(value):\n    return audit(value, {number})\n")
    git("commit", "-q", "-a", "-m", f"Change {number}")


def run(hook):
    """Milliseconds."""
    hook_env = dict(env, GIT_INDEX_FILE=".git/index", GIT_PREFIX="")
    start = time.perf_counter_ns()
    subprocess.run(hook, cwd=repo, env=hook_env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter_ns() - start) / 1e6


def hold(home):
    """Waits for the worker's lock."""
    os.makedirs(home, mode=0o700, exist_ok=True)
    file = open(os.path.join(home, "worker.lock"), "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


try:
    main()
finally:
    shutil.rmtree(root, ignore_errors=True)
