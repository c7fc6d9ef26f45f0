#include "tests/support/flaky_store.h"

static struct flaky_store *own(struct object_store *s)
{
    return (struct flaky_store *)(void *)s;
}

static enum status flaky_head(struct object_store *s, const char *key, struct object_info *info,
                              struct error *err)
{
    return object_store_head(own(s)->behind, key, info, err);
}

static enum status flaky_read_range(struct object_store *s, const char *key, uint64_t offset,
                                    size_t len, void *out, struct error *err)
{
    return object_store_read_range(own(s)->behind, key, offset, len, out, err);
}

static enum status flaky_list(struct object_store *s, const char *prefix, object_list_fn *each,
                              void *ctx, struct error *err)
{
    return object_store_list(own(s)->behind, prefix, each, ctx, err);
}

/* True when this change must fail; *skip when it must not be made either. */
static bool must_fail(struct flaky_store *store, bool *skip)
{
    bool fail = atomic_fetch_add(&store->n_changes, 1) + 1 == store->fail_at;

    *skip = fail && !store->after;
    return fail;
}

static enum status verdict(enum status done, bool fail, const char *key, struct error *err)
{
    return fail ? error_set(err, ST_UNAVAILABLE, "no answer about \"%s\"", key) : done;
}

static enum status flaky_put(struct object_store *s, const char *key, struct bytes_view body,
                             bool only_new, struct object_written *written, struct error *err)
{
    bool skip, fail = must_fail(own(s), &skip);
    struct object_store *behind = own(s)->behind;
    enum status st = skip       ? ST_OK
                     : only_new ? object_store_put_new(behind, key, body, written, err)
                                : object_store_put(behind, key, body, written, err);

    return verdict(st, fail, key, err);
}

static enum status flaky_join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                              struct bytes_view tail, const char *key,
                              struct object_written *written, struct error *err)
{
    bool skip, fail = must_fail(own(s), &skip);
    enum status st =
        skip ? ST_OK
             : object_store_join(own(s)->behind, part_keys, n_parts, tail, key, written, err);

    return verdict(st, fail, key, err);
}

static enum status flaky_remove(struct object_store *s, const char *key, struct error *err)
{
    bool skip, fail = must_fail(own(s), &skip);
    enum status st = skip ? ST_OK : object_store_remove(own(s)->behind, key, err);

    return verdict(st, fail, key, err);
}

static void flaky_close(struct object_store *s)
{
    (void)s;
}

/* Made by a function of its own, so never opened by a URL. */
static const struct object_store_ops object_store_flaky = {
    .scheme = "flaky",
    .head = flaky_head,
    .read_range = flaky_read_range,
    .put = flaky_put,
    .join = flaky_join,
    .list = flaky_list,
    .remove = flaky_remove,
    .close = flaky_close,
};

void flaky_store_init(struct flaky_store *store, struct object_store *behind, int fail_at,
                      bool after)
{
    *store = (struct flaky_store){
        .base = {.ops = &object_store_flaky}, .behind = behind, .fail_at = fail_at, .after = after};
}
