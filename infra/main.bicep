// Everything that gitops-agent needs in one resource group: an Azure Cosmos DB account with the container for
// the records, who may write and read them, where the account can be reached from, logs and alerts.
//
// Deploy it with ./deploy.sh, which takes the values from environments/NAME.json and can be repeated. No key is
// made use of anywhere, and none is an output.

targetScope = 'resourceGroup'

@description('Where the account is, and where it writes while nothing has failed.')
param location string = resourceGroup().location

@description('The second region, to which the account fails over. Not for serverless, which has one region.')
param secondLocation string = ''

@description('Name of this environment, such as dev or prod; part of names and tags.')
@minLength(2)
@maxLength(12)
param environment string

@description('Name of the account, unique in all of Azure.')
@minLength(3)
@maxLength(44)
param accountName string = 'gitops-${environment}-${uniqueString(resourceGroup().id)}'

@description('serverless: paid by the request, one region, up to some 5 000 RU/s a partition. autoscale: a tenth of maxThroughput is always paid.')
@allowed(['serverless', 'autoscale'])
param capacity string = 'serverless'

@description('Most request units per second, for autoscale; a multiple of 1 000.')
@minValue(1000)
@maxValue(1000000)
param maxThroughput int = 1000

@description('Database of the records (COSMOS_DATABASE).')
param databaseName string = 'gitops'

@description('Container of the records (COSMOS_CONTAINER).')
param containerName string = 'commits'

@description('Object ids of groups, managed identities or people that record: create, read, replace and query, not delete.')
param writerPrincipalIds array = []

@description('Object ids of groups or people that only read: an auditor.')
param readerPrincipalIds array = []

@description('Makes a user-assigned managed identity that records, for runners and servers.')
param createIdentity bool = false

@description('Takes account keys as well as Entra ID. For trials only.')
param allowKeys bool = false

@description('Public addresses or CIDR ranges that may reach the account. None: nobody from the public network.')
param allowedAddresses array = []

@description('Resource id of a subnet for a private endpoint; empty for none.')
param privateEndpointSubnetId string = ''

@description('Links the private DNS zone to the virtual network of that subnet. Off where the zone is kept centrally.')
param createPrivateDnsZone bool = true

@description('Spreads each region over its availability zones, where it has some.')
param zoneRedundant bool = false

@description('Resource id of a Log Analytics workspace; empty makes one.')
param workspaceId string = ''

@description('Addresses to which alerts are mailed; empty: alerts show in the portal only.')
param alertEmails array = []

@description('Request units in one day from which an alert is raised.')
param alertRequestUnitsPerDay int = 1000000

@description('Bytes of data from which an alert is raised; 20 GB is the most that one tenant and day holds.')
param alertStorageBytes int = 53687091200

@description('Tags on everything.')
param tags object = {}

var allTags = union({ application: 'gitops-agent', environment: environment }, tags)

module identity 'modules/identity.bicep' = if (createIdentity) {
  name: 'identity'
  params: {
    name: 'gitops-agent-${environment}'
    location: location
    tags: allTags
  }
}

module account 'modules/account.bicep' = {
  name: 'account'
  params: {
    name: accountName
    location: location
    secondLocation: secondLocation
    serverless: capacity == 'serverless'
    allowKeys: allowKeys
    allowedAddresses: allowedAddresses
    zoneRedundant: zoneRedundant
    tags: allTags
  }
}

module container 'modules/container.bicep' = {
  name: 'container'
  params: {
    accountName: account.outputs.name
    databaseName: databaseName
    containerName: containerName
    serverless: capacity == 'serverless'
    maxThroughput: maxThroughput
  }
}

module access 'modules/access.bicep' = {
  name: 'access'
  params: {
    accountName: account.outputs.name
    databaseName: container.outputs.databaseName
    writerPrincipalIds: concat(writerPrincipalIds, createIdentity ? [identity!.outputs.principalId] : [])
    readerPrincipalIds: readerPrincipalIds
  }
}

module network 'modules/network.bicep' = if (!empty(privateEndpointSubnetId)) {
  name: 'network'
  params: {
    accountName: account.outputs.name
    location: location
    subnetId: privateEndpointSubnetId
    createDnsZone: createPrivateDnsZone
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    accountName: account.outputs.name
    location: location
    workspaceId: workspaceId
    alertEmails: alertEmails
    alertRequestUnitsPerDay: alertRequestUnitsPerDay
    alertStorageBytes: alertStorageBytes
    tags: allTags
  }
}

@description('COSMOS_ENDPOINT')
output endpoint string = account.outputs.endpoint

@description('COSMOS_DATABASE')
output database string = databaseName

@description('COSMOS_CONTAINER')
output container string = containerName

@description('The account, for `az cosmosdb`.')
output account string = account.outputs.name

@description('AZURE_CLIENT_ID where an identity was made; else empty.')
output identityClientId string = createIdentity ? identity!.outputs.clientId : ''
