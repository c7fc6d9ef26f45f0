/* A message that decodes survives encoding and decoding unchanged. */
#include "proto/wire.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_message first, second;
    struct byte_buf buf;
    struct error err;

    if (size > 4096 || wire_decode(bytes_view_of(data, size), &first, &err) != ST_OK)
        return 0;
    byte_buf_init(&buf, 1 << 16);
    if (wire_encode(&first, &buf, &err) == ST_OK) {
        enum status st = wire_decode(byte_buf_view(&buf), &second, &err);

        assert(st == ST_OK && memcmp(&first, &second, sizeof first) == 0);
    }
    byte_buf_release(&buf);
    return 0;
}
