#!/usr/bin/env bash
# What the hook costs beside asking Git what changed: `git commit` in one repository with our hook, with a
# shell hook that runs `git show --numstat HEAD`, and with none, in one run, interleaved.
#
#   benches/hook.sh [ROUNDS]     (default 200)
#
# Prints the median of each and the ratio of what the hooks add. The record is durable in the outbox when
# the hook returns; the worker that delivers it is kept from running, so that it does not disturb its
# neighbours (its start is part of what is measured in the second table).
set -euo pipefail
rounds=${1:-200}
here=$(cd "$(dirname "$0")/.." && pwd)
agent=${GITOPS_AGENT_BINARY:-$here/target/release/gitops-agent}
[[ -x $agent ]] || { echo "build first: cargo build --release -p gitops-agent" >&2; exit 2; }
exec python3 "$here/benches/hook.py" "$agent" "$rounds"
