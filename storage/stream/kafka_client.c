#include "storage/stream/kafka_client.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/secret.h"
#include "storage/stream/kafka_token.h"

#include <stdlib.h>

enum {
    PROPERTY_MAX_BYTES = 1 << 20,
    METADATA_MS = 500,
    SYSLOG_CRITICAL = 2,
    SCRAM_FIXED = 0x020601ff, /* librdkafka 2.6.1 */
};

/* What the guarantees rest on, and what has keys of its own in a job file. */
static const char *const reserved[] = {
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "enable.idempotence",
    "transactional.id",
    "isolation.level",
    "enable.partition.eof",
    "queued.max.messages.kbytes",
    "queue.buffering.max.kbytes",
};

static bool is_word(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

enum status kafka_client_error(const struct kafka_client *client, rd_kafka_resp_err_t code,
                               const char *why, struct error *err)
{
    const char *text = why != NULL && why[0] != '\0' ? why : rd_kafka_err2str(code);
    const char *hint = "";
    enum status st = ST_UNAVAILABLE;

    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
        code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR__INVALID_ARG)
        st = ST_INVALID;
    else if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
             code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
             code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
        st = ST_NOT_FOUND;
    else if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        st = ST_FULL;
    else if (code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT)
        st = ST_TIMEOUT;
    else if (code == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED ||
             code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
             code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
             code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID || code == RD_KAFKA_RESP_ERR__FENCED)
        st = ST_CONFLICT;
    if (client->uses_scram && code == RD_KAFKA_RESP_ERR__AUTHENTICATION &&
        rd_kafka_version() < SCRAM_FIXED)
        hint = "; brokers from Kafka 4 on refuse SCRAM of librdkafka before 2.6.1, whatever the "
               "password";
    return error_set(err, st, "%.170s%s", text, hint);
}

enum status kafka_client_failed(const struct kafka_client *client, rd_kafka_error_t *failure,
                                struct error *err)
{
    enum status st;

    if (failure == NULL)
        return ST_OK;
    st = kafka_client_error(client, rd_kafka_error_code(failure), rd_kafka_error_string(failure),
                            err);
    rd_kafka_error_destroy(failure);
    return st;
}

/* Called by threads of the library; the text is its own and holds no secret. What matters comes as
 * an event besides. */
static void log_line(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    log_at(level <= SYSLOG_CRITICAL ? LOG_WARN : LOG_DEBUG, "kafka_client",
           "facility=%s text=\"%s\"", facility, text);
}

static enum status set(rd_kafka_conf_t *conf, const char *name, const char *value,
                       struct error *err)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return ST_OK;
    if (secret_is_name(name)) /* the library's message quotes the value */
        return error_set(err, ST_INVALID, "property %s was refused by the Kafka client", name);
    return error_set(err, ST_INVALID, "%s", why);
}

/* "oauthbearer.token" is ours: where a token is to be read from, again whenever the last one ends.
 */
static enum status set_token_source(struct kafka_client *client, const char *source,
                                    struct error *err)
{
    if (!is_word(source, "env:") && !is_word(source, "file:"))
        return error_set(err, ST_INVALID,
                         "property oauthbearer.token is a secret; write env:NAME or file:PATH");
    free(client->token_source);
    client->token_source = strdup(source);
    return client->token_source != NULL ? ST_OK
                                        : error_set(err, ST_NO_MEMORY, "could not keep a property");
}

static enum status set_property(struct kafka_client *client, rd_kafka_conf_t *conf,
                                const struct stream_property *property, struct error *err)
{
    struct byte_buf value;
    enum status st;

    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (strcmp(property->name, reserved[i]) == 0)
            return error_set(err, ST_INVALID, "property %s is not yours to set", property->name);
    if (strcmp(property->name, "oauthbearer.token") == 0)
        return set_token_source(client, property->value, err);
    if (is_word(property->name, "sasl.mechanism") && is_word(property->value, "SCRAM"))
        client->uses_scram = true;
    byte_buf_init(&value, PROPERTY_MAX_BYTES);
    st = secret_resolve(property->name, property->value, &value, err);
    if (st == ST_OK)
        st = set(conf, property->name, (const char *)value.data, err);
    if (value.len > 0)
        memset(value.data, 0, value.len);
    byte_buf_release(&value);
    return st;
}

static enum status configure(const struct kafka_client_options *options,
                             struct kafka_client *client, rd_kafka_conf_t *conf, struct error *err)
{
    enum status st = set(conf, "bootstrap.servers", options->address, err);

    if (st == ST_OK && options->client != NULL)
        st = set(conf, "client.id", options->client, err);
    if (st == ST_OK && options->group != NULL)
        st = set(conf, "group.id", options->group, err);
    for (size_t i = 0; i < options->n_defaults && st == ST_OK; i++)
        st = set(conf, options->defaults[i].name, options->defaults[i].value, err);
    for (size_t i = 0; i < options->n_properties && st == ST_OK; i++)
        st = set_property(client, conf, &options->properties[i], err);
    rd_kafka_conf_set_log_cb(conf, log_line);
    rd_kafka_conf_set_events(
        conf, options->events | RD_KAFKA_EVENT_ERROR |
                  (client->token_source != NULL ? RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH : 0));
    return st;
}

enum status kafka_client_init(const struct kafka_client_options *options,
                              struct kafka_client *client, struct error *err)
{
    rd_kafka_conf_t *conf;
    char why[256];
    enum status st;

    memset(client, 0, sizeof *client);
    if (options->address[0] == '\0')
        return error_set(err, ST_INVALID, "names no broker; write kafka://HOST:PORT");
    conf = rd_kafka_conf_new();
    st = configure(options, client, conf, err);
    if (st == ST_OK) {
        client->rk = rd_kafka_new(options->type, conf, why, sizeof why);
        if (client->rk == NULL)
            st = error_set(err, ST_INVALID, "%s", why);
    }
    if (client->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        kafka_client_release(client);
        return st;
    }
    if (options->type == RD_KAFKA_CONSUMER) {
        (void)rd_kafka_poll_set_consumer(client->rk);
        client->queue = rd_kafka_queue_get_consumer(client->rk);
    } else {
        client->queue = rd_kafka_queue_get_main(client->rk);
    }
    return ST_OK;
}

static void renew_token(struct kafka_client *client)
{
    struct byte_buf text;
    struct kafka_token token;
    struct error err = {0};
    char why[256] = "";
    enum status st;

    byte_buf_init(&text, PROPERTY_MAX_BYTES);
    st = secret_resolve("oauthbearer.token", client->token_source, &text, &err);
    if (st == ST_OK)
        st = kafka_token_read((const char *)text.data, &token, &err);
    if (st != ST_OK)
        (void)snprintf(why, sizeof why, "%s", err.message);
    else if (rd_kafka_oauthbearer_set_token(client->rk, (const char *)text.data, token.expires_ms,
                                            token.principal, NULL, 0, why,
                                            sizeof why) == RD_KAFKA_RESP_ERR_NO_ERROR)
        why[0] = '\0';
    if (why[0] != '\0')
        (void)rd_kafka_oauthbearer_set_token_failure(client->rk, why);
    byte_buf_release(&text);
}

enum status kafka_client_take(struct kafka_client *client, rd_kafka_event_t *event,
                              struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    const char *why = rd_kafka_event_error_string(event);

    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH) {
        renew_token(client);
        return ST_OK;
    }
    if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR)
        return ST_OK;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        char fatal[256] = "";

        code = rd_kafka_fatal_error(client->rk, fatal, sizeof fatal);
        return kafka_client_error(client, code, fatal, err);
    }
    /* One broker of several, or one connection: the library goes on with the others. */
    if (code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT) {
        log_at(LOG_INFO, "kafka_broker_lost", "cause=\"%s\"", why);
        return ST_OK;
    }
    return kafka_client_error(client, code, why, err);
}

/* Errors that have come up meanwhile. A refused login is the reason whatever else there is; of the
 * others the first says most ("connection refused" comes before "all brokers are down"). */
static enum status serve(struct kafka_client *client, enum status st, struct error *err)
{
    rd_kafka_event_t *event;

    while ((event = rd_kafka_queue_poll(client->queue, 0)) != NULL) {
        struct error found = {0};
        enum status other = kafka_client_take(client, event, &found);

        if (other == ST_OK && rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            other = kafka_client_error(client, RD_KAFKA_RESP_ERR__TRANSPORT,
                                       rd_kafka_event_error_string(event), &found);
        if (other != ST_OK && (st == ST_OK || (other == ST_INVALID && st != ST_INVALID))) {
            st = other;
            *err = found;
        }
        rd_kafka_event_destroy(event);
    }
    return st;
}

static enum status check_topics(const struct rd_kafka_metadata *metadata, const char *const *topics,
                                size_t n_topics, struct error *err)
{
    for (size_t i = 0; i < n_topics; i++) {
        bool found = topics[i][0] == '^';

        for (int t = 0; t < metadata->topic_cnt && !found; t++)
            found = strcmp(metadata->topics[t].topic, topics[i]) == 0;
        if (!found)
            return error_set(err, ST_NOT_FOUND,
                             "topic \"%s\" is not there, or hidden from this user; create it first",
                             topics[i]);
    }
    return ST_OK;
}

enum status kafka_client_connect(struct kafka_client *client, const char *const *topics,
                                 size_t n_topics, int timeout_ms, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code;
    enum status st = ST_OK, found;

    do {
        st = serve(client, st, err);
        if (st == ST_INVALID) /* a refused login does not get better by waiting */
            return st;
        code = rd_kafka_metadata(client->rk, 1, NULL, &metadata, METADATA_MS);
    } while (code != RD_KAFKA_RESP_ERR_NO_ERROR && clock_monotonic_ms() < deadline_ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        found = check_topics(metadata, topics, n_topics, err);
        rd_kafka_metadata_destroy(metadata);
        return found;
    }
    st = serve(client, st, err);
    if (st == ST_OK)
        st = kafka_client_error(client, code, NULL, err);
    error_add_context(err, "no broker has answered in %d ms", timeout_ms);
    return st;
}

void kafka_client_release(struct kafka_client *client)
{
    if (client->queue != NULL)
        rd_kafka_queue_destroy(client->queue);
    if (client->rk != NULL)
        rd_kafka_destroy(client->rk);
    free(client->token_source);
    memset(client, 0, sizeof *client);
}
