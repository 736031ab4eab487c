"""What is public is typed: mypy passes a user's file, and none of the wrong calls in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

USER_FILE = Path(__file__).parent / "typed" / "user_file.py"


def test_a_user_s_file_passes_mypy_strict(tmp_path: Path) -> None:
    options = ["--strict", "--config-file=", f"--cache-dir={tmp_path}"]

    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(USER_FILE)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.stdout == "Success: no issues found in 1 source file\n"
