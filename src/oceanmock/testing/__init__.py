"""What a test holds in its hand: sandboxes of OCP and obshell, and what is in them.

It speaks the admin API alone (openapi/admin.yaml, through ``admin_client``), so the same objects
drive a server in this process and one elsewhere. Sandboxes are made by ``running``. Importing it
imports neither a server nor a client library.
"""

from oceanmock.testing.building import fails, hangs, node, sub_task, subtask, succeeds
from oceanmock.testing.clock import Clock
from oceanmock.testing.faults import Fault, Faults
from oceanmock.testing.journal import Journal, JournalEntry
from oceanmock.testing.obshell import Dag, Node, Obshell, SubTask
from oceanmock.testing.ocp import Ocp, Subtask, Task
from oceanmock.testing.sandbox import Options, Sandbox

__all__ = [
    "Clock",
    "Dag",
    "Fault",
    "Faults",
    "Journal",
    "JournalEntry",
    "Node",
    "Obshell",
    "Ocp",
    "Options",
    "Sandbox",
    "SubTask",
    "Subtask",
    "Task",
    "fails",
    "hangs",
    "node",
    "sub_task",
    "subtask",
    "succeeds",
]
