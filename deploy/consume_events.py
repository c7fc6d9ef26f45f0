"""Keeps what jobs tell (docs/kafka.md) in a table of SQLite, each event once.

    consume_events.py BROKERS TOPIC TABLE.sqlite

An event may come twice, but has one id. Whoever does with it something that has to happen once does it in the
transaction that remembers the id, and tells Kafka afterwards. Needs confluent-kafka. Ends with Ctrl-C.
"""
import json
import signal
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaException

brokers, topic, path = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.execute("create table if not exists events (id text primary key, kind text, job text, shard integer, uid text, body text)")
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "consume-events", "auto.offset.reset": "earliest",
                     "enable.auto.commit": False})
consumer.subscribe([topic])
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    while True:
        messages = consumer.consume(500, timeout=0.5)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        events = [json.loads(message.value()) for message in messages]
        db.execute("begin immediate")
        db.executemany("insert or ignore into events values (?, ?, ?, ?, ?, ?)",
                       [(e["id"], e["kind"], e["job"], e["shard"], e.get("uid"), json.dumps(e)) for e in events])
        db.execute("commit")
        if messages:
            consumer.commit(asynchronous=False)
except KeyboardInterrupt:
    consumer.close()
