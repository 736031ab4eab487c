"""Name either scenario format: OCP's and obshell's, chosen by a file's ``api``."""

from oceanmock.obshell import scenario as obshell
from oceanmock.ocp import scenario as ocp

Scenario = ocp.Scenario | obshell.Scenario
"""Either format."""
