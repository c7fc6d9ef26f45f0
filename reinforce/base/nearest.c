#include "reinforce/base/nearest.h"

#include "reinforce/base/macros.h"

#include <stdint.h>

enum { MAX_LEN = 48 };

size_t nearest_distance(const char *a, const char *b)
{
    size_t rows[3][MAX_LEN + 1];
    size_t len_a = strnlen(a, MAX_LEN + 1), len_b = strnlen(b, MAX_LEN + 1);

    if (len_a > MAX_LEN || len_b > MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= len_b; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        const size_t *above = rows[(i - 1) % 3], *two_above = rows[(i + 1) % 3];
        size_t *row = rows[i % 3];

        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            row[j] = MIN(MIN(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[len_a % 3][len_b];
}

void nearest_begin(struct nearest *nearest, const char *word)
{
    nearest->word = word;
    nearest->best = NULL;
    nearest->distance = MAX(strnlen(word, MAX_LEN) / 3, (size_t)2) + 1;
}

void nearest_offer(struct nearest *nearest, const char *candidate)
{
    size_t distance = nearest_distance(nearest->word, candidate);

    if (candidate[0] == '\0' || distance >= nearest->distance)
        return;
    nearest->distance = distance;
    nearest->best = candidate;
}
