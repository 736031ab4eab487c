"""obshell's generic ids, against the document's own, and against every recorded refusal of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oceanmock.obshell.api import GenericId, InvalidGenericId, local_id, parse_generic_id

LONE = Path(__file__).parent / "data" / "obshell" / "lone.json"


def recorded() -> list[tuple[str, dict[str, Any]]]:
    """Every id asked for on a dag, node or sub task route of a lone agent, and the answer."""
    exchanges = json.loads(LONE.read_text(encoding="utf-8"))["exchanges"]
    asked = [each for each in exchanges if " id " in each["label"]]
    return [(unquote(e["request"]["target"].split("/")[5]), e["response"]["body"]) for e in asked]


def test_the_documents_own_id_is_number_9_of_a_local_agent() -> None:
    said = parse_generic_id("22130706433028869")

    assert (said.kind, str(said.ip), said.port, said.number) == ("local", "127.0.0.1", 2886, 9)
    assert local_id(9, ip="127.0.0.1", port=2886) == "22130706433028869"


@given(
    st.sampled_from(["local", "obproxy"]),
    st.ip_addresses().filter(lambda ip: int(ip) >> (ip.max_prefixlen - 8)),
    st.integers(0, 65535),
    st.integers(0, 2**63 - 1),
)
def test_what_is_built_is_parsed(kind: Any, ip: Any, port: int, number: int) -> None:
    text = local_id(number, ip=str(ip), port=port, kind=kind)

    assert parse_generic_id(text) == GenericId(kind, number, ip, port)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_cluster_id_is_a_one_and_a_number(number: int) -> None:
    assert parse_generic_id(f"1{number}") == GenericId("cluster", number)


@given(st.text() | st.text("0123456789+-x", max_size=60))
def test_any_text_is_an_id_or_is_refused(text: str) -> None:
    answer = said_of(text)

    assert answer.startswith(("cluster", "local", "obproxy", f"Invalid ID: {text}"))


@pytest.mark.parametrize(
    ("text", "number"), [("2213070643302886+1", 1), ("2213070643302886-1", -1), ("2213070643302886009", 9)]
)
def test_a_tail_with_a_sign_or_leading_zeros_is_a_number(text: str, number: int) -> None:
    assert parse_generic_id(text).number == number


def test_every_recorded_refusal_of_an_id_has_its_words() -> None:
    refused = [
        (text, body["error"]["message"])
        for text, body in recorded()
        if body.get("error", {}).get("errCode") == "Task.GenericID.Invalid"
    ]

    said = [(text, refusal_of(text)) for text, _ in refused]

    assert len(refused) > 30
    assert said == refused


def test_every_recorded_id_that_was_looked_up_is_parsed() -> None:
    looked_up = [
        text
        for text, body in recorded()
        if body.get("error", {}).get("errCode") in ("Task.NotFound", "Agent.OceanBase.NotHold")
    ]

    assert len(looked_up) > 10
    assert all(parse_generic_id(text) for text in looked_up)


def refusal_of(text: str) -> str:
    with pytest.raises(InvalidGenericId) as refused:
        parse_generic_id(text)
    return str(refused.value)


def said_of(text: str) -> str:
    try:
        return parse_generic_id(text).kind
    except InvalidGenericId as refused:
        return str(refused)
