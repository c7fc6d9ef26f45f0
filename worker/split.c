#include "worker/split.h"

/* Positions of every stride-th sample: when there are too many, every second is kept. */
enum { MAX_MARKS = 8192 };

struct marks {
    struct dataset_position at[MAX_MARKS];
    size_t n;
    uint64_t stride;
};

static void mark(struct marks *marks, const struct dataset_position *position, uint64_t passed)
{
    if (passed % marks->stride != 0)
        return;
    if (marks->n == MAX_MARKS) {
        for (size_t i = 0; i < MAX_MARKS / 2; i++)
            marks->at[i] = marks->at[2 * i];
        marks->n = MAX_MARKS / 2;
        marks->stride *= 2;
    }
    if (passed % marks->stride == 0)
        marks->at[marks->n++] = *position;
}

enum status split_find(struct dataset_reader *reader, uint64_t end_index, struct split_point *out,
                       struct error *err)
{
    struct marks marks = {.stride = 1};
    struct dataset_position position;
    uint64_t begin;
    enum status st = ST_OK;

    dataset_reader_tell(reader, &position);
    begin = position.index;
    while (st == ST_OK && (end_index == 0 || position.index < end_index)) {
        mark(&marks, &position, position.index - begin);
        st = dataset_reader_skip(reader, err);
        if (st == ST_OK)
            dataset_reader_tell(reader, &position);
    }
    if (st != ST_OK && st != ST_END)
        return st;
    *out = (struct split_point){.n_left = position.index - begin};
    if (out->n_left > 0) {
        const struct dataset_position *middle = &marks.at[out->n_left / 2 / marks.stride];

        out->offset = middle->offset;
        out->index = middle->index;
    }
    return ST_OK;
}
