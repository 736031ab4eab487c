"""Whether a server keeps the contract, and whether a task there lives the life it should."""
