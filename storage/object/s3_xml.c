#include "storage/object/s3_xml.h"

#include <expat.h>
#include <limits.h>

enum { MAX_PATH = 256, MAX_TEXT = 64 << 10 };

struct reading {
    XML_Parser parser;
    s3_xml_fn *each;
    void *ctx;
    char path[MAX_PATH];
    size_t path_len;
    struct byte_buf text; /* since the last tag */
    enum status st;
    struct error *err;
};

static void stop(struct reading *r, enum status st)
{
    r->st = st;
    (void)XML_StopParser(r->parser, XML_FALSE);
}

static void on_start(void *context, const XML_Char *name, const XML_Char **attributes)
{
    struct reading *r = context;
    const char *colon = strchr(name, ':'), *local = colon != NULL ? colon + 1 : name;
    size_t len = strlen(local);

    (void)attributes;
    byte_buf_reset(&r->text);
    if (r->path_len + len + 2 > sizeof r->path) {
        stop(r, error_set(r->err, ST_CORRUPT, "elements are nested too deep"));
        return;
    }
    if (r->path_len > 0)
        r->path[r->path_len++] = '/';
    memcpy(r->path + r->path_len, local, len + 1);
    r->path_len += len;
}

static void on_end(void *context, const XML_Char *name)
{
    struct reading *r = context;
    const char *text;
    char *slash;
    enum status st = byte_buf_c_str(&r->text, &text, r->err);

    (void)name;
    if (st == ST_OK)
        st = r->each(r->ctx, r->path, text, r->err);
    if (st != ST_OK) {
        stop(r, st);
        return;
    }
    byte_buf_reset(&r->text);
    slash = strrchr(r->path, '/');
    r->path_len = slash != NULL ? (size_t)(slash - r->path) : 0;
    r->path[r->path_len] = '\0';
}

static void on_text(void *context, const XML_Char *text, int len)
{
    struct reading *r = context;

    if ((size_t)len > (size_t)MAX_TEXT - r->text.len)
        stop(r,
             error_set(r->err, ST_CORRUPT, "an element holds more than %d bytes", (int)MAX_TEXT));
    else if (byte_buf_append(&r->text, text, (size_t)len, r->err) != ST_OK)
        stop(r, ST_NO_MEMORY);
}

static void on_doctype(void *context, const XML_Char *name, const XML_Char *system,
                       const XML_Char *public, int has_subset)
{
    struct reading *r = context;

    (void)name, (void)system, (void)public, (void)has_subset;
    stop(r, error_set(r->err, ST_CORRUPT, "a document type is declared"));
}

enum status s3_xml_read(struct bytes_view xml, s3_xml_fn *each, void *ctx, struct error *err)
{
    struct reading r = {.each = each, .ctx = ctx, .st = ST_OK, .err = err};
    enum status st = ST_OK;

    while (xml.len > 0 && (xml.data[0] == ' ' || xml.data[0] == '\t' || xml.data[0] == '\r' ||
                           xml.data[0] == '\n')) {
        xml.data++; /* AWS keeps a slow answer's connection alive with blanks */
        xml.len--;
    }
    if (xml.len > INT_MAX)
        return error_set(err, ST_CORRUPT, "an answer of %zu bytes", xml.len);
    r.parser = XML_ParserCreate("UTF-8");
    if (r.parser == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate an XML parser");
    byte_buf_init(&r.text, MAX_TEXT + 1);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    if (XML_Parse(r.parser, (const char *)xml.data, (int)xml.len, XML_TRUE) != XML_STATUS_OK) {
        enum XML_Error code = XML_GetErrorCode(r.parser);

        if (r.st != ST_OK)
            st = r.st;
        else if (code == XML_ERROR_NO_MEMORY)
            st = error_set(err, ST_NO_MEMORY, "could not allocate what an answer needs");
        else
            st =
                error_set(err, ST_CORRUPT, "line %lu is no XML: %s",
                          (unsigned long)XML_GetCurrentLineNumber(r.parser), XML_ErrorString(code));
    }
    byte_buf_release(&r.text);
    XML_ParserFree(r.parser);
    return st;
}
