#!/bin/sh
# Deploys infra/main.bicep into a resource group and prints the agent's settings. Safe to repeat: what is there is
# brought in line with environments/NAME.json, and data is not touched.
#
# Not tried against Azure: where this was written there was no subscription and no Bicep compiler. Tried were: this
# script with a stand-in for `az` (tests/infra.rs), the templates' syntax and policies with checkov, and the container's
# key, index and time to live against the emulator. `--what-if` first is the way to find out about the rest.
set -eu

usage() {
    cat <<'END'
Usage: infra/deploy.sh --environment NAME --location REGION [--resource-group GROUP]
                       [--subscription ID] [--what-if]

  --environment NAME      takes infra/environments/NAME.json (dev, prod, or your own)
  --location REGION       such as westeurope
  --resource-group GROUP  made where it is missing (default: gitops-agent-NAME)
  --subscription ID       the Azure CLI's current one unless given
  --what-if               says what would change and changes nothing
  --help                  this text

Needs the Azure CLI, signed in with rights to deploy and to assign data-plane roles (Contributor is enough).
Exit codes: 0 done, 2 wrong usage, else what the Azure CLI returned.
END
}

fail() {
    printf 'deploy.sh: %s\n' "$*" >&2
    exit 2
}

folder=$(cd "$(dirname "$0")" && pwd)
environment='' location='' group='' subscription='' what_if=''
while [ $# -gt 0 ]; do
    case $1 in
    --environment | --location | --resource-group | --subscription)
        [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value"
        case $1 in
        --environment) environment=$2 ;;
        --location) location=$2 ;;
        --resource-group) group=$2 ;;
        --subscription) subscription=$2 ;;
        esac
        shift
        ;;
    --what-if) what_if=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail "$1 is no option; --help lists them" ;;
    esac
    shift
done
[ -n "$environment" ] || fail "--environment is missing; --help lists the options"
[ -n "$location" ] || fail "--location is missing; --help lists the options"
case $environment in
*[!a-z0-9-]*) fail "--environment takes small letters, digits and -" ;;
esac
parameters=$folder/environments/$environment.json
[ -f "$parameters" ] || fail "$parameters is missing; copy one of its neighbours"
group=${group:-gitops-agent-$environment}
command -v az >/dev/null || fail "the Azure CLI (az) is not on PATH"

# Every call names the subscription, so that another shell's `az account set` changes nothing half-way.
if [ -z "$subscription" ]; then
    subscription=$(az account show --query id --output tsv) || {
        code=$?
        printf 'deploy.sh: not signed in; run: az login\n' >&2
        exit "$code"
    }
fi

if [ -n "$what_if" ]; then
    if [ "$(az group exists --name "$group" --subscription "$subscription")" != true ]; then
        printf 'The resource group %s would be made in %s, and everything in infra/ in it.\n' "$group" "$location"
        exit 0
    fi
    exec az deployment group what-if --subscription "$subscription" --resource-group "$group" \
        --template-file "$folder/main.bicep" --parameters "@$parameters" \
        --parameters "environment=$environment" "location=$location"
fi

# Left alone where it is there: a group cannot move, and its tags are somebody's.
if [ "$(az group exists --name "$group" --subscription "$subscription")" != true ]; then
    az group create --name "$group" --location "$location" --subscription "$subscription" --output none
fi
# Incremental: what else is in the group stays.
az deployment group create --name gitops-agent --mode Incremental \
    --subscription "$subscription" --resource-group "$group" \
    --template-file "$folder/main.bicep" --parameters "@$parameters" \
    --parameters "environment=$environment" "location=$location" --output none

output() {
    az deployment group show --name gitops-agent --subscription "$subscription" --resource-group "$group" \
        --query "properties.outputs.$1.value" --output tsv
}
endpoint=$(output endpoint)
database=$(output database)
container=$(output container)
client=$(output identityClientId)

cat <<END

# config.toml of the agent (its place: gitops-agent config show)
tenant = "YOUR-TENANT"

[store]
endpoint = "$endpoint"
database = "$database"
container = "$container"

# or in the environment
export COSMOS_ENDPOINT=$endpoint COSMOS_DATABASE=$database COSMOS_CONTAINER=$container
END
if [ -n "$client" ]; then
    printf '\n# on machines with the managed identity\nexport AZURE_CLIENT_ID=%s\n' "$client"
fi
printf '\n# then\ngitops-agent store check\n'
