// Database and container. Key, time to live and index are in container.json, which the agent has built in as well:
// `store init` makes the same container, and a test compares the two.

param accountName string
param databaseName string
param containerName string
param serverless bool
param maxThroughput int

var shape = loadJsonContent('../container.json')

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' existing = {
  name: accountName
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2024-11-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: {
      id: databaseName
    }
  }
}

resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2024-11-15' = {
  parent: database
  name: containerName
  properties: {
    resource: {
      id: containerName
      partitionKey: shape.partitionKey
      defaultTtl: shape.defaultTtl
      indexingPolicy: shape.indexingPolicy
    }
    options: serverless ? {} : {
      autoscaleSettings: {
        maxThroughput: maxThroughput
      }
    }
  }
}

@description('Known once the container is there.')
output databaseName string = database.name

output containerName string = container.name
