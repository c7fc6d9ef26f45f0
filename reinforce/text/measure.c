#include "reinforce/text/measure.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/unicode.h"

#include <math.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>

size_t text_words(struct bytes_view text)
{
    bool inside = false;
    size_t n = 0;

    for (size_t at = 0; at < text.len;) {
        bool space = unicode_is_space_python(utf8_next(text, &at));

        n += !space && !inside;
        inside = !space;
    }
    return n;
}

size_t text_characters(struct bytes_view text)
{
    size_t n = 0;

    for (size_t at = 0; at < text.len; n++)
        (void)utf8_next(text, &at);
    return n;
}

int text_script_find(const char *name)
{
    int32_t script = u_getPropertyValueEnum(UCHAR_SCRIPT, name);

    return script > USCRIPT_INHERITED && script != USCRIPT_UNKNOWN ? script : -1;
}

double text_script_share(struct bytes_view text, int script)
{
    size_t n = 0, n_letters = 0;

    for (size_t at = 0; at < text.len;) {
        UChar32 cp = (UChar32)utf8_next(text, &at);
        int32_t is = u_isalpha(cp) ? u_getIntPropertyValue(cp, UCHAR_SCRIPT) : USCRIPT_COMMON;

        n_letters += is > USCRIPT_INHERITED;
        n += is == script;
    }
    return n_letters > 0 ? (double)n / (double)n_letters : (double)NAN;
}
