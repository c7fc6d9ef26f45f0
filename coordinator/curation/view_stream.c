/* A view's shard as a stream; part of view.h. */
#include "coordinator/curation/view.h"
#include "storage/format/tar.h"

enum { TAR_BUFFER_BYTES = 4 << 20, COPY_BYTES = 4 << 20 };

/* What the copying of a shard is at. */
struct copy {
    const struct view_shard *shard;
    struct object_store *dataset;
    view_piece_fn *each;
    void *ctx;
    uint64_t begin; /* of the record that is being passed */
    uint64_t written;
    size_t n_records; /* passed or begun */
    uint8_t *buffer;  /* [COPY_BYTES] */
};

/* The record that ends here was [begin, end). */
static enum status end_record(struct copy *copy, uint64_t end, struct error *err)
{
    enum status st = ST_OK;

    if (copy->n_records == 0 || !view_shard_keeps(copy->shard, copy->n_records - 1))
        return ST_OK;
    for (uint64_t at = copy->begin; at < end && st == ST_OK;) {
        size_t len = (size_t)MIN(end - at, (uint64_t)COPY_BYTES);

        st = object_store_read_range(copy->dataset, copy->shard->object_key, at, len, copy->buffer,
                                     err);
        if (st == ST_OK)
            st = copy->each(copy->ctx, bytes_view_of(copy->buffer, len), err);
        at += len;
    }
    copy->written += end - copy->begin;
    return st;
}

/* A member's sample: all before the first dot of its base name. */
static struct bytes_view key_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *dot = strchr(slash != NULL ? slash : name, '.');

    return bytes_view_of(name, dot != NULL ? (size_t)(dot - name) : strlen(name));
}

static enum status copy_records(struct copy *copy, struct tar_reader *tar, struct error *err)
{
    char key[TAR_MAX_NAME + 1];
    struct bytes_view known = {NULL, 0};
    struct tar_member member;
    uint64_t end = 0;
    enum status st;

    while ((st = tar_reader_next(tar, &member, err)) == ST_OK) {
        struct bytes_view is = key_of(member.name);

        if (copy->n_records == 0 || !bytes_equal(known, is)) {
            st = end_record(copy, member.offset, err);
            if (st != ST_OK)
                return st;
            memcpy(key, is.data, is.len);
            known = bytes_view_of(key, is.len);
            copy->begin = member.offset;
            copy->n_records++;
        }
        end = member.body + (member.bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
    return st == ST_END ? end_record(copy, end, err) : st;
}

enum status view_stream_shard(const struct view_shard *shard, struct object_store *dataset,
                              view_piece_fn *each, void *ctx, struct error *err)
{
    struct copy copy = {.shard = shard, .dataset = dataset, .each = each, .ctx = ctx};
    struct tar_reader *tar = NULL;
    struct byte_buf tail;
    struct arena arena;
    bool is_open = false;
    enum status st;

    arena_init(&arena, (size_t)COPY_BYTES + (1 << 20));
    byte_buf_init(&tail, 2 * TAR_RECORD);
    st = arena_alloc(&arena, COPY_BYTES, &copy.buffer, err);
    if (st == ST_OK)
        st = arena_calloc(&arena, 1, sizeof *tar, &tar, err);
    if (st == ST_OK && dataset_format_detect(shard->object_key, (struct bytes_view){NULL, 0}) !=
                           dataset_format_by_name("webdataset"))
        st = error_set(err, ST_INVALID, "only shards that are tars can be streamed");
    if (st == ST_OK) {
        st = tar_reader_open(tar, dataset, shard->object_key, TAR_BUFFER_BYTES, err);
        is_open = st == ST_OK;
    }
    if (st == ST_OK)
        st = copy_records(&copy, tar, err);
    if (st == ST_OK && copy.n_records != shard->n_records)
        st = error_set(err, ST_CORRUPT, "holds %zu records, the view says %zu", copy.n_records,
                       shard->n_records);
    if (st == ST_OK)
        st = tar_write_tail(copy.written, &tail, err);
    if (st == ST_OK)
        st = each(ctx, byte_buf_view(&tail), err);
    if (is_open)
        tar_reader_close(tar);
    byte_buf_release(&tail);
    arena_release(&arena);
    if (st != ST_OK)
        error_add_context(err, "shard %s", shard->object_key);
    return st;
}
