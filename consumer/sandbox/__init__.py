"""A whole local world for the demo and the tests: Kafka, a schema registry and TikTok, in-process.

| module | what it is |
|---|---|
| `broker` | a Kafka broker that other processes can join (librdkafka's mock cluster) |
| `registry` | a schema registry with the part of Confluent's API that a consumer needs |
| `fields`, `sections`, `rules` | what TikTok demands of a request, field by field |
| `faults`, `scenario_json` | what can go wrong on TikTok's side, as values and as JSON |
| `weather`, `access`, `rate_limits` | what strikes a request; who may send, and how often |
| `ground_truth`, `truth_memory` | what TikTok has accepted, how often and in which request |
| `answers`, `tiktok` | what TikTok answers, without a socket |
| `emulator`, `control`, `emulator_command` | the same over HTTP; its control and truth; alone |
| `shop`, `spoil`, `samples` | invented web-shop events whose outcome is known beforehand |
| `expectations` | whether the outcome is what the samples said |
| `plot`, `demo` | what happens in the demo, and the demo itself |
| `paced_producer` | samples at a steady pace |
| `consumer_process`, `narrator` | the consumer as a process of its own; how the demo gets on |
| `figures`, `evidence`, `summary` | the consumer's metrics, the verdict, what a person reads |

Nothing here shares tables with the product's own mapping: an error there must show here.
"""
