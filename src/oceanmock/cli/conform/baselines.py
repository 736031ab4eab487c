"""The baselines of a run: which are meant, what is odd about them, and writing one anew.

What an entry of one lets pass is ``conformance.baseline``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oceanmock.cli.conform.order import Order, Unready, is_file
from oceanmock.conformance.model import Api, Result
from oceanmock.text import plural

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Baseline


def baselines_of(order: Order, api: Api, version: str) -> tuple[Baseline | None, list[Baseline]]:
    """What is let pass, as one baseline and one by one."""
    from oceanmock.conformance.baseline import (  # only what runs has to load it
        Baseline,
        joined,
        load_baseline,
        shipped_for,
    )

    if not order.baseline:
        shipped = shipped_for(api, version)
        if shipped is None:
            _say_that_none_comes(api, version)
        return shipped, [shipped] if shipped else []
    found = []
    for reference in order.baseline:
        if reference == "none":
            continue
        if order.update_baseline and not Path(reference).exists() and is_file(reference):
            release = version.partition("-")[0]
            found.append(Baseline(Path(reference).as_posix(), api, (release,) if release else ()))
            continue
        loaded = load_baseline(reference)
        if loaded.api != api and not order.mock:
            raise Unready(f"the baseline {reference} is of {loaded.api}, not of {api}.")
        if loaded.api == api:
            found.append(loaded)
            for note in _notes_on(loaded, version):
                click.echo(f"baseline {reference}: {note}", err=True)
    return joined(found), found


def _say_that_none_comes(api: Api, version: str) -> None:
    """That nothing is known of a version, where something is of another one."""
    from oceanmock.conformance.baseline import load_baseline, shipped_names

    others = [name for name in shipped_names() if load_baseline(name).api == api]
    if others:
        click.echo(
            f"no known deviations come with oceanmock for {api} {version or 'of no version'}; "
            f"most are likely those of another: --baseline {others[-1]}.",
            err=True,
        )


def _notes_on(baseline: Baseline, version: str) -> Iterator[str]:
    """What is odd about a baseline, and no reason not to take it."""
    from oceanmock.conformance.rules import all_rules  # schemathesis is slow

    if not baseline.fits(version):
        said = f"is {version}" if version else "does not say which it is"
        yield f"of {', '.join(baseline.versions)}; the target {said}."
    from oceanmock.text import did_you_mean

    rules = list(all_rules())
    for rule in sorted(baseline.rules - set(rules)):
        yield f"there is no rule {rule!r}. {did_you_mean(rule, rules)}".rstrip()


def update_baseline(order: Order, result: Result, baselines: Sequence[Baseline]) -> None:
    """Writes the user's own baseline anew, where that was asked for, and judges by it."""
    from oceanmock.conformance.baseline import apply_baseline, joined, save_baseline, update

    if not order.update_baseline:
        return
    path = order.own_baselines[-1]
    if result.interrupted:
        click.echo(f"baseline {path}: not written, as the run was interrupted.", err=True)
        return
    own = next(each for each in baselines if each.name == path.as_posix())
    whole, came, went = update(own, result)
    save_baseline(whole, path)
    apply_baseline(joined([whole if each is own else each for each in baselines]), result)
    click.echo(
        f"baseline {path}: {plural(came, 'entry', 'entries')} added, {went} taken out.", err=True
    )
