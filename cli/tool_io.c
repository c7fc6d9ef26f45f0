#include "cli/tool_io.h"

#include "reinforce/base/file.h"
#include "reinforce/base/utf8.h"
#include "reinforce/image/decode.h"
#include "storage/format/npz.h"
#include "storage/hub/hub.h"

#include <stdio.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 30 };

enum status tool_model_dir(const char *model, char dir[PATH_MAX], struct error *err)
{
    const struct hub_options options = {0};

    return hub_resolve(&options, model, dir, err);
}

enum status tool_read_image(const char *path, struct arena *arena, struct image *out,
                            struct error *err)
{
    struct file_map map;
    enum status st = file_map_open(path, &map, err);

    if (st != ST_OK)
        return st;
    st = image_decode(map.bytes, NULL, arena, out, err);
    file_map_close(&map);
    if (st != ST_OK)
        error_add_context(err, "image \"%s\"", path);
    return st;
}

enum status tool_resize_as(const char *name, struct preprocess *pre, struct error *err)
{
    if (name == NULL)
        return ST_OK;
    pre->tensorflow = strcmp(name, "tensorflow") == 0;
    if (pre->tensorflow && pre->mode != PREPROCESS_SQUASH)
        return error_set(err, ST_INVALID,
                         "--resize tensorflow is for models that squash images to a square");
    if (strcmp(name, "bilinear") == 0)
        pre->filter = RESAMPLE_BILINEAR;
    else if (strcmp(name, "bicubic") == 0)
        pre->filter = RESAMPLE_BICUBIC;
    else if (!pre->tensorflow)
        return error_set(err, ST_INVALID,
                         "--resize \"%.40s\" is none of bilinear, bicubic, tensorflow", name);
    return ST_OK;
}

static enum status split_lines(struct bytes_view text, struct arena *arena,
                               struct bytes_view **lines, size_t *n, struct error *err)
{
    size_t n_ends = 0, begin = 0;
    enum status st;

    for (size_t i = 0; i < text.len; i++)
        n_ends += text.data[i] == '\n';
    st = arena_calloc(arena, n_ends + 1, sizeof **lines, lines, err);
    for (size_t i = 0; st == ST_OK && i <= text.len; i++) {
        bool last = i == text.len;
        size_t end = i;

        if (!last && text.data[i] != '\n')
            continue;
        if (last && begin == i)
            break;
        if (!last && end > begin && text.data[end - 1] == '\r')
            end--;
        (*lines)[(*n)++] = bytes_view_of(text.data + begin, end - begin);
        begin = i + 1;
    }
    return st;
}

enum status tool_read_lines(const char *path, struct arena *arena, struct bytes_view **lines,
                            size_t *n, struct error *err)
{
    struct byte_buf text;
    char *copy = NULL;
    enum status st;

    *n = 0;
    *lines = NULL;
    byte_buf_init(&text, FILE_MAX_BYTES);
    st = file_read(path, &text, err);
    if (st == ST_OK)
        st =
            arena_strndup(arena, text.len > 0 ? (const char *)text.data : "", text.len, &copy, err);
    if (st == ST_OK)
        st = split_lines(bytes_view_of(copy, text.len), arena, lines, n, err);
    byte_buf_release(&text);
    if (st != ST_OK)
        error_add_context(err, "texts \"%s\"", path);
    return st;
}

enum status tool_write_npz(const char *path, const struct record_embedding *arrays, size_t n,
                           struct error *err)
{
    struct byte_buf bytes;
    enum status st;

    byte_buf_init(&bytes, SIZE_MAX / 2);
    st = npz_write(arrays, n, &bytes, err);
    if (st == ST_OK)
        st = file_write_atomic(path, byte_buf_view(&bytes), err);
    byte_buf_release(&bytes);
    return st;
}

static enum status render(const json_t *value, struct byte_buf *text, struct error *err)
{
    enum status st = json_write(value, text, err);

    return st == ST_OK ? byte_buf_append(text, "\n", 1, err) : st;
}

enum status tool_write_json(const char *path, const json_t *value, struct error *err)
{
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, FILE_MAX_BYTES);
    st = render(value, &text, err);
    if (st == ST_OK)
        st = file_write_atomic(path, byte_buf_view(&text), err);
    byte_buf_release(&text);
    return st;
}

enum status tool_print_json(const json_t *value, struct error *err)
{
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, FILE_MAX_BYTES);
    st = render(value, &text, err);
    if (st == ST_OK)
        (void)fwrite(text.data, 1, text.len, stdout); /* main() looks at the stream's state */
    byte_buf_release(&text);
    return st;
}

void tool_print_text(struct bytes_view text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            (void)printf("\\x%02x", (unsigned)text.data[i]);
        else
            (void)putchar(text.data[i]);
    }
}

json_t *tool_json_text(struct bytes_view text)
{
    struct byte_buf valid;
    struct error err;
    json_t *string = NULL;
    enum status st = ST_OK;

    byte_buf_init(&valid, FILE_MAX_BYTES);
    for (size_t i = 0; i < text.len && st == ST_OK;) {
        uint8_t bytes[4];
        size_t len = utf8_put(utf8_next(text, &i), bytes);

        st = byte_buf_append(&valid, bytes, len, &err);
    }
    if (st == ST_OK)
        string = json_stringn(valid.len > 0 ? (const char *)valid.data : "", valid.len);
    byte_buf_release(&valid);
    return string;
}

enum status tool_json_append(json_t *list, json_t *value, struct error *err)
{
    if (json_array_append_new(list, value) == 0)
        return ST_OK;
    return error_set(err, ST_NO_MEMORY, "could not allocate the answer");
}

enum status tool_json_set(json_t *object, const char *key, json_t *value, struct error *err)
{
    if (json_object_set_new(object, key, value) == 0)
        return ST_OK;
    return error_set(err, ST_NO_MEMORY, "could not allocate the answer");
}
