#include "reinforce/nn/sampler.h"

#include <math.h>
#include <string.h>

enum {
    BINS_PER_NAT = 64,
    N_BINS = 2048, /* 32 nats; the last one holds whatever is further away */
    LANES = 16,    /* partial sums: a fixed order that every vector width can follow */
};

enum status sampler_config_check(const struct sampler_config *config, size_t n_vocab,
                                 struct error *err)
{
    if (!(config->temperature > 0) || !isfinite(config->temperature))
        return error_set(err, ST_INVALID, "temperature is %g, must be above 0",
                         config->temperature);
    if (config->top_k < 0)
        return error_set(err, ST_INVALID, "top_k is %d, must be at least 0", config->top_k);
    if (!(config->top_p >= 0))
        return error_set(err, ST_INVALID, "top_p is %g, must be at least 0", config->top_p);
    if (!(config->repetition_penalty > 0) || !isfinite(config->repetition_penalty))
        return error_set(err, ST_INVALID, "repetition_penalty is %g, must be above 0",
                         config->repetition_penalty);
    if (config->min_tokens < 0 || config->max_tokens <= config->min_tokens ||
        config->max_tokens < 2)
        return error_set(err, ST_INVALID,
                         "max_tokens is %d and min_tokens %d: a row needs a start and an end, and "
                         "the maximum must be above the minimum",
                         config->max_tokens, config->min_tokens);
    if (n_vocab < 2 || n_vocab > INT32_MAX)
        return error_set(err, ST_INVALID, "vocabulary of %zu tokens", n_vocab);
    if (config->end < 0 || (size_t)config->end >= n_vocab || config->pad < 0 ||
        (size_t)config->pad >= n_vocab)
        return error_set(err, ST_INVALID, "end id %d or pad id %d is outside 0..%zu", config->end,
                         config->pad, n_vocab - 1);
    return ST_OK;
}

enum status sampler_scratch_init(struct sampler_scratch *scratch, size_t n_vocab,
                                 struct arena *arena, struct error *err)
{
    enum status st;

    memset(scratch, 0, sizeof *scratch);
    scratch->n_vocab = n_vocab;
    st = arena_calloc(arena, n_vocab, sizeof *scratch->logits, &scratch->logits, err);
    if (st == ST_OK)
        st = arena_calloc(arena, n_vocab, sizeof *scratch->weight, &scratch->weight, err);
    if (st == ST_OK)
        st = arena_calloc(arena, N_BINS, sizeof *scratch->bin_mass, &scratch->bin_mass, err);
    if (st == ST_OK)
        st = arena_calloc(arena, N_BINS, sizeof *scratch->bin_count, &scratch->bin_count, err);
    if (st == ST_OK)
        st = arena_calloc(arena, n_vocab, sizeof *scratch->order, &scratch->order, err);
    return st;
}

void sampler_apply_rules(const struct sampler_config *config, const int32_t *ids, int n_ids,
                         float *logits, size_t n_vocab)
{
    float penalty = (float)config->repetition_penalty;

    if (n_ids < config->min_tokens)
        logits[config->end] = -INFINITY;
    for (int i = 0; i < n_ids && penalty != 1.0f; i++) {
        bool seen = false;

        for (int j = 0; j < i && !seen; j++)
            seen = ids[j] == ids[i];
        if (seen || ids[i] < 0 || (size_t)ids[i] >= n_vocab)
            continue;
        if (logits[ids[i]] < 0)
            logits[ids[i]] *= penalty;
        else
            logits[ids[i]] /= penalty;
    }
    if (config->mask_pad)
        logits[config->pad] = -INFINITY;
}

/* Largest logit; NaN if there is one. */
KERNEL_CLONES static float max_of(const float *logits, size_t n)
{
    float lane[LANES], max = -INFINITY;
    int n_nan = 0;
    size_t i = 0;

    for (int j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            lane[j] = logits[i + (size_t)j] > lane[j] ? logits[i + (size_t)j] : lane[j];
            n_nan += logits[i + (size_t)j] != logits[i + (size_t)j];
        }
    for (; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
        n_nan += logits[i] != logits[i];
    }
    for (int j = 0; j < LANES; j++)
        max = lane[j] > max ? lane[j] : max;
    return n_nan == 0 ? max : NAN;
}

static enum status check_max(float max, struct error *err)
{
    if (!isfinite(max))
        return error_set(err, ST_CORRUPT, "the largest logit is %g: the model's output is broken",
                         (double)max);
    return ST_OK;
}

enum status sampler_argmax(const float *logits, size_t n_vocab, int32_t *id, struct error *err)
{
    float max = max_of(logits, n_vocab);
    enum status st = check_max(max, err);
    size_t i = 0;

    *id = 0;
    if (st != ST_OK)
        return st;
    while (logits[i] != max)
        i++;
    *id = (int32_t)i;
    return ST_OK;
}

/*
 * exp(x) for x <= 0, 0 below -700; relative error about 1e-16. Branch-free so that it vectorises:
 * libm's costs ten times as much, and differs between C libraries. Cody and Waite's reduction by
 * ln 2 in two parts, then Taylor's series, whose 15th term is below 2^-54 for |r| <= ln(2)/2.
 */
static inline double exp_nonpositive(double x)
{
    static const double ln2_high = 0x1.62e42fefa3800p-1, ln2_low = 0x1.ef35793c76730p-45;
    static const double round_magic = 0x1.8p52;
    double clamped = x > -700.0 ? x : -700.0;
    double shifted = clamped * 0x1.71547652b82fep0 + round_magic;
    double n = shifted - round_magic;
    double r = clamped - n * ln2_high - n * ln2_low;
    double p = 1.0 / 87178291200.0;
    int64_t bits;
    double scale;

    p = p * r + 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    memcpy(&bits, &shifted, sizeof bits); /* n sits in the low bits of the rounding constant */
    bits = (int64_t)((uint64_t)(bits + 1023) << 52);
    memcpy(&scale, &bits, sizeof scale);
    return x > -700.0 ? p * scale : 0.0;
}

/* weight[i] = exp((logits[i] - max) * scale) */
KERNEL_CLONES static void fill_weights(const float *logits, size_t n, double max, double scale,
                                       double *weight)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = exp_nonpositive(((double)logits[i] - max) * scale);
}

static inline double lanes_sum(const double lane[LANES])
{
    double sum = 0;

    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

KERNEL_CLONES static double sum_of(const double *weight, size_t n)
{
    double lane[LANES] = {0};
    double tail = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += weight[i + (size_t)j];
    for (; i < n; i++)
        tail += weight[i];
    return lanes_sum(lane) + tail;
}

KERNEL_CLONES static double sum_exp(const float *logits, size_t n, double max)
{
    double lane[LANES] = {0};
    double tail = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += exp_nonpositive((double)logits[i + (size_t)j] - max);
    for (; i < n; i++)
        tail += exp_nonpositive((double)logits[i] - max);
    return lanes_sum(lane) + tail;
}

double sampler_log_sum_exp(const float *logits, size_t n_vocab)
{
    double max = max_of(logits, n_vocab);

    return max + log(sum_exp(logits, n_vocab, max));
}

static inline size_t bin_of(float logit, float max)
{
    double distance = ((double)max - (double)logit) * BINS_PER_NAT;

    return distance < N_BINS - 1 ? (size_t)distance : N_BINS - 1;
}

/* The order of the cuts: larger logit first, lower id among equals. */
static bool comes_before(const float *logits, int32_t a, int32_t b)
{
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

static void heap_sink(const float *logits, int32_t *heap, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        int32_t swap;

        if (child >= n)
            return;
        if (child + 1 < n && comes_before(logits, heap[child + 1], heap[child]))
            child++;
        if (!comes_before(logits, heap[child], heap[at]))
            return;
        swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* Makes scratch->order a heap of the ids in one bin whose weight is not 0; returns how many. */
static size_t heap_of_bin(const float *logits, float max, size_t bin,
                          struct sampler_scratch *scratch)
{
    size_t n = 0;

    for (size_t i = 0; i < scratch->n_vocab; i++)
        if (scratch->weight[i] > 0 && bin_of(logits[i], max) == bin)
            scratch->order[n++] = (int32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        heap_sink(logits, scratch->order, n, i);
    return n;
}

static int32_t heap_pop(const float *logits, int32_t *heap, size_t *n)
{
    int32_t top = heap[0];

    heap[0] = heap[--*n];
    heap_sink(logits, heap, *n, 0);
    return top;
}

/* Zeroes the weight of all that is below the k-th largest logit. */
static void cut_top_k(const float *logits, float max, size_t k, struct sampler_scratch *scratch)
{
    size_t n = scratch->n_vocab, bin = 0, above = 0, in_heap;
    float kth = -INFINITY;

    if (k >= n)
        return;
    memset(scratch->bin_count, 0, N_BINS * sizeof *scratch->bin_count);
    for (size_t i = 0; i < n; i++)
        if (scratch->weight[i] > 0)
            scratch->bin_count[bin_of(logits[i], max)]++;
    while (bin < N_BINS && above + scratch->bin_count[bin] < k)
        above += scratch->bin_count[bin++];
    if (bin == N_BINS)
        return; /* fewer than k are possible at all */
    in_heap = heap_of_bin(logits, max, bin, scratch);
    for (; above < k; above++)
        kth = logits[heap_pop(logits, scratch->order, &in_heap)];
    for (size_t i = 0; i < n; i++)
        if (logits[i] < kth)
            scratch->weight[i] = 0;
}

/*
 * Keeps the shortest run of tokens from the largest down whose mass reaches `p` of the total: a
 * token goes when those in front of it already hold that much. Only the bin in which that happens
 * is put in order. Says the same as the references' "ascending cumulative sum <= 1 - p goes".
 */
static void cut_top_p(const float *logits, float max, double p, struct sampler_scratch *scratch)
{
    size_t n = scratch->n_vocab, bin = 0, in_heap;
    double total = 0, before = 0;
    int32_t last;

    memset(scratch->bin_mass, 0, N_BINS * sizeof *scratch->bin_mass);
    for (size_t i = 0; i < n; i++)
        scratch->bin_mass[bin_of(logits[i], max)] += scratch->weight[i];
    for (size_t i = 0; i < N_BINS; i++)
        total += scratch->bin_mass[i];
    while (bin < N_BINS - 1 && before + scratch->bin_mass[bin] < p * total)
        before += scratch->bin_mass[bin++];
    in_heap = heap_of_bin(logits, max, bin, scratch);
    if (in_heap == 0)
        return; /* p so near 1 that rounding took the rest: all stay */
    do {
        last = heap_pop(logits, scratch->order, &in_heap);
        before += scratch->weight[last];
    } while (in_heap > 0 && before < p * total);
    for (size_t i = 0; i < n; i++)
        if (comes_before(logits, last, (int32_t)i))
            scratch->weight[i] = 0;
}

/* First id, ascending, at which the running sum passes `u` of the whole. */
static int32_t pick(const double *weight, size_t n, double u)
{
    enum { BLOCK = 256 };
    double target, block_sum, before = 0;
    size_t from = 0;
    int32_t id = -1;

    target = 0;
    for (size_t i = 0; i < n; i += BLOCK)
        target += sum_of(weight + i, MIN((size_t)BLOCK, n - i));
    target *= u;
    while (from + BLOCK < n) {
        block_sum = sum_of(weight + from, BLOCK);
        if (before + block_sum > target)
            break;
        before += block_sum;
        from += BLOCK;
    }
    /* A block's lanes and this running sum may round apart in the last bit: then the last id of the
     * block that has any weight is it. */
    for (size_t i = from; i < n && (i < from + BLOCK || id < 0); i++) {
        if (!(weight[i] > 0))
            continue;
        id = (int32_t)i;
        before += weight[i];
        if (before > target)
            break;
    }
    for (size_t i = n; id < 0 && i-- > 0;)
        if (weight[i] > 0)
            id = (int32_t)i;
    return id;
}

enum status sampler_draw(const struct sampler_config *config, const float *logits, double u,
                         struct sampler_scratch *scratch, int32_t *id, struct error *err)
{
    size_t n = scratch->n_vocab;
    double scale = 1.0 / config->temperature;
    float max = max_of(logits, n);
    enum status st = check_max(max, err);

    *id = 0;
    if (st != ST_OK)
        return st;
    fill_weights(logits, n, max, config->temperature_first ? scale : 1.0, scratch->weight);
    if (config->top_k > 0)
        cut_top_k(logits, max, (size_t)config->top_k, scratch);
    if (config->top_p < 1.0)
        cut_top_p(logits, max, config->top_p, scratch);
    if (!config->temperature_first && scale != 1.0)
        for (size_t i = 0; i < n; i++)
            if (scratch->weight[i] > 0)
                scratch->weight[i] = exp_nonpositive(((double)logits[i] - (double)max) * scale);
    *id = pick(scratch->weight, n, u);
    return ST_OK;
}

double sampler_uniform(struct philox *rng)
{
    uint64_t high = philox_u32(rng) >> 5, low = philox_u32(rng) >> 6;

    return (double)(high << 26 | low) * 0x1p-53;
}

void sampler_row_init(struct sampler_row *row, int32_t *ids, int32_t start,
                      const struct philox *rng)
{
    memset(row, 0, sizeof *row);
    row->ids = ids;
    row->ids[0] = start;
    row->n_ids = 1;
    row->rng = *rng;
}

bool sampler_row_is_forced(const struct sampler_config *config, const struct sampler_row *row)
{
    return row->n_ids + 1 == config->max_tokens;
}

void sampler_row_force_end(const struct sampler_config *config, struct sampler_row *row)
{
    row->ids[row->n_ids++] = config->end;
    row->ended = true;
}

enum status sampler_row_step(const struct sampler_config *config, struct sampler_row *row,
                             const float *logits, struct sampler_scratch *scratch,
                             struct error *err)
{
    int32_t id;
    enum status st;

    memcpy(scratch->logits, logits, scratch->n_vocab * sizeof *logits);
    sampler_apply_rules(config, row->ids, row->n_ids, scratch->logits, scratch->n_vocab);
    if (config->greedy)
        st = sampler_argmax(scratch->logits, scratch->n_vocab, &id, err);
    else
        st = sampler_draw(config, scratch->logits, sampler_uniform(&row->rng), scratch, &id, err);
    if (st != ST_OK)
        return st;
    row->log_prob_sum += (double)logits[id] - sampler_log_sum_exp(logits, scratch->n_vocab);
    row->ids[row->n_ids++] = id;
    row->n_drawn++;
    row->ended = id == config->end || id == config->pad;
    return ST_OK;
}

void sampler_row_pad(const struct sampler_config *config, struct sampler_row *row)
{
    while (row->n_ids < config->max_tokens)
        row->ids[row->n_ids++] = config->pad;
}
