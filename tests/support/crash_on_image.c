/* For LD_PRELOAD: a JPEG of CRASH_WIDTH pixels in width kills the program that decodes it. */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* jpeglib.h needs FILE. */
#include <jpeglib.h>

int jpeg_read_header(j_decompress_ptr decoder, boolean require_image)
{
    int (*next)(j_decompress_ptr, boolean), status;
    const char *width = getenv("CRASH_WIDTH");

    *(void **)&next = dlsym(RTLD_NEXT, "jpeg_read_header");
    status = next(decoder, require_image);
    if (width != NULL && decoder->image_width == (unsigned)atoi(width))
        abort();
    return status;
}
