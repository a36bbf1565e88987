"""What every HTTP connection out of this process shares: the proxy, and words for a failure.

aiohttp's own `trust_env` is not used: it would send what a `.netrc` holds for the host as an
`Authorization` header, and it asks a thread for the proxy at every request. Here the proxy is
looked up once, by the rules of the standard library.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from consumer.errors import StartError

if TYPE_CHECKING:
    import aiohttp


def proxy_for(url: str) -> str | None:
    """The proxy for requests to `url`, or None to connect directly.

    `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` decide (in lower case too), or the system's settings
    where there are any. What runs on this machine is never asked for through a proxy.

    Raises:
        StartError: the proxy is of a kind that cannot be used, such as SOCKS.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if not proxy or _is_this_machine(host) or proxy_bypass(host):
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise StartError(
            f"the proxy for {parts.scheme} addresses is no HTTP proxy",
            f"set {parts.scheme.upper()}_PROXY to an http:// address, or add {host} to NO_PROXY",
        )
    return proxy


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def describe(error: BaseException) -> str:
    """A failed connection in a few words: the kind of error, and the system's own reason.

    Never the error's whole text, since that may quote headers and addresses.
    """
    cause: object = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    reason = getattr(cause, "strerror", None)
    if reason is None and isinstance(cause, OSError) and cause is not error:
        reason = str(cause)
    kind = type(error).__name__
    return f"{kind}: {reason}" if reason else kind


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The first `limit` bytes of a response's body; the connection of a longer one is closed."""
    body = b""
    while len(body) < limit:
        chunk = await response.content.read(limit - len(body))
        if not chunk:
            return body
        body += chunk
    response.close()
    return body
