from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.event import TopicPartition
from consumer.fetching import Fetching, Owned, Stamped
from consumer.group_commits import NOT_OWNED, GroupCommits
from consumer.offsets import CommitOffset
from consumer.source_events import CommitResult
from consumer.source_positions import POSITION_UNKNOWN

if TYPE_CHECKING:
    from confluent_kafka import Consumer

TP = TopicPartition("t", 0)


class FakeConsumer:
    """Answers each commit with the next planned error, then with success."""

    def __init__(self, *errors: int) -> None:
        self.committed: list[tuple[int, bool]] = []
        self._errors = list(errors)

    def commit(self, offsets: list[KafkaPartition], *, asynchronous: bool) -> list[KafkaPartition]:
        """Write the commit down, or raise the planned error."""
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        self.committed += [(offset.offset, asynchronous) for offset in offsets]
        return offsets


class Member:
    """Commits over a fake consumer, for one owned partition in epoch 2."""

    def __init__(self, *errors: int, **state: Any) -> None:
        self.consumer = FakeConsumer(*errors)
        consumer = cast("Consumer", self.consumer)
        fetching = Fetching(consumer)
        self.owned = Owned(
            **{
                "epoch": 2,
                "since": 0.0,
                "position": 0,
                "hold": None,
                "high": 9,
                "fetched": True,
                "asked_for_start": False,
                "uncommitted_start": None,
                "bound_to": None,
                **state,
            }
        )
        fetching.owned[TP] = self.owned
        self.results: list[CommitResult] = []
        self.failures: list[str] = []
        self.commits = GroupCommits(
            consumer,
            fetching,
            self.results.extend,
            lambda error: self.failures.append(error.name()),
        )


def test_a_commit_of_an_earlier_assignment_is_not_made() -> None:
    """A result that comes after the partition left and returned must not move it backwards."""
    member = Member()
    member.commits.commit([(Stamped(TP, 1), CommitOffset(5))])
    assert member.consumer.committed == []
    assert member.results == [CommitResult(TP, 5, NOT_OWNED, retriable=False)]


def test_nothing_is_committed_while_the_groups_offset_is_unknown() -> None:
    """A member that could not ask where the group stood must not overwrite that."""
    member = Member(asked_for_start=True, hold=POSITION_UNKNOWN, fetched=False)
    member.commits.commit([(Stamped(TP, 2), CommitOffset(0))])
    member.commits.before_hand_over({TP: CommitOffset(0)})
    assert member.consumer.committed == []
    assert member.results == [CommitResult(TP, 0, POSITION_UNKNOWN, retriable=True)]


def test_a_rebalance_makes_a_commit_a_retriable_result() -> None:
    """No error of a rebalance is raised, and none ends the membership."""
    member = Member(KafkaError.REBALANCE_IN_PROGRESS)
    member.commits.commit([(Stamped(TP, 2), CommitOffset(5))])
    assert member.results == [CommitResult(TP, 5, "REBALANCE_IN_PROGRESS", retriable=True)]
    assert member.failures == []


def test_a_fenced_member_fails() -> None:
    """Another member with the same instance id has taken over: waiting does not help."""
    member = Member(KafkaError.FENCED_INSTANCE_ID)
    member.commits.commit([(Stamped(TP, 2), CommitOffset(5))])
    assert member.failures == ["FENCED_INSTANCE_ID"]


def test_the_last_commit_before_a_hand_over_is_tried_again() -> None:
    """The next owner begins at it, so a passing error is worth a few tenths of a second."""
    member = Member(KafkaError.STALE_MEMBER_EPOCH, KafkaError.NOT_COORDINATOR)
    member.commits.before_hand_over({TP: CommitOffset(7, "m")})
    assert member.consumer.committed == [(7, False)]
    assert member.results == [CommitResult(TP, 7, None, retriable=False)]


def test_the_start_of_a_new_group_is_committed_until_it_is() -> None:
    """The start goes out again until its result is a success, and never over a later offset."""
    member = Member(KafkaError.NOT_COORDINATOR, uncommitted_start=4)
    member.commits.commit_starts()
    member.commits.commit_starts()
    assert member.consumer.committed == [(4, True)]
    member.commits.take_results(None, [KafkaPartition("t", 0, 4)])
    member.commits.commit_starts()
    assert member.consumer.committed == [(4, True)]
