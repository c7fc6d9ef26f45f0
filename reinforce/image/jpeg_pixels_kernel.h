/* The kernels of jpeg_pixels.c for one width of vector, included once for each. All of it is done
 * in 128-bit lanes: each holds a row of eight coefficients of one block, or 16 pixels.
 *
 * TARGET       function attribute
 * NAME(x)      x with a prefix; KERNEL: its name
 * VECTOR       __m256i or __m512i
 * VECTOR_BYTES of it
 * OP(x)        the intrinsic x of that width
 * LOAD(p), STORE(p, v)  unaligned; LOAD_LANE(p): 16 bytes to every lane
 * WIDEN(p)     VECTOR_BYTES / 2 bytes to 16 bits each
 * BLOCK_ROWS(v) puts the even 64-bit halves of lanes in the lower half, odd ones in the upper
 * LOWER(v), UPPER(v), STORE_HALF(p, v) these halves
 * LANE(v, i), ANY_BIT(v, mask): of 16-bit words */

struct NAME(wide) {
    VECTOR lo, hi; /* 32-bit sums of columns 0..3 and 4..7 */
};

/* Sums of products of neighbours. */
TARGET static ALWAYS_INLINE VECTOR NAME(sums)(VECTOR v, int first, int second)
{
    return OP(madd_epi16)(
        v, OP(set1_epi32)((int)((uint32_t)(uint16_t)first | (uint32_t)second << 16)));
}

TARGET static ALWAYS_INLINE struct NAME(wide) NAME(dot)(VECTOR a, VECTOR b, int first, int second)
{
    return (struct NAME(wide)){NAME(sums)(OP(unpacklo_epi16)(a, b), first, second),
                               NAME(sums)(OP(unpackhi_epi16)(a, b), first, second)};
}

TARGET static ALWAYS_INLINE struct NAME(wide) NAME(plus)(struct NAME(wide) a, struct NAME(wide) b)
{
    return (struct NAME(wide)){OP(add_epi32)(a.lo, b.lo), OP(add_epi32)(a.hi, b.hi)};
}

TARGET static ALWAYS_INLINE struct NAME(wide) NAME(minus)(struct NAME(wide) a, struct NAME(wide) b)
{
    return (struct NAME(wide)){OP(sub_epi32)(a.lo, b.lo), OP(sub_epi32)(a.hi, b.hi)};
}

/* v << bits, widened */
TARGET static ALWAYS_INLINE struct NAME(wide) NAME(scaled)(VECTOR v, uint8_t bits)
{
    VECTOR zero = (VECTOR){0};

    return (struct NAME(wide)){
        OP(srai_epi32)(OP(unpacklo_epi16)(zero, v), 16 - bits),
        OP(srai_epi32)(OP(unpackhi_epi16)(zero, v), 16 - bits),
    };
}

TARGET static ALWAYS_INLINE VECTOR NAME(rounded)(VECTOR v, uint8_t shift)
{
    return OP(srai_epi32)(OP(add_epi32)(v, OP(set1_epi32)(1 << (shift - 1))), shift);
}

TARGET static ALWAYS_INLINE VECTOR NAME(descaled)(struct NAME(wide) v, uint8_t shift)
{
    return OP(packs_epi32)(NAME(rounded)(v.lo, shift), NAME(rounded)(v.hi, shift));
}

/* One pass of jidctint.c over the rows v[0..7], in place. */
TARGET static ALWAYS_INLINE void NAME(pass)(VECTOR v[8], uint8_t shift)
{
    struct NAME(wide) even0 = NAME(scaled)(OP(add_epi16)(v[0], v[4]), CONST_BITS);
    struct NAME(wide) even1 = NAME(scaled)(OP(sub_epi16)(v[0], v[4]), CONST_BITS);
    struct NAME(wide) even2 = NAME(dot)(v[2], v[6], F_0_541, F_0_541 - F_1_847);
    struct NAME(wide) even3 = NAME(dot)(v[2], v[6], F_0_541 + F_0_765, F_0_541);
    struct NAME(wide) e[4] = {NAME(plus)(even0, even3), NAME(plus)(even1, even2),
                              NAME(minus)(even1, even2), NAME(minus)(even0, even3)};
    VECTOR z3 = OP(add_epi16)(v[7], v[3]), z4 = OP(add_epi16)(v[5], v[1]);
    struct NAME(wide) odd3 = NAME(dot)(z3, z4, F_1_175 - F_1_961, F_1_175);
    struct NAME(wide) odd4 = NAME(dot)(z3, z4, F_1_175, F_1_175 - F_0_390);
    struct NAME(wide) o[4] = {
        NAME(plus)(NAME(dot)(v[7], v[1], -F_0_899, F_1_501 - F_0_899), odd4),
        NAME(plus)(NAME(dot)(v[5], v[3], -F_2_562, F_3_072 - F_2_562), odd3),
        NAME(plus)(NAME(dot)(v[5], v[3], F_2_053 - F_2_562, -F_2_562), odd4),
        NAME(plus)(NAME(dot)(v[7], v[1], F_0_298 - F_0_899, -F_0_899), odd3),
    };

    for (int i = 0; i < 4; i++) {
        v[i] = NAME(descaled)(NAME(plus)(e[i], o[i]), shift);
        v[7 - i] = NAME(descaled)(NAME(minus)(e[i], o[i]), shift);
    }
}

TARGET static ALWAYS_INLINE void NAME(transpose)(VECTOR v[8])
{
    VECTOR a[8], b[8];

    for (int i = 0; i < 4; i++) {
        a[2 * i] = OP(unpacklo_epi16)(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = OP(unpackhi_epi16)(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int h = 0; h < 2; h++) { /* rows 4i..4i+3, columns 4h..4h+3 */
            b[4 * i + 2 * h] = OP(unpacklo_epi32)(a[4 * i + h], a[4 * i + 2 + h]);
            b[4 * i + 2 * h + 1] = OP(unpackhi_epi32)(a[4 * i + h], a[4 * i + 2 + h]);
        }
    for (int c = 0; c < 4; c++) {
        v[2 * c] = OP(unpacklo_epi64)(b[c], b[4 + c]);
        v[2 * c + 1] = OP(unpackhi_epi64)(b[c], b[4 + c]);
    }
}

/* Rows of as many blocks as a vector has lanes. */
TARGET static ALWAYS_INLINE void NAME(dequantise)(const int16_t *group, const uint16_t *quant,
                                                  size_t first, VECTOR v[8])
{
    for (size_t r = 0; r < 8; r++)
        v[r] =
            OP(mullo_epi16)(LOAD(group + r * JPEG_GROUP_ROW + first * 8), LOAD_LANE(quant + r * 8));
}

TARGET static bool NAME(idct)(const int16_t *group, const uint16_t *quant, uint8_t *to,
                              size_t stride)
{
    enum { BLOCKS = VECTOR_BYTES / 16 };
    bool is_wide = false;

    for (size_t first = 0; first < JPEG_GROUP_BLOCKS; first += BLOCKS) {
        VECTOR v[8];

        NAME(dequantise)(group, quant, first, v);
        is_wide |= ANY_BIT(OP(abs_epi16)(v[0]), TOO_WIDE);
        NAME(pass)(v, CONST_BITS - PASS1_BITS);
        NAME(transpose)(v);
        NAME(pass)(v, CONST_BITS + PASS1_BITS + 3);
        NAME(transpose)(v);
        for (size_t r = 0; r < 8; r += 2) {
            VECTOR two = BLOCK_ROWS(OP(packs_epi16)(v[r], v[r + 1]) ^ OP(set1_epi8)(-128));

            STORE_HALF(to + r * stride + first * 8, LOWER(two));
            STORE_HALF(to + (r + 1) * stride + first * 8, UPPER(two));
        }
    }
    return !is_wide;
}

/* Puts columns 0 and 4, 2 and 6, 1 and 3, 5 and 7 of n rows side by side. True: values so large
 * that libjpeg's way to skip empty rows would change the result. */
TARGET static ALWAYS_INLINE bool NAME(pair_columns)(VECTOR *v, int n)
{
    bool is_wide = false;

    for (int r = 0; r < n; r++) {
        is_wide |= ANY_BIT(OP(abs_epi16)(v[r]), TOO_WIDE_REDUCED);
        v[r] = OP(shuffle_epi8)(v[r], LOAD_LANE(pairs));
    }
    return is_wide;
}

TARGET static bool NAME(idct_4)(const int16_t *group, const uint16_t *quant, uint8_t *to,
                                size_t stride)
{
    enum { SHIFT1 = CONST_BITS - PASS1_BITS + 1, SHIFT2 = CONST_BITS + PASS1_BITS + 3 + 1 };
    bool is_wide = false;

    for (size_t first = 0; first < JPEG_GROUP_BLOCKS; first += VECTOR_BYTES / 16) {
        uint8_t blocks[VECTOR_BYTES];
        VECTOR v[8], a, b, c, d, p[4], even[2], odd[2];

        NAME(dequantise)(group, quant, first, v);
        {
            struct NAME(wide) e0 = NAME(scaled)(v[0], CONST_BITS + 1);
            struct NAME(wide) e1 = NAME(dot)(v[2], v[6], F_1_847, -F_0_765);
            struct NAME(wide) o0 = NAME(plus)(NAME(dot)(v[7], v[5], -F_0_211, F_1_451),
                                              NAME(dot)(v[3], v[1], -F_2_172, F_1_061));
            struct NAME(wide) o1 = NAME(plus)(NAME(dot)(v[7], v[5], -F_0_509, -F_0_601),
                                              NAME(dot)(v[3], v[1], F_0_899, F_2_562));

            v[0] = NAME(descaled)(NAME(plus)(NAME(plus)(e0, e1), o1), SHIFT1);
            v[3] = NAME(descaled)(NAME(minus)(NAME(plus)(e0, e1), o1), SHIFT1);
            v[1] = NAME(descaled)(NAME(plus)(NAME(minus)(e0, e1), o0), SHIFT1);
            v[2] = NAME(descaled)(NAME(minus)(NAME(minus)(e0, e1), o0), SHIFT1);
        }
        is_wide |= NAME(pair_columns)(v, 4);
        a = OP(unpacklo_epi32)(v[0], v[1]);
        b = OP(unpacklo_epi32)(v[2], v[3]);
        c = OP(unpackhi_epi32)(v[0], v[1]);
        d = OP(unpackhi_epi32)(v[2], v[3]);
        p[0] = NAME(sums)(OP(unpacklo_epi64)(a, b), 1 << (CONST_BITS + 1), 0);
        p[1] = OP(unpackhi_epi64)(a, b);
        p[2] = OP(unpacklo_epi64)(c, d);
        p[3] = OP(unpackhi_epi64)(c, d);
        even[1] = NAME(sums)(p[1], F_1_847, -F_0_765);
        even[0] = OP(add_epi32)(p[0], even[1]);
        even[1] = OP(sub_epi32)(p[0], even[1]);
        odd[0] =
            OP(add_epi32)(NAME(sums)(p[3], -F_0_601, -F_0_509), NAME(sums)(p[2], F_2_562, F_0_899));
        odd[1] =
            OP(add_epi32)(NAME(sums)(p[3], F_1_451, -F_0_211), NAME(sums)(p[2], F_1_061, -F_2_172));
        a = OP(packs_epi32)(NAME(rounded)(OP(add_epi32)(even[0], odd[0]), SHIFT2),
                            NAME(rounded)(OP(add_epi32)(even[1], odd[1]), SHIFT2));
        b = OP(packs_epi32)(NAME(rounded)(OP(sub_epi32)(even[1], odd[1]), SHIFT2),
                            NAME(rounded)(OP(sub_epi32)(even[0], odd[0]), SHIFT2));
        a = OP(packs_epi16)(a, b) ^ OP(set1_epi8)(-128);
        STORE(blocks, OP(shuffle_epi8)(a, LOAD_LANE(turned_4)));
        for (size_t i = 0; i < VECTOR_BYTES / 16; i++)
            for (size_t r = 0; r < 4; r++)
                memcpy(to + r * stride + (first + i) * 4, blocks + 16 * i + 4 * r, 4);
    }
    return !is_wide;
}

TARGET static bool NAME(idct_2)(const int16_t *group, const uint16_t *quant, uint8_t *to,
                                size_t stride)
{
    enum { SHIFT1 = CONST_BITS - PASS1_BITS + 2, SHIFT2 = CONST_BITS + PASS1_BITS + 3 + 2 };
    bool is_wide = false;

    for (size_t first = 0; first < JPEG_GROUP_BLOCKS; first += VECTOR_BYTES / 16) {
        uint8_t blocks[VECTOR_BYTES];
        VECTOR v[8], even, odd;

        NAME(dequantise)(group, quant, first, v);
        {
            struct NAME(wide) e = NAME(scaled)(v[0], CONST_BITS + 2);
            struct NAME(wide) o = NAME(plus)(NAME(dot)(v[7], v[5], -F_0_720, F_0_850),
                                             NAME(dot)(v[3], v[1], -F_1_272, F_3_624));

            v[0] = NAME(descaled)(NAME(plus)(e, o), SHIFT1);
            v[1] = NAME(descaled)(NAME(minus)(e, o), SHIFT1);
        }
        is_wide |= NAME(pair_columns)(v, 2);
        /* in the lower halves of lanes, a row each */
        even = NAME(sums)(OP(unpacklo_epi32)(v[0], v[1]), 1 << (CONST_BITS + 1), 0);
        even = OP(add_epi32)(even, even);
        odd = OP(unpackhi_epi32)(v[0], v[1]);
        odd = OP(add_epi32)(NAME(sums)(odd, F_3_624, -F_1_272),
                            OP(shuffle_epi32)(NAME(sums)(odd, F_0_850, -F_0_720), 0xee));
        even = OP(packs_epi32)(NAME(rounded)(OP(add_epi32)(even, odd), SHIFT2),
                               NAME(rounded)(OP(sub_epi32)(even, odd), SHIFT2));
        STORE(blocks, OP(packs_epi16)(even, even) ^ OP(set1_epi8)(-128));
        for (size_t i = 0; i < VECTOR_BYTES / 16; i++)
            for (size_t r = 0; r < 2; r++) {
                to[r * stride + (first + i) * 2] = blocks[16 * i + r];
                to[r * stride + (first + i) * 2 + 1] = blocks[16 * i + 4 + r];
            }
    }
    return !is_wide;
}

/* 3 near + far */
TARGET static ALWAYS_INLINE VECTOR NAME(column)(const uint8_t *near, const uint8_t *far)
{
    VECTOR n = WIDEN(near);

    return OP(add_epi16)(OP(add_epi16)(n, OP(add_epi16)(n, n)), WIDEN(far));
}

/* (3 at + beside + round) >> shift for both neighbours, side by side */
TARGET static ALWAYS_INLINE VECTOR NAME(between)(VECTOR left, VECTOR at, VECTOR right,
                                                 int round_left, int round_right, uint8_t shift)
{
    VECTOR three = OP(add_epi16)(at, OP(add_epi16)(at, at));
    VECTOR even = OP(add_epi16)(OP(add_epi16)(three, left), OP(set1_epi16)((int16_t)round_left));
    VECTOR odd = OP(add_epi16)(OP(add_epi16)(three, right), OP(set1_epi16)((int16_t)round_right));

    return OP(srli_epi16)(even, shift) | OP(slli_epi16)(OP(srli_epi16)(odd, shift), 8);
}

TARGET static void NAME(upsample_2x2)(const uint8_t *near, const uint8_t *far, size_t n,
                                      uint8_t *to)
{
    for (size_t i = 0; i < n; i += VECTOR_BYTES / 2)
        STORE(to + 2 * i, NAME(between)(NAME(column)(near + i - 1, far + i - 1),
                                        NAME(column)(near + i, far + i),
                                        NAME(column)(near + i + 1, far + i + 1), 8, 7, 4));
}

TARGET static void NAME(upsample_2x1)(const uint8_t *row, size_t n, uint8_t *to)
{
    for (size_t i = 0; i < n; i += VECTOR_BYTES / 2)
        STORE(to + 2 * i,
              NAME(between)(WIDEN(row + i - 1), WIDEN(row + i), WIDEN(row + i + 1), 1, 2, 2));
}

/* (2 v * k / 2^16, rounded) / 2 */
TARGET static ALWAYS_INLINE VECTOR NAME(part)(VECTOR v, int k)
{
    VECTOR product = OP(mulhi_epi16)(OP(add_epi16)(v, v), OP(set1_epi16)((int16_t)k));

    return OP(srai_epi16)(OP(add_epi16)(product, OP(set1_epi16)(1)), 1);
}

/* Eight pixels of each lane to 16-bit red, green and blue. */
TARGET static ALWAYS_INLINE void NAME(colour)(VECTOR y, VECTOR cb, VECTOR cr, VECTOR rgb[3])
{
    VECTOR centre = OP(set1_epi16)(128), half = OP(set1_epi32)(1 << 15);
    struct NAME(wide) green;

    cb = OP(sub_epi16)(cb, centre);
    cr = OP(sub_epi16)(cr, centre);
    green = NAME(dot)(cb, cr, -F_0_344, F_0_285);
    green.lo = OP(srai_epi32)(OP(add_epi32)(green.lo, half), 16);
    green.hi = OP(srai_epi32)(OP(add_epi32)(green.hi, half), 16);
    rgb[0] = OP(add_epi16)(OP(add_epi16)(y, cr), NAME(part)(cr, F_0_402));
    rgb[1] = OP(add_epi16)(y, OP(sub_epi16)(OP(packs_epi32)(green.lo, green.hi), cr));
    rgb[2] = OP(add_epi16)(OP(add_epi16)(y, OP(add_epi16)(cb, cb)), NAME(part)(cb, -F_0_228));
}

TARGET static ALWAYS_INLINE void NAME(pixels)(const uint8_t *y, const uint8_t *cb,
                                              const uint8_t *cr, uint8_t *rgb)
{
    VECTOR luma = LOAD(y), blue = LOAD(cb), red = LOAD(cr), zero = (VECTOR){0};
    VECTOR lo[3], hi[3], c[3], out[3];

    NAME(colour)
    (OP(unpacklo_epi8)(luma, zero), OP(unpacklo_epi8)(blue, zero), OP(unpacklo_epi8)(red, zero),
     lo);
    NAME(colour)
    (OP(unpackhi_epi8)(luma, zero), OP(unpackhi_epi8)(blue, zero), OP(unpackhi_epi8)(red, zero),
     hi);
    for (int i = 0; i < 3; i++)
        c[i] = OP(packus_epi16)(lo[i], hi[i]);
    for (int i = 0; i < 3; i++)
        out[i] = OP(shuffle_epi8)(c[0], LOAD_LANE(interleave[i][0])) |
                 OP(shuffle_epi8)(c[1], LOAD_LANE(interleave[i][1])) |
                 OP(shuffle_epi8)(c[2], LOAD_LANE(interleave[i][2]));
#define STORE_LANE(lane)                                                                           \
    for (int i = 0; i < 3; i++)                                                                    \
    _mm_storeu_si128((__m128i_u *)(rgb + 48 * (lane) + 16 * i), LANE(out[i], lane))
    STORE_LANE(0);
    STORE_LANE(1);
#if VECTOR_BYTES == 64
    STORE_LANE(2);
    STORE_LANE(3);
#endif
#undef STORE_LANE
}

TARGET static void NAME(to_rgb)(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n,
                                uint8_t *rgb)
{
    uint8_t rest[3 * VECTOR_BYTES];
    size_t x = 0;

    for (; x + VECTOR_BYTES <= n; x += VECTOR_BYTES)
        NAME(pixels)(y + x, cb + x, cr + x, rgb + 3 * x);
    if (x < n) {
        NAME(pixels)(y + x, cb + x, cr + x, rest);
        memcpy(rgb + 3 * x, rest, 3 * (n - x));
    }
}

static const struct jpeg_pixels NAME(kernel) = {
    KERNEL,       NAME(idct), NAME(idct_4), NAME(idct_2), NAME(upsample_2x2), NAME(upsample_2x1),
    NAME(to_rgb),
};

#undef TARGET
#undef NAME
#undef KERNEL
#undef VECTOR
#undef VECTOR_BYTES
#undef OP
#undef LOAD
#undef STORE
#undef LOAD_LANE
#undef WIDEN
#undef BLOCK_ROWS
#undef LOWER
#undef UPPER
#undef STORE_HALF
#undef LANE
#undef ANY_BIT
