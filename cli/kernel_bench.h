/* Times the back ends of matrix products on a model's own shapes, and checks their answers. */
#ifndef REINFORCE_CLI_KERNEL_BENCH_H
#define REINFORCE_CLI_KERNEL_BENCH_H

#include "reinforce/base/json.h"

enum { KERNEL_BENCH_MAX_ROUNDS = 99 };

struct kernel_bench_options {
    const char *model_dir; /* NULL: ViT-L/14, SigLIP's So400m/14 and Gemma 2 2B */
    size_t rows;           /* of every product; 0: as many as the model has */
    size_t rounds;
};

/**
 * On one thread, `rounds` rounds in turns, by the thread's own time: what the registers alone do,
 * and every back end (each of our float32 kernels, Strassen's algorithm where a tower uses it,
 * bfloat16 weights, OpenBLAS if it is installed, int8) on every shape, on random values.
 *
 * *answer is the caller's: the kernels in use, "openblas" (its core type, or "") and "shapes": each
 * with name, rows, in, out, "float32_peak" and "int8_peak" in GOP/s (0: not known) and "back_ends":
 * name, the median "gops", "percent" of its peak, "error" (the largest of some elements', as a
 * share of the sum of magnitudes, against double sums) and whether products use it ("chosen").
 */
NODISCARD enum status kernel_bench(const struct kernel_bench_options *options, json_t **answer,
                                   struct error *err);

#endif
