#include "reinforce/text/windows_1252.h"

static const uint16_t upper[32] = {0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                   0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D, 0x017D, 0x008F,
                                   0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                   0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178};

uint32_t windows_1252_char(uint8_t byte)
{
    return byte >= 0x80 && byte < 0xA0 ? upper[byte - 0x80] : byte;
}

int windows_1252_byte(uint32_t cp)
{
    if (cp < 0x100)
        return (int)cp;
    for (int i = 0; i < 32; i++)
        if (upper[i] == cp)
            return 0x80 + i;
    return -1;
}
