#include "coordinator/output.h"

#include "coordinator/accounts.h"
#include "storage/format/side_files.h"
#include "worker/stage_write.h"
#include "worker/storage.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    ARENA_BYTES = 1 << 30,
    JSON_MAX_BYTES = 256 << 20,
    SAMPLE_MAX_BYTES = 1 << 30,
};

const char *output_config_text(const struct output *out, const char *section, const char *key,
                               const char *otherwise)
{
    const json_t *from = section[0] != '\0' ? json_object_get(out->config, section) : out->config;
    const char *text = json_string_value(json_object_get(from, key));

    return text != NULL && text[0] != '\0' ? text : otherwise;
}

bool output_is_shard(const char *key, const char *extension)
{
    size_t len = strlen(key), n = strlen(extension);

    return strncmp(key, "_reinforce/", 11) != 0 && strcmp(key, SIDE_FILES_MANIFEST) != 0 &&
           len > n && strcmp(key + len - n, extension) == 0;
}

/* The job's row, under the name in its configuration. */
static enum status open_catalog(struct output *out, const char *url, struct error *err)
{
    const char *config;
    enum status st = catalog_open(url, &out->catalog, err);

    if (st == ST_OK)
        st = catalog_job_find(out->catalog, output_config_text(out, "", "name", ""), &out->arena,
                              &out->row, &config, err);
    if (st != ST_OK)
        return st;
    out->format = dataset_format_by_name(output_config_text(out, "output", "format", "webdataset"));
    return out->format != NULL
               ? ST_OK
               : error_set(err, ST_CORRUPT, "_reinforce/job.json names an unknown output.format");
}

enum status output_open(const char *url, const struct object_store_options *options,
                        struct output *out, struct error *err)
{
    char beside[1200];
    struct bytes_view body;
    enum status st;

    memset(out, 0, sizeof *out);
    arena_init(&out->arena, ARENA_BYTES);
    st = object_store_open_with(url, options, &out->store, err);
    if (st == ST_OK)
        st = object_store_get(out->store, "_reinforce/job.json", JSON_MAX_BYTES, &out->arena, &body,
                              err);
    if (st == ST_NOT_FOUND)
        st = error_set(err, ST_NOT_FOUND,
                       "\"%s\" is not a dataset that `reinforce run` has written: it has no "
                       "_reinforce/job.json",
                       url);
    if (st == ST_OK)
        st = json_parse(body, &out->config, err);
    if (st == ST_OK) {
        (void)snprintf(beside, sizeof beside, "sqlite:%s/catalog.sqlite",
                       strncmp(url, "file:", 5) == 0 ? url + 5 : url);
        st = open_catalog(out, output_config_text(out, "catalog", "url", beside), err);
    }
    if (st != ST_OK) {
        error_add_context(err, "dataset \"%s\"", url);
        output_close(out);
    }
    return st;
}

enum status output_open_job(const struct job *job, const char *catalog_url, struct output *out,
                            struct error *err)
{
    struct object_store_options stores;
    enum status st;

    memset(out, 0, sizeof *out);
    arena_init(&out->arena, ARENA_BYTES);
    storage_output_options(job, false, &stores);
    st = object_store_open_with(job->output.url, &stores, &out->store, err);
    if (st == ST_OK)
        st = json_parse(bytes_of_string(job->effective_json), &out->config, err);
    if (st == ST_OK)
        st = open_catalog(out, catalog_url, err);
    if (st != ST_OK) {
        error_add_context(err, "output of job \"%s\"", job->name);
        output_close(out);
    }
    return st;
}

void output_close(struct output *out)
{
    catalog_close(&out->catalog);
    object_store_close(&out->store);
    json_decref(out->config);
    arena_release(&out->arena);
    memset(out, 0, sizeof *out);
}

/* What a walk over the catalog's outputs carries along. */
struct check {
    struct output *out;
    output_problem_fn *problem;
    void *ctx;
    struct output_verdict *verdict;
    json_t *manifest; /* shard name -> its line */
    json_t *known;    /* object keys the catalog knows */
};

static void found(struct check *check, const char *object, const char *problem)
{
    check->verdict->problems++;
    check->problem(check->ctx, -1, object, problem);
}

static void damaged(struct check *check, const struct catalog_output *output, const char *problem)
{
    check->verdict->problems++;
    check->problem(check->ctx, output->shard, output->object_key, problem);
}

static enum status read_manifest(struct check *check, struct error *err)
{
    struct bytes_view body;
    enum status st = object_store_get(check->out->store, SIDE_FILES_MANIFEST, JSON_MAX_BYTES,
                                      &check->out->arena, &body, err);

    if (st == ST_NOT_FOUND) {
        if (check->out->row.state == CATALOG_JOB_DONE)
            found(check, SIDE_FILES_MANIFEST, "is missing");
        return ST_OK;
    }
    for (size_t at = 0; st == ST_OK && at < body.len;) {
        const uint8_t *end = memchr(body.data + at, '\n', body.len - at);
        size_t len = end != NULL ? (size_t)(end - (body.data + at)) : body.len - at;
        const char *shard;
        json_t *line;

        if (json_parse(bytes_view_of(body.data + at, len), &line, err) != ST_OK) {
            found(check, SIDE_FILES_MANIFEST, err->message);
            return ST_OK;
        }
        shard = json_string_value(json_object_get(line, "shard"));
        if (shard == NULL)
            found(check, SIDE_FILES_MANIFEST, "has a line without \"shard\"");
        else
            (void)json_object_set(check->manifest, shard, line);
        json_decref(line);
        at += len + 1;
    }
    return st;
}

/* Reads a shard through and counts its records. */
static enum status count_records(struct output *out, const char *key, int64_t *n, struct error *err)
{
    const struct dataset_read_options options = {.max_sample_bytes = SAMPLE_MAX_BYTES};
    const struct dataset_position from = {0};
    struct dataset_reader *reader;
    struct arena arena;
    enum status st =
        dataset_reader_open(out->format, out->store, key, &options, &from, &reader, err);

    *n = 0;
    if (st != ST_OK)
        return st;
    arena_init(&arena, SAMPLE_MAX_BYTES);
    for (;;) {
        struct record record = {0};
        struct dataset_reject reject;

        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, &record, &reject, err);
        if (st == ST_CORRUPT)
            (void)error_set(err, ST_CORRUPT, "sample \"%s\": %s", reject.uid, reject.detail);
        if (st != ST_OK)
            break;
        (*n)++;
        record_release(&record);
    }
    arena_release(&arena);
    dataset_reader_close(&reader);
    return st == ST_END ? ST_OK : st;
}

static void check_manifest_line(struct check *check, const struct catalog_output *output)
{
    char name[96];
    size_t len = strlen(output->object_key), ext = strlen(check->out->format->extension);
    const json_t *line;
    const char *sha256;

    (void)snprintf(name, sizeof name, "%.*s", (int)(len > ext ? len - ext : len),
                   output->object_key);
    line = json_object_get(check->manifest, name);
    if (line == NULL) {
        if (check->out->row.state == CATALOG_JOB_DONE)
            found(check, output->object_key, "is not in manifest.jsonl");
        return;
    }
    sha256 = json_string_value(json_object_get(line, "sha256"));
    if (sha256 == NULL || strcmp(sha256, output->sha256) != 0)
        found(check, output->object_key,
              "has another SHA-256 in manifest.jsonl than in the catalog");
    (void)json_object_del(check->manifest, name);
}

static enum status check_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct check *check = ctx;
    struct object_written is;
    char problem[320];
    int64_t n = 0;
    enum status st = object_store_hash(check->out->store, output->object_key, &is, err);

    check->verdict->objects++;
    (void)json_object_set_new(check->known, output->object_key, json_true());
    if (st == ST_NOT_FOUND) {
        damaged(check, output, "is missing");
        return ST_OK;
    }
    if (st != ST_OK)
        return st;
    check->verdict->bytes += is.bytes;
    if (is.bytes != output->bytes) {
        (void)snprintf(problem, sizeof problem, "has %" PRIu64 " bytes, the catalog says %" PRIu64,
                       is.bytes, output->bytes);
        damaged(check, output, problem);
    } else if (strcmp(is.sha256, output->sha256) != 0) {
        (void)snprintf(problem, sizeof problem, "has SHA-256 %.12s..., the catalog says %.12s...",
                       is.sha256, output->sha256);
        damaged(check, output, problem);
    }
    st = count_records(check->out, output->object_key, &n, err);
    if (st != ST_OK) {
        (void)snprintf(problem, sizeof problem, "cannot be read: %s", err->message);
        damaged(check, output, problem);
    } else if (n != output->n_done) {
        (void)snprintf(problem, sizeof problem,
                       "holds %" PRId64 " samples, the catalog says %" PRId64, n, output->n_done);
        damaged(check, output, problem);
    }
    check->verdict->samples += n;
    check_manifest_line(check, output);
    return ST_OK;
}

static enum status check_stranger(void *ctx, const struct object_info *info, struct error *err)
{
    struct check *check = ctx;

    (void)err;
    if (output_is_shard(info->key, check->out->format->extension) &&
        json_object_get(check->known, info->key) == NULL)
        found(check, info->key, "is not in the catalog");
    return ST_OK;
}

enum status output_verify(struct output *out, output_problem_fn *problem, void *ctx,
                          struct output_verdict *verdict, struct error *err)
{
    struct check check = {.out = out, .problem = problem, .ctx = ctx, .verdict = verdict};
    struct accounts accounts;
    char text[320];
    const char *name;
    json_t *line;
    enum status st = ST_OK;

    memset(verdict, 0, sizeof *verdict);
    check.manifest = json_object();
    check.known = json_object();
    if (check.manifest == NULL || check.known == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate a table of objects");
    if (st == ST_OK)
        st = read_manifest(&check, err);
    if (st == ST_OK)
        st = catalog_outputs(out->catalog, out->row.job, check_output, &check, err);
    if (st == ST_OK)
        st = object_store_list(out->store, "", check_stranger, &check, err);
    if (st == ST_OK)
        st = accounts_read(out->catalog, out->row.job, &accounts, err);
    if (st == ST_OK) {
        json_object_foreach(check.manifest, name, line)
            found(&check, name, "is in manifest.jsonl only");
        if (!accounts.agree) {
            if (accounts.shard >= 0)
                (void)snprintf(text, sizeof text, "accounts of shard %" PRId64 ": %s",
                               accounts.shard, accounts.why);
            else
                (void)snprintf(text, sizeof text, "accounts: %s", accounts.why);
            found(&check, "catalog", text);
        }
    }
    json_decref(check.known);
    json_decref(check.manifest);
    return st;
}

enum status output_read_record(struct output *out, int64_t shard, struct bytes_view uid,
                               struct record *record, struct error *err)
{
    const struct dataset_read_options options = {.max_sample_bytes = SAMPLE_MAX_BYTES};
    const struct dataset_position from = {0};
    struct dataset_reader *reader;
    struct arena arena;
    char key[64];
    enum status st;

    memset(record, 0, sizeof *record);
    stage_write_output_key(shard, out->format, key);
    st = dataset_reader_open(out->format, out->store, key, &options, &from, &reader, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, SAMPLE_MAX_BYTES);
    do {
        struct dataset_reject reject;

        record_release(record);
        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, record, &reject, err);
    } while (st == ST_CORRUPT || (st == ST_OK && !bytes_equal(record->uid, uid)));
    dataset_reader_close(&reader);
    if (st == ST_OK) { /* the caller's arena takes over what the record points at */
        arena_release(&out->arena);
        out->arena = arena;
    } else {
        record_release(record);
        arena_release(&arena);
    }
    return st == ST_END ? error_set(err, ST_NOT_FOUND, "sample \"%.*s\" is not in shard %s",
                                    (int)uid.len, (const char *)uid.data, key)
                        : st;
}
