#include "cli/command.h"
#include "cli/tool_io.h"
#include "reinforce/models/snapshot.h"

#include <getopt.h>

static enum status preprocess(const char *model, const char *resize, const char *path,
                              const char *out, struct error *err)
{
    struct snapshot snapshot;
    struct image image, crop;
    struct arena arena;
    struct record_embedding array = {.name = "pixels", .dtype = RECORD_F32};
    float *pixels;
    char dir[PATH_MAX];
    enum status st = tool_model_dir(model, dir, err);

    if (st == ST_OK)
        st = snapshot_read(dir, NULL, &snapshot, err);
    arena_init(&arena, TOOL_ARENA_BYTES);
    if (st == ST_OK)
        st = tool_resize_as(resize, &snapshot.preprocess, err);
    if (st == ST_OK)
        st = tool_read_image(path, &arena, &image, err);
    if (st == ST_OK)
        st = preprocess_pixels(&snapshot.preprocess, &image, &arena, &crop, err);
    if (st == ST_OK)
        st = arena_calloc(&arena, image_bytes(&crop), sizeof *pixels, &pixels, err);
    if (st == ST_OK) {
        preprocess_tensor(&crop, snapshot.preprocess.mean, snapshot.preprocess.std, pixels);
        array.rows = 3 * (size_t)crop.height;
        array.dim = (size_t)crop.width;
        array.data = pixels;
        st = tool_write_npz(out, &array, 1, err);
    }
    arena_release(&arena);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"resize", required_argument, NULL, 'r'},
                                            {"out", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    const char *model = NULL, *resize = NULL, *out = NULL;
    struct error err = {0};
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_preprocess, argc, argv, "", options)) != -1) {
        if (c == 'm')
            model = optarg;
        else if (c == 'r')
            resize = optarg;
        else if (c == 'o')
            out = optarg;
        else
            return EXIT_USAGE;
    }
    if (model == NULL || out == NULL || optind + 1 != argc)
        return command_usage(&cmd_preprocess, "--model, --out and one image are needed");
    return preprocess(model, resize, argv[optind], out, &err) == ST_OK
               ? EXIT_DONE
               : command_fail(&cmd_preprocess, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_preprocess = {
    .name = "preprocess",
    .synopsis = "reinforce preprocess --model DIR [--resize NAME] IMAGE --out FILE.npz",
    .summary = "writes the tensor that a model's image tower reads",
    .help = "Decodes IMAGE, resizes and crops it as the snapshot's own configuration says,\n"
            "and normalises it with the snapshot's mean and deviation. EXIF orientation is\n"
            "ignored, as trainers do.\n"
            "\n"
            "Options:\n"
            "  --model DIR      snapshot folder\n"
            "  --resize NAME    instead of the snapshot's own way: bilinear, bicubic, or\n"
            "                   tensorflow, as for embed\n"
            "  --out FILE.npz   where to write the array \"pixels\": float32 [3 * S, S], the\n"
            "                   channels one below the other; reshape(3, S, S) is CHW\n"
            "                   (a NaFlex model: H and W of the image's own)\n"
            "\n"
            "Examples:\n"
            "  reinforce preprocess --model models/DFN2B-CLIP-ViT-L-14 cat.jpg --out cat.npz\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the image or the model cannot be read\n"
            "  2  usage, or a kind of model that is not supported\n",
    .run = run,
};
/* clang-format on */
