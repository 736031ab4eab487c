"""Send prepared requests: some that must be refused, hostile ones, and lists that must agree.

The requests are few, and the same in each run. They are GET, unless the run writes; then they
include operations that a correct server refuses, on unknown ids and on tasks that the run may
change. A wrong password is tried once for each way to send one. The client's checkers see each
response, too.
"""

from __future__ import annotations

from oceanmock.checks import Auth, Probe
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import Options, contract_for
from oceanmock.conformance.probes.asking import Prober
from oceanmock.conformance.probes.known import Known, KnownIds, find_ids
from oceanmock.conformance.probes.obshell import probe_obshell
from oceanmock.conformance.probes.ocp import probe_ocp
from oceanmock.conformance.target import Target

__all__ = ["Auth", "Known", "KnownIds", "Probe", "Prober", "find_ids", "probe"]


def probe(
    client: HttpClient,
    target: Target,
    options: Options,
    known: KnownIds,
    *,
    viewer: Auth | None = None,
) -> Prober:
    """Send every probe, and return the checker that counted the results.

    Findings go to the client. ``viewer`` are the credentials of a read-only user, if any (OCP).
    """
    prober = Prober(client, contract_for(target.api, target.version))
    with client.during("probes"):
        if target.api == "ocp":
            probe_ocp(prober, options, known, viewer=viewer)
        else:
            probe_obshell(prober, options, known)
    return prober
