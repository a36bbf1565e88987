"""Which proxy a connection takes, by the conventions of the environment."""

from __future__ import annotations

import socket
import ssl

import aiohttp
import pytest

from consumer.errors import StartError
from consumer.outbound import describe, proxy_for

TIKTOK = "https://business-api.tiktok.com/open_api/v1.3/event/track/"
NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_without_a_proxy_in_the_environment_connections_are_direct() -> None:
    """The usual case."""
    assert proxy_for(TIKTOK) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_proxy_of_the_scheme_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In both spellings, for its own scheme only."""
    monkeypatch.setenv(name, "http://proxy.example.com:3128")
    assert proxy_for(TIKTOK) == "http://proxy.example.com:3128"
    assert proxy_for("http://registry.example.com") is None


def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As curl reads it."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.com:3128")
    assert proxy_for(TIKTOK) == "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    "hosts", ["business-api.tiktok.com", ".tiktok.com", "a.example, tiktok.com", "*"]
)
def test_hosts_in_no_proxy_are_asked_directly(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    """By name, by domain, or all."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", hosts)
    assert proxy_for(TIKTOK) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "tiktok.localhost"])
def test_this_machine_is_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A proxy for the world outside does not cut off what runs here."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com:3128")
    assert proxy_for(f"http://{host}:8081/subjects") is None


def test_a_proxy_that_is_no_http_proxy_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At start, not at every request; and without the proxy's password."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:canary@proxy.example.com:1080")
    with pytest.raises(StartError, match="HTTPS_PROXY to an http:// address") as caught:
        proxy_for(TIKTOK)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: Connection"),
        (socket.gaierror(-2, "Name or service not known"), "gaierror: Name or service not known"),
        (ssl.SSLError(1, "unsafe legacy renegotiation"), "SSLError: unsafe legacy renegotiation"),
        (aiohttp.ServerDisconnectedError("canary"), "ServerDisconnectedError"),
        (ValueError("canary"), "ValueError"),
    ],
)
def test_a_failure_is_described_by_its_kind_and_the_systems_reason(
    error: Exception, words: str
) -> None:
    """Free text of an exception may quote headers: it stays out."""
    assert describe(error).startswith(words)
    assert "canary" not in describe(error)
