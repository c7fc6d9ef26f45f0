#include "coordinator/curator/computed_references.h"

#include "coordinator/curator/input_index.h"

#include <limits.h>
#include <stdio.h>

static bool get_row(const void *ctx, struct example_id id, void *image, void *text)
{
    const struct computed_references *computed = ctx;
    const struct curator_references *dataset = computed->dataset;
    uint64_t place;

    if (dataset != NULL && dataset->row(dataset->ctx, id, image, text))
        return true;
    return example_index_find(computed->index, id, &place) &&
           computed_rows_get(computed->rows, place, id, image, text) == COMPUTED_ROW;
}

static enum status check_same(const struct teacher_hello *hello,
                              const struct curator_references *dataset, struct error *err)
{
    if (dataset == NULL || (dataset->D == hello->D && dataset->scale == hello->scale &&
                            dataset->bias == hello->bias && dataset->dtype == TENSOR_F16))
        return ST_OK;
    return error_set(err, ST_INVALID,
                     "the dataset's teacher has %zu dimensions, scale %g, bias %g, the job's %llu, "
                     "%g, %g: give the job that has made the dataset",
                     dataset->D, (double)dataset->scale, (double)dataset->bias,
                     (unsigned long long)hello->D, (double)hello->scale, (double)hello->bias);
}

enum status computed_references_open(const struct teacher_hello *hello, const char *cache,
                                     const struct curator_references *dataset,
                                     struct computed_references *out, struct error *err)
{
    char path[PATH_MAX];
    enum status st = check_same(hello, dataset, err);

    *out = (struct computed_references){.dataset = dataset};
    if (st == ST_OK)
        st = input_index_path(cache, hello->index_key, path, sizeof path, err);
    if (st == ST_OK)
        st = example_index_open(path, hello->index_key, &out->index, err);
    if (st == ST_OK)
        st = teacher_rows_path(cache, hello->rows_key, path, sizeof path, err);
    if (st == ST_OK)
        st = computed_rows_open(path, hello->rows_key, example_index_count(out->index), hello->D,
                                &out->rows, err);
    if (st != ST_OK) {
        computed_references_close(out);
        return st;
    }
    if (dataset != NULL)
        (void)snprintf(out->version, sizeof out->version, "%.90s+%.16s", dataset->version,
                       hello->rows_key);
    else
        (void)snprintf(out->version, sizeof out->version, "%s@%.16s", hello->name, hello->rows_key);
    out->references = (struct curator_references){.D = hello->D,
                                                  .dtype = TENSOR_F16,
                                                  .scale = hello->scale,
                                                  .bias = hello->bias,
                                                  .version = out->version,
                                                  .n = dataset != NULL ? dataset->n : 0,
                                                  .ctx = out,
                                                  .row = get_row};
    return ST_OK;
}

void computed_references_close(struct computed_references *computed)
{
    computed_rows_close(&computed->rows);
    example_index_close(&computed->index);
    *computed = (struct computed_references){0};
}

enum computed_found computed_references_find(const struct computed_references *computed,
                                             struct example_id id, uint64_t *place)
{
    const struct curator_references *dataset = computed->dataset;
    enum computed_row row;

    if (dataset != NULL && dataset->row(dataset->ctx, id, NULL, NULL))
        return COMPUTED_IS_THERE;
    if (!example_index_find(computed->index, id, place))
        return COMPUTED_CANNOT;
    row = computed_rows_get(computed->rows, *place, id, NULL, NULL);
    return row == COMPUTED_ROW    ? COMPUTED_IS_THERE
           : row == COMPUTED_NONE ? COMPUTED_CAN_BE
                                  : COMPUTED_CANNOT;
}
