/* The published param_aug form of one view:
 *
 *     [[top, left, height, width], [[op, magnitude], [op, magnitude]]]
 *     [[top, left, height, width], null]     RandAugment was skipped
 *     [[top, left, height, width]]           the chain has no RandAugment */
#include "reinforce/image/augment.h"

#include <math.h>

static json_t *ops_to_json(const struct augment_params *params)
{
    json_t *list;

    if (params->n_ops == AUGMENT_OPS_SKIPPED)
        return json_null();
    list = json_array();
    for (int i = 0; i < params->n_ops && list != NULL; i++) {
        json_t *item = json_pack("[i, f]", (int)params->ops[i].op, params->ops[i].magnitude);

        if (item == NULL || json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *augment_params_to_json(const struct augment_params *params)
{
    json_t *box = json_pack("[i, i, i, i]", (int)params->top, (int)params->left,
                            (int)params->height, (int)params->width);

    if (box == NULL)
        return NULL;
    if (params->n_ops == AUGMENT_OPS_ABSENT)
        return json_pack("[o]", box);
    return json_pack("[o, o]", box, ops_to_json(params));
}

/* An integer, or a real that is one: some writers turn every number into a real. */
static enum status read_int(const json_t *value, int64_t min, int64_t max, const char *what,
                            int32_t *out, struct error *err)
{
    double number;

    if (!json_is_number(value))
        return error_set(err, ST_CORRUPT, "param_aug: %s is not a number", what);
    number = json_number_value(value);
    if (!(number >= (double)min && number <= (double)max) || number != floor(number))
        return error_set(err, ST_CORRUPT,
                         "param_aug: %s is %g, it must be an integer from %lld to %lld", what,
                         number, (long long)min, (long long)max);
    *out = (int32_t)number;
    return ST_OK;
}

static enum status read_box(const json_t *value, struct augment_params *out, struct error *err)
{
    enum status st;

    if (!json_is_array(value) || json_array_size(value) != 4)
        return error_set(err, ST_CORRUPT, "param_aug: the box is not [top, left, height, width]");
    st = read_int(json_array_get(value, 0), 0, INT32_MAX, "top of the box", &out->top, err);
    if (st == ST_OK)
        st = read_int(json_array_get(value, 1), 0, INT32_MAX, "left of the box", &out->left, err);
    if (st == ST_OK)
        st = read_int(json_array_get(value, 2), 1, INT32_MAX, "height of the box", &out->height,
                      err);
    if (st == ST_OK)
        st = read_int(json_array_get(value, 3), 1, INT32_MAX, "width of the box", &out->width, err);
    return st;
}

static enum status read_ops(const json_t *value, struct augment_params *out, struct error *err)
{
    if (json_is_null(value)) {
        out->n_ops = AUGMENT_OPS_SKIPPED;
        return ST_OK;
    }
    if (!json_is_array(value) || json_array_size(value) > AUGMENT_MAX_OPS)
        return error_set(err, ST_CORRUPT,
                         "param_aug: the operators are neither null nor an array of at most %d",
                         (int)AUGMENT_MAX_OPS);
    out->n_ops = (int32_t)json_array_size(value);
    for (int i = 0; i < out->n_ops; i++) {
        const json_t *item = json_array_get(value, (size_t)i);
        const json_t *magnitude = json_array_get(item, 1);
        int32_t op;
        enum status st;

        if (!json_is_array(item) || json_array_size(item) != 2 || !json_is_number(magnitude))
            return error_set(err, ST_CORRUPT, "param_aug: operator %d is not [index, magnitude]",
                             i);
        st = read_int(json_array_get(item, 0), 0, AUGMENT_OP_COUNT - 1, "operator index", &op, err);
        if (st != ST_OK)
            return st;
        out->ops[i].op = (enum augment_op)op;
        out->ops[i].magnitude = json_number_value(magnitude);
    }
    return ST_OK;
}

enum status augment_params_from_json(const json_t *value, struct augment_params *out,
                                     struct error *err)
{
    size_t n = json_array_size(value);
    enum status st;

    memset(out, 0, sizeof *out);
    if (!json_is_array(value) || n < 1 || n > 2)
        return error_set(err, ST_CORRUPT,
                         "param_aug: a view is not [box, operators] but %s; chains other than "
                         "random resized crop and RandAugment are not supported",
                         json_is_array(value) ? "an array of another length" : "no array");
    st = read_box(json_array_get(value, 0), out, err);
    if (st != ST_OK)
        return st;
    if (n == 2)
        return read_ops(json_array_get(value, 1), out, err);
    out->n_ops = AUGMENT_OPS_ABSENT;
    return ST_OK;
}
