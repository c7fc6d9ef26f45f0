#include "reinforce/nn/amx.h"

#include "reinforce/base/macros.h"

#if defined(KERNEL_TARGET)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

bool amx_is_there(enum amx_type type)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    enum { BF16_TILES = 1 << 22, INT8_TILES = 1 << 25, BF16_VECTORS = 1 << 5 };
    unsigned a, b, c, tiles, vectors = 0;

    if (!__builtin_cpu_supports("avx512bw") || !__get_cpuid_count(7, 0, &a, &b, &c, &tiles))
        return false;
    (void)__get_cpuid_count(7, 1, &vectors, &b, &c, &a);
    if ((tiles & (type == AMX_INT8 ? INT8_TILES : BF16_TILES)) == 0 ||
        (type == AMX_BF16 && (vectors & BF16_VECTORS) == 0))
        return false;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
bool amx_is_there(enum amx_type type)
{
    (void)type;
    return false;
}
#endif
