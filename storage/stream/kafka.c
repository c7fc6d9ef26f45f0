/* Apache Kafka, through librdkafka: cooperative groups, offsets from outside, an idempotent
 * producer. */
#include "storage/stream/kafka_client.h"

enum { WATERMARKS_MS = 5000 };

static enum status read_ends(const char *address, const struct stream_producer_options *options,
                             const struct stream_partition *partitions, size_t n, int64_t *ends,
                             struct error *err)
{
    const struct kafka_client_options how = {.type = RD_KAFKA_PRODUCER,
                                             .address = address,
                                             .client = options->client,
                                             .properties = options->properties,
                                             .n_properties = options->n_properties};
    struct kafka_client client;
    enum status st = kafka_client_init(&how, &client, err);

    if (st == ST_OK)
        st = kafka_client_connect(&client, NULL, 0, options->connect_ms, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        int64_t low;
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            client.rk, partitions[i].topic, partitions[i].partition, &low, &ends[i], WATERMARKS_MS);

        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            st = kafka_client_error(&client, code, NULL, err);
        if (st == ST_NOT_FOUND) {
            ends[i] = -1;
            st = ST_OK;
        }
    }
    kafka_client_release(&client);
    if (st != ST_OK)
        error_add_context(err, "kafka://%.100s", address);
    return st;
}

const struct stream_ops stream_kafka = {
    .scheme = "kafka",
    .consumer_open = kafka_consumer_open,
    .producer_open = kafka_producer_open,
    .read_ends = read_ends,
};
