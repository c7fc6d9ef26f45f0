#include "storage/http/address.h"

#include "reinforce/base/macros.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const struct {
    uint8_t first[4];
    unsigned bits;
} private_v4[] = {
    {{0}, 8},             /* this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* shared by a carrier */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local: metadata services */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved, and broadcast */
};

/* Of IPv6 only 2000::/3 is global unicast; these parts of it are not, or carry an IPv4 address. */
static const struct {
    uint8_t first[16];
    unsigned bits;
} private_v6[] = {
    {{0x20, 0x01, 0x00}, 23},       /* protocol assignments: Teredo, ORCHID */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20},       /* documentation */
};

static bool is_in(const uint8_t *address, const uint8_t *first, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);

    return memcmp(address, first, bytes) == 0 &&
           (rest == 0 || ((address[bytes] ^ first[bytes]) & mask) == 0);
}

static bool v4_is_private(const uint8_t address[4])
{
    for (size_t i = 0; i < ARRAY_LEN(private_v4); i++)
        if (is_in(address, private_v4[i].first, private_v4[i].bits))
            return true;
    return false;
}

static bool v6_is_private(const uint8_t address[16])
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:a.b.c.d */
    static const uint8_t nat64[16] = {0x00, 0x64, 0xff, 0x9b};    /* 64:ff9b::a.b.c.d */
    static const uint8_t global[16] = {0x20}, six_to_four[16] = {0x20, 0x02};

    if (is_in(address, mapped, 96) || is_in(address, nat64, 96))
        return v4_is_private(address + 12);
    if (is_in(address, six_to_four, 16))
        return v4_is_private(address + 2);
    for (size_t i = 0; i < ARRAY_LEN(private_v6); i++)
        if (is_in(address, private_v6[i].first, private_v6[i].bits))
            return true;
    return !is_in(address, global, 3);
}

bool address_is_private(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        return v4_is_private((const uint8_t *)&v4.sin_addr);
    }
    if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof v6);
        return v6_is_private((const uint8_t *)&v6.sin6_addr);
    }
    return true;
}

void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT_BYTES])
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    (void)snprintf(text, ADDRESS_TEXT_BYTES, "?");
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, text, ADDRESS_TEXT_BYTES);
    } else if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof v6);
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, text, ADDRESS_TEXT_BYTES);
    }
}
