#include "storage/format/tar.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 16 << 20, MAX_MEMBERS = 32 };

/* An archive in memory, and what a reader makes of it. */
struct fixture {
    struct byte_buf bytes;
    size_t buffer_bytes; /* of the reader */
    char names[MAX_MEMBERS][TAR_MAX_NAME + 1];
    uint64_t sizes[MAX_MEMBERS], offsets[MAX_MEMBERS];
    bool sparse[MAX_MEMBERS];
    char first[MAX_MEMBERS]; /* first byte of each body */
    size_t n;
    enum status end;
    struct error err;
};

static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    byte_buf_init(&f->bytes, MAX_BYTES);
    f->buffer_bytes = DATASET_STREAM_BYTES;
    return f;
}

static void fixture_free(struct fixture *f)
{
    byte_buf_release(&f->bytes);
    free(f);
}

static void checksum(uint8_t *block)
{
    unsigned sum = 0;

    memset(block + 148, ' ', 8);
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

/* A header as other programs write it; `size` is the text of the size field. */
static uint8_t *add_header(struct fixture *f, const char *name, char type, const char *size,
                           const char *magic)
{
    struct error err = {0};
    uint8_t *block;

    assert_ok(byte_buf_extend(&f->bytes, TAR_BLOCK, &block, &err));
    memset(block, 0, TAR_BLOCK);
    memcpy(block, name, MIN(strlen(name), (size_t)100));
    memcpy(block + 100, "0000644", 8);
    memcpy(block + 124, size, strlen(size));
    memcpy(block + 136, "14712345670", 11);
    block[156] = (uint8_t)type;
    memcpy(block + 257, magic, 8);
    checksum(block);
    return block;
}

static void add_body(struct fixture *f, const void *body, size_t len)
{
    static const uint8_t zeros[TAR_BLOCK];
    struct error err = {0};

    assert_ok(byte_buf_append(&f->bytes, body, len, &err));
    assert_ok(byte_buf_append(&f->bytes, zeros, (TAR_BLOCK - len % TAR_BLOCK) % TAR_BLOCK, &err));
}

static void add(struct fixture *f, const char *name, char type, const char *body)
{
    char size[13];

    (void)snprintf(size, sizeof size, "%011zo", strlen(body));
    (void)add_header(f, name, type, size, "ustar\00000");
    add_body(f, body, strlen(body));
}

static void add_zero_blocks(struct fixture *f, size_t n)
{
    struct error err = {0};
    uint8_t *to;

    assert_ok(byte_buf_extend(&f->bytes, n * TAR_BLOCK, &to, &err));
    memset(to, 0, n * TAR_BLOCK);
}

static void read_all(struct fixture *f)
{
    struct object_store *store;
    struct object_written written;
    struct tar_reader *reader = calloc(1, sizeof *reader);
    struct tar_member member;
    struct error err = {0};

    assert_non_null(reader);
    f->n = 0;
    assert_ok(object_store_open("mem:tar", &store, &err));
    assert_ok(object_store_put(store, "t", byte_buf_view(&f->bytes), &written, &err));
    assert_ok(tar_reader_open(reader, store, "t", f->buffer_bytes, &err));
    while ((f->end = tar_reader_next(reader, &member, &f->err)) == ST_OK) {
        uint8_t *body = calloc(1, (size_t)member.bytes + 1);

        assert_true(f->n < MAX_MEMBERS);
        assert_non_null(body);
        assert_ok(tar_reader_body(reader, &member, body, &err));
        (void)snprintf(f->names[f->n], sizeof f->names[0], "%s", member.name);
        f->first[f->n] = (char)body[0];
        f->sizes[f->n] = member.bytes;
        f->sparse[f->n] = member.sparse;
        f->offsets[f->n++] = member.offset;
        free(body);
    }
    assert_status(tar_reader_next(reader, &member, &err), ST_END);
    tar_reader_close(reader);
    object_store_close(&store);
    free(reader);
}

static void other_peoples_archives_are_read(void **state) /* DR 3 */
{
    struct fixture *f = fixture_new();
    uint8_t *block;
    char longest[300], gnu[301];

    (void)state;
    add(f, "pax_global_header", 'g', "52 comment=0123456789012345678901234567890123456789\n");
    add(f, "folder/", '5', "");
    add(f, "a.jpg", '0', "A");
    add(f, "old.jpg", '\0', "B"); /* version 7 */
    add(f, "oldfolder/", '\0', "");
    add(f, "./PaxHeaders/b", 'x', "27 mtime=1700000000.123456\n14 path=b.jpg\n");
    add(f, "replaced", '0', "C");
    block = add_header(f, "d.txt", '0', "00000000001", "ustar\00000");
    memcpy(block + 345, "some/prefix", 11);
    checksum(block);
    add_body(f, "D", 1);
    memset(longest, 'e', sizeof longest);
    memcpy(longest + 200, ".txt", 5);
    (void)snprintf(gnu, sizeof gnu, "%s", longest);
    add(f, "././@LongLink", 'K', "the/name/of/a/link");
    (void)add_header(f, "././@LongLink", 'L', "00000000315", "ustar  "); /* 205 with its NUL */
    add_body(f, gnu, 205);
    add(f, "eee", '0', "E");
    add(f, "link", '2', "");
    (void)add_header(f, "hard", '1', "00000001000", "ustar\00000"); /* a size, but no body */
    (void)add_header(f, "f.txt", '0', "\x80\0\0\0\0\0\0\0\0\0\0\1", "ustar  ");
    block = f->bytes.data + f->bytes.len - TAR_BLOCK; /* GNU's binary size, NULs and all */
    memset(block + 124, 0, 12);
    block[124] = 0x80;
    block[135] = 1;
    checksum(block);
    add_body(f, "F", 1);
    add(f, "x", 'x', "9 size=1\n");
    (void)add_header(f, "g.txt", '0', "00000000000", "ustar\00000"); /* PAX says the size */
    add_body(f, "G", 1);
    add_zero_blocks(f, 40);
    for (size_t i = 0; i < 2; i++) {
        f->buffer_bytes = i == 0 ? DATASET_STREAM_BYTES : 700;
        read_all(f);
        if (f->end != ST_END)
            fail_msg("%s", f->err.message);
        assert_int_equal(f->n, 7);
        assert_string_equal(f->names[0], "a.jpg");
        assert_string_equal(f->names[1], "old.jpg");
        assert_string_equal(f->names[2], "b.jpg");
        assert_string_equal(f->names[3], "some/prefix/d.txt");
        assert_string_equal(f->names[4], longest);
        assert_string_equal(f->names[5], "f.txt");
        assert_string_equal(f->names[6], "g.txt");
        for (size_t m = 0; m < f->n; m++) {
            assert_int_equal(f->first[m], "ABCDEFG"[m]);
            assert_int_equal(f->sizes[m], 1);
        }
        /* a member begins at its extended header: reading may start there */
        assert_int_equal(f->bytes.data[f->offsets[2] + 156], 'x');
    }
    fixture_free(f);
}

static void sparse_members_are_marked(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    add(f, "x", 'x', "22 GNU.sparse.major=1\n");
    add(f, "a.jpg", '0', "map and pieces");
    add(f, "b.jpg", '0', "whole");
    add(f, "c.jpg", 'S', "old GNU");
    read_all(f);
    assert_int_equal(f->n, 3);
    assert_true(f->sparse[0]);
    assert_false(f->sparse[1]);
    assert_true(f->sparse[2]);
    fixture_free(f);
}

static void a_lost_end_mark_is_no_error(void **state) /* DR 3 */
{
    struct fixture *f = fixture_new();

    (void)state;
    add(f, "a.jpg", '0', "A");
    read_all(f);
    assert_int_equal(f->end, ST_END);
    f->bytes.len -= 100; /* padding cut, body whole */
    read_all(f);
    assert_int_equal(f->end, ST_END);
    assert_int_equal(f->n, 1);
    fixture_free(f);
}

static void a_cut_archive_says_where(void **state) /* DR 3 */
{
    static const struct {
        const char *name;
        size_t keep;
        const char *want;
    } cases[] = {
        {"inside a body", 3 * TAR_BLOCK + 700, "it ends at byte 2236"},
        {"inside a header", 2 * TAR_BLOCK + 100,
         "it ends at byte 1124 inside a header that begins at 1024"},
        {"behind an extended header", 7 * TAR_BLOCK, "behind an extended header"},
    };
    struct fixture *f = fixture_new();
    char body[1001];

    (void)state;
    memset(body, 'x', 1000);
    body[1000] = '\0';
    add(f, "a.jpg", '0', "A");           /* blocks 0, 1 */
    add(f, "b.jpg", '0', body);          /* 2, 3, 4 */
    add(f, "x", 'x', "14 path=c.jpg\n"); /* 5, 6 */
    add(f, "c", '0', "C");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *cut = fixture_new();

        assert_status(byte_buf_append(&cut->bytes, f->bytes.data, cases[i].keep, &f->err), ST_OK);
        read_all(cut);
        assert_int_equal(cut->end, ST_CORRUPT);
        if (strstr(cut->err.message, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].name, cut->err.message);
        fixture_free(cut);
    }
    fixture_free(f);
}

static void damage_is_told_apart_from_an_end(void **state)
{
    static const struct {
        const char *name;
        size_t at;
        uint8_t value;
        const char *want;
    } cases[] = {
        {"a changed name", 2 * TAR_BLOCK, 'z', "header at byte 1024 is damaged"},
        {"a size that is no number", 2 * TAR_BLOCK + 130, 'q', "no readable size"},
        {"members behind the end mark", 9 * TAR_BLOCK + 5, 'q', "goes on at byte 4613"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = fixture_new();

        add(f, "a.jpg", '0', "A");
        add(f, "b.jpg", '0', "B");
        add_zero_blocks(f, 8);
        f->bytes.data[cases[i].at] = cases[i].value;
        if (i == 1)
            checksum(f->bytes.data + 2 * TAR_BLOCK);
        read_all(f);
        assert_int_equal(f->end, ST_CORRUPT);
        if (strstr(f->err.message, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].name, f->err.message);
        fixture_free(f);
    }
}

static void hostile_headers_are_refused(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *size, *body;
    } cases[] = {
        {"a body larger than the archive", '0', "77777777777", ""},
        {"an extended header of gigabytes", 'x', "17777777777", ""},
        {"a record longer than its header", 'x', "00000000016", "99 path=a.jpg\n"},
        {"a record without a length", 'x', "00000000016", "path=aaaa.jpg\n"},
        {"a record of length 0", 'x', "00000000016", "0 path=aa.jpg\n"},
        {"a record that ends early", 'x', "00000000016", "10 path=a.jpg\n"},
        {"a size that is no number", 'x', "00000000012", "10 size=a\n"},
        {"a size beyond all", 'x', "00000000042", "34 size=9999999999999999999999999\n"},
        {"a record without =", 'x', "00000000007", "7 path\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = fixture_new();

        (void)add_header(f, "a.jpg", cases[i].type, cases[i].size, "ustar\00000");
        add_body(f, cases[i].body, strlen(cases[i].body));
        add(f, "b.jpg", '0', "B");
        read_all(f);
        if (f->end != ST_CORRUPT || f->n != 0)
            fail_msg("%s: status %s, %zu members", cases[i].name, status_name(f->end), f->n);
        fixture_free(f);
    }
}

static void names_longer_than_the_limit_are_refused(void **state)
{
    struct fixture *f = fixture_new();
    char *body = malloc(TAR_MAX_NAME + 40);
    char size[13];
    int len;

    (void)state;
    assert_non_null(body);
    len =
        snprintf(body, TAR_MAX_NAME + 40, "%d path=%0*d\n", TAR_MAX_NAME + 13, TAR_MAX_NAME + 2, 7);
    assert_int_equal(len, TAR_MAX_NAME + 13);
    (void)snprintf(size, sizeof size, "%011o", (unsigned)len);
    (void)add_header(f, "x", 'x', size, "ustar\00000");
    add_body(f, body, (size_t)len);
    add(f, "b.jpg", '0', "B");
    read_all(f);
    assert_int_equal(f->end, ST_CORRUPT);
    assert_non_null(strstr(f->err.message, "longer than 4096"));
    free(body);
    fixture_free(f);
}

static void what_is_written_is_plain_ustar_and_reproducible(void **state) /* DR 4 */
{
    struct fixture *f = fixture_new();
    struct error err = {0};
    const uint8_t *h;
    size_t mark;

    (void)state;
    assert_ok(tar_write_begin(&f->bytes, "0a1b.jpg", &mark, &err));
    assert_ok(byte_buf_append(&f->bytes, "pixels", 6, &err));
    assert_ok(tar_write_end(&f->bytes, mark, &err));
    assert_ok(tar_write_tail(f->bytes.len, &f->bytes, &err));
    assert_int_equal(f->bytes.len, TAR_RECORD);
    h = f->bytes.data;
    assert_memory_equal(h, "0a1b.jpg\0", 9);
    assert_memory_equal(h + 100, "0000444\0000000000\0000000000\000", 24);
    assert_memory_equal(h + 124, "00000000006\00000000000000\000", 24);
    assert_memory_equal(h + 156, "0", 1);
    assert_memory_equal(h + 257, "ustar\00000bigdata", 16);
    assert_memory_equal(h + 297, "bigdata", 8);
    read_all(f);
    assert_int_equal(f->end, ST_END);
    assert_int_equal(f->n, 1);
    assert_int_equal(f->sizes[0], 6);
    fixture_free(f);
}

static void long_names_get_a_pax_header_and_short_ones_none(void **state)
{
    struct fixture *f = fixture_new();
    struct error err = {0};
    char name[400];
    size_t mark;

    (void)state;
    for (size_t len = 95; len <= 105; len++) {
        memset(name, 'n', len);
        name[len] = '\0';
        byte_buf_reset(&f->bytes);
        assert_ok(tar_write_begin(&f->bytes, name, &mark, &err));
        assert_ok(byte_buf_append(&f->bytes, "B", 1, &err));
        assert_ok(tar_write_end(&f->bytes, mark, &err));
        assert_int_equal(f->bytes.len, (len > 100 ? 4 : 2) * TAR_BLOCK);
        read_all(f);
        assert_int_equal(f->n, 1);
        assert_string_equal(f->names[0], name);
    }
    assert_status(tar_write_begin(&f->bytes, "", &mark, &err), ST_INVALID);
    fixture_free(f);
}

static void the_tail_fills_a_record(void **state)
{
    static const struct {
        uint64_t body;
        size_t want;
    } cases[] = {{0, 10240}, {512, 9728}, {9216, 1024}, {9728, 10752}, {10240, 10240}};
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf out;

        byte_buf_init(&out, MAX_BYTES);
        assert_ok(tar_write_tail(cases[i].body, &out, &err));
        assert_int_equal(out.len, cases[i].want);
        byte_buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_peoples_archives_are_read),
        cmocka_unit_test(sparse_members_are_marked),
        cmocka_unit_test(a_lost_end_mark_is_no_error),
        cmocka_unit_test(a_cut_archive_says_where),
        cmocka_unit_test(damage_is_told_apart_from_an_end),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(names_longer_than_the_limit_are_refused),
        cmocka_unit_test(what_is_written_is_plain_ustar_and_reproducible),
        cmocka_unit_test(long_names_get_a_pax_header_and_short_ones_none),
        cmocka_unit_test(the_tail_fills_a_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
