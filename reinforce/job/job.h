/* The job file: one YAML document says everything; checked against one table before anything
 * starts. */
#ifndef REINFORCE_JOB_JOB_H
#define REINFORCE_JOB_JOB_H

#include "reinforce/base/arena.h"
#include "reinforce/base/sha256.h"
#include "reinforce/curate/rules.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/decode.h"
#include "reinforce/record/record.h"
#include "reinforce/teach/captioner.h"
#include "reinforce/teach/teacher.h"

enum { JOB_MAX_CAPTIONERS = 16, JOB_MAX_TEACHERS = 16 };

enum job_caption_post {
    JOB_POST_NONE = 0,           /* the caption exactly as the model said it */
    JOB_POST_TRIM = 1,           /* white space at both ends */
    JOB_POST_FIRST_SENTENCE = 2, /* RayGen's cut, for sets that must match the published ones */
};

/** What a model's matrices are multiplied as: one of its forms, or what keeps `fidelity`. */
enum job_dtype {
    JOB_DTYPE_FLOAT32 = MATRIX_FLOAT32,
    JOB_DTYPE_INT8 = MATRIX_INT8,
    JOB_DTYPE_BF16 = MATRIX_BF16,
    JOB_DTYPE_AUTO = 3, /* int8 or float32 */
};

/** Where a model is served that does not run here. `server` NULL: it runs here, nothing else
 * counts.
 */
struct job_remote {
    const char *protocol;  /* "openai", "oip" */
    const char *server;    /* http(s)://HOST[:PORT][/PATH]: where, so no part of the digest */
    const char *token_env; /* environment variable that holds the token; NULL: none is sent */
    int concurrency;       /* requests at once */
    int64_t timeout_ms;    /* of each try */
    int max_tries;         /* of one request */
};

/** One captioner of a job. */
struct job_captioner {
    const char *name;
    const char *model; /* snapshot folder, hf://OWNER/NAME@REVISION, or a name on remote.server */
    const char *activation;
    const char *column; /* "syn_text" + suffix */
    enum job_caption_post post;
    bool attention_cap, final_cap, sliding_window; /* PaliGemma 2 */
    enum job_dtype dtype;
    double fidelity;       /* least share of equal captions; 0: nothing is compared */
    enum kv_type kv_cache; /* PaliGemma */
    struct caption_options how;
    struct job_remote remote;
    int image_side;           /* served: longest side that is sent, pixels; 0: as it is */
    const char *image_format; /* served: "jpeg", "png" */
    int image_quality;
};

/** One teacher; the order in the file is the order of the slices in a stored row. */
struct job_teacher {
    const char *name;
    const char *model;
    const char *activation;
    enum teacher_clean clean;
    bool special_tokens_in_text;
    enum job_dtype dtype;
    double fidelity; /* least mean cosine; 0: nothing is compared */
    struct job_remote remote;
    const char *text_model; /* served: the model that takes texts; NULL: `model` */
    int dim;                /* served: what the server must answer with; 0: whatever it does */
    int image_size;         /* served: side of the views, pixels; 0: as the server says */
    const char *mean, *std; /* served: three numbers, see job_parse_triple() */
    const char *image_form; /* openai: "data_url", "object", "messages" */
    const char *image_tensor, *text_tensor, *output_tensor; /* oip */
    int batch;                                              /* served: rows of a request */
};

/** Immutable after job_load(); strings live in `arena`. Defaults and meaning: docs/job-file.md,
 * made from the table. */
struct job {
    struct arena arena;
    const char *name;
    uint64_t seed;

    struct {
        const char *url;
        const char *format; /* "auto", "webdataset", "jsonl", "folder" */
        bool
            require_caption; /* quarantine samples without a real caption: the trainers skip them */
        int64_t shard_samples; /* for inputs that are cut into shards: folders, plain JSONL */
        const char *profile;   /* of ~/.aws; NULL: as the environment says */
        bool anonymous;        /* requests are not signed */
    } input;

    struct {
        const char *url;
        const char *format; /* "webdataset", "jsonl", "jsonl.gz", "jsonl.zst" */
        const char *layout; /* "current", "legacy" */
        enum record_dtype embedding_dtype;
        const char *profile; /* of ~/.aws; NULL: as the environment says */
    } output;

    struct {                 /* of inputs that begin with "kafka:" */
        const char *brokers; /* "HOST:PORT,HOST:PORT" */
        const char *group;
        const char *schema;  /* "auto", "json", "protobuf" */
        const char *start;   /* "earliest", "latest": where a partition begins that is new to us */
        bool follow;         /* false: the job is done when what was there has been read */
        const char *objects; /* store that image_key names objects in; NULL: none */
        const char *dead_letters; /* topic; NULL: none */
        const char *properties;   /* lines NAME=VALUE; NULL: none */
        int64_t max_record_bytes;
        int64_t shard_bytes, shard_age_ms; /* a shard is cut when one of them is reached */
        int64_t memory_bytes;              /* of records that wait */
        const char *duplicates;            /* "none", "uid", "content", "both" */
        int64_t window;                    /* records of a partition that are remembered */
        int64_t latency_ms;                /* what a record may wait to be leased; 0: any time */
    } kafka;

    struct {
        const char *topic;      /* where results are told; NULL: nowhere */
        const char *brokers;    /* NULL: those of kafka */
        const char *properties; /* lines NAME=VALUE; NULL: none */
        const char *format;     /* "json", "protobuf" */
        bool samples;           /* one event per sample, too */
        bool transactional;
    } events;

    struct {                           /* how stores behind a network are reached */
        const char *endpoint, *region; /* NULL: as the environment or a profile says */
        const char *addressing;        /* "auto", "path", "virtual" */
        bool allow_private;            /* http(s): from private addresses too */
        int64_t part_bytes;
        int connections; /* at once, per store */
        int max_tries;   /* of one request */
        int64_t stale_ms;
    } storage;

    struct {
        const char *url; /* default: sqlite: beside the output */
    } catalog;

    struct image_limits limits;
    bool apply_exif_orientation; /* false: as the trainers do */
    bool fast_decode;            /* JPEG at a half or quarter of its sides, where enough is left */

    struct {
        int count;
        struct augment_config augment; /* .size 0: the largest teacher input */
    } views;

    size_t n_captioners;
    struct job_captioner *captioners;
    size_t n_teachers;
    struct job_teacher *teachers;

    struct {              /* what is dropped before captioners run */
        struct rule keep; /* RULE_ALL; without children nothing is dropped */
        size_t n_scores;
        struct score_spec *scores; /* [n_scores], each once: what rule.score counts in */
    } curate;

    struct {
        int count;            /* workers in this process */
        int threads;          /* compute threads per worker; 0: processors / count */
        int64_t part_samples; /* a part is committed after so many samples */
        int64_t lease_ms;
        int64_t max_attempts; /* per shard */
        int64_t queue_items;  /* per queue */
        int64_t memory_bytes; /* cap for samples in flight, per worker */
        int64_t max_sample_bytes;
    } workers;

    struct {
        double failure_fraction; /* pause when more than this share of a window is quarantined */
        int64_t failure_window;  /* samples */
    } budget;

    char digest[SHA256_HEX_LEN + 1]; /* of what changes results: not catalog, workers, budget */
    const char *effective_json;      /* every value, defaults included; what `run` stores */
};

/** One `--set path=value`. */
struct job_override {
    const char *text; /* "workers.count=4", "teachers[0].model=/m" */
};

/**
 * Reads, overrides, validates. ST_INVALID: "file:line:column: key" as context and the reason as
 * message, with the nearest key for an unknown one; ST_NOT_FOUND. Overrides apply in order, after
 * the file. *out is the caller's; relative paths stay as written (relative to the current folder).
 */
NODISCARD enum status job_load(const char *path, const struct job_override *overrides,
                               size_t n_overrides, struct job **out, struct error *err);
/** The same for text at hand; `path` is what errors call it. `effective_json` is such a text. */
NODISCARD enum status job_load_text(struct bytes_view text, const char *path,
                                    const struct job_override *overrides, size_t n_overrides,
                                    struct job **out, struct error *err);
void job_destroy(struct job **job);

/** "0.5, 0.5, 0.5": three numbers with commas or spaces between them. ST_INVALID. */
NODISCARD enum status job_parse_triple(const char *text, float out[3], struct error *err);

/** Appends docs/job-file.md, made from the table. */
NODISCARD enum status job_write_reference(struct byte_buf *out, struct error *err);

/**
 * Names each difference that changes results between two effective configurations, joined by "; ":
 * "seed: 1 -> 2; views.count: 2 -> 5". *text is in `arena`; empty when there is none.
 */
NODISCARD enum status job_diff(const char *stored_json, const char *current_json,
                               struct arena *arena, const char **text, struct error *err);

#endif
