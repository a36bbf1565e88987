"""An OTLP/HTTP receiver on a real socket: takes spans and metrics, and hands them to a test."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as a person reads it: ids in hex, attributes and resource as dictionaries."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_span_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: tuple[tuple[str, int, dict[str, Any]], ...]
    links: tuple[tuple[str, str], ...]
    is_error: bool
    error: str
    resource: dict[str, Any]


@dataclass
class Answer:
    """What the receiver answers once: a status, headers, and how many spans it rejects."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    rejected: int = 0


class OtlpReceiver:
    """Receives while its `with` block lasts.

    Args:
        latency: seconds before each answer.
        answers: answers to give first; 200 after them. What is answered otherwise is not kept.
    """

    def __init__(self, latency: float = 0.0, answers: Sequence[Answer] = ()) -> None:
        self.latency = latency
        self.answers = list(answers)
        self.spans: list[ReceivedSpan] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.requests = 0
        self._changed = threading.Condition()
        self._server = _server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """The base URL for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, condition: Callable[[OtlpReceiver], bool], seconds: float = 10.0) -> None:
        """Waits until the condition holds; fails the test when it does not in time."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self), seconds)
        assert held, f"received {len(self.spans)} spans in {self.requests} requests"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[Answer, bytes]:
        """Handles one request; called by the server's threads."""
        time.sleep(self.latency)
        with self._changed:
            self.requests += 1
            answer = self.answers.pop(0) if self.answers else Answer()
            self.headers.append(headers)
            response = b""
            if answer.status == 200:
                plain = _decompressed(headers.get("content-encoding", ""), body)
                self.bodies.append(plain)
                if path == "/v1/metrics":
                    self.metrics.append(ExportMetricsServiceRequest.FromString(plain))
                else:
                    self.spans += spans_of(plain)
                    response = _partial(answer.rejected)
            self._changed.notify_all()
            return answer, response


def spans_of(body: bytes) -> list[ReceivedSpan]:
    """The spans of an `ExportTraceServiceRequest`."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _attributes(span.attributes),
            tuple(
                (event.name, event.time_unix_nano, _attributes(event.attributes))
                for event in span.events
            ),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            span.status.code == 2,
            span.status.message,
            _attributes(resource_spans.resource.attributes),
        )
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(element) for element in value.array_value.values)
    return getattr(value, kind) if kind else None


def _decompressed(encoding: str, body: bytes) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case _:
            return body


def _partial(rejected: int) -> bytes:
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
    written: bytes = response.SerializeToString()
    return written


def _server(receiver: OtlpReceiver) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer, content = receiver.take(self.path, headers, body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing: a test's output is for its failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    return server
