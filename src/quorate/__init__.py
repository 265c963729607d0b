"""quorate: consensus for Python.

A replicated log that tolerates failures, and on it a coordination service that any ZooKeeper
client can use. ARCHITECTURE.md walks through the house; start there.
"""

__version__ = "0.1.0"
