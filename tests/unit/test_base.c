#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/json.h"
#include "reinforce/base/parse.h"
#include "reinforce/base/philox.h"
#include "reinforce/base/queue.h"
#include "reinforce/base/scratch.h"
#include "reinforce/base/sha256.h"
#include "reinforce/base/unique.h"
#include "reinforce/base/utf8.h"
#include "tests/support/test.h"

#include <pthread.h>

static void status_is_retryable_follows_the_cause(void **state)
{
    static const struct {
        const char *name;
        enum status code;
        bool want;
    } cases[] = {
        {"a dead peer may come back", ST_UNAVAILABLE, true},
        {"back-pressure clears", ST_FULL, true},
        {"bad bytes stay bad", ST_CORRUPT, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (status_is_retryable(cases[i].code) != cases[i].want)
            fail_msg("case %zu: %s", i, cases[i].name);
}

static void error_context_reads_from_outer_to_inner(void **state)
{
    struct error err = {0};

    (void)state;
    assert_status(error_set(&err, ST_CORRUPT, "checksum is %d", 7), ST_CORRUPT);
    error_add_context(&err, "sample %d", 42);
    error_add_context(&err, "shard %s", "0001");
    assert_string_equal(err.context, "shard 0001: sample 42");
    assert_string_equal(err.message, "checksum is 7");
}

static void an_arena_rewinds_to_a_mark_across_chunks(void **state)
{
    struct arena arena, mark;
    struct error err = {0};
    unsigned char *kept, *first = NULL, *again;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(arena_alloc(&arena, 100, &kept, &err));
    mark = arena;
    for (int round = 0; round < 3; round++) {
        assert_ok(arena_alloc(&arena, 1000, &again, &err));
        if (round == 0)
            first = again;
        assert_ptr_equal(again, first);
        assert_ok(arena_alloc(&arena, 200000, &again, &err)); /* a second chunk */
        arena_rewind(&arena, &mark);
        assert_int_equal(arena.used_bytes, mark.used_bytes);
    }
    assert_ok(arena_alloc(&arena, 1, &again, &err));
    assert_ptr_equal(again, first);
    assert_true(again >= kept + 100);
    arena_release(&arena);
}

static void arena_allocations_are_aligned_apart_and_bounded(void **state)
{
    struct arena arena;
    struct error err = {0};
    unsigned char *a, *b, *c;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(arena_alloc(&arena, 3, &a, &err));
    assert_ok(arena_alloc(&arena, 200000, &b, &err));
    assert_int_equal((uintptr_t)a % ARENA_ALIGN, 0);
    assert_int_equal((uintptr_t)b % ARENA_ALIGN, 0);
    assert_status(arena_alloc(&arena, 1 << 20, &c, &err), ST_NO_MEMORY);
    assert_null(c);
    assert_status(arena_calloc(&arena, SIZE_MAX / 2, 3, &c, &err), ST_NO_MEMORY);
    arena_reset(&arena);
    assert_ok(arena_calloc(&arena, 100, 4, &c, &err));
    assert_ptr_equal(a, c);
    assert_true(arena.peak_bytes >= 200003);
    arena_release(&arena);
}

static void format_f64_prints_the_shortest_round_trip(void **state)
{
    static const struct {
        double value;
        const char *want;
    } cases[] = {
        {0.0, "0.0"},
        {7.0, "7.0"},
        {178.5, "178.5"},
        {(double)0.09f, "0.09000000357627869"},
        {-30.45317268371582, "-30.45317268371582"},
        {1e-7, "1e-07"},
        {1e22, "1e+22"},
        {123456789.0, "123456789.0"},
        {0.1, "0.1"},
        {5e-324, "5e-324"},
    };
    char text[32];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        format_f64(cases[i].value, text);
        assert_string_equal(text, cases[i].want);
    }
}

static void json_survives_reading_and_writing(void **state)
{
    static const char text[] =
        "{\"b\": [1, 2.5, null, true], \"a\": \"x\\u00e9\\ud83d\\ude00\\n\\\"\"}";
    struct byte_buf buf;
    struct error err = {0};
    json_t *value;

    (void)state;
    byte_buf_init(&buf, 4096);
    assert_ok(json_parse(bytes_of_string(text), &value, &err));
    assert_ok(json_write(value, &buf, &err));
    assert_int_equal(buf.len, strlen(text));
    assert_memory_equal(buf.data, text, buf.len);
    json_decref(value);
    assert_status(json_parse(bytes_of_string("{\"a\": 1, \"a\": 2}"), &value, &err), ST_CORRUPT);
    assert_status(json_parse(bytes_of_string("[1] x"), &value, &err), ST_CORRUPT);
    byte_buf_release(&buf);
}

static void parse_refuses_junk_and_out_of_range(void **state)
{
    struct error err = {0};
    int64_t i;
    double d;

    (void)state;
    assert_ok(parse_i64("-12", -100, 100, &i, &err));
    assert_int_equal(i, -12);
    assert_status(parse_i64("12x", 0, 100, &i, &err), ST_INVALID);
    assert_status(parse_i64(" 12", 0, 100, &i, &err), ST_INVALID);
    assert_status(parse_i64("", 0, 100, &i, &err), ST_INVALID);
    assert_status(parse_i64("99999999999999999999", 0, INT64_MAX, &i, &err), ST_INVALID);
    assert_ok(parse_f64("0.5", 0, 1, &d, &err));
    assert_status(parse_f64("nan", 0, 1, &d, &err), ST_INVALID);
    assert_status(parse_f64("1.5", 0, 1, &d, &err), ST_INVALID);
}

/* Random123's known-answer vectors for philox4x32-10. */
static void philox_matches_the_published_vectors(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t out[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        philox_4x32_10(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

static void philox_streams_depend_on_every_part_of_the_key(void **state)
{
    struct philox base, other;

    (void)state;
    philox_init(&base, 1, bytes_of_string("a"), PHILOX_STAGE_AUGMENT, 0);
    philox_init(&other, 2, bytes_of_string("a"), PHILOX_STAGE_AUGMENT, 0);
    assert_int_not_equal(philox_u32(&base), philox_u32(&other));
    philox_init(&base, 1, bytes_of_string("a"), PHILOX_STAGE_AUGMENT, 0);
    philox_init(&other, 1, bytes_of_string("b"), PHILOX_STAGE_AUGMENT, 0);
    assert_int_not_equal(philox_u32(&base), philox_u32(&other));
    philox_init(&base, 1, bytes_of_string("a"), PHILOX_STAGE_AUGMENT, 0);
    philox_init(&other, 1, bytes_of_string("a"), PHILOX_STAGE_AUGMENT, 1);
    assert_int_not_equal(philox_u32(&base), philox_u32(&other));
    for (int i = 0; i < 1000; i++)
        assert_true(philox_below(&base, 7) < 7);
}

static void utf8_replaces_maximal_subparts(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\x41\xF0\x9F\x98\x80\xFF\xED\xA0\x80";
    static const uint32_t want[] = {'a',    0xE9,   0xFFFD, 'A',   0x1F600,
                                    0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD};
    struct bytes_view view = bytes_of_string(text);
    size_t pos = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_int_equal(utf8_next(view, &pos), want[i]);
    assert_int_equal(pos, view.len);
    assert_false(utf8_is_valid(view));
    assert_true(utf8_is_valid(bytes_of_string("\xF0\x9F\x98\x80")));
}

static void *push_hundred(void *arg)
{
    struct queue *queue = arg;

    for (intptr_t i = 1; i <= 100; i++)
        if (queue_push(queue, (void *)i, 10) != ST_OK)
            break;
    queue_close(queue);
    return NULL;
}

static void queue_keeps_order_and_ends_after_close(void **state)
{
    struct queue *queue;
    struct error err = {0};
    pthread_t thread;
    intptr_t want = 1;
    void *item;

    (void)state;
    assert_ok(queue_create(4, 25, &queue, &err));
    assert_int_equal(pthread_create(&thread, NULL, push_hundred, queue), 0);
    while (queue_pop(queue, &item) == ST_OK)
        assert_int_equal((intptr_t)item, want++);
    assert_int_equal(want, 101);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_status(queue_push(queue, &want, 1), ST_CANCELLED);
    queue_destroy(&queue);
}

static void sha256_of_abc_is_the_standard_vector(void **state)
{
    char hex[SHA256_HEX_LEN + 1];

    (void)state;
    sha256_of(bytes_of_string("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void a_sleep_lasts_until_its_end_or_a_stop(void **state)
{
    atomic_bool stop = true;
    int64_t begun_ms = clock_monotonic_ms();

    (void)state;
    clock_sleep_ms(3600000, &stop); /* ctest would say if it did not come back */
    atomic_store(&stop, false);
    clock_sleep_ms(20, &stop);
    clock_sleep_ms(20, NULL);
    assert_true(clock_monotonic_ms() - begun_ms >= 40);
}

static void scratch_is_zeroed_and_leaves_no_file(void **state)
{
    struct scratch scratch;
    struct error err = {0};
    unsigned char *bytes;

    (void)state;
    assert_ok(scratch_open(&scratch, 100000, &err));
    bytes = scratch.memory;
    for (size_t i = 0; i < scratch.bytes; i++)
        assert_int_equal(bytes[i], 0);
    bytes[99999] = 1;
    scratch_close(&scratch);
    assert_null(scratch.memory);
    scratch_close(&scratch);
    assert_status(scratch_open(&scratch, (size_t)1 << 60, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.message, "TMPDIR"));
}

static void unique_texts_are_hexadecimal_and_differ(void **state)
{
    char a[UNIQUE_TEXT_LEN + 1], b[UNIQUE_TEXT_LEN + 1];

    (void)state;
    unique_text(a);
    unique_text(b);
    assert_int_equal(strspn(a, "0123456789abcdef"), UNIQUE_TEXT_LEN);
    assert_int_equal(a[UNIQUE_TEXT_LEN], '\0');
    assert_string_not_equal(a, b);
}

static void numbers_are_little_endian_bytes(void **state)
{
    const uint8_t want[8] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    uint8_t bytes[8];

    (void)state;
    bytes_put_u64(bytes, UINT64_C(0x0123456789abcdef));
    assert_memory_equal(bytes, want, sizeof want);
    assert_true(bytes_get_u64(want) == UINT64_C(0x0123456789abcdef));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_is_retryable_follows_the_cause),
        cmocka_unit_test(error_context_reads_from_outer_to_inner),
        cmocka_unit_test(arena_allocations_are_aligned_apart_and_bounded),
        cmocka_unit_test(an_arena_rewinds_to_a_mark_across_chunks),
        cmocka_unit_test(format_f64_prints_the_shortest_round_trip),
        cmocka_unit_test(json_survives_reading_and_writing),
        cmocka_unit_test(parse_refuses_junk_and_out_of_range),
        cmocka_unit_test(philox_matches_the_published_vectors),
        cmocka_unit_test(philox_streams_depend_on_every_part_of_the_key),
        cmocka_unit_test(utf8_replaces_maximal_subparts),
        cmocka_unit_test(queue_keeps_order_and_ends_after_close),
        cmocka_unit_test(sha256_of_abc_is_the_standard_vector),
        cmocka_unit_test(a_sleep_lasts_until_its_end_or_a_stop),
        cmocka_unit_test(scratch_is_zeroed_and_leaves_no_file),
        cmocka_unit_test(unique_texts_are_hexadecimal_and_differ),
        cmocka_unit_test(numbers_are_little_endian_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
