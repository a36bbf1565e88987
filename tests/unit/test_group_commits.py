from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.event import TopicPartition
from consumer.fetching import Stamped
from consumer.group_commits import NOT_OWNED, GroupCommits
from consumer.offsets import CommitOffset
from consumer.source_events import CommitResult
from consumer.source_positions import POSITION_UNKNOWN

if TYPE_CHECKING:
    from confluent_kafka import Consumer

TP, RETRY = TopicPartition("t", 0), TopicPartition("g.t.retry", 0)
NOW = Stamped(TP, 2)


class FakeConsumer:
    """Answers each commit with the next planned error, then with success.

    While it is `away` it answers no question, and one that is waited for without limit is a fault.
    """

    def __init__(self, *errors: int) -> None:
        self.commits: list[tuple[str, int, bool]] = []
        self.waited: list[float] = []
        self.away = False
        self._errors = list(errors)

    def commit(self, offsets: list[KafkaPartition], *, asynchronous: bool) -> list[KafkaPartition]:
        """Write the commit down, or raise the planned error."""
        assert asynchronous or not self.away, "this would block for as long as the broker is away"
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        self.commits += [(offset.topic, offset.offset, asynchronous) for offset in offsets]
        return offsets

    def committed(self, offsets: list[KafkaPartition], timeout: float) -> list[KafkaPartition]:
        """Answer, or wait in vain."""
        self.waited.append(timeout)
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return offsets


class Member:
    """Commits over a fake consumer, for one owned partition in epoch 2."""

    def __init__(
        self, *errors: int, start_known: bool = True, has_offset: bool = True, order: Stamped = NOW
    ) -> None:
        self.consumer = FakeConsumer(*errors)
        self.results: list[CommitResult] = []
        self.failures: list[str] = []
        self.commits = GroupCommits(
            cast("Consumer", self.consumer),
            self.results.extend,
            lambda error: self.failures.append(error.name()),
        )
        self.commits.own(order, start_known=start_known, has_offset=has_offset)

    def commit(self, order: Stamped, offset: int, number: int = 1) -> None:
        """Ask for a commit, and let it be made."""
        self.commits.ask([(order, CommitOffset(offset))], number)
        self.commits.serve()

    def answer(self, offset: int) -> None:
        """Let the client's callback come for a commit of this offset."""
        self.commits.take_results(None, [KafkaPartition(*TP, offset)])

    @property
    def numbers(self) -> list[int | None]:
        """Which commits were answered."""
        return [result.number for result in self.results]

    @property
    def offsets(self) -> list[int]:
        """The offsets that were committed."""
        return [offset for _, offset, _ in self.consumer.commits]


def soon() -> float:
    return time.monotonic() + 1.0


def test_a_commit_of_an_earlier_assignment_is_not_made() -> None:
    """A result that comes after the partition left and returned must not move it backwards."""
    member = Member()
    member.commit(Stamped(TP, 1), 5)
    assert member.consumer.commits == []
    assert member.results == [CommitResult(TP, 5, NOT_OWNED, retriable=False, number=1)]


def test_a_commit_of_a_partition_that_was_given_up_is_not_made() -> None:
    """Somebody else may own it already."""
    member = Member()
    member.commits.give_up([TP])
    member.commit(NOW, 5)
    assert member.consumer.commits == []
    assert member.results == [CommitResult(TP, 5, NOT_OWNED, retriable=False, number=1)]


def test_nothing_is_committed_while_the_groups_offset_is_unknown() -> None:
    """A member that could not ask where the group stood must not overwrite that."""
    member = Member(start_known=False)
    member.commit(NOW, 0)
    member.commits.before_hand_over({TP: CommitOffset(0)}, soon())
    assert member.consumer.commits == []
    assert member.results == [CommitResult(TP, 0, POSITION_UNKNOWN, retriable=True, number=1)]
    member.commits.start_found(NOW, 7, has_offset=True)
    member.commit(NOW, 8)
    assert member.offsets == [8]


def test_the_same_offset_is_committed_as_often_as_it_is_asked_for() -> None:
    """Each time proves the membership anew."""
    member = Member()
    for _ in range(3):
        member.commit(NOW, 5)
    assert member.offsets == [5, 5, 5]


def test_a_partition_of_the_retry_topic_is_committed_as_one_of_the_source() -> None:
    """Whichever client reads it, the member commits for it while it owns it."""
    member = Member(order=Stamped(RETRY, 7), has_offset=False)
    member.commits.begun(Stamped(RETRY, 7), 3)
    member.commits.commit_starts(0.0)
    member.commit(Stamped(RETRY, 7), 4)
    member.commits.before_hand_over({RETRY: CommitOffset(5)}, soon())
    assert member.consumer.commits == [
        (RETRY.topic, 3, False),
        (RETRY.topic, 4, True),
        (RETRY.topic, 5, False),
    ]


def test_a_topic_that_was_made_again_ends_the_commits_of_the_one_before() -> None:
    """And has no offset yet: its start is committed, whatever the one before had."""
    member = Member()
    member.commits.own_anew(NOW, 3)
    member.commit(NOW, 5)
    assert member.results == [CommitResult(TP, 5, NOT_OWNED, retriable=False, number=1)]
    member.commits.begun(Stamped(TP, 3), 0)
    member.commits.commit_starts(0.0)
    assert member.offsets == [0]
    member.commits.own_anew(NOW, 4)  # found out late, about an assignment that is over
    member.commit(Stamped(TP, 3), 1)
    assert member.offsets == [0, 1]


def test_a_rebalance_makes_a_commit_a_retriable_result() -> None:
    """No error of a rebalance is raised, and none ends the membership."""
    member = Member(KafkaError.REBALANCE_IN_PROGRESS)
    member.commit(NOW, 5)
    assert member.results == [
        CommitResult(TP, 5, "REBALANCE_IN_PROGRESS", retriable=True, number=1)
    ]
    assert member.failures == []


@pytest.mark.parametrize("waiting", [False, True])
def test_a_fenced_member_fails(*, waiting: bool) -> None:
    """Another member with the same instance id has taken over: waiting does not help."""
    member = Member(KafkaError.FENCED_INSTANCE_ID)
    member.commits.ask([(NOW, CommitOffset(5))], 1)
    if waiting:
        member.commits.serve_now(soon())
    else:
        member.commits.serve()
    assert member.failures == ["FENCED_INSTANCE_ID"]
    assert member.results == [CommitResult(TP, 5, "FENCED_INSTANCE_ID", retriable=False, number=1)]


def test_a_commit_inside_a_rebalance_has_its_result_at_once() -> None:
    """No callback comes there, and the proof of membership must not wait for the drain's end."""
    member = Member()
    member.commits.ask([(NOW, CommitOffset(5))], 1)
    member.commits.serve_now(soon())
    assert member.consumer.commits == [("t", 5, False)]
    assert member.results == [CommitResult(TP, 5, None, retriable=False, number=1)]


def test_a_commit_inside_a_rebalance_is_not_waited_for_longer_than_it_may() -> None:
    """A coordinator that is away gets it without being waited for; the result comes later."""
    member = Member()
    member.consumer.away = True
    member.commits.ask([(NOW, CommitOffset(5))], 1)
    member.commits.serve_now(soon())
    assert member.consumer.waited[0] <= 1.0
    assert member.consumer.commits == [("t", 5, True)]
    assert member.results == []
    member.answer(5)
    assert member.results == [CommitResult(TP, 5, None, retriable=False, number=1)]


def test_an_answer_is_taken_for_one_to_the_commit_with_its_offsets() -> None:
    """Commits before it that stay without an answer do not shift the answers of those after."""
    member = Member()
    for number, offset in ((1, 5), (2, 6), (3, 6), (4, 7)):
        member.commit(NOW, offset, number)
    member.answer(6)
    member.answer(5)
    member.answer(7)
    assert [(r.offset, r.number) for r in member.results] == [(6, 2), (5, None), (7, 4)]


def test_an_answer_to_a_commit_that_nobody_asked_for_has_no_number() -> None:
    """It proves nothing that could be dated."""
    member = Member()
    member.consumer.away = True
    member.commits.before_hand_over({TP: CommitOffset(7)}, soon())
    member.commit(NOW, 8, 3)
    member.answer(7)
    member.answer(8)
    assert [(r.offset, r.number) for r in member.results] == [(7, None), (8, 3)]


def test_the_last_commit_before_a_hand_over_is_tried_again() -> None:
    """The next owner begins at it, so a passing error is worth a few tenths of a second."""
    member = Member(KafkaError.STALE_MEMBER_EPOCH, KafkaError.NOT_COORDINATOR)
    member.commits.before_hand_over({TP: CommitOffset(7, "m")}, soon())
    assert member.consumer.commits == [("t", 7, False)]
    assert member.results == [CommitResult(TP, 7, None, retriable=False)]


def test_the_last_commit_is_not_tried_again_past_the_deadline() -> None:
    """The group waits for the hand-over; an error is the result then."""
    member = Member(*[KafkaError.NOT_COORDINATOR] * 9)
    begun = time.monotonic()
    member.commits.before_hand_over({TP: CommitOffset(7)}, begun + 0.15)
    assert time.monotonic() - begun < 0.5
    assert member.results == [CommitResult(TP, 7, "NOT_COORDINATOR", retriable=True)]


def test_a_hand_over_waits_for_a_coordinator_that_is_away_no_longer_than_it_may() -> None:
    """What is left of the time for the hand-over bounds it; the commit goes out all the same."""
    member = Member()
    member.consumer.away = True
    member.commits.before_hand_over({TP: CommitOffset(7)}, soon())
    assert member.consumer.waited[0] <= 1.0
    assert member.consumer.commits == [("t", 7, True)]


def test_the_start_of_a_new_group_is_committed_until_it_is() -> None:
    """It is tried again each second until it succeeds; nobody asked for it, nobody is told."""
    member = Member(KafkaError.NOT_COORDINATOR, has_offset=False)
    member.commits.begun(NOW, 4)
    member.commits.commit_starts(100.0)
    member.commits.commit_starts(100.5)
    assert member.offsets == []
    member.commits.commit_starts(101.5)
    member.commits.commit_starts(103.0)
    assert member.offsets == [4]
    assert member.results == []


def test_no_start_is_committed_before_reading_begins() -> None:
    """Where it begins is the listener's to say: a start committed too early would be believed."""
    member = Member(has_offset=False)
    member.commits.commit_starts(100.0)
    assert member.consumer.commits == []


def test_a_start_is_not_committed_over_what_was_settled_since() -> None:
    """The first commit that was asked for ends it, whatever became of that."""
    member = Member(KafkaError.NOT_COORDINATOR, has_offset=False)
    member.commits.begun(NOW, 4)
    member.commit(NOW, 9)
    member.commits.commit_starts(100.0)
    assert member.consumer.commits == []


def test_the_start_that_is_committed_is_the_one_that_was_found_at_last() -> None:
    """A partition told to begin before its position was known begins where that turned out."""
    member = Member(start_known=False)
    member.commits.begun(NOW, 0)
    member.commits.commit_starts(100.0)
    assert member.consumer.commits == []
    member.commits.start_found(NOW, 6, has_offset=False)
    member.commits.commit_starts(101.5)
    assert member.offsets == [6]
    member.commits.begun(NOW, 2)  # a later resume says nothing
    member.commits.commit_starts(103.0)
    assert member.offsets == [6]


def test_an_answer_has_the_number_of_the_commit_it_belongs_to() -> None:
    """Also where the same offset is committed again, and the source commits by itself between."""
    member = Member()
    member.commit(NOW, 5, number=1)
    member.commit(NOW, 5, number=2)
    member.commits.before_hand_over({TP: CommitOffset(5)}, soon())
    member.commit(Stamped(TP, 1), 5, number=3)
    for _ in range(2):
        member.answer(5)
    assert member.numbers == [None, 3, 1, 2]
