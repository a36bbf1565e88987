"""tiktok-events: conversion events from Kafka to TikTok's Events API.

The modules in the order in which an event meets them:

    event         the values that travel: record, item, outcome
    source        Kafka to chunks of records (group_member: the group, with take_over,
                  group_commits, group_session; partition_reader, retry_source: reading;
                  reading_thread, fetching, kafka_records: librdkafka's side;
                  source_reports, source_events: what the loop is told)
    position      where to begin reading a partition (source_positions: what the broker says)
    engine        every decision, without I/O: inputs in, actions out
      arrivals      records on their way to the look-up
      intake        one record through the next five
      decode        bytes to event, by Avro (evolution, resolution: writers' schemas;
                    reader_*: their readers as generated Python)
      schema_wait   records whose schema the registry has not told yet
      route         which destination
      payload       event to TikTok's JSON (source_rules: what each source takes; names, sections,
                    properties; personal: what hides in other fields)
      consent       what may be sent
      identity      who it was, normalised and hashed (normalise)
      dedup         the same event twice, on its way or accepted
      lookups       what the local stores are asked
      batch         events that share a request
      limits        a destination's gates, and the bounds in flight (token_bucket, learned_rate:
                    requests a second; noise: throttles that say nothing about it; concurrency: at
                    once; hold_gate: none for a while; retry_budget: when failures are too many)
      queues        what waits for a destination
      deliver       attempts and retries (requests: what it says; guilty: splitting a refused batch;
                    expiry: events whose time is over)
      lease         for how long a proof of membership lets attempts start
      verdict       what an answer of TikTok means
      settle        from a verdict to the one outcome of a record
      reading       what the source is to read on
      recall        what partitions remember, while it is asked for, and what follows from it
      memory        what was tried and accepted, of all partitions
      state_log     of one partition: taking over, adding, handing over (state_records: its
                    bytes; state_phases: where it stands; state_attempts: what TikTok may
                    have; state_floor: what is read again; state_growth: what other
                    partitions have, where the source has grown)
      parking       what waits for a shut destination, and when it is read again (park_choice: which
                    events; slowness: of which destinations besides; retry_partition: what is in it;
                    retry_headers: what goes with it)
      deadletter    the original and why it was refused
      receipt       what became of it, for a topic of its own
      offsets       what may be committed (commits: when; commit_metadata: what is done above it)
      again         what failed and is tried again later
      handover      partitions on their way to another member
      messages      what the engine and the world tell each other
    pipeline      the engine's actions as I/O, the world's answers as its inputs (ports: what it
                  asks of the world)
    client        requests to TikTok (tokens: who may)
    registry      schemas over HTTP
    store         accepted keys on this machine (store_partition: of one partition;
                  store_position: how far it has come; store_database: RocksDB)
    state_reader  the state topic, in chunks (state_fetcher: its consumer; log_ends: its ends)
    emit          records to Kafka (produce_lanes: in which order; produce_errors: what went wrong)
    topics        the program's own topics (own_topics: names; topic_rules: settings;
                  topic_checks: made, extended or judged; topic_admin: the broker's answers)

Around them: config (and settings, units, secret), errors, telemetry (spans, otlp, metrics, logs,
tracing), status, admin, app (everything is built there) and cli. Beside the path, for one event of
a person's: plain_json (as it is written by hand; event_file: where), preview (what would become of
it; preview_text: in words), encode (the way back from decode) and send. `sandbox` is a whole local
world for the demo and the tests.
"""

from importlib.metadata import version

__version__ = version("tiktok-events")
