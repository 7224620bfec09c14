// Logs to a workspace, and an alert for each way in which delivery suffers. The agent's outbox keeps every record
// through all of them; an alert says that somebody should look.

param accountName string
param location string
param workspaceId string
param alertEmails array
param alertRequestUnitsPerDay int
param alertStorageBytes int
param tags object

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' existing = {
  name: accountName
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (empty(workspaceId)) {
  name: '${accountName}-logs'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 90
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: account
  name: 'gitops-agent'
  properties: {
    workspaceId: empty(workspaceId) ? workspace.id : workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    // Who asked for what, what it cost, and who changed the account. Documents are not logged.
    logs: [
      { category: 'DataPlaneRequests', enabled: true }
      { category: 'QueryRuntimeStatistics', enabled: true }
      { category: 'PartitionKeyStatistics', enabled: true }
      { category: 'PartitionKeyRUConsumption', enabled: true }
      { category: 'ControlPlaneRequests', enabled: true }
    ]
    metrics: [
      { category: 'Requests', enabled: true }
    ]
  }
}

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmails)) {
  name: '${accountName}-mail'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'gitops'
    enabled: true
    emailReceivers: [
      for address in alertEmails: {
        name: address
        emailAddress: address
        useCommonAlertSchema: true
      }
    ]
  }
}

// Windows and thresholds: what passes by itself within minutes alarms nobody.
var alerts = [
  {
    name: 'throttling'
    description: 'Requests are answered with 429: history waits, and today\'s commits wait with it. Raise the throughput or set store.budget_ru.'
    severity: 2
    metric: 'TotalRequests'
    aggregation: 'Count'
    threshold: 100
    frequency: 'PT5M'
    window: 'PT15M'
    statusCodes: ['429']
  }
  {
    name: 'latency'
    description: 'The service needs more than 100 ms for a request on average.'
    severity: 3
    metric: 'ServerSideLatencyGateway'
    aggregation: 'Average'
    threshold: 100
    frequency: 'PT5M'
    window: 'PT15M'
    statusCodes: []
  }
  {
    name: 'failures'
    description: 'Requests are denied or fail: records are held in the outboxes. See `gitops-agent store check`.'
    severity: 1
    metric: 'TotalRequests'
    aggregation: 'Count'
    threshold: 20
    frequency: 'PT5M'
    window: 'PT15M'
    statusCodes: ['401', '403', '408', '500', '503']
  }
  {
    name: 'request-units'
    description: 'A day used more request units than planned. See `gitops-agent cost`.'
    severity: 3
    metric: 'TotalRequestUnits'
    aggregation: 'Total'
    threshold: alertRequestUnitsPerDay
    frequency: 'PT1H'
    window: 'P1D'
    statusCodes: []
  }
  {
    name: 'storage'
    description: 'The account holds more than planned.'
    severity: 3
    metric: 'DataUsage'
    aggregation: 'Total'
    threshold: alertStorageBytes
    frequency: 'PT5M'
    // The metric is given every five minutes: a longer window would add it up.
    window: 'PT5M'
    statusCodes: []
  }
]

resource alertRules 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for alert in alerts: {
    name: '${accountName}-${alert.name}'
    location: 'global'
    tags: tags
    properties: {
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [account.id]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      autoMitigate: true
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: alert.name
            metricNamespace: 'Microsoft.DocumentDB/databaseAccounts'
            metricName: alert.metric
            timeAggregation: alert.aggregation
            operator: 'GreaterThan'
            threshold: alert.threshold
            dimensions: empty(alert.statusCodes) ? [] : [
              {
                name: 'StatusCode'
                operator: 'Include'
                values: alert.statusCodes
              }
            ]
          }
        ]
      }
      actions: empty(alertEmails) ? [] : [{ actionGroupId: mail.id }]
    }
  }
]
