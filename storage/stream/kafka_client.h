/* What Kafka consumers and producers share: configuration, logins, errors. Private to
 * storage/stream. */
#ifndef REINFORCE_STORAGE_KAFKA_CLIENT_H
#define REINFORCE_STORAGE_KAFKA_CLIENT_H

#include "storage/stream/stream.h"

#include <librdkafka/rdkafka.h>

/** A setting of ours, applied before the user's. */
struct kafka_default {
    const char *name, *value;
};

struct kafka_client {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    char *token_source; /* "env:..." or "file:..." of an OAUTHBEARER token; NULL: none */
    bool uses_scram;
};

struct kafka_client_options {
    rd_kafka_type_t type;
    int events; /* RD_KAFKA_EVENT_* the caller takes besides errors */
    const char *address, *client;
    const struct kafka_default *defaults; /* the user's properties go before them */
    size_t n_defaults;
    const struct stream_property *properties;
    size_t n_properties;
    const char *group; /* of consumers; NULL */
};

/** On failure nothing is left. Talks to nobody yet. */
NODISCARD enum status kafka_client_init(const struct kafka_client_options *options,
                                        struct kafka_client *client, struct error *err);

/** Waits until a broker answers and every topic that is no pattern is there. */
NODISCARD enum status kafka_client_connect(struct kafka_client *client, const char *const *topics,
                                           size_t n_topics, int timeout_ms, struct error *err);

/** Takes an event that the caller has no business with: errors become a status (what goes away by
 * itself is logged and ST_OK), tokens are renewed. */
NODISCARD enum status kafka_client_take(struct kafka_client *client, rd_kafka_event_t *event,
                                        struct error *err);

/** A failure as ours. `why` may be NULL. */
enum status kafka_client_error(const struct kafka_client *client, rd_kafka_resp_err_t code,
                               const char *why, struct error *err);

/** Takes over `failure`; NULL is ST_OK. */
enum status kafka_client_failed(const struct kafka_client *client, rd_kafka_error_t *failure,
                                struct error *err);

void kafka_client_release(struct kafka_client *client);

NODISCARD enum status kafka_consumer_open(const char *address,
                                          const struct stream_consumer_options *options,
                                          struct stream_consumer **out, struct error *err);
NODISCARD enum status kafka_producer_open(const char *address,
                                          const struct stream_producer_options *options,
                                          struct stream_producer **out, struct error *err);

#endif
