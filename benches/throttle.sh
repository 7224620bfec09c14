#!/usr/bin/env bash
# One backfill alone against the emulator, all of it in one partition: how much of the provisioned request
# units it uses, and how many of its requests are answered with 429.
#
#   benches/throttle.sh [RU_PER_SECOND] [COMMITS]     (default 4000, 4000)
#
# The emulator shares a container's units out to four physical partitions, so one tenant and day has a quarter.
# Ends with 1 where less than 90 % is used or more than 2 % of the requests are refused.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
profile=${GITOPS_AGENT_PROFILE:-release}
agent=${GITOPS_AGENT_BINARY:-$here/target/$profile/gitops-agent}
emulator=$here/target/$profile/cosmos-emulator
for binary in "$agent" "$emulator"; do
  [[ -x $binary ]] || { echo "build first: cargo build --release --workspace" >&2; exit 2; }
done
exec python3 "$here/benches/throttle.py" "$agent" "$emulator" "${1:-4000}" "${2:-4000}"
