#include "reinforce/teach/fidelity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

enum status fidelity_of_rows(const float *a, const float *b, size_t n, size_t dim,
                             struct arena *scratch, struct fidelity_cosines *cosines,
                             struct error *err)
{
    double *cosine, sum = 0;
    enum status st = arena_calloc(scratch, n, sizeof *cosine, &cosine, err);

    *cosines = (struct fidelity_cosines){.n = 0};
    if (st != ST_OK || n == 0)
        return st;
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < dim; d++)
            cosine[i] += (double)a[i * dim + d] * (double)b[i * dim + d];
        sum += cosine[i];
    }
    qsort(cosine, n, sizeof *cosine, ascending);
    *cosines = (struct fidelity_cosines){
        .n = n, .mean = sum / (double)n, .p01 = cosine[(n - 1) / 100], .least = cosine[0]};
    return ST_OK;
}

void fidelity_add_captions(struct fidelity_captions *captions, const struct caption *a,
                           const struct caption *b)
{
    double difference = fabs(a->score - b->score);

    captions->n++;
    if (strcmp(a->text, b->text) != 0)
        return;
    captions->n_same++;
    captions->difference += isfinite(difference) ? difference : 0;
}

double fidelity_same(const struct fidelity_captions *captions)
{
    return captions->n > 0 ? (double)captions->n_same / (double)captions->n : 0;
}

json_t *fidelity_cosines_json(const struct fidelity_cosines *cosines)
{
    return json_pack("{s:I, s:f, s:f, s:f}", "n", (json_int_t)cosines->n, "cosine_mean",
                     cosines->mean, "cosine_p01", cosines->p01, "cosine_min", cosines->least);
}

json_t *fidelity_captions_json(const struct fidelity_captions *captions)
{
    size_t n_same = captions->n_same;

    return json_pack("{s:I, s:f, s:f}", "n", (json_int_t)captions->n, "same",
                     fidelity_same(captions), "log_probability_difference",
                     n_same > 0 ? captions->difference / (double)n_same : 0.0);
}
