#include "cli/command.h"
#include "cli/tool_io.h"
#include "reinforce/teach/teacher.h"

#include <getopt.h>

static enum status embed_images(const struct teacher *teacher, const char *resize, char **paths,
                                size_t n, struct arena *arena, struct record_embedding *out,
                                struct error *err)
{
    const struct teacher_info *info = teacher_info(teacher);
    struct preprocess pre = info->preprocess;
    struct arena work;
    float *emb = NULL;
    enum status st = tool_resize_as(resize, &pre, err);

    if (st == ST_OK)
        st = arena_calloc(arena, n * info->dim, sizeof *emb, &emb, err);
    arena_init(&work, TOOL_ARENA_BYTES);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        struct image image, crop;

        arena_reset(&work);
        st = tool_read_image(paths[i], &work, &image, err);
        if (st == ST_OK)
            st = preprocess_pixels(&pre, &image, &work, &crop, err);
        if (st == ST_OK)
            st = teacher_embed_images(teacher, &crop, 1, &work, emb + i * info->dim, err);
    }
    arena_release(&work);
    *out = (struct record_embedding){
        .name = "image_emb", .dtype = RECORD_F32, .rows = n, .dim = info->dim, .data = emb};
    return st;
}

static enum status embed_texts(const struct teacher *teacher, const char *path, struct arena *arena,
                               struct record_embedding *out, struct error *err)
{
    size_t dim = teacher_info(teacher)->dim, n;
    struct bytes_view *lines;
    struct arena work;
    float *emb = NULL;
    enum status st = tool_read_lines(path, arena, &lines, &n, err);

    arena_init(&work, TOOL_ARENA_BYTES);
    if (st == ST_OK && n == 0)
        st = error_set(err, ST_INVALID, "\"%s\" holds no texts", path);
    if (st == ST_OK)
        st = arena_calloc(arena, n * dim, sizeof *emb, &emb, err);
    if (st == ST_OK)
        st = teacher_embed_texts(teacher, lines, n, &work, emb, err);
    arena_release(&work);
    *out = (struct record_embedding){
        .name = "text_emb", .dtype = RECORD_F32, .rows = n, .dim = dim, .data = emb};
    return st;
}

static enum status embed(const char *model, const char *resize, char **images, size_t n_images,
                         const char *texts, const char *out, struct error *err)
{
    char dir[PATH_MAX];
    const struct teacher_options options = {.model_dir = dir};
    struct record_embedding arrays[2];
    struct teacher *teacher;
    struct arena arena;
    size_t n = 0;
    enum status st = tool_model_dir(model, dir, err);

    if (st == ST_OK)
        st = teacher_open(&options, &teacher, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, TOOL_ARENA_BYTES);
    if (n_images > 0)
        st = embed_images(teacher, resize, images, n_images, &arena, &arrays[n++], err);
    if (st == ST_OK && texts != NULL)
        st = embed_texts(teacher, texts, &arena, &arrays[n++], err);
    if (st == ST_OK)
        st = tool_write_npz(out, arrays, n, err);
    arena_release(&arena);
    teacher_close(&teacher);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},      {"images", no_argument, NULL, 'i'},
        {"texts-file", required_argument, NULL, 't'}, {"resize", required_argument, NULL, 'r'},
        {"out", required_argument, NULL, 'o'},        {NULL, 0, NULL, 0}};
    const char *model = NULL, *resize = NULL, *texts = NULL, *out = NULL;
    struct error err = {0};
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_embed, argc, argv, "", options)) != -1) {
        if (c == 'm')
            model = optarg;
        else if (c == 't')
            texts = optarg;
        else if (c == 'r')
            resize = optarg;
        else if (c == 'o')
            out = optarg;
        else if (c != 'i') /* what follows --images are plain arguments */
            return EXIT_USAGE;
    }
    if (model == NULL || out == NULL || (texts == NULL && optind == argc))
        return command_usage(&cmd_embed, "--model, --out, and images or --texts-file are needed");
    return embed(model, resize, argv + optind, (size_t)(argc - optind), texts, out, &err) == ST_OK
               ? EXIT_DONE
               : command_fail(&cmd_embed, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_embed = {
    .name = "embed",
    .synopsis = "reinforce embed --model DIR [--images FILE...] [--texts-file FILE] --out FILE.npz",
    .summary = "embeds images and texts with one teacher",
    .help = "Images go through the model's own evaluation transform, texts through its\n"
            "cleaning and tokenizer. Rows are in the order given, float32, of unit length.\n"
            "\n"
            "Options:\n"
            "  --model DIR         snapshot folder of a CLIP, MobileCLIP or SigLIP model\n"
            "  --images FILE...    JPEG, PNG, WebP or GIF; array \"image_emb\" [n, D]\n"
            "  --texts-file FILE   UTF-8, one text a line; array \"text_emb\" [n, D]\n"
            "  --resize NAME       instead of the snapshot's own way: bilinear or bicubic as\n"
            "                      Pillow does, or tensorflow (without antialiasing, how\n"
            "                      SigLIP's published numbers were made)\n"
            "  --out FILE.npz      where to write; numpy.load() reads it\n"
            "\n"
            "Examples:\n"
            "  reinforce embed --model models/DFN2B-CLIP-ViT-L-14 --images *.jpg \\\n"
            "      --texts-file captions.txt --out emb.npz\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  a file or the model cannot be read; then nothing is written\n"
            "  2  usage, or a kind of model that is not supported\n",
    .run = run,
};
/* clang-format on */
