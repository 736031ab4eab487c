"""obshell's hybrid encryption: seal and open the security header with RSA and the body with AES.

A client encrypts a JSON object with the server's public key, in blocks, and sends it in a header;
it contains the AES key and IV of the body. Who may pass is decided in ``auth.py``. Opening raises
ObshellError and nothing else. Messages end in Go's own error texts.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/lib/crypto/{rsa,aes}.go,
ob/agent/secure/{header,body}.go, ob/agent/api/common/middleware.go:396-498, and the recorded
errors of tests/data/obshell/auth.json. The only module that imports ``cryptography``, which is
slow to import.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from oceanmock.errors import EnvironmentProblem
from oceanmock.obshell.errors import ObshellError, panic
from oceanmock.obshell.gojson import Unreadable, base64_bytes, base64_prefix, read_struct

RSA_BITS: Final = 1024
AES_BYTES: Final = 16
"""The size of the AES key, of the IV and of a block."""
PKCS1_PADDING_BYTES: Final = 11
"""The bytes of each block that PKCS#1 v1.5 takes."""


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's RSA key; ``public_key`` is the text of /api/v1/secret.

    It is standard base64 of a DER PKCS#1 RSAPublicKey (rsa.go:92-96).
    """

    private: rsa.RSAPrivateKey
    public_key: str


def make_key() -> ServerKey:
    """Return a new key of the real server's size; it takes 10 ms and more, so make it once."""
    private = rsa.generate_private_key(65537, RSA_BITS)
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    return ServerKey(private, base64.b64encode(der).decode())


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a security header (header.go:38-49); absent ones are empty.

    ``ts`` is the second it expires at, not parsed. ``keys`` is the AES key and then the IV.
    """

    auth: str = ""
    ts: str = ""
    uri: str = ""
    keys: bytes = b""
    session_id: str = ""
    token: str = ""
    sso_token: str = ""
    sha256: str = ""
    forward_type: int = 0


_FIELDS: Final = {
    "session_id": ("session_id", "string"),
    "Auth": ("auth", "string"),
    "Ts": ("ts", "string"),
    "Token": ("token", "string"),
    "ssotoken": ("sso_token", "string"),
    "Uri": ("uri", "string"),
    "Keys": ("keys", "[]uint8"),
    "Sha256": ("sha256", "string"),
    "ForwardType": ("forward_type", "int"),
    "ForwardAgent": ("", "meta.AgentInfo"),
}
"""By JSON name, the attribute of Header ("" if ignored) and the Go type."""
_GO_TYPES: Final = {name: go_type for name, (_, go_type) in _FIELDS.items()}


def open_header(key: ServerKey, text: str) -> Header:
    """Decrypt the value of a security header. Raises ObshellError."""
    try:
        fields = _read_blocks(key, base64_bytes(text.encode("utf-8", "surrogatepass")))
    except Unreadable as why:
        message = f"Decrypt http header failed: {why}"
        raise ObshellError(401, "Security.Authentication.Header.DecryptFailed", message, 1, stage="header") from None
    values = {_FIELDS[name][0]: value for name, value in fields.items() if _FIELDS[name][0]}
    return Header(**values)


def _read_blocks(key: ServerKey, sealed: bytes) -> dict[str, Any]:
    """Return the fields in the sealed blocks, each as long as the modulus but perhaps the last.

    OpenSSL returns random bytes for a block with a wrong padding, where Go refuses it ("implicit
    rejection", OpenSSL 3.2). Where they may be random, or are no JSON, the padding is checked.
    """
    size = key.private.key_size // 8
    blocks = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    text = b"".join(_open_block(key, block) for block in blocks)
    try:
        return read_struct(text, "secure.HttpHeader", _GO_TYPES)
    except Unreadable:
        for block in blocks:
            _check_padding(key, block)
        raise


MIN_PLAIN_BYTES: Final = 8
"""ASCII text of this length that fits into JSON is random once in 200,000 blocks."""


def _open_block(key: ServerKey, block: bytes) -> bytes:
    try:
        text = key.private.decrypt(block, padding.PKCS1v15())
    except ValueError:
        raise Unreadable("crypto/rsa: decryption error") from None
    if len(text) < MIN_PLAIN_BYTES or not text.isascii():
        _check_padding(key, block)
    return text


def _check_padding(key: ServerKey, block: bytes) -> None:
    """Raise Unreadable unless the block is 0, 2, eight bytes or more, 0, text (PKCS#1 v1.5).

    This takes ten times as long as OpenSSL; its duration depends on the key, which is no secret.
    """
    numbers = key.private.private_numbers()
    sealed = int.from_bytes(block)
    of_p = pow(sealed % numbers.p, numbers.dmp1, numbers.p)
    of_q = pow(sealed % numbers.q, numbers.dmq1, numbers.q)
    opened = of_q + (of_p - of_q) * numbers.iqmp % numbers.p * numbers.q
    text = opened.to_bytes(key.private.key_size // 8)
    if not text.startswith(b"\0\2") or text.find(b"\0", 2) < 10:
        raise Unreadable("crypto/rsa: decryption error")


def open_body(body: bytes, keys: bytes) -> bytes:
    """Decrypt a body with the keys of its header. Raises ObshellError.

    As the real server does (aes.go:44-78): an empty body stays empty; text after an error in the
    base64 is dropped; the padding's length is read from the last byte alone, so that a wrong key
    may return random bytes.
    """
    if not body:
        return b""
    if len(keys) < AES_BYTES:
        raise _body_error("KeyAndIv.Invalid", "AES key and IV size error")
    key, iv = keys[:AES_BYTES], keys[AES_BYTES:]
    if len(iv) != AES_BYTES:
        raise panic("panic")
    sealed, _ = base64_prefix(body)
    if len(sealed) % AES_BYTES:
        message = "Decrypted string length is not a multiple of the block size"
        raise _body_error("ContentLength.Invalid", message)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    text = decryptor.update(sealed) + decryptor.finalize()
    if not text or text[-1] > len(text):  # Go panics
        raise panic("panic")
    return text[: len(text) - text[-1]]


def _body_error(tail: str, why: str) -> ObshellError:
    err_code = f"Request.Body.Decrypt.AES.{tail}"
    return ObshellError(500, err_code, f"Unauthorized: {why}", stage="body")


def new_keys() -> bytes:
    """Return an AES key and an IV for one request."""
    return secrets.token_bytes(2 * AES_BYTES)


def seal_header(public_key: str, fields: Mapping[str, Any]) -> str:
    """Encrypt a JSON object as the value of a security header; bytes in it become base64.

    ``public_key`` is the text of /api/v1/secret. Raises EnvironmentProblem if it is no key.
    """
    try:
        key = serialization.load_der_public_key(base64.b64decode(public_key))
    except ValueError:
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise EnvironmentProblem(f"{public_key[:40]!r} is no public key of an obshell: Base64 of an RSA key in DER.")
    text = json.dumps(fields, default=_base64).encode()
    size = key.key_size // 8 - PKCS1_PADDING_BYTES
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return _base64(b"".join(key.encrypt(piece, padding.PKCS1v15()) for piece in pieces))


def seal_body(body: bytes, keys: bytes) -> bytes:
    """Encrypt a body with an AES key and the IV after it; an empty body stays empty."""
    if not body:
        return b""
    padder = PKCS7(8 * AES_BYTES).padder()
    whole = padder.update(body) + padder.finalize()
    key, iv = keys[:AES_BYTES], keys[AES_BYTES:]
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return _base64(encryptor.update(whole) + encryptor.finalize()).encode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
