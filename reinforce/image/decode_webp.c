/* WebP through libwebp. An animation gives its first frame on a black canvas, which is what
 * Pillow's convert("RGB") leaves of it. */
#include "reinforce/image/decoders.h"

#include <stdio.h>
#include <webp/decode.h>
#include <webp/demux.h>

static const char *reason(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return "truncated";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "unsupported feature";
    case VP8_STATUS_OUT_OF_MEMORY:
        return "out of memory";
    case VP8_STATUS_OK:
    case VP8_STATUS_INVALID_PARAM:
    case VP8_STATUS_BITSTREAM_ERROR:
    case VP8_STATUS_USER_ABORT:
        break;
    }
    return "broken bit stream";
}

static enum status fail(struct error *err, VP8StatusCode code)
{
    return error_set(err, code == VP8_STATUS_OUT_OF_MEMORY ? ST_NO_MEMORY : ST_CORRUPT,
                     "cannot decode WebP: %s", reason(code));
}

/* One bit stream into the rectangle of `image` whose upper left corner is (left, top). */
static enum status decode_frame(struct bytes_view bits, const struct image *image, int left,
                                int top, struct error *err)
{
    WebPDecoderConfig config;
    size_t stride = (size_t)image->width * (size_t)image->channels;
    size_t skip = (size_t)top * stride + (size_t)left * (size_t)image->channels;
    VP8StatusCode code;

    if (!WebPInitDecoderConfig(&config))
        return error_set(err, ST_INTERNAL, "libwebp has another version than its headers");
    code = WebPGetFeatures(bits.data, bits.len, &config.input);
    if (code != VP8_STATUS_OK)
        return fail(err, code);
    if (config.input.width > image->width - left || config.input.height > image->height - top)
        return error_set(err, ST_CORRUPT, "WebP frame of %d x %d is larger than its canvas",
                         config.input.width, config.input.height);
    config.output.colorspace = image->channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels + skip;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = image_bytes(image) - skip;
    code = WebPDecode(bits.data, bits.len, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? ST_OK : fail(err, code);
}

static enum status decode_animation(const struct decode_request *request, struct image *image,
                                    struct error *err)
{
    WebPData data = {request->encoded.data, request->encoded.len};
    WebPDemuxer *demuxer = WebPDemux(&data);
    WebPIterator frame;
    enum status st;

    if (demuxer == NULL)
        return error_set(err, ST_CORRUPT, "cannot decode WebP: animation is broken or truncated");
    memset(image->pixels, 0, image_bytes(image));
    if (WebPDemuxGetFrame(demuxer, 1, &frame)) {
        st = decode_frame(bytes_view_of(frame.fragment.bytes, frame.fragment.size), image,
                          frame.x_offset, frame.y_offset, err);
        WebPDemuxReleaseIterator(&frame);
    } else {
        st = error_set(err, ST_CORRUPT, "cannot decode WebP: animation has no frame");
    }
    WebPDemuxDelete(demuxer);
    return st;
}

enum status webp_decode(const struct decode_request *request, struct image_info *info,
                        struct image_stored *out, struct error *err)
{
    WebPBitstreamFeatures features;
    VP8StatusCode code = WebPGetFeatures(request->encoded.data, request->encoded.len, &features);
    enum status st;

    if (code != VP8_STATUS_OK)
        return fail(err, code);
    st = decode_header(request, info, (uint32_t)features.width, (uint32_t)features.height,
                       features.has_alpha ? "RGBA" : "RGB", err);
    if (st != ST_OK || request->arena == NULL)
        return st;
    out->mode = request->keep_alpha && features.has_alpha ? IMAGE_MODE_RGBA : IMAGE_MODE_RGB;
    st = image_alloc(&out->image, info->width, info->height, out->mode == IMAGE_MODE_RGBA ? 4 : 3,
                     request->arena, err);
    if (st != ST_OK)
        return st;
    return features.has_animation ? decode_animation(request, &out->image, err)
                                  : decode_frame(request->encoded, &out->image, 0, 0, err);
}
