"""Times hook programs the way Git starts them; see hook.sh.

Each round makes one commit with hooks off, then runs each hook once in a rotating order, as Git would:
working folder, environment, standard streams. Medians over the rounds; a warm-up of ten rounds is dropped.
"""

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
    lock = None
    for round_number in range(rounds + 10):
        for number in (round_number % 200, (round_number * 7 + 3) % 200):
            path = os.path.join(repo, f"src/module{number % 20}/file{number}.py")
            with open(path, "a") as file:
                file.write(f"def added_{round_number}(value):\n    return audit(value, {round_number})\n")
        git("commit", "-q", "-a", "-m", f"Change {round_number}")
        names = list(hooks)
        names = names[round_number % len(names):] + names[: round_number % len(names)]
        for name in names:
            hook_env = dict(env, GIT_INDEX_FILE=".git/index", GIT_PREFIX="")
            if name == "gitops-agent":
                # Another process holds the worker's lock: the hook sees a worker at work.
                lock = hold(home, lock)
            elif lock:
                lock = release(lock)
            # Each run must record something new, or only the first would write.
            if name.startswith("gitops-agent"):
                git("commit", "-q", "--amend", "-m", f"Change {round_number} for {name}")
            start = time.perf_counter_ns()
            subprocess.run(hooks[name], cwd=repo, env=hook_env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            if round_number >= 10:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
            if name.endswith("included"):
                time.sleep(0.08)
    base = statistics.median(times["git show --numstat in sh"])
    print(f"{'hook':34} {'median ms':>9} {'p90 ms':>9} {'ratio':>6}")
    for name, values in times.items():
        values.sort()
        median = statistics.median(values)
        print(f"{name:34} {median:9.2f} {values[int(len(values) * 0.9)]:9.2f} {median / base:6.2f}")


def hold(home, lock):
    import fcntl

    if lock:
        return lock
    os.makedirs(home, mode=0o700, exist_ok=True)
    file = open(os.path.join(home, "worker.lock"), "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def release(lock):
    lock.close()
    return None


try:
    main()
finally:
    time.sleep(0.5)
    shutil.rmtree(root, ignore_errors=True)
