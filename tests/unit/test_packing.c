/* base64, deflate and gzip over whole buffers. */
#include "reinforce/base/deflate.h"
#include "reinforce/base/philox.h"
#include "storage/format/base64.h"
#include "tests/support/test.h"

static void base64_is_that_of_rfc_4648(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xbf", "+/+/"},
    };
    struct byte_buf buf;
    struct error err = {0};

    (void)state;
    byte_buf_init(&buf, 1 << 10);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        byte_buf_reset(&buf);
        assert_ok(base64_encode(bytes_of_string(cases[i][0]), &buf, &err));
        assert_true(bytes_equal(byte_buf_view(&buf), bytes_of_string(cases[i][1])));
        byte_buf_reset(&buf);
        assert_ok(base64_decode(bytes_of_string(cases[i][1]), &buf, &err));
        assert_true(bytes_equal(byte_buf_view(&buf), bytes_of_string(cases[i][0])));
    }
    byte_buf_release(&buf);
}

static void text_that_is_not_base64_is_refused_and_nothing_is_added(void **state)
{
    static const char *const cases[] = {"Z",      "Zg",   "Zg=",  "Zg===", "Zg=v", "=m9v",
                                        "Zm9v\n", "Zm 9", "Zm-_", "Zh==",  "Zm9=", "===="};
    struct byte_buf buf;
    struct error err = {0};

    (void)state;
    byte_buf_init(&buf, 1 << 10);
    assert_ok(byte_buf_append(&buf, "kept", 4, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (base64_decode(bytes_of_string(cases[i]), &buf, &err) != ST_CORRUPT)
            fail_msg("\"%s\" is taken for base64", cases[i]);
        assert_int_equal(buf.len, 4);
    }
    byte_buf_release(&buf);
}

/* Noise, runs and nothing; sizes around zlib's and our own steps. */
static void what_is_packed_comes_back(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 4095, 4096, 4097, 300000};
    struct byte_buf in, packed, out;
    struct philox rng;
    struct error err = {0};

    (void)state;
    philox_init(&rng, 3, bytes_of_string("packing"), PHILOX_STAGE_SELECT, 0);
    byte_buf_init(&in, 1 << 20);
    byte_buf_init(&packed, 1 << 20);
    byte_buf_init(&out, 1 << 20);
    for (size_t i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
        size_t size = sizes[i / 2];
        uint8_t *to;

        byte_buf_reset(&in);
        byte_buf_reset(&packed);
        byte_buf_reset(&out);
        assert_ok(byte_buf_extend(&in, size, &to, &err));
        for (size_t k = 0; k < size; k++)
            to[k] = i % 2 == 0 ? (uint8_t)philox_u32(&rng) : 0;
        assert_ok(gzip_compress(byte_buf_view(&in), &packed, &err));
        assert_ok(gzip_decompress(byte_buf_view(&packed), size, &out, &err));
        assert_true(bytes_equal(byte_buf_view(&in), byte_buf_view(&out)));
        assert_memory_equal(packed.data + 4, "\0\0\0\0", 4); /* time 0 */
        if (size > 0) {
            byte_buf_reset(&out);
            assert_status(gzip_decompress(byte_buf_view(&packed), size - 1, &out, &err),
                          ST_CORRUPT);
            assert_non_null(strstr(err.message, "allowed"));
            assert_int_equal(out.len, 0);
        }
        byte_buf_reset(&packed);
        byte_buf_reset(&out);
        assert_ok(deflate_raw(byte_buf_view(&in), &packed, &err));
        assert_ok(byte_buf_extend(&out, size + 1, &to, &err));
        assert_ok(inflate_raw(byte_buf_view(&packed), to, size, &err));
        if (size > 0)
            assert_memory_equal(to, in.data, size);
        assert_status(inflate_raw(byte_buf_view(&packed), to, size + 1, &err), ST_CORRUPT);
        if (size > 0)
            assert_status(inflate_raw(byte_buf_view(&packed), to, size - 1, &err), ST_CORRUPT);
        packed.len--;
        assert_status(inflate_raw(byte_buf_view(&packed), to, size, &err), ST_CORRUPT);
    }
    byte_buf_release(&out);
    byte_buf_release(&packed);
    byte_buf_release(&in);
}

static void gzip_members_follow_each_other_and_nothing_else_does(void **state)
{
    struct byte_buf packed, out;
    struct error err = {0};
    size_t one;

    (void)state;
    byte_buf_init(&packed, 1 << 10);
    byte_buf_init(&out, 1 << 10);
    assert_ok(gzip_compress(bytes_of_string("ab"), &packed, &err));
    one = packed.len;
    assert_ok(gzip_compress(bytes_of_string("cd"), &packed, &err));
    assert_ok(gzip_decompress(byte_buf_view(&packed), 4, &out, &err));
    assert_true(bytes_equal(byte_buf_view(&out), bytes_of_string("abcd")));
    byte_buf_reset(&out);
    assert_status(gzip_decompress(byte_buf_view(&packed), 3, &out, &err), ST_CORRUPT);
    for (size_t len = 0; len < packed.len; len++) /* cut anywhere but between the members */
        if (len != one)
            assert_status(gzip_decompress(bytes_view_of(packed.data, len), 4, &out, &err),
                          ST_CORRUPT);
    packed.data[one] = 'x';
    assert_status(gzip_decompress(byte_buf_view(&packed), 4, &out, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "follow the end"));
    packed.len = one;
    packed.data[one - 5] ^= 1; /* the checksum */
    assert_status(gzip_decompress(byte_buf_view(&packed), 4, &out, &err), ST_CORRUPT);
    assert_int_equal(out.len, 0);
    byte_buf_release(&out);
    byte_buf_release(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_that_of_rfc_4648),
        cmocka_unit_test(text_that_is_not_base64_is_refused_and_nothing_is_added),
        cmocka_unit_test(what_is_packed_comes_back),
        cmocka_unit_test(gzip_members_follow_each_other_and_nothing_else_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
