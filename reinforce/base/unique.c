#include "reinforce/base/unique.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

void unique_text(char text[UNIQUE_TEXT_LEN + 1])
{
    uint64_t bits;

    while (getrandom(&bits, sizeof bits, 0) !=
           (ssize_t)sizeof bits) /* interrupted, while the system starts */
        continue;
    (void)snprintf(text, UNIQUE_TEXT_LEN + 1, "%016" PRIx64, bits);
}
