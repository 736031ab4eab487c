"""oceanmock: a contract-testing mock server for OceanBase's task APIs.

These are the public names; everything else may change. Importing it does no work: each name
is imported when it is first used.

    with oceanmock.running("retry-failed-subtask") as ocp:
        client = Client(ocp.url, auth=ocp.auth)
"""

TYPE_CHECKING = False  # as typing has it, which takes longer to import than all else here

if TYPE_CHECKING:
    from oceanmock.admin_client import JournalEntry
    from oceanmock.client import Mock, running
    from oceanmock.errors import EnvironmentProblem, InputError, OceanmockError
    from oceanmock.handles import fails, hangs, succeeds
    from oceanmock.obshell.client import Dag, Obshell, node, sub_task
    from oceanmock.ocp.client import Ocp, Task, subtask

__all__ = [
    "Dag",
    "EnvironmentProblem",
    "InputError",
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

_MODULES = {
    "oceanmock.client": ("Mock", "running"),
    "oceanmock.admin_client": ("JournalEntry",),
    "oceanmock.errors": ("InputError", "EnvironmentProblem", "OceanmockError"),
    "oceanmock.handles": ("fails", "hangs", "succeeds"),
    "oceanmock.obshell.client": ("Dag", "Obshell", "node", "sub_task"),
    "oceanmock.ocp.client": ("Ocp", "Task", "subtask"),
}


if not TYPE_CHECKING:  # with __getattr__ a checker would accept any name

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415 (only when a name is used)

        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
