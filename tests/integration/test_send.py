"""What `preview` shows, `send` produces and `run` delivers is one and the same request."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import yaml

from consumer.sandbox.samples import PIXELS
from tests.support.consumer_process import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.pipeline_world import PipelineWorld

ANSWER = b'{"code": 0, "message": "OK", "request_id": "r1", "data": {}}'
PATH = "/open_api/v1.3/event/track/"


class Recorder(ThreadingHTTPServer):
    """A server that takes every request and keeps it as it came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """Keeps the request, answers that all is well."""

    server: Recorder

    def do_POST(self) -> None:
        """Take a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.command, self.path, dict(self.headers.items()), body))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def command(folder: Path, *arguments: str, given: str) -> Any:
    result = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("TIKTOK_")},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def event() -> str:
    return json.dumps(
        {
            "event_id": "order-1",
            "event": "purchase",
            "event_time": int(time.time() * 1000),
            "event_source_id": PIXELS[0],
            "page": {"url": "https://shop.example/danke?ttclid=E.C.P.x&email=a%40b.example"},
            "user": {
                "email": ["Ada@Mail.example", "ada@work.example"],
                "phone": "+49 171 3920099",
                "external_id": 77,
                "ip": "84.23.1.7",
                "user_agent": "Mözilla",
            },
            "properties": {
                "value": 19.9,
                "currency": "EUR",
                "contents": [{"content_id": 1, "price": 9.95, "quantity": 2}],
                "custom": {"größe": "M", "n": 3, "rate": 0.5, "ok": True},
            },
            "consent": {"marketing": "GRANTED", "ad_user_data": "GRANTED", "region": "DE"},
        }
    )


def test_the_request_that_was_previewed_is_the_one_that_is_sent(
    world: PipelineWorld, tmp_path: Path
) -> None:
    """Through real Kafka and the consumer: method, path, headers and body, the token aside."""
    with recorder() as server:
        endpoint = f"http://127.0.0.1:{server.server_port}{PATH}"
        config = world.config(tiktok={"endpoint": endpoint})
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        arguments, given = ("-c", "c.yaml", "--json", "-"), event()
        shown = command(tmp_path, "preview", *arguments, given=given)
        sent = command(tmp_path, "send", *arguments, given=given)
        with world.consumer(config) as consumer:
            consumer.until_settled(1)
            assert consumer.terminate().exit_code == 0
    assert sent["topic"] == world.topic
    assert sent["registered"] is True
    ((method, path, headers, body),) = server.requests
    request = shown["request"]
    assert (method, f"http://127.0.0.1:{server.server_port}{path}") == (
        request["method"],
        request["url"],
    )
    # What HTTP needs is added by HTTP.
    ours = {k: v for k, v in headers.items() if k not in ("Host", "Content-Length")}
    assert ours.pop("Access-Token") != request["headers"].pop("Access-Token") == "***"
    assert ours == request["headers"]
    assert json.loads(body) == request["body"]
