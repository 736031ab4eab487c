"""oceanmock: a contract-testing mock server for OceanBase's task APIs.

This is the public surface; everything else may move. Importing it does no work: what is named here
is imported when it is first asked for.

    with oceanmock.running("retry-failed-subtask") as ocp:
        client = Client(ocp.url, auth=ocp.auth)
"""

TYPE_CHECKING = False  # as typing has it, which takes longer to import than all else here

if TYPE_CHECKING:
    from oceanmock.client.building import fails, hangs, node, sub_task, subtask, succeeds
    from oceanmock.client.journal import JournalEntry
    from oceanmock.client.mock import Mock, running
    from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError
    from oceanmock.obshell.client import Dag, Obshell
    from oceanmock.ocp.client import Ocp, Task

__all__ = [
    "AuthorError",
    "Dag",
    "EnvironmentProblem",
    "JournalEntry",
    "Mock",
    "Obshell",
    "OceanmockError",
    "Ocp",
    "Task",
    "__version__",
    "fails",
    "hangs",
    "node",
    "running",
    "sub_task",
    "subtask",
    "succeeds",
]

__version__ = "0.1.0"

_HOMES = {
    "oceanmock.client.building": ("fails", "hangs", "node", "sub_task", "subtask", "succeeds"),
    "oceanmock.client.journal": ("JournalEntry",),
    "oceanmock.client.mock": ("Mock", "running"),
    "oceanmock.errors": ("AuthorError", "EnvironmentProblem", "OceanmockError"),
    "oceanmock.obshell.client": ("Dag", "Obshell"),
    "oceanmock.ocp.client": ("Ocp", "Task"),
}


if not TYPE_CHECKING:  # a checker would believe that it has any name

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415 (only where something is asked for)

        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(home), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
