#!/usr/bin/env bash
# Whole histories into the local store and into the emulator: a backfill that is killed after 1.2 s, the same again,
# once more, and `verify`.
#
#   benches/whole.sh REPOSITORY…
#
# Prints for each what `git rev-list --count HEAD` says, what the second and the third backfill say, and what `verify`
# says of the store. Ends with 1 where `verify` does not agree.
set -euo pipefail
[[ $# -gt 0 ]] || { echo "usage: benches/whole.sh REPOSITORY…" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
agent=${GITOPS_AGENT_BINARY:-$here/target/release/gitops-agent}
emulator=${COSMOS_EMULATOR_BINARY:-$here/target/release/cosmos-emulator}
for binary in "$agent" "$emulator"; do
  [[ -x $binary ]] || { echo "build first: cargo build --release -p gitops-agent, and then -p cosmos-emulator" >&2; exit 2; }
done
root=$(mktemp -d)
served=
stop() { [[ -z $served ]] || kill "$served"; served=; }
trap 'stop; rm -rf "$root"' EXIT
export HOME=$root GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
# Every emulator takes this key (learn.microsoft.com, "Azure Cosmos DB emulator").
key=C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==
failed=0
for repository in "$@"; do
  clone=$root/$(basename "$(dirname "$repository")")-$(basename "$repository")
  git clone --quiet --shared --no-checkout "$repository" "$clone"
  for store in local emulator; do
    export GITOPS_AGENT_HOME=$clone-$store
    unset COSMOS_ENDPOINT COSMOS_KEY GITOPS_AGENT_TENANT
    if [[ $store = emulator ]]; then
      # Or the address of the one before might be read.
      rm -f "$root/ready"
      "$emulator" --port 0 >"$root/ready" & served=$!
      until [[ -e $root/ready ]]; do sleep 0.1; done
      until grep -q ready "$root/ready"; do sleep 0.1; done
      COSMOS_ENDPOINT=$(sed 's/ready //' "$root/ready")
      export COSMOS_ENDPOINT COSMOS_KEY=$key GITOPS_AGENT_TENANT=whole
      "$agent" store init >/dev/null
    fi
    echo "$repository, $store: $(git -C "$clone" rev-list --count HEAD) commits"
    { timeout --signal=KILL 1.2 "$agent" backfill --quiet --repo "$clone" >/dev/null 2>&1; } 2>/dev/null || echo "  killed"
    for round in second third; do
      echo "  $round: $("$agent" backfill --repo "$clone" 2>/dev/null | tr '\n' ';')"
    done
    said=$("$agent" verify --repo "$clone" 2>&1) || failed=1
    echo "  verify: ${said##*$'\n'}"
    stop
  done
done
exit "$failed"
