#include "reinforce/base/clock.h"
#include "storage/format/dataset_stream.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdlib.h>

enum { SIZE = 100000, BLOCK = 4096, MAX_READS = 4096, DEADLINE_MS = 20000 };

/* A remote store of one object, which notes what it is asked for. */
struct far {
    struct object_store base;
    const uint8_t *bytes;
    uint64_t fail_at;     /* a read from here fails, once */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t asked;
    uint64_t offsets[MAX_READS];
    size_t n;
};

static struct far *self(struct object_store *s)
{
    return (struct far *)(void *)s;
}

static enum status far_head(struct object_store *s, const char *key, struct object_info *info,
                            struct error *err)
{
    (void)s, (void)key, (void)err;
    info->bytes = SIZE;
    return ST_OK;
}

static enum status far_read(struct object_store *s, const char *key, uint64_t offset, size_t len,
                            void *out, struct error *err)
{
    struct far *far = self(s);
    bool fail;

    (void)key;
    (void)pthread_mutex_lock(&far->lock);
    assert_true(far->n < MAX_READS);
    far->offsets[far->n++] = offset;
    fail = offset == far->fail_at;
    if (fail)
        far->fail_at = UINT64_MAX;
    (void)pthread_cond_broadcast(&far->asked);
    (void)pthread_mutex_unlock(&far->lock);
    if (fail)
        return error_set(err, ST_UNAVAILABLE, "lost at %llu", (unsigned long long)offset);
    memcpy(out, far->bytes + offset, len);
    return ST_OK;
}

static const struct object_store_ops far_ops = {
    .scheme = "far", .remote = true, .head = far_head, .read_range = far_read};

static uint8_t bytes[SIZE];

static void far_init(struct far *far, uint64_t fail_at)
{
    *far = (struct far){.base = {.ops = &far_ops}, .bytes = bytes, .fail_at = fail_at};
    (void)pthread_mutex_init(&far->lock, NULL);
    (void)pthread_cond_init(&far->asked, NULL);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
}

static void far_release(struct far *far)
{
    (void)pthread_cond_destroy(&far->asked);
    (void)pthread_mutex_destroy(&far->lock);
}

/* Waits until number `i` of the reads is asked for; its offset. */
static uint64_t wait_for(struct far *far, size_t i)
{
    int64_t until_ms = clock_wall_ms() + DEADLINE_MS;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000)};
    uint64_t offset;

    (void)pthread_mutex_lock(&far->lock);
    while (far->n <= i)
        if (pthread_cond_timedwait(&far->asked, &far->lock, &until) != 0)
            fail_msg("read %zu is not asked for", i);
    offset = far->offsets[i];
    (void)pthread_mutex_unlock(&far->lock);
    return offset;
}

static void the_next_block_is_asked_for_before_it_is_needed(void **state)
{
    struct dataset_stream stream;
    struct far far;
    uint8_t got[BLOCK];
    struct error err = {0};

    (void)state;
    far_init(&far, UINT64_MAX);
    assert_ok(dataset_stream_open(&stream, &far.base, "o", BLOCK, &err));
    assert_ok(dataset_stream_read(&stream, 0, 10, got, &err));
    assert_int_equal(far.n, 1); /* it may be all that is wanted */
    assert_ok(dataset_stream_read(&stream, 10, BLOCK - 1, got, &err));
    assert_int_equal(wait_for(&far, 1), BLOCK);
    assert_int_equal(wait_for(&far, 2), 2 * BLOCK); /* nobody has needed it yet */
    assert_memory_equal(got, bytes + 10, BLOCK - 1);
    dataset_stream_close(&stream);
    far_release(&far);
}

static void steps_and_jumps_give_the_objects_bytes(void **state)
{
    struct dataset_stream stream;
    struct far far;
    uint8_t *got = malloc(SIZE);
    uint64_t at = 0;
    uint32_t x = 1;
    struct error err = {0};

    (void)state;
    assert_non_null(got);
    far_init(&far, UINT64_MAX);
    assert_ok(dataset_stream_open(&stream, &far.base, "o", BLOCK, &err));
    for (int i = 0; i < 2000; i++) {
        size_t len;

        x = x * 1664525u + 1013904223u;
        if (x >> 28 == 0) /* now and then somewhere else */
            at = x % SIZE;
        len = (size_t)MIN((uint64_t)(x >> 8) % (2 * BLOCK), SIZE - at);
        assert_ok(dataset_stream_read(&stream, at, len, got, &err));
        assert_memory_equal(got, bytes + at, len);
        at = at + len == SIZE ? 0 : at + len;
    }
    dataset_stream_close(&stream);
    far_release(&far);
    free(got);
}

static void a_block_that_failed_ahead_fails_when_it_is_needed_and_may_come_again(void **state)
{
    struct dataset_stream stream;
    struct far far;
    uint8_t got[3 * BLOCK];
    struct error err = {0};

    (void)state;
    far_init(&far, 2 * BLOCK);
    assert_ok(dataset_stream_open(&stream, &far.base, "o", BLOCK, &err));
    assert_ok(dataset_stream_read(&stream, 0, 10, got, &err));
    assert_ok(dataset_stream_read(&stream, 10, BLOCK - 1, got, &err));
    assert_int_equal(wait_for(&far, 2), 2 * BLOCK);
    assert_status(dataset_stream_read(&stream, BLOCK + 9, BLOCK - 1, got, &err), ST_UNAVAILABLE);
    assert_string_equal(err.message, "lost at 8192");
    assert_ok(dataset_stream_read(&stream, BLOCK + 9, BLOCK - 1, got, &err));
    assert_memory_equal(got, bytes + BLOCK + 9, BLOCK - 1);
    dataset_stream_close(&stream);
    far_release(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_block_is_asked_for_before_it_is_needed),
        cmocka_unit_test(steps_and_jumps_give_the_objects_bytes),
        cmocka_unit_test(a_block_that_failed_ahead_fails_when_it_is_needed_and_may_come_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
