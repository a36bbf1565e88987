"""TLS for servers in tests: a certificate that nobody trusts unless told to.

Made for `localhost` and 127.0.0.1, valid until 2120. The key protects nothing.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJFP+KkVnmW5VyGh
Bgw+W9pKI1NsPtd0NShtNGfzaRgGV6Jlr299e/3ozZ8Xsz40WL7FSVJ6uRyoLxqT
GIUi2fyjXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBRmbnL5GMqyGro1fxL40PR8NOWdXTAOBgNVHQ8BAf8E
BAMCAoQwCgYIKoZIzj0EAwIDSAAwRQIgZXgGXFOmBxKWbUiz98gsgKvKTRqbI8/i
KZwghpekrc4CIQDx6BydYlSJx9TqD/PcyKkqWd/M5+4pNe/oFnHYd59njw==
-----END CERTIFICATE-----
"""

_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgNq/ydOXXKncKpAAz
PsZlCsfWPjnCPPOs3JwVtVXcYEOhRANCAASRT/ipFZ5luVchoQYMPlvaSiNTbD7X
dDUobTRn82kYBleiZa9vfXv96M2fF7M+NFi+xUlSerkcqC8akxiFItn8
-----END PRIVATE KEY-----
"""


def server_context(directory: Path) -> ssl.SSLContext:
    """What a server needs; its files are written to `directory`."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def client_context() -> ssl.SSLContext:
    """Trusts that certificate and no other."""
    return ssl.create_default_context(cadata=CERTIFICATE)
