/* SHA-256 through OpenSSL's libcrypto. */
#ifndef REINFORCE_BASE_SHA256_H
#define REINFORCE_BASE_SHA256_H

#include "reinforce/base/bytes.h"

enum { SHA256_HEX_LEN = 64 };

/** Running hash; created, fed, finished. */
struct sha256;

NODISCARD enum status sha256_create(struct sha256 **out, struct error *err);
void sha256_update(struct sha256 *hash, const void *data, size_t len);
/** Writes 64 lower-case hex digits and a NUL; the hash may then only be destroyed. */
void sha256_hex(struct sha256 *hash, char hex[SHA256_HEX_LEN + 1]);
void sha256_destroy(struct sha256 **hash);

/** One call for bytes at hand. */
void sha256_of(struct bytes_view data, char hex[SHA256_HEX_LEN + 1]);

#endif
