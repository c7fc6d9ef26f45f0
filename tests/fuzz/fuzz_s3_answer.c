/* Answers of an S3 server: whatever they are they are read or refused, and a listing that is read
 * says the same when it is written again. */
#include "storage/object/s3_answer.h"
#include "storage/object/sigv4.h"

#include <assert.h>

enum { ARENA_BYTES = 16 << 20, MAX_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct s3_list_page *page, struct byte_buf *xml)
{
    struct error err;
    enum status st =
        byte_buf_append_string(xml, "<ListBucketResult><EncodingType>url</EncodingType>", &err);

    for (size_t i = 0; i < page->n_entries && st == ST_OK; i++) {
        st = byte_buf_append_string(xml, "<Contents><Key>", &err);
        if (st == ST_OK)
            st = sigv4_encode(page->entries[i].key, false, xml, &err);
        if (st == ST_OK)
            st = byte_buf_printf(xml, &err, "</Key><Size>%llu</Size></Contents>",
                                 (unsigned long long)page->entries[i].bytes);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(xml, "</ListBucketResult>", &err);
    assert(st == ST_OK);
}

static void listing_survives(struct bytes_view answer, struct arena *arena)
{
    struct s3_list_page page, again;
    struct byte_buf xml;
    struct error err;

    if (s3_answer_list(answer, arena, &page, &err) != ST_OK)
        return;
    assert(!page.truncated || page.token != NULL);
    byte_buf_init(&xml, 16u * MAX_BYTES);
    write_again(&page, &xml);
    assert(s3_answer_list(byte_buf_view(&xml), arena, &again, &err) == ST_OK);
    assert(again.n_entries == page.n_entries);
    for (size_t i = 0; i < page.n_entries; i++)
        assert(strcmp(again.entries[i].key, page.entries[i].key) == 0 &&
               again.entries[i].bytes == page.entries[i].bytes);
    byte_buf_release(&xml);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes_view answer = bytes_view_of(data, size);
    struct s3_error said;
    struct s3_uploads_page uploads;
    struct arena arena;
    char etag[80], *id;
    int64_t newest_ms = 0;
    struct error err;
    enum status st;

    if (size > MAX_BYTES)
        return 0;
    arena_init(&arena, ARENA_BYTES);
    s3_answer_error(answer, &said);
    listing_survives(answer, &arena);
    st = s3_answer_uploads(answer, &arena, &uploads, &err);
    for (size_t i = 0; st == ST_OK && i < uploads.n_uploads; i++)
        assert(uploads.uploads[i].key != NULL && uploads.uploads[i].id != NULL &&
               uploads.uploads[i].initiated_ms >= 0);
    st = s3_answer_parts(answer, &newest_ms, &err);
    assert(st != ST_OK || newest_ms >= 0);
    st = s3_answer_upload_id(answer, &arena, &id, &err);
    assert(st != ST_OK || id[0] != '\0');
    st = s3_answer_etag(answer, etag, &err);
    assert(strlen(etag) < sizeof etag);
    arena_release(&arena);
    return 0;
}
