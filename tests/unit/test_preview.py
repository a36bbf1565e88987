"""A preview is what the consumer would do, in the words of a contract and in those of a person."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings

from consumer import compose, preview_text
from consumer.cli import main
from consumer.client import HEADERS, envelope
from consumer.decode import Decoder, Encoding
from consumer.dedup import Keys
from consumer.deliver import Request
from consumer.event import EventSource, Instant, Item, Record, TopicPartition, TraceIds
from consumer.intake import Intake
from consumer.offsets import CommitOffset
from consumer.plain_json import PlainEvent, PlainForm
from consumer.preview import Preview, Previewer
from consumer.schemas import load_schema
from tests.support.configuration import config_of
from tests.support.events import EVENT_TIME_MS, any_event, avro
from tests.support.state_world import ready_partition

if TYPE_CHECKING:
    from pathlib import Path

FORM = PlainForm(load_schema("conversion_event"))
LEAST: dict[str, Any] = {
    "event_id": "e1",
    "event": "purchase",
    "event_time": EVENT_TIME_MS,
    "page": {"url": "https://shop.example/thanks"},
    "consent": {"marketing": "GRANTED", "ad_user_data": "GRANTED"},
}
CONFIG = config_of("consent: {missing: granted}\n")
TP = TopicPartition("conversions", 0)


def preview(text: str = "", **fields: Any) -> Preview:
    return Previewer(config_of(text)).preview(FORM.read(LEAST | fields), EVENT_TIME_MS)


def words(text: str = "", **fields: Any) -> str:
    config = config_of(text)
    return preview_text.text(
        preview(text, **fields), list(compose.destinations(config)), missing=config.consent.missing
    )


def consumed(event: dict[str, Any]) -> tuple[Item, Any]:
    """What the consumer's own intake makes of the event's bytes."""
    targets = list(compose.destinations(CONFIG))
    intake = Intake(
        Decoder(Encoding.RAW, load_schema("conversion_event")),
        compose.routes(CONFIG, targets),
        compose.mapper(CONFIG),
        Keys(),
    )
    item = Item(
        Record(*TP, 0, -1, None, avro(event), ()),
        Instant(0.0, EVENT_TIME_MS * 1_000_000),
        TraceIds(0, 0, 0, False, ""),
        ready_partition(TP, 0, CommitOffset(0)),
    )
    return item, intake.prepare(item, EVENT_TIME_MS)


@settings(max_examples=100, deadline=None)
@given(any_event)
def test_it_is_what_the_consumer_makes_of_the_same_bytes(event: dict[str, Any]) -> None:
    """The same outcome, reason and field; the same body in the client's own envelope."""
    event |= {"event_source": "web", "event_source_id": None, "page": LEAST["page"]}
    event["page"] = {"url": "https://shop.example/", "referrer": None}
    event["properties"] = None  # a NaN among them equals nothing, not even itself
    item, found = consumed(event)
    seen = Previewer(CONFIG).preview(PlainEvent(event, (), ()), EVENT_TIME_MS)
    if item.mapped is None:
        assert (seen.request, seen.reason) == (None, found.reason)
        assert seen.field == getattr(found, "field", None)
        return
    sent = item.mapped
    request = Request(0, "web", "PIXEL", sent.test_event_code, [sent.body])
    assert seen.request is not None
    assert seen.request.body == envelope(request)
    assert seen.request.headers == {**HEADERS, "Access-Token": "***"}


def test_the_json_form_is_the_contract() -> None:
    """Exactly these keys; nothing secret in them and no plain identifier."""
    found = preview(user={"email": "Ada@Mail.example", "zip": "1"}, test_event_code="TEST1")
    shown = json.loads(json.dumps(found.as_json()))
    body = shown["request"].pop("body")
    assert shown == {
        "outcome": "send",
        "reason": None,
        "field": None,
        "detail": None,
        "destination": "PIXEL",
        "warnings": [
            {
                "field": "user.zip",
                "message": "is no field of an event and is ignored; did you mean user.zip_code?",
            }
        ],
        "request": {
            "method": "POST",
            "url": "https://business-api.tiktok.com/open_api/v1.3/event/track/",
            "headers": {**HEADERS, "Access-Token": "***"},
        },
    }
    assert body["test_event_code"] == "TEST1"
    assert body["data"][0]["event"] == "CompletePayment"
    assert "ada" not in orjson.dumps(body).decode().lower()


@pytest.mark.parametrize(
    ("text", "fields", "reason", "detail"),
    [
        (
            "",
            {"consent": {"marketing": "DENIED"}},
            "consent",
            "consent.marketing is DENIED",
        ),
        (
            "",
            {"consent": None},
            "consent",
            "consent.marketing is not known, which consent.missing reads as denied",
        ),
        (
            "consent: {on_ad_user_data_denied: suppress}",
            {"consent": {"marketing": "DENIED", "ad_user_data": "DENIED"}},
            "consent",
            "consent.marketing is DENIED and consent.ad_user_data is DENIED",
        ),
    ],
)
def test_a_suppressed_event_says_which_answer_did_it(
    text: str, fields: dict[str, Any], reason: str, detail: str
) -> None:
    """And whether it was an answer at all, or the lack of one."""
    shown = preview(text, **fields).as_json()
    assert (shown["outcome"], shown["reason"], shown["detail"]) == ("suppressed", reason, detail)
    assert (shown["request"], shown["field"], shown["destination"]) == (None, None, "PIXEL")


def test_an_event_that_the_filter_holds_back_says_which_name_it_would_have_had() -> None:
    """The list holds names as they are sent, which is easily forgotten."""
    config = config_of()
    pixel = config.destinations[0].model_copy(update={"allow_events": ("Lead",)})
    narrow = config.model_copy(update={"destinations": (pixel,)})
    found = Previewer(narrow).preview(FORM.read(LEAST), EVENT_TIME_MS)
    assert (found.outcome, found.reason) == ("suppressed", "filter")
    assert found.detail == "CompletePayment is not among the allow_events of PIXEL"


@pytest.mark.parametrize(
    ("fields", "reason", "field", "destination"),
    [
        ({"event_source_id": "OTHER"}, "unknown_destination", "event_source_id", None),
        ({"page": None}, "invalid", "page.url", "PIXEL"),
        ({"page": {"url": 1.5}}, "invalid", "page.url", None),
        ({"event_time": EVENT_TIME_MS - 8 * 86_400_000}, "too_old", "event_time", "PIXEL"),
        ({"event_time": EVENT_TIME_MS + 86_400_000}, "in_future", "event_time", "PIXEL"),
        ({"event_source_id": "PIXEL", "event_source": "app"}, "invalid", "event_source", None),
    ],
)
def test_a_dead_letter_names_reason_and_field(
    fields: dict[str, Any], reason: str, field: str, destination: str | None
) -> None:
    """Those that its headers would have; the destination where it got so far."""
    shown = preview(**fields).as_json()
    assert (shown["outcome"], shown["reason"], shown["field"]) == ("dead_lettered", reason, field)
    assert (shown["request"], shown["destination"]) == (None, destination)
    assert shown["detail"]


def test_what_consent_takes_out_is_told_with_the_answer_that_did_it() -> None:
    """As a warning a field, so that a program sees it as well."""
    user = {"email": "a@b.example", "ttp": "t"}
    denied = preview(user=user, consent={"marketing": "GRANTED", "ad_user_data": "DENIED"})
    assert denied.warnings == (("user.email", "left out: consent.ad_user_data is DENIED"),)
    missing = preview(user=user, consent={"marketing": "GRANTED"})
    assert missing.warnings == (
        (
            "user.email",
            "left out: consent.ad_user_data is not known, which consent.missing reads as denied",
        ),
    )


def test_a_person_reads_where_it_goes_what_goes_and_what_would_help() -> None:
    """Headline, request, what was left out, consent, match keys: all on one page."""
    shown = words(
        user={"email": "a@b.example", "ip": "10.0.0.1"},
        consent={"marketing": "GRANTED", "ad_user_data": "GRANTED", "region": "DE"},
    )
    lines = shown.splitlines()
    assert "Would be sent as CompletePayment to web PIXEL" in lines[0]
    assert "as a real event" in lines[1]
    assert "Access-Token: ***" in lines
    assert '  "event_source": "web",' in lines
    assert "  user.ip: left out: it is no public IP address" in lines
    assert "  marketing: granted" in lines
    assert "  ad_personalization: not known, read as denied" in lines
    assert "  region: DE" in lines
    assert "  email" in lines
    assert "  would match better with: phone, external_id, ttclid, ttp, ip" in shown
    assert "a@b.example" not in shown


def test_the_hint_about_missing_consent_stands_where_it_decided_something() -> None:
    """An event whose people were all asked needs none."""
    all_said = dict.fromkeys(("marketing", "ad_user_data", "ad_personalization"), "GRANTED")
    assert "consent.missing: granted" in words(consent=None)
    assert "consent.missing: granted" not in words(consent=all_said)
    assert "consent.missing: granted" not in words("consent: {missing: granted}\n", consent=None)


def test_every_problem_of_a_dead_letter_is_told_to_a_person() -> None:
    """One run shows all there is to mend."""
    shown = words(event=None, user={"email": 1.5})
    assert "a dead letter (invalid)" in shown
    assert "  event: is required" in shown.splitlines()
    assert "  user.email: must be text or a list of text" in shown.splitlines()


def test_a_person_is_told_which_destinations_there_are() -> None:
    """The id is often that of another account."""
    shown = words(event_source_id="OTHER")
    assert "The destinations of this configuration: web PIXEL." in shown


def test_what_would_help_is_what_the_source_takes() -> None:
    """Offline events are matched by e-mail and phone alone."""
    config = config_of().model_copy()
    offline = config.destinations[0].model_copy(update={"event_source": EventSource.OFFLINE})
    config = config.model_copy(update={"destinations": (offline,)})
    found = Previewer(config).preview(FORM.read(LEAST), EVENT_TIME_MS)
    shown = preview_text.text(found, [], missing="denied")
    assert "nothing: TikTok can attribute it to nobody" in shown
    assert shown.endswith("  would match better with: email, phone")


def test_what_consent_forbids_is_not_asked_for() -> None:
    """Nobody is told to add the e-mail address of a person who said no."""
    shown = words(consent={"marketing": "GRANTED", "ad_user_data": "DENIED"})
    assert "would match better with: ttclid, ttp, ip, user_agent, city, state, country" in shown


def test_nothing_that_came_with_the_event_steers_the_terminal() -> None:
    """Escape sequences in names and keys are shown as what they are."""
    shown = words(event="\x1b[2J\x9b", properties={"custom": {"\x9b31m": "x"}}, **{"\x1b[1m": 1})
    ours = {"\x1b[1m", "\x1b[32m", "\x1b[0m"}
    assert set(re.findall(r"\x1b(?:\[[0-9;]*[A-Za-z])?", shown)) == ours
    assert "\x9b" not in shown


def write(folder: Path, event: object) -> list[str]:
    """A configuration and an event on disk; the arguments that name them."""
    (folder / "c.yaml").write_text(
        "destinations: [{event_source_id: PIXEL, access_token: {file: not/there}}]\n",
        encoding="utf-8",
    )
    (folder / "e.json").write_text(json.dumps(event), encoding="utf-8")
    return ["-c", str(folder / "c.yaml"), str(folder / "e.json")]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["preview", *arguments])


@pytest.mark.parametrize(
    ("fields", "exit_code"),
    [({}, 0), ({"consent": {"marketing": "DENIED"}}, 0), ({"page": None}, 1), ({"event": 1.5}, 1)],
)
def test_the_exit_code_tells_a_dead_letter(
    tmp_path: Path, fields: dict[str, Any], exit_code: int
) -> None:
    """0 where it is sent or suppressed on purpose, 1 for a dead letter; no token is needed."""
    arguments = write(tmp_path, LEAST | fields)
    for form in ([], ["--json"]):
        assert invoke("--now", *form, *arguments).exit_code == exit_code


def test_an_old_event_can_be_taken_as_if_it_happened_now(tmp_path: Path) -> None:
    """Examples and saved events get too old; the hint names the option."""
    arguments = write(tmp_path, LEAST | {"event_time": 1})
    old = invoke(*arguments)
    assert (old.exit_code, "--now" in old.stdout) == (1, True)
    assert invoke("--now", *arguments).exit_code == 0


@pytest.mark.parametrize("content", ["{", "[]", "", "null"])
def test_what_is_no_event_file_is_a_sentence_and_exit_2(tmp_path: Path, content: str) -> None:
    """On stderr; a program that reads JSON from stdout gets none."""
    arguments = write(tmp_path, LEAST)
    (tmp_path / "e.json").write_text(content, encoding="utf-8")
    result = invoke("--json", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {tmp_path / 'e.json'}: ")


def test_a_wrong_configuration_exits_2(tmp_path: Path) -> None:
    """Before the event is looked at."""
    arguments = write(tmp_path, LEAST)
    (tmp_path / "c.yaml").write_text("destination: []\n", encoding="utf-8")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "destination: is no known key; did you mean destinations?" in result.stderr
