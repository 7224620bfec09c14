// Who may do what with the records. The agent's role has no delete: what it has written stays until its time to live
// ends, whoever takes over a machine that records. Roles of the data plane are no Azure roles: the portal's "Access
// control" page neither shows nor grants them.

param accountName string
param databaseName string
param writerPrincipalIds array
param readerPrincipalIds array

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' existing = {
  name: accountName
}

resource writer 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2024-11-15' = {
  parent: account
  name: guid(account.id, 'gitops-agent writer')
  properties: {
    roleName: 'gitops-agent writer'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [
      {
        dataActions: [
          'Microsoft.DocumentDB/databaseAccounts/readMetadata'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/create'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/read'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/replace'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/executeQuery'
        ]
      }
    ]
  }
}

resource reader 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2024-11-15' = {
  parent: account
  name: guid(account.id, 'gitops-agent reader')
  properties: {
    roleName: 'gitops-agent reader'
    type: 'CustomRole'
    assignableScopes: [account.id]
    permissions: [
      {
        dataActions: [
          'Microsoft.DocumentDB/databaseAccounts/readMetadata'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/read'
          'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/executeQuery'
        ]
      }
    ]
  }
}

// The names follow from scope, role and principal, so that repeating the deployment changes nothing.
resource writers 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2024-11-15' = [
  for principal in writerPrincipalIds: {
    parent: account
    name: guid(account.id, databaseName, writer.id, principal)
    properties: {
      roleDefinitionId: writer.id
      principalId: principal
      scope: '${account.id}/dbs/${databaseName}'
    }
  }
]

resource readers 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2024-11-15' = [
  for principal in readerPrincipalIds: {
    parent: account
    name: guid(account.id, databaseName, reader.id, principal)
    properties: {
      roleDefinitionId: reader.id
      principalId: principal
      scope: '${account.id}/dbs/${databaseName}'
    }
  }
]

@description('For `az cosmosdb sql role assignment create`.')
output writerRoleId string = writer.name
