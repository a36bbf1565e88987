"""An event finds its destination by id and source, and never a wrong one."""

from __future__ import annotations

import pytest

from consumer.event import Destination, EventSource, Reason, Refused
from consumer.route import Routes
from tests.support.events import event

WEB = Destination(EventSource.WEB, "pixel")
WEB_2 = Destination(EventSource.WEB, "pixel-2")
APP = Destination(EventSource.APP, "app")
SAME_ID_APP = Destination(EventSource.APP, "pixel")


@pytest.mark.parametrize(
    ("destinations", "default", "source_id", "source", "expected"),
    [
        pytest.param([WEB, APP], None, "pixel", None, WEB, id="the id chooses"),
        pytest.param([WEB, APP], None, "app", "app", APP, id="an agreeing source changes nothing"),
        pytest.param(
            [WEB, SAME_ID_APP], None, "pixel", "app", SAME_ID_APP, id="the source chooses for an id"
        ),
        pytest.param([WEB, APP], None, None, "app", APP, id="the only one of the source"),
        pytest.param([WEB], None, None, None, WEB, id="the only one of all"),
        pytest.param([WEB, WEB_2], "pixel-2", None, "web", WEB_2, id="the default among several"),
        pytest.param(
            [WEB, WEB_2, SAME_ID_APP, APP],
            "pixel",
            None,
            "web",
            WEB,
            id="the source chooses for a default that several share",
        ),
        pytest.param(
            [WEB, WEB_2, SAME_ID_APP, APP],
            "pixel",
            None,
            "app",
            SAME_ID_APP,
            id="the other source of that default",
        ),
        pytest.param([WEB, APP], "app", None, None, APP, id="the default where nothing is said"),
        pytest.param(
            [WEB, WEB_2, APP], "pixel", None, "app", APP, id="the only one over the default"
        ),
    ],
)
def test_the_destination_is_found(
    destinations: list[Destination],
    default: str | None,
    source_id: str | None,
    source: str | None,
    expected: Destination,
) -> None:
    """Each way an event may name its destination."""
    routes = Routes(destinations, default)
    assert routes.route(event(event_source_id=source_id, event_source=source)) is expected


UNKNOWN = (Reason.UNKNOWN_DESTINATION, "event_source_id")
DISAGREES = (Reason.INVALID, "event_source")


@pytest.mark.parametrize(
    ("destinations", "default", "source_id", "source", "fault"),
    [
        pytest.param(
            [WEB], "pixel", "other", "web", UNKNOWN, id="an unknown id, in spite of a default"
        ),
        pytest.param([WEB], "pixel", "", None, UNKNOWN, id="an empty id is no null"),
        pytest.param(
            [WEB, WEB_2], None, None, "web", UNKNOWN, id="several of the source and no default"
        ),
        pytest.param([WEB, APP], None, None, None, UNKNOWN, id="nothing said and no default"),
        pytest.param([WEB, APP], None, "pixel", "app", DISAGREES, id="a source that disagrees"),
        pytest.param(
            [WEB, WEB_2], "pixel", None, "crm", DISAGREES, id="a default of another source"
        ),
        pytest.param(
            [WEB, SAME_ID_APP],
            "pixel",
            "pixel",
            None,
            DISAGREES,
            id="an id of several sources without a source",
        ),
        pytest.param(
            [WEB, SAME_ID_APP],
            "pixel",
            None,
            None,
            DISAGREES,
            id="a default that several sources share",
        ),
    ],
)
def test_an_event_without_a_destination_is_refused(
    destinations: list[Destination],
    default: str | None,
    source_id: str | None,
    source: str | None,
    fault: tuple[Reason, str],
) -> None:
    """The reason and the field at fault, never a guess."""
    found = Routes(destinations, default).route(
        event(event_source_id=source_id, event_source=source)
    )
    assert isinstance(found, Refused)
    assert (found.reason, found.field) == fault


def test_a_destination_given_twice_is_a_mistake() -> None:
    """Two entries for one pixel would make the choice between them arbitrary."""
    with pytest.raises(ValueError, match="two web destinations"):
        Routes([WEB, Destination(EventSource.WEB, "pixel")], None)
