"""What can go wrong on TikTok's side, on demand and repeatable.

A `Scenario` is a value: how slow the answers are, how refusals are worded, which tokens are good,
how many requests are too many, and a list of faults. For each request the faults are tried in
their order and the first that strikes decides. A fault strikes for one destination, one app or
all, with a probability, a number of times, or within a span of time; so a script of one-shot
faults, a noisy day and a throttled minute are all the same list. Chance comes from the scenario's
seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from consumer.sandbox.answers import PARTIAL
from consumer.sandbox.rules import IndexWording

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultKind(StrEnum):
    """What happens to a request that a fault strikes.

    `code` is an answer of TikTok's with that code and nothing taken; `page` a gateway's HTML with
    HTTP `status`. `hang` ends without an answer after `seconds`, `late` answers after as long.
    `close_before` and `close_after` close the connection instead of answering, `cut` in the middle
    of the answer. Only `close_after`, `cut` and `late` let TikTok take the events: the client
    cannot know it. `code` and `page` can be told to (`Fault.taken`).
    """

    CODE = "code"
    PAGE = "page"
    HANG = "hang"
    LATE = "late"
    CLOSE_BEFORE = "close_before"
    CLOSE_AFTER = "close_after"
    CUT = "cut"


class FailedBy(StrEnum):
    """How a partial success names the events that failed, if it does: nobody documents it."""

    INDEX = "index"
    EVENT_ID = "event_id"
    NOTHING = "nothing"


class ThrottleForm(StrEnum):
    """How a rate limit answers.

    `body` is HTTP 200 with the code, as TikTok answers nearly everything; `status` is HTTP 429
    with the code; `page` is HTTP 429 from a gateway, without a code.
    """

    BODY = "body"
    STATUS = "status"
    PAGE = "page"


class ScenarioError(ValueError):
    """A scenario that cannot be played; the text names the key and what it may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    `code`, `status`, `message` and `retry_after` shape the answer of `code` and `page`; `seconds`
    is how long `hang` and `late` last. `event_source_id` and `app` None strike every destination
    and every app. `times` None strikes without end. The fault is in force from `after` seconds
    after it was set, for `lasting` seconds or, with None, until it is taken away.

    `taken` says that TikTok takes the events although the answer of `code` or `page` hides it.
    `failed` are the indices of the events that a partial success (code 20001) does not take, which
    its answer names by `failed_by`. `retry_after_date` sends the seconds of `retry_after` as an
    HTTP date.

    Raises:
        ScenarioError: parts that contradict each other.
    """

    kind: FaultKind
    code: int = 50000
    status: int | None = None
    message: str | None = None
    retry_after: str | None = None
    seconds: float = 60.0
    event_source_id: str | None = None
    probability: float = 1.0
    times: int | None = None
    after: float = 0.0
    lasting: float | None = None
    app: str | None = None
    taken: bool = False
    failed: tuple[int, ...] = ()
    failed_by: FailedBy = FailedBy.INDEX
    retry_after_date: bool = False

    def __post_init__(self) -> None:
        if self.failed and (self.kind is not FaultKind.CODE or self.code != PARTIAL):
            raise ScenarioError(f"failed: only code {PARTIAL} takes a part of a request")
        _check_retry_after(self.retry_after, as_date=self.retry_after_date)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How TikTok behaves until another scenario is set.

    `latency_ms` is the time every answer takes, plus a random part of up to `latency_jitter_ms`.

    Rates are requests per second; None means no limit. `app_rate` and `pixel_rate` hold for each
    app and each pixel that `app_rates` and `pixel_rates` do not name. Both limits count at once.
    A limit lets through `burst_seconds` worth of requests that come together after a pause.
    `throttle_form` is how it answers; `retry_after` goes with every throttled answer as it is,
    or, with `retry_after_date`, its seconds as an HTTP date.

    A token is good unless it is one of `expired_tokens`, or `tokens_valid_from` has it and so many
    seconds have not passed yet (it is unknown until then), or `tokens_valid_until` has it and
    they have (it is expired since then). `max_body_bytes` is where a gateway answers 413.

    Raises:
        ScenarioError: parts that contradict each other.
    """

    seed: int = 0
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    wording: IndexWording = IndexWording.SPACED
    app_rate: float | None = None
    pixel_rate: float | None = None
    retry_after: str | None = None
    expired_tokens: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    app_rates: Mapping[str, float] = field(default_factory=dict)
    pixel_rates: Mapping[str, float] = field(default_factory=dict)
    burst_seconds: float = 1.0
    throttle_form: ThrottleForm = ThrottleForm.BODY
    retry_after_date: bool = False
    tokens_valid_from: Mapping[str, float] = field(default_factory=dict)
    tokens_valid_until: Mapping[str, float] = field(default_factory=dict)
    max_body_bytes: int | None = None

    def __post_init__(self) -> None:
        _check_retry_after(self.retry_after, as_date=self.retry_after_date)

    def __repr__(self) -> str:
        """What is played, without the tokens."""
        return (
            f"<Scenario seed={self.seed} latency_ms={self.latency_ms} wording={self.wording}"
            f" expired_tokens={len(self.expired_tokens)} faults={self.faults}>"
        )


def _check_retry_after(retry_after: str | None, *, as_date: bool) -> None:
    if not as_date:
        return
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        raise ScenarioError("retry_after: must be whole seconds where retry_after_date is set")
