#include "coordinator/absolute_job.h"

#include <ctype.h>
#include <stdio.h>

enum {
    ARENA_BYTES = 4 << 20,
    MAX_LIST_BYTES = 1 << 20,
    MAX_PATH_BYTES = 1024,
    MAX_TOKENIZERS = 64,
    MAX_OVERRIDES = 4 + JOB_MAX_CAPTIONERS + JOB_MAX_TEACHERS + MAX_TOKENIZERS
};

/* "s3://b/k", "hf://a/b", "mem:x": letters and digits, then a colon. */
static bool has_scheme(const char *url)
{
    size_t n = 0;

    while (isalnum((unsigned char)url[n]))
        n++;
    return n > 0 && url[n] == ':';
}

enum status absolute_job_url(const char *url, const char *scheme, const char *folder,
                             struct arena *arena, const char **out, struct error *err)
{
    size_t scheme_len = strncmp(url, scheme, strlen(scheme)) == 0 ? strlen(scheme) : 0;
    const char *path = url + scheme_len;
    size_t len = strlen(url) + strlen(folder) + 2;
    char *text;
    enum status st;

    *out = url;
    if (path[0] == '/' || path[0] == '\0' || has_scheme(path))
        return ST_OK;
    st = arena_alloc(arena, len, &text, err);
    if (st == ST_OK)
        (void)snprintf(text, len, "%.*s%s/%s", (int)scheme_len, url, folder,
                       strncmp(path, "./", 2) == 0 ? path + 2 : path);
    *out = text;
    return st;
}

/* Overrides that make up the difference. */
struct changes {
    const char *folder;
    struct arena arena;
    struct job_override list[MAX_OVERRIDES];
    size_t n;
};

static enum status add_text(struct changes *changes, const char *key, const char *value,
                            struct error *err)
{
    size_t len = strlen(key) + strlen(value) + 2;
    char *text;
    enum status st = arena_alloc(&changes->arena, len, &text, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(text, len, "%s=%s", key, value);
    changes->list[changes->n++].text = text;
    return ST_OK;
}

static enum status add(struct changes *changes, const char *key, const char *url,
                       const char *scheme, struct error *err)
{
    const char *absolute;
    enum status st =
        absolute_job_url(url, scheme, changes->folder, &changes->arena, &absolute, err);

    return st == ST_OK && absolute != url ? add_text(changes, key, absolute, err) : st;
}

static enum status add_models(struct changes *changes, const struct job *job, struct error *err)
{
    enum status st = ST_OK;
    char key[64];

    for (size_t i = 0; i < job->n_captioners && st == ST_OK; i++) {
        (void)snprintf(key, sizeof key, "captioners[%zu].model", i);
        if (job->captioners[i].remote.server == NULL)
            st = add(changes, key, job->captioners[i].model, "file:", err);
    }
    for (size_t i = 0; i < job->n_teachers && st == ST_OK; i++) {
        (void)snprintf(key, sizeof key, "teachers[%zu].model", i);
        if (job->teachers[i].remote.server == NULL)
            st = add(changes, key, job->teachers[i].model, "file:", err);
    }
    return st;
}

/* Tokenizers of the rules in `rule`, which are found at `place`. YAML nests 16 deep at most. */
static enum status add_rules(struct changes *changes, const struct job *job,
                             const struct rule *rule, const char *place, struct error *err)
{
    char path[MAX_PATH_BYTES], inner[MAX_PATH_BYTES];
    enum status st = ST_OK;

    for (size_t i = 0; i < rule->n_children && st == ST_OK; i++) {
        const struct rule *child = &rule->children[i];
        const char *tokenizer =
            child->kind == RULE_SCORE ? job->curate.scores[child->score].tokenizer : NULL;

        if (rule->kind == RULE_NOT)
            (void)snprintf(path, sizeof path, "%s", place);
        else
            (void)snprintf(path, sizeof path, "%s[%zu]", place, i);
        (void)snprintf(inner, sizeof inner, "%s.%s", path,
                       child->kind == RULE_SCORE ? "tokenizer"
                       : child->kind == RULE_ALL ? "all"
                       : child->kind == RULE_ANY ? "any"
                                                 : "not");
        if (changes->n == MAX_OVERRIDES)
            st = error_set(err, ST_INVALID, "%s: there are more than %d tokenizers to find", path,
                           (int)MAX_TOKENIZERS);
        else if (tokenizer != NULL)
            st = add(changes, inner, tokenizer, "file:", err);
        else
            st = add_rules(changes, job, child, inner, err);
    }
    return st;
}

/* An input may be a list, a::b. */
static enum status add_input(struct changes *changes, const char *list, struct error *err)
{
    struct byte_buf text;
    const char *whole;
    enum status st = ST_OK;

    byte_buf_init(&text, MAX_LIST_BYTES);
    while (st == ST_OK) {
        const char *end = strstr(list, "::"), *absolute;
        size_t len = end != NULL ? (size_t)(end - list) : strlen(list);
        char *one;

        st = arena_strndup(&changes->arena, list, len, &one, err);
        if (st == ST_OK)
            st = absolute_job_url(one, "file:", changes->folder, &changes->arena, &absolute, err);
        if (st == ST_OK)
            st = byte_buf_append(&text, absolute, strlen(absolute), err);
        if (st != ST_OK || end == NULL)
            break;
        st = byte_buf_append(&text, "::", 2, err);
        list = end + 2;
    }
    if (st == ST_OK)
        st = byte_buf_c_str(&text, &whole, err);
    if (st == ST_OK)
        st = add_text(changes, "input.url", whole, err);
    byte_buf_release(&text);
    return st;
}

enum status absolute_job_create(const struct job *job, const char *folder, struct job **out,
                                struct error *err)
{
    struct changes changes = {.folder = folder};
    enum status st;

    *out = NULL;
    arena_init(&changes.arena, ARENA_BYTES);
    st = add_input(&changes, job->input.url, err);
    if (st == ST_OK)
        st = add(&changes, "output.url", job->output.url, "file:", err);
    if (st == ST_OK && job->catalog.url != NULL)
        st = add(&changes, "catalog.url", job->catalog.url, "sqlite:", err);
    if (st == ST_OK && job->kafka.objects != NULL)
        st = add(&changes, "kafka.objects", job->kafka.objects, "file:", err);
    if (st == ST_OK)
        st = add_models(&changes, job, err);
    if (st == ST_OK)
        st = add_rules(&changes, job, &job->curate.keep, "curate.keep", err);
    if (st == ST_OK)
        st = job_load_text(bytes_of_string(job->effective_json), job->name, changes.list, changes.n,
                           out, err);
    arena_release(&changes.arena);
    return st;
}
