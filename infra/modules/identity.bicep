// A user-assigned managed identity for machines that record: build runners, a server with bare repositories.

param name string
param location string
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

@description('For the role assignment.')
output principalId string = identity.properties.principalId

@description('For AZURE_CLIENT_ID.')
output clientId string = identity.properties.clientId
