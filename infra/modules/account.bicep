// The account. What cannot be changed later without moving the data is `serverless`.

param name string
param location string
param secondLocation string
param serverless bool
param allowKeys bool
param allowedAddresses array
param zoneRedundant bool
param tags object

// A serverless account has one region; the service refuses a second.
var twoRegions = !serverless && !empty(secondLocation)

var firstRegion = {
  locationName: location
  failoverPriority: 0
  isZoneRedundant: zoneRedundant
}

var secondRegion = {
  locationName: secondLocation
  failoverPriority: 1
  isZoneRedundant: zoneRedundant
}

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' = {
  name: name
  location: location
  kind: 'GlobalDocumentDB'
  tags: tags
  properties: {
    databaseAccountOfferType: 'Standard'
    capabilities: serverless ? [{ name: 'EnableServerless' }] : []
    // Who writes sees what it wrote, at the price of an eventual read.
    consistencyPolicy: {
      defaultConsistencyLevel: 'Session'
    }
    locations: twoRegions ? [firstRegion, secondRegion] : [firstRegion]
    enableAutomaticFailover: twoRegions
    enableMultipleWriteLocations: false
    minimalTlsVersion: 'Tls12'
    disableLocalAuth: !allowKeys
    // checkov:skip=CKV_AZURE_140:off unless `allowKeys` is set, which checkov cannot evaluate
    // checkov:skip=CKV_AZURE_101:off unless addresses are listed, which checkov cannot evaluate
    // Databases and containers are this template's work, whoever holds a key.
    disableKeyBasedMetadataWriteAccess: true
    // A private endpoint reaches an account whose public network is off.
    publicNetworkAccess: empty(allowedAddresses) ? 'Disabled' : 'Enabled'
    ipRules: [for address in allowedAddresses: { ipAddressOrRange: address }]
    isVirtualNetworkFilterEnabled: false
    networkAclBypass: 'None'
    // To any second of the last thirty days, in either region.
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: {
        tier: 'Continuous30Days'
      }
    }
  }
}

output name string = account.name

output endpoint string = account.properties.documentEndpoint
