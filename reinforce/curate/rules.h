/* Which samples of a pool are kept: thresholds, fractions of the pool and lists of ids, combined by
 * and, or and not. */
#ifndef REINFORCE_CURATE_RULES_H
#define REINFORCE_CURATE_RULES_H

#include "reinforce/curate/pool.h"

enum rule_kind {
    RULE_SCORE = 0, /* low <= score <= high */
    RULE_IDS = 1,   /* in a list */
    RULE_ALL = 2,   /* of the children; true when there is none */
    RULE_ANY = 3,
    RULE_NOT = 4, /* the one child does not hold */
};

/**
 * One rule; plain data, all borrowed. A sample without a rule's score does not satisfy it, and so
 * satisfies its negation.
 */
struct rule {
    enum rule_kind kind;
    const char *name; /* "keep[0].any[1]", or as the user calls it */
    size_t score;     /* RULE_SCORE: index into pool.scores */
    /*
     * Bounds, both inclusive; -INFINITY and INFINITY: none. They are compared as float32, which
     * scores are. rules_resolve() sets them where a fraction of the pool is given instead.
     */
    double low, high;
    double top, bottom;           /* 0..1: the fraction that is highest, lowest; NaN: not given */
    const struct example_id *ids; /* RULE_IDS: sorted */
    size_t n_ids;
    struct rule *children;
    size_t n_children;
};

/**
 * Turns fractions into bounds: of all samples of the pool that have the score, whatever the other
 * rules say, so that the order of rules has no meaning. `top` is subset_threshold()'s: ties with
 * the last one are kept. Scratch in `arena` is given back.
 */
NODISCARD enum status rules_resolve(struct rule *rule, const struct pool *pool, struct arena *arena,
                                    struct error *err);

/** Whether the rule holds for sample i. */
bool rule_holds(const struct rule *rule, const struct pool *pool, size_t i);

enum rule_verdict {
    RULE_MISSING = 0, /* there is no such score */
    RULE_BELOW = 1,   /* the score is below `threshold` */
    RULE_ABOVE = 2,
    RULE_WITHIN = 3, /* not below or above `threshold`, though a negation wants it */
    RULE_LISTED = 4,
    RULE_NOT_LISTED = 5,
};

/** What decided about a sample. */
struct rule_reason {
    const struct rule *rule; /* RULE_SCORE or RULE_IDS */
    enum rule_verdict verdict;
    float score; /* NaN: none */
    float threshold;
};

/**
 * Why the rule holds for sample i, or does not: for rules that must all hold, the first that does
 * not; for rules of which any is enough, each of them. Returns how many reasons there are and
 * writes up to `max`.
 */
size_t rule_explain(const struct rule *rule, const struct pool *pool, size_t i,
                    struct rule_reason *reasons, size_t max);

/** "missing", "below", "above", "within", "listed", "not_listed". */
const char *rule_verdict_name(enum rule_verdict verdict);

#endif
