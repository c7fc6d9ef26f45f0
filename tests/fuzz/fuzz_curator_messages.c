/* A message that decodes is encoded to what decodes to the same bytes. Input: 0 to 3 (request,
 * reply, probe, status), a number of frames, 16 bits for the length of each, the message. */
#include "proto/curator_probe.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 2 + 2 * CURATOR_MAX_FRAMES };

static const uint8_t rows[UINT16_MAX];

static void check_request(struct bytes_view message, const struct bytes_view *frames, size_t n,
                          struct arena *arena, struct byte_buf *once, struct byte_buf *twice)
{
    struct bytes_view again[CURATOR_MAX_FRAMES];
    struct curator_request request;
    struct error err;
    size_t n_again;
    enum status st;

    if (curator_request_decode(message, frames, n, &request, arena, &err) != ST_OK ||
        curator_request_encode(&request, once, again, &n_again, &err) != ST_OK)
        return;
    assert(n_again == n);
    st = curator_request_decode(byte_buf_view(once), again, n_again, &request, arena, &err);
    assert(st == ST_OK);
    if (curator_request_encode(&request, twice, again, &n_again, &err) == ST_OK)
        assert(bytes_equal(byte_buf_view(once), byte_buf_view(twice)));
}

static void check_reply(struct bytes_view message, const struct bytes_view *frames, size_t n,
                        struct arena *arena, struct byte_buf *once, struct byte_buf *twice)
{
    struct bytes_view again[CURATOR_MAX_FRAMES];
    struct curator_reply reply;
    struct error err;
    size_t n_again;
    enum status st;

    if (curator_reply_decode(message, frames, n, &reply, arena, &err) != ST_OK ||
        curator_reply_encode(&reply, once, again, &n_again, &err) != ST_OK)
        return;
    assert(n_again == n);
    st = curator_reply_decode(byte_buf_view(once), again, n_again, &reply, arena, &err);
    assert(st == ST_OK);
    if (curator_reply_encode(&reply, twice, again, &n_again, &err) == ST_OK)
        assert(bytes_equal(byte_buf_view(once), byte_buf_view(twice)));
}

static void check_probe(struct bytes_view message, const struct bytes_view *frames, size_t n,
                        struct byte_buf *once, struct byte_buf *twice)
{
    struct bytes_view again[CURATOR_MAX_FRAMES];
    struct curator_probe_request request;
    struct error err;
    size_t n_again;
    enum status st;

    if (curator_probe_request_decode(message, frames, n, &request, &err) != ST_OK ||
        curator_probe_request_encode(&request, once, again, &n_again, &err) != ST_OK)
        return;
    assert(n_again == n);
    st = curator_probe_request_decode(byte_buf_view(once), again, n_again, &request, &err);
    assert(st == ST_OK);
    if (curator_probe_request_encode(&request, twice, again, &n_again, &err) == ST_OK)
        assert(bytes_equal(byte_buf_view(once), byte_buf_view(twice)));
}

static void check_status(struct bytes_view message, struct byte_buf *once, struct byte_buf *twice)
{
    struct curator_status_reply reply;
    struct error err;
    enum status st;

    if (curator_status_reply_decode(message, &reply, &err) != ST_OK ||
        curator_status_reply_encode(&reply, once, &err) != ST_OK)
        return;
    st = curator_status_reply_decode(byte_buf_view(once), &reply, &err);
    assert(st == ST_OK);
    if (curator_status_reply_encode(&reply, twice, &err) == ST_OK)
        assert(bytes_equal(byte_buf_view(once), byte_buf_view(twice)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES], message;
    struct byte_buf once, twice;
    struct arena arena;
    size_t n;

    if (size < HEAD || size > 4096)
        return 0;
    n = MIN((size_t)data[1], (size_t)CURATOR_MAX_FRAMES);
    for (size_t f = 0; f < n; f++)
        frames[f] = bytes_view_of(rows, data[2 + 2 * f] | (size_t)data[3 + 2 * f] << 8);
    message = bytes_view_of(data + HEAD, size - HEAD);
    arena_init(&arena, 1 << 20);
    byte_buf_init(&once, 1 << 16);
    byte_buf_init(&twice, 1 << 16);
    if (data[0] == 0)
        check_request(message, frames, n, &arena, &once, &twice);
    else if (data[0] == 2)
        check_probe(message, frames, n, &once, &twice);
    else if (data[0] == 3)
        check_status(message, &once, &twice);
    else
        check_reply(message, frames, n, &arena, &once, &twice);
    byte_buf_release(&once);
    byte_buf_release(&twice);
    arena_release(&arena);
    return 0;
}
