#include "reinforce/curate/rules.h"

#include "reinforce/curate/subset.h"

#include <math.h>

/* The bound that keeps the `fraction` of a column's scores which is highest, or with sign -1 the
 * negated bound of what is lowest. Samples without the score are no part of the pool. */
static enum status fraction_bound(const float *scores, size_t n, float sign, double fraction,
                                  double *bound, struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    float *present, threshold = 0;
    size_t n_present = 0;
    enum status st = arena_alloc(arena, n * sizeof *present, &present, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        if (!isnan(scores[i]))
            present[n_present++] = sign * scores[i];
    st = subset_threshold(present, n_present, fraction, &threshold, arena, err);
    *bound = (double)threshold;
    arena_rewind(arena, &mark);
    return st;
}

enum status rules_resolve(struct rule *rule, const struct pool *pool, struct arena *arena,
                          struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < rule->n_children && st == ST_OK; i++)
        st = rules_resolve(&rule->children[i], pool, arena, err);
    if (rule->kind != RULE_SCORE)
        return st;
    if (!isnan(rule->top))
        st = fraction_bound(pool->scores[rule->score], pool->n, 1, rule->top, &rule->low, arena,
                            err);
    if (st == ST_OK && !isnan(rule->bottom)) {
        st = fraction_bound(pool->scores[rule->score], pool->n, -1, rule->bottom, &rule->high,
                            arena, err);
        rule->high = -rule->high;
    }
    if (st != ST_OK)
        error_add_context(err, "rule %s", rule->name);
    return st;
}

static struct rule_reason judge(const struct rule *rule, const struct pool *pool, size_t i)
{
    struct rule_reason reason = {.rule = rule, .score = NAN, .threshold = NAN};
    float low = (float)rule->low, high = (float)rule->high;

    if (rule->kind == RULE_IDS) {
        reason.verdict =
            subset_holds(rule->ids, rule->n_ids, pool->ids[i]) ? RULE_LISTED : RULE_NOT_LISTED;
        return reason;
    }
    reason.score = pool->scores[rule->score][i];
    reason.threshold = isinf(low) ? high : low;
    if (isnan(reason.score)) {
        reason.verdict = RULE_MISSING;
    } else if (reason.score < low) {
        reason.verdict = RULE_BELOW;
    } else if (reason.score > high) {
        reason.verdict = RULE_ABOVE;
        reason.threshold = high;
    } else {
        reason.verdict = RULE_WITHIN;
    }
    return reason;
}

bool rule_holds(const struct rule *rule, const struct pool *pool, size_t i)
{
    struct rule_reason reason;

    switch (rule->kind) {
    case RULE_ALL:
        for (size_t k = 0; k < rule->n_children; k++)
            if (!rule_holds(&rule->children[k], pool, i))
                return false;
        return true;
    case RULE_ANY:
        for (size_t k = 0; k < rule->n_children; k++)
            if (rule_holds(&rule->children[k], pool, i))
                return true;
        return false;
    case RULE_NOT:
        return !rule_holds(rule->children, pool, i);
    case RULE_SCORE:
    case RULE_IDS:
        reason = judge(rule, pool, i);
        return reason.verdict == RULE_WITHIN || reason.verdict == RULE_LISTED;
    }
    return false;
}

size_t rule_explain(const struct rule *rule, const struct pool *pool, size_t i,
                    struct rule_reason *reasons, size_t max)
{
    bool holds = rule_holds(rule, pool, i);
    /* One child settles it: the first that fails of all, the first that holds of any. */
    bool one_settles = (rule->kind == RULE_ALL && !holds) || (rule->kind == RULE_ANY && holds);
    size_t n = 0;

    if (rule->kind == RULE_SCORE || rule->kind == RULE_IDS) {
        if (max > 0)
            reasons[0] = judge(rule, pool, i);
        return 1;
    }
    for (size_t k = 0; k < rule->n_children; k++) {
        const struct rule *child = &rule->children[k];

        if (one_settles && rule_holds(child, pool, i) != holds)
            continue;
        n += rule_explain(child, pool, i, reasons + MIN(n, max), max - MIN(n, max));
        if (one_settles)
            break;
    }
    return n;
}

const char *rule_verdict_name(enum rule_verdict verdict)
{
    static const char *const names[] = {
        [RULE_MISSING] = "missing", [RULE_BELOW] = "below",   [RULE_ABOVE] = "above",
        [RULE_WITHIN] = "within",   [RULE_LISTED] = "listed", [RULE_NOT_LISTED] = "not_listed",
    };

    return names[verdict];
}
