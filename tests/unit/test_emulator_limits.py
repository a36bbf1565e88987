"""TikTok's limits in the emulator: of an app and of pixels at once, and how a throttle answers."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.event import Instant
from consumer.sandbox.faults import Fault, FaultKind, Scenario, ScenarioError, ThrottleForm
from consumer.sandbox.rate_limits import RateLimits
from consumer.sandbox.tiktok import Access, Ask, EmulatorSettings, TikTok

if TYPE_CHECKING:
    from consumer.sandbox.answers import Reply

PIXEL, OTHER = "C1", "C2"
BEGAN = 1_700_000_000


def at(seconds: float) -> Instant:
    return Instant(seconds, int((BEGAN + seconds) * 1e9))


def emulator(scenario: Scenario) -> TikTok:
    both = frozenset({PIXEL, OTHER})
    tokens = {"a": Access("app-1", both), "b": Access("app-2", both)}
    return TikTok(EmulatorSettings(tokens, scenario, strict=False), at(0))


def sent(tiktok: TikTok, to: str = PIXEL, *, by: str = "a", seconds: float = 0) -> Reply:
    event = {"event": "ViewContent", "event_id": "e-1"}
    body = {"event_source": "web", "event_source_id": to, "data": [event]}
    return tiktok.answer(Ask(orjson.dumps(body), by), at(seconds))


def test_pixels_have_ceilings_of_their_own() -> None:
    """A named pixel has its own rate; the rate for all holds for the others."""
    tiktok = emulator(Scenario(pixel_rate=1, pixel_rates={PIXEL: 3}))
    assert [sent(tiktok).code for _ in range(4)] == [0, 0, 0, 40132]
    assert [sent(tiktok, OTHER).code for _ in range(2)] == [0, 40132]


def test_apps_have_ceilings_of_their_own() -> None:
    """A named app has its own rate, over all its pixels."""
    tiktok = emulator(Scenario(app_rates={"app-1": 2}))
    assert [sent(tiktok, to).code for to in (PIXEL, OTHER, PIXEL)] == [0, 0, 40100]
    assert {sent(tiktok, by="b").code for _ in range(9)} == {0}


def test_what_one_limit_refuses_costs_nothing_in_the_other() -> None:
    """A pixel at its ceiling does not use up its app's requests, so its neighbour has them."""
    tiktok = emulator(Scenario(app_rate=3, pixel_rates={PIXEL: 1}))
    assert [sent(tiktok).code for _ in range(5)] == [0, 40132, 40132, 40132, 40132]
    assert [sent(tiktok, OTHER).code for _ in range(3)] == [0, 0, 40100]


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    """A rate of 0 is no limit of one."""
    tiktok = emulator(Scenario(pixel_rates={PIXEL: 0}))
    assert [sent(tiktok, seconds=second).code for second in (0, 60, 3600)] == [40132] * 3


@given(
    rate=st.floats(0.5, 50),
    burst=st.floats(0, 3),
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
@settings(max_examples=60, deadline=None)
def test_no_more_pass_than_the_rate_and_one_burst(
    rate: float, burst: float, gaps: list[float]
) -> None:
    """From any moment to any later one, at most a burst and the rate's share in between."""
    limits = RateLimits(Scenario(pixel_rate=rate, burst_seconds=burst))
    now, passed = 0.0, []
    for gap in gaps:
        now += gap
        if limits.refusal("any", PIXEL, now) is None:
            passed.append(now)
    size = max(rate * burst, 1.0)
    for first, begin in enumerate(passed):
        for later, end in enumerate(passed[first:], 1):
            assert later <= size + (end - begin) * rate + 1e-6


@given(rate=st.integers(1, 100), burst=st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_whoever_keeps_to_the_rate_is_never_throttled(rate: int, burst: float) -> None:
    """A limit is no trap: requests at its own pace all pass."""
    limits = RateLimits(Scenario(app_rate=rate, burst_seconds=burst))
    assert all(limits.refusal("any", PIXEL, n * 1.0001 / rate) is None for n in range(300))


@pytest.mark.parametrize(
    ("form", "status", "code", "content_type"),
    [
        (ThrottleForm.BODY, 200, 40132, "application/json"),
        (ThrottleForm.STATUS, 429, 40132, "application/json"),
        (ThrottleForm.PAGE, 429, None, "text/html"),
    ],
)
def test_a_throttle_answers_in_the_form_asked_for(
    form: ThrottleForm, status: int, code: int | None, content_type: str
) -> None:
    """Nobody documents a real 429, so all three forms can be had; the truth knows which it was."""
    tiktok = emulator(Scenario(pixel_rates={PIXEL: 0}, throttle_form=form, retry_after="4"))
    reply = sent(tiktok)
    assert (reply.status, reply.code, reply.content_type) == (status, code, content_type)
    assert reply.retry_after == "4"
    seen = tiktok.truth.recent[0]
    assert (seen.status, seen.code) == (status, code)
    unharmed = sent(tiktok, OTHER)
    assert (unharmed.status, unharmed.code, unharmed.retry_after) == (200, 0, None)


def test_retry_after_may_come_as_an_http_date() -> None:
    """Seconds from the answer, as the next whole second of a clock in GMT."""
    scenario = Scenario(pixel_rates={PIXEL: 0}, retry_after="90", retry_after_date=True)
    told = sent(emulator(scenario), seconds=0.25).retry_after
    assert told is not None
    assert told.endswith(" GMT")
    assert parsedate_to_datetime(told).timestamp() == BEGAN + 91


def test_a_fault_may_ask_for_a_pause_by_date() -> None:
    """The faults of a script have the same two forms."""
    fault = Fault(FaultKind.CODE, code=40100, retry_after="5", retry_after_date=True)
    told = sent(emulator(Scenario(faults=(fault,)))).retry_after
    assert told is not None
    assert parsedate_to_datetime(told).timestamp() == BEGAN + 5


@pytest.mark.parametrize("retry_after", [None, "soon", "-1", "1.5", ""])
def test_only_whole_seconds_make_a_date(retry_after: str | None) -> None:
    """A scenario that could not be played is refused where it is made."""
    options: dict[str, Any] = {"retry_after": retry_after, "retry_after_date": True}
    with pytest.raises(ScenarioError, match="whole seconds"):
        Scenario(**options)
    with pytest.raises(ScenarioError, match="whole seconds"):
        Fault(FaultKind.CODE, **options)


def test_without_a_setting_no_retry_after_is_sent() -> None:
    """TikTok documents none."""
    assert sent(emulator(Scenario(pixel_rates={PIXEL: 0}))).retry_after is None
