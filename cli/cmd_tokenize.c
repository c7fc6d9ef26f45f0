#include "cli/command.h"
#include "cli/tool_io.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/teach/clip_text.h"
#include "reinforce/teach/paligemma_text.h"
#include "reinforce/teach/siglip_text.h"

#include <getopt.h>
#include <stdio.h>

/* What the model's family does with a text. */
struct rows {
    size_t n_image_tokens; /* in front of a row; PaliGemma's */
    struct clip_text clip;
    struct siglip_text siglip;
    struct paligemma_text paligemma;
};

static enum status rows_open(const struct snapshot *snapshot, struct rows *rows, struct error *err)
{
    size_t grid = (size_t)(snapshot->vision.image_size / MAX(snapshot->vision.patch_size, 1));

    if (snapshot->family == SNAPSHOT_SIGLIP || snapshot->family == SNAPSHOT_SIGLIP2)
        return siglip_text_open(snapshot, TEACHER_CLEAN_AUTO, false, &rows->siglip, err);
    if (snapshot->family != SNAPSHOT_PALIGEMMA)
        return clip_text_open(snapshot, TEACHER_CLEAN_AUTO, false, snapshot->text.context_length,
                              &rows->clip, err);
    rows->n_image_tokens = grid * grid;
    return paligemma_text_open(snapshot, &rows->paligemma, err);
}

static enum status rows_get(const struct rows *rows, struct bytes_view line, struct arena *arena,
                            int32_t **ids, size_t *n, struct error *err)
{
    *n = rows->siglip.context;
    if (rows->siglip.tokenizer != NULL)
        return siglip_text_row(&rows->siglip, line, arena, ids, err);
    if (rows->paligemma.tokenizer != NULL)
        return paligemma_text_row(&rows->paligemma, line, arena, ids, n, err);
    return clip_text_row(&rows->clip, line, arena, ids, n, err);
}

/* One row of ids, printed, or appended to `all` when that is wanted. */
static enum status tokenize_line(const struct rows *rows, struct bytes_view line, json_t *all,
                                 struct arena *arena, struct error *err)
{
    int32_t *ids;
    size_t n;
    enum status st = rows_get(rows, line, arena, &ids, &n, err);
    json_t *row;

    if (st != ST_OK)
        return st;
    if (all == NULL) {
        if (rows->n_image_tokens > 0)
            (void)printf("<image>*%zu ", rows->n_image_tokens);
        for (size_t i = 0; i < n; i++)
            (void)printf("%s%d", i > 0 ? " " : "", (int)ids[i]);
        (void)putchar('\n');
        return ST_OK;
    }
    row = json_array();
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = tool_json_append(row, json_integer(ids[i]), err);
    if (st != ST_OK) {
        json_decref(row);
        return st;
    }
    if (rows->n_image_tokens > 0)
        row = json_pack("{s:I, s:o}", "image_tokens", (json_int_t)rows->n_image_tokens, "ids", row);
    return tool_json_append(all, row, err);
}

static enum status tokenize(const char *model, const char *path, bool json, struct error *err)
{
    struct snapshot snapshot;
    struct rows rows = {0};
    struct bytes_view *lines;
    struct arena arena, work;
    size_t n_lines = 0;
    json_t *all = json ? json_array() : NULL;
    char dir[PATH_MAX];
    enum status st = tool_model_dir(model, dir, err);

    if (st == ST_OK)
        st = snapshot_read(dir, NULL, &snapshot, err);
    arena_init(&arena, TOOL_ARENA_BYTES);
    arena_init(&work, TOOL_ARENA_BYTES);
    if (st == ST_OK)
        st = rows_open(&snapshot, &rows, err);
    if (st == ST_OK)
        st = tool_read_lines(path, &arena, &lines, &n_lines, err);
    for (size_t i = 0; st == ST_OK && i < n_lines; i++) {
        arena_reset(&work);
        st = tokenize_line(&rows, lines[i], all, &work, err);
    }
    if (st == ST_OK && json)
        st = tool_print_json(all, err);
    json_decref(all);
    clip_text_close(&rows.clip);
    siglip_text_close(&rows.siglip);
    paligemma_text_close(&rows.paligemma);
    arena_release(&work);
    arena_release(&arena);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"texts-file", required_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    const char *model = NULL, *texts = NULL;
    struct error err = {0};
    bool json = false;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_tokenize, argc, argv, "", options)) != -1) {
        if (c == 'm')
            model = optarg;
        else if (c == 't')
            texts = optarg;
        else if (c == 'j')
            json = true;
        else
            return EXIT_USAGE;
    }
    if (model == NULL || texts == NULL || optind != argc)
        return command_usage(&cmd_tokenize,
                             "--model and --texts-file are needed, and nothing else");
    return tokenize(model, texts, json, &err) == ST_OK ? EXIT_DONE
                                                       : command_fail(&cmd_tokenize, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_tokenize = {
    .name = "tokenize",
    .synopsis = "reinforce tokenize --model DIR --texts-file FILE [--json]",
    .summary = "prints the token ids that a model reads for each line of a file",
    .help = "Cleans each line as the model's family does, tokenizes it, and cuts it to the\n"
            "model's context. Prints a row of ids per line, start and end tokens included,\n"
            "without padding, which counts for SigLIP only and is printed there. Text that\n"
            "spells a special token is not taken for one.\n"
            "\n"
            "For PaliGemma each line is a prompt: <image>*N stands for the N tokens of an\n"
            "image, behind them come <bos>, the prompt, in which <loc0042> is a token, and a\n"
            "newline.\n"
            "\n"
            "Options:\n"
            "  --model DIR         snapshot folder of a CLIP, MobileCLIP, SigLIP, CoCa or\n"
            "                      PaliGemma model\n"
            "  --texts-file FILE   UTF-8, one text a line\n"
            "  --json              prints one JSON array of arrays; for PaliGemma, of objects\n"
            "                      with \"image_tokens\" and \"ids\"\n"
            "\n"
            "Examples:\n"
            "  reinforce tokenize --model models/DFN2B-CLIP-ViT-L-14 --texts-file captions.txt\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  a file or the model cannot be read\n"
            "  2  usage, or a kind of model that is not supported\n",
    .run = run,
};
/* clang-format on */
