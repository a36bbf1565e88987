"""What can go wrong for good, drawn as a tree.

    TikTokEventsError
    ├── ConfigError      the configuration is refused; holds every problem found, each with its key
    ├── InputError       what a command was given to read is not what it takes
    ├── SecretError      a token or password cannot be read just now
    ├── StartError       the world outside is not ready: broker, topic, registry
    ├── SendError        a test event was not produced
    ├── SourceError      reading from Kafka has ended for good: fenced, not authorised, fatal
    └── StoreError       the local deduplication store of a partition cannot be used
        └── StoreLostError   what it held is not all there any more

What is expected to pass (a slow broker, a refused token, an unreadable answer) is a value on the
path and never an exception. These exceptions carry data; their text says what to do and never
quotes a token or a person's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from consumer.event import TopicPartition


class TikTokEventsError(Exception):
    """Root of every error this package raises on purpose; its text is fit for an operator."""


class Problem(NamedTuple):
    """One thing wrong with the configuration.

    `path` is the key as written in the file (`destinations[1].access_token`), empty for the file
    as a whole. `message` says what is wrong and what to write instead.
    """

    path: str
    message: str

    def __str__(self) -> str:
        """One line: `path: message`."""
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(TikTokEventsError):
    """The configuration is refused. All problems are found before this is raised.

    Attributes:
        problems: every problem, in the order of the file.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InputError(TikTokEventsError):
    """What a command was given to read cannot be read, or is not what the command takes.

    Attributes:
        name: the file, as it was named.
        problem: what is wrong with it and what to give instead; never quotes its content.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class SecretError(TikTokEventsError):
    """A secret cannot be read from the place the configuration names.

    Attributes:
        what: what is missing, by the name of the variable or file; never the secret.
        how_to_mend: what to do about it.
    """

    def __init__(self, what: str, how_to_mend: str) -> None:
        super().__init__(f"{what}: {how_to_mend}")
        self.what = what
        self.how_to_mend = how_to_mend


class StartError(TikTokEventsError):
    """The consumer cannot start, because something it needs is missing or different.

    Attributes:
        what: what was found.
        how_to_mend: what to do about it, with the command where there is one.
        passing: whether it may end by itself, so that waiting is right.
    """

    def __init__(self, what: str, how_to_mend: str, *, passing: bool = False) -> None:
        super().__init__(f"{what}: {how_to_mend}")
        self.what = what
        self.how_to_mend = how_to_mend
        self.passing = passing


class SendError(TikTokEventsError):
    """An event was not produced to the source topic.

    Attributes:
        what: what happened.
        how_to_mend: what to do about it.
    """

    def __init__(self, what: str, how_to_mend: str) -> None:
        super().__init__(f"{what}: {how_to_mend}")
        self.what = what
        self.how_to_mend = how_to_mend


class SourceError(TikTokEventsError):
    """Reading from Kafka has ended and trying again does not help.

    Attributes:
        what: what happened.
        how_to_mend: what to do about it.
        kafka_error: librdkafka's name of the error (`FENCED_INSTANCE_ID`), where it gave one.
    """

    def __init__(self, what: str, how_to_mend: str, kafka_error: str | None = None) -> None:
        super().__init__(f"{what}: {how_to_mend}")
        self.what = what
        self.how_to_mend = how_to_mend
        self.kafka_error = kafka_error


class StoreError(TikTokEventsError):
    """The local store of one partition cannot be opened, read or written.

    The partition stops with its events unsettled: they are neither sent unmarked nor dropped.

    Attributes:
        partition: the partition whose store it is; None where no single one is concerned.
        detail: what the store said, and what to do where that is known.
    """

    def __init__(self, partition: TopicPartition | None, detail: str) -> None:
        where = f"{partition.topic}/{partition.partition}" if partition else "deduplication store"
        super().__init__(f"{where}: {detail}")
        self.partition = partition
        self.detail = detail


class StoreLostError(StoreError):
    """The local store of one partition no longer holds all that was written to it, or may not.

    The directory was deleted, damaged or taken by somebody else. Until it is opened again, every
    call raises this. The state topic has what it held.
    """
