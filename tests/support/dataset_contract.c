#include "tests/support/dataset_contract.h"

#include "reinforce/base/philox.h"
#include "reinforce/record/record_json.h"
#include "tests/support/test.h"

enum { N_RECORDS = 13, MAX_BYTES = 64 << 20, SAMPLE_BYTES = 4 << 20 };

static const struct dataset_read_options read_options = {.max_sample_bytes = SAMPLE_BYTES};

static struct bytes_view random_bytes(struct arena *arena, struct philox *rng, const char *magic,
                                      size_t magic_len, size_t len)
{
    struct error err;
    uint8_t *bytes;

    assert_ok(arena_alloc(arena, magic_len + len, &bytes, &err));
    if (magic_len > 0)
        memcpy(bytes, magic, magic_len);
    for (size_t i = 0; i < len; i++)
        bytes[magic_len + i] = (uint8_t)philox_u32(rng);
    return bytes_view_of(bytes, magic_len + len);
}

static const struct bytes_view *texts_of(struct arena *arena, size_t n, const char *stem)
{
    struct bytes_view *texts;
    struct error err;

    assert_ok(arena_calloc(arena, n, sizeof *texts, &texts, &err));
    for (size_t i = 0; i < n; i++) {
        char text[96], *copy;

        (void)snprintf(text, sizeof text, "%s %zu: \"caf\xc3\xa9\"\t\\ \xf0\x9f\x90\x88", stem, i);
        if (i == 2)
            text[0] = '\0'; /* an empty caption is a caption */
        assert_ok(arena_strndup(arena, text, strlen(text), &copy, &err));
        texts[i] = bytes_of_string(copy);
    }
    return texts;
}

static void add_embedding(struct record *record, struct arena *arena, struct philox *rng,
                          const char *name, size_t rows, size_t dim)
{
    struct record_embedding embedding = {
        .name = name, .dtype = RECORD_F32, .rows = rows, .dim = dim};
    struct error err;
    float *data;

    assert_ok(arena_calloc(arena, rows * dim, sizeof *data, &data, &err));
    for (size_t i = 0; i < rows * dim; i++)
        data[i] = philox_f32(rng) * 2 - 1;
    embedding.data = data;
    assert_ok(record_set_embedding(record, &embedding, arena, &err));
}

static void add_columns(struct record *record, struct arena *arena, size_t n)
{
    static const char *const names[] = {"syn_text", "syn_text_coca_b"};
    struct error err;

    for (size_t i = 0; i < n; i++) {
        struct record_column column = {
            .name = names[i], .n_texts = i + 3, .texts = texts_of(arena, i + 3, names[i])};

        assert_ok(record_set_column(record, &column, arena, &err));
    }
}

static void add_views(struct record *record, struct arena *arena, size_t n, size_t i)
{
    struct augment_config config;
    struct error err;

    augment_config_default(&config);
    record->n_views = n;
    assert_ok(arena_calloc(arena, n, sizeof *record->views, &record->views, &err));
    for (size_t v = 0; v < n; v++)
        augment_sample(&config, i, record->uid, (uint32_t)v, 320, 240, &record->views[v]);
    if (n > 1)
        record->views[1].n_ops = AUGMENT_OPS_SKIPPED;
}

static void add_meta(struct record *record)
{
    static const char text[] =
        "{\"uid\": \"another name\", \"sha256\": \"00ff\", \"member_id\": \"m-1\", \"december\": "
        "[1.5, 2, null, true], \"width\": 640, \"nested\": {\"emb\": \"text\", \"z\": 1e-07}}";
    struct error err;

    assert_ok(json_parse(bytes_of_string(text), &record->meta, &err));
}

void dataset_contract_record(size_t i, struct arena *arena, struct record *record)
{
    static const struct {
        const char *ext, *magic;
        size_t len;
    } images[] = {
        {"jpg", "\xff\xd8\xff", 3},
        {"png", "\x89PNG\r\n\x1a\n", 8},
        {"webp", "RIFF\x10\x00\x00\x00WEBP", 12},
        {"gif", "GIF89a", 6},
    };
    struct philox rng;
    struct error err;
    char uid[64], *copy;

    memset(record, 0, sizeof *record);
    (void)snprintf(uid, sizeof uid, i % 3 == 2 ? "%08zu-%%2F\xc3\xbc" : "%032zx", i * 7919);
    philox_init(&rng, 1, bytes_of_string(uid), PHILOX_STAGE_SELECT, 0);
    assert_ok(arena_strndup(arena, uid, strlen(uid), &copy, &err));
    record->uid = bytes_of_string(copy);
    record->image_ext = images[i % 4].ext;
    record->image =
        random_bytes(arena, &rng, images[i % 4].magic, images[i % 4].len, 1 + i * 997 % 3000);
    record->n_captions = i % 5 != 4;
    if (record->n_captions > 0)
        record->captions = texts_of(arena, 1, "real caption");
    if (i % 2 == 0)
        record->url = bytes_of_string("https://example.org/a%20b.jpg?x=1&y=\xc3\xa9");
    add_columns(record, arena, i % 3);
    if (i % 4 != 3) {
        add_views(record, arena, 1 + i % 3, i);
        add_embedding(record, arena, &rng, "image_emb", 1 + i % 3, 12);
        if (record->n_captions > 0)
            add_embedding(record, arena, &rng, "text_emb", 1, 12);
        for (size_t c = 0; c < record->n_columns; c++)
            add_embedding(record, arena, &rng, c == 0 ? "syn_text_emb" : "syn_text_coca_b_emb",
                          record->columns[c].n_texts, 12);
    }
    if (i % 4 == 1) {
        record->n_members = 2;
        assert_ok(arena_calloc(arena, 2, sizeof *record->members, &record->members, &err));
        record->members[0] = (struct record_member){.ext = "cls", .body = bytes_of_string("7")};
        record->members[1] =
            (struct record_member){.ext = "seg.bin", .body = random_bytes(arena, &rng, "", 0, 513)};
    }
    if (i % 2 == 1)
        add_meta(record);
}

static void expect_text(const char *what, struct bytes_view want, struct bytes_view got)
{
    if (!bytes_equal(want, got))
        fail_msg("%s: got %zu bytes \"%.*s\", want %zu \"%.*s\"", what, got.len,
                 (int)MIN(got.len, (size_t)60), (const char *)got.data, want.len,
                 (int)MIN(want.len, (size_t)60), (const char *)want.data);
}

static void expect_views(const struct record *want, const struct record *got)
{
    struct byte_buf a, b;
    struct error err;

    byte_buf_init(&a, MAX_BYTES);
    byte_buf_init(&b, MAX_BYTES);
    assert_ok(record_json_write_views(want, &a, &err));
    assert_ok(record_json_write_views(got, &b, &err));
    expect_text("param_aug", byte_buf_view(&a), byte_buf_view(&b));
    byte_buf_release(&a);
    byte_buf_release(&b);
}

static float value_at(const struct record_embedding *embedding, size_t i)
{
    float value;
    uint16_t bits;

    if (embedding->dtype == RECORD_F32) {
        memcpy(&value, (const uint8_t *)embedding->data + i * 4, 4);
        return value;
    }
    memcpy(&bits, (const uint8_t *)embedding->data + i * 2, 2);
    record_f32_from_bf16(&bits, 1, &value);
    return value;
}

static float rounded(float value, enum record_dtype dtype)
{
    uint16_t bits;

    if (dtype == RECORD_F32)
        return value;
    record_bf16_from_f32(&value, 1, &bits);
    record_f32_from_bf16(&bits, 1, &value);
    return value;
}

static void expect_embeddings(const struct record *want, const struct record *got,
                              enum record_dtype dtype)
{
    assert_int_equal(got->n_embeddings, want->n_embeddings);
    for (size_t e = 0; e < want->n_embeddings; e++) {
        const struct record_embedding *a = &want->embeddings[e];
        const struct record_embedding *b = record_find_embedding(got, a->name);

        if (b == NULL)
            fail_msg("%s is lost", a->name);
        assert_int_equal(b->rows, a->rows);
        assert_int_equal(b->dim, a->dim);
        for (size_t i = 0; i < a->rows * a->dim; i++)
            if (value_at(b, i) != rounded(value_at(a, i), dtype))
                fail_msg("%s[%zu]: got %.9g, want %.9g", a->name, i, (double)value_at(b, i),
                         (double)rounded(value_at(a, i), dtype));
    }
}

static void expect_columns(const struct record *want, const struct record *got)
{
    assert_int_equal(got->n_columns, want->n_columns);
    for (size_t c = 0; c < want->n_columns; c++) {
        const struct record_column *a = &want->columns[c];
        const struct record_column *b = record_find_column(got, a->name);

        if (b == NULL)
            fail_msg("%s is lost", a->name);
        assert_int_equal(b->n_texts, a->n_texts);
        for (size_t i = 0; i < a->n_texts; i++)
            expect_text(a->name, a->texts[i], b->texts[i]);
    }
}

static void expect_meta(const struct record *want, const struct record *got)
{
    json_t *a = json_object(), *b = json_object(), *taken;

    (void)json_object_update(a, want->meta);
    (void)json_object_update(b, got->meta);
    /* a JSONL line says "uid" for the key: the field of that name moves one level down */
    taken = json_object_get(b, "tar_json");
    if (taken != NULL) {
        (void)json_object_update(b, taken);
        (void)json_object_del(b, "tar_json");
    }
    if (!json_equal(a, b)) {
        char *got_text = json_dumps(b, 0);

        fail_msg("meta is %s", got_text);
    }
    json_decref(a);
    json_decref(b);
}

void dataset_contract_equal(const struct record *want, const struct record *got,
                            enum record_dtype dtype)
{
    expect_text("uid", want->uid, got->uid);
    expect_text("image", want->image, got->image);
    assert_string_equal(got->image_ext, want->image_ext);
    expect_text("url", want->url, got->url);
    assert_int_equal(got->n_captions, want->n_captions);
    for (size_t i = 0; i < want->n_captions; i++)
        expect_text("caption", want->captions[i], got->captions[i]);
    expect_columns(want, got);
    expect_views(want, got);
    expect_embeddings(want, got, dtype);
    assert_int_equal(got->n_members, want->n_members);
    for (size_t i = 0; i < want->n_members; i++) {
        assert_string_equal(got->members[i].ext, want->members[i].ext);
        expect_text(want->members[i].ext, want->members[i].body, got->members[i].body);
    }
    expect_meta(want, got);
}

/* A dataset that was written, where its records end, and what it is made of. */
struct written {
    const struct dataset_format *format;
    struct dataset_write_options options;
    struct arena arena;
    struct record records[N_RECORDS];
    struct byte_buf body;
    size_t ends[N_RECORDS];
    struct object_store *store;
};

static void write_all(struct written *w)
{
    struct object_written done;
    struct byte_buf whole;
    struct error err = {0};

    arena_init(&w->arena, MAX_BYTES);
    byte_buf_init(&w->body, MAX_BYTES);
    byte_buf_init(&whole, MAX_BYTES);
    for (size_t i = 0; i < N_RECORDS; i++) {
        dataset_contract_record(i, &w->arena, &w->records[i]);
        if (w->options.layout == DATASET_LAYOUT_LEGACY && w->records[i].n_columns > 1)
            w->records[i].n_columns = 0, w->records[i].n_embeddings = 0, w->records[i].n_views = 0;
        if (w->options.layout == DATASET_LAYOUT_LEGACY && w->records[i].n_captions == 0)
            w->records[i].n_embeddings = 0;
        assert_ok(dataset_append(w->format, &w->records[i], &w->options, &w->body, &err));
        w->ends[i] = w->body.len;
    }
    assert_ok(byte_buf_append(&whole, w->body.data, w->body.len, &err));
    assert_ok(dataset_tail(w->format, w->body.len, &whole, &err));
    assert_ok(object_store_open("mem:dataset-contract", &w->store, &err));
    assert_ok(object_store_put(w->store, "whole", byte_buf_view(&whole), &done, &err));
    byte_buf_release(&whole);
}

static void release(struct written *w)
{
    for (size_t i = 0; i < N_RECORDS; i++)
        record_release(&w->records[i]);
    arena_release(&w->arena);
    byte_buf_release(&w->body);
    object_store_close(&w->store);
}

/* Reads from `from` to the end or `end_offset`: exactly records [first, last). positions, if not
 * NULL, gets where each of them ends. */
static void read_from(struct written *w, struct dataset_position from, uint64_t begin_offset,
                      uint64_t end_offset, size_t first, size_t last,
                      struct dataset_position *positions)
{
    struct dataset_read_options options = read_options;
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct dataset_position position;
    struct arena arena;
    struct record record;
    struct error err = {0};

    options.begin_offset = begin_offset;
    options.end_offset = end_offset;
    arena_init(&arena, 4 * (size_t)SAMPLE_BYTES);
    assert_ok(dataset_reader_open(w->format, w->store, "whole", &options, &from, &reader, &err));
    for (size_t i = first; i < last; i++) {
        arena_reset(&arena);
        assert_ok(dataset_reader_next(reader, &arena, &record, &reject, &err));
        dataset_contract_equal(&w->records[i], &record, w->options.dtype);
        record_release(&record);
        dataset_reader_tell(reader, &position);
        assert_int_equal(position.index, i + 1);
        if (positions != NULL)
            positions[i] = position;
    }
    assert_status(dataset_reader_next(reader, &arena, &record, &reject, &err), ST_END);
    assert_status(dataset_reader_next(reader, &arena, &record, &reject, &err), ST_END);
    dataset_reader_close(&reader);
    assert_null(reader);
    arena_release(&arena);
}

/* Parts begin and end anywhere between records; joined they are the shard. */
static void expect_parts_join(struct written *w)
{
    struct object_written whole, joined;
    struct byte_buf part, tail;
    struct error err = {0};
    const char *keys[2] = {"part-0", "part-1"};

    assert_ok(object_store_hash(w->store, "whole", &whole, &err));
    for (size_t cut = 0; cut <= N_RECORDS; cut++) {
        uint64_t bytes = 0;

        byte_buf_init(&tail, MAX_BYTES);
        for (size_t p = 0; p < 2; p++) {
            byte_buf_init(&part, MAX_BYTES);
            for (size_t i = p == 0 ? 0 : cut; i < (p == 0 ? cut : N_RECORDS); i++)
                assert_ok(dataset_append(w->format, &w->records[i], &w->options, &part, &err));
            assert_ok(object_store_put(w->store, keys[p], byte_buf_view(&part), &joined, &err));
            bytes += joined.bytes;
            byte_buf_release(&part);
        }
        assert_ok(dataset_tail(w->format, bytes, &tail, &err));
        assert_ok(
            object_store_join(w->store, keys, 2, byte_buf_view(&tail), "joined", &joined, &err));
        assert_int_equal(joined.bytes, whole.bytes);
        assert_string_equal(joined.sha256, whole.sha256);
        byte_buf_release(&tail);
    }
}

static void check_variant(const struct dataset_format *format, enum dataset_layout layout,
                          enum record_dtype dtype)
{
    struct written w = {.format = format, .options = {.layout = layout, .dtype = dtype}};
    struct dataset_position none = {0}, positions[N_RECORDS];
    struct bytes_view head;

    write_all(&w);
    head = bytes_view_of(w.body.data, MIN(w.body.len, (size_t)512));
    assert_ptr_equal(dataset_format_detect("no-suffix", head), format);
    read_from(&w, none, 0, 0, 0, N_RECORDS, positions);
    expect_parts_join(&w);
    for (size_t i = 0; i < N_RECORDS; i++) {
        read_from(&w, positions[i], 0, 0, i + 1, N_RECORDS, NULL);
        read_from(&w, i == 0 ? none : positions[i - 1], 0, positions[i].offset, i, i + 1, NULL);
        if (strcmp(format->name, "jsonl") == 0) /* what planners cut into slices */
            read_from(&w, positions[i], positions[i].offset, 0, i + 1, N_RECORDS, NULL);
    }
    release(&w);
}

static void expect_an_empty_shard_reads_as_empty(const struct dataset_format *format)
{
    struct written w = {.format = format};
    struct dataset_position none = {0};
    struct object_written done;
    struct error err = {0};

    byte_buf_init(&w.body, MAX_BYTES);
    assert_ok(object_store_open("mem:dataset-contract", &w.store, &err));
    assert_ok(dataset_tail(format, 0, &w.body, &err));
    assert_ok(object_store_put(w.store, "whole", byte_buf_view(&w.body), &done, &err));
    read_from(&w, none, 0, 0, 0, 0, NULL);
    object_store_close(&w.store);
    byte_buf_release(&w.body);
}

static void expect_bad_records_are_refused(const struct dataset_format *format)
{
    static const char *const uids[] = {"", "a.b", "a/b", "new\nline", "\xff"};
    const struct dataset_write_options options = {.layout = DATASET_LAYOUT_CURRENT,
                                                  .dtype = RECORD_F32};
    struct byte_buf out;
    struct error err = {0};

    byte_buf_init(&out, MAX_BYTES);
    assert_ok(byte_buf_append_string(&out, "before", &err));
    for (size_t i = 0; i < ARRAY_LEN(uids); i++) {
        struct record record = {
            .uid = bytes_of_string(uids[i]), .image = bytes_of_string("x"), .image_ext = "jpg"};

        assert_status(dataset_append(format, &record, &options, &out, &err), ST_INVALID);
        assert_int_equal(out.len, 6);
    }
    byte_buf_release(&out);
}

static void expect_positions_are_checked(const struct dataset_format *format)
{
    struct written w = {.format = format,
                        .options = {.layout = DATASET_LAYOUT_CURRENT, .dtype = RECORD_F32}};
    struct dataset_position from = {.offset = 17, .index = 1};
    struct dataset_reader *reader;
    struct error err = {0};

    write_all(&w);
    assert_status(
        dataset_reader_open(format, w.store, "whole", &read_options, &from, &reader, &err),
        ST_INVALID);
    from.offset = UINT64_C(1) << 40;
    assert_status(
        dataset_reader_open(format, w.store, "whole", &read_options, &from, &reader, &err),
        ST_INVALID);
    from.offset = 0;
    assert_status(
        dataset_reader_open(format, w.store, "absent", &read_options, &from, &reader, &err),
        ST_NOT_FOUND);
    assert_null(reader);
    release(&w);
}

void dataset_contract(const struct dataset_format *format)
{
    char key[64];

    (void)snprintf(key, sizeof key, "a.b/00000000%s", format->extension);
    assert_ptr_equal(dataset_format_detect(key, (struct bytes_view){0}), format);
    assert_ptr_equal(dataset_format_by_name(format->name), format);
    check_variant(format, DATASET_LAYOUT_CURRENT, RECORD_F32);
    check_variant(format, DATASET_LAYOUT_CURRENT, RECORD_BF16);
    check_variant(format, DATASET_LAYOUT_LEGACY, RECORD_F32);
    check_variant(format, DATASET_LAYOUT_LEGACY, RECORD_BF16);
    expect_an_empty_shard_reads_as_empty(format);
    expect_bad_records_are_refused(format);
    expect_positions_are_checked(format);
}
