#include "worker/judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What the job leaves open of a model, from the model itself. */
static enum status complete(const struct job *job, struct teacher *const *teachers,
                            struct score_model *model, const char *role, struct error *err)
{
    const struct teacher_info *info;
    size_t t = 0;

    if (model->teacher == NULL)
        return ST_OK;
    while (strcmp(job->teachers[t].name, model->teacher) != 0) /* job_load() has found it */
        t++;
    info = teacher_info(teachers[t]);
    if (isnan(model->bias) && !info->has_logit_bias)
        return error_set(err, ST_INVALID,
                         "%s_bias must be given: teacher \"%s\" has none, as it was not trained "
                         "with a sigmoid loss",
                         role, model->teacher);
    if (isnan(model->scale))
        model->scale = (double)info->logit_scale;
    if (isnan(model->bias))
        model->bias = (double)info->logit_bias;
    return ST_OK;
}

enum status judge_init(struct judge *judge, const struct job *job, struct teacher *const *teachers,
                       struct error *err)
{
    size_t n = job->curate.n_scores;
    enum status st = ST_OK;

    *judge = (struct judge){.keep = &job->curate.keep,
                            .n_scores = n,
                            .specs = calloc(n + 1, sizeof *judge->specs),
                            .tools = calloc(n + 1, sizeof *judge->tools)};
    if (judge->specs == NULL || judge->tools == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the job's rules");
    for (size_t k = 0; k < n && st == ST_OK; k++) {
        judge->specs[k] = job->curate.scores[k];
        st = complete(job, teachers, &judge->specs[k].learner, "learner", err);
        if (st == ST_OK)
            st = complete(job, teachers, &judge->specs[k].reference, "reference", err);
    }
    if (st == ST_OK)
        st = sample_score_tools_open(judge->specs, n, judge->tools, err);
    if (st != ST_OK) {
        error_add_context(err, "curate.keep");
        judge_release(judge);
    }
    return st;
}

void judge_release(struct judge *judge)
{
    if (judge->tools != NULL)
        sample_score_tools_close(judge->tools, judge->n_scores);
    free(judge->tools);
    free(judge->specs);
    *judge = (struct judge){0};
}

/* One reason, with the bounds that it is about. */
static void explain_one(const struct rule_reason *reason, const struct pool *pool, char text[320])
{
    float low = (float)reason->rule->low, high = (float)reason->rule->high;
    char what[192], bounds[96];

    score_spec_describe(&pool->specs[reason->rule->score], what);
    if (reason->verdict == RULE_MISSING) {
        (void)snprintf(text, 320, "%s is missing", what);
        return;
    }
    if (reason->verdict != RULE_WITHIN)
        (void)snprintf(bounds, sizeof bounds, "%s %.6g", rule_verdict_name(reason->verdict),
                       (double)reason->threshold);
    else if (isinf(low) || isinf(high)) /* a negation wants it to be elsewhere */
        (void)snprintf(bounds, sizeof bounds, "not %s %.6g", isinf(low) ? "above" : "below",
                       (double)reason->threshold);
    else
        (void)snprintf(bounds, sizeof bounds, "not below %.6g or above %.6g", (double)low,
                       (double)high);
    (void)snprintf(text, 320, "%s is %.6g, %s", what, (double)reason->score, bounds);
}

void judge_explain(const struct rule *rule, const struct pool *pool, char *text, size_t size)
{
    struct rule_reason reasons[8];
    size_t n = MIN(rule_explain(rule, pool, 0, reasons, ARRAY_LEN(reasons)), ARRAY_LEN(reasons));
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n && len < size; i++) {
        char one[320];

        explain_one(&reasons[i], pool, one);
        len += (size_t)snprintf(text + len, size - len, "%s%s", i > 0 ? "; " : "", one);
    }
}
