#!/usr/bin/env python3
"""Reads a tenant's records back with another client: Microsoft's azure-cosmos for Python.

What gitops-agent has written must be there for a program that shares no line with it, in each of the three
ways in which records are read: by the whole key, by the tenant's part of the key, and by a query.

    python3 -m venv venv
    venv/bin/pip install azure-cosmos
    venv/bin/python tests/python/read_back.py ENDPOINT DATABASE CONTAINER TENANT

ENDPOINT is for instance the http://127.0.0.1:PORT that the emulator prints. The account key is taken from
COSMOS_KEY; without it, the public key of Microsoft's emulators is used.

Prints one JSON object and exits with 0 when the three ways agree, 1 when they do not, 2 when the store could
not be read:

    {"query": n, "prefix": n, "point": n, "agree": true,
     "container": {"partitionKey": …, "defaultTtl": 220924800, "indexingPolicy": …}, "days": {"2026-01-02": n, …}}

`query` counts what a query with a parameter for the tenant finds, `prefix` what all partitions below the
tenant hold, `point` how many of them a point read returned unchanged. `days` is the number for each date.
"""

import collections
import json
import os
import sys

EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="


def read_back(container, tenant):
    """Reads in the three ways and compares them."""
    properties = container.read()
    by_query = list(
        container.query_items(
            "SELECT * FROM c WHERE c.tenantId = @tenant ORDER BY c.timestamp DESC",
            parameters=[{"name": "@tenant", "value": tenant}],
            enable_cross_partition_query=True,
        )
    )
    # A part of a hierarchical key reaches every day of the tenant.
    by_prefix = list(container.query_items("SELECT * FROM c", partition_key=[tenant]))
    same = 0
    for found in by_prefix:
        read = container.read_item(found["id"], partition_key=[found["tenantId"], found["commitDate"]])
        same += read == found
    days = collections.Counter(record["commitDate"] for record in by_prefix)

    def identities(records):
        return sorted((record["commitDate"], record["id"], record.get("digest")) for record in records)

    return {
        "query": len(by_query),
        "prefix": len(by_prefix),
        "point": same,
        "agree": identities(by_query) == identities(by_prefix) and same == len(by_prefix),
        "container": {name: properties.get(name) for name in ("partitionKey", "defaultTtl", "indexingPolicy")},
        "days": dict(sorted(days.items())),
    }


def main(arguments):
    """The command line."""
    if len(arguments) != 4:
        print("usage: read_back.py ENDPOINT DATABASE CONTAINER TENANT", file=sys.stderr)
        return 2
    try:
        from azure.cosmos import CosmosClient
        from azure.cosmos.exceptions import CosmosHttpResponseError
        from azure.core.exceptions import AzureError
    except ImportError as error:
        print(f"read_back.py: {error}; install it with: pip install azure-cosmos", file=sys.stderr)
        return 2
    endpoint, database, container, tenant = arguments
    try:
        # Discovery off: a local emulator has one address, and the SDK is to stay with it.
        client = CosmosClient(
            endpoint,
            os.environ.get("COSMOS_KEY") or EMULATOR_KEY,
            enable_endpoint_discovery=False,
            retry_total=3,
        )
        result = read_back(client.get_database_client(database).get_container_client(container), tenant)
    except (CosmosHttpResponseError, AzureError) as error:
        print(f"read_back.py: {endpoint} {database}/{container}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0 if result["agree"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
