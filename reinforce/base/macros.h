/* Compiler attributes and tiny helpers; the only place where GNU extensions are spelt. */
#ifndef REINFORCE_BASE_MACROS_H
#define REINFORCE_BASE_MACROS_H

#include "reinforce/base/banned.h"

#include <stddef.h>

#define NODISCARD                       __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first)         __attribute__((format(printf, fmt, first)))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Before a loop of a constant number of rounds, at most 32: its arrays can be registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* typedef float vec8 FLOAT_VECTOR(8): arithmetic lane by lane, loadable from any float's address */
#define FLOAT_VECTOR(n)                                                                            \
    __attribute__((vector_size((n) * sizeof(float)), aligned(sizeof(float)), may_alias))

/* typedef uint16_t half8 WORD_VECTOR(8, uint16_t): the same of integers */
#define WORD_VECTOR(n, type)                                                                       \
    __attribute__((vector_size((n) * sizeof(type)), aligned(sizeof(type)), may_alias))
#define CONVERT_VECTOR(v, type) __builtin_convertvector(v, type) /* lane by lane */

/* Compiles a hot kernel once per instruction set and picks at load time. The C semantics, and so
 * the bits, are the same in every clone: contraction is off and sums have a fixed order. Sanitizers
 * instrument the resolver before they are ready, so there they get the default clone only. */
#if defined(__x86_64__)
#define KERNEL_TARGET(isa) __attribute__((target(isa))) /* undefined: only plain code runs */
#endif
#if defined(__x86_64__) && !defined(REINFORCE_SANITIZED)
#define KERNEL_CLONES __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))
/* The same for kernels over bytes, whose 512-bit instructions are not in AVX-512F. */
#define BYTE_KERNEL_CLONES                                                                         \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERNEL_CLONES
#define BYTE_KERNEL_CLONES
#endif

#endif
