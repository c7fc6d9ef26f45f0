/* What becomes of a product while its tile is still in the cache, and of rows on their way in. */
#ifndef REINFORCE_NN_EPILOGUE_H
#define REINFORCE_NN_EPILOGUE_H

#include "reinforce/base/macros.h"

#include <stdbool.h>

typedef void epilogue_fn(float *x, size_t n); /* in place */

/** y = activation(product + bias), or activation(y + product + bias); all zeros: y = product. */
struct epilogue {
    const float *bias;       /* [N] or NULL */
    bool add;                /* to what y holds: a residual branch */
    epilogue_fn *activation; /* NULL: none */
};

/** A layer norm of rows of K values in front of a product. */
struct prologue {
    const float *w, *b; /* [K] */
    float eps;
    float *rows; /* room for normalised ones: one [K], or all, as its taker says */
};

#endif
