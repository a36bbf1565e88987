"""What goes wrong at the emulator, one by one and changed while it runs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.event import Instant
from consumer.sandbox.access import Access, TokensError, tokens_from_json
from consumer.sandbox.faults import (
    FailedBy,
    Fault,
    FaultKind,
    Scenario,
    ScenarioError,
    ThrottleForm,
)
from consumer.sandbox.scenario_json import (
    changes_from_json,
    faults_from_json,
    scenario_from_json,
    scenario_to_json,
)
from consumer.sandbox.tiktok import Ask, EmulatorSettings, TikTok
from consumer.verdict import Answer, Kind, judge

PIXEL, OTHER = "C1", "C2"
SCRIPT = (Fault(FaultKind.CODE, code=50000, times=3),)


def at(seconds: float) -> Instant:
    return Instant(seconds, int((1_700_000_000 + seconds) * 1e9))


def emulator(scenario: Scenario | None = None, **options: Any) -> TikTok:
    return TikTok(EmulatorSettings(scenario=scenario or Scenario(), strict=False, **options), at(0))


def ask(*event_ids: str, to: str = PIXEL, token: str = "t", **envelope: object) -> Ask:  # noqa: S107  a made-up token
    data = [{"event": "ViewContent", "event_id": event_id} for event_id in event_ids or ("e-1",)]
    body = {"event_source": "web", "event_source_id": to, "data": data, **envelope}
    return Ask(orjson.dumps(body), token)


def test_a_token_becomes_valid_later() -> None:
    """Unknown until its time, so a new token in a file can be tried before TikTok knows it."""
    tiktok = emulator(Scenario(tokens_valid_from={"t": 5}))
    codes = [tiktok.answer(ask(), at(second)).code for second in (0, 4.9, 5, 100)]
    assert codes == [40105, 40105, 0, 0]
    assert tiktok.answer(ask(token="another"), at(0)).code == 0


def test_a_token_expires_at_its_time() -> None:
    """Good before, expired from then on."""
    tiktok = emulator(Scenario(tokens_valid_until={"t": 5}))
    assert [tiktok.answer(ask(), at(second)).code for second in (0, 4.9, 5)] == [0, 0, 40102]


def test_a_renewed_token_overlaps_the_old_one_or_not() -> None:
    """Expiry, a gap and renewal under a running client, all from one scenario."""
    tiktok = emulator(Scenario(tokens_valid_until={"old": 10}, tokens_valid_from={"new": 20}))
    seen = {
        second: [tiktok.answer(ask(token=token), at(second)).code for token in ("old", "new")]
        for second in (9, 15, 20)
    }
    assert seen == {9: [0, 40105], 15: [40102, 40105], 20: [40102, 0]}


def test_an_unlisted_token_stays_unknown_whatever_its_times() -> None:
    """A scenario can take a token away, never make one that TikTok does not list."""
    tokens = {"t": Access("app", frozenset({PIXEL}))}
    tiktok = emulator(Scenario(tokens_valid_from={"other": 0}), tokens=tokens)
    assert tiktok.answer(ask(token="other"), at(9)).code == 40105


def test_a_change_leaves_the_rest_going_on() -> None:
    """Neither the strikes left nor a fault's clock nor a limit's fill begin again."""
    minute = Fault(FaultKind.CODE, code=40132, event_source_id=OTHER, after=10, lasting=5)
    tiktok = emulator(Scenario(faults=(*SCRIPT, minute), pixel_rate=2))
    assert [tiktok.answer(ask(), at(0)).code for _ in range(2)] == [50000, 50000]
    tiktok.amend({"latency_ms": 40}, at(8))
    assert tiktok.answer(ask(), at(8)).delay == 0.04
    assert tiktok.answer(ask(to=OTHER), at(12)).code == 40132
    assert [tiktok.answer(ask(), at(12)).code for _ in range(3)] == [0, 0, 40132]
    tiktok.amend({"wording": "dotted"}, at(12))
    assert tiktok.answer(ask(), at(12)).code == 40132


def test_a_changed_limit_counts_afresh() -> None:
    """Raising a ceiling helps at once."""
    tiktok = emulator(Scenario(pixel_rate=1))
    assert [tiktok.answer(ask(), at(0)).code for _ in range(2)] == [0, 40132]
    tiktok.amend({"pixel_rate": 50}, at(0))
    assert tiktok.answer(ask(), at(0)).code == 0


def test_a_changed_tokens_time_counts_from_the_change() -> None:
    """In five seconds means five seconds from now, however long the emulator has been running."""
    tiktok = emulator()
    tiktok.amend({"tokens_valid_from": {"t": 5}}, at(100))
    assert [tiktok.answer(ask(), at(second)).code for second in (104, 105)] == [40105, 0]


def test_a_change_that_contradicts_what_stays_changes_nothing() -> None:
    """A refused change leaves the scenario as it was."""
    tiktok = emulator(Scenario(retry_after="soon", faults=SCRIPT))
    with pytest.raises(ScenarioError):
        tiktok.amend({"retry_after_date": True, "latency_ms": 9}, at(0))
    assert tiktok.scenario == Scenario(retry_after="soon", faults=SCRIPT)
    assert tiktok.answer(ask(), at(0)).delay == 0


def test_an_added_fault_stands_behind_the_others_and_counts_from_now() -> None:
    """One fault more, without a word about those that are already there."""
    tiktok = emulator(Scenario(faults=SCRIPT))
    assert tiktok.answer(ask(), at(50)).code == 50000
    tiktok.add_faults([Fault(FaultKind.CODE, code=40100, after=1, lasting=1)], at(50))
    codes = [tiktok.answer(ask(), at(second)).code for second in (50, 50, 50.5, 51, 52)]
    assert codes == [50000, 50000, 0, 40100, 0]
    assert [(each["struck"], each["left"]) for each in tiktok.faults] == [(3, 0), (1, None)]
    assert len(tiktok.scenario.faults) == 2


def test_faults_can_be_taken_away_without_touching_the_rest() -> None:
    """The end of a fault is no end of the scenario."""
    tiktok = emulator(Scenario(faults=SCRIPT, latency_ms=10))
    tiktok.amend({"faults": ()}, at(0))
    reply = tiktok.answer(ask(), at(0))
    assert (reply.code, reply.delay, tiktok.faults) == (0, 0.01, [])


def test_a_fault_may_strike_one_app_alone() -> None:
    """Two clients with tokens of their own can be told apart."""
    both = frozenset({PIXEL})
    tokens = {"t": Access("app-1", both), "u": Access("app-2", both)}
    tiktok = emulator(Scenario(faults=(Fault(FaultKind.CODE, app="app-2"),)), tokens=tokens)
    assert [tiktok.answer(ask(token=token), at(0)).code for token in ("t", "u")] == [0, 50000]


@pytest.mark.parametrize(
    ("failed_by", "named"), [("index", (0, 2)), ("event_id", ("a", "c")), ("nothing", ())]
)
def test_a_partial_success_takes_the_rest_and_may_name_the_failed(
    failed_by: str, named: tuple[int | str, ...]
) -> None:
    """The consumer's own reading of the answer finds the very events that TikTok left out."""
    fault = Fault(FaultKind.CODE, code=20001, failed=(0, 2, 9), failed_by=FailedBy(failed_by))
    tiktok = emulator(Scenario(faults=(fault,)))
    reply = tiktok.answer(ask("a", "b", "c"), at(0))
    verdict = judge(Answer(reply.status, reply.body), 3)
    assert (verdict.kind, verdict.code, verdict.failed) == (Kind.ACCEPTED, 20001, named)
    assert [seen.identity.event_id for seen in tiktok.truth.events()] == ["b"]


def test_only_a_partial_success_takes_a_part() -> None:
    """Any other code with failed events would mean nothing."""
    with pytest.raises(ScenarioError, match="20001"):
        Fault(FaultKind.CODE, code=40002, failed=(1,))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.CODE, code=50000, taken=True),
        Fault(FaultKind.PAGE, status=504, taken=True),
        Fault(FaultKind.CUT),
    ],
    ids=["code", "page", "cut"],
)
def test_an_answer_may_hide_that_tiktok_has_the_events(fault: Fault) -> None:
    """Whoever reads such an answer cannot know; a repeat is dropped as one."""
    tiktok = emulator()
    tiktok.add_faults([fault], at(0))
    reply = tiktok.answer(ask("a"), at(0))
    assert judge(Answer(reply.status, b"" if reply.cut else reply.body), 1).rule.unknown
    tiktok.amend({"faults": ()}, at(1))
    tiktok.answer(ask("a"), at(1))
    (seen,) = tiktok.truth.events()
    assert (seen.accepted, seen.deduplicated) == (1, 1)


def test_a_request_beyond_the_gateways_size_is_413() -> None:
    """No size is documented, so it is a setting; the page blames no event."""
    tiktok = emulator(Scenario(max_body_bytes=len(ask("a").body)))
    assert tiktok.answer(ask("a"), at(0)).code == 0
    reply = tiktok.answer(ask("ab"), at(0))
    assert (reply.status, reply.code, reply.content_type) == (413, None, "text/html")
    assert tiktok.truth.events_accepted == 1


NAMES = st.text(max_size=3)
SECONDS = st.integers(0, 99).map(str)
FAULTS = st.one_of(
    st.builds(
        Fault,
        kind=st.sampled_from(FaultKind),
        code=st.integers(0, 99999),
        status=st.none() | st.integers(200, 599),
        message=st.none() | st.text(max_size=5),
        retry_after=st.none() | st.text(max_size=5),
        seconds=st.floats(0, 9),
        event_source_id=st.none() | NAMES,
        app=st.none() | NAMES,
        probability=st.floats(0, 1),
        times=st.none() | st.integers(0, 9),
        after=st.floats(0, 9),
        lasting=st.none() | st.floats(0, 100),
        taken=st.booleans(),
    ),
    st.builds(
        Fault,
        kind=st.just(FaultKind.CODE),
        code=st.just(20001),
        failed=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        failed_by=st.sampled_from(FailedBy),
        retry_after=SECONDS,
        retry_after_date=st.booleans(),
    ),
)
RATES = st.dictionaries(NAMES, st.floats(0, 100), max_size=2)
SCENARIOS = st.builds(
    Scenario,
    seed=st.integers(0, 9),
    latency_ms=st.floats(0, 500),
    latency_jitter_ms=st.floats(0, 500),
    app_rate=st.none() | st.floats(0, 9),
    pixel_rate=st.none() | st.floats(0, 9),
    app_rates=RATES,
    pixel_rates=RATES,
    burst_seconds=st.floats(0, 9),
    throttle_form=st.sampled_from(ThrottleForm),
    retry_after=SECONDS,
    retry_after_date=st.booleans(),
    expired_tokens=st.frozensets(NAMES),
    tokens_valid_from=RATES,
    tokens_valid_until=RATES,
    max_body_bytes=st.none() | st.integers(0, 9),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
)


@given(SCENARIOS)
@settings(max_examples=60, deadline=None)
def test_a_scenario_survives_its_json(scenario: Scenario) -> None:
    """What one sets over HTTP is what is played."""
    document = orjson.loads(orjson.dumps(scenario_to_json(scenario)))
    assert scenario_from_json(document) == scenario
    assert faults_from_json(document["faults"]) == scenario.faults


@given(SCENARIOS, SCENARIOS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_change_names_what_it_changes(old: Scenario, new: Scenario, data: st.DataObject) -> None:
    """The fields that a change names are the new ones, and no others."""
    document = orjson.loads(orjson.dumps(scenario_to_json(new)))
    named = data.draw(st.sets(st.sampled_from(sorted(set(document) - {"retry_after_date"}))))
    if old.retry_after_date:
        named.discard("retry_after")
    tiktok = emulator(old)
    tiktok.amend(changes_from_json({name: document[name] for name in named}), at(0))
    for name in document:
        assert getattr(tiktok.scenario, name) == getattr(new if name in named else old, name)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "scenario:"),
        ({"latency": 5}, "scenario.latency:"),
        ({"latency_ms": "5"}, "scenario.latency_ms:"),
        ({"latency_ms": -5}, "scenario.latency_ms:"),
        ({"wording": "prose"}, "scenario.wording:"),
        ({"throttle_form": "prose"}, "scenario.throttle_form:"),
        ({"expired_tokens": [1]}, "scenario.expired_tokens:"),
        ({"pixel_rates": {"C1": "5"}}, "scenario.pixel_rates:"),
        ({"app_rates": {"app": -1}}, "scenario.app_rates:"),
        ({"tokens_valid_from": {"t": True}}, "scenario.tokens_valid_from:"),
        ({"retry_after_date": 1}, "scenario.retry_after_date:"),
        ({"retry_after_date": True}, "retry_after:"),
        ({"faults": [{}]}, "faults[0].kind:"),
        ({"faults": [{"kind": "code"}, {"kind": "fire"}]}, "faults[1].kind:"),
        ({"faults": [{"kind": "code", "times": True}]}, "faults[0].times:"),
        ({"faults": [{"kind": "page", "status": 999}]}, "faults[0].status:"),
        ({"faults": [{"kind": "page", "probability": 1.5}]}, "faults[0].probability:"),
        ({"faults": [{"kind": "code", "code": 20001, "failed": ["a"]}]}, "faults[0].failed:"),
        ({"faults": [{"kind": "code", "failed": [1]}]}, "faults[0].failed:"),
    ],
)
def test_a_wrong_scenario_is_refused_by_key(document: object, named: str) -> None:
    """A typing error in a scenario must not silently test nothing."""
    with pytest.raises(ScenarioError) as caught:
        scenario_from_json(document)
    assert str(caught.value).startswith(named)


def test_tokens_are_read_with_their_app_and_pixels() -> None:
    """The form of the file that the command takes."""
    document = {"t": {"app": "shop", "event_source_ids": [PIXEL, OTHER]}}
    assert tokens_from_json(document) == {"t": Access("shop", frozenset({PIXEL, OTHER}))}


@pytest.mark.parametrize(
    "entry",
    [
        "shop",
        {"app": "shop"},
        {"app": "", "event_source_ids": [PIXEL]},
        {"app": "shop", "event_source_ids": PIXEL},
        {"app": "shop", "event_source_ids": [1]},
        {"app": "shop", "event_source_ids": [], "pixels": []},
    ],
)
def test_a_wrong_entry_is_named_by_its_place_and_never_by_its_token(entry: object) -> None:
    """Errors are printed; tokens are not."""
    good = {"app": "shop", "event_source_ids": [PIXEL]}
    with pytest.raises(TokensError, match=r"^token 2: ") as caught:
        tokens_from_json({"good-secret": good, "bad-secret": entry})
    assert "secret" not in str(caught.value)
