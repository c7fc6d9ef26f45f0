#include "reinforce/curate/example_id.h"

#include "reinforce/base/sha256.h"

enum { HALF_DIGITS = 16, DIGITS = 2 * HALF_DIGITS };

/* False: one of them is no digit. */
static bool read_half(const char *digits, uint64_t *half)
{
    *half = 0;
    for (size_t d = 0; d < HALF_DIGITS; d++) {
        char c = digits[d];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return false;
        *half = *half << 4 | (uint64_t)digit;
    }
    return true;
}

struct example_id example_id_of_uid(struct bytes_view uid)
{
    const char *digits = (const char *)uid.data;
    char hex[SHA256_HEX_LEN + 1];
    struct example_id id;

    if (uid.len == DIGITS && read_half(digits, &id.high) &&
        read_half(digits + HALF_DIGITS, &id.low))
        return id;
    sha256_of(uid, hex);
    (void)read_half(hex, &id.high);
    (void)read_half(hex + HALF_DIGITS, &id.low);
    return id;
}
