#include "storage/object/range_read.h"

#include <inttypes.h>
#include <stdio.h>

/* Where the bytes of a range go. */
struct sink {
    uint8_t *out;
    size_t len, done;
};

static enum status take(void *ctx, struct bytes_view piece, struct error *err)
{
    struct sink *sink = ctx;

    if (piece.len > sink->len - sink->done)
        return error_set(err, ST_CORRUPT, "the server sent more bytes than were asked for");
    memcpy(sink->out + sink->done, piece.data, piece.len);
    sink->done += piece.len;
    return ST_OK;
}

enum status range_too_short(const char *name, uint64_t offset, size_t len, struct error *err)
{
    return error_set(err, ST_CORRUPT,
                     "%.120s is too short: %zu bytes were expected from offset %" PRIu64, name, len,
                     offset);
}

enum status range_read(const struct range_source *source, uint64_t offset, size_t len, void *out,
                       struct error *err)
{
    struct sink sink = {.out = out, .len = len};
    char version[128] = "";

    if (source->etag != NULL)
        (void)snprintf(version, sizeof version, "%s", source->etag);
    while (sink.done < len) {
        struct http_response response;
        size_t before = sink.done;
        bool replaced, beyond;
        enum status st = source->ask(source->ctx, offset + sink.done, len - sink.done, take, &sink,
                                     &response, err);

        beyond = response.status == 416;
        replaced = sink.done > before && version[0] != '\0' && response.etag[0] != '\0' &&
                   strcmp(version, response.etag) != 0;
        if (version[0] == '\0')
            (void)snprintf(version, sizeof version, "%s", response.etag);
        http_response_release(&response);
        if (replaced)
            return error_set(err, ST_CONFLICT, "%.120s was replaced while it was read",
                             source->name);
        if (beyond || (st == ST_OK && sink.done < len))
            return range_too_short(source->name, offset, len, err);
        if (st != ST_OK && (!status_is_retryable(st) || sink.done == before))
            return st;
    }
    return ST_OK;
}
