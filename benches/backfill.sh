#!/usr/bin/env bash
# Backfill beside `git log -p`: reads a history with all rules and writes every record durably into the
# outbox (`--no-flush`), against one `git log -p -U0 --no-renames` over the same commits, in one run.
#
#   benches/backfill.sh REPOSITORY [ROUNDS]     (default 5)
#
# Prints the medians, their ratio, and the largest resident memory of the agent.
set -euo pipefail
repo=$(cd "${1:?the folder of a repository}" && pwd)
rounds=${2:-5}
here=$(cd "$(dirname "$0")/.." && pwd)
agent=${GITOPS_AGENT_BINARY:-$here/target/release/gitops-agent}
[[ -x $agent ]] || { echo "build first: cargo build --release -p gitops-agent" >&2; exit 2; }
exec python3 "$here/benches/backfill.py" "$agent" "$repo" "$rounds"
