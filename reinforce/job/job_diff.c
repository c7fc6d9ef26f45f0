/* What a resumed run would do differently; part of job.h. */
#include "reinforce/job/job.h"
#include "reinforce/job/job_schema.h"

enum { MAX_DIFF_BYTES = 64 << 10, MAX_VALUE_BYTES = 64 << 10 };

struct diff {
    struct byte_buf *out;
    struct byte_buf scratch; /* both values of one difference */
    struct error *err;
};

/* "path: old -> new"; an absent value reads "not set". */
static enum status note(struct diff *diff, const char *path, const json_t *stored,
                        const json_t *current)
{
    static const char absent[] = "not set";
    enum status st = ST_OK;
    size_t split;

    byte_buf_reset(&diff->scratch);
    st = stored != NULL ? json_write(stored, &diff->scratch, diff->err)
                        : byte_buf_append_string(&diff->scratch, absent, diff->err);
    split = diff->scratch.len;
    if (st == ST_OK)
        st = current != NULL ? json_write(current, &diff->scratch, diff->err)
                             : byte_buf_append_string(&diff->scratch, absent, diff->err);
    if (st != ST_OK)
        return st;
    return byte_buf_printf(diff->out, diff->err, "%s%s: %.*s -> %.*s",
                           diff->out->len > 0 ? "; " : "", path, (int)split,
                           (const char *)diff->scratch.data, (int)(diff->scratch.len - split),
                           (const char *)diff->scratch.data + split);
}

static enum status compare_options(struct diff *diff, const struct job_section *section,
                                   const char *prefix, const json_t *stored, const json_t *current)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < section->n_options && st == ST_OK; i++) {
        const struct job_option *option = &section->options[i];
        const json_t *a = json_object_get(stored, option->key);
        const json_t *b = json_object_get(current, option->key);
        char path[96];

        /* jansson's comparison takes non-const values but changes nothing; NULLs differ from all */
        union {
            const json_t *in;
            json_t *value;
        } left = {.in = a}, right = {.in = b};
        if (!option->changes_results || (a == NULL && b == NULL) ||
            json_equal(left.value, right.value) == 1)
            continue;
        (void)snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                       option->key);
        st = note(diff, path, a, b);
    }
    return st;
}

static enum status compare_lists(struct diff *diff, const struct job_section *section,
                                 const json_t *stored, const json_t *current)
{
    size_t n_stored = json_array_size(stored), n_current = json_array_size(current);
    enum status st = ST_OK;

    for (size_t i = 0; i < MAX(n_stored, n_current) && st == ST_OK; i++) {
        const json_t *a = json_array_get(stored, i), *b = json_array_get(current, i);
        char path[64];

        (void)snprintf(path, sizeof path, "%s[%zu]", section->name, i);
        if (a != NULL && b != NULL)
            st = compare_options(diff, section, path, a, b);
        else
            st = note(diff, path, json_object_get(a, "name"), json_object_get(b, "name"));
    }
    return st;
}

static enum status compare(struct diff *diff, const json_t *stored, const json_t *current)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < job_n_sections && st == ST_OK; i++) {
        const struct job_section *section = &job_sections[i];
        const json_t *a =
            section->name[0] != '\0' ? json_object_get(stored, section->name) : stored;
        const json_t *b =
            section->name[0] != '\0' ? json_object_get(current, section->name) : current;

        st = section->element_size > 0 ? compare_lists(diff, section, a, b)
                                       : compare_options(diff, section, section->name, a, b);
    }
    return st;
}

enum status job_diff(const char *stored_json, const char *current_json, struct arena *arena,
                     const char **text, struct error *err)
{
    json_t *stored = NULL, *current = NULL;
    struct byte_buf out;
    struct diff diff = {.out = &out, .err = err};
    enum status st;
    char *copy = NULL;

    *text = NULL;
    byte_buf_init(&out, MAX_DIFF_BYTES);
    byte_buf_init(&diff.scratch, MAX_VALUE_BYTES);
    st = json_parse(bytes_of_string(stored_json), &stored, err);
    if (st != ST_OK)
        error_add_context(err, "stored configuration");
    else
        st = json_parse(bytes_of_string(current_json), &current, err);
    if (st == ST_OK)
        st = compare(&diff, stored, current);
    if (st == ST_OK)
        st = arena_strndup(arena, out.len > 0 ? (const char *)out.data : "", out.len, &copy, err);
    if (st == ST_OK)
        *text = copy;
    json_decref(stored);
    json_decref(current);
    byte_buf_release(&diff.scratch);
    byte_buf_release(&out);
    return st;
}
