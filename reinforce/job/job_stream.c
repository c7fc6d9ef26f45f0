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

enum status job_stream_parse(const struct job *job, struct arena *arena, struct job_stream *out,
                             struct error *err)
{
    const char *properties = job->kafka.properties != NULL ? job->kafka.properties : "";
    char **topics, **lines;
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
    st = split(properties, "\r\n", true, arena, &lines, &out->n_properties, err);
    if (st == ST_OK)
        st = arena_calloc(arena, out->n_properties, sizeof *out->properties, &out->properties, err);
    for (size_t i = 0; i < out->n_properties && st == ST_OK; i++)
        st = parse_property(lines[i], &out->properties[i], err);
    if (st != ST_OK)
        error_add_context(err, "kafka.properties");
    return st;
}
