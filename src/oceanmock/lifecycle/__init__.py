"""The task machines, one per API, each in that API's own words. Pure: no clock, no I/O."""
