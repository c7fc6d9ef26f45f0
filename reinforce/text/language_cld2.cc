#include "reinforce/text/language_cld2.h"

#include <cld2/public/compact_lang_det.h>
#include <cld2/public/encodings.h>

extern "C" int cld2_find(const char *code)
{
    CLD2::Language language = CLD2::GetLanguageFromName(code);

    return language == CLD2::UNKNOWN_LANGUAGE ? -1 : static_cast<int>(language);
}

extern "C" int cld2_detect(const char *text, int len, int languages[CLD2_LANGUAGES],
                           int percents[CLD2_LANGUAGES])
{
    const CLD2::CLDHints no_hints = {nullptr, "", CLD2::UNKNOWN_ENCODING, CLD2::UNKNOWN_LANGUAGE};
    CLD2::Language found[CLD2_LANGUAGES];
    double scores[CLD2_LANGUAGES];
    int text_bytes = 0, valid_bytes = 0, n = 0;
    bool is_reliable = false;

    CLD2::ExtDetectLanguageSummaryCheckUTF8(text, len, true, &no_hints, 0, found, percents, scores,
                                            nullptr, &text_bytes, &is_reliable, &valid_bytes);
    if (!is_reliable || valid_bytes < len)
        return 0;
    while (n < CLD2_LANGUAGES && found[n] != CLD2::UNKNOWN_LANGUAGE) {
        languages[n] = static_cast<int>(found[n]);
        n++;
    }
    return n;
}
