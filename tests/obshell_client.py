"""A client of obshell that seals headers and bodies as the vendor's SDKs do, or on purpose wrongly.

Written after the Python SDK 0.0.9 (auth/password.py) on pycryptodome, so that what is tested is
never checked by its own code.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from Crypto.Cipher import AES, PKCS1_v1_5
from Crypto.PublicKey import RSA
from Crypto.Util.Padding import pad, unpad

CHUNK_SIZE = 53
AES_KEY = bytes(range(16))
AES_IV = bytes(range(16, 32))


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it goes out: its security headers and its body."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def sealed(public_key: str, text: bytes, *, chunk_size: int = CHUNK_SIZE) -> str:
    """A text as the value of a security header."""
    cipher = PKCS1_v1_5.new(RSA.import_key(base64.b64decode(public_key)))
    chunks = [text[at : at + chunk_size] for at in range(0, len(text), chunk_size)] or [b""]
    return base64.b64encode(b"".join(cipher.encrypt(chunk) for chunk in chunks)).decode()


def sealed_header(public_key: str, **said: Any) -> str:
    """A JSON object as the value of a security header; bytes in it become base64."""
    return sealed(public_key, json.dumps(said, default=base64_text).encode())


def sealed_body(body: bytes, *, key: bytes = AES_KEY, iv: bytes = AES_IV) -> bytes:
    """A body as it is sent."""
    return base64_text(ciphertext(body, key=key, iv=iv)).encode()


def opened_body(text: str, *, key: bytes = AES_KEY, iv: bytes = AES_IV) -> bytes:
    """A body that was sealed, as it was before."""
    return unpad(AES.new(key, AES.MODE_CBC, iv).decrypt(base64.b64decode(text)), AES.block_size)


def ciphertext(body: bytes, *, key: bytes = AES_KEY, iv: bytes = AES_IV) -> bytes:
    """A body encrypted, not yet in base64."""
    return encrypted(pad(body, AES.block_size), key=key, iv=iv)


def encrypted(blocks: bytes, *, key: bytes = AES_KEY, iv: bytes = AES_IV) -> bytes:
    """Whole blocks encrypted, with no padding but what they bring."""
    return AES.new(key, AES.MODE_CBC, iv).encrypt(blocks)


def base64_text(value: bytes) -> str:
    """Bytes as standard base64."""
    return base64.b64encode(value).decode()
