"""The reference page of the rules has every rule, and is current."""

from __future__ import annotations

from pathlib import Path

from oceanmock.conformance.rules import all_rules, rules_page

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "rules.md"


def test_the_page_of_rules_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == rules_page(), "run python docs/generate.py"


def test_the_page_has_every_rule_once() -> None:
    page = rules_page()

    assert [page.count(f"| `{id}` |") for id in all_rules()] == [1] * len(all_rules())
