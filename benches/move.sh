#!/usr/bin/env bash
# A public history from the local store into the emulator and back: recorded, exported, imported, exported from there,
# imported into an empty local store; every byte compared, and every filter of `query` asked of both stores.
#
#   benches/move.sh REPOSITORY
#
# Prints seconds, records a second and the largest resident memory. Ends with 1 at the first difference.
set -euo pipefail
repo=$(cd "${1:?the folder of a repository, bare or not}" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
profile=${GITOPS_AGENT_PROFILE:-release}
agent=${GITOPS_AGENT_BINARY:-$here/target/$profile/gitops-agent}
emulator=${COSMOS_EMULATOR_BINARY:-$here/target/$profile/cosmos-emulator}
for binary in "$agent" "$emulator"; do
  [[ -x $binary ]] || { echo "build first: cargo build --release --workspace" >&2; exit 2; }
done
exec python3 "$here/benches/move.py" "$agent" "$emulator" "$repo"
