/* For LD_PRELOAD: a JPEG of CRASH_WIDTH pixels in width kills the program that decodes it. */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* jpeglib.h needs FILE. */
#include <jpeglib.h>

boolean jpeg_start_decompress(j_decompress_ptr decoder)
{
    boolean (*next)(j_decompress_ptr);
    const char *width = getenv("CRASH_WIDTH");

    if (width != NULL && decoder->image_width == (unsigned)atoi(width))
        abort();
    *(void **)&next = dlsym(RTLD_NEXT, "jpeg_start_decompress");
    return next(decoder);
}
