/* Apache Kafka, through librdkafka: cooperative groups, offsets from outside, an idempotent
 * producer. */
#include "storage/stream/kafka_client.h"

#include <regex.h>

enum { ANSWER_MS = 5000 };

/* As librdkafka matches names: a pattern is an extended regular expression. */
static bool is_match(const char *topic, const char *wanted)
{
    regex_t pattern;
    bool found;

    if (wanted[0] != '^')
        return strcmp(topic, wanted) == 0;
    if (regcomp(&pattern, wanted, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    found = regexec(&pattern, topic, 0, NULL, 0) == 0;
    regfree(&pattern);
    return found;
}

static bool is_wanted(const char *topic, const struct stream_consumer_options *options)
{
    for (size_t i = 0; i < options->n_topics; i++)
        if (is_match(topic, options->topics[i]))
            return true;
    return false;
}

static enum status read_partition(const struct kafka_client *client, const char *topic,
                                  int32_t partition, struct stream_extent *extent,
                                  struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
        client->rk, topic, partition, &extent->begin, &extent->end, ANSWER_MS);

    extent->topic = topic;
    extent->partition = partition;
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? ST_OK : kafka_client_error(client, code, NULL, err);
}

static enum status read_topic(const struct kafka_client *client,
                              const struct rd_kafka_metadata_topic *topic, struct arena *arena,
                              struct stream_extent *extents, struct error *err)
{
    char *name;
    enum status st = arena_strndup(arena, topic->topic, strlen(topic->topic), &name, err);

    for (int i = 0; i < topic->partition_cnt && st == ST_OK; i++)
        st = read_partition(client, name, topic->partitions[i].id, &extents[i], err);
    return st;
}

static enum status read_topics(const struct kafka_client *client,
                               const struct rd_kafka_metadata *metadata,
                               const struct stream_consumer_options *options, struct arena *arena,
                               struct stream_extent **out, size_t *n, struct error *err)
{
    size_t total = 0;
    enum status st;

    for (int i = 0; i < metadata->topic_cnt; i++)
        if (is_wanted(metadata->topics[i].topic, options))
            total += (size_t)metadata->topics[i].partition_cnt;
    st = arena_calloc(arena, total, sizeof **out, out, err);
    for (int i = 0; i < metadata->topic_cnt && st == ST_OK; i++) {
        if (!is_wanted(metadata->topics[i].topic, options))
            continue;
        st = read_topic(client, &metadata->topics[i], arena, *out + *n, err);
        *n += (size_t)metadata->topics[i].partition_cnt;
    }
    return st;
}

static enum status read_extents(const char *address, const struct stream_consumer_options *options,
                                struct arena *arena, struct stream_extent **out, size_t *n,
                                struct error *err)
{
    const struct kafka_client_options how = {.type = RD_KAFKA_PRODUCER,
                                             .address = address,
                                             .client = options->client,
                                             .properties = options->properties,
                                             .n_properties = options->n_properties};
    const struct rd_kafka_metadata *metadata = NULL;
    struct kafka_client client;
    rd_kafka_resp_err_t code;
    enum status st = kafka_client_init(&how, &client, err);

    if (st == ST_OK)
        st = kafka_client_connect(&client, options->topics, options->n_topics, options->connect_ms,
                                  err);
    if (st == ST_OK) {
        code = rd_kafka_metadata(client.rk, 1, NULL, &metadata, ANSWER_MS);
        st = code == RD_KAFKA_RESP_ERR_NO_ERROR
                 ? read_topics(&client, metadata, options, arena, out, n, err)
                 : kafka_client_error(&client, code, NULL, err);
    }
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
    kafka_client_release(&client);
    if (st != ST_OK)
        error_add_context(err, "kafka://%.100s", address);
    return st;
}

const struct stream_ops stream_kafka = {
    .scheme = "kafka",
    .consumer_open = kafka_consumer_open,
    .producer_open = kafka_producer_open,
    .read_extents = read_extents,
};
