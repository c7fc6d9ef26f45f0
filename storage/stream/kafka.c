/* Apache Kafka, through librdkafka: cooperative groups, offsets from outside, an idempotent
 * producer. */
#include "storage/stream/kafka_client.h"

const struct stream_ops stream_kafka = {
    .scheme = "kafka",
    .consumer_open = kafka_consumer_open,
    .producer_open = kafka_producer_open,
};
