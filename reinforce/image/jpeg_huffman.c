/* A look-up of JPEG_LOOKUP_BITS bits gives up to two symbols with their values, or one and the
 * block's end, so that a coefficient takes less than the time of one dependent look-up:
 *
 *     bits   0.. 7  length: bits used, 0 if one symbol and its value do not fit
 *            8..15  place of the first value behind the current one
 *           16..23  place of the second value; one behind the first if there is none
 *           24..31  advance; with END at the end of a block
 *           32..47  first value: int16
 *           48..63  second value: int16
 *
 * When length is 0, bits 8..15 have the length of the code, 0 if that does not fit either, and bits
 * 32..47 the symbol. A value that is not there is written as 0 to a place not yet reached. */
#include "reinforce/image/jpeg_huffman.h"

#include <string.h>

enum {
    N = JPEG_LOOKUP_BITS,
    MAX_CODE_BITS = 16,
    END = 128,
    ZERO_RUN = 0xf0,
    PLACES = 64 + 32 + END + 1, /* the last place, two symbols' runs, and END behind them */
    PAST = JPEG_GROUP_COEFFICIENTS,
};

#define AT(row, column) ((row)*JPEG_GROUP_ROW + (column))
#define PAST_8          PAST, PAST, PAST, PAST, PAST, PAST, PAST, PAST

/* Zigzag order to a place in the group; none behind the first 96 is looked up. */
static const uint16_t places[PLACES] = {
    AT(0, 0), AT(0, 1), AT(1, 0), AT(2, 0), AT(1, 1), AT(0, 2), AT(0, 3), AT(1, 2), AT(2, 1),
    AT(3, 0), AT(4, 0), AT(3, 1), AT(2, 2), AT(1, 3), AT(0, 4), AT(0, 5), AT(1, 4), AT(2, 3),
    AT(3, 2), AT(4, 1), AT(5, 0), AT(6, 0), AT(5, 1), AT(4, 2), AT(3, 3), AT(2, 4), AT(1, 5),
    AT(0, 6), AT(0, 7), AT(1, 6), AT(2, 5), AT(3, 4), AT(4, 3), AT(5, 2), AT(6, 1), AT(7, 0),
    AT(7, 1), AT(6, 2), AT(5, 3), AT(4, 4), AT(3, 5), AT(2, 6), AT(1, 7), AT(2, 7), AT(3, 6),
    AT(4, 5), AT(5, 4), AT(6, 3), AT(7, 2), AT(7, 3), AT(6, 4), AT(5, 5), AT(4, 6), AT(3, 7),
    AT(4, 7), AT(5, 6), AT(6, 5), AT(7, 4), AT(7, 5), AT(6, 6), AT(5, 7), AT(6, 7), AT(7, 6),
    AT(7, 7), PAST_8,   PAST_8,   PAST_8,   PAST_8,
};

/* What N bits begin with. */
struct single {
    uint8_t length; /* of code and value, 0: do not fit */
    uint8_t code_length;
    uint8_t symbol;
    int16_t value;
};

static int32_t extend(uint32_t value, unsigned n_bits)
{
    return value >> (n_bits - 1) != 0 ? (int32_t)value : (int32_t)value - (1 << n_bits) + 1;
}

static struct single single_of(unsigned bits, unsigned length, uint8_t symbol, bool is_dc)
{
    unsigned n_bits = is_dc ? symbol : symbol & 15u;
    struct single single = {0, (uint8_t)length, symbol, 0};

    if (length + n_bits > N)
        return single;
    single.length = (uint8_t)(length + n_bits);
    if (n_bits > 0)
        single.value =
            (int16_t)extend((bits >> (N - length - n_bits)) & ((1u << n_bits) - 1), n_bits);
    return single;
}

static bool is_end(const struct single *single)
{
    return (single->symbol & 15) == 0 && single->symbol != ZERO_RUN;
}

static uint64_t entry(unsigned length, unsigned at1, unsigned at2, unsigned advance, int16_t value1,
                      int16_t value2)
{
    const uint8_t low[4] = {(uint8_t)length, (uint8_t)at1, (uint8_t)at2, (uint8_t)advance};
    const int16_t values[2] = {value1, value2};
    uint64_t entry;

    memcpy(&entry, low, sizeof low); /* little-endian, as the processors that read it */
    memcpy((uint8_t *)&entry + sizeof low, values, sizeof values);
    return entry;
}

static uint64_t pair_of(const struct single *first, const struct single *second, bool is_dc)
{
    unsigned run = first->symbol >> 4, length = first->length;

    if (length == 0)
        return entry(0, first->code_length, 0, 0, first->symbol, 0);
    if (is_dc)
        return entry(length, 0, 1, 1, first->value, 0);
    if (is_end(first))
        return entry(length, 0, 1, END, 0, 0);
    if (second->length == 0 || length + second->length > N)
        return entry(length, run, run + 1, run + 1, first->value, 0);
    length += second->length;
    if (is_end(second))
        return entry(length, run, run + 1, run + 1 + END, first->value, 0);
    return entry(length, run, run + 1 + (second->symbol >> 4), run + 2 + (second->symbol >> 4),
                 first->value, second->value);
}

bool jpeg_codes_init(struct jpeg_codes *codes, const uint8_t *counts, const uint8_t *symbols,
                     bool is_dc)
{
    struct single singles[1 << N] = {{0}};
    uint32_t code = 0;
    size_t n = 0;

    for (unsigned length = 1; length <= MAX_CODE_BITS; length++, code <<= 1) {
        codes->offset[length] = (int32_t)n - (int32_t)code;
        for (unsigned i = 0; i < counts[length]; i++, n++, code++) {
            if (n >= sizeof codes->symbols || (is_dc && symbols[n] > 15))
                return false;
            codes->symbols[n] = symbols[n];
            for (unsigned rest = 0; length <= N && rest < 1u << (N - length); rest++) {
                unsigned bits = code << (N - length) | rest;

                if (bits >= ARRAY_LEN(singles))
                    return false;
                singles[bits] = single_of(bits, length, symbols[n], is_dc);
            }
        }
        if (n > 0 && code >= 1u << length) /* no code is all ones */
            return false;
        codes->limit[length] = code << (MAX_CODE_BITS - length);
    }
    for (size_t bits = 0; bits < ARRAY_LEN(singles); bits++)
        codes->pairs[bits] =
            pair_of(&singles[bits], &singles[bits << singles[bits].length & ((1 << N) - 1)], is_dc);
    return true;
}

int jpeg_bits_init(struct jpeg_bits *bits, const uint8_t **at, const uint8_t *end, uint8_t *clean)
{
    uint8_t *to = clean;
    int marker = 0;

    for (const uint8_t *from = *at, *stop; from < end; from = stop + 2) {
        stop = memchr(from, 0xff, (size_t)(end - from));
        if (stop == NULL || stop + 1 == end || stop[1] == 0xff)
            break;
        memcpy(to, from, (size_t)(stop - from));
        to += stop - from;
        if (stop[1] != 0) {
            marker = stop[1];
            *at = stop + 2;
            break;
        }
        *to++ = 0xff;
    }
    memset(to, 0, JPEG_PAD_BYTES);
    *bits = (struct jpeg_bits){.next = clean, .start = clean, .end = to};
    return marker;
}

bool jpeg_bits_overran(const struct jpeg_bits *bits)
{
    return (bits->next - bits->start) * 8 - bits->n > (bits->end - bits->start) * 8;
}

/* At least 56 valid bits. */
static ALWAYS_INLINE void refill(struct jpeg_bits *bits)
{
    uint64_t more;

    memcpy(&more, bits->next, sizeof more);
    bits->buffer |= __builtin_bswap64(more) >> bits->n;
    bits->next += (63 - bits->n) >> 3;
    bits->n |= 56;
}

static ALWAYS_INLINE void take(struct jpeg_bits *bits, unsigned n)
{
    bits->buffer <<= n;
    bits->n -= (int)n;
}

/* A symbol by its code of `least` bits or more; -1: no such code. */
static ALWAYS_INLINE int symbol_by_code(struct jpeg_bits *bits, const struct jpeg_codes *codes,
                                        unsigned least)
{
    uint32_t code = (uint32_t)(bits->buffer >> (64 - MAX_CODE_BITS));
    unsigned length = least;

    while (length <= MAX_CODE_BITS && code >= codes->limit[length])
        length++;
    if (length > MAX_CODE_BITS)
        return -1;
    take(bits, length);
    return codes->symbols[(int32_t)(code >> (MAX_CODE_BITS - length)) + codes->offset[length]];
}

/* The symbol that the look-up `found` does not hold with its value. */
static ALWAYS_INLINE int long_symbol(struct jpeg_bits *bits, const struct jpeg_codes *codes,
                                     uint64_t found)
{
    unsigned length = found >> 8 & 255;

    if (length == 0)
        return symbol_by_code(bits, codes, N + 1);
    take(bits, length);
    return (int)(found >> 32 & 255);
}

static ALWAYS_INLINE int32_t long_value(struct jpeg_bits *bits, unsigned n_bits)
{
    int32_t value;

    if (n_bits == 0)
        return 0;
    value = extend((uint32_t)(bits->buffer >> (64 - n_bits)), n_bits);
    take(bits, n_bits);
    return value;
}

static ALWAYS_INLINE bool decode_dc(struct jpeg_bits *bits, const struct jpeg_codes *codes,
                                    int16_t *to, int32_t *dc)
{
    uint64_t found = codes->pairs[bits->buffer >> (64 - N)];

    if ((found & 255) != 0) {
        take(bits, found & 255);
        *dc += (int16_t)(found >> 32);
    } else {
        int symbol = long_symbol(bits, codes, found);

        if (symbol < 0)
            return false;
        *dc += long_value(bits, (unsigned)symbol);
    }
    *to = (int16_t)*dc;
    return *to == *dc;
}

/* A block that is full needs no end: what a look-up took for its second symbol is of the next
 * block. Back to `before`, and the first symbol alone. */
static ALWAYS_INLINE void take_first(struct jpeg_bits *bits, const struct jpeg_codes *codes,
                                     struct jpeg_bits before)
{
    int symbol;

    *bits = before;
    symbol = symbol_by_code(bits, codes, 1);
    take(bits, (unsigned)symbol & 15);
}

/* One look-up of AC symbols; `before` remembers where they began. */
#define STEP()                                                                                     \
    do {                                                                                           \
        found = codes->pairs[bits->buffer >> (64 - N)];                                            \
        if ((found & 255) == 0)                                                                    \
            goto slow;                                                                             \
        before = *bits;                                                                            \
        take(bits, found & 255);                                                                   \
        to[place[found >> 8 & 255]] = (int16_t)(found >> 32);                                      \
        to[place[found >> 16 & 255]] = (int16_t)(found >> 48);                                     \
        place += found >> 24 & 255;                                                                \
        if (place > last)                                                                          \
            goto end;                                                                              \
    } while (0)

static ALWAYS_INLINE bool decode_ac(struct jpeg_bits *bits, const struct jpeg_codes *codes,
                                    int16_t *to)
{
    const uint16_t *place = places + 1, *const last = places + 63;
    struct jpeg_bits before;
    uint64_t found;
    int symbol;
    size_t k;

    for (;;) {
        refill(bits);
        STEP();
        STEP();
        STEP();
        STEP();
        continue;
    slow:
        refill(bits);
        symbol = long_symbol(bits, codes, found);
        if (symbol < 0)
            return false;
        if ((symbol & 15) == 0 && symbol != ZERO_RUN)
            return true;
        place += symbol >> 4;
        if (place > last)
            return false;
        to[*place++] = (int16_t)long_value(bits, (unsigned)symbol & 15);
        if (place > last)
            return true;
    }
end:
    k = (size_t)(place - places);
    if (k - (found >> 24 & 255) + (found >> 8 & 255) == 63) {
        take_first(bits, codes, before);
        return true;
    }
    return (k & (END - 1)) <= 64;
}

#if defined(KERNEL_TARGET)
KERNEL_TARGET("bmi2")
#endif
bool jpeg_blocks_decode(struct jpeg_bits *shared, const struct jpeg_block *blocks, size_t n,
                        int32_t dc[3])
{
    struct jpeg_bits bits = *shared; /* in registers */

    for (const struct jpeg_block *block = blocks; block < blocks + n; block++) {
        refill(&bits);
        if (!decode_dc(&bits, block->dc, block->to, &dc[block->component]) ||
            !decode_ac(&bits, block->ac, block->to))
            return false;
    }
    *shared = bits;
    return true;
}
