"""What the events of each source hold: TikTok's tables (Events API 2.0), as data.

What a source does not take is left out with a warning, what it requires is asked for. Nothing here
decides: `consumer.identity`, `consumer.sections` and `consumer.payload` build their plans from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from consumer.event import EventSource
from consumer.names import OFFLINE_EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class SectionRules:
    """An object within an event: the fields of it that are sent, and the one it cannot be without.

    Where `required` is set, an event without that field, or without the object, is invalid.
    """

    fields: tuple[str, ...]
    required: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRules:
    """What the events of one source hold.

    `user` names the fields of `user`, `sections` the other objects. `limited_data_use` tells
    whether there is such a flag. `names` are the only event names taken; None takes custom ones.
    """

    user: tuple[str, ...]
    sections: Mapping[str, SectionRules]
    limited_data_use: bool = False
    names: frozenset[str] | None = None


SECTIONS = ("page", "app", "ad", "lead")
"""The objects of an event beside `user` and `properties`, as the event schema names them."""

_SHARE = ("attribution_share",)

RULES: Mapping[EventSource, SourceRules] = MappingProxyType(
    {
        EventSource.WEB: SourceRules(
            user=_words(
                "email phone external_id ttclid ttp ip user_agent locale"
                " first_name last_name city state country zip_code"
            ),
            sections={
                "page": SectionRules(("url", "referrer"), required="url"),
                "ad": SectionRules(_SHARE),
            },
            limited_data_use=True,
        ),
        EventSource.APP: SourceRules(
            user=_words("email phone ip user_agent locale idfa gaid idfv att_status"),
            sections={
                "app": SectionRules(("app_id", "app_name", "app_version"), required="app_id"),
                "ad": SectionRules(
                    _words(
                        "callback campaign_id ad_id creative_id is_retargeting attributed"
                        " attribution_type attribution_provider"
                    )
                    + _SHARE
                ),
            },
            limited_data_use=True,
        ),
        EventSource.OFFLINE: SourceRules(
            user=("email", "phone"), sections={}, names=OFFLINE_EVENTS
        ),
        EventSource.CRM: SourceRules(
            user=("email", "phone", "external_id"),
            sections={"lead": SectionRules(("lead_id", "lead_event_source"), required="lead_id")},
        ),
    }
)
"""Every source. CRM events may have custom names: only for offline ones does TikTok forbid them."""
