"""Redaction: what is known wording stays, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.redact import REDACTED, redact, scrub

CANARIES = (
    "alice.canary@example.com",
    "ALICE%40example.com",
    "+12133734253",
    "(213) 373-4253",
    "00441632960961",
    "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f",
    "EA7583CD-A667-48BC-B806-42ECB2B48606",
    "E.C.P.CvoBK8s2xCanaryTtclid",
    "Janecanary",
    "O'Canary-Smith",
    "94105",
    "203.0.113.77",
    "user_123",
    "act.0123456789abcdef0123456789abcdef01234567",
)
WORDINGS = (
    "Invalid value for data. 1 .event_id: {}",
    "Invalid value for data.0.user.email: {} is not a valid hash.",
    "Batch.0.properties.contents.0.content_id: {} Not a valid string",
    "Invalid value for event_id: '{}' is not a valid string.",
    'Invalid value for user.phone: "{}".',
    "Invalid parameter [{}]",
    "bad value={}",
    "{}",
    "email:{}, phone:{}",
    "data.{}",
    "zip code {}",
    "data.0.user.zip_code.{}",
    "<html>{}</html>",
)


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value for data. 1 .event_id: not a valid string.",
        "Invalid value for data.0.event_id",
        "Batch.0.properties.contents.0.content_id: Not a valid string",
        "Invalid value for event_id: not a valid string.",
        "longer than maximum length 1000.",
        "Too many requests. Please retry after 5 seconds",
        "properties.contents[2].price: missing data for required field, code 40002",
    ],
)
def test_documented_wordings_stay_whole(message: str) -> None:
    """What TikTok says about fields and codes is kept, so that a dead letter explains itself."""
    assert redact(message) == message


def test_a_quoted_value_goes_and_the_sentence_stays() -> None:
    """The value is replaced where it stood."""
    message = "Invalid value for data.0.user.email: 'a@b.c d' is not a valid hash."
    assert (
        redact(message) == f"Invalid value for data.0.user.email: {REDACTED} is not a valid hash."
    )


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("canary", CANARIES)
def test_no_value_survives_in_any_wording(canary: str, wording: str) -> None:
    """A person's data is gone, quoted or not, whatever the sentence around it."""
    assert canary not in redact(wording.replace("{}", canary))


@given(st.text(max_size=300), st.sampled_from(WORDINGS))
@settings(max_examples=150)
def test_redaction_of_anything_is_short_ascii_and_final(value: str, wording: str) -> None:
    """Whatever comes in, what goes out fits a header and redacts to itself."""
    once = redact(wording.replace("{}", value), limit=200)
    assert once.isascii()
    assert len(once) <= 200
    assert redact(once, limit=200) == once


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=20))
@settings(max_examples=150)
def test_an_unknown_word_never_stays(word: str) -> None:
    """What is not on the list goes, also when it looks like any other word."""
    canary = f"Zq{word}"
    assert canary not in redact(f"Invalid value for data.0.user.first_name: {canary} is not valid")


def test_a_long_message_is_cut_at_a_word() -> None:
    """The cut says so, and the limit holds."""
    cut = redact("not a valid string " * 200, limit=100)
    assert cut.endswith(" ...")
    assert len(cut) <= 100


def test_hostile_length_costs_little() -> None:
    """A megabyte of quotes or spaces is read only at its start."""
    assert redact("'" * 1_000_000) == REDACTED
    assert redact(" " * 1_000_000) == ""


@given(
    st.sampled_from(
        [
            "alice.canary@example.com",
            "alice.canary%40example.com",
            "+12133734253",
            "(213) 373-4253",
            "848a771458438fc2ec420560d769fb9b9b86851ee338ec56517baabd79d3bb4f",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            "0123456789abcdef0123456789abcdef01234567",
        ]
    ),
    st.text(max_size=40),
    st.text(max_size=40),
)
@settings(max_examples=150)
def test_scrubbed_text_has_no_address_number_or_token(canary: str, before: str, after: str) -> None:
    """The last defence finds them in the middle of any text."""
    assert canary not in scrub(before + canary + after)


@pytest.mark.parametrize(
    "text",
    [
        "Access-Token: s3cret-t0ken",
        "{'Access-Token': 's3cret-t0ken'}",
        "Authorization: Bearer s3cret-t0ken",
        "Authorization=Basic s3cret-t0ken",
        "password=s3cret-t0ken",
        "http://user:s3cret-t0ken@registry:8081/",
    ],
)
def test_scrubbed_text_has_no_named_secret(text: str) -> None:
    """What follows the name of a secret goes, whatever it looks like."""
    assert "s3cret" not in scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "broker 10.100.200.123:9092 is down",
        "partition conversions/3 paused: destination_held",
        "held until 2026-11-21T09:08:21Z",
        'File "/usr/lib/python3.11/asyncio/base_events.py", line 1234, in run',
    ],
)
def test_scrubbing_leaves_operators_their_words(text: str) -> None:
    """Addresses of brokers, paths and times stay readable."""
    assert scrub(text) == text
