"""What the fault harness leans on: a proxy that cuts, a file of results, the emulator's witness."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest

from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.tiktok import Access, EmulatorSettings
from tests.faults.results import Result, ResultsFile, RoundId
from tests.support.sandbox_threads import run_emulator
from tests.support.tcp_proxy import Cut, TcpProxy, run_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIXEL = "C9SHOPALPHA000000001"
PATIENCE = 5.0
SILENCE = 0.3


class Echo:
    """A server that answers every byte with the same, and counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listens no longer."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    self.received += len(data)
                    connection.sendall(data)
            except OSError:
                return


@contextmanager
def proxied() -> Iterator[tuple[Echo, TcpProxy, socket.socket]]:
    """An echo, a proxy before it, and a client that comes through."""
    echo = Echo()
    with run_proxy() as proxy:
        proxy.target_port = echo.port
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            yield echo, proxy, client
    echo.close()


def read(client: socket.socket, size: int) -> bytes:
    """So many bytes."""
    got = b""
    while len(got) < size:
        part = client.recv(size - len(got))
        if not part:
            raise ConnectionResetError("the connection has ended")
        got += part
    return got


def assert_silent(client: socket.socket) -> None:
    """Nothing comes, and the connection stays."""
    client.settimeout(SILENCE)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(PATIENCE)


def test_the_proxy_forwards_everything() -> None:
    """A megabyte there is a megabyte back."""
    with proxied() as (_, _, client):
        data = bytes(range(256)) * 4096
        threading.Thread(target=client.sendall, args=(data,)).start()
        assert read(client, len(data)) == data


def test_a_cut_is_silent_and_what_was_on_its_way_arrives_late() -> None:
    """Nothing gets through, nothing breaks, and nothing is lost when the network is back."""
    with proxied() as (echo, proxy, client):
        client.sendall(b"one")
        assert read(client, 3) == b"one"
        proxy.cut()
        client.sendall(b"two")
        assert_silent(client)
        assert echo.received == 3
        proxy.heal()
        assert read(client, 3) == b"two"


def test_a_cut_of_answers_lets_requests_through() -> None:
    """The server has acted, and the client does not learn it before the network is back."""
    with proxied() as (echo, proxy, client):
        proxy.cut(Cut.ANSWERS)
        client.sendall(b"one")
        assert_silent(client)
        assert echo.received == 3
        proxy.heal()
        assert read(client, 3) == b"one"


def test_a_dropped_connection_ends_and_a_new_one_works() -> None:
    """As after a firewall that has forgotten its connections."""
    with proxied() as (_, proxy, client):
        proxy.cut()
        client.sendall(b"one")
        proxy.drop()
        with pytest.raises(ConnectionError):
            read(client, 3)
        proxy.heal()
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as again:
            again.sendall(b"two")
            assert read(again, 3) == b"two"


def a_result(number: int, *, lost: int = 0) -> Result:
    """The result of some round."""
    round_id = RoundId("kill", number, 100, 1, "classic", brief=True, version="abc")
    return Result(round_id, 1.5, 100, 90, lost, 0, {"late": 2}, 0, 0.5, {"kill": 3})


def test_a_run_goes_on_with_the_rounds_that_are_missing(tmp_path: Path) -> None:
    """Finished rounds are found again in the file, field by field; other code's are not."""
    path = tmp_path / "there" / "results.jsonl"
    ResultsFile(path).add(a_result(0))
    again = ResultsFile(path)
    assert again.find(a_result(0).id) == a_result(0)
    assert again.find(a_result(1).id) is None
    assert again.find(replace(a_result(0).id, version="another")) is None


def test_a_broken_round_is_played_again(tmp_path: Path) -> None:
    """A run that goes on does not take a failure for done."""
    path = tmp_path / "results.jsonl"
    ResultsFile(path).add(a_result(0, lost=1))
    assert ResultsFile(path).find(a_result(0).id) is None


def track(url: str, token: str, seconds: float = PATIENCE) -> int:
    """Sends an event; the code of the answer."""
    data = [{"event": "Pageview", "event_id": "one", "event_time": 1}]
    body = {"event_source": "web", "event_source_id": PIXEL, "data": data}
    headers = {"Access-Token": token, "Content-Type": "application/json"}
    request = urllib.request.Request(url, orjson.dumps(body), headers)  # noqa: S310  our emulator
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  as above
        code: int = orjson.loads(answer.read())["code"]
        return code


def test_the_emulator_knows_who_has_sent_what_and_whom_it_has_answered() -> None:
    """By token, by request; an answer that nobody waits for any more is none."""
    tokens = {f"token-{app}": Access(app, frozenset({PIXEL})) for app in ("a", "b")}
    with run_emulator(EmulatorSettings(tokens=tokens, strict=False)) as emulator:
        began = time.time()
        assert track(emulator.url, "token-a") == 0
        emulator.play(
            Scenario(
                faults=(
                    Fault(FaultKind.CLOSE_AFTER, times=1),
                    Fault(FaultKind.LATE, seconds=PATIENCE, times=1),
                )
            )
        )
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            track(emulator.url, "token-b")
        with pytest.raises(TimeoutError):
            track(emulator.url, "token-b", seconds=SILENCE)
        requests = emulator.requests()
        answered = [emulator.truth.answered_at(number) for number in range(3)]
    assert [request.app for request in requests] == ["a", "b", "b"]
    assert [request.accepted + request.deduplicated for request in requests] == [1, 1, 1]
    assert all(0 <= request.upload_seconds < PATIENCE for request in requests)
    assert began <= (answered[0] or 0) <= time.time()
    assert answered[1:] == [None, None]
