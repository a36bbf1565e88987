"""Records wait for a silent registry without end, and for five minutes for one that denies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.arrivals import REGISTRY_UNAVAILABLE, SCHEMAS_MISSING
from consumer.decode import UnusableSchema
from consumer.event import TopicPartition
from consumer.messages import (
    RegistryUnavailable,
    SchemaAnswer,
    SchemaFound,
    SchemaNotAvro,
    SchemaNotFound,
)
from consumer.schema_wait import MOST_WAITING, REFUSED_KEPT, SchemaWaits
from tests.support.world import TOPIC, JsonDecoder, World, event

FOUND = SchemaFound(("{}",))
DOWN = RegistryUnavailable("connection refused")
FIRST = TopicPartition(TOPIC, 0)


def needing(schema_id: int, event_id: str = "e1") -> bytes:
    """A value that was written with this schema."""
    return b"?%03d" % schema_id + event(event_id)


def test_records_of_a_new_schema_wait_and_go_on_in_order() -> None:
    """One question for all of them; what needs no schema does not wait."""
    world = World()
    world.assign(0)
    world.produce(needing(7, "a"), event("b"), needing(7, "c"))
    world.run(5.0)
    assert world.asked_schemas == [7]
    assert world.outcomes() == {1: "delivered"}
    assert world.committed() == 0
    assert world.holds() == set(), "nobody said yet that the registry is away"
    world.answer_schema(7, FOUND)
    world.run(1.0)
    assert world.outcomes() == dict.fromkeys(range(3), "delivered")
    assert world.sent_ids() == ["b", "a", "c"]
    assert world.committed() == 3
    assert world.idle()


def test_a_registry_that_is_away_holds_its_partitions_with_a_reason() -> None:
    """For as long as it lasts; then they go on by themselves."""
    world = World(registry=lambda _id: DOWN)
    world.assign(0, 1)
    world.produce(needing(7), partition=0)
    assert world.holds(0) == {REGISTRY_UNAVAILABLE}
    assert world.paused == {FIRST}
    assert world.holds(1) == set()
    world.run(3600.0)
    assert world.outcomes() == {}
    assert not world.letters, "an hour without an answer says nothing about the schema"
    assert 100 < len(world.asked_schemas) < 200
    world.registry = lambda _id: FOUND
    world.run(31.0)
    assert world.holds(0) == set()
    assert world.paused == set()
    assert world.outcomes() == {0: "delivered"}
    assert world.idle()


def test_a_partition_that_comes_to_an_id_already_in_trouble_is_held_at_once() -> None:
    """It would only fill the process with what cannot be read."""
    world = World(registry=lambda _id: DOWN)
    world.assign(0, 1)
    world.produce(needing(7, "a"), partition=0)
    world.produce(needing(7, "b"), partition=1)
    assert world.holds(1) == {REGISTRY_UNAVAILABLE}
    world.registry = lambda _id: FOUND
    world.run(31.0)
    assert not world.paused
    assert world.outcomes(0) == world.outcomes(1) == {0: "delivered"}


def test_the_hold_ends_when_the_registry_answers_that_it_does_not_know() -> None:
    """It is there again: the source reads on while the five minutes run."""
    answers: list[SchemaAnswer] = [DOWN]
    world = World(registry=lambda _id: answers.pop() if answers else SchemaNotFound())
    world.assign(0)
    world.produce(needing(7))
    assert world.holds() == {REGISTRY_UNAVAILABLE}
    world.run(10.0)
    assert world.holds() == set()
    assert world.paused == set()


def test_two_schemas_in_trouble_hold_until_both_are_known() -> None:
    """Each id is a reason of its own."""
    known: set[int] = set()
    world = World(registry=lambda schema_id: FOUND if schema_id in known else DOWN)
    world.assign(0)
    world.produce(needing(7, "a"), needing(8, "b"))
    known.add(7)
    world.run(60.0)
    assert world.outcomes() == {0: "delivered"}
    assert world.holds() == {REGISTRY_UNAVAILABLE}
    known.add(8)
    world.run(60.0)
    assert world.holds() == set()
    assert world.idle()


def test_an_id_that_the_registry_denies_for_five_minutes_is_unknown() -> None:
    """Not before: a schema may be registered a moment after its first record."""
    world = World(registry=lambda _id: SchemaNotFound())
    world.assign(0)
    world.produce(needing(7, "a"))
    world.run(200.0)
    world.produce(needing(7, "b"))
    world.run(99.9)
    assert world.outcomes() == {}
    assert world.committed() == 0
    world.run(0.2)
    assert set(world.outcomes().values()) == {"dead_lettered:schema_unknown"}
    assert len(world.outcomes()) == 2
    assert world.idle()


def test_a_schema_that_is_registered_late_is_found() -> None:
    """Its records were waiting, and nobody has to replay them."""
    world = World(registry=lambda _id: SchemaNotFound())
    world.assign(0)
    world.produce(needing(7))
    world.run(290.0)
    world.registry = lambda _id: FOUND
    world.run(31.0)
    assert world.outcomes() == {0: "delivered"}


def test_only_the_registrys_own_word_counts_towards_the_five_minutes() -> None:
    """An outage in between begins them anew."""
    answers: list[SchemaAnswer] = []
    world = World(registry=lambda _id: answers.pop() if answers else SchemaNotFound())
    world.assign(0)
    world.produce(needing(7))
    world.run(250.0)
    answers.append(DOWN)
    world.run(200.0)
    assert world.outcomes() == {}
    world.run(160.0)
    assert world.outcomes() == {0: "dead_lettered:schema_unknown"}


def test_an_unknown_id_is_refused_at_once_for_a_while_and_then_asked_for_again() -> None:
    """A flood of such records costs one question each half minute, and a late schema is noticed."""
    world = World(registry=lambda _id: SchemaNotFound())
    world.assign(0)
    world.produce(needing(7, "a"))
    world.run(301.0)
    asked = len(world.asked_schemas)
    world.produce(needing(7, "b"))
    assert world.outcomes()[1] == "dead_lettered:schema_unknown"
    assert len(world.asked_schemas) == asked
    world.clock.advance(31.0)
    world.produce(needing(7, "c"))
    assert world.outcomes()[2] == "dead_lettered:schema_unknown"
    assert len(world.asked_schemas) == asked + 1
    world.clock.advance(31.0)
    world.registry = lambda _id: FOUND
    world.produce(needing(7, "d"))
    world.run(1.0)
    assert world.outcomes()[3] == "delivered"


def test_a_schema_in_another_language_makes_its_records_undecodable() -> None:
    """At once: the registry will not change its mind."""
    world = World(registry=lambda _id: SchemaNotAvro("a schema of type PROTOBUF"))
    world.assign(0)
    world.produce(needing(7))
    assert world.outcomes() == {0: "dead_lettered:undecodable"}
    assert b"PROTOBUF" in (dict(world.letters[0].headers)["dlq.detail"] or b"")


def test_a_schema_that_cannot_be_read_as_ours_makes_its_records_undecodable() -> None:
    """The reason names the schema, and other records go on."""

    class Incompatible(JsonDecoder):
        def learn(self, schema_id: int, schema_json: tuple[str, ...]) -> None:
            raise UnusableSchema(f"{schema_json[-1]} ({schema_id}) is no record")

    world = World(registry=lambda _id: FOUND, decoder=Incompatible())
    world.assign(0)
    world.produce(needing(7, "a"), event("b"))
    world.run(1.0)
    assert world.outcomes() == {0: "dead_lettered:undecodable", 1: "delivered"}
    detail = dict(world.letters[0].headers)["dlq.detail"]
    assert detail == b"schema 7: {} (7) is no record"


def test_an_id_that_was_unusable_and_is_gone_gets_its_five_minutes() -> None:
    """That it does not exist was never said before."""
    answers: list[SchemaAnswer] = [SchemaNotAvro("JSON")]
    world = World(registry=lambda _id: answers.pop() if answers else SchemaNotFound())
    world.assign(0)
    world.produce(needing(7, "a"))
    world.clock.advance(31.0)
    world.produce(needing(7, "b"))
    world.run(290.0)
    assert world.outcomes() == {0: "dead_lettered:undecodable"}
    world.run(11.0)
    assert world.outcomes()[1] == "dead_lettered:schema_unknown"


@pytest.mark.parametrize("how", ["lose", "revoke"])
def test_records_of_a_partition_that_is_gone_no_longer_wait(how: str) -> None:
    """The answer comes for those that are still ours."""
    world = World()
    world.assign(0, 1)
    world.produce(needing(7, "a"), partition=0)
    world.produce(needing(7, "b"), partition=1)
    if how == "lose":
        world.lose(0)
    else:
        world.revoke(0, seconds=1.0)
        world.run(1.0)
    world.answer_schema(7, FOUND)
    world.run(1.0)
    assert world.outcomes(0) == {}
    assert world.outcomes(1) == {0: "delivered"}
    assert world.idle()


def test_an_answer_for_which_nobody_waits_any_more_is_still_learned() -> None:
    """The next record with the schema is read at once."""
    world = World()
    world.assign(0)
    world.produce(needing(7))
    world.lose(0)
    world.answer_schema(7, FOUND)
    world.take_over(0)
    world.read(0)
    world.run(1.0)
    assert world.asked_schemas == [7]
    assert world.outcomes() == {0: "delivered"}


@given(st.lists(st.sampled_from(["down", "denied"]), max_size=25))
def test_a_denial_is_believed_only_after_five_minutes_of_nothing_else(answers: list[str]) -> None:
    """Any history of answers, each asked for when the wait said: refused no earlier than that."""
    waits, now = SchemaWaits(JsonDecoder(), 300.0), 1000.0  # type: ignore[arg-type]  # for Avro
    world = World()
    world.assign(0)
    world.produce(needing(7))
    (item,) = world.partition().pending.values()
    assert waits.enter(7, item, now) is True
    denied_since: float | None = None
    for answer in answers:
        denied = answer == "denied"
        denied_since = (denied_since if denied_since is not None else now) if denied else None
        result = waits.answered(7, SchemaNotFound() if denied else DOWN, now)
        over = denied_since is not None and now - denied_since >= 300.0
        assert isinstance(result, tuple) is over
        if isinstance(result, tuple):
            return
        assert now < result <= now + 30.0
        assert waits.unavailable(7) is not denied
        now = result


def test_a_bounded_number_of_refused_ids_is_remembered() -> None:
    """Hostile records could name any number of them."""
    world = World()
    world.assign(0)
    world.produce(needing(7))
    (item,) = world.partition().pending.values()
    waits = SchemaWaits(JsonDecoder(), 0.0)  # type: ignore[arg-type]  # stands in for Avro
    for schema_id in range(REFUSED_KEPT + 50):
        assert waits.enter(schema_id, item, 0.0) is True
        waits.answered(schema_id, SchemaNotFound(), 0.0)
    assert len(waits._refused) == REFUSED_KEPT
    assert not waits._waits


def test_a_partition_full_of_unknown_ids_is_held_and_others_go_on() -> None:
    """It would fill the process: the bound is the partition's own, and it ends."""
    world = World(registry=lambda _id: SchemaNotFound(), unknown_after=60.0)
    world.assign(0, 1)
    world.produce(*(needing(n % 900, f"bad-{n}") for n in range(MOST_WAITING)), partition=0)
    assert world.holds(0) == {SCHEMAS_MISSING}
    world.produce(event("good"), partition=1)
    world.run(1.0)
    assert world.outcomes(1) == {0: "delivered"}
    world.run(120.0)
    assert world.holds(0) == set()
    assert set(world.outcomes(0).values()) == {"dead_lettered:schema_unknown"}
    assert len(world.letters) == MOST_WAITING
    assert world.idle()
