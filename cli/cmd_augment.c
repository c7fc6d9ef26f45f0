#include "cli/command.h"
#include "cli/tool_io.h"
#include "reinforce/base/file.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/encode.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>

/* What the command line asks for. */
struct request {
    const char *uid, *image, *out;
    int64_t seed, views, torch_seed;
    bool compat_torch;
};

static enum status write_png(const struct image *view, const char *dir, size_t a, struct error *err)
{
    struct byte_buf png;
    char path[PATH_MAX];
    enum status st;

    byte_buf_init(&png, TOOL_ARENA_BYTES);
    (void)snprintf(path, sizeof path, "%s/view-%zu.png", dir, a);
    st = image_write_png(view, &png, err);
    if (st == ST_OK)
        st = file_write_atomic(path, byte_buf_view(&png), err);
    byte_buf_release(&png);
    return st;
}

/* Draws and replays view `a`; its parameters go to `list`, its pixels to a file. */
static enum status augment_view(const struct request *request, int64_t a, struct torch_rng *rng,
                                const struct image *image, struct arena *arena, json_t *list,
                                struct error *err)
{
    struct augment_config config;
    struct augment_params view;
    struct image pixels;
    enum status st;

    augment_config_default(&config);
    if (request->compat_torch)
        augment_sample_torch(&config, rng, image->width, image->height, &view);
    else
        augment_sample(&config, (uint64_t)request->seed, bytes_of_string(request->uid), (uint32_t)a,
                       image->width, image->height, &view);
    st = augment_apply(&config, &view, image, arena, &pixels, err);
    if (st == ST_OK)
        st = write_png(&pixels, request->out, (size_t)a, err);
    return st == ST_OK ? tool_json_append(list, augment_params_to_json(&view), err) : st;
}

static enum status augment(const struct request *request, struct error *err)
{
    struct torch_rng rng;
    struct arena arena;
    struct image image;
    char path[PATH_MAX];
    json_t *params = json_pack("{s:[]}", "param_aug");
    enum status st;

    arena_init(&arena, TOOL_ARENA_BYTES);
    torch_rng_init(&rng, (uint64_t)request->torch_seed);
    st = tool_read_image(request->image, &arena, &image, err);
    if (st == ST_OK)
        st = file_make_dirs(request->out, err);
    for (int64_t a = 0; a < request->views && st == ST_OK; a++) {
        struct arena mark = arena;

        st = augment_view(request, a, &rng, &image, &arena, json_object_get(params, "param_aug"),
                          err);
        arena_rewind(&arena, &mark);
    }
    (void)snprintf(path, sizeof path, "%s/param_aug.json", request->out);
    if (st == ST_OK)
        st = tool_write_json(path, params, err);
    if (st == ST_OK)
        st = tool_print_json(params, err);
    json_decref(params);
    arena_release(&arena);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"uid", required_argument, NULL, 'u'},
                                            {"views", required_argument, NULL, 'n'},
                                            {"compat-torch-seed", required_argument, NULL, 'k'},
                                            {"out", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    struct request request = {.views = 1};
    struct error err = {0};
    enum status st = ST_OK;
    int c;

    optind = 1;
    while (st == ST_OK && (c = command_next_option(&cmd_augment, argc, argv, "", options)) != -1) {
        if (c == 's') {
            st = command_number("seed", optarg, 0, INT64_MAX, &request.seed, &err);
        } else if (c == 'n') {
            st = command_number("views", optarg, 1, 65536, &request.views, &err);
        } else if (c == 'k') {
            st = command_number("compat-torch-seed", optarg, 0, INT64_MAX, &request.torch_seed,
                                &err);
            request.compat_torch = true;
        } else if (c == 'u') {
            request.uid = optarg;
        } else if (c == 'o') {
            request.out = optarg;
        } else {
            return EXIT_USAGE;
        }
    }
    if (st != ST_OK)
        return command_usage(&cmd_augment, "%s", err.message);
    if (request.uid != NULL && request.compat_torch)
        return command_usage(&cmd_augment,
                             "--uid and --compat-torch-seed are two ways to draw: choose one");
    if ((request.uid == NULL && !request.compat_torch) || request.out == NULL || optind + 1 != argc)
        return command_usage(&cmd_augment,
                             "--uid (or --compat-torch-seed), --out and one image are needed");
    request.image = argv[optind];
    return augment(&request, &err) == ST_OK ? EXIT_DONE : command_fail(&cmd_augment, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_augment = {
    .name = "augment",
    .synopsis = "reinforce augment {--uid U [--seed S] | --compat-torch-seed K} [--views N] "
                "IMAGE --out DIR",
    .summary = "draws augmented views of one image, as a job does",
    .help = "Draws N views of IMAGE with RandomResizedCrop to 224 pixels and RandAugment, by\n"
            "the published recipe. Prints their parameters as param_aug, the form that\n"
            "datasets store, and writes DIR/param_aug.json, DIR/view-0.png, DIR/view-1.png\n"
            "and so on. The same seed, uid and index give the same view everywhere.\n"
            "\n"
            "Options:\n"
            "  --uid U                 the sample's uid\n"
            "  --seed S                the job's seed (default 0)\n"
            "  --compat-torch-seed K   draw as torchvision does after torch.manual_seed(K),\n"
            "                          one view after the other, instead\n"
            "  --views N               how many (default 1)\n"
            "  --out DIR               where to write; made if it is not there\n"
            "\n"
            "Examples:\n"
            "  reinforce augment --uid 0a1b --seed 42 --views 10 cat.jpg --out views\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the image cannot be read, or DIR not be written\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
