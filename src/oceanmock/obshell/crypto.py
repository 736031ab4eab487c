"""obshell's hybrid encryption: opens the security header with RSA and the body with AES.

A client seals a JSON object with the server's public key, a block for each piece of its text, and
sends it in a header; in it lie the AES key and IV that the body is encrypted with. Who may pass is
obshell_auth's business. Every failure raises SecurityRefusal, and nothing else is ever raised.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/lib/crypto/{rsa,aes}.go,
ob/agent/secure/{header,body}.go, ob/agent/api/common/middleware.go:396-498, and the refusals of
tests/data/obshell/auth.json. One of the two doors to ``cryptography``; the other,
``credentials.obshell``, seals what is opened here.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from oceanmock.errors import CallerError
from oceanmock.obshell.gojson import Unreadable, base64_bytes, base64_prefix, read_struct

KEY_SIZE_BITS: Final = 1024
AES_SIZE_BYTES: Final = 16

Stage = Literal["header", "body", "panic", "verify"]


class SecurityRefusal(CallerError):
    """A request that obshell's security turns away, in the words of its error.

    ``code`` is the numeric code, None where the error has none. ``stage`` is what refused: "header"
    and "body" before a trace id and a content type were set; "panic", the server's recovery;
    "verify", an answer like any other.
    """

    def __init__(
        self, stage: Stage, err_code: str, *, status: int, message: str, code: int | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.err_code = err_code
        self.status = status
        self.message = message
        self.code = code


# --- the server's key -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's RSA key; ``public_key`` is what /api/v1/secret gives out.

    The text is std base64 of a DER PKCS#1 RSAPublicKey (rsa.go:92-96).
    """

    private: rsa.RSAPrivateKey
    public_key: str


def make_key() -> ServerKey:
    """A new key, of the real server's size; it takes 10 ms and more, so make it once."""
    private = rsa.generate_private_key(65537, KEY_SIZE_BITS)
    der = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    return ServerKey(private, base64.b64encode(der).decode())


# --- the header -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """What a security header says (header.go:38-49); what it leaves out is empty.

    ``ts`` is the second it expires at, unread. ``keys`` is the AES key and then the IV.
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
    "session_id": "string",
    "Auth": "string",
    "Ts": "string",
    "Token": "string",
    "ssotoken": "string",
    "Uri": "string",
    "Keys": "[]uint8",
    "Sha256": "string",
    "ForwardType": "int",
    "ForwardAgent": "meta.AgentInfo",
}

_NAMES: Final = {
    "session_id": "session_id",
    "Auth": "auth",
    "Ts": "ts",
    "Token": "token",
    "ssotoken": "sso_token",
    "Uri": "uri",
    "Keys": "keys",
    "Sha256": "sha256",
    "ForwardType": "forward_type",
}


def open_header(key: ServerKey, text: str) -> Header:
    """What the value of a security header says, decrypted; raises SecurityRefusal."""
    try:
        blocks = _blocks(key, base64_bytes(text.encode("utf-8", "surrogatepass")))
        said = _said(key, blocks)
    except Unreadable as why:
        raise SecurityRefusal(
            "header",
            "Security.Authentication.Header.DecryptFailed",
            status=401,
            code=1,
            message=f"Decrypt http header failed: {why}",
        ) from None
    return Header(**{_NAMES[name]: value for name, value in said.items() if name in _NAMES})


def _blocks(key: ServerKey, sealed: bytes) -> list[bytes]:
    """The blocks of a sealed text, each as long as the modulus but perhaps the last."""
    size = key.private.key_size // 8
    return [sealed[at : at + size] for at in range(0, len(sealed), size)]


def _said(key: ServerKey, blocks: list[bytes]) -> dict[str, Any]:
    """The fields in the blocks; when they cannot be read, a block that was not sealed is to blame.

    OpenSSL gives out noise for a block with a wrong padding, where Go refuses it ("implicit
    rejection", OpenSSL 3.2). Where it may be noise, or is no JSON, the padding is looked at.
    """
    text = b"".join(_opened(key, block) for block in blocks)
    try:
        return read_struct(text, "secure.HttpHeader", _FIELDS)
    except Unreadable:
        for block in blocks:
            _check_padding(key, block)
        raise


SURE_OF: Final = 8
"""From so many bytes of ASCII on, what fits into JSON is no noise (but once in 200,000 blocks)."""


def _opened(key: ServerKey, block: bytes) -> bytes:
    try:
        text = key.private.decrypt(block, padding.PKCS1v15())
    except ValueError:
        raise Unreadable("crypto/rsa: decryption error") from None
    if len(text) < SURE_OF or not text.isascii():
        _check_padding(key, block)
    return text


def _check_padding(key: ServerKey, block: bytes) -> None:
    """Raises Unreadable unless the block is 0, 2, eight bytes or more, 0, text (PKCS#1 v1.5).

    This takes ten times as long as OpenSSL, and how long tells about the key, which is no secret.
    """
    numbers = key.private.private_numbers()
    sealed = int.from_bytes(block)
    of_p = pow(sealed % numbers.p, numbers.dmp1, numbers.p)
    of_q = pow(sealed % numbers.q, numbers.dmq1, numbers.q)
    opened = of_q + (of_p - of_q) * numbers.iqmp % numbers.p * numbers.q
    text = opened.to_bytes(key.private.key_size // 8)
    if not text.startswith(b"\0\2") or text.find(b"\0", 2) < 10:
        raise Unreadable("crypto/rsa: decryption error")


# --- the body -------------------------------------------------------------------------------------


def open_body(body: bytes, keys: bytes) -> bytes:
    """A request's body decrypted with the keys of its header; raises SecurityRefusal.

    As the real server does (aes.go:44-78): no body is none; what follows a fault in the base64 is
    dropped; a length that the last byte allows is cut off, whatever else the padding says; a wrong
    key that leaves such a last byte gives noise.
    """
    if not body:
        return b""
    if len(keys) < AES_SIZE_BYTES:
        raise _body_refusal("KeyAndIv.Invalid", "AES key and IV size error")
    key, iv = keys[:AES_SIZE_BYTES], keys[AES_SIZE_BYTES:]
    if len(iv) != AES_SIZE_BYTES:
        raise _panic()
    sealed, _ = base64_prefix(body)
    if len(sealed) % AES_SIZE_BYTES:
        raise _body_refusal(
            "ContentLength.Invalid",
            "Decrypted string length is not a multiple of the block size",
        )
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return _unpadded(decryptor.update(sealed) + decryptor.finalize())


def _unpadded(text: bytes) -> bytes:
    """The text without as many bytes as its last one says; Go panics when it has not so many."""
    if not text or text[-1] > len(text):
        raise _panic()
    return text[: len(text) - text[-1]]


def _body_refusal(tail: str, why: str) -> SecurityRefusal:
    return SecurityRefusal(
        "body", f"Request.Body.Decrypt.AES.{tail}", status=500, message=f"Unauthorized: {why}"
    )


def _panic() -> SecurityRefusal:
    return SecurityRefusal(
        "panic",
        "Common.Unexpected",
        status=500,
        message="Unexpected error: Internal Server Error",
    )
