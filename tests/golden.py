"""Golden files: what users read, compared as whole text.

`OCEANMOCK_UPDATE_GOLDEN=1 pytest` writes them anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """Asserts that ``text`` is what ``tests/golden/<name>`` holds."""
    path = FOLDER / name
    if os.environ.get("OCEANMOCK_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; see tests/golden.py"
