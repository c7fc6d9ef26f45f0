/* The first frame of a GIF through giflib, laid on its screen as Pillow does: the rest of the
 * screen has the transparent index, or 0; the screen grows to a frame that reaches beyond it. */
#include "reinforce/image/decoders.h"

#include <gif_lib.h>
#include <stdio.h>

struct gif_job {
    const struct decode_request *request;
    GifFileType *gif;
    size_t pos;
    int transparent; /* -1: none */
};

static int on_read(GifFileType *gif, GifByteType *to, int len)
{
    struct gif_job *job = gif->UserData;
    size_t n = MIN((size_t)len, job->request->encoded.len - job->pos);

    memcpy(to, job->request->encoded.data + job->pos, n);
    job->pos += n;
    return (int)n;
}

static enum status fail(const struct gif_job *job, int code, struct error *err)
{
    const char *reason = GifErrorString(code);

    if (code == D_GIF_ERR_NOT_ENOUGH_MEM)
        return error_set(err, ST_NO_MEMORY, "could not allocate a GIF decoder");
    if (job->pos == job->request->encoded.len)
        return error_set(err, ST_CORRUPT, "GIF is truncated after %zu bytes",
                         job->request->encoded.len);
    return error_set(err, ST_CORRUPT, "cannot decode GIF: %s",
                     reason != NULL ? reason : "unknown reason");
}

static enum status read_extension(struct gif_job *job, struct error *err)
{
    int code;
    GifByteType *block; /* length, then content */

    if (DGifGetExtension(job->gif, &code, &block) != GIF_OK)
        return fail(job, job->gif->Error, err);
    if (code == GRAPHICS_EXT_FUNC_CODE && block != NULL && block[0] >= 4)
        job->transparent = (block[1] & 1) != 0 ? block[4] : -1;
    while (block != NULL)
        if (DGifGetExtensionNext(job->gif, &block) != GIF_OK)
            return fail(job, job->gif->Error, err);
    return ST_OK;
}

/* Reads up to the first frame's pixels. */
static enum status find_frame(struct gif_job *job, struct error *err)
{
    for (;;) {
        GifRecordType type;
        enum status st;

        if (DGifGetRecordType(job->gif, &type) != GIF_OK)
            return fail(job, job->gif->Error, err);
        switch (type) {
        case IMAGE_DESC_RECORD_TYPE:
            if (DGifGetImageDesc(job->gif) != GIF_OK)
                return fail(job, job->gif->Error, err);
            return ST_OK;
        case EXTENSION_RECORD_TYPE:
            st = read_extension(job, err);
            if (st != ST_OK)
                return st;
            break;
        case TERMINATE_RECORD_TYPE:
        case UNDEFINED_RECORD_TYPE:
        case SCREEN_DESC_RECORD_TYPE:
            return error_set(err, ST_CORRUPT, "GIF has no frame");
        }
    }
}

/* Pillow takes an image whose palette is 0, 1, 2, ... for grey; its indices beyond the palette then
 * keep their value instead of becoming black. */
static bool is_grey_ramp(const ColorMapObject *colors)
{
    for (int i = 0; colors != NULL && i < colors->ColorCount; i++)
        if (colors->Colors[i].Red != i || colors->Colors[i].Green != i ||
            colors->Colors[i].Blue != i)
            return false;
    return true;
}

static void take_palette(const ColorMapObject *colors, struct image_stored *out)
{
    memset(out->palette, 0, sizeof out->palette);
    out->mode = is_grey_ramp(colors) ? IMAGE_MODE_L : IMAGE_MODE_INDEXED;
    for (int i = 0; colors != NULL && i < MIN(colors->ColorCount, 256); i++) {
        out->palette[i][0] = colors->Colors[i].Red;
        out->palette[i][1] = colors->Colors[i].Green;
        out->palette[i][2] = colors->Colors[i].Blue;
    }
}

static enum status read_frame(struct gif_job *job, const struct image *screen, struct error *err)
{
    static const struct {
        int first, step;
    } interlaced[] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}}, plain[] = {{0, 1}};
    const GifImageDesc *frame = &job->gif->Image;
    bool is_interlaced = frame->Interlace;
    size_t n_passes = is_interlaced ? ARRAY_LEN(interlaced) : ARRAY_LEN(plain);

    for (size_t pass = 0; pass < n_passes; pass++)
        for (int y = is_interlaced ? interlaced[pass].first : plain[pass].first; y < frame->Height;
             y += is_interlaced ? interlaced[pass].step : plain[pass].step)
            if (DGifGetLine(job->gif,
                            screen->pixels + (size_t)(frame->Top + y) * (size_t)screen->width +
                                (size_t)frame->Left,
                            frame->Width) != GIF_OK)
                return fail(job, job->gif->Error, err);
    return ST_OK;
}

static enum status decode(struct gif_job *job, struct image_info *info, struct image_stored *out,
                          struct error *err)
{
    const GifFileType *gif = job->gif;
    const ColorMapObject *colors;
    enum status st = find_frame(job, err);

    if (st != ST_OK)
        return st;
    if (gif->Image.Left < 0 || gif->Image.Top < 0 || gif->Image.Width < 1 || gif->Image.Height < 1)
        return error_set(err, ST_CORRUPT, "GIF frame of %d x %d pixels is impossible",
                         gif->Image.Width, gif->Image.Height);
    colors = gif->Image.ColorMap != NULL ? gif->Image.ColorMap : gif->SColorMap;
    st = decode_header(job->request, info,
                       (uint32_t)MAX(gif->SWidth, gif->Image.Left + gif->Image.Width),
                       (uint32_t)MAX(gif->SHeight, gif->Image.Top + gif->Image.Height),
                       is_grey_ramp(colors) ? "L" : "P", err);
    if (st != ST_OK || job->request->arena == NULL)
        return st;
    take_palette(colors, out);
    st = image_alloc(&out->image, info->width, info->height, 1, job->request->arena, err);
    if (st != ST_OK)
        return st;
    memset(out->image.pixels, MAX(job->transparent, 0), image_bytes(&out->image));
    return read_frame(job, &out->image, err);
}

enum status gif_decode(const struct decode_request *request, struct image_info *info,
                       struct image_stored *out, struct error *err)
{
    struct gif_job job = {.request = request, .transparent = -1};
    int code = 0;
    enum status st;

    job.gif = DGifOpen(&job, on_read, &code);
    if (job.gif == NULL)
        return fail(&job, code, err);
    st = decode(&job, info, out, err);
    (void)DGifCloseFile(job.gif, &code);
    return st;
}
