r"""Mask credentials in everything that is kept or shown: headers, queries, bodies, messages, logs and paths.

A value is masked for its name, whatever the format: ``rootPassword``, ``ROOT-PASSWORD``, ``p\u0061ssword`` and
``root%5Fpassword`` are spellings of one name. The list of secret names is here alone: ``NAME_PARTS`` and ``NAME_ENDS``;
``add_secret_names`` extends it for the process. Null, "", true and false are no secrets; nor is a number under a plural
or an id (``tokens: 5``), or what a name only says about a secret (``passwordPolicy``).

JSON, forms and fields of a multipart body are parsed; all else, and JSON that was cut, is read as text, in which a name
precedes its value. A text without secrets costs one search; each pattern takes time in proportion to the text.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations
from traceback import format_exception
from typing import Any, Final
from urllib.parse import quote_plus, unquote, unquote_plus

from oceanmock.errors import InputError

MASK: Final = "***"
NAME_PARTS: Final = (
    "passw|passphrase|passcode|passkey|pwd|secret(?!ar)|token(?!i[sz])|credential|密码|口令|令牌|密钥|"
    "(?:access|account|aes|api|auth|encryption|master|private|session|shared|signing)key(?!w)"
)
"""What a secret name contains, once its words are joined; a primary key and a public key are no secrets."""
NAME_ENDS: Final = (
    "ak|auth|authorization|bearer|cookies?|hmac|jwt|otp|pass|pin|pswd|psw|pw|sess|session|sid|sig|signature|sk|"
    "accessid|authheader|ocsagentheader|ocsheader|sessid|j?sessionid"
)
"""How a secret name ends, in whole words; too short to count within a word."""
PLAIN_STARTS: Final = "can|has|is|max|min|supported"
PLAIN_ENDS: Final = (
    "age|algorithm|at|count|created|date|days|enabled|endpoint|expiration|expired|expires|expiry|file|format|len|length|"
    "limit|max|method|min|mode|names?|path|policy|required|rules?|size|state|status|strength|time|timeout|ttl|types?|"
    "updated|url|valid|validity|version"
)
"""The first and last words of names that say something about a secret."""
COUNTED_ENDS: Final = "credentials|ids?|pass|passwords|secrets|sessions|tokens"
"""The last words of names under which a number is no secret."""
NAME_KEYS: Final = "attribute|field|header|k|key|name|option|param|parameter|property|variable"
VALUE_KEYS: Final = "content|data|default|text|v|val|values?"
"""In ``{"name": "rootPassword", "value": "…"}``, the last words of the keys of a name, and of its value."""
SCHEMES: Final = "basic|bearer|digest|ocp-access-key-hmacsha1|token"
"""The schemes of credentials, which stay in a masked header."""
MAX_NAME: Final = 100  # the length of a name's end that is read
MAX_DEPTH: Final = 5  # how deep formats are parsed within each other: JSON in a form's value, a query in JSON's string

_added = set[str]()
_hints = [
    *("pass", "pwd", "psw", "secret", "token", "credential", "key", "auth", "cookie", "sess", "hmac", "jwt", "otp"),
    *("ocs", "access", "signature", "bearer", "basic ", "identified", "@tcp(", "@unix("),
    *("密码", "口令", "令牌", "密钥"),
]
_ODD: Final = re.compile(
    r"\\u|%[0-9A-Fa-f]{2}|&#|://[^\s/]{0,256}@|s(?<![A-Za-z].)(?i:k|i[dg])(?![a-z])|S(?<![A-Z].)(?i:k|i[dg])(?![a-z])|"
    r"a(?<![A-Za-z].)(?i:k)(?![a-z])|A(?<![A-Z].)(?i:k)(?![a-z])|p(?i:w|in)(?![a-z])|P(?i:w|in)(?![a-z])",
    re.DOTALL,
)
"""Unusual spellings, passwords in URIs, and names too short to be a hint."""
_ODD_STARTS: Final = "\\%&:sap"  # the first characters of all of them, of which most large texts of numbers have none
_ESCAPED: Final = re.compile(r"\\+u([0-9a-fA-F]{4})")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_UNNAMED: Final = re.compile(
    r"""(://[^\s/?#:"'<>]*:)(?:[^\s/?#"'<>]*|(?![0-9]{1,5}(?:[/?#\s]|\Z))[^\s"'<>]{0,64})(?=@)"""
    r"""|(?<![^\s"'=])([^\s:"'=/]+:)[^\s]{0,64}?(?=@(?:tcp|unix)\()"""
    r"""|((?<![A-Za-z])(?i:bearer|basic)[ ]+)(?=.[a-z]*[A-Z0-9+/])[\w.~+/-]{8,}+=*+(?!["\w])"""
    r"""|(-----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----).*?(?=-----END|\Z)""",
    re.DOTALL,
)
"""Secrets without a name: the password of a URI or of a Go data source, an HTTP credential, a private key."""
_NAME: Final = re.compile(
    r"""(?<!\\)"(?P<quoted>(?:[^"\\]|\\.)*+)"\s*+(?P<colon>[:=])\s*+"""
    r"""|<(?P<tag>/?[\w.:-]++)|(?P<content>(?<![/\s])>)\s*+"""
    r"""|(?<![\w.%\\\[\]-])(?P<plain>[\w.%\\\[\]-]++)["']?[ \t]*+(?P<sign>=>?|:(?!//))[ \t]*+"""
    r"""|(?<!\S)--?(?P<option>[\w-]++)[ ]+(?!-)|\b(?P<sql>(?i:identified))\s+(?i:by)\s+(?i:password\s+)?""",
    re.DOTALL,
)
"""What precedes a value: ``"name":``, ``name=``, ``name:``, ``<name>``, ``--name``, ``IDENTIFIED BY``."""
_QUOTED: Final = r"""(\\{1,8})".*?(?:(?<!\\)\1"|\Z)|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?"""
_LINE: Final = re.compile(rf"""{_QUOTED}|[^\r\n"']+""", re.DOTALL)
_CONTENT: Final = re.compile(r"(?:<!\[CDATA\[.*?\]\]>|[^<])++(?=</|\Z)", re.DOTALL)
_AFTER_COLON: Final = re.compile(
    rf"""{_QUOTED}|[\[{{].*|[|>][-+]?\n(?:[ \t]++[^\n]*+\n?)++"""
    rf"""|(?i:(?:{SCHEMES})[ ]+)?(?![a-z]++[ ]++[A-Za-z(])[^\s,;"'{{}}\[\]<>&]++""",
    re.DOTALL,
)
"""A word of prose is no value, as in ``password: must be longer``."""
_AFTER_EQUALS: Final = re.compile(
    rf"""{_QUOTED}|(?i:(?:{SCHEMES})[ ]+)?"""
    r"""(?:[^&\s;,"'<]|[;,](?![ \t]*+[\w.-]++=)|["'](?![\s,;:)\]}>/\\]|\Z)|<(?![/\w!]))++""",
    re.DOTALL,
)
_FORM: Final = re.compile(r"[\w.%+\[\]-]++=[^\n]*+")
_FIELD: Final = re.compile(
    r"""(?im)^((?>content-disposition:(?:[^\n]|\n[ \t])*?\bname\*?=(?:"([^"\n]*)"|([^\s;]+)))"""
    r"""[^\n]*\n(?:[^\r\n]++\r?\n){0,20}+\r?\n)(?s:(.*?))(?=\r?\n--|\Z)"""
)


def add_secret_names(names: Iterable[str]) -> None:
    """Mask, in this process, values of all names that contain one of these names, as words. Raises InputError."""
    for name in names:
        if not (words := _words(name)):
            raise InputError(f"{name!r} cannot be masked: it is no name, since it has no letter.")
        _added.add("".join(words))
        _hints.append(words[0])
    _secrecy.cache_clear()


def is_secret(name: str, value: object = MASK) -> bool:
    """Return whether a value is secret for its name."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    is_number = isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())
    return _secrecy(name[-MAX_NAME:]) in (("all",) if is_number else ("all", "texts"))


@lru_cache(maxsize=4096)
def _secrecy(name: str) -> str:
    """Return which values of a name are secret: "all", "texts" but not numbers, or ""."""
    words = _words(name) or ("",)
    runs = combinations(range(len(words) + 1), 2) if _added else ()
    if any("".join(words[start:end]) in _added for start, end in runs):
        return "all"
    if re.fullmatch(PLAIN_STARTS, words[0]) or re.fullmatch(PLAIN_ENDS, words[-1]):
        return ""
    ends = ["".join(words[start:]) for start in range(len(words))]
    if not re.search(NAME_PARTS, ends[0]) and not any(re.fullmatch(NAME_ENDS, end) for end in ends):
        return ""
    return "texts" if re.fullmatch(COUNTED_ENDS, words[-1]) else "all"


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, without escapes."""
    name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    name = unicodedata.normalize("NFKC", html.unescape(unquote(unquote(name))))
    return tuple(word.lower() for word in _WORD.findall(name))


@lru_cache(maxsize=4096)
def _role(key: str) -> str:
    """Return whether a key is that of a "name" or of a "value", or ""."""
    word = (_words(key) or ("",))[-1]
    return "name" if re.fullmatch(NAME_KEYS, word) else "value" if re.fullmatch(VALUE_KEYS, word) else ""


def mask_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the headers without secrets; the scheme of credentials stays."""
    masked = []
    for name, value in headers:
        scheme, space, _ = value.partition(" ")
        hidden = f"{scheme} {MASK}" if space and re.fullmatch(SCHEMES, scheme.lower()) else MASK
        masked.append((name, hidden if is_secret(name, value) else mask_text(value)))
    return tuple(masked)


def mask_query(query: str) -> str:
    """Return a query, or a form, without secrets."""
    return _mask_form(query, 0) if _may_have_secret(query) else query


def mask_error(error: BaseException) -> str:
    """Return a traceback without secrets; each exception's message is masked as a separate text."""
    text, current = "".join(format_exception(error)), [error]
    for one in current:
        text = text.replace(str(one), mask_text(str(one)))
        current += filter(None, [one.__cause__ or one.__context__])
    return mask_text(text)


def mask_body(body: bytes) -> bytes:
    """Return a body without secrets, whatever its format; itself if it has none. Its declared type may be wrong."""
    encoding = json.detect_encoding(body)
    text = body.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "replace")
    masked = mask_text(text)
    return body if masked == text else masked.encode("utf-8", "surrogateescape")


def _may_have_secret(text: str) -> bool:
    """Return whether a text may have a secret: a separator as after names, and a hint of one or an unusual spelling."""
    if not ("=" in text or ":" in text or " " in text or "<" in text or "[" in text):
        return False
    lower = (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()
    hits = [hint in lower for hint in _hints]  # a generator takes longer
    return any(hits) or (any(map(lower.__contains__, _ODD_STARTS)) and _ODD.search(text) is not None)


def mask_text(text: str, depth: int = 0) -> str:
    """Return JSON, XML, a form, a multipart body, a URI or prose without secrets; ``depth`` is its nesting."""
    if not _may_have_secret(text):
        return text
    if depth < MAX_DEPTH:
        if text.lstrip()[:1] in ("{", "[", '"') and (masked := _mask_json(text, depth + 1)) is not None:
            return masked
        if _FORM.fullmatch(text):
            return _mask_form(text, depth + 1)
        if "content-disposition:" in text.lower():

            def mask_field(found: re.Match[str]) -> str:
                is_hidden = is_secret(found[2] or found[3] or "", found[4])
                return found[1] + (MASK if is_hidden else mask_text(found[4], depth + 1))

            text = _FIELD.sub(mask_field, text)
    return _mask_named(_UNNAMED.sub(lambda found: f"{''.join(filter(None, found.groups()))}{MASK}", text))


def _mask_named(text: str) -> str:
    """Return a text without the values behind secret names. ``label`` is the name of the next value or content."""
    parts, start, position, label = list[str](), 0, 0, ""
    while found := _NAME.search(text, position):
        is_nested, position = found.start() == position, found.end()
        kind = found.lastgroup or ""
        name = found["tag"] or found["quoted"] or found["plain"] or found["option"] or ""
        role = _role(name[-MAX_NAME:])
        if kind == "tag":
            is_open = not name.startswith("/") and not (is_secret(label) and (is_nested or role == "value"))
            label = name if is_open else "" if name[1:] == label else label
            continue
        if kind == "content" or (role == "value" and is_secret(label)):
            name = label
        is_hidden = kind == "sql" or is_secret(name)
        if not is_hidden and _role(name[-MAX_NAME:]) != "name":
            continue
        if kind == "content":
            pattern = _CONTENT
        elif re.search("(?i:authorization|cookies?)$", name[-MAX_NAME:]):
            pattern = _LINE
        else:
            pattern = _AFTER_COLON if found[0].rstrip().endswith(":") else _AFTER_EQUALS
        value = pattern.match(text, position, len(text) if is_hidden else position + MAX_NAME)
        plain = value[0].removeprefix("<![CDATA[").removesuffix("]]>").strip("\\\"' \r\n\t") if value else ""
        if not is_hidden:
            label = plain
        elif value is not None and is_secret(name or "pwd", plain):
            quote = '"' if found["quoted"] else value[0][0] if value[0][0] in "\"'" else ""
            parts += [text[start:position], quote, MASK, quote]
            start, position, label = value.end(), value.end(), ""
    return "".join([*parts, text[start:]])


def _mask_form(text: str, depth: int) -> str:
    pairs = [pair.partition("=") for pair in text.split("&")]
    has_secret = any(_role(name[-MAX_NAME:]) == "name" and is_secret(value) for name, _, value in pairs)
    parts = []
    for name, equals, value in pairs:
        start, text = (f"{name}=", value) if equals else ("", name)
        plain = unquote_plus(text)
        if start and (is_secret(name, plain) or (has_secret and plain and _role(name[-MAX_NAME:]) == "value")):
            text = MASK
        elif (masked := mask_text(plain, depth + 1)) != plain:
            text = masked if plain == text else quote_plus(masked, "*:/?=@", errors="replace")
        parts.append(start + text)
    return "&".join(parts)


def _mask_json(text: str, depth: int) -> str | None:
    """Return JSON without secrets, unchanged if it has none; None if the text is not JSON."""
    is_masked = False

    def masked(value: Any, *, is_hidden: bool = False) -> Any:
        nonlocal is_masked
        if isinstance(value, list) and not is_hidden:
            mask_lists([value])
            return value
        plain = mask_text(value, depth) if isinstance(value, str) else value
        is_masked |= is_hidden or plain != value
        return MASK if is_hidden else plain

    def mask_lists(pending: list[Any]) -> None:
        while pending:
            items, previous = pending.pop(), ""
            for index, item in enumerate(items):
                if isinstance(item, list):
                    if len(item) == 2 and isinstance(item[0], str) and is_secret(*item):
                        item[1] = masked(item[1], is_hidden=True)
                    pending.append(item)
                else:
                    items[index] = masked(item, is_hidden=previous.startswith("-") and is_secret(previous, item))
                previous = item if isinstance(item, str) and "=" not in item else ""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Mask an object; of a repeated key, every value counts."""
        items = [(key, value, _role(key[-MAX_NAME:])) for key, value in pairs]
        has_secret = any(role == "name" and isinstance(value, str) and is_secret(value) for _, value, role in items)
        return {
            key: masked(value, is_hidden=is_secret("pwd" if has_secret and role == "value" else key, value))
            for key, value, role in items
        }

    try:
        value = masked(json.loads(text, object_pairs_hook=members))
    except (ValueError, RecursionError):
        return None
    if not is_masked:
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()
