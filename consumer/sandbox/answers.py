"""The forms an answer of TikTok's takes: its codes, its JSON, and a gateway's page."""

from __future__ import annotations

from email.utils import formatdate
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = 0
PARTIAL = 20001
BAD_REQUEST = 40000
NO_PERMISSION = 40001
BAD_PARAMETER = 40002
APP_THROTTLED = 40100
TOKEN_EXPIRED = 40102
TOKEN_MISSING = 40104
TOKEN_WRONG = 40105
PIXEL_THROTTLED = 40132

TOO_MANY_REQUESTS = 429
TOO_LARGE = 413

MESSAGES: Mapping[int, str] = {
    OK: "OK",
    PARTIAL: "Partially successful",
    NO_PERMISSION: "No permission to operate this event source.",
    40016: "Too many requests. Please retry in some time.",
    40050: "The resource exists already.",
    APP_THROTTLED: "Too many requests. Please retry in some time.",
    40101: "Invalid authorization parameters.",
    TOKEN_EXPIRED: "Access token is expired.",
    TOKEN_MISSING: "Access token is empty.",
    TOKEN_WRONG: "Access token is incorrect or has been revoked.",
    PIXEL_THROTTLED: "Too many requests for this event source.",
    40133: "Too many requests of this advertiser.",
    40202: "The request could not be served.",
    40900: "The resource exists already.",
    50000: "System error.",
    50002: "System error.",
    60001: "The service is under maintenance.",
    61000: "Too many requests. Please retry in some time.",
}
"""What goes with a code. The codes are documented; most of their wordings are not."""

THROTTLED = frozenset({APP_THROTTLED, PIXEL_THROTTLED, 40016, 40133, 61000})
"""Codes that ask for fewer requests."""

TAKEN = frozenset({OK, PARTIAL, 40050, 40900})
"""Codes that say that TikTok has the events."""

_PAGE = b"<html><head><title>%d</title></head><body><h1>%d</h1><hr>gateway</body></html>"


class Reply(NamedTuple):
    """What goes back, `delay` seconds later.

    `answered` is false where the connection closes instead of an answer, `cut` true where it
    closes in the middle of one. `code` is the one that the client can read, None where there is
    none. `number` is the request's in the ground truth.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: str | None = None
    delay: float = 0.0
    answered: bool = True
    number: int = 0
    code: int | None = None
    cut: bool = False


def page(status: int) -> bytes:
    """What a gateway in front of TikTok sends: HTML, whatever the status."""
    return _PAGE % (status, status)


def body(
    code: int, message: str | None, request_id: str, data: Mapping[str, Any] | None = None
) -> bytes:
    """TikTok's own answer; without a message, the one that goes with the code."""
    return orjson.dumps(
        {
            "code": code,
            "message": message or MESSAGES.get(code, "Refused."),
            "request_id": request_id,
            "data": data or {},
        }
    )


def http_date(seconds: float) -> str:
    """A time in seconds since the epoch as HTTP writes it, the next whole second."""
    return formatdate(ceil(seconds), usegmt=True)
