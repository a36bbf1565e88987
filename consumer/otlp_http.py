"""Sends OTLP requests over HTTP, set up as the SDK's own exporter would be.

Endpoint, headers, compression, time-out and certificates are the SDK's business: its exporter is
made, asked to export nothing into a session that only looks, and what it would have sent is what
we send. So no private attribute of it is touched, and every `OTEL_EXPORTER_OTLP_*` variable means
what it means to the SDK.
"""

from __future__ import annotations

import gzip
import logging
import os
import random
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from consumer.event import Instant
from consumer.export import Exported, Patience
from consumer.limits import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.otlp import Envelope

logger = logging.getLogger(__name__)

_RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which a request is to be repeated, by the OTLP specification."""

_GIVE_UP_AFTER = 300.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_CREDENTIALS = ("_OTEL_PYTHON_EXPORTER_OTLP_HTTP", "OTEL_PYTHON_EXPORTER_OTLP_HTTP")


class Wire(NamedTuple):
    """How the SDK's exporter would send: everything of the request but its body."""

    url: str
    headers: Mapping[str, str]
    compression: str | None
    timeout: float
    verify: bool | str
    cert: str | tuple[str, str] | None


def wire_of_sdk() -> Wire:
    """What the SDK's exporter makes of the environment.

    Raises:
        ValueError: it does not send what is expected of it.
    """
    looking = _LookingSession()
    exporter = OTLPSpanExporter(session=looking)
    exporter.export([])
    exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK
    if looking.seen is None or looking.seen.url is None:
        raise ValueError("the SDK's OTLP exporter made no request")
    headers = {
        name: _latin(value)
        for name, value in looking.seen.headers.items()
        if name.lower() != "content-length"
    }
    compression = looking.seen.headers.get("Content-Encoding")
    timeout = looking.sent_with.get("timeout")
    return Wire(
        looking.seen.url,
        headers,
        None if compression is None else _latin(compression).lower(),
        # What is left of the time-out when the request goes: microseconds are missing.
        round(float(timeout), 2) if isinstance(timeout, (int, float)) else 10.0,
        looking.sent_with.get("verify", True),
        looking.sent_with.get("cert"),
    )


def has_credential_provider() -> bool:
    """Whether a session of somebody else's making is to be used, which only the SDK can do."""
    return any(
        value and name.startswith(_CREDENTIALS) and name.endswith("CREDENTIAL_PROVIDER")
        for name, value in os.environ.items()
    )


class _LookingSession(requests.Session):
    """Answers every request with 200 and keeps what would have been sent."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: requests.PreparedRequest | None = None
        self.sent_with: dict[str, Any] = {}

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        self.seen, self.sent_with = request, kwargs
        response = requests.Response()
        response.status_code = 200
        response.request = request
        return response


class OtlpHttp:
    """Exports encoded spans to an OTLP receiver.

    A receiver that is away or busy is tried again with growing pauses for five minutes; one that
    refuses a request is not. What it says it rejected counts as dropped.
    """

    def __init__(self, envelope: Envelope, wire: Wire) -> None:
        self._envelope = envelope
        self._wire = wire
        self._session = requests.Session()
        self._failing = False

    def export(self, payloads: Sequence[bytes], spans: int, patience: Patience) -> Exported:
        """Sends one request until it is taken, refused, or there is no time left."""
        body = self._compressed(self._envelope.request(payloads))
        give_up_at = time.monotonic() + _GIVE_UP_AFTER
        pause = _FIRST_PAUSE
        while True:
            outcome = self._post(body, spans, patience)
            if isinstance(outcome, Exported):
                return outcome
            asked = outcome or pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter, no secret
            if time.monotonic() + asked > give_up_at or not patience.wait(asked):
                return Exported(0, {"unreachable": spans})
            pause = min(pause * 2, _LONGEST_PAUSE)

    def close(self) -> None:
        """Lets the connection go."""
        self._session.close()

    def _post(self, body: bytes, spans: int, patience: Patience) -> Exported | float:
        """One try: what became of the spans, or for how long the receiver asks to wait (0: not)."""
        wire = self._wire
        try:
            response = self._session.post(
                wire.url,
                data=body,
                headers=wire.headers,
                timeout=max(min(wire.timeout, patience.left()), 0.001),
                verify=wire.verify,
                cert=wire.cert,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            self._fails(type(error).__name__)
            return 0.0
        except requests.RequestException as error:
            self._fails(type(error).__name__)
            return Exported(0, {"refused": spans})
        status = response.status_code
        if status in _RETRIED:
            self._fails(f"HTTP {status}")
            now = Instant(time.monotonic(), time.time_ns())
            return retry_after_seconds(response.headers.get("Retry-After"), now) or 0.0
        if not 200 <= status < 300:  # noqa: PLR2004  the class of HTTP successes
            self._fails(f"HTTP {status}")
            return Exported(0, {"refused": spans})
        if self._failing:
            self._failing = False
            logger.info("spans are exported again")
        rejected = min(_rejected(response.content), spans)
        return Exported(spans - rejected, {"rejected": rejected} if rejected else {})

    def _fails(self, how: str) -> None:
        """Says that it fails, once until it works again."""
        if not self._failing:
            self._failing = True
            logger.warning("spans cannot be exported: %s", how)

    def _compressed(self, body: bytes) -> bytes:
        match self._wire.compression:
            case "gzip":
                return gzip.compress(body, compresslevel=1)
            case "deflate":
                return zlib.compress(body, level=1)
            case _:
                return body


def _rejected(content: bytes) -> int:
    """How many spans a receiver that took the request says it rejected."""
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(content)
    except DecodeError:
        return 0
    rejected: int = response.partial_success.rejected_spans
    return max(rejected, 0)


def _latin(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
