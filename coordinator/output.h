/* A written dataset seen from outside: its objects, its catalog rows, and whether they agree. */
#ifndef REINFORCE_COORDINATOR_OUTPUT_H
#define REINFORCE_COORDINATOR_OUTPUT_H

#include "reinforce/base/json.h"
#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "storage/format/dataset.h"

struct output {
    struct object_store *store;
    struct catalog *catalog;
    struct catalog_job row;
    json_t *config;                      /* the job's effective configuration */
    const struct dataset_format *format; /* of its shards */
    struct arena arena;
};

/**
 * Opens the dataset at `url` through the job it carries in _reinforce/job.json. A catalog that was
 * not configured is looked for beside the dataset, so that a folder may be moved. ST_NOT_FOUND: no
 * dataset of ours there. `options` of the store may be NULL.
 */
NODISCARD enum status output_open(const char *url, const struct object_store_options *options,
                                  struct output *out, struct error *err);

/** The same for the output of a job in a catalog, as its job file says where it is. */
NODISCARD enum status output_open_job(const struct job *job, const char *catalog_url,
                                      struct output *out, struct error *err);
void output_close(struct output *out);

/** Text value of the configuration by section and key, or `otherwise`. */
const char *output_config_text(const struct output *out, const char *section, const char *key,
                               const char *otherwise);

/** Whether an object of an output can be a shard of the format with this extension. */
bool output_is_shard(const char *key, const char *extension);

/** One disagreement, told as it is found. `shard`: it is the shard's object that is bad; < 0: it is
 * something else. */
typedef void output_problem_fn(void *ctx, int64_t shard, const char *object, const char *problem);

struct output_verdict {
    int64_t objects, samples, problems;
    uint64_t bytes;
};

/**
 * Hashes every shard again and compares with catalog and manifest; looks for shards that nobody
 * knows, adds up the accounts (accounts.h), and counts the records in each shard. ST_OK also
 * when there are problems.
 */
NODISCARD enum status output_verify(struct output *out, output_problem_fn *problem, void *ctx,
                                    struct output_verdict *verdict, struct error *err);

/**
 * The record of sample `uid` from shard `shard`, in out->arena; record_release() it. ST_NOT_FOUND:
 * it is not there (a quarantined sample is in no shard).
 */
NODISCARD enum status output_read_record(struct output *out, int64_t shard, struct bytes_view uid,
                                         struct record *record, struct error *err);

#endif
