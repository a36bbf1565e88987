"""The emulator's control over HTTP: what goes wrong is set, what has been taken is read.

| request under `/_emulator` | does |
|---|---|
| `POST /scenario` | puts a scenario in force (JSON of `faults.Scenario`) |
| `PATCH /scenario` | changes the fields given; all else goes on, clocks included |
| `GET /scenario`, `DELETE /scenario` | shows the one in force; all is well again |
| `POST /faults` | adds a fault or a list of them (JSON of `faults.Fault`) |
| `GET /faults`, `DELETE /faults` | shows them, with `struck` and `left`; takes them all away |
| `GET /truth`, `DELETE /truth` | totals; forgets all that was taken |
| `GET /events` | accepted events as NDJSON, by destination and name, first come first |
| `GET /requests` | the latest requests, newest first |
| `GET /test-events` | the latest test events as they came, newest first |

`/events` takes `event_source_id`, `event`, `event_id`, `test_event_code` (empty: real events only)
and `accepted_at_least`; `/requests` takes `event_source_id`, `code` (`none`: without one), `fault`,
`since` (seconds since the epoch) and `limit`; `/test-events` takes `event_source_id`,
`test_event_code` and `limit`. A mistake is answered with HTTP 400 and a sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from consumer.event import Instant
from consumer.sandbox.faults import Scenario, ScenarioError
from consumer.sandbox.ground_truth import EventFilter
from consumer.sandbox.scenario_json import (
    changes_from_json,
    faults_from_json,
    scenario_from_json,
    scenario_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.sandbox.ground_truth import EventUnderTest, GroundTruth, RequestSeen
    from consumer.sandbox.tiktok import TikTok

CONTROL_PATH = "/_emulator"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LINES_A_WRITE = 1000


class _QueryError(ValueError):
    """A parameter that nobody knows, or a value that it cannot have."""


def now() -> Instant:
    """The present."""
    return Instant(time.monotonic(), time.time_ns())


class Control:
    """The handlers of everything under `CONTROL_PATH`, for one `TikTok`."""

    def __init__(self, tiktok: TikTok) -> None:
        self._tiktok = tiktok

    @property
    def _truth(self) -> GroundTruth:
        return self._tiktok.truth

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Each handler by its method and path."""
        handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/scenario"): self._set_scenario,
            ("PATCH", "/scenario"): self._amend_scenario,
            ("GET", "/scenario"): self._show_scenario,
            ("DELETE", "/scenario"): self._clear_scenario,
            ("POST", "/faults"): self._add_faults,
            ("GET", "/faults"): self._show_faults,
            ("DELETE", "/faults"): self._clear_faults,
            ("GET", "/truth"): self._show_truth,
            ("DELETE", "/truth"): self._clear_truth,
            ("GET", "/events"): self._events,
            ("GET", "/requests"): self._requests,
            ("GET", "/test-events"): self._test_events,
        }
        guarded = {
            (method, CONTROL_PATH + path): _explaining(handler)
            for (method, path), handler in handlers.items()
        }
        known = sorted({f"{method} {path}" for method, path in guarded})

        async def unknown(_: web.Request) -> web.StreamResponse:
            return _json({"error": "nothing is here", "known": known}, status=404)

        return {**guarded, ("*", CONTROL_PATH + "{path:(/.*)?}"): unknown}

    async def _set_scenario(self, request: web.Request) -> web.StreamResponse:
        self._tiktok.play(scenario_from_json(orjson.loads(await request.read())), now())
        return await self._show_scenario(request)

    async def _amend_scenario(self, request: web.Request) -> web.StreamResponse:
        self._tiktok.amend(changes_from_json(orjson.loads(await request.read())), now())
        return await self._show_scenario(request)

    async def _show_scenario(self, _: web.Request) -> web.StreamResponse:
        return _json(scenario_to_json(self._tiktok.scenario))

    async def _clear_scenario(self, request: web.Request) -> web.StreamResponse:
        self._tiktok.play(Scenario(), now())
        return await self._show_scenario(request)

    async def _add_faults(self, request: web.Request) -> web.StreamResponse:
        self._tiktok.add_faults(faults_from_json(orjson.loads(await request.read())), now())
        return await self._show_faults(request)

    async def _show_faults(self, _: web.Request) -> web.StreamResponse:
        return _json(self._tiktok.faults)

    async def _clear_faults(self, request: web.Request) -> web.StreamResponse:
        self._tiktok.amend({"faults": ()}, now())
        return await self._show_faults(request)

    async def _show_truth(self, _: web.Request) -> web.StreamResponse:
        return _json(self._truth.summary())

    async def _clear_truth(self, request: web.Request) -> web.StreamResponse:
        self._truth.clear()
        return await self._show_truth(request)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        wanted = EventFilter(
            **_query(
                request,
                event_source_id=str,
                event=str,
                event_id=str,
                test_event_code=str,
                accepted_at_least=int,
            )
        )
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        events = self._truth.events(wanted)
        while lines := [
            orjson.dumps(event.to_json(), option=orjson.OPT_APPEND_NEWLINE)
            for event in islice(events, _LINES_A_WRITE)
        ]:
            await response.write(b"".join(lines))
            await asyncio.sleep(0)  # Whoever reads a long truth must not hold up the endpoint.
        await response.write_eof()
        return response

    async def _requests(self, request: web.Request) -> web.StreamResponse:
        query = _query(request, event_source_id=str, code=_code, fault=str, since=float, limit=int)
        limit, since = query.pop("limit", None), query.pop("since", 0.0)
        found = (
            seen._asdict()
            for seen in reversed(self._truth.recent)
            if seen.at >= since and _has(seen, query)
        )
        return _json(list(islice(found, limit)))

    async def _test_events(self, request: web.Request) -> web.StreamResponse:
        query = _query(request, event_source_id=str, test_event_code=str, limit=int)
        limit = query.pop("limit", None)
        found = (seen._asdict() for seen in reversed(self._truth.test_events) if _has(seen, query))
        return _json(list(islice(found, limit)))


def _explaining(handler: Handler) -> Handler:
    """The handler, with what it refuses as HTTP 400 and a sentence."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except orjson.JSONDecodeError as error:
            return _json({"error": f"no JSON: {error}"}, status=400)
        except (ScenarioError, _QueryError) as error:
            return _json({"error": str(error)}, status=400)

    return guarded


def _has(seen: RequestSeen | EventUnderTest, wanted: Mapping[str, Any]) -> bool:
    return all(getattr(seen, name) == value for name, value in wanted.items())


def _query(request: web.Request, **readers: Callable[[str], Any]) -> dict[str, Any]:
    """The parameters of a request, each read by its own reader.

    Raises:
        _QueryError: an unknown parameter, which would otherwise silently ask for everything; a
            value that its reader refuses.
    """
    values: dict[str, Any] = {}
    for name, text in request.query.items():
        if name not in readers:
            raise _QueryError(f"{name}: unknown parameter, known are {', '.join(readers)}")
        try:
            values[name] = readers[name](text)
        except ValueError:
            raise _QueryError(f"{name}: '{text}' is no value for it") from None
        if isinstance(values[name], int | float) and values[name] < 0:
            raise _QueryError(f"{name}: must not be negative")
    return values


def _code(text: str) -> int | None:
    return None if text == "none" else int(text)


def _json(document: object, status: int = 200) -> web.Response:
    body = orjson.dumps(document)
    return web.Response(status=status, body=body, content_type="application/json")
