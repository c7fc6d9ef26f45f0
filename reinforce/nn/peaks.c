#include "reinforce/nn/peaks.h"

#include "reinforce/base/clock.h"
#include "reinforce/nn/float_kernels.h"
#include "reinforce/nn/int8_kernels.h"

#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>

enum { SUMS = 12, LOOPS = 2000000 };

/* Operations per second of LOOPS times SUMS independent multiply-adds whose operands, zeros, never
 * leave the registers. */
/* clang-format off */
#define ONE(op, reg, sum) op " %%" reg "14, %%" reg "15, %%" reg #sum "\n\t"
#define RATE_OF(name, isa, op, reg, operations)                                                    \
    KERNEL_TARGET(isa) static double name(void)                                                    \
    {                                                                                              \
        int64_t begun = clock_cpu_ns(), loops = LOOPS;                                             \
                                                                                                   \
        __asm__ volatile("vzeroall\n\t"                                                            \
                         "1:\n\t"                                                                  \
                         ONE(op, reg, 0) ONE(op, reg, 1) ONE(op, reg, 2) ONE(op, reg, 3)           \
                         ONE(op, reg, 4) ONE(op, reg, 5) ONE(op, reg, 6) ONE(op, reg, 7)           \
                         ONE(op, reg, 8) ONE(op, reg, 9) ONE(op, reg, 10) ONE(op, reg, 11)         \
                         "dec %0\n\t"                                                              \
                         "jnz 1b\n\t"                                                              \
                         : "+r"(loops)                                                             \
                         :                                                                         \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",   \
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15");                    \
        return (operations) * SUMS * LOOPS / ((double)(clock_cpu_ns() - begun) * 1e-9);            \
    }
/* clang-format on */
RATE_OF(avx2_float32, "avx2,fma", "vfmadd231ps", "ymm", 2.0 * 8)
RATE_OF(avx512_float32, "avx512f", "vfmadd231ps", "zmm", 2.0 * 16)
RATE_OF(avx512_int8, "avx512f,avx512vnni", "vpdpbusd", "zmm", 2.0 * 64)

/* The same of tiles: four sums, as the kernels have them, of operands that were loaded once. Of
 * tiles that never were, products take no time where a neighbour uses the core. */
enum { TILES = 4, AMX_LOOPS = 200000 };

KERNEL_TARGET("amx-tile") static void load_operands(void)
{
    static uint8_t tile[AMX_ROWS * AMX_BYTES];

    memset(tile, 0x3f, sizeof tile); /* 63, or 0.75 as bfloat16 */
    _tile_loadd(4, tile, AMX_BYTES);
    _tile_loadd(5, tile, AMX_BYTES);
    _tile_loadd(6, tile, AMX_BYTES);
    _tile_loadd(7, tile, AMX_BYTES);
}

#define EACH_TILE(multiply)                                                                        \
    multiply(0, 4, 6);                                                                             \
    multiply(1, 4, 7);                                                                             \
    multiply(2, 5, 6);                                                                             \
    multiply(3, 5, 7);

KERNEL_TARGET("amx-tile,amx-int8") static double amx_int8(const struct int8_kernel *kernel)
{
    int64_t begun;

    kernel->begin();
    load_operands();
    begun = clock_cpu_ns();
    for (int i = 0; i < AMX_LOOPS; i++) {
        EACH_TILE(_tile_dpbsud)
    }
    begun = clock_cpu_ns() - begun;
    kernel->end();
    return 2.0 * AMX_ROWS * AMX_BYTES * 16 * TILES * AMX_LOOPS / ((double)begun * 1e-9);
}

KERNEL_TARGET("amx-tile,amx-bf16") double peaks_bf16(const struct float_kernel *amx)
{
    const double products = 16.0 * 16 * 32 / FLOAT_PARTS; /* of float32 */
    int64_t begun;

    amx->parts->begin(FLOAT_MAX_ROWS);
    load_operands();
    begun = clock_cpu_ns();
    for (int i = 0; i < AMX_LOOPS; i++) {
        EACH_TILE(_tile_dpbf16ps)
    }
    begun = clock_cpu_ns() - begun;
    amx->parts->end();
    return 2 * products * TILES * AMX_LOOPS / ((double)begun * 1e-9);
}

double peaks_float32(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return avx512_float32();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_float32() : 0;
}

double peaks_int8(const struct int8_kernel *kernel)
{
    if (strcmp(kernel->name, "amx") == 0)
        return amx_int8(kernel);
    return strcmp(kernel->name, "avx512vnni") == 0 ? avx512_int8() : 0;
}

#else

double peaks_float32(void)
{
    return 0;
}

double peaks_bf16(const struct float_kernel *amx)
{
    (void)amx;
    return 0;
}

double peaks_int8(const struct int8_kernel *kernel)
{
    (void)kernel;
    return 0;
}

#endif
