"""oceanmock: a contract-testing mock server for OceanBase's task APIs.

This is the public surface; everything else may move. Importing it does no work.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
