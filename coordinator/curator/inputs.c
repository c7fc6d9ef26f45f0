#include "coordinator/curator/inputs.h"

#include <inttypes.h>
#include <stdio.h>

struct pair_model curator_pair_model(const struct curator_model *from)
{
    static const enum tensor_dtype dtypes[] = {
        [CURATOR_F32] = TENSOR_F32, [CURATOR_F16] = TENSOR_F16, [CURATOR_BF16] = TENSOR_BF16};
    struct pair_model model = {0};

    if (from->D == 0)
        return model;
    model.rows[PAIR_IMAGE] = from->image;
    model.rows[PAIR_TEXT] = from->text;
    model.dtype = dtypes[from->dtype];
    model.D = from->D;
    model.scale = from->scale;
    model.bias = from->bias;
    return model;
}

enum status curator_ids(struct bytes_view frame, size_t n, struct example_id **ids,
                        struct arena *arena, struct error *err)
{
    enum status st = arena_alloc(arena, n * sizeof **ids, ids, err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        const uint8_t *id = frame.data + i * CURATOR_ID_BYTES;

        (*ids)[i] = (struct example_id){.low = bytes_get_u64(id), .high = bytes_get_u64(id + 8)};
    }
    return st;
}

enum status references_fetch(const struct curator_references *references,
                             const struct example_id *ids, size_t n, struct pair_model *model,
                             struct references_missing *missing, struct arena *arena,
                             struct error *err)
{
    size_t row_bytes = references->D * tensor_dtype_size(references->dtype);
    uint8_t *rows[PAIR_SIDES];
    enum status st = ST_OK;

    *missing = (struct references_missing){0};
    for (int s = 0; s < PAIR_SIDES && st == ST_OK; s++)
        st = arena_calloc(arena, n, row_bytes, &rows[s], err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        if (!references->row(references->ctx, ids[i], rows[PAIR_IMAGE] + i * row_bytes,
                             rows[PAIR_TEXT] + i * row_bytes) &&
            missing->n++ == 0)
            missing->first = ids[i];
    *model = (struct pair_model){.dtype = references->dtype,
                                 .D = references->D,
                                 .scale = references->scale,
                                 .bias = references->bias};
    for (int s = 0; s < PAIR_SIDES; s++)
        model->rows[s] = bytes_view_of(rows[s], n * row_bytes);
    return ST_OK;
}

void references_missing_text(const struct references_missing *missing, size_t n, char text[128])
{
    (void)snprintf(text, 128,
                   "%zu of %zu examples have no reference, the first is %016" PRIx64 "%016" PRIx64,
                   missing->n, n, missing->first.high, missing->first.low);
}
