"""One room per API: operationId → engine → that API's JSON, errors and authentication."""
