"""What the emulator answers over time: limits, faults, deduplication and the truth about both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.event import Instant
from consumer.sandbox.faults import Fault, FaultKind, Scenario
from consumer.sandbox.ground_truth import AcceptedEvent, EventIdentity
from consumer.sandbox.tiktok import Access, Ask, EmulatorSettings, TikTok

if TYPE_CHECKING:
    from consumer.sandbox.answers import Reply

HOUR = 3600.0
PIXEL, OTHER = "C1", "C2"


def at(seconds: float) -> Instant:
    return Instant(seconds, int((1_700_000_000 + seconds) * 1e9))


def emulator(scenario: Scenario | None = None, **options: Any) -> TikTok:
    return TikTok(EmulatorSettings(scenario=scenario or Scenario(), **options), at(0))


def event(event_id: str = "e-1", **more: Any) -> dict[str, Any]:
    return {
        "event": "ViewContent",
        "event_time": 1_700_000_000,
        "event_id": event_id,
        "page": {"url": "https://shop.example.com/"},
        **more,
    }


def ask(
    *events: object,
    to: str = PIXEL,
    token: str | None = "t",  # noqa: S107  a made-up token
    **envelope: object,
) -> Ask:
    body = {"event_source": "web", "event_source_id": to, "data": list(events), **envelope}
    return Ask(orjson.dumps(body), token)


def code(reply: Reply) -> int:
    answer = orjson.loads(reply.body)["code"]
    assert isinstance(answer, int)
    return answer


def test_a_repeat_within_48_hours_of_the_first_counts_once() -> None:
    """The window is measured from the first event, not from the latest repeat."""
    tiktok = emulator()
    for hours in (0, 30, 47.9):
        assert code(tiktok.answer(ask(event()), at(hours * HOUR))) == 0
    (seen,) = tiktok.truth.events()
    assert (seen.accepted, seen.deduplicated, len(set(seen.request_ids))) == (1, 2, 3)


def test_a_repeat_after_48_hours_counts_twice() -> None:
    """This is the harm that a late retry would do, so the truth must show it."""
    tiktok = emulator()
    for hours in (0, 48, 49):
        tiktok.answer(ask(event()), at(hours * HOUR))
    (seen,) = tiktok.truth.events()
    assert (seen.accepted, seen.deduplicated) == (2, 1)


def test_pixel_name_event_id_and_test_code_tell_events_apart() -> None:
    """A difference in any part of the key makes another event, a test event included."""
    tiktok = emulator()
    for request in (
        ask(event()),
        ask(event(), to=OTHER),
        ask({**event(), "event": "AddToCart"}),
        ask(event("e-2")),
        ask(event(), test_event_code="TEST1"),
    ):
        tiktok.answer(request, at(1))
    assert tiktok.truth.summary()["distinct_events"] == 5
    assert tiktok.truth.events_deduplicated == 0


def test_a_copy_within_one_request_is_a_repeat() -> None:
    """Deduplication does not stop at the edge of a request."""
    tiktok = emulator()
    tiktok.answer(ask(event(), event()), at(0))
    (seen,) = tiktok.truth.events()
    assert (seen.accepted, seen.deduplicated) == (1, 1)


def test_one_bad_event_takes_its_whole_batch_down() -> None:
    """Nothing of a refused request is accepted, however good its other events are."""
    tiktok = emulator()
    reply = tiktok.answer(ask(event("good"), event("bad", page={})), at(0))
    assert code(reply) == 40002
    assert list(tiktok.truth.events()) == []
    assert tiktok.truth.events_received == 2


@pytest.mark.parametrize(
    ("token", "expected"),
    [("good", 0), ("other", 40001), ("wrong", 40105), ("Bearer good", 40105), (None, 40104)],
)
def test_a_token_opens_its_own_pixels_only(token: str | None, expected: int) -> None:
    """Each way of failing has TikTok's own code; no permission is not a wrong token."""
    tokens = {
        "good": Access("app-1", frozenset({PIXEL})),
        "other": Access("app-1", frozenset({OTHER})),
    }
    tiktok = emulator(tokens=tokens)
    assert code(tiktok.answer(ask(event(), token=token), at(0))) == expected


def test_an_expired_token_is_refused_until_it_is_renewed() -> None:
    """Expiry is part of the scenario, so a test can expire and renew a token."""
    tiktok = emulator(Scenario(expired_tokens=frozenset({"t"})))
    assert code(tiktok.answer(ask(event()), at(0))) == 40102
    tiktok.play(Scenario(), at(1))
    assert code(tiktok.answer(ask(event()), at(1))) == 0


def test_a_pixel_rate_throttles_that_pixel_alone() -> None:
    """40132 strikes the busy pixel; the other goes on, and after a second so does the first."""
    tiktok = emulator(Scenario(pixel_rate=2, retry_after="3"))
    busy = [tiktok.answer(ask(event(str(n))), at(0)) for n in range(3)]
    assert [code(reply) for reply in busy] == [0, 0, 40132]
    assert [reply.retry_after for reply in busy] == [None, None, "3"]
    assert code(tiktok.answer(ask(event(), to=OTHER), at(0))) == 0
    assert code(tiktok.answer(ask(event()), at(0.5))) == 0


def test_an_app_rate_throttles_all_pixels_of_the_app() -> None:
    """40100 counts an app's requests over all its pixels, and not another app's."""
    both = frozenset({PIXEL, OTHER})
    tokens = {"a": Access("app-1", both), "b": Access("app-1", both), "c": Access("app-2", both)}
    tiktok = emulator(Scenario(app_rate=1), tokens=tokens)
    assert code(tiktok.answer(ask(event(), token="a"), at(0))) == 0
    assert code(tiktok.answer(ask(event(), to=OTHER, token="b"), at(0))) == 40100
    assert code(tiktok.answer(ask(event(), to=OTHER, token="c"), at(0))) == 0


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        (FaultKind.CODE, 0),
        (FaultKind.PAGE, 0),
        (FaultKind.HANG, 0),
        (FaultKind.CLOSE_BEFORE, 0),
        (FaultKind.CLOSE_AFTER, 1),
        (FaultKind.LATE, 1),
    ],
)
def test_only_a_lost_answer_leaves_an_accepted_event(kind: FaultKind, taken: int) -> None:
    """The truth knows whether TikTok took the events although the client cannot."""
    tiktok = emulator(Scenario(faults=(Fault(kind, times=1),)))
    tiktok.answer(ask(event()), at(0))
    assert tiktok.truth.events_accepted == taken
    assert tiktok.truth.requests_by_fault == {kind: 1}
    assert code(tiktok.answer(ask(event()), at(1))) == 0
    assert tiktok.truth.events_accepted == 1


@pytest.mark.parametrize("answer", [20001, 40900])
def test_a_code_that_says_taken_means_taken(answer: int) -> None:
    """Where TikTok says that it has the events, the truth has them."""
    tiktok = emulator(Scenario(faults=(Fault(FaultKind.CODE, code=answer),)))
    assert code(tiktok.answer(ask(event()), at(0))) == answer
    assert tiktok.truth.events_accepted == 1


def test_a_gateway_answers_html_with_its_own_status() -> None:
    """A page has no code and may come with any status, 200 included."""
    tiktok = emulator(Scenario(faults=(Fault(FaultKind.PAGE, status=502, times=1),)))
    reply = tiktok.answer(ask(event()), at(0))
    assert (reply.status, reply.content_type) == (502, "text/html")
    assert reply.body.startswith(b"<html>")
    tiktok.play(Scenario(faults=(Fault(FaultKind.PAGE),)), at(0))
    assert tiktok.answer(ask(event()), at(0)).status == 200


def test_a_script_of_faults_plays_in_its_order() -> None:
    """One-shot faults strike one request each, then all is well."""
    script = (
        Fault(FaultKind.CODE, code=50000, times=1),
        Fault(FaultKind.CODE, code=40100, times=2, retry_after="7"),
    )
    tiktok = emulator(Scenario(faults=script))
    replies = [tiktok.answer(ask(event()), at(n)) for n in range(4)]
    assert [code(reply) for reply in replies] == [50000, 40100, 40100, 0]
    assert [reply.retry_after for reply in replies] == [None, "7", "7", None]


def test_a_throttled_minute_has_a_beginning_and_an_end() -> None:
    """A fault with a span of time strikes its pixel within the span and nobody else ever."""
    minute = Fault(FaultKind.CODE, code=40132, event_source_id=PIXEL, after=10, lasting=60)
    tiktok = emulator(Scenario(faults=(minute,)))
    codes = [code(tiktok.answer(ask(event()), at(second))) for second in (9, 10, 69, 70)]
    assert codes == [0, 40132, 40132, 0]
    assert code(tiktok.answer(ask(event(), to=OTHER), at(30))) == 0


@given(seed=st.integers(0, 2**32), probability=st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_plays_the_same_faults(seed: int, probability: float) -> None:
    """Two emulators with one scenario answer alike, so a failing run can be repeated."""
    scenario = Scenario(
        seed=seed,
        latency_jitter_ms=50,
        faults=(Fault(FaultKind.CODE, probability=probability),),
    )
    first, second = emulator(scenario), emulator(scenario)
    for n in range(40):
        assert first.answer(ask(event()), at(n)) == second.answer(ask(event()), at(n))


def test_latency_delays_every_answer_within_its_jitter() -> None:
    """The delay is part of the reply, in seconds."""
    tiktok = emulator(Scenario(latency_ms=100, latency_jitter_ms=50))
    delays = [tiktok.answer(ask(event()), at(n)).delay for n in range(50)]
    assert 0.1 <= min(delays) < max(delays) <= 0.15


def test_a_body_that_is_no_json_is_refused() -> None:
    """Neither broken JSON nor another content type reaches the rules."""
    tiktok = emulator()
    assert code(tiktok.answer(Ask(b"{", "t"), at(0))) == 40000
    assert code(tiktok.answer(Ask(ask(event()).body, "t", "text/plain"), at(0))) == 40000
    assert code(tiktok.answer(Ask(ask(event()).body, "t", None), at(0))) == 40000
    with_charset = Ask(ask(event()).body, "t", "application/json; charset=utf-8")
    assert code(tiktok.answer(with_charset, at(0))) == 0


def test_without_strictness_an_event_is_only_counted() -> None:
    """The quick mode of load tests leaves the fields alone and the truth whole."""
    tiktok = emulator(strict=False)
    assert code(tiktok.answer(ask({"event": "A", "event_id": "1"}), at(0))) == 0
    assert code(tiktok.answer(ask({"event": "A", "event_id": 1}), at(0))) == 40002
    assert tiktok.truth.events_accepted == 1


def test_request_ids_lead_from_an_event_to_its_request() -> None:
    """The id TikTok answered with is the one in the truth and in the list of requests."""
    tiktok = emulator()
    answered = orjson.loads(tiktok.answer(ask(event()), at(0)).body)["request_id"]
    (seen,) = tiktok.truth.events()
    assert seen.request_ids == (answered,)
    assert [request.request_id for request in tiktok.truth.recent] == [answered]


@given(
    st.builds(
        AcceptedEvent,
        st.builds(EventIdentity, st.text(), st.text(), st.text(), st.none() | st.text()),
        st.integers(1, 9),
        st.integers(0, 9),
        st.lists(st.text()).map(tuple),
    )
)
@settings(max_examples=30, deadline=None)
def test_an_accepted_event_survives_its_json(accepted: AcceptedEvent) -> None:
    """The truth reads the same over HTTP as in the process."""
    assert AcceptedEvent.from_json(orjson.loads(orjson.dumps(accepted.to_json()))) == accepted


def test_neither_a_token_nor_an_event_shows_in_a_repr() -> None:
    """Values that may end in a traceback show sizes and counts."""
    shown = repr(ask(event("secret-event"), token="secret-token"))
    shown += repr(EmulatorSettings(tokens={"secret-token": Access("a", frozenset())}))
    shown += repr(Scenario(expired_tokens=frozenset({"secret-token"})))
    assert "secret" not in shown
