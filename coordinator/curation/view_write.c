/* Writing a view; part of view.h. */
#include "coordinator/curation/view.h"
#include "reinforce/base/parse.h"
#include "reinforce/curate/subset.h"
#include "storage/format/base64.h"

#include <inttypes.h>
#include <math.h>

/* Of one object of a view, in memory before it is put. */
#define MAX_OBJECT_BYTES ((size_t)1 << 40)

enum { MAX_REASONS = 64 };

/* The shortest decimal that is this float32: 0.2, not 0.200000003. */
static json_t *number(float value)
{
    char text[32];
    double decimal = (double)value;

    if (!isfinite(value))
        return json_null();
    for (int digits = 6; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (parse_f64(text, -HUGE_VAL, HUGE_VAL, &decimal, &(struct error){0}) == ST_OK &&
            (float)decimal == value)
            break;
    }
    return json_real(decimal);
}

static json_t *text_of(const struct curation_run *run, size_t row)
{
    struct bytes_view uid = dataset_pool_uid(&run->pool, row);

    return json_stringn((const char *)uid.data, uid.len);
}

static json_t *score_name(const struct curation_run *run, size_t score)
{
    char text[192];

    score_spec_describe(&run->curation->refs.scores[score], text);
    return json_string(text);
}

/* "rule", "verdict", and of scores "of", "score", "threshold". */
static json_t *reason_json(const struct curation_run *run, const struct rule_reason *reason,
                           const char *rule)
{
    json_t *object =
        json_pack("{s:s, s:s}", "rule", rule, "verdict", rule_verdict_name(reason->verdict));

    if (reason->rule->kind != RULE_SCORE)
        return object;
    (void)json_object_set_new(object, "of", score_name(run, reason->rule->score));
    (void)json_object_set_new(object, "score", number(reason->score));
    (void)json_object_set_new(object, "threshold", number(reason->threshold));
    return object;
}

static json_t *drop_by_rule(const struct curation_run *run, size_t row)
{
    const struct rule *rule = curation_run_rule(run, row);
    struct rule_reason reasons[MAX_REASONS];
    size_t n = rule_explain(rule, &run->pool.pool, row, reasons, MAX_REASONS);
    json_t *object = reason_json(run, &reasons[0], rule->name), *because;

    if (rule->kind == RULE_SCORE || rule->kind == RULE_IDS)
        return object;
    because = json_array();
    for (size_t i = 0; i < MIN(n, (size_t)MAX_REASONS); i++)
        (void)json_array_append_new(because, reason_json(run, &reasons[i], reasons[i].rule->name));
    (void)json_object_set_new(object, "because", because);
    return object;
}

static json_t *drop_by_step(const struct curation_run *run, size_t row)
{
    static const char *const distances[] = {
        [CURATION_ALIKE_CONTENT] = "content",
        [CURATION_ALIKE_PERCEPTUAL] = "bits between perceptual hashes",
        [CURATION_ALIKE_EMBEDDING] = "cosine distance of embeddings",
    };
    const struct curation *curation = run->curation;
    size_t decision = run->decisions[row], k;
    const char *name = curation_step_name(curation, decision);
    const struct curation_duplicates *duplicates;
    json_t *object = json_pack("{s:s}", "rule", name);

    switch (curation_step(curation, decision, &k)) {
    case CURATION_STEP_DUPLICATES:
        duplicates = &curation->duplicates[k];
        (void)json_object_update_new(
            object,
            json_pack("{s:s, s:s, s:o, s:f, s:o}", "verdict", "duplicate", "of",
                      distances[duplicates->alike], "score", number(run->values[row]), "threshold",
                      duplicates->alike == CURATION_ALIKE_EMBEDDING ? duplicates->radius
                                                                    : duplicates->bits,
                      "kept", text_of(run, run->twins[row])));
        break;
    case CURATION_STEP_SELECT:
        (void)json_object_update_new(object, json_pack("{s:s, s:s, s:o}", "verdict", "not_selected",
                                                       "of", "score by itself", "score",
                                                       number(run->values[row])));
        break;
    case CURATION_STEP_BALANCE:
        (void)json_object_update_new(object, json_pack("{s:s, s:s, s:o}", "verdict", "balance",
                                                       "of", "probability to be kept", "score",
                                                       number(run->values[row])));
        break;
    case CURATION_STEP_MIX:
        (void)json_object_set_new(object, "verdict", json_string("surplus"));
        if (curation->mixes[k].best == CURATION_NO_SCORE)
            break;
        (void)json_object_set_new(object, "of", score_name(run, curation->mixes[k].best));
        (void)json_object_set_new(object, "score", number(run->values[row]));
        break;
    }
    return object;
}

static enum status append_line(json_t *object, struct byte_buf *out, struct error *err)
{
    enum status st = object != NULL ? json_write(object, out, err)
                                    : error_set(err, ST_NO_MEMORY, "could not allocate a line");

    json_decref(object);
    return st == ST_OK ? byte_buf_append(out, "\n", 1, err) : st;
}

static enum status append_drops(const struct curation_run *run, struct byte_buf *out,
                                struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < run->pool.n_shards; i++) {
        const struct dataset_shard *shard = &run->pool.shards[i];

        for (size_t row = shard->begin; row < shard->end && st == ST_OK; row++) {
            json_t *object, *why;

            if (run->decisions[row] == CURATION_KEPT)
                continue;
            why = run->decisions[row] == CURATION_DROPPED_BY_RULE ? drop_by_rule(run, row)
                                                                  : drop_by_step(run, row);
            object =
                json_pack("{s:o, s:I, s:I}", "uid", text_of(run, row), "shard",
                          (json_int_t)shard->shard, "index", (json_int_t)run->pool.indices[row]);
            (void)json_object_update(object, why);
            json_decref(why);
            st = append_line(object, out, err);
        }
    }
    return st;
}

static enum status append_ids(const struct curation_run *run, struct byte_buf *out,
                              struct error *err)
{
    struct example_id *ids;
    struct arena arena;
    size_t n = 0;
    enum status st;

    arena_init(&arena, MAX_OBJECT_BYTES);
    st = arena_alloc(&arena, run->counts[CURATION_KEPT] * sizeof *ids, &ids, err);
    for (size_t row = 0; row < run->pool.pool.n && st == ST_OK; row++)
        if (run->decisions[row] == CURATION_KEPT)
            ids[n++] = run->pool.pool.ids[row];
    if (st == ST_OK)
        st = subset_encode(ids, &n, out, err);
    arena_release(&arena);
    return st;
}

/* The bits of a shard's records, and how many are set. */
static enum status append_bits(const struct curation_run *run, const struct dataset_shard *shard,
                               struct byte_buf *out, size_t *n_kept, struct error *err)
{
    size_t n_bytes = (shard->end - shard->begin + 7) / 8;
    struct byte_buf bits;
    uint8_t *at;
    enum status st;

    byte_buf_init(&bits, n_bytes);
    st = byte_buf_extend(&bits, n_bytes, &at, err);
    *n_kept = 0;
    if (st == ST_OK) {
        memset(at, 0, n_bytes);
        for (size_t row = shard->begin; row < shard->end; row++) {
            size_t i = row - shard->begin;

            if (run->decisions[row] != CURATION_KEPT)
                continue;
            at[i / 8] = (uint8_t)(at[i / 8] | 1 << i % 8);
            ++*n_kept;
        }
        st = base64_encode(byte_buf_view(&bits), out, err);
    }
    byte_buf_release(&bits);
    return st;
}

/* Both have a line or member per shard. */
static enum status append_shards(const struct curation_run *run, struct byte_buf *manifest,
                                 json_t *sizes, struct error *err)
{
    size_t ext = strlen(run->out->format->extension);
    struct byte_buf bits;
    enum status st = ST_OK;

    byte_buf_init(&bits, MAX_OBJECT_BYTES);
    for (size_t i = 0; i < run->pool.n_shards && st == ST_OK; i++) {
        const struct dataset_shard *shard = &run->pool.shards[i];
        size_t len = strlen(shard->object_key), n_kept;
        const char *encoded;

        byte_buf_reset(&bits);
        st = append_bits(run, shard, &bits, &n_kept, err);
        if (st == ST_OK)
            st = byte_buf_c_str(&bits, &encoded, err);
        if (st != ST_OK)
            break;
        st = append_line(json_pack("{s:s%, s:I, s:s, s:I, s:s, s:I, s:s}", "shard",
                                   shard->object_key, len > ext ? len - ext : len, "num_uids",
                                   (json_int_t)n_kept, "object", shard->object_key, "bytes",
                                   (json_int_t)shard->bytes, "sha256", shard->sha256, "n_records",
                                   (json_int_t)(shard->end - shard->begin), "kept", encoded),
                         manifest, err);
        if (st == ST_OK &&
            json_object_set_new(sizes, shard->object_key, json_integer((json_int_t)n_kept)) != 0)
            st = error_set(err, ST_NO_MEMORY, "could not keep the sizes");
    }
    byte_buf_release(&bits);
    return st;
}

/* A rule with how many samples it does not hold for, and for how many of them nothing else does
 * so: what it alone costs. */
static json_t *rule_json(const struct curation_run *run, const struct rule *rule)
{
    const struct rule *keep = &run->curation->keep;
    size_t n_fail = 0, n_alone = 0;
    json_t *object;

    for (size_t row = 0; row < run->pool.pool.n; row++) {
        size_t others = 0;

        if (rule_holds(rule, &run->pool.pool, row))
            continue;
        for (size_t k = 0; k < keep->n_children; k++)
            others +=
                &keep->children[k] != rule && !rule_holds(&keep->children[k], &run->pool.pool, row);
        n_fail++;
        n_alone += others == 0;
    }
    object = json_pack("{s:s, s:I, s:I}", "name", rule->name, "fails", (json_int_t)n_fail, "alone",
                       (json_int_t)n_alone);
    if (rule->kind == RULE_SCORE) {
        (void)json_object_set_new(object, "of", score_name(run, rule->score));
        (void)json_object_set_new(object, "min", number((float)rule->low));
        (void)json_object_set_new(object, "max", number((float)rule->high));
    }
    return object;
}

json_t *view_summary(const struct curation_run *run)
{
    const struct curation *curation = run->curation;
    json_t *rules = json_array(), *steps = json_array();

    for (size_t k = 0; k < curation->keep.n_children; k++)
        (void)json_array_append_new(rules, rule_json(run, &curation->keep.children[k]));
    for (size_t i = 0; i < curation_n_steps(curation); i++) {
        size_t decision = CURATION_FIRST_STEP + i, k;
        json_t *step = json_pack("{s:s, s:I}", "name", curation_step_name(curation, decision),
                                 "dropped", (json_int_t)run->counts[decision]);

        if (curation_step(curation, decision, &k) == CURATION_STEP_BALANCE)
            (void)json_object_set_new(step, "violation", json_real(run->violations[k]));
        (void)json_array_append_new(steps, step);
    }
    return json_pack("{s:I, s:I, s:I, s:o, s:o}", "samples", (json_int_t)run->pool.pool.n, "kept",
                     (json_int_t)run->counts[CURATION_KEPT], "dropped_by_rules",
                     (json_int_t)run->counts[CURATION_DROPPED_BY_RULE], "rules", rules, "steps",
                     steps);
}

static enum status put(struct object_store *store, const char *key, const struct byte_buf *body,
                       enum status st, struct error *err)
{
    struct object_written written;

    if (st == ST_OK)
        st = object_store_put(store, key, byte_buf_view(body), &written, err);
    if (st != ST_OK)
        error_add_context(err, "%s", key);
    return st;
}

static enum status put_json(struct object_store *store, const char *key, json_t *object,
                            struct byte_buf *body, struct error *err)
{
    byte_buf_reset(body);
    return put(store, key, body, append_line(object, body, err), err);
}

static enum status refuse_dataset(struct object_store *store, struct error *err)
{
    struct object_info info;
    enum status st = object_store_head(store, "_reinforce/job.json", &info, err);

    if (st == ST_OK)
        return error_set(err, ST_CONFLICT, "a dataset is there; give the view a place of its own");
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status view_write(const struct curation_run *run, const char *dataset,
                       struct object_store *store, struct error *err)
{
    json_t *sizes = json_object(), *about;
    struct byte_buf body;
    enum status st = refuse_dataset(store, err);

    byte_buf_init(&body, MAX_OBJECT_BYTES);
    if (st == ST_OK) /* until it is written again, there is no view */
        st = object_store_remove(store, VIEW_KEY, err);
    if (st == ST_OK)
        st = put(store, VIEW_DROPS_KEY, &body, append_drops(run, &body, err), err);
    byte_buf_reset(&body);
    if (st == ST_OK)
        st = put(store, VIEW_IDS_KEY, &body, append_ids(run, &body, err), err);
    byte_buf_reset(&body);
    if (st == ST_OK)
        st = put(store, VIEW_MANIFEST_KEY, &body, append_shards(run, &body, sizes, err), err);
    if (st == ST_OK)
        st = put_json(store, VIEW_SIZES_KEY, json_incref(sizes), &body, err);
    if (st == ST_OK) {
        about = json_pack("{s:s, s:s}", "dataset", dataset, "config_digest",
                          run->out->row.config_digest);
        (void)json_object_update_new(about, view_summary(run));
        (void)json_object_set_new(about, "curation", json_string(run->curation->text));
        st = put_json(store, VIEW_KEY, about, &body, err);
    }
    json_decref(sizes);
    byte_buf_release(&body);
    return st;
}
