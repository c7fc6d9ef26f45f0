#include "reinforce/text/language.h"

#include "reinforce/text/language_cld2.h"

#include <limits.h>
#include <math.h>

int text_language_find(const char *code)
{
    return cld2_find(code);
}

double text_language_share(struct bytes_view text, int language)
{
    int languages[CLD2_LANGUAGES], percents[CLD2_LANGUAGES];
    int n = text.len > 0 && text.len <= INT_MAX
                ? cld2_detect((const char *)text.data, (int)text.len, languages, percents)
                : 0;

    if (n == 0)
        return (double)NAN;
    for (int i = 0; i < n; i++)
        if (languages[i] == language)
            return percents[i] / 100.0;
    return 0;
}
