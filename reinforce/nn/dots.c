#include "reinforce/nn/dots.h"

#include "reinforce/nn/float_kernels.h"

static const struct float_kernel *kernel(void)
{
    size_t n;

    return float_kernels(&n);
}

size_t dots_rows(void)
{
    return kernel()->rows;
}

void dots_pack(float *packed, size_t width, size_t r, const float *row, float scale, size_t K)
{
    for (size_t k = 0; k < K; k++)
        packed[k * width + r] = row[k] * scale;
}

void dots_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    const struct float_panel rows = {
        .data = panel, .rows = kernel()->rows, .tallest = kernel()->rows};
    const struct float_strip columns = {
        .data = strip, .K = K, .ahead = (const char *)strip, .to = y, .ldto = ldy};

    kernel()->tile(y, ldy, &rows, &columns, false);
}
