"""What the machines hold a server to, beyond what one answer can show: rules with stable ids.

Sources of OCP are classes of github.com/oceanbase/ocp-express at eb6f2117, its open-source sibling;
those of obshell are files of github.com/oceanbase/obshell at 61ee147.
"""

from __future__ import annotations

from typing import Final

from oceanmock.checks import Rule

_STATES: Final = (
    "ocp-express TaskInstanceManagerImpl.java:59-117, SubtaskInstanceManagerImpl.java:40-82; "
    "obshell ob/agent/service/task/dag.go:283-532"
)

_RULES: Final = (
    Rule("machine.refused", "An operation that the state allows is accepted.", _STATES),
    Rule("machine.illegal", "An operation that the state does not allow is refused.", _STATES),
    Rule(
        "machine.prohibited",
        "A task that shows prohibitRollback is not rolled back.",
        "ocp-express TaskInstanceManagerImpl.java:66-68",
    ),
    Rule(
        "machine.unknown-operator",
        "An operator that the contract does not know is refused.",
        "obshell ob/agent/executor/task/dag.go:338, ob/agent/executor/task/node.go:171-174",
    ),
    Rule(
        "machine.flag",
        "An operator is accepted where the flags of the nodes allow it, and only there.",
        "obshell ob/agent/engine/task/node.go:105-148, ob/agent/service/task/dag.go:283-420",
    ),
    Rule("machine.refusal-status", "An operation that is not allowed is answered 400.", _STATES),
    Rule(
        "machine.refusal-code",
        "An operation that is not allowed is answered with the code of its reason.",
        "ocp-express ErrorCodes.java:44, TaskInstanceManagerImpl.java:63-68; "
        "obshell ob/agent/errors/errorcode.go:390-405",
    ),
    Rule("machine.refusal-changes", "A refused operation changes nothing.", _STATES),
    Rule(
        "machine.answer",
        "The answer to an accepted operation shows what it has changed.",
        "ocp-express TaskController.java:118-145",
    ),
    Rule("machine.effect", "What an accepted operation changes shows at once.", _STATES),
    Rule(
        "machine.count",
        "Runs are counted: runTime when a task is retried, execute_times at each run.",
        "ocp-express TaskInstanceManagerImpl.java:96-117; "
        "obshell ob/agent/engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.parent",
        "A task or dag is what its parts make of it: it runs while they do, and ends as they end.",
        "ocp-express RunningTaskWorker.java:86-176; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.order",
        "A subtask starts when all that it needs has succeeded, and not before.",
        "ocp-express AbstractTaskWorker.java:59-87",
    ),
    Rule(
        "machine.rollback-order",
        "Nothing is undone before all that came after it is undone.",
        "ocp-express AbstractTaskWorker.java:89-115; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.terminal",
        "What has come to its end stays as it is until it is operated on.",
        "ocp-express SubtaskState.java:68; obshell ob/agent/engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.finish-time",
        "What has ended says when, and each time anew.",
        "ocp-express SubtaskAccessor.java:68-83, RunningTaskWorker.java:143-176; "
        "obshell ob/agent/service/task/dag.go:565-585",
    ),
    Rule(
        "machine.outcome",
        "An operation comes to the end that it is for.",
        "ocp-express RunningTaskWorker.java:105-176; "
        "obshell ob/agent/engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.skip",
        "A skipped subtask does nothing: it cannot fail, and takes no time.",
        "ocp-express SubtaskInstanceManagerImpl.java:59, JavaSubtaskRunner.java:32-108",
    ),
    Rule(
        "machine.cancel",
        "What is cancelled is interrupted, and fails.",
        "ocp-express CancelingSubtaskWorker.java:58-82; "
        "obshell ob/agent/engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.stuck",
        "What is RUNNING goes on, and does not wait for ever with nothing under way.",
        "ocp-express RunningTaskWorker.java:86-176; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.lost",
        "A task or dag that is operated on can be read.",
        "the contract's operations getTaskInstance and getDagDetail",
    ),
)

RULES_OF_MACHINES: Final = {rule.id: rule for rule in _RULES}
"""By id."""
