#include "reinforce/image/naflex.h"

#include "reinforce/base/macros.h"

#include <math.h>

static double patches_of(int side, double scale, int patch)
{
    return MAX(1.0, ceil(side * scale / patch));
}

void naflex_target(int height, int width, int patch, int max_patches, int *out_height,
                   int *out_width)
{
    const double eps = 1e-5;
    double low = eps / 10, high = 100; /* the first fits, or nothing does */

    while (high - low >= eps) {
        double scale = (low + high) / 2;

        if (patches_of(height, scale, patch) * patches_of(width, scale, patch) <= max_patches)
            low = scale;
        else
            high = scale;
    }
    *out_height = (int)patches_of(height, low, patch) * patch;
    *out_width = (int)patches_of(width, low, patch) * patch;
}
