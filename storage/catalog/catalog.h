/* The catalog: the only truth about jobs, shards, leases, parts, samples, captions, scores and
 * outputs. */
#ifndef REINFORCE_STORAGE_CATALOG_H
#define REINFORCE_STORAGE_CATALOG_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "storage/catalog/catalog_ingest.h"
#include "storage/object/object_store.h"

struct catalog;
struct catalog_outbox;
struct catalog_outbox_row;

/** What a job tells of its results (catalog_outbox.h). Stored values; never reused or renumbered.
 */
enum catalog_events {
    CATALOG_EVENTS_NONE = 0,
    CATALOG_EVENTS_SHARDS = 1,  /* shards that are done */
    CATALOG_EVENTS_SAMPLES = 2, /* and their samples, done, quarantined or filtered */
};

/** Stored values; never reused or renumbered. */
enum catalog_job_state {
    CATALOG_JOB_PLANNING = 1,
    CATALOG_JOB_RUNNING = 2,
    CATALOG_JOB_PAUSED = 3, /* by a user or a coordinator; catalog_job_row.note says why */
    CATALOG_JOB_DONE = 4,
    CATALOG_JOB_CANCELLED = 5,
};

enum catalog_shard_state {
    CATALOG_SHARD_READY = 1,
    CATALOG_SHARD_LEASED = 2,
    CATALOG_SHARD_DONE = 3,
    CATALOG_SHARD_FAILED = 4, /* tried max_attempts times */
    CATALOG_SHARD_WAITING =
        5, /* its own samples are done, others of a shard that was split are not */
};

/** Where a shard's input is. Stored values; never reused or renumbered. */
enum catalog_input {
    CATALOG_INPUT_JOB = 1,      /* an object of the job's input, or a slice of it */
    CATALOG_INPUT_PLAN = 2,     /* a list of records written for it, in the output */
    CATALOG_INPUT_PREVIOUS = 3, /* its own earlier output, being extended */
    CATALOG_INPUT_LIST = 4,     /* a list of samples of others (sample_list.h), in the output */
};

/** What became of a sample: done, quarantined or filtered, one of the three. Where it was tried
 * again, the row of the earlier try says so, and the state is that of the retry's row. */
enum catalog_sample_state {
    CATALOG_SAMPLE_DONE = 1,
    CATALOG_SAMPLE_QUARANTINED = 2,
    CATALOG_SAMPLE_RETRIED = 3,
    CATALOG_SAMPLE_FILTERED = 4, /* dropped by a rule of the job, which is its reason */
};

enum catalog_worker_state {
    CATALOG_WORKER_WORKING = 1,
    CATALOG_WORKER_DRAINING = 2,
    CATALOG_WORKER_GONE = 3,
};

struct catalog_job {
    int64_t job;
    enum catalog_job_state state;
    bool is_planned; /* all its shards are there; of a stream: more may come */
    char name[128];
    char config_digest[SHA256_HEX_LEN + 1];
    int64_t created_ms;
};

enum { CATALOG_READY_MAX = 1000, CATALOG_POISON_DEATHS = 2, CATALOG_BATCH_MAX = 128 };

/** A job as coordinators and their users see it. */
struct catalog_job_row {
    struct catalog_job job;
    int32_t priority;          /* the highest is worked on first, then the oldest */
    int64_t max_leases;        /* at once; 0: any number */
    char note[512];            /* why it is paused; else "" */
    double samples_per_second; /* as a coordinator has last measured it, */
    int64_t rated_ms;          /* and when (wall clock); 0: never */
    int64_t n_ready; /* shards that could be leased now; counted up to CATALOG_READY_MAX and what
                        max_leases leaves */
    bool is_over;    /* planned, and no shard is ready or leased: all are done or failed */
    bool has_waiting_events;
};

/** A shard's state. Strings live until the callback returns; NULL when there is none. */
struct catalog_shard_row {
    int64_t shard, epoch;
    int64_t home;        /* the shard it is a piece of; else `shard` */
    int64_t begin_index; /* its first sample: of a shard 0 */
    int attempts;
    const char *owner, *last_error;
    const char *rival;     /* the owner of its second lease */
    int64_t expires_in_ms; /* leased: < 0 when it has run out */
};

/** A worker as a coordinator has last seen it. Strings live until the callback returns. */
struct catalog_worker {
    const char *name;    /* host:process:number, as in a lease's owner */
    const char *host;    /* "" when it is not known */
    const char *address; /* where its messages come from; "" when it is not known */
    const char *version; /* of its program; "" when it is not known */
    enum catalog_worker_state state;
    double samples_per_second; /* lately */
    /* Not read by workers_seen: */
    int64_t n_leases;      /* it holds */
    int64_t first_seen_ms; /* wall clock of the catalog */
    int64_t seen_ago_ms;
};

/** One shard as planned. Strings are borrowed. */
struct catalog_shard_plan {
    int64_t shard; /* 0.. in planned order: names the output */
    enum catalog_input source;
    const char *input_key;    /* relative to the URL of the job's input, else of its output */
    const char *input_format; /* dataset_format name */
    int64_t input_samples;    /* of a previous output: how many it holds; else 0 */
    uint64_t input_begin, input_end; /* byte range of a splittable input; end 0: all */
    char input_etag[80];
};

/** How leases are given. */
struct catalog_terms {
    int64_t lease_ms;
    int max_attempts;
    int64_t part_samples;    /* what a part holds, and how many more */
    int64_t samples_at_work; /* a worker may have begun: what its death puts in doubt */
};

/** A taken lease: all a worker needs to begin or go on. Strings are in the arena given. */
struct catalog_lease {
    int64_t job, shard, epoch;
    int64_t expires_ms; /* wall clock */
    int attempts;
    bool is_poison; /* sample next_index kills: it is quarantined without being worked on */
    struct catalog_shard_plan plan;
    uint64_t next_offset, next_index; /* where the first part not yet committed begins */
    int64_t n_parts;                  /* committed so far */
    uint64_t suspect_end;  /* a sample before this index may have killed its worker: up to there */
    int64_t probe_samples; /* so many are worked on at a time, and committed before the next */
    uint64_t end_index;    /* the samples from there on are somebody else's; 0: all are ours */
};

/** One of several leases that are asked for at once. */
struct catalog_take {
    const char *owner;
    enum status status;         /* out: ST_OK, or ST_NOT_FOUND: none now */
    struct catalog_lease lease; /* out, when there is one */
    int64_t wait_ms;            /* out, when there is none: when to ask again; < 0: never */
};

/** One scored text or view. `kind` "image_text": teacher's cosine of view 0 with the caption. */
struct catalog_caption {
    const char *column; /* "syn_text"; "text" for the real caption */
    int32_t index;
    struct bytes_view text;
    double score; /* mean log-probability; NaN (stored NULL) for real captions */
};

struct catalog_score {
    const char *teacher;
    const char *column;
    int32_t index;
    double value;
};

/** One sample's terminal state and what is known of it. */
struct catalog_sample {
    struct bytes_view uid;
    int64_t index; /* within the shard's input */
    enum catalog_sample_state state;
    const char *reason; /* NULL when done; filtered: the rule; else snake_case: "decode_failed" */
    const char *detail; /* filtered: score and threshold */
    const char *stage;  /* where it ended: "read", "decode", ... */
    int32_t width, height; /* 0 when never decoded */
    size_t n_captions;
    const struct catalog_caption *captions;
    size_t n_scores;
    const struct catalog_score *scores;
};

/** What a model has done for a part's samples. */
struct catalog_cost {
    const char *role; /* "captioner", "teacher" */
    const char *model;
    double seconds; /* of threads */
    int64_t images, texts, tokens;
};

/** A finished piece of a shard: its object and its rows become visible in one transaction. */
struct catalog_part {
    const char *object_key; /* carries shard, part and epoch */
    struct object_written written;
    uint64_t next_offset, next_index; /* where the next part begins */
    size_t n_samples;
    const struct catalog_sample *samples;
    size_t n_costs;
    const struct catalog_cost *costs;
};

/** A sample by its row, and by the planned shard that read it first and its place in there. */
struct catalog_source {
    int64_t shard, index;
    int64_t source_shard, source_index;
    struct catalog_shard_plan source; /* of source_shard; strings until the callback returns */
};

/** Which of them: of all shards that are done, or of one. */
struct catalog_source_query {
    enum catalog_sample_state state; /* quarantined ones that a retry waits for are left out */
    const char *reason;              /* NULL: any */
    int64_t shard;                   /* < 0: all */
};

/** A sample to be tried again: sample `index` of shard `shard` takes the place of another row. */
struct catalog_retry {
    int64_t shard, index;
    int64_t old_shard, old_index;
    int64_t source_shard, source_index; /* as in catalog_source */
};

/** A shard's books. */
struct catalog_account {
    int64_t shard;
    enum catalog_shard_state state;
    bool is_retry;   /* its samples were read first by other shards */
    int64_t read;    /* samples of its input; < 0: not read to its end yet */
    int64_t samples; /* rows, of which are */
    int64_t done, quarantined, retried, filtered;
    int64_t last_index; /* the highest of the rows; < 0: none */
    /* as the output's row says; < 0: there is none */
    int64_t output_done, output_quarantined, output_filtered;
};

struct catalog_part_row {
    int64_t part, epoch;
    const char *object_key;
    uint64_t bytes;
    char sha256[SHA256_HEX_LEN + 1];
    int64_t n_done, n_quarantined, n_filtered;
};

struct catalog_output {
    int64_t shard;
    const char *object_key;
    uint64_t bytes;
    char sha256[SHA256_HEX_LEN + 1];
    int64_t n_done, n_quarantined, n_filtered;
};

struct catalog_progress {
    int64_t shards_total, shards_done, shards_failed;
    int64_t shards_leased; /* leases of shards and of pieces */
    int64_t pieces;        /* of shards whose rest was split off for other workers */
    int64_t rivals;        /* shards and pieces that have two leases */
    int64_t samples_done, samples_quarantined, samples_filtered;
    int64_t samples_in_done_shards; /* of all three states */
    uint64_t bytes_written;         /* of finished outputs */
};

/** Versions of the tables: what is stored (0: none) and what this program was built for. */
struct catalog_schema {
    int stored, newest;
};

/** Rows go to callbacks; anything but ST_OK ends the walk with that status. Strings live until it
 * returns. */
typedef enum status catalog_output_fn(void *ctx, const struct catalog_output *output,
                                      struct error *err);
typedef enum status catalog_reason_fn(void *ctx, const char *reason, const char *stage, int64_t n,
                                      struct error *err);
typedef enum status catalog_job_fn(void *ctx, const struct catalog_job_row *row, struct error *err);
typedef enum status catalog_shard_fn(void *ctx, const struct catalog_shard_row *row,
                                     struct error *err);
typedef enum status catalog_worker_fn(void *ctx, const struct catalog_worker *worker,
                                      struct error *err);
typedef enum status catalog_source_fn(void *ctx, const struct catalog_source *source,
                                      struct error *err);
typedef enum status catalog_account_fn(void *ctx, const struct catalog_account *account,
                                       struct error *err);
typedef enum status catalog_sample_fn(void *ctx, int64_t shard, const struct catalog_sample *sample,
                                      struct error *err);

/** One kind of catalog. A handle belongs to one thread at a time; open one per thread. All slots
 * are required. */
struct catalog_ops {
    const char *scheme; /* "sqlite" */

    /* `url` without the scheme. SQLite creates the database if there is none, and migrates it; a
     * shared one is migrated by command: ST_INVALID until it has been. */
    enum status (*open)(const char *url, struct catalog **out, struct error *err);
    /* Brings the tables to the newest version; *before is what was there. Safe at any time and by
     * several at once. ST_INVALID: they are newer than this program. */
    enum status (*migrate)(const char *url, struct catalog_schema *before, struct error *err);
    enum status (*schema)(const char *url, struct catalog_schema *schema, struct error *err);

    /*
     * The job of that name: created (state planning), or found. One with another digest that has no
     * shard yet, and is planning or paused, takes this configuration and is planning: what could
     * not be planned was mended. ST_CONFLICT when it exists with another digest otherwise; then
     * *job holds what is stored and *stored_config (in arena) its effective configuration.
     */
    enum status (*job_begin)(struct catalog *c, const char *name, const char *config_digest,
                             const char *config_json, int64_t now_ms, struct arena *arena,
                             struct catalog_job *job, const char **stored_config,
                             struct error *err);
    enum status (*job_set_state)(struct catalog *c, int64_t job, enum catalog_job_state state,
                                 struct error *err);

    /*
     * More shards of a job in state planning, numbered behind those that are there, which may be
     * leased at once; with `is_all` the job runs then, in the same transaction. Shards that are
     * there already, by a planner that died, are compared. ST_CONFLICT: they are others, or the job
     * is not planning any more, or has another digest.
     */
    enum status (*plan_commit)(struct catalog *c, const struct catalog_job *job,
                               const struct catalog_shard_plan *shards, size_t n_shards,
                               bool is_all, struct error *err);

    /*
     * Leases end by the clock of the database where it has one (Postgres), so that the clocks of
     * workers do not matter; else by `now_ms`. expires_ms is always on the caller's clock.
     *
     * Takes the lowest ready (or expired) shard for each of 1 to CATALOG_BATCH_MAX owners, raising
     * its epoch; what a call that fails has taken runs out. ST_NOT_FOUND in a take's status: none
     * now, or the job is paused, or has max_leases out; or, with a wait < 0, every shard is done or
     * failed, or the job is cancelled. A shard past max_attempts becomes failed.
     *
     * A lease that has run out is a worker that has died, perhaps of a sample. The first puts
     * part_samples + samples_at_work samples in doubt; each further one halves how many are worked
     * on at a time, and with them the doubtful ones, down to one; CATALOG_POISON_DEATHS while that
     * one was probed name it.
     */
    enum status (*leases_take)(struct catalog *c, int64_t job, struct catalog_take *takes, size_t n,
                               int64_t now_ms, const struct catalog_terms *terms,
                               struct arena *arena, struct error *err);
    /* Before the first uncommitted sample is worked on, with nothing else at work in the process:
     * should the lease run out now, that was it. ST_CONFLICT when the lease is no longer ours. */
    enum status (*lease_probe)(struct catalog *c, const struct catalog_lease *lease,
                               struct error *err);
    /* Of 1 to CATALOG_BATCH_MAX leases of a job. lost[i]: the i-th is no longer ours. */
    enum status (*leases_renew)(struct catalog *c, const struct catalog_lease *leases, size_t n,
                                int64_t now_ms, int64_t lease_ms, bool *lost, struct error *err);
    /* Hands the shard back, ready; committed parts stay. `failed`: counts as an attempt. So does a
     * part of nothing but poison; one with a sample that is done starts the count anew. */
    enum status (*lease_release)(struct catalog *c, const struct catalog_lease *lease, bool failed,
                                 const char *why, struct error *err);
    /*
     * A second lease of a shard that is leased at `epoch`, for a worker that may be faster: both
     * are renewed, and the first of the two that commits a part has the shard from then on, the
     * other is fenced off. ST_NOT_FOUND: it is not leased so any more, has two leases, or has
     * samples that may have killed a worker.
     */
    enum status (*lease_rival)(struct catalog *c, int64_t job, int64_t shard, int64_t epoch,
                               const char *owner, int64_t now_ms, const struct catalog_terms *terms,
                               struct arena *arena, struct catalog_lease *lease, struct error *err);

    /* Samples, captions, scores, costs and the part in one transaction under the lease's epoch; the
     * rows that a retry's samples take the place of become `retried` in it. ST_CONFLICT: fenced
     * off. May be said again like shard_commit. */
    enum status (*part_commit)(struct catalog *c, const struct catalog_lease *lease,
                               const struct catalog_part *part, struct error *err);
    /* The shard's parts in order, those of its pieces with them. */
    enum status (*parts)(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                         struct catalog_part_row **rows, size_t *n_rows, struct error *err);
    /* Output row and state done in one transaction under the epoch. ST_CONFLICT: fenced off. The
     * same lease with the same digest may say it again, for the answer may have been lost. */
    enum status (*shard_commit)(struct catalog *c, const struct catalog_lease *lease,
                                const char *object_key, const struct object_written *written,
                                struct error *err);

    /*
     * The samples of a lease from `at_index` on, which nobody has begun, become a piece: a row in
     * `shards` of its own, with a number below 0, that is leased like any other. Its parts are of
     * the same output. May be said again. ST_CONFLICT: fenced off, or that is not between what is
     * committed and the end, or the shard is made again, which is not split.
     */
    enum status (*lease_split)(struct catalog *c, const struct catalog_lease *lease,
                               uint64_t at_offset, uint64_t at_index, struct error *err);
    /*
     * All samples of a lease whose shard was split are committed. *shard is whose output they are
     * of. *is_last: so are those of all others; the lease is kept, to join the parts and commit the
     * shard. Else it has ended. ST_CONFLICT: fenced off.
     */
    enum status (*piece_commit)(struct catalog *c, const struct catalog_lease *lease,
                                int64_t *shard, bool *is_last, struct error *err);

    /*
     * A done job goes on with another configuration: every shard is ready again and has its own
     * output as input. Rows of quarantined samples stay. ST_CONFLICT: the job is not done.
     */
    enum status (*job_extend)(struct catalog *c, int64_t job, const char *config_digest,
                              const char *config_json, const char *output_format,
                              struct error *err);
    /* For whoever knows that no worker is alive: leases have run out, failed shards are ready
     * again, attempts start anew. */
    enum status (*leases_reset)(struct catalog *c, int64_t job, struct error *err);

    /*
     * For coordinators. `coordinate` makes this handle the only coordinator of the catalog, or sees
     * whether it still is; call it every few seconds, on a handle that does nothing else.
     * ST_CONFLICT: another one is, or ours was lost. Until the handle is closed or the process
     * dies.
     */
    enum status (*coordinate)(struct catalog *c, struct error *err);
    /* From one state to another. ST_CONFLICT: it is in a third, or to be done and a shard is ready
     * or leased. */
    enum status (*job_move)(struct catalog *c, int64_t job, enum catalog_job_state from,
                            enum catalog_job_state to, const char *note, struct error *err);
    enum status (*job_set_priority)(struct catalog *c, int64_t job, int32_t priority,
                                    struct error *err);
    enum status (*job_set_quota)(struct catalog *c, int64_t job, int64_t max_leases,
                                 struct error *err);
    enum status (*job_set_rate)(struct catalog *c, int64_t job, double samples_per_second,
                                int64_t now_ms, struct error *err);
    /* Leases end no sooner than now + lease_ms: while no coordinator was there, nobody could renew
     * them. */
    enum status (*leases_extend)(struct catalog *c, int64_t job, int64_t now_ms, int64_t lease_ms,
                                 struct error *err);
    /* Failed shards are ready again, attempts start anew. */
    enum status (*shards_retry)(struct catalog *c, int64_t job, int64_t *n, struct error *err);

    /* Rows of 1 to CATALOG_BATCH_MAX workers as they are now, made when they are new; one that is
     * gone was seen when it was seen last. One that was not seen for a day is forgotten. */
    enum status (*workers_seen)(struct catalog *c, const struct catalog_worker *workers, size_t n,
                                int64_t now_ms, struct error *err);

    /*
     * Shards behind the planned ones, with which samples they try again, in one transaction; a done
     * job runs again. ST_CONFLICT: the job has other shards by now than up to shards[0], or is not
     * planned, or cancelled.
     */
    enum status (*retry_commit)(struct catalog *c, int64_t job,
                                const struct catalog_shard_plan *shards, size_t n_shards,
                                const struct catalog_retry *retries, size_t n_retries,
                                struct error *err);
    /* A done shard is made again from a list of samples: its rows stay, those of the samples on the
     * list are compared and kept. A done job runs again. ST_CONFLICT: the shard is not done, or the
     * job cancelled. */
    enum status (*shard_redo)(struct catalog *c, int64_t job, int64_t shard, const char *list_key,
                              int64_t n_samples, struct error *err);

    /* Streams: catalog_ingest.h. */
    enum status (*ingest_commit)(struct catalog *c, int64_t job,
                                 const struct catalog_ingest *ingest, int64_t now_ms,
                                 int64_t *shard, struct error *err);
    enum status (*ingest_read)(struct catalog *c, int64_t job, const char *topic, int32_t partition,
                               int64_t window, struct arena *arena,
                               struct catalog_ingest_position *position, struct error *err);
    enum status (*ingest_list)(struct catalog *c, int64_t job, catalog_ingest_fn *each, void *ctx,
                               struct error *err);
    enum status (*ingest_pace)(struct catalog *c, int64_t job, struct catalog_ingest_pace *pace,
                               struct error *err);

    /* Events: catalog_outbox.h. */
    enum status (*job_set_events)(struct catalog *c, int64_t job, enum catalog_events events,
                                  struct error *err);
    enum status (*outbox_claim)(struct catalog *c, int64_t job, struct error *err);
    enum status (*outbox_read)(struct catalog *c, int64_t job, int64_t max_rows,
                               struct arena *arena, struct catalog_outbox_row **rows,
                               size_t *n_rows, struct error *err);
    enum status (*outbox_remove)(struct catalog *c, int64_t job,
                                 const struct catalog_outbox_row *rows, size_t n_rows,
                                 struct error *err);
    enum status (*outbox_count)(struct catalog *c, int64_t job, struct catalog_outbox *outbox,
                                struct error *err);

    /* Reading; a walk sees one snapshot. Jobs come by priority, then age; shards in order; workers
     * by name; sources by source_shard and source_index. */
    enum status (*jobs)(struct catalog *c, int64_t now_ms, catalog_job_fn *each, void *ctx,
                        struct error *err);
    enum status (*shards)(struct catalog *c, int64_t job, enum catalog_shard_state state,
                          int64_t now_ms, catalog_shard_fn *each, void *ctx, struct error *err);
    enum status (*workers)(struct catalog *c, int64_t now_ms, catalog_worker_fn *each, void *ctx,
                           struct error *err);
    enum status (*sources)(struct catalog *c, int64_t job, const struct catalog_source_query *query,
                           catalog_source_fn *each, void *ctx, struct error *err);
    enum status (*accounts)(struct catalog *c, int64_t job, catalog_account_fn *each, void *ctx,
                            struct error *err);
    enum status (*job_find)(struct catalog *c, const char *name, struct arena *arena,
                            struct catalog_job *job, const char **config_json, struct error *err);
    /* What a shard reads, as a lease of it would say. ST_NOT_FOUND: there is none of that number,
     * or none yet. */
    enum status (*shard_input)(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                               struct catalog_shard_plan *plan, struct error *err);
    enum status (*progress)(struct catalog *c, int64_t job, struct catalog_progress *progress,
                            struct error *err);
    enum status (*outputs)(struct catalog *c, int64_t job, catalog_output_fn *each, void *ctx,
                           struct error *err);
    /* Of the samples that are quarantined, or filtered: the most frequent first. */
    enum status (*reasons)(struct catalog *c, int64_t job, enum catalog_sample_state state,
                           catalog_reason_fn *each, void *ctx, struct error *err);
    /* One sample by uid (all shards that hold it), captions and scores filled. ST_NOT_FOUND. */
    enum status (*sample_find)(struct catalog *c, int64_t job, struct bytes_view uid,
                               catalog_sample_fn *each, void *ctx, struct error *err);
    /* All samples in (shard, index) order, without captions and scores. */
    enum status (*samples)(struct catalog *c, int64_t job, catalog_sample_fn *each, void *ctx,
                           struct error *err);
    /* The done samples of one shard in order of index, captions and scores filled. */
    enum status (*shard_samples)(struct catalog *c, int64_t job, int64_t shard,
                                 catalog_sample_fn *each, void *ctx, struct error *err);

    /* Optional; NULL: there is no server that could be away. How long a call tries again when the
     * catalog cannot be reached; a minute unless it is said. */
    void (*set_patience)(struct catalog *c, int64_t ms);

    void (*close)(struct catalog *c);
};

struct catalog { /* first member of each kind's own struct */
    const struct catalog_ops *ops;
};

/** "planning", "running", "paused", "done", "cancelled". */
const char *catalog_job_state_name(enum catalog_job_state state);

/** "done", "quarantined", "retried", "filtered". */
const char *catalog_sample_state_name(enum catalog_sample_state state);

/** How many of a part's samples are in a state. */
int64_t catalog_part_count(const struct catalog_part *part, enum catalog_sample_state state);

/** "working", "draining", "gone". */
const char *catalog_worker_state_name(enum catalog_worker_state state);

/** "sqlite:path", "postgres://user@host:port/database". ST_INVALID: an unknown scheme. Callers use
 * the functions of catalog.c, never a slot. */
NODISCARD enum status catalog_open(const char *url, struct catalog **out, struct error *err);
void catalog_close(struct catalog **c);
void catalog_set_patience(struct catalog *c, int64_t ms);
NODISCARD enum status catalog_migrate(const char *url, struct catalog_schema *before,
                                      struct error *err);
NODISCARD enum status catalog_read_schema(const char *url, struct catalog_schema *schema,
                                          struct error *err);

NODISCARD enum status catalog_job_begin(struct catalog *c, const char *name,
                                        const char *config_digest, const char *config_json,
                                        int64_t now_ms, struct arena *arena,
                                        struct catalog_job *job, const char **stored_config,
                                        struct error *err);
NODISCARD enum status catalog_job_set_state(struct catalog *c, int64_t job,
                                            enum catalog_job_state state, struct error *err);
NODISCARD enum status catalog_plan_commit(struct catalog *c, const struct catalog_job *job,
                                          const struct catalog_shard_plan *shards, size_t n_shards,
                                          bool is_all, struct error *err);
NODISCARD enum status catalog_leases_take(struct catalog *c, int64_t job,
                                          struct catalog_take *takes, size_t n, int64_t now_ms,
                                          const struct catalog_terms *terms, struct arena *arena,
                                          struct error *err);
/** One. ST_NOT_FOUND: none now, see *wait_ms. */
NODISCARD enum status catalog_lease_take(struct catalog *c, int64_t job, const char *owner,
                                         int64_t now_ms, const struct catalog_terms *terms,
                                         struct arena *arena, struct catalog_lease *lease,
                                         int64_t *wait_ms, struct error *err);
NODISCARD enum status catalog_lease_probe(struct catalog *c, const struct catalog_lease *lease,
                                          struct error *err);
NODISCARD enum status catalog_leases_renew(struct catalog *c, const struct catalog_lease *leases,
                                           size_t n, int64_t now_ms, int64_t lease_ms, bool *lost,
                                           struct error *err);
/** One. ST_CONFLICT when the lease is no longer ours. */
NODISCARD enum status catalog_lease_renew(struct catalog *c, const struct catalog_lease *lease,
                                          int64_t now_ms, int64_t lease_ms, struct error *err);
NODISCARD enum status catalog_lease_release(struct catalog *c, const struct catalog_lease *lease,
                                            bool failed, const char *why, struct error *err);
NODISCARD enum status catalog_lease_rival(struct catalog *c, int64_t job, int64_t shard,
                                          int64_t epoch, const char *owner, int64_t now_ms,
                                          const struct catalog_terms *terms, struct arena *arena,
                                          struct catalog_lease *lease, struct error *err);
NODISCARD enum status catalog_part_commit(struct catalog *c, const struct catalog_lease *lease,
                                          const struct catalog_part *part, struct error *err);
NODISCARD enum status catalog_parts(struct catalog *c, int64_t job, int64_t shard,
                                    struct arena *arena, struct catalog_part_row **rows,
                                    size_t *n_rows, struct error *err);
NODISCARD enum status catalog_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                           const char *object_key,
                                           const struct object_written *written, struct error *err);
NODISCARD enum status catalog_lease_split(struct catalog *c, const struct catalog_lease *lease,
                                          uint64_t at_offset, uint64_t at_index, struct error *err);
NODISCARD enum status catalog_piece_commit(struct catalog *c, const struct catalog_lease *lease,
                                           int64_t *shard, bool *is_last, struct error *err);
NODISCARD enum status catalog_job_extend(struct catalog *c, int64_t job, const char *config_digest,
                                         const char *config_json, const char *output_format,
                                         struct error *err);
NODISCARD enum status catalog_leases_reset(struct catalog *c, int64_t job, struct error *err);
NODISCARD enum status catalog_coordinate(struct catalog *c, struct error *err);
NODISCARD enum status catalog_job_move(struct catalog *c, int64_t job, enum catalog_job_state from,
                                       enum catalog_job_state to, const char *note,
                                       struct error *err);
NODISCARD enum status catalog_job_set_priority(struct catalog *c, int64_t job, int32_t priority,
                                               struct error *err);
NODISCARD enum status catalog_job_set_quota(struct catalog *c, int64_t job, int64_t max_leases,
                                            struct error *err);
NODISCARD enum status catalog_job_set_rate(struct catalog *c, int64_t job,
                                           double samples_per_second, int64_t now_ms,
                                           struct error *err);
NODISCARD enum status catalog_leases_extend(struct catalog *c, int64_t job, int64_t now_ms,
                                            int64_t lease_ms, struct error *err);
NODISCARD enum status catalog_shards_retry(struct catalog *c, int64_t job, int64_t *n,
                                           struct error *err);
NODISCARD enum status catalog_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each,
                                   void *ctx, struct error *err);
/** All rows in `arena`, for those who ask the same handle about each: a walk must be over before.
 */
NODISCARD enum status catalog_read_jobs(struct catalog *c, int64_t now_ms, struct arena *arena,
                                        struct catalog_job_row **rows, size_t *n,
                                        struct error *err);
NODISCARD enum status catalog_shards(struct catalog *c, int64_t job, enum catalog_shard_state state,
                                     int64_t now_ms, catalog_shard_fn *each, void *ctx,
                                     struct error *err);
NODISCARD enum status catalog_workers_seen(struct catalog *c, const struct catalog_worker *workers,
                                           size_t n, int64_t now_ms, struct error *err);
NODISCARD enum status catalog_workers(struct catalog *c, int64_t now_ms, catalog_worker_fn *each,
                                      void *ctx, struct error *err);
NODISCARD enum status catalog_retry_commit(struct catalog *c, int64_t job,
                                           const struct catalog_shard_plan *shards, size_t n_shards,
                                           const struct catalog_retry *retries, size_t n_retries,
                                           struct error *err);
NODISCARD enum status catalog_shard_redo(struct catalog *c, int64_t job, int64_t shard,
                                         const char *list_key, int64_t n_samples,
                                         struct error *err);
NODISCARD enum status catalog_sources(struct catalog *c, int64_t job,
                                      const struct catalog_source_query *query,
                                      catalog_source_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_accounts(struct catalog *c, int64_t job, catalog_account_fn *each,
                                       void *ctx, struct error *err);
NODISCARD enum status catalog_job_find(struct catalog *c, const char *name, struct arena *arena,
                                       struct catalog_job *job, const char **config_json,
                                       struct error *err);
NODISCARD enum status catalog_shard_input(struct catalog *c, int64_t job, int64_t shard,
                                          struct arena *arena, struct catalog_shard_plan *plan,
                                          struct error *err);
NODISCARD enum status catalog_read_progress(struct catalog *c, int64_t job,
                                            struct catalog_progress *progress, struct error *err);
NODISCARD enum status catalog_outputs(struct catalog *c, int64_t job, catalog_output_fn *each,
                                      void *ctx, struct error *err);
NODISCARD enum status catalog_reasons(struct catalog *c, int64_t job,
                                      enum catalog_sample_state state, catalog_reason_fn *each,
                                      void *ctx, struct error *err);
NODISCARD enum status catalog_sample_find(struct catalog *c, int64_t job, struct bytes_view uid,
                                          catalog_sample_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_samples(struct catalog *c, int64_t job, catalog_sample_fn *each,
                                      void *ctx, struct error *err);
NODISCARD enum status catalog_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                            catalog_sample_fn *each, void *ctx, struct error *err);

#endif
