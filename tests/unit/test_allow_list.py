"""A destination's allow list lets the listed events go, whichever of their names it lists."""

from __future__ import annotations

import pytest

from consumer import compose
from consumer.names import GA4_EVENT_NAMES, allowed_names
from tests.support.configuration import config_of


@pytest.mark.parametrize(
    ("listed", "names", "allowed"),
    [
        (["purchase"], GA4_EVENT_NAMES, {"CompletePayment"}),
        (["purchase", "quiz"], {"purchase": "Purchase"}, {"Purchase", "quiz"}),
        (["Purchase"], {"purchase": "Purchase", "Purchase": "Subscribe"}, {"Purchase"}),
        ([], GA4_EVENT_NAMES, set()),
    ],
)
def test_a_listed_name_that_is_mapped_stands_for_the_name_it_is_sent_as(
    listed: list[str], names: dict[str, str], allowed: set[str]
) -> None:
    """Taken literally, a list of GA4 names would hold every event back; sent names stay."""
    assert allowed_names(listed, names) == allowed


def test_the_newer_names_count_for_the_list_too() -> None:
    """The list follows the names that this configuration sends, defaults included."""
    config = config_of("events: {newer_names: true}\n")
    settings = config.destinations[0].model_copy(update={"allow_events": ("purchase", "search")})
    assert compose.destination(settings, config).allow_events == {"Purchase", "Search"}
