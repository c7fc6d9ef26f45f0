#include "cli/command.h"
#include "cli/job_args.h"
#include "cli/store_args.h"
#include "coordinator/produce.h"
#include "reinforce/base/log.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

enum { MAX_PROPERTIES = 256, CONNECT_MS = 20000, MAX_SAMPLE_BYTES = 64 << 20 };

struct arguments {
    struct produce_options produce;
    struct object_store_options store;
    struct stream_property properties[MAX_PROPERTIES];
    char names[MAX_PROPERTIES][128];
    char url[4096];
};

/* "name=value" */
static bool take_property(struct arguments *arguments, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t n = arguments->produce.n_properties, len;

    if (equals == NULL || equals == text || n == MAX_PROPERTIES)
        return false;
    len = (size_t)(equals - text);
    if (len >= sizeof arguments->names[n])
        return false;
    memcpy(arguments->names[n], text, len);
    arguments->names[n][len] = '\0';
    arguments->properties[n] =
        (struct stream_property){.name = arguments->names[n], .value = equals + 1};
    arguments->produce.n_properties++;
    return true;
}

static bool take_schema(struct arguments *arguments, const char *text)
{
    if (strcmp(text, "json") == 0)
        arguments->produce.schema = STREAM_SCHEMA_JSON;
    else if (strcmp(text, "protobuf") == 0)
        arguments->produce.schema = STREAM_SCHEMA_PROTOBUF;
    else
        return false;
    return true;
}

/* One option; an exit code, or -1 to go on. */
static int take_option(struct arguments *arguments, int c)
{
    struct produce_options *produce = &arguments->produce;
    struct error err;

    if (store_args_take(c, optarg, &arguments->store))
        return -1;
    switch (c) {
    case 'b':
        (void)snprintf(arguments->url, sizeof arguments->url, "kafka://%s", optarg);
        produce->stream_url = arguments->url;
        return -1;
    case 't':
        produce->topic = optarg;
        return -1;
    case 's':
        return take_schema(arguments, optarg)
                   ? -1
                   : command_usage(&cmd_produce, "--schema is json or protobuf, not \"%s\"",
                                   optarg);
    case 'k':
        produce->keys = true;
        return -1;
    case 'f':
        produce->input_format = optarg;
        return -1;
    case 'l':
        if (command_number("limit", optarg, 1, INT64_MAX, &produce->limit, &err) != ST_OK)
            return command_fail(&cmd_produce, &err);
        return -1;
    case 'X':
        return take_property(arguments, optarg)
                   ? -1
                   : command_usage(&cmd_produce, "-X takes NAME=VALUE, not \"%s\"", optarg);
    case 'v':
        log_set_level(LOG_INFO);
        return -1;
    default:
        return EXIT_USAGE;
    }
}

static void print_summary(const struct produce_summary *summary)
{
    double seconds = (double)MAX(summary->elapsed_ms, (int64_t)1) / 1000;
    char bytes[32], time[32];

    job_args_format_bytes((double)summary->bytes, bytes);
    job_args_format_seconds(seconds, time);
    (void)printf("%" PRId64 " records delivered, %s, in %s (%.0f records/s); %" PRId64
                 " samples skipped\n",
                 summary->n_delivered, bytes, time, (double)summary->n_delivered / seconds,
                 summary->n_skipped);
}

static int produce(const struct produce_options *options)
{
    static const char *const formats[] = {"auto", "webdataset", "jsonl", "folder"};
    struct produce_summary summary;
    struct error err = {0};
    bool known = false;

    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        known = known || strcmp(options->input_format, formats[i]) == 0;
    if (!known)
        return command_usage(&cmd_produce, "--format is auto, webdataset, jsonl or folder");
    if (options->stream_url == NULL || options->topic == NULL)
        return command_usage(&cmd_produce, "--%s is missing",
                             options->stream_url == NULL ? "brokers" : "topic");
    if (options->keys && options->schema != STREAM_SCHEMA_JSON)
        return command_usage(&cmd_produce, "--keys sends JSON alone");
    if (produce_run(options, &summary, &err) != ST_OK)
        return command_fail(&cmd_produce, &err);
    print_summary(&summary);
    if (options->stop != NULL && atomic_load(options->stop))
        return EXIT_OTHER;
    return summary.n_skipped > 0 ? EXIT_QUARANTINED : EXIT_DONE;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"brokers", required_argument, NULL, 'b'},
                                            {"topic", required_argument, NULL, 't'},
                                            {"schema", required_argument, NULL, 's'},
                                            {"keys", no_argument, NULL, 'k'},
                                            {"format", required_argument, NULL, 'f'},
                                            {"limit", required_argument, NULL, 'l'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            STORE_ARGS_OPTIONS,
                                            {NULL, 0, NULL, 0}};
    struct arguments arguments = {.produce = {.schema = STREAM_SCHEMA_JSON,
                                              .input_format = "auto",
                                              .max_sample_bytes = MAX_SAMPLE_BYTES,
                                              .connect_ms = CONNECT_MS}};
    int c, code;

    optind = 1;
    while ((c = command_next_option(&cmd_produce, argc, argv, "X:v", options)) != -1) {
        code = take_option(&arguments, c);
        if (code != -1)
            return code;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_produce, "name one input");
    arguments.produce.input_url = argv[optind];
    arguments.produce.store = &arguments.store;
    arguments.produce.properties = arguments.properties;
    arguments.produce.stop = job_args_catch_signals();
    return produce(&arguments.produce);
}

/* clang-format off: as it is printed */
const struct command cmd_produce = {
    .name = "produce",
    .synopsis = "reinforce produce --brokers HOST:PORT --topic TOPIC [OPTIONS] INPUT",
    .summary = "sends the samples of a folder, JSONL or tar to a Kafka topic",
    .help = "Sends a record for every sample of INPUT, which is what a job's input.url may be:\n"
            "a folder of images, .tar or .jsonl shards, a pattern of them, a bucket. The uid is\n"
            "the record's key. A sample that cannot be read is skipped and said so. Ends when\n"
            "every record is acknowledged. What a record holds is in docs/kafka.md.\n"
            "\n"
            "Options:\n"
            "  --brokers HOST:PORT,...   where to begin to look for the cluster\n"
            "  --topic TOPIC             where to send to\n"
            "  --schema json|protobuf    how records are written; default: json\n"
            "  --keys        send object keys instead of images, which the job then reads below\n"
            "                its kafka.objects, the same folder; of plain JSONL: send every line\n"
            "                as it is, with its image_key, image_url or image\n"
            "  --format F    auto, webdataset, jsonl or folder; default: auto\n"
            "  --limit N     stop after so many samples\n"
            "  -X NAME=VALUE any property of librdkafka, such as -X compression.type=zstd or\n"
            "                -X security.protocol=SASL_SSL; a secret's value is env:NAME or\n"
            "                file:PATH, as in -X sasl.password=env:KAFKA_PASSWORD\n" STORE_ARGS_HELP
            "  -v, --verbose says more to standard error\n"
            "\n"
            "Examples:\n"
            "  reinforce produce --brokers localhost:9092 --topic images photos/\n"
            "  reinforce produce --brokers localhost:9092 --topic images --keys photos/\n"
            "\n"
            "Exit codes:\n"
            "  0  every sample was delivered\n"
            "  1  anything else\n"
            "  2  usage\n"
            "  3  delivered, some samples skipped\n",
    .run = run,
};
/* clang-format on */
