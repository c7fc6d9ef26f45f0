#include "reinforce/base/sha256.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct sha256 {
    EVP_MD_CTX *ctx;
};

static void to_hex(const unsigned char *digest, char hex[SHA256_HEX_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < SHA256_HEX_LEN / 2; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[SHA256_HEX_LEN] = '\0';
}

enum status sha256_create(struct sha256 **out, struct error *err)
{
    struct sha256 *hash = calloc(1, sizeof *hash);

    *out = NULL;
    if (hash == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a hash");
    hash->ctx = EVP_MD_CTX_new();
    if (hash->ctx == NULL || EVP_DigestInit_ex(hash->ctx, EVP_sha256(), NULL) != 1) {
        sha256_destroy(&hash);
        return error_set(err, ST_NO_MEMORY, "could not allocate a hash");
    }
    *out = hash;
    return ST_OK;
}

void sha256_update(struct sha256 *hash, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(hash->ctx, data, len);

    assert(ok == 1); /* fails only on a finished context */
}

void sha256_hex(struct sha256 *hash, char hex[SHA256_HEX_LEN + 1])
{
    unsigned char digest[SHA256_HEX_LEN / 2];
    int ok = EVP_DigestFinal_ex(hash->ctx, digest, NULL);

    assert(ok == 1);
    to_hex(digest, hex);
}

void sha256_destroy(struct sha256 **hash)
{
    if (*hash == NULL)
        return;
    EVP_MD_CTX_free((*hash)->ctx);
    free(*hash);
    *hash = NULL;
}

void sha256_of(struct bytes_view data, char hex[SHA256_HEX_LEN + 1])
{
    unsigned char digest[SHA256_HEX_LEN / 2];
    int ok = EVP_Digest(data.data, data.len, digest, NULL, EVP_sha256(), NULL);

    assert(ok == 1);
    to_hex(digest, hex);
}
