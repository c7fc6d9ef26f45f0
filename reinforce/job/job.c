#include "reinforce/job/job.h"

#include "reinforce/base/file.h"
#include "reinforce/base/utf8.h"
#include "reinforce/base/yaml.h"
#include "reinforce/job/job_bind.h"
#include "reinforce/job/job_check.h"
#include "reinforce/job/job_curate.h"
#include "reinforce/job/job_override.h"
#include "reinforce/job/job_schema.h"
#include "reinforce/job/job_stream.h"
#include "reinforce/job/job_value.h"

#include <stdlib.h>

#define TEACHER_FIDELITY   0.999
#define CAPTIONER_FIDELITY 0.9

enum { ARENA_BYTES = 16 << 20, MAX_JSON_BYTES = 8 << 20 };

/* The order in which a file is judged: a misspelt key explains a missing one, so it comes first. */
static job_bind_fn *const passes[] = {job_bind_keys, job_bind_values, job_bind_required};

static enum status create_list(const struct job_section *section, const struct yaml_tree *node,
                               struct job *job, struct error *err)
{
    size_t n = node != NULL ? node->n_children : 0;
    enum status st;
    char *array;

    if (node != NULL && node->kind != YAML_TREE_LIST) {
        (void)error_set(err, ST_INVALID,
                        "is a %s where a list is expected: begin every element with \"- \"",
                        node->kind == YAML_TREE_MAP ? "map" : "single value");
        return job_bind_locate(node, section, -1, "", err);
    }
    if (n > section->max_elements) {
        (void)error_set(err, ST_INVALID, "has %zu elements; the limit is %zu", n,
                        section->max_elements);
        return job_bind_locate(node, section, -1, "", err);
    }
    st = arena_calloc(&job->arena, n, section->element_size, &array, err);
    if (st != ST_OK)
        return st;
    memcpy((char *)job + section->array_offset, &array, sizeof array);
    memcpy((char *)job + section->count_offset, &n, sizeof n);
    return ST_OK;
}

static enum status bind_list(const struct job_section *section, const struct yaml_tree *node,
                             struct job *job, job_bind_fn *pass, struct error *err)
{
    enum status st = pass == job_bind_keys ? create_list(section, node, job, err) : ST_OK;
    const struct yaml_tree *child = node != NULL ? node->first : NULL;
    char *element;

    memcpy(&element, (const char *)job + section->array_offset, sizeof element);
    for (int i = 0; child != NULL && st == ST_OK; i++, child = child->next) {
        struct job_binding b = {.schema = &job_file_schema,
                                .section = section,
                                .index = i,
                                .node = child->kind != YAML_TREE_NULL ? child : NULL,
                                .place = child,
                                .base = element};

        st = pass(&b, err);
        element += section->element_size;
    }
    return st;
}

static enum status bind(const struct yaml_tree *root, struct job *job, struct error *err)
{
    enum status st = ST_OK;

    for (size_t k = 0; k < ARRAY_LEN(passes) * job_n_sections && st == ST_OK; k++) {
        const struct job_section *section = &job_sections[k % job_n_sections];
        job_bind_fn *pass = passes[k / job_n_sections];
        const struct yaml_tree *node =
            section->name[0] == '\0' ? root : yaml_tree_find(root, section->name);
        struct job_binding b = {.schema = &job_file_schema,
                                .section = section,
                                .index = -1,
                                .node = node != NULL && node->kind != YAML_TREE_NULL ? node : NULL,
                                .place = node != NULL ? node : root,
                                .base = job};

        st = section->element_size > 0 ? bind_list(section, b.node, job, pass, err) : pass(&b, err);
    }
    return st;
}

/* "models/a/" -> "a", "configs/x.yaml" -> "x" */
static enum status last_part(struct arena *arena, const char *path, bool drop_suffix,
                             const char **out, struct error *err)
{
    size_t end = strlen(path), begin;
    const char *dot;
    enum status st;
    char *copy;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    st = arena_strndup(arena, path + begin, end - begin, &copy, err);
    *out = copy;
    if (st == ST_OK && drop_suffix && (dot = strrchr(copy, '.')) != NULL && dot != copy)
        copy[dot - copy] = '\0';
    return st;
}

/* A column keeps its random numbers when captioners are added, dropped or put in another order, so
 * the stream is named by the column: FNV-1a, folded to the 16 bits that a stream has. */
static uint32_t stream_of(const char *column)
{
    uint32_t hash = 2166136261u;

    for (; *column != '\0'; column++)
        hash = (hash ^ (unsigned char)*column) * 16777619u;
    return (hash >> 16) ^ (hash & 0xffff);
}

static enum status default_catalog(struct job *job, const struct yaml_tree *root, struct error *err)
{
    const char *folder = job->output.url;
    size_t len = strlen(folder) + sizeof "sqlite:/catalog.sqlite";
    enum status st;
    char *url;

    if (strncmp(folder, "file:", 5) == 0) {
        folder += 5;
    } else if (strchr(folder, ':') != NULL &&
               strcspn(folder, "/") > (size_t)(strchr(folder, ':') - folder)) {
        (void)error_set(err, ST_INVALID,
                        "must be given when the output is not a local folder, as \"%.60s\" is",
                        folder);
        error_add_context(err, "catalog.url");
        return yaml_tree_locate(root, err);
    }
    st = arena_alloc(&job->arena, len, &url, err);
    if (st != ST_OK)
        return st;
    (void)snprintf(url, len, "sqlite:%s%scatalog.sqlite", folder,
                   folder[strlen(folder) - 1] == '/' ? "" : "/");
    job->catalog.url = url;
    return ST_OK;
}

/* What dtype: auto asks for, unless the job says. */
static void default_fidelity(enum job_dtype dtype, double value, double *fidelity)
{
    if (dtype == JOB_DTYPE_AUTO && *fidelity <= 0)
        *fidelity = value;
}

/* Defaults that depend on other values. */
static enum status derive(struct job *job, const char *path, const struct yaml_tree *root,
                          struct error *err)
{
    const struct yaml_tree *views = yaml_tree_find(root, "views");
    const struct yaml_tree *count = views != NULL ? yaml_tree_find(views, "count") : NULL;
    enum status st = ST_OK;

    if (job->name == NULL)
        st = last_part(&job->arena, path, true, &job->name, err);
    if (st == ST_OK && job->catalog.url == NULL)
        st = default_catalog(job, root, err);
    if (job_is_stream(job) && job->kafka.group == NULL)
        job->kafka.group = job->name;
    if (job->n_teachers == 0 && (count == NULL || count->kind == YAML_TREE_NULL))
        job->views.count = 0;
    for (size_t i = 0; i < job->n_captioners && st == ST_OK; i++) {
        struct job_captioner *captioner = &job->captioners[i];

        captioner->how.seed = job->seed;
        captioner->how.stream = stream_of(captioner->column);
        default_fidelity(captioner->dtype, CAPTIONER_FIDELITY, &captioner->fidelity);
        if (captioner->name == NULL)
            st = last_part(&job->arena, captioner->model, false, &captioner->name, err);
    }
    for (size_t i = 0; i < job->n_teachers && st == ST_OK; i++) {
        struct job_teacher *teacher = &job->teachers[i];

        default_fidelity(teacher->dtype, TEACHER_FIDELITY, &teacher->fidelity);
        if (teacher->name == NULL)
            st = last_part(&job->arena, teacher->model, false, &teacher->name, err);
    }
    return st;
}

static json_t *options_to_json(const struct job_section *section, const void *base,
                               bool results_only)
{
    json_t *object = json_object();

    for (size_t i = 0; i < section->n_options && object != NULL; i++) {
        const struct job_option *option = &section->options[i];

        if (results_only && !option->changes_results)
            continue;
        if (json_object_set_new(object, option->key, job_value_to_json(option, base)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *list_to_json(const struct job_section *section, const struct job *job,
                            bool results_only)
{
    json_t *array = json_array();
    const char *elements;
    size_t n;

    memcpy(&elements, (const char *)job + section->array_offset, sizeof elements);
    memcpy(&n, (const char *)job + section->count_offset, sizeof n);
    for (size_t i = 0; i < n && array != NULL; i++) {
        json_t *element =
            options_to_json(section, elements + i * section->element_size, results_only);

        if (json_array_append_new(array, element) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *section_to_json(const struct job_section *section, const struct job *job,
                               bool results_only)
{
    if (section->element_size > 0)
        return list_to_json(section, job, results_only);
    return strcmp(section->name, "curate") == 0 ? job_curate_to_json(job)
                                                : options_to_json(section, job, results_only);
}

/* The top level's own keys come first, then the sections. Ones without any key are left out. */
static json_t *job_to_json(const struct job *job, bool results_only)
{
    json_t *root = options_to_json(&job_sections[0], job, results_only);

    for (size_t i = 1; i < job_n_sections && root != NULL; i++) {
        const struct job_section *section = &job_sections[i];
        json_t *value = section_to_json(section, job, results_only);

        if (json_is_object(value) && json_object_size(value) == 0) {
            json_decref(value);
        } else if (json_object_set_new(root, section->name, value) != 0) {
            json_decref(root);
            root = NULL;
        }
    }
    return root;
}

static uint32_t hex4(const uint8_t *digits)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++)
        value = value << 4 | (uint32_t)(digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
    return value;
}

/* JSON escapes what is beyond 16 bits as a pair of surrogates, which YAML does not know; written as
 * it is, both read it. The text only gets shorter. */
static void join_surrogates(struct byte_buf *buf)
{
    size_t to = 0;

    for (size_t from = 0; from < buf->len;) {
        const uint8_t *at = buf->data + from;
        size_t step = at[0] == '\\' ? 2 : 1;
        uint32_t high = at[0] == '\\' && at[1] == 'u' ? hex4(at + 2) : 0;

        if (high >= 0xd800 && high < 0xdc00) {
            uint32_t code = 0x10000 + ((high - 0xd800) << 10) + (hex4(at + 8) - 0xdc00);

            to += utf8_put(code, buf->data + to);
            from += 12;
        } else {
            memmove(buf->data + to, at, step);
            to += step;
            from += step;
        }
    }
    buf->len = to;
}

static enum status render(const struct job *job, bool results_only, struct byte_buf *buf,
                          struct error *err)
{
    json_t *json = job_to_json(job, results_only);
    enum status st;

    if (json == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the effective configuration");
    byte_buf_reset(buf);
    st = json_write(json, buf, err);
    json_decref(json);
    if (st == ST_OK)
        join_surrogates(buf);
    return st;
}

static enum status finish(struct job *job, struct error *err)
{
    struct byte_buf buf;
    enum status st;
    char *copy;

    byte_buf_init(&buf, MAX_JSON_BYTES);
    st = render(job, true, &buf, err);
    if (st == ST_OK) {
        sha256_of(byte_buf_view(&buf), job->digest);
        st = render(job, false, &buf, err);
    }
    if (st == ST_OK)
        st = arena_strndup(&job->arena, (const char *)buf.data, buf.len, &copy, err);
    if (st == ST_OK)
        job->effective_json = copy;
    byte_buf_release(&buf);
    return st;
}

static enum status load_text(struct bytes_view text, const char *path,
                             const struct job_override *overrides, size_t n_overrides,
                             struct job *job, struct error *err)
{
    struct yaml_tree *root;
    enum status st;
    char *source;

    st = arena_strndup(&job->arena, path, strlen(path), &source, err);
    if (st == ST_OK)
        st = yaml_tree_parse(text, source, &job->arena, &root, err);
    for (size_t i = 0; i < n_overrides && st == ST_OK; i++)
        st = job_override_apply(root, &overrides[i], &job->arena, err);
    if (st == ST_OK)
        st = job_curate_check_keys(root, err);
    if (st == ST_OK)
        st = bind(root, job, err);
    if (st == ST_OK)
        st = derive(job, path, root, err);
    if (st == ST_OK)
        st = job_check(job, root, err);
    if (st == ST_OK)
        st = job_curate_parse(job, root, err);
    return st == ST_OK ? finish(job, err) : st;
}

enum status job_load_text(struct bytes_view text, const char *path,
                          const struct job_override *overrides, size_t n_overrides,
                          struct job **out, struct error *err)
{
    struct job *job = calloc(1, sizeof *job);
    enum status st;

    *out = NULL;
    if (job == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a job");
    arena_init(&job->arena, ARENA_BYTES);
    st = load_text(text, path, overrides, n_overrides, job, err);
    if (st != ST_OK) {
        job_destroy(&job);
        return st;
    }
    *out = job;
    return ST_OK;
}

enum status job_load(const char *path, const struct job_override *overrides, size_t n_overrides,
                     struct job **out, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    *out = NULL;
    byte_buf_init(&buf, YAML_TREE_MAX_BYTES);
    st = file_read(path, &buf, err);
    if (st != ST_OK)
        error_add_context(err, "job file");
    else
        st = job_load_text(byte_buf_view(&buf), path, overrides, n_overrides, out, err);
    byte_buf_release(&buf);
    return st;
}

void job_destroy(struct job **job)
{
    if (*job == NULL)
        return;
    arena_release(&(*job)->arena);
    free(*job);
    *job = NULL;
}
