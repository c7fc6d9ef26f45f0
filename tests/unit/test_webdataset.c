#include "reinforce/base/philox.h"
#include "reinforce/record/record_json.h"
#include "storage/format/tar.h"
#include "storage/format/webdataset.h"
#include "tests/support/dataset_contract.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 64 << 20, MAX_SAMPLES = 32 };

static const struct dataset_write_options write_options = {.layout = DATASET_LAYOUT_CURRENT,
                                                           .dtype = RECORD_BF16};

/* One member of an archive to be read. */
struct member {
    const char *name, *body;
};

/* What a reader gave, sample by sample. */
struct result {
    struct arena arenas[MAX_SAMPLES];
    struct record records[MAX_SAMPLES];
    struct dataset_reject rejects[MAX_SAMPLES];
    enum status status[MAX_SAMPLES];
    struct dataset_position positions[MAX_SAMPLES];
    size_t n;
    enum status end;
    struct error err;
};

static void result_release(struct result *result)
{
    for (size_t i = 0; i < result->n; i++) {
        record_release(&result->records[i]);
        arena_release(&result->arenas[i]);
    }
    memset(result, 0, sizeof *result);
}

static void pack(const struct member *members, size_t n, struct byte_buf *out)
{
    struct error err = {0};
    size_t mark;

    byte_buf_init(out, MAX_BYTES);
    for (size_t i = 0; i < n; i++) {
        assert_ok(tar_write_begin(out, members[i].name, &mark, &err));
        assert_ok(byte_buf_append_string(out, members[i].body, &err));
        assert_ok(tar_write_end(out, mark, &err));
    }
    assert_ok(tar_write_tail(out->len, out, &err));
}

static void read_bytes(struct bytes_view bytes, const struct dataset_read_options *options,
                       struct dataset_position from, struct result *result)
{
    const struct dataset_format *format = dataset_format_by_name("webdataset");
    struct object_store *store;
    struct object_written written;
    struct dataset_reader *reader;
    struct error err = {0};

    memset(result, 0, sizeof *result);
    assert_ok(object_store_open("mem:webdataset", &store, &err));
    assert_ok(object_store_put(store, "t.tar", bytes, &written, &err));
    assert_ok(dataset_reader_open(format, store, "t.tar", options, &from, &reader, &err));
    for (;;) {
        size_t i = result->n;
        enum status st;

        assert_true(i < MAX_SAMPLES);
        arena_init(&result->arenas[i], MAX_BYTES);
        st = dataset_reader_next(reader, &result->arenas[i], &result->records[i],
                                 &result->rejects[i], &result->err);
        if (st != ST_OK && st != ST_CORRUPT) {
            result->end = st;
            arena_release(&result->arenas[i]);
            break;
        }
        result->status[i] = st;
        dataset_reader_tell(reader, &result->positions[i]);
        result->n++;
    }
    dataset_reader_close(&reader);
    object_store_close(&store);
}

static void read_members(const struct member *members, size_t n, struct result *result)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    struct byte_buf bytes;

    pack(members, n, &bytes);
    read_bytes(byte_buf_view(&bytes), &options, (struct dataset_position){0}, result);
    byte_buf_release(&bytes);
}

static void expect_view(struct bytes_view got, const char *want)
{
    if (!bytes_equal(got, bytes_of_string(want)))
        fail_msg("got \"%.*s\", want \"%s\"", (int)got.len, (const char *)got.data, want);
}

static void the_contract_holds(void **state) /* DR 2, 4, 10, 11 */
{
    (void)state;
    dataset_contract(dataset_format_by_name("webdataset"));
}

static void members_of_every_kind_find_their_field(void **state) /* DR 9, 11 */
{
    static const struct member members[] = {
        {"k.JPG", "\xff\xd8\xff image"},
        {"k.txt", "a caption\n"},
        {"k.url.txt", "https://x/"},
        {"k.syn.json",
         "{\"syn_text\": [\"one\", \"two\"], \"x_captions\": [\"z\"], \"model\": \"m\"}"},
        {"k.paug.json",
         "{\"param_aug\": \"[[[32, 291, 657, 709], [[2.0, -0.09000000357627869], [4, "
         "-30.45317268371582]]], [[7, 28, 34, 27], null]]\"}"},
        {"k.json", "{\"uid\": \"other\", \"member_id\": \"emb\", \"sha256\": \"00\"}"},
        {"k.cls", "7"},
        {"k.seg.PNG", "\x89 not an image member"},
        {"k.extra.json", "{ \"kept\" : 1 }"},
        {"k.npz", "masks, not embeddings"},
    };
    static const struct member with_array[] = {
        {"k.png", "x"},
        {"k.paug.json", "{\"param_aug\": [[[7, 28, 34, 27], [[0, 0.0], [11, 178.5]]]]}"},
    };
    struct result r;
    const struct record *record;

    (void)state;
    read_members(members, ARRAY_LEN(members), &r);
    assert_int_equal(r.n, 1);
    if (r.status[0] != ST_OK)
        fail_msg("%s: %s", r.rejects[0].reason, r.rejects[0].detail);
    record = &r.records[0];
    expect_view(record->uid, "k");
    assert_string_equal(record->image_ext, "jpg");
    expect_view(record->captions[0], "a caption\n"); /* bytes as they are */
    expect_view(record->url, "https://x/");
    assert_int_equal(record->n_columns, 2);
    expect_view(record_find_column(record, "syn_text")->texts[1], "two");
    expect_view(record_find_column(record, "x_captions")->texts[0], "z");
    assert_int_equal(record->n_views, 2);
    assert_int_equal(record->views[0].left, 291);
    assert_int_equal(record->views[0].ops[0].op, AUGMENT_SHEAR_Y);
    assert_int_equal(record->views[1].n_ops, AUGMENT_OPS_SKIPPED);
    assert_string_equal(json_string_value(json_object_get(record->meta, "uid")), "other");
    assert_string_equal(json_string_value(json_object_get(record->meta, "member_id")), "emb");
    assert_string_equal(json_string_value(json_object_get(record->meta, "model")), "m");
    assert_int_equal(record->n_members, 4);
    assert_string_equal(record->members[1].ext, "seg.PNG");
    expect_view(record->members[2].body, "{ \"kept\" : 1 }");
    assert_string_equal(record->members[3].ext, "npz");
    result_release(&r);
    read_members(with_array, ARRAY_LEN(with_array), &r);
    assert_int_equal(r.status[0], ST_OK);
    assert_int_equal(r.records[0].n_views, 1);
    assert_true(r.records[0].views[0].ops[1].magnitude == 178.5);
    result_release(&r);
}

static void keys_end_at_the_first_dot_behind_the_last_slash(void **state) /* DR 2, IN-2 */
{
    static const struct member members[] = {
        {"a/b.c/001.jpg", "1"},
        {"a/b.c/001.syn.json", "{\"syn_text\": [\"x\"]}"},
        {"a/b.d/001.jpg", "2"},
        {"./002.x.jpg", "no image: its extension is x.jpg"},
        {"./003.jpg", "3"},
        {"README", "no dot"},
        {"x/.hidden.jpg", "no base"},
        {"004.", "no extension"},
        {"004.jpg", "4"},
    };
    struct result r;

    (void)state;
    read_members(members, ARRAY_LEN(members), &r);
    assert_int_equal(r.n, 5);
    expect_view(r.records[0].uid, "a%2Fb%2Ec%2F001");
    assert_int_equal(r.records[0].n_columns, 1);
    expect_view(r.records[1].uid, "a%2Fb%2Ed%2F001");
    assert_int_equal(r.status[2], ST_CORRUPT);
    assert_string_equal(r.rejects[2].uid, "002");
    assert_string_equal(r.rejects[2].reason, "missing_image");
    assert_non_null(strstr(r.rejects[2].detail, "found x.jpg"));
    expect_view(r.records[3].uid, "003");
    expect_view(r.records[4].uid, "004");
    assert_int_equal(r.positions[4].index, 5);
    result_release(&r);
}

static void members_that_are_not_adjacent_are_reported_not_merged(void **state) /* IN-2 */
{
    static const struct member members[] = {
        {"a.jpg", "1"}, {"b.jpg", "2"},   {"a.txt", "late"},
        {"c.jpg", "3"}, {"a/x.jpg", "4"}, {"a%2Fx.jpg", "the same flat key"},
    };
    struct result r;

    (void)state;
    read_members(members, ARRAY_LEN(members), &r);
    assert_int_equal(r.n, 6);
    assert_int_equal(r.status[0], ST_OK);
    assert_int_equal(r.records[0].n_captions, 0);
    assert_int_equal(r.status[2], ST_CORRUPT);
    assert_string_equal(r.rejects[2].reason, "repeated_key");
    assert_string_equal(r.rejects[2].uid, "a");
    assert_int_equal(r.status[3], ST_OK);
    assert_int_equal(r.status[4], ST_OK);
    assert_string_equal(r.rejects[5].reason, "repeated_key");
    result_release(&r);
}

static void a_repeated_key_is_found_after_resuming_too(void **state)
{
    static const struct member members[] = {
        {"a.jpg", "1"}, {"b.jpg", "2"}, {"a.jpg", "3"}, {"c.jpg", "4"}};
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    struct result all, rest;
    struct byte_buf bytes;

    (void)state;
    pack(members, ARRAY_LEN(members), &bytes);
    read_bytes(byte_buf_view(&bytes), &options, (struct dataset_position){0}, &all);
    assert_int_equal(all.n, 4);
    for (size_t i = 0; i < 4; i++) {
        read_bytes(byte_buf_view(&bytes), &options, all.positions[i], &rest);
        assert_int_equal(rest.n, 3 - i);
        for (size_t j = 0; j < rest.n; j++) {
            assert_int_equal(rest.status[j], all.status[i + 1 + j]);
            assert_memory_equal(&rest.rejects[j], &all.rejects[i + 1 + j], sizeof rest.rejects[j]);
            assert_memory_equal(&rest.positions[j], &all.positions[i + 1 + j],
                                sizeof rest.positions[j]);
        }
        result_release(&rest);
    }
    result_release(&all);
    byte_buf_release(&bytes);
}

static void one_bad_sample_costs_one_sample(void **state) /* DR 35 */
{
    static const struct {
        struct member bad;
        const char *reason;
    } cases[] = {
        {{"b.jpg", ""}, "empty_image"},
        {{"b.txt", "no image"}, "missing_image"},
        {{"b.json", "{\"broken\": "}, "bad_json"},
        {{"b.json", "\"text\""}, "bad_json"},
        {{"b.json", "{\"a\": 1, \"a\": 2}"}, "bad_json"},
        {{"b.syn.json", "{\"syn_text\": \"one string\"}"}, "bad_captions"},
        {{"b.syn.json", "{\"syn_text\": [1]}"}, "bad_captions"},
        {{"b.paug.json", "{\"param_aug\": [[[1, 2, 3], []]]}"}, "bad_param_aug"},
        {{"b.paug.json", "{\"param_aug\": \"[[\"}"}, "bad_param_aug"},
        {{"b.paug.json", "{\"param_aug\": 7}"}, "bad_param_aug"},
        {{"b.txt", "\xff not UTF-8"}, "bad_caption"},
        {{"b.npz", "image_emb.npy of nothing"}, "bad_embedding"},
        {{"b.pth.gz", "nothing of the kind"}, "bad_embedding"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const bool is_image = i < 2;
        const struct member members[] = {
            {"a.jpg", "1"}, {is_image ? "skip" : "b.jpg", "2"}, cases[i].bad, {"c.jpg", "3"}};
        struct result r;

        read_members(members, ARRAY_LEN(members), &r);
        assert_int_equal(r.n, 3);
        assert_int_equal(r.status[0], ST_OK);
        assert_int_equal(r.status[1], ST_CORRUPT);
        assert_int_equal(r.status[2], ST_OK);
        if (strcmp(r.rejects[1].reason, cases[i].reason) != 0)
            fail_msg("case %zu: %s: %s", i, r.rejects[1].reason, r.rejects[1].detail);
        assert_string_equal(r.rejects[1].uid, "b");
        assert_true(r.rejects[1].detail[0] != '\0');
        result_release(&r);
    }
}

static void members_twice_and_samples_too_large_are_rejects(void **state)
{
    static const struct member twice[] = {{"a.jpg", "1"}, {"a.JPG", "2"}, {"b.jpg", "3"}};
    struct member large[] = {{"a.jpg", NULL}, {"a.txt", "x"}, {"b.jpg", "3"}};
    char *body = calloc(1, (1 << 20) + 2);
    struct result r;

    (void)state;
    assert_non_null(body);
    read_members(twice, ARRAY_LEN(twice), &r);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.rejects[0].reason, "duplicate_member");
    assert_int_equal(r.status[1], ST_OK);
    result_release(&r);
    memset(body, 'x', (1 << 20) + 1);
    large[0].body = body;
    read_members(large, ARRAY_LEN(large), &r);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.rejects[0].reason, "sample_too_large");
    assert_int_equal(r.status[1], ST_OK);
    assert_true(r.arenas[0].peak_bytes < 1 << 20); /* passed over, not read */
    result_release(&r);
    free(body);
}

static void a_cut_archive_costs_the_cut_sample_and_says_where(void **state) /* DR 3 */
{
    static const struct member members[] = {
        {"a.jpg", "1"}, {"a.txt", "x"}, {"b.jpg", "2"}, {"b.txt", "y"}};
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    struct byte_buf bytes;
    struct result r, again;

    (void)state;
    pack(members, ARRAY_LEN(members), &bytes);
    read_bytes(bytes_view_of(bytes.data, 3584), &options, (struct dataset_position){0}, &r);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.status[0], ST_OK);
    assert_string_equal(r.rejects[1].reason, "damaged_archive");
    assert_string_equal(r.rejects[1].uid, "b");
    assert_non_null(strstr(r.rejects[1].detail, "ends at byte 3584"));
    assert_int_equal(r.end, ST_END);
    /* who resumes behind the reject does not meet it again */
    read_bytes(bytes_view_of(bytes.data, 3584), &options, r.positions[1], &again);
    assert_int_equal(again.n, 0);
    result_release(&again);
    result_release(&r);
    read_bytes(bytes_of_string("not a tar at all, and shorter than a block"), &options,
               (struct dataset_position){0}, &r);
    assert_int_equal(r.n, 1);
    assert_string_equal(r.rejects[0].reason, "damaged_archive");
    assert_string_equal(r.rejects[0].uid, "byte 0");
    result_release(&r);
    byte_buf_release(&bytes);
}

static void published_sets_without_images_are_read_when_asked(void **state)
{
    static const struct member members[] = {
        {"00aa.url.txt", "u"}, {"00aa.syn.json", "{\"syn_text\": [\"x\"]}"}, {"00aa.json", "{}"}};
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20,
                                                 .allow_missing_image = true};
    struct byte_buf bytes;
    struct result r;

    (void)state;
    pack(members, ARRAY_LEN(members), &bytes);
    read_bytes(byte_buf_view(&bytes), &options, (struct dataset_position){0}, &r);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.status[0], ST_OK);
    assert_null(r.records[0].image.data);
    result_release(&r);
    byte_buf_release(&bytes);
}

/* Names of the members of a record as written, joined by blanks. */
static void expect_members(const struct record *record, enum record_dtype dtype, const char *want)
{
    const struct dataset_write_options options = {.layout = DATASET_LAYOUT_CURRENT, .dtype = dtype};
    struct object_store *store;
    struct object_written written;
    struct tar_reader *reader = calloc(1, sizeof *reader);
    struct tar_member member;
    struct byte_buf bytes;
    struct error err = {0};
    char names[512] = "";
    size_t len = 0;

    assert_non_null(reader);
    byte_buf_init(&bytes, MAX_BYTES);
    assert_ok(webdataset_append(record, &options, &bytes, &err));
    assert_ok(object_store_open("mem:members", &store, &err));
    assert_ok(object_store_put(store, "t", byte_buf_view(&bytes), &written, &err));
    assert_ok(tar_reader_open(reader, store, "t", 4096, &err));
    while (tar_reader_next(reader, &member, &err) == ST_OK)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? " " : "",
                                strchr(member.name, '.') + 1);
    assert_string_equal(names, want);
    tar_reader_close(reader);
    object_store_close(&store);
    byte_buf_release(&bytes);
    free(reader);
}

static void members_are_written_in_the_published_order(void **state) /* DR 4 */
{
    struct arena arena;
    struct record record;

    (void)state;
    arena_init(&arena, MAX_BYTES);
    dataset_contract_record(8, &arena, &record); /* image, caption, url, columns, views */
    expect_members(&record, RECORD_F32, "jpg json npz paug.json syn.json txt url.txt");
    expect_members(&record, RECORD_BF16, "jpg json paug.json pth.gz syn.json txt url.txt");
    record_release(&record);
    dataset_contract_record(1, &arena, &record); /* png, members of others */
    expect_members(&record, RECORD_BF16, "cls json paug.json png pth.gz seg.bin syn.json txt");
    record_release(&record);
    arena_release(&arena);
}

static void records_that_a_tar_cannot_hold_are_refused(void **state) /* DR 10 */
{
    const struct dataset_write_options legacy = {.layout = DATASET_LAYOUT_LEGACY,
                                                 .dtype = RECORD_F32};
    struct record_member twice[] = {{.ext = "txt", .body = bytes_of_string("x")}};
    struct arena arena;
    struct record record;
    struct byte_buf out;
    struct error err = {0};

    (void)state;
    arena_init(&arena, MAX_BYTES);
    byte_buf_init(&out, MAX_BYTES);
    dataset_contract_record(8, &arena, &record);
    assert_int_equal(record.n_columns, 2);
    assert_status(webdataset_append(&record, &legacy, &out, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "one column named syn_text"));
    record.n_members = 1;
    record.members = twice;
    assert_status(webdataset_append(&record, &write_options, &out, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "member txt"));
    record.n_members = 0;
    record.n_captions = 2;
    assert_status(webdataset_append(&record, &write_options, &out, &err), ST_INVALID);
    assert_int_equal(out.len, 0);
    record_release(&record);
    arena_release(&arena);
    byte_buf_release(&out);
}

static void a_thousand_mutated_tars_do_no_harm(void **state)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    struct byte_buf bytes;
    struct arena arena;
    struct philox rng;
    struct error err = {0};
    size_t n_rejects = 0;

    (void)state;
    byte_buf_init(&bytes, MAX_BYTES);
    arena_init(&arena, MAX_BYTES);
    for (size_t i = 0; i < 6; i++) {
        struct record record;

        dataset_contract_record(i, &arena, &record);
        record.image.len = 64;
        assert_ok(webdataset_append(&record, &write_options, &bytes, &err));
        record_release(&record);
    }
    assert_ok(tar_write_tail(bytes.len, &bytes, &err));
    philox_init(&rng, 3, bytes_of_string("tars"), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < 1000; i++) {
        uint32_t n = 1 + philox_below(&rng, 8), len = (uint32_t)bytes.len;
        uint8_t *copy = malloc(bytes.len);
        struct result r;

        assert_non_null(copy);
        memcpy(copy, bytes.data, bytes.len);
        for (uint32_t m = 0; m < n; m++) {
            uint32_t at = philox_below(&rng, len);

            if (m % 2 == 0) /* headers are where it hurts */
                at = at / TAR_BLOCK * TAR_BLOCK + philox_below(&rng, 160);
            copy[at % len] = (uint8_t)philox_u32(&rng);
        }
        if (philox_below(&rng, 4) == 0)
            len = philox_below(&rng, len);
        read_bytes(bytes_view_of(copy, len), &options, (struct dataset_position){0}, &r);
        assert_int_equal(r.end, ST_END);
        for (size_t s = 0; s < r.n; s++) {
            n_rejects += r.status[s] == ST_CORRUPT;
            assert_true(r.status[s] == ST_OK || r.rejects[s].detail[0] != '\0');
        }
        result_release(&r);
        free(copy);
    }
    assert_true(n_rejects > 300);
    byte_buf_release(&bytes);
    arena_release(&arena);
}

static void every_allocation_may_fail(void **state)
{
    const struct dataset_format *format = dataset_format_by_name("webdataset");
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_position none = {0};
    struct object_store *store;
    struct object_written written;
    struct byte_buf bytes;
    struct arena arena;
    struct record record;
    struct error err = {0};
    bool fired = true;

    (void)state;
    byte_buf_init(&bytes, MAX_BYTES);
    arena_init(&arena, MAX_BYTES);
    dataset_contract_record(1, &arena, &record);
    for (unsigned n = 1; fired; n++) {
        enum status st;

        byte_buf_release(&bytes);
        byte_buf_init(&bytes, MAX_BYTES);
        oom_fail_at(n);
        st = webdataset_append(&record, &write_options, &bytes, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
    }
    record_release(&record);
    assert_ok(object_store_open("mem:oom", &store, &err));
    assert_ok(object_store_put(store, "t", byte_buf_view(&bytes), &written, &err));
    fired = true;
    for (unsigned n = 1; fired; n++) {
        struct dataset_reader *reader;
        struct dataset_reject reject;
        enum status st;

        arena_release(&arena);
        arena_init(&arena, MAX_BYTES);
        oom_fail_at(n);
        st = dataset_reader_open(format, store, "t", &options, &none, &reader, &err);
        if (st == ST_OK)
            st = dataset_reader_next(reader, &arena, &record, &reject, &err);
        fired = oom_fired();
        oom_fail_at(0);
        if (fired && st == ST_OK)
            fail_msg("allocation %u: its failure was not seen", n);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
        if (st == ST_OK)
            record_release(&record);
        dataset_reader_close(&reader);
    }
    object_store_close(&store);
    byte_buf_release(&bytes);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_holds),
        cmocka_unit_test(members_of_every_kind_find_their_field),
        cmocka_unit_test(keys_end_at_the_first_dot_behind_the_last_slash),
        cmocka_unit_test(members_that_are_not_adjacent_are_reported_not_merged),
        cmocka_unit_test(a_repeated_key_is_found_after_resuming_too),
        cmocka_unit_test(one_bad_sample_costs_one_sample),
        cmocka_unit_test(members_twice_and_samples_too_large_are_rejects),
        cmocka_unit_test(a_cut_archive_costs_the_cut_sample_and_says_where),
        cmocka_unit_test(published_sets_without_images_are_read_when_asked),
        cmocka_unit_test(members_are_written_in_the_published_order),
        cmocka_unit_test(records_that_a_tar_cannot_hold_are_refused),
        cmocka_unit_test(a_thousand_mutated_tars_do_no_harm),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
