#include "storage/format/webdataset.h"

#include "reinforce/record/record_key.h"
#include "storage/format/dataset_keys.h"
#include "storage/format/dataset_reject.h"
#include "storage/format/tar.h"

#include <inttypes.h>
#include <stdarg.h>

enum {
    MAX_MEMBERS = 1024, /* of one sample */
    MAX_EXT = 255,
};

/* Reasons that end a sample while its members still go by. */
struct trouble {
    const char *reason; /* NULL: none */
    char detail[256];
};

struct webdataset_reader {
    struct dataset_reader base;
    struct dataset_read_options options;
    struct tar_reader tar;
    struct dataset_keys seen;
    struct tar_member ahead; /* first member of the next sample */
    bool has_ahead;
    enum status cut; /* ST_CORRUPT: the archive is damaged where `cut_why` says */
    struct error cut_why;
    char key[TAR_MAX_NAME + 1]; /* raw, of the sample being read */
    struct webdataset_member members[MAX_MEMBERS];
    struct dataset_position position;
};

/* The key's length and where the extension begins; false when the trainers' loader would pass the
 * name over: no dot, or nothing before it. */
static bool split_name(const char *name, size_t *key_len, const char **ext)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash != NULL ? slash + 1 : name;
    const char *dot = strchr(base, '.');

    if (dot == NULL || dot == base || dot[1] == '\0')
        return false;
    *key_len = (size_t)(dot - name);
    *ext = dot + 1;
    return true;
}

/* Puts the next member that has a key into reader->ahead. */
static enum status look_ahead(struct webdataset_reader *reader, struct error *err)
{
    size_t key_len;
    const char *ext;
    enum status st;

    do
        st = tar_reader_next(&reader->tar, &reader->ahead, err);
    while (st == ST_OK && !split_name(reader->ahead.name, &key_len, &ext));
    reader->has_ahead = st == ST_OK;
    if (st == ST_CORRUPT) {
        reader->cut = st;
        reader->cut_why = *err;
        st = ST_END;
    }
    return st;
}

static bool is_same_key(const char *name, const char *key)
{
    size_t len;
    const char *ext;

    return split_name(name, &len, &ext) && strlen(key) == len && memcmp(name, key, len) == 0;
}

static void begin_sample(struct webdataset_reader *reader, char uid[RECORD_KEY_MAX + 1])
{
    size_t key_len = 0;
    const char *ext;

    (void)split_name(reader->ahead.name, &key_len, &ext);
    memcpy(reader->key, reader->ahead.name, key_len);
    reader->key[key_len] = '\0';
    (void)record_key_make(bytes_view_of(reader->key, key_len), RECORD_KEY_OF_SAMPLE, uid);
}

static void PRINTF_LIKE(3, 4)
    trouble_set(struct trouble *trouble, const char *reason, const char *fmt, ...)
{
    va_list ap;

    if (trouble->reason != NULL)
        return; /* the first one is the cause */
    trouble->reason = reason;
    va_start(ap, fmt);
    (void)vsnprintf(trouble->detail, sizeof trouble->detail, fmt, ap);
    va_end(ap);
}

/* Known extensions in lower case, as trainers see them; unknown ones as they are. */
static enum status copy_ext(const char *ext, struct arena *arena, const char **out,
                            struct error *err)
{
    static const char *const known[] = {"txt",       "url.txt", "json",  "syn.json",
                                        "paug.json", "npz",     "pth.gz"};
    char lower[MAX_EXT + 1], *copy;
    bool is_known = dataset_is_image_ext(ext);
    enum status st;

    dataset_lower(ext, lower, sizeof lower);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        is_known |= strcmp(lower, known[i]) == 0;
    ext = is_known ? lower : ext;
    st = arena_strndup(arena, ext, strlen(ext), &copy, err);
    *out = copy;
    return st;
}

/* Reads the member ahead into the arena, unless the sample is bad already. */
static enum status take_member(struct webdataset_reader *reader, size_t *n, uint64_t *bytes,
                               struct arena *arena, struct trouble *trouble, struct error *err)
{
    const struct tar_member *ahead = &reader->ahead;
    struct webdataset_member *member = &reader->members[MIN(*n, (size_t)MAX_MEMBERS - 1)];
    size_t key_len;
    const char *ext = "";
    uint8_t *body;
    enum status st;

    (void)split_name(ahead->name, &key_len, &ext);
    *bytes += ahead->bytes; /* cannot overflow: bodies lie inside the object */
    if (*n == MAX_MEMBERS)
        trouble_set(trouble, "too_many_members", "more than %d members", (int)MAX_MEMBERS);
    if (*bytes > reader->options.max_sample_bytes)
        trouble_set(trouble, "sample_too_large", "more than %zu bytes",
                    reader->options.max_sample_bytes);
    if (ahead->sparse)
        trouble_set(trouble, "sparse_member", "member %.100s is stored sparse; pack without -S",
                    ext);
    if (strlen(ext) > MAX_EXT)
        trouble_set(trouble, "bad_name", "extension of %zu bytes is longer than %d", strlen(ext),
                    (int)MAX_EXT);
    if (trouble->reason != NULL)
        return ST_OK;
    st = copy_ext(ext, arena, &member->ext, err);
    if (st == ST_OK)
        st = arena_alloc(arena, (size_t)ahead->bytes, &body, err);
    if (st == ST_OK)
        st = tar_reader_body(&reader->tar, ahead, body, err);
    if (st != ST_OK)
        return st;
    member->body = bytes_view_of(body, (size_t)ahead->bytes);
    for (size_t i = 0; i < *n; i++)
        if (strcmp(reader->members[i].ext, member->ext) == 0)
            trouble_set(trouble, "duplicate_member", "member %s is there twice", member->ext);
    (*n)++;
    return ST_OK;
}

static bool has_next(const struct webdataset_reader *reader)
{
    return reader->has_ahead &&
           (reader->options.end_offset == 0 || reader->ahead.offset < reader->options.end_offset);
}

/* To the sample that is ahead now. */
static void pass_sample(struct webdataset_reader *reader)
{
    reader->position.index++;
    reader->position.offset = reader->has_ahead ? reader->ahead.offset : reader->tar.stream.size;
}

static enum status read_sample(struct webdataset_reader *reader, struct arena *arena,
                               struct record *record, struct dataset_reject *reject,
                               struct error *err)
{
    struct trouble trouble = {0};
    char uid[RECORD_KEY_MAX + 1], *uid_copy;
    uint64_t bytes = 0;
    size_t n = 0;
    bool added;
    enum status st;

    begin_sample(reader, uid);
    st = dataset_keys_add(&reader->seen, bytes_of_string(uid), &added, err);
    if (st != ST_OK)
        return st;
    if (!added)
        trouble_set(&trouble, "repeated_key",
                    "key was there before: members of one key must be adjacent, and keys differ");
    do {
        st = take_member(reader, &n, &bytes, arena, &trouble, err);
        if (st == ST_OK)
            st = look_ahead(reader, err);
    } while (st == ST_OK && is_same_key(reader->ahead.name, reader->key));
    if (st != ST_OK && st != ST_END)
        return st;
    pass_sample(reader);
    if (reader->cut != ST_OK) { /* what the damage took may be this sample's */
        reader->cut = ST_OK;
        return dataset_reject_set(reject, bytes_of_string(uid), ST_CORRUPT, "damaged_archive",
                                  "%s; nothing behind it was read", reader->cut_why.message);
    }
    if (trouble.reason != NULL)
        return dataset_reject_set(reject, bytes_of_string(uid), ST_CORRUPT, trouble.reason, "%s",
                                  trouble.detail);
    st = arena_strndup(arena, uid, strlen(uid), &uid_copy, err);
    if (st != ST_OK)
        return st;
    return webdataset_read_members(reader->members, n, bytes_of_string(uid_copy), &reader->options,
                                   arena, record, reject, err);
}

static struct webdataset_reader *reader_of(struct dataset_reader *base)
{
    return CONTAINER_OF(base, struct webdataset_reader, base);
}

static enum status reader_next(struct dataset_reader *base, struct arena *arena,
                               struct record *record, struct dataset_reject *reject,
                               struct error *err)
{
    struct webdataset_reader *reader = reader_of(base);
    char where[32];

    if (reader->cut != ST_OK) { /* found behind the last whole sample, or at the very start */
        (void)snprintf(where, sizeof where, "byte %" PRIu64, reader->position.offset);
        reader->cut = ST_OK;
        reader->position.index++;
        reader->position.offset = reader->tar.stream.size;
        return dataset_reject_set(reject, bytes_of_string(where), ST_CORRUPT, "damaged_archive",
                                  "%s; nothing behind it was read", reader->cut_why.message);
    }
    if (!has_next(reader))
        return ST_END;
    return read_sample(reader, arena, record, reject, err);
}

static enum status reader_skip(struct dataset_reader *base, struct error *err)
{
    struct webdataset_reader *reader = reader_of(base);
    char uid[RECORD_KEY_MAX + 1];
    enum status st;

    if (!has_next(reader))
        return ST_END;
    begin_sample(reader, uid);
    do
        st = look_ahead(reader, err);
    while (st == ST_OK && is_same_key(reader->ahead.name, reader->key));
    pass_sample(reader);
    return st == ST_END ? ST_OK : st;
}

static uint64_t reader_end(const struct dataset_reader *base)
{
    const struct webdataset_reader *reader =
        (const struct webdataset_reader *)base; /* its first member */

    return reader->options.end_offset > 0 ? reader->options.end_offset : reader->tar.stream.size;
}

static void reader_tell(const struct dataset_reader *base, struct dataset_position *position)
{
    const struct webdataset_reader *reader =
        (const struct webdataset_reader *)base; /* its first member */

    *position = reader->position;
}

static void reader_close(struct dataset_reader *base)
{
    struct webdataset_reader *reader = reader_of(base);

    tar_reader_close(&reader->tar);
    dataset_keys_release(&reader->seen);
    free(reader);
}

static const struct dataset_reader_ops reader_ops = {
    .next = reader_next,
    .skip = reader_skip,
    .end = reader_end,
    .tell = reader_tell,
    .close = reader_close,
};

/* Goes over the headers before `from`, so that keys repeat and global headers count as if the whole
 * slice were read at once. */
static enum status skip_to(struct webdataset_reader *reader, uint64_t from, struct error *err)
{
    char uid[RECORD_KEY_MAX + 1];
    bool added;
    enum status st = look_ahead(reader, err);

    while (st == ST_OK && reader->ahead.offset < from) {
        begin_sample(reader, uid);
        st = dataset_keys_add(&reader->seen, bytes_of_string(uid), &added, err);
        do
            if (st == ST_OK)
                st = look_ahead(reader, err);
        while (st == ST_OK && is_same_key(reader->ahead.name, reader->key));
    }
    if (st != ST_OK && st != ST_END)
        return st;
    if (from == 0)
        return ST_OK;
    if (from != (reader->has_ahead ? reader->ahead.offset : reader->tar.stream.size))
        return error_set(err, ST_INVALID, "no sample begins at byte %" PRIu64, from);
    if (!reader->has_ahead)
        reader->cut = ST_OK; /* was reported by whoever came to the end before */
    return ST_OK;
}

static enum status webdataset_open(struct object_store *store, const char *key,
                                   const struct dataset_read_options *options,
                                   const struct dataset_position *from, struct dataset_reader **out,
                                   struct error *err)
{
    struct webdataset_reader *reader = calloc(1, sizeof *reader);
    enum status st;

    if (reader == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a tar reader");
    reader->base.ops = &reader_ops;
    reader->options = *options;
    st = tar_reader_open(&reader->tar, store, key, DATASET_STREAM_BYTES, err);
    if (st == ST_OK &&
        (options->begin_offset > reader->tar.stream.size || from->offset > reader->tar.stream.size))
        st = error_set(err, ST_INVALID, "position %" PRIu64 " is behind the end, %" PRIu64,
                       MAX(from->offset, options->begin_offset), reader->tar.stream.size);
    if (st == ST_OK) {
        reader->tar.next = options->begin_offset;
        reader->position = *from;
        st = skip_to(reader, from->offset, err);
    }
    if (st != ST_OK) {
        reader_close(&reader->base);
        return st;
    }
    *out = &reader->base;
    return ST_OK;
}

static bool webdataset_matches(const char *key, struct bytes_view head)
{
    size_t len = strlen(key);

    if (head.len > 0)
        return tar_matches(head);
    return len >= 4 && strcmp(key + len - 4, ".tar") == 0;
}

const struct dataset_format dataset_webdataset = {
    .name = "webdataset",
    .extension = ".tar",
    .matches = webdataset_matches,
    .open = webdataset_open,
    .append = webdataset_append,
    .tail = tar_write_tail,
};
