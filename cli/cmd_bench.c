#include "cli/command.h"
#include "cli/kernel_bench.h"
#include "cli/tool_io.h"

#include <getopt.h>
#include <stdio.h>

enum { DEFAULT_ROUNDS = 9, MAX_ROWS = 1 << 14 };

static void print_shape(const json_t *shape)
{
    const json_t *back_end;
    size_t i;

    (void)printf("%s, %lld x %lld -> %lld\n", json_string_value(json_object_get(shape, "name")),
                 json_integer_value(json_object_get(shape, "rows")),
                 json_integer_value(json_object_get(shape, "in")),
                 json_integer_value(json_object_get(shape, "out")));
    json_array_foreach(json_object_get(shape, "back_ends"), i, back_end)
    {
        double peak = json_real_value(json_object_get(back_end, "peak"));
        char share[40] = "";

        if (peak > 0)
            (void)snprintf(share, sizeof share, "of %5.0f, %3.0f %%", peak,
                           json_real_value(json_object_get(back_end, "percent")));
        (void)printf("  %-7s %-10s %5.0f GOP/s %-15s  error %.1e%s%s\n",
                     json_string_value(json_object_get(back_end, "type")),
                     json_string_value(json_object_get(back_end, "name")),
                     json_real_value(json_object_get(back_end, "gops")), share,
                     json_real_value(json_object_get(back_end, "error")),
                     json_is_true(json_object_get(back_end, "right")) ? "" : "  WRONG",
                     json_is_true(json_object_get(back_end, "chosen")) ? "  *" : "");
    }
}

static void print_table(const json_t *answer)
{
    const json_t *shape;
    const char *openblas = json_string_value(json_object_get(answer, "openblas"));
    size_t i;

    (void)printf(
        "one thread, medians of %lld rounds in turns, of what registers alone reach; * is what "
        "models use; OpenBLAS: %s\n",
        json_integer_value(json_object_get(answer, "rounds")),
        openblas[0] != '\0' ? openblas : "not installed");
    json_array_foreach(json_object_get(answer, "shapes"), i, shape) print_shape(shape);
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"rows", required_argument, NULL, 'n'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    struct kernel_bench_options bench = {.rounds = DEFAULT_ROUNDS};
    int64_t rows = 0, rounds = DEFAULT_ROUNDS;
    struct error err = {0};
    json_t *answer = NULL;
    char dir[PATH_MAX];
    bool json = false;
    enum status st = ST_OK;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_bench, argc, argv, "", options)) != -1) {
        if (c == 'j')
            json = true;
        else if (c == 'n')
            st = command_number("rows", optarg, 1, MAX_ROWS, &rows, &err);
        else if (c == 'r')
            st = command_number("rounds", optarg, 1, KERNEL_BENCH_MAX_ROUNDS, &rounds, &err);
        else
            return EXIT_USAGE;
        if (st != ST_OK)
            return command_fail(&cmd_bench, &err);
    }
    if (optind == argc || strcmp(argv[optind], "kernels") != 0)
        return command_usage(&cmd_bench, "say what to measure: kernels");
    if (optind + 2 < argc)
        return command_usage(&cmd_bench, "more than one model");
    bench.rows = (size_t)rows;
    bench.rounds = (size_t)rounds;
    if (optind + 1 < argc) {
        st = tool_model_dir(argv[optind + 1], dir, &err);
        bench.model_dir = dir;
    }
    if (st == ST_OK)
        st = kernel_bench(&bench, &answer, &err);
    if (st == ST_OK && json)
        st = tool_print_json(answer, &err);
    else if (st == ST_OK)
        print_table(answer);
    json_decref(answer);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_bench, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_bench = {
    .name = "bench",
    .synopsis = "reinforce bench kernels [--rows N] [--rounds N] [--json] [MODEL]",
    .summary = "times the back ends of matrix products against what this processor can do",
    .help =
        "`bench kernels` multiplies random matrices of the shapes of MODEL's blocks (without\n"
        "one: ViT-L/14, SigLIP's So400m/14 and Gemma 2 2B) on one thread and prints what each\n"
        "back end reaches, as GOP/s of the thread's own time and as a share of a loop that\n"
        "never leaves the registers, measured in the same rounds. Shares stay true when\n"
        "others use the machine; GOP/s do not. A star marks what models use.\n"
        "\n"
        "float32 and int8 kernels give the same bits each, so the fastest is taken at start\n"
        "without a trace in any result. strassen does without an eighth of the products, which\n"
        "are counted as if it did them; towers of images use it wherever it fits. bf16 is the\n"
        "chosen float32 one with weights in bfloat16, int8 includes quantising the rows,\n"
        "openblas is there for comparison if it is installed. `error` is the largest of 64\n"
        "elements' against double sums, as a share of the sum of magnitudes.\n"
        "\n"
        "Options:\n"
        "  --rows N    rows of every product; default: as many as the model has tokens\n"
        "  --rounds N  1 to 99; default 9\n"
        "  --json      prints one JSON object\n"
        "\n"
        "Examples:\n"
        "  reinforce bench kernels\n"
        "  reinforce bench kernels --rows 16 --json models/DFN2B-CLIP-ViT-L-14\n"
        "\n"
        "Exit codes:\n"
        "  0  done\n"
        "  1  the model cannot be read\n"
        "  2  usage, or a kind of model that is not supported\n",
    .run = run,
};
/* clang-format on */
