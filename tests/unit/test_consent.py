"""A denial is obeyed, a missing answer is read as the settings say, and the strictest wins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.consent import ConsentRules, Decisions, OnDenied, decide, strictest
from consumer.event import Consent, ConsentState
from tests.support.events import event

GRANTED, DENIED, UNKNOWN = ConsentState.GRANTED, ConsentState.DENIED, ConsentState.UNKNOWN
ALL_GRANTED = dict.fromkeys(("marketing", "ad_user_data", "ad_personalization"), "GRANTED")
STRIP_BOTH = ConsentRules(on_marketing_denied=OnDenied.STRIP, on_ad_user_data_denied=OnDenied.STRIP)
SUPPRESS_BOTH = ConsentRules(
    on_marketing_denied=OnDenied.SUPPRESS, on_ad_user_data_denied=OnDenied.SUPPRESS
)
IN_THE_US = ConsentRules(limited_data_use_regions=frozenset({"US", "CA-QC"}))


def record(**answers: Any) -> dict[str, Any]:
    """A consent record that grants everything but what is given."""
    consent: dict[str, Any] = event(consent=ALL_GRANTED | answers)["consent"]
    return consent


@pytest.mark.parametrize(
    ("answers", "rules", "send", "strip"),
    [
        pytest.param({}, ConsentRules(), True, False, id="all granted"),
        pytest.param({"marketing": "DENIED"}, ConsentRules(), False, False, id="marketing denied"),
        pytest.param(
            {"ad_user_data": "DENIED"}, ConsentRules(), True, True, id="ad_user_data denied"
        ),
        pytest.param(
            {"ad_personalization": "DENIED"},
            ConsentRules(),
            True,
            False,
            id="ad_personalization denied",
        ),
        pytest.param(
            {"marketing": "DENIED"}, STRIP_BOTH, True, True, id="marketing denied, strip instead"
        ),
        pytest.param(
            {"ad_user_data": "DENIED"},
            SUPPRESS_BOTH,
            False,
            False,
            id="ad_user_data denied, suppress instead",
        ),
        pytest.param(
            {"marketing": "UNKNOWN"},
            ConsentRules(),
            False,
            False,
            id="unknown is denied by default",
        ),
        pytest.param({"marketing": None}, ConsentRules(), False, False, id="null is unknown"),
        pytest.param(
            {"marketing": None, "ad_user_data": "UNKNOWN"},
            ConsentRules(missing=GRANTED),
            True,
            False,
            id="unknown is granted where the settings say so",
        ),
        pytest.param(
            {"marketing": "DENIED"},
            ConsentRules(missing=GRANTED),
            False,
            False,
            id="a denial is no missing answer",
        ),
    ],
)
def test_answers_decide_by_the_rules(
    answers: dict[str, Any],
    rules: ConsentRules,
    send: bool,  # noqa: FBT001  a column of the table
    strip: bool,  # noqa: FBT001  a column of the table
) -> None:
    """Whether the event goes, and whether without the person's identifiers."""
    decision = decide(record(**answers), rules)
    assert (decision.send, decision.strip_user_data) == (send, strip)


@pytest.mark.parametrize(("missing", "send"), [(DENIED, False), (GRANTED, True)])
def test_an_event_without_a_record_is_read_as_the_settings_say(
    missing: Any,
    send: bool,  # noqa: FBT001  a column of the table
) -> None:
    """A forgotten mapping sends too little unless the user decided otherwise."""
    decision = decide(None, ConsentRules(missing=missing))
    assert decision.send is send
    assert decision[:5] == (UNKNOWN, UNKNOWN, UNKNOWN, None, None)


def test_the_states_stay_as_the_event_gave_them() -> None:
    """How an unknown answer is read does not make it an answer."""
    decision = decide(record(ad_user_data="UNKNOWN", region="DE", cmp_version="3"), ConsentRules())
    assert decision[:5] == (GRANTED, UNKNOWN, GRANTED, "DE", "3")


@pytest.mark.parametrize(
    ("region", "answer", "flag", "expected"),
    [
        pytest.param("US", "DENIED", None, True, id="the region itself"),
        pytest.param("US-CA", "DENIED", None, True, id="a country covers its subdivisions"),
        pytest.param("us_ca", "DENIED", None, True, id="spelling does not matter"),
        pytest.param("CA-QC", "DENIED", None, True, id="a listed subdivision"),
        pytest.param("CA", "DENIED", None, None, id="a subdivision does not cover its country"),
        pytest.param("DE", "DENIED", None, None, id="another region"),
        pytest.param(None, "DENIED", None, None, id="no region"),
        pytest.param("US", "GRANTED", None, None, id="granted"),
        pytest.param("US", "UNKNOWN", None, True, id="a missing answer, read as denied"),
        pytest.param("US", "DENIED", False, True, id="the region over the event's false"),
        pytest.param("DE", "GRANTED", True, True, id="the event's true stays"),
        pytest.param("DE", "GRANTED", False, False, id="the event's false stays"),
    ],
)
def test_limited_data_use_follows_region_and_event(
    region: str | None,
    answer: str,
    flag: bool | None,  # noqa: FBT001  a column of the table
    expected: bool | None,  # noqa: FBT001  a column of the table
) -> None:
    """A denied ad_personalization limits the use where the region asks for it."""
    consent = record(ad_personalization=answer, region=region)
    assert decide(consent, IN_THE_US, limited_data_use=flag).limited_data_use is expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([None, *ConsentState])] * 3), max_size=12), st.data())
def test_a_remembered_decision_is_the_one_that_would_be_made(
    answers: list[tuple[ConsentState | None, ...]], data: st.DataObject
) -> None:
    """Whatever was decided before, by every answer, region, version and flag."""
    decisions = Decisions(IN_THE_US)
    names = ("marketing", "ad_user_data", "ad_personalization")
    for states_ in answers:
        given_ = event(
            consent=None
            if data.draw(st.booleans())
            else {
                **dict(zip(names, states_, strict=True)),
                "region": data.draw(st.sampled_from([None, "US", "DE"])),
                "cmp_version": data.draw(st.sampled_from([None, "1"])),
                "collected_at": data.draw(st.integers(0, 3)),
            },
            limited_data_use=data.draw(st.sampled_from([None, True, False])),
        )
        expected = decide(given_["consent"], IN_THE_US, limited_data_use=given_["limited_data_use"])
        assert decisions.of(given_) == decisions.of(given_) == expected


def test_the_memory_of_decisions_is_bounded() -> None:
    """Regions and versions come with the events, and a hostile producer invents them."""
    decisions = Decisions(ConsentRules())
    for number in range(5_000):
        decisions.of(event(consent=ALL_GRANTED | {"cmp_version": str(number)}))
    assert len(decisions._known) <= 1024


states = st.sampled_from(ConsentState)
consents = st.builds(
    Consent,
    marketing=states,
    ad_user_data=states,
    ad_personalization=states,
    region=st.sampled_from([None, "DE", "US"]),
    cmp_version=st.sampled_from([None, "1", "2"]),
    send=st.booleans(),
    strip_user_data=st.booleans(),
    limited_data_use=st.sampled_from([None, True, False]),
)


@given(consents, consents)
def test_the_strictest_allows_nothing_that_one_of_them_forbids(a: Consent, b: Consent) -> None:
    """For every flag and state, whichever order the records came in."""
    both = strictest(a, b)
    assert both.send == (a.send and b.send)
    assert both.strip_user_data == (a.strip_user_data or b.strip_user_data)
    assert (both.limited_data_use is True) == (True in (a.limited_data_use, b.limited_data_use))
    for mine, one, other in zip(both[:3], a[:3], b[:3], strict=True):
        assert mine in (one, other)
        assert (mine is DENIED) == (DENIED in (one, other))
        assert (mine is GRANTED) == (one is other is GRANTED)
    swapped = strictest(b, a)
    assert both[:3] + both[5:] == swapped[:3] + swapped[5:]


@given(consents, consents)
def test_the_strictest_is_reached_after_one_step(a: Consent, b: Consent) -> None:
    """Merging again changes nothing, so waiters can be merged as they come."""
    both = strictest(a, b)
    assert strictest(both, a) == strictest(both, b) == strictest(both, both) == both


def test_a_looser_consent_leaves_the_first_as_it_is() -> None:
    """Region and version are those of the consent that decided."""
    strict = decide(record(ad_user_data="DENIED", region="DE"), ConsentRules())
    loose = decide(record(region="US"), ConsentRules())
    assert strictest(strict, loose) is strict
    assert strictest(loose, strict).region == "DE"


def test_a_missing_answer_cannot_be_read_as_unknown() -> None:
    """The setting has to decide."""
    with pytest.raises(ValueError, match=r"consent\.missing"):
        ConsentRules(missing=UNKNOWN)
