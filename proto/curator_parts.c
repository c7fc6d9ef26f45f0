#include "proto/curator_parts.h"

#include <string.h>

size_t curator_dtype_bytes(enum curator_dtype dtype)
{
    return dtype == CURATOR_F32 ? 4 : 2;
}

enum status curator_take_frame(struct curator_frames *frames, const char *name, size_t rows,
                               size_t row_bytes, struct bytes_view *out, struct error *err)
{
    if (frames->at == NULL)
        return ST_OK;
    if (frames->next == frames->n)
        return error_set(err, ST_CORRUPT, "the frame with %s is missing", name);
    *out = frames->at[frames->next++];
    if (out->len != rows * row_bytes)
        return error_set(err, ST_CORRUPT, "%s have %zu bytes, expected %zu rows of %zu", name,
                         out->len, rows, row_bytes);
    return ST_OK;
}

enum status curator_end_frames(const struct curator_frames *frames, struct error *err)
{
    if (frames->at != NULL && frames->next < frames->n)
        return error_set(err, ST_CORRUPT, "%zu frames follow the message, expected %zu", frames->n,
                         frames->next);
    return ST_OK;
}

enum status curator_check_range(const char *field, uint64_t value, uint64_t min, uint64_t max,
                                struct error *err)
{
    if (value < min || value > max)
        return error_set(err, ST_CORRUPT, "%s is %llu, outside %llu..%llu", field,
                         (unsigned long long)value, (unsigned long long)min,
                         (unsigned long long)max);
    return ST_OK;
}

void curator_give_model(const struct curator_model *from, Reinforce__Curator__Model *to,
                        Reinforce__Curator__Model **member, struct bytes_view *frames, size_t *n)
{
    if (from->D == 0)
        return;
    to->dimensions = (uint32_t)from->D;
    to->dtype = (uint32_t)from->dtype;
    to->scale = from->scale;
    to->bias = from->bias;
    *member = to;
    frames[(*n)++] = from->image;
    frames[(*n)++] = from->text;
}

enum status curator_take_model(const Reinforce__Curator__Model *from, const char *images,
                               const char *texts, size_t B, struct curator_frames *frames,
                               struct curator_model *to, struct error *err)
{
    size_t row_bytes;
    enum status st;

    if (from == NULL)
        return ST_OK;
    st = curator_check_range("a model's dimensions", from->dimensions, 1, CURATOR_MAX_DIMENSIONS,
                             err);
    if (st == ST_OK)
        st = curator_check_range("a model's dtype", from->dtype, CURATOR_F32, CURATOR_BF16, err);
    if (st != ST_OK)
        return st;
    to->D = from->dimensions;
    to->dtype = (enum curator_dtype)from->dtype;
    to->scale = from->scale;
    to->bias = from->bias;
    row_bytes = to->D * curator_dtype_bytes(to->dtype);
    st = curator_take_frame(frames, images, B, row_bytes, &to->image, err);
    return st == ST_OK ? curator_take_frame(frames, texts, B, row_bytes, &to->text, err) : st;
}
