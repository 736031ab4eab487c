"""The command ``oceanmock conform``: what may be said to it, and what it leaves behind.

What a run does is ``conformance``'s. The rooms here: ``words`` (the options and what they are made
of), ``order`` (what was said, and what of it cannot be meant together), ``credentials``, ``tasks``
and ``baselines`` (what a run needs beside words), ``telling`` (reports, summary, the command to
repeat it), and ``command``, which goes from one to the next. The rule: nothing is imported before
it is needed, so that `oceanmock --help` stays quick.
"""

from oceanmock.cli.conform.command import conform
from oceanmock.cli.conform.order import SECRETS
from oceanmock.cli.conform.words import REPORTS

__all__ = ["REPORTS", "SECRETS", "conform"]
