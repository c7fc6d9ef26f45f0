#include "reinforce/curate/balance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SWEEPS = 20000, BISECTIONS = 60 };

#define TOLERANCE 1e-10

/* Samples of one pattern have one probability. */
struct cell {
    uint32_t pattern;
    double share;  /* of the samples */
    double margin; /* sum of multipliers times constraints */
};

struct dual {
    const struct balance_options *options;
    struct cell *cells;
    size_t n_cells;
    double *multipliers; /* [n_constraints] */
    size_t n_constraints;
};

static int by_pattern(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double has(uint32_t pattern, size_t bit)
{
    return pattern >> bit & 1;
}

/* Constraint j of a pattern: attributes first, then every attribute with every concept. */
static double coefficient(const struct balance_options *o, uint32_t pattern, size_t j)
{
    size_t k = j % o->n_attributes, r = j / o->n_attributes;
    double difference = has(pattern, k) - o->targets[k];

    return r == 0 ? difference : difference * has(pattern, o->n_attributes + r - 1);
}

static double bound_of(const struct balance_options *o, size_t j)
{
    return j < o->n_attributes ? o->representation : o->association;
}

static double clip(double q)
{
    return q < 0 ? 0 : q > 1 ? 1 : q;
}

/* E[q times constraint j] if its multiplier were `step` more. */
static double moment(const struct dual *dual, size_t j, double step)
{
    double sum = 0;

    for (size_t c = 0; c < dual->n_cells; c++) {
        const struct cell *cell = &dual->cells[c];
        double a = coefficient(dual->options, cell->pattern, j);

        sum += cell->share * clip(1 - cell->margin - step * a) * a;
    }
    return sum;
}

static void move(struct dual *dual, size_t j, double step)
{
    dual->multipliers[j] += step;
    for (size_t c = 0; c < dual->n_cells; c++)
        dual->cells[c].margin += step * coefficient(dual->options, dual->cells[c].pattern, j);
}

/* The best multiplier while the others stay: 0 where the moment is then within the bound, else
 * where it reaches it. The moment falls as the multiplier grows. Returns how far it moved. */
static double improve(struct dual *dual, size_t j)
{
    double now = dual->multipliers[j], bound = bound_of(dual->options, j);
    double at_zero = moment(dual, j, -now), sign = at_zero > 0 ? 1 : -1;
    double low = 0, high = dual->options->strength, best = 0;

    if (fabs(at_zero) > bound) {
        for (int i = 0; i < BISECTIONS; i++) {
            double middle = (low + high) / 2;

            if (sign * moment(dual, j, sign * middle - now) > bound)
                low = middle;
            else
                high = middle;
        }
        best = sign * high;
    }
    move(dual, j, best - now);
    return fabs(best - now);
}

static void solve(struct dual *dual)
{
    for (int sweep = 0; sweep < MAX_SWEEPS; sweep++) {
        double most = 0;

        for (size_t j = 0; j < dual->n_constraints; j++)
            most = fmax(most, improve(dual, j));
        if (most < TOLERANCE)
            return;
    }
}

static enum status count_cells(const uint32_t *patterns, size_t n, struct dual *dual,
                               struct arena *arena, struct error *err)
{
    uint32_t *sorted;
    enum status st = arena_alloc(arena, n * sizeof *sorted, &sorted, err);

    if (st != ST_OK)
        return st;
    memcpy(sorted, patterns, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_pattern);
    for (size_t i = 0; i < n; i++)
        dual->n_cells += i == 0 || sorted[i] != sorted[i - 1];
    st = arena_calloc(arena, dual->n_cells, sizeof *dual->cells, &dual->cells, err);
    for (size_t i = 0, c = 0; i < n && st == ST_OK; i++) {
        c += i > 0 && sorted[i] != sorted[i - 1];
        dual->cells[c].pattern = sorted[i];
        dual->cells[c].share += 1.0 / (double)n;
    }
    return st;
}

static double probability(const struct dual *dual, uint32_t pattern)
{
    size_t low = 0, high = dual->n_cells - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (dual->cells[middle].pattern < pattern)
            low = middle + 1;
        else
            high = middle;
    }
    return clip(1 - dual->cells[low].margin);
}

enum status balance_probabilities(const uint32_t *patterns, size_t n,
                                  const struct balance_options *options, double *q,
                                  double *violation, struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    struct dual dual = {.options = options,
                        .n_constraints = options->n_attributes * (1 + options->n_concepts)};
    enum status st;

    *violation = 0;
    if (options->n_attributes == 0 ||
        options->n_attributes + options->n_concepts > BALANCE_MAX_BITS)
        return error_set(err, ST_INVALID, "%zu attributes and %zu concepts; it is 1 to %d together",
                         options->n_attributes, options->n_concepts, (int)BALANCE_MAX_BITS);
    st = arena_calloc(arena, dual.n_constraints, sizeof *dual.multipliers, &dual.multipliers, err);
    if (st == ST_OK && n > 0)
        st = count_cells(patterns, n, &dual, arena, err);
    if (st != ST_OK)
        return st;
    solve(&dual);
    for (size_t j = 0; j < dual.n_constraints; j++) {
        double excess = fabs(moment(&dual, j, 0)) - bound_of(options, j);

        *violation = fmax(*violation, excess > 1e-9 ? excess : 0);
    }
    for (size_t i = 0; i < n; i++)
        q[i] = probability(&dual, patterns[i]);
    arena_rewind(arena, &mark);
    return ST_OK;
}
