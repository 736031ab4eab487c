"""Requests of our own, made on purpose: what must be refused, what is hostile, what fits together.

The same requests each time, and few: no chance is in them. GET alone, unless the run may write;
then also calls that a sound server refuses, on ids of nothing and on what the run may play with. A
wrong password is tried once for each way to send one. The client shows each answer to its checkers,
too.
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
    """Sends every probe, and gives back the watch that counted them.

    The client gets what it finds. ``viewer`` are the credentials of somebody who may only look,
    where there is one (OCP).
    """
    prober = Prober(client, contract_for(target.api, target.version))
    with client.during("probes"):
        if target.api == "ocp":
            probe_ocp(prober, options, known, viewer=viewer)
        else:
            probe_obshell(prober, options, known)
    return prober
