"""A request's body, joined from the events' own bytes, is TikTok's JSON object all the same."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from consumer.client import envelope
from consumer.requests import Request


@given(
    source_id=st.text(),
    code=st.none() | st.text(),
    events=st.lists(st.dictionaries(st.text(), st.text() | st.integers(0, 9)), max_size=5),
)
def test_an_envelope_is_the_documented_object_whatever_is_in_it(
    source_id: str, code: str | None, events: list[dict[str, object]]
) -> None:
    """Joining bytes gives the same JSON as building the whole object would."""
    asked = Request(1, "web", source_id, code, [orjson.dumps(each) for each in events])
    expected: dict[str, object] = {"event_source": "web", "event_source_id": source_id}
    if code is not None:
        expected["test_event_code"] = code
    assert orjson.loads(envelope(asked)) == {**expected, "data": events}
