#include "reinforce/job/job_stream.h"

#include "reinforce/base/secret.h"

#define SCHEME      "kafka:"
#define TOPIC_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

enum { MAX_TOPIC = 249, MAX_ITEMS = 1024 };

bool job_is_stream(const struct job *job)
{
    return strncmp(job->input.url, SCHEME, strlen(SCHEME)) == 0;
}

static enum status check_topic(const char *topic, struct error *err)
{
    size_t len = strlen(topic);

    if (topic[0] == '^') /* a pattern, which the client judges */
        return ST_OK;
    if (len == 0 || len > MAX_TOPIC || strspn(topic, TOPIC_CHARS) != len)
        return error_set(err, ST_INVALID,
                         "\"%.60s\" is no topic's name: at most %d letters, digits, \".\", \"_\" "
                         "and \"-\"; write kafka:TOPIC,TOPIC or kafka:^PATTERN",
                         topic, (int)MAX_TOPIC);
    return ST_OK;
}

/* The pieces of `text` between any of `separators`, NUL-terminated; empty ones are left out when
 * `skip_empty`. */
static enum status split(const char *text, const char *separators, bool skip_empty,
                         struct arena *arena, char ***out, size_t *n, struct error *err)
{
    char **pieces;
    enum status st = arena_calloc(arena, MAX_ITEMS, sizeof *pieces, &pieces, err);

    *n = 0;
    *out = pieces;
    while (st == ST_OK) {
        size_t len = strcspn(text, separators);

        if (len > 0 || !skip_empty) {
            if (*n == MAX_ITEMS)
                return error_set(err, ST_INVALID, "has more than %d elements", (int)MAX_ITEMS);
            st = arena_strndup(arena, text, len, &pieces[*n], err);
            *n += st == ST_OK;
        }
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    return st;
}

static enum status parse_property(char *line, struct job_stream_property *out, struct error *err)
{
    char *equals = strchr(line, '='), *end;

    line += strspn(line, " \t");
    if (equals == NULL || equals == line)
        return error_set(err, ST_INVALID, "\"%.60s\" is not NAME=VALUE", line);
    for (end = equals; end > line && (end[-1] == ' ' || end[-1] == '\t'); end--)
        continue;
    *end = '\0';
    out->name = line;
    out->value = equals + 1 + strspn(equals + 1, " \t");
    if (secret_is_name(out->name) && strncmp(out->value, "env:", 4) != 0 &&
        strncmp(out->value, "file:", 5) != 0)
        return error_set(err, ST_INVALID,
                         "\"%.60s\" is a secret; write env:NAME or file:PATH and put it there",
                         out->name);
    return ST_OK;
}

/* `text` may be NULL; `key` is where it stands. */
static enum status parse_properties(const char *text, const char *key, struct arena *arena,
                                    struct job_stream_property **out, size_t *n, struct error *err)
{
    char **lines;
    enum status st = split(text != NULL ? text : "", "\r\n", true, arena, &lines, n, err);

    if (st == ST_OK)
        st = arena_calloc(arena, *n, sizeof **out, out, err);
    for (size_t i = 0; i < *n && st == ST_OK; i++)
        st = parse_property(lines[i], &(*out)[i], err);
    if (st != ST_OK)
        error_add_context(err, "%s", key);
    return st;
}

enum status job_stream_parse(const struct job *job, struct arena *arena, struct job_stream *out,
                             struct error *err)
{
    char **topics;
    enum status st;

    *out = (struct job_stream){0};
    st = split(job->input.url + strlen(SCHEME), ",", false, arena, &topics, &out->n_topics, err);
    if (st == ST_OK)
        st = arena_calloc(arena, out->n_topics, sizeof *out->topics, &out->topics, err);
    for (size_t i = 0; i < out->n_topics && st == ST_OK; i++) {
        out->topics[i] = topics[i];
        st = check_topic(topics[i], err);
    }
    if (st != ST_OK) {
        error_add_context(err, "input.url");
        return st;
    }
    return parse_properties(job->kafka.properties, "kafka.properties", arena, &out->properties,
                            &out->n_properties, err);
}

bool job_has_events(const struct job *job)
{
    return job->events.topic != NULL;
}

enum status job_events_parse(const struct job *job, struct arena *arena, struct job_events *out,
                             struct error *err)
{
    bool is_shared = job->events.brokers == NULL;
    struct job_stream_property *common = NULL, *own = NULL;
    size_t n_common = 0, n_own = 0;
    enum status st = check_topic(job->events.topic, err);

    *out = (struct job_events){.brokers = is_shared ? job->kafka.brokers : job->events.brokers};
    if (st == ST_OK && job->events.topic[0] == '^')
        st = error_set(err, ST_INVALID, "is a pattern; events go to one topic");
    if (st != ST_OK) {
        error_add_context(err, "events.topic");
        return st;
    }
    if (out->brokers == NULL) {
        st = error_set(err, ST_INVALID, "is missing: HOST:PORT of a broker for topic \"%.60s\"",
                       job->events.topic);
        error_add_context(err, "events.brokers");
        return st;
    }
    if (is_shared)
        st = parse_properties(job->kafka.properties, "kafka.properties", arena, &common, &n_common,
                              err);
    if (st == ST_OK)
        st =
            parse_properties(job->events.properties, "events.properties", arena, &own, &n_own, err);
    if (st == ST_OK)
        st = arena_calloc(arena, n_common + n_own, sizeof *out->properties, &out->properties, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n_common + n_own; i++)
        out->properties[i] = i < n_common ? common[i] : own[i - n_common];
    out->n_properties = n_common + n_own;
    return ST_OK;
}
