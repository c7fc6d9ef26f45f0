#include "reinforce/curate/joint.h"

#include "reinforce/base/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double joint_noise(uint64_t seed, uint32_t step, uint32_t chunk, struct example_id id)
{
    uint8_t name[16];
    uint32_t block[4];
    struct philox rng;
    double u;

    bytes_put_u64(name, id.low);
    bytes_put_u64(name + 8, id.high);
    philox_init(&rng, seed, bytes_view_of(name, sizeof name), PHILOX_STAGE_SELECT, step);
    rng.counter[0] = chunk;
    philox_4x32_10(rng.counter, rng.key, block);
    u = ((double)(((uint64_t)block[0] << 32 | block[1]) >> 11) + 0.5) * 0x1p-53;
    return -log(-log(fmin(u, 1 - 0x1p-53))); /* the largest would round to 1 */
}

static enum status init_scores(struct joint *joint, struct arena *arena, struct error *err)
{
    const struct selection_options *options = joint->options;
    enum status st = arena_calloc(arena, joint->n, sizeof *joint->marginal, &joint->marginal, err);

    if (st == ST_OK)
        st = arena_calloc(arena, joint->n, sizeof *joint->gain, &joint->gain, err);
    if (st == ST_OK)
        st = arena_calloc(arena, options->n_strata, sizeof *joint->room, &joint->room, err);
    for (int m = 0; m < JOINT_MODELS && st == ST_OK; m++)
        for (int s = 0; s < PAIR_SIDES && st == ST_OK; s++)
            if (joint->sign[m] != 0 && options->loss == PAIR_SOFTMAX)
                st = arena_calloc(arena, joint->n, sizeof *joint->logs[m][s], &joint->logs[m][s],
                                  err);
    return st;
}

enum status joint_init(struct joint *joint, const struct selection_options *options,
                       const struct pair_model models[JOINT_MODELS], const struct example_id *ids,
                       const uint16_t *strata, size_t first, size_t n, bool *usable,
                       struct arena *arena, struct error *err)
{
    static const char *const names[JOINT_MODELS] = {"learner", "reference"};
    enum status st;

    *joint = (struct joint){
        .options = options,
        .ids = ids,
        .strata = strata,
        .first = first,
        .n = n,
        .usable = usable,
        .sign = {selection_learner_sign(options), selection_reference_sign(options)},
    };
    st = init_scores(joint, arena, err);
    for (int m = 0; m < JOINT_MODELS && st == ST_OK; m++) {
        if (joint->sign[m] == 0)
            continue;
        if (models[m].logits != NULL && (options->n_chunks > 1 || options->uniform_share > 0))
            return error_set(err, ST_INVALID,
                             "chunks after the first need the %s's embeddings, not logits alone",
                             names[m]);
        st = pair_rows_init(&joint->rows[m], &models[m], names[m], options->loss, n,
                            options->n_threads, usable, arena, err);
        for (size_t i = 0; i < n && st == ST_OK; i++) {
            double logit = joint->rows[m].logit[i];

            joint->marginal[i] +=
                joint->sign[m] * (options->loss == PAIR_SOFTMAX ? -logit : pair_softplus(-logit));
        }
    }
    if (st == ST_OK)
        memcpy(joint->gain, joint->marginal, n * sizeof *joint->gain);
    return st;
}

double joint_gain(const struct joint *joint, size_t i)
{
    double gain = joint->gain[i];

    for (int m = 0; m < JOINT_MODELS; m++) {
        double logs = 0; /* of one model first, so that equal models cancel */

        for (int s = 0; s < PAIR_SIDES; s++)
            if (joint->logs[m][s] != NULL && joint->logs[m][s][i].sum > 0)
                logs += joint->logs[m][s][i].most + log(joint->logs[m][s][i].sum);
        gain += joint->sign[m] * logs / 2;
    }
    return gain;
}

/* A total order: an index is there once. */
static int by_key(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

size_t picks_keep(struct pick *picks, size_t n, size_t m, const uint16_t *strata, uint32_t *room)
{
    size_t kept = 0;

    qsort(picks, n, sizeof *picks, by_key);
    for (size_t p = 0; p < n && kept < m; p++) {
        if (room != NULL && room[strata[picks[p].index]]-- == 0) {
            room[strata[picks[p].index]] = 0;
            continue;
        }
        picks[kept++] = picks[p];
    }
    return kept;
}

size_t joint_best(struct joint *joint, uint32_t chunk, size_t m, const uint32_t *left,
                  struct pick *picks)
{
    const struct selection_options *options = joint->options;
    double scale = options->normalise_by_count ? 1 / (2 * (double)joint->n_chosen + 1) : 1;
    size_t n = 0;

    for (size_t i = 0; i < joint->n; i++) {
        struct pick pick = {.index = (uint32_t)i, .marginal = joint->marginal[i]};

        if (!joint->usable[i])
            continue;
        pick.gain = joint_gain(joint, i);
        if (!isfinite(pick.gain)) {
            joint->usable[i] = false;
            continue;
        }
        if (chunk == SELECTION_UNIFORM_CHUNK)
            pick.key = joint_noise(options->seed, options->step, chunk, joint->ids[i]);
        else if (options->top_k)
            pick.key = pick.gain;
        else
            pick.key = options->gain * (pick.gain * scale) +
                       joint_noise(options->seed, options->step, chunk, joint->ids[i]);
        picks[n++] = pick;
    }
    if (left != NULL)
        memcpy(joint->room, left, options->n_strata * sizeof *left);
    n = picks_keep(picks, n, m, joint->strata, left != NULL ? joint->room : NULL);
    for (size_t p = 0; p < n; p++)
        picks[p].index += (uint32_t)joint->first;
    return n;
}

void joint_remove(struct joint *joint, const struct pick *picks, size_t n)
{
    for (size_t p = 0; p < n; p++)
        if (picks[p].index >= joint->first && picks[p].index - joint->first < joint->n)
            joint->usable[picks[p].index - joint->first] = false;
}
