#include "reinforce/job/job_check.h"

#include "reinforce/base/parse.h"
#include "reinforce/job/job_stream.h"

#include <stdio.h>

enum { MAX_NAME = 64 };

#define WORD_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

bool job_name_is_safe(const char *name)
{
    size_t len = strnlen(name, MAX_NAME + 1);

    return len > 0 && len <= MAX_NAME && name[0] != '.' && name[0] != '-' &&
           strspn(name, WORD_CHARS ".-") == len;
}

/* The node of section.key, or of what is above it when the value is a default. `index` is of a list
 * section's element, -1 for the others. */
static const struct yaml_tree *node_of(const struct yaml_tree *root, const char *section, int index,
                                       const char *key)
{
    const struct yaml_tree *node = section[0] != '\0' ? yaml_tree_find(root, section) : root;
    const struct yaml_tree *child;

    if (node == NULL)
        return root;
    if (index >= 0 && node->kind == YAML_TREE_LIST) {
        node = node->first;
        for (int i = 0; i < index && node != NULL; i++)
            node = node->next;
    }
    if (node == NULL)
        return root;
    child = key != NULL ? yaml_tree_find(node, key) : NULL;
    return child != NULL ? child : node;
}

static enum status refused_at(const struct yaml_tree *root, const char *section, int index,
                              const char *key, struct error *err)
{
    const char *dot = section[0] != '\0' && key != NULL ? "." : "";

    if (index >= 0)
        error_add_context(err, "%s[%d]%s%s", section, index, dot, key != NULL ? key : "");
    else
        error_add_context(err, "%s%s%s", section, dot, key != NULL ? key : "");
    return yaml_tree_locate(node_of(root, section, index, key), err);
}

static enum status check_name(const char *name, const struct yaml_tree *root, const char *section,
                              int index, struct error *err)
{
    if (job_name_is_safe(name))
        return ST_OK;
    (void)error_set(err, ST_INVALID,
                    "\"%.70s\" cannot be a name; use at most %d letters, digits, \"_\", \"-\" and "
                    "\".\", the first a letter, digit or \"_\"",
                    name, (int)MAX_NAME);
    return refused_at(root, section, index, "name", err);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Trainers match columns with ^syn_text.*$ and read <column>_emb beside them. */
static enum status check_column(const struct job *job, const struct yaml_tree *root, int index,
                                struct error *err)
{
    const char *column = job->captioners[index].column;
    size_t len = strnlen(column, MAX_NAME + 1);

    if (strncmp(column, "syn_text", 8) != 0)
        (void)error_set(err, ST_INVALID,
                        "\"%.70s\" does not begin with syn_text, so trainers would not read it; "
                        "try \"syn_text_%.40s\"",
                        column, column);
    else if (strspn(column, WORD_CHARS) != len || len > MAX_NAME)
        (void)error_set(err, ST_INVALID,
                        "\"%.70s\" is not a column name; use at most %d letters, digits and \"_\"",
                        column, (int)MAX_NAME);
    else if (ends_with(column, "emb") || ends_with(column, "embedding"))
        (void)error_set(err, ST_INVALID,
                        "\"%.70s\" ends like the name of an embedding and readers would take it "
                        "for one; choose another suffix",
                        column);
    else
        return ST_OK;
    return refused_at(root, "captioners", index, "column", err);
}

enum status job_parse_triple(const char *text, float out[3], struct error *err)
{
    const char *at = text;

    for (int i = 0; i < 3; i++) {
        char number[32];
        size_t len;
        double value;

        at += strspn(at, ", ");
        len = strcspn(at, ", ");
        (void)snprintf(number, sizeof number, "%.*s", (int)len, at);
        if (len == 0 || len >= sizeof number || parse_f64(number, -1e6, 1e6, &value, err) != ST_OK)
            return error_set(err, ST_INVALID, "\"%.60s\" is not three numbers", text);
        out[i] = (float)value;
        at += len;
    }
    if (at[strspn(at, ", ")] != '\0')
        return error_set(err, ST_INVALID, "\"%.60s\" has more than three numbers", text);
    return ST_OK;
}

/* A protocol and a server go together; a password in a URL would end in the catalog and in logs. */
static enum status check_remote(const struct job_remote *remote, const char *activation,
                                const struct yaml_tree *root, const char *section, int index,
                                struct error *err)
{
    const char *key = "server";

    if (remote->server == NULL && remote->protocol == NULL)
        return ST_OK;
    if (remote->server == NULL) {
        key = "protocol";
        (void)error_set(err, ST_INVALID, "says how to talk, not to whom; add `server`, a URL");
    } else if (remote->protocol == NULL) {
        (void)error_set(err, ST_INVALID, "needs `protocol` beside it, such as openai");
    } else if (strncmp(remote->server, "http://", 7) != 0 &&
               strncmp(remote->server, "https://", 8) != 0) {
        (void)error_set(err, ST_INVALID, "begins with neither http:// nor https://");
    } else if (strpbrk(remote->server, "@?#") != NULL) {
        (void)error_set(err, ST_INVALID,
                        "has a user, query or fragment in it; put the token into an environment "
                        "variable and name that in `token_env`");
    } else if (activation != NULL) {
        key = "activation";
        (void)error_set(err, ST_INVALID, "is the server's business; leave the key out");
    } else {
        return ST_OK;
    }
    return refused_at(root, section, index, key, err);
}

/* What is compared with float32 must be another form, and needs images when models are loaded. */
static enum status check_fidelity(const struct job *job, enum job_dtype dtype, double fidelity,
                                  const struct yaml_tree *root, const char *section, int index,
                                  struct error *err)
{
    if (fidelity <= 0)
        return ST_OK;
    if (dtype == JOB_DTYPE_FLOAT32)
        (void)error_set(err, ST_INVALID,
                        "float32 is what others are compared with; leave the key out, or say "
                        "`dtype: auto`");
    else if (job_is_stream(job))
        (void)error_set(err, ST_INVALID,
                        "is measured on the first images of the input, and a stream has none when "
                        "models are loaded; measure with `reinforce model fidelity` and name the "
                        "dtype");
    else
        return ST_OK;
    return refused_at(root, section, index, dtype == JOB_DTYPE_AUTO ? "dtype" : "fidelity", err);
}

static enum status check_served_captioner(const struct job_captioner *captioner,
                                          const struct yaml_tree *root, int index,
                                          struct error *err)
{
    enum status st =
        check_remote(&captioner->remote, captioner->activation, root, "captioners", index, err);

    if (st != ST_OK || captioner->remote.server == NULL)
        return st;
    if (captioner->how.strategy >= CAPTION_BEAM) {
        (void)error_set(err, ST_INVALID, "servers know no beam search; use greedy or top_p");
        return refused_at(root, "captioners", index, "strategy", err);
    }
    if (captioner->dtype == JOB_DTYPE_FLOAT32 && captioner->kv_cache == KV_FLOAT32)
        return ST_OK;
    (void)error_set(err, ST_INVALID, "is the server's business; leave the key out");
    return refused_at(root, "captioners", index,
                      captioner->dtype != JOB_DTYPE_FLOAT32 ? "dtype" : "kv_cache", err);
}

static enum status check_served_teacher(const struct job_teacher *teacher,
                                        const struct yaml_tree *root, int index, struct error *err)
{
    const char *key;
    float values[3];
    enum status st =
        check_remote(&teacher->remote, teacher->activation, root, "teachers", index, err);

    if (st != ST_OK || teacher->remote.server == NULL)
        return st;
    if (teacher->clean != TEACHER_CLEAN_AUTO || teacher->special_tokens_in_text ||
        teacher->dtype != JOB_DTYPE_FLOAT32) {
        key = teacher->dtype != JOB_DTYPE_FLOAT32 ? "dtype"
              : teacher->special_tokens_in_text   ? "special_tokens_in_text"
                                                  : "clean";
        (void)error_set(err, ST_INVALID, "is the server's business; leave the key out");
    } else if (job_parse_triple(teacher->mean, values, err) != ST_OK) {
        key = "mean";
    } else if (job_parse_triple(teacher->std, values, err) != ST_OK) {
        key = "std";
    } else if (!(values[0] > 0 && values[1] > 0 && values[2] > 0)) {
        key = "std";
        (void)error_set(err, ST_INVALID, "must be above 0");
    } else if (teacher->image_size == 0 && strcmp(teacher->remote.protocol, "openai") == 0) {
        key = "image_size";
        (void)error_set(err, ST_INVALID,
                        "must be given: this protocol does not say how large views are to be");
    } else {
        return ST_OK;
    }
    return refused_at(root, "teachers", index, key, err);
}

static enum status check_captioner(const struct job *job, const struct yaml_tree *root, int index,
                                   struct error *err)
{
    const struct job_captioner *captioner = &job->captioners[index];
    enum status st = check_name(captioner->name, root, "captioners", index, err);

    if (st == ST_OK)
        st = check_column(job, root, index, err);
    if (st == ST_OK)
        st = check_served_captioner(captioner, root, index, err);
    if (st == ST_OK)
        st = check_fidelity(job, captioner->dtype, captioner->fidelity, root, "captioners", index,
                            err);
    if (st != ST_OK)
        return st;
    if (captioner->how.min_tokens >= captioner->how.max_tokens) {
        (void)error_set(err, ST_INVALID, "%d is not below max_tokens, which is %d",
                        captioner->how.min_tokens, captioner->how.max_tokens);
        return refused_at(root, "captioners", index, "min_tokens", err);
    }
    for (int i = 0; i < index; i++) {
        const struct job_captioner *before = &job->captioners[i];

        if (strcmp(before->name, captioner->name) == 0) {
            (void)error_set(err, ST_INVALID,
                            "\"%s\" is also the name of captioners[%d]; give each its own `name`",
                            captioner->name, i);
            return refused_at(root, "captioners", index, "name", err);
        }
        if (strcmp(before->column, captioner->column) == 0) {
            (void)error_set(err, ST_INVALID,
                            "\"%s\" is also the column of captioners[%d]; give each its own, such "
                            "as syn_text_%.30s",
                            captioner->column, i, captioner->name);
            return refused_at(root, "captioners", index, "column", err);
        }
        if (before->how.stream == captioner->how.stream) {
            (void)error_set(err, ST_INVALID,
                            "\"%s\" draws the same random numbers as \"%s\" of captioners[%d]; "
                            "change one of the two names",
                            captioner->column, before->column, i);
            return refused_at(root, "captioners", index, "column", err);
        }
    }
    return ST_OK;
}

static enum status check_teacher(const struct job *job, const struct yaml_tree *root, int index,
                                 struct error *err)
{
    const struct job_teacher *teacher = &job->teachers[index];
    enum status st = check_name(teacher->name, root, "teachers", index, err);

    if (st == ST_OK)
        st = check_served_teacher(teacher, root, index, err);
    if (st == ST_OK)
        st = check_fidelity(job, teacher->dtype, teacher->fidelity, root, "teachers", index, err);
    for (int i = 0; i < index && st == ST_OK; i++) {
        if (strcmp(job->teachers[i].name, teacher->name) != 0)
            continue;
        (void)error_set(err, ST_INVALID,
                        "\"%s\" is also the name of teachers[%d]; give each its own `name`",
                        teacher->name, i);
        st = refused_at(root, "teachers", index, "name", err);
    }
    return st;
}

static enum status check_models(const struct job *job, const struct yaml_tree *root,
                                struct error *err)
{
    enum status st = ST_OK;

    if (job->n_captioners == 0 && job->n_teachers == 0) {
        (void)error_set(err, ST_INVALID,
                        "no captioners and no teachers, so there is nothing to do; add at least "
                        "one, as in configs/quickstart.yaml");
        return yaml_tree_locate(root, err);
    }
    for (size_t i = 0; i < job->n_captioners && st == ST_OK; i++)
        st = check_captioner(job, root, (int)i, err);
    for (size_t i = 0; i < job->n_teachers && st == ST_OK; i++)
        st = check_teacher(job, root, (int)i, err);
    return st;
}

static enum status check_views(const struct job *job, const struct yaml_tree *root,
                               struct error *err)
{
    const struct augment_config *augment = &job->views.augment;
    const char *key;

    if (job->n_teachers > 0 && job->views.count == 0) {
        (void)error_set(err, ST_INVALID,
                        "0 views leave the teachers no image to embed, and trainers need at least "
                        "one; ask for 1 or more, or remove the teachers");
        key = "count";
    } else if (job->n_teachers == 0 && job->views.count > 0) {
        (void)error_set(err, ST_INVALID,
                        "%d views are of no use without teachers to embed them; add teachers, or "
                        "leave the key out",
                        job->views.count);
        key = "count";
    } else if (augment->scale_min > augment->scale_max) {
        (void)error_set(err, ST_INVALID, "%g is above scale_max, which is %g", augment->scale_min,
                        augment->scale_max);
        key = "scale_min";
    } else if (augment->ratio_min > augment->ratio_max) {
        (void)error_set(err, ST_INVALID, "%g is above ratio_max, which is %g", augment->ratio_min,
                        augment->ratio_max);
        key = "ratio_min";
    } else if (augment->magnitude >= augment->n_bins) {
        (void)error_set(err, ST_INVALID, "%d is not below num_magnitude_bins, which is %d",
                        augment->magnitude, augment->n_bins);
        key = "magnitude";
    } else {
        return ST_OK;
    }
    return refused_at(root, "views", -1, key, err);
}

static bool same_place(const char *a, const char *b)
{
    size_t len_a = strlen(a), len_b = strlen(b);

    while (len_a > 1 && a[len_a - 1] == '/')
        len_a--;
    while (len_b > 1 && b[len_b - 1] == '/')
        len_b--;
    return len_a == len_b && memcmp(a, b, len_a) == 0;
}

static enum status check_output(const struct job *job, const struct yaml_tree *root,
                                struct error *err)
{
    bool legacy = strcmp(job->output.layout, "legacy") == 0;

    if (same_place(job->input.url, job->output.url)) {
        (void)error_set(err, ST_INVALID,
                        "\"%.100s\" is the input as well; write to another folder, the input is "
                        "never changed",
                        job->output.url);
        return refused_at(root, "output", -1, "url", err);
    }
    if (job->output.embedding_dtype == RECORD_BF16 &&
        strcmp(job->output.format, "webdataset") != 0) {
        (void)error_set(err, ST_INVALID,
                        "%s holds numpy arrays and numpy has no bfloat16; use float32, or the "
                        "webdataset format",
                        job->output.format);
        return refused_at(root, "output", -1, "embedding_dtype", err);
    }
    if (legacy && job->n_captioners > 1) {
        (void)error_set(err, ST_INVALID,
                        "legacy has room for one caption column, and there are %zu captioners; use "
                        "current",
                        job->n_captioners);
        return refused_at(root, "output", -1, "layout", err);
    }
    if (legacy && job->n_captioners == 1 && strcmp(job->captioners[0].column, "syn_text") != 0) {
        (void)error_set(err, ST_INVALID,
                        "legacy readers know the column syn_text alone, not \"%s\"; rename the "
                        "column or use current",
                        job->captioners[0].column);
        return refused_at(root, "output", -1, "layout", err);
    }
    return ST_OK;
}

/* A password in a URL would end in the catalog and in logs. */
static enum status check_storage(const struct job *job, const struct yaml_tree *root,
                                 struct error *err)
{
    const char *endpoint = job->storage.endpoint;

    if (endpoint == NULL)
        return ST_OK;
    if (strncmp(endpoint, "http://", 7) != 0 && strncmp(endpoint, "https://", 8) != 0)
        (void)error_set(err, ST_INVALID, "begins with neither http:// nor https://");
    else if (strpbrk(endpoint, "@?#") != NULL)
        (void)error_set(err, ST_INVALID,
                        "has a user, query or fragment in it; keys come from AWS_ACCESS_KEY_ID and "
                        "AWS_SECRET_ACCESS_KEY or a profile");
    else
        return ST_OK;
    return refused_at(root, "storage", -1, "endpoint", err);
}

/* What needs the other, and what is of no use. */
static enum status check_stream(const struct job *job, const struct yaml_tree *root,
                                struct error *err)
{
    const char *section = "kafka", *key = "brokers";
    struct job_stream stream;
    struct arena arena;
    enum status st;

    if (!job_is_stream(job)) {
        if (job->kafka.brokers == NULL)
            return ST_OK;
        (void)error_set(err, ST_INVALID,
                        "is for an input.url such as kafka:TOPIC; this one is \"%.60s\"",
                        job->input.url);
        return refused_at(root, section, -1, key, err);
    }
    arena_init(&arena, 1 << 20);
    st = job_stream_parse(job, &arena, &stream, err);
    if (st != ST_OK) {
        section = strcmp(err->context, "input.url") == 0 ? "input" : "kafka";
        key = section[0] == 'i' ? "url" : "properties";
        err->context[0] = '\0';
    } else if (job->kafka.brokers == NULL) {
        st = error_set(err, ST_INVALID, "is missing: HOST:PORT of a broker of \"%.60s\"",
                       job->input.url);
    } else if (strcmp(job->input.format, "auto") != 0) {
        section = "input", key = "format";
        st = error_set(err, ST_INVALID,
                       "is of files; how records are written is kafka.schema: auto, json or "
                       "protobuf");
    }
    for (size_t i = 0; st == ST_OK && job->kafka.dead_letters != NULL && i < stream.n_topics; i++)
        if (strcmp(stream.topics[i], job->kafka.dead_letters) == 0) {
            key = "dead_letters";
            st = error_set(err, ST_INVALID,
                           "\"%.60s\" is also read, so every dead letter would come back; choose "
                           "another topic",
                           job->kafka.dead_letters);
        }
    if (st == ST_OK && job->kafka.memory_bytes < job->kafka.max_record_bytes) {
        key = "memory";
        st = error_set(err, ST_INVALID,
                       "the largest record allowed (kafka.max_record) would not fit; raise this or "
                       "lower that");
    }
    arena_release(&arena);
    return st == ST_OK ? ST_OK : refused_at(root, section, -1, key, err);
}

/* Where events go; back into the job they may not. */
static enum status check_events(const struct job *job, const struct yaml_tree *root,
                                struct error *err)
{
    char at[sizeof err->context];
    char *dot;
    struct job_events events;
    struct job_stream stream;
    struct arena arena;
    enum status st;

    if (!job_has_events(job)) {
        if (job->events.brokers == NULL)
            return ST_OK;
        (void)error_set(err, ST_INVALID, "is missing: the topic that events go to");
        return refused_at(root, "events", -1, "topic", err);
    }
    arena_init(&arena, 1 << 20);
    st = job_events_parse(job, &arena, &events, err);
    if (st == ST_OK && job_is_stream(job)) {
        st = job_stream_parse(job, &arena, &stream, err);
        for (size_t i = 0; st == ST_OK && i < stream.n_topics; i++)
            if (strcmp(stream.topics[i], job->events.topic) == 0) {
                st = error_set(err, ST_INVALID,
                               "\"%.60s\" is also read, so every event would come back; choose "
                               "another topic",
                               job->events.topic);
                error_add_context(err, "events.topic");
            }
    }
    arena_release(&arena);
    if (st == ST_OK)
        return ST_OK;
    memcpy(at, err->context, sizeof at); /* "events.topic" */
    dot = strchr(at, '.');
    if (dot == NULL)
        return st;
    *dot = '\0';
    err->context[0] = '\0';
    return refused_at(root, at, -1, dot + 1, err);
}

enum status job_check(const struct job *job, const struct yaml_tree *root, struct error *err)
{
    enum status st = check_name(job->name, root, "", -1, err);

    if (st == ST_OK)
        st = check_models(job, root, err);
    if (st == ST_OK)
        st = check_views(job, root, err);
    if (st == ST_OK)
        st = check_output(job, root, err);
    if (st == ST_OK)
        st = check_storage(job, root, err);
    if (st == ST_OK)
        st = check_stream(job, root, err);
    if (st == ST_OK)
        st = check_events(job, root, err);
    if (st == ST_OK && job->workers.memory_bytes < job->workers.max_sample_bytes) {
        (void)error_set(err, ST_INVALID,
                        "the largest sample allowed (input.max_sample) would not fit; raise this "
                        "or lower that");
        st = refused_at(root, "workers", -1, "memory", err);
    }
    return st;
}
