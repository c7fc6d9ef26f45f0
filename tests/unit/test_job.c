#include "reinforce/base/file.h"
#include "reinforce/job/job.h"
#include "reinforce/job/job_check.h"
#include "reinforce/job/job_schema.h"
#include "reinforce/job/job_stream.h"
#include "reinforce/job/job_value.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <dirent.h>
#include <stdlib.h>

enum { MAX_OVERRIDES = 8 };

static const char minimal[] = "input:\n"
                              "  url: images\n"
                              "output:\n"
                              "  url: out/dataset\n"
                              "captioners:\n"
                              "  - model: models/coca/\n"
                              "teachers:\n"
                              "  - model: models/clip-a\n"
                              "  - model: models/clip-b\n";

/* Loads `text` under the name "dir/x.yaml" with overrides up to the first NULL. */
static enum status load(const char *text, const char *const *sets, struct job **job,
                        struct error *err)
{
    struct job_override overrides[MAX_OVERRIDES];
    size_t n = 0;

    memset(err, 0, sizeof *err);
    for (; sets != NULL && sets[n] != NULL; n++)
        overrides[n].text = sets[n];
    return job_load_text(bytes_of_string(text), "dir/x.yaml", overrides, n, job, err);
}

static enum status load_set(const char *set, struct job **job, struct error *err)
{
    return load(minimal, (const char *const[]){set, NULL}, job, err);
}

static void what_is_not_given_has_its_default(void **state)
{
    struct caption_options how;
    struct augment_config augment;
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load(minimal, NULL, &job, &err));
    assert_string_equal(job->name, "x");
    assert_int_equal(job->seed, 0);
    assert_string_equal(job->input.format, "auto");
    assert_true(job->input.require_caption);
    assert_string_equal(job->output.format, "webdataset");
    assert_string_equal(job->output.layout, "current");
    assert_int_equal(job->output.embedding_dtype, RECORD_F32);
    assert_string_equal(job->catalog.url, "sqlite:out/dataset/catalog.sqlite");
    assert_int_equal(job->views.count, 2);
    assert_int_equal(job->workers.lease_ms, 60000);
    assert_int_equal(job->workers.memory_bytes, 1 << 30);
    assert_int_equal(job->limits.max_bytes, 64 << 20);

    assert_int_equal(job->n_captioners, 1);
    assert_string_equal(job->captioners[0].name, "coca");
    assert_string_equal(job->captioners[0].column, "syn_text");
    assert_int_equal(job->captioners[0].post,
                     JOB_POST_TRIM); /* TC-7: words are never cut unasked */
    assert_null(job->captioners[0].activation);
    assert_int_equal(job->n_teachers, 2);
    assert_string_equal(job->teachers[1].name, "clip-b");
    assert_int_equal(job->teachers[1].clean, TEACHER_CLEAN_AUTO);

    /* The table and the modules it configures agree on what the published recipe is. */
    caption_options_default(&how);
    how.stream = job->captioners[0].how.stream;
    assert_int_equal(job->captioners[0].how.strategy, how.strategy);
    assert_int_equal(job->captioners[0].how.n_captions, how.n_captions);
    assert_int_equal(job->captioners[0].how.max_tokens, how.max_tokens);
    assert_int_equal(job->captioners[0].how.min_tokens, how.min_tokens);
    assert_true(job->captioners[0].how.temperature == how.temperature);
    assert_int_equal(job->captioners[0].how.top_k, how.top_k);
    assert_true(job->captioners[0].how.top_p == how.top_p);
    assert_int_equal(job->captioners[0].how.temperature_first, how.temperature_first);
    assert_true(job->captioners[0].how.repetition_penalty == how.repetition_penalty);
    assert_int_equal(job->captioners[0].how.n_beams, how.n_beams);
    assert_true(job->captioners[0].how.length_penalty == how.length_penalty);
    assert_int_equal(job->captioners[0].how.mask_pad, how.mask_pad);
    augment_config_default(&augment);
    augment.size = 0; /* the largest teacher input */
    assert_int_equal(job->views.augment.size, augment.size);
    assert_int_equal(job->views.augment.filter, augment.filter);
    assert_true(job->views.augment.scale_min == augment.scale_min);
    assert_true(job->views.augment.scale_max == augment.scale_max);
    assert_true(job->views.augment.ratio_min == augment.ratio_min);
    assert_true(job->views.augment.ratio_max == augment.ratio_max);
    assert_int_equal(job->views.augment.rand_augment, augment.rand_augment);
    assert_true(job->views.augment.rand_augment_p == augment.rand_augment_p);
    assert_int_equal(job->views.augment.n_ops, augment.n_ops);
    assert_int_equal(job->views.augment.magnitude, augment.magnitude);
    assert_int_equal(job->views.augment.n_bins, augment.n_bins);
    job_destroy(&job);
    assert_null(job);
}

static void every_value_can_be_given(void **state)
{
    static const char text[] =
        "name: big_job\n"
        "seed: 9223372036854775807\n"
        "input: {url: s, format: jsonl, shard_samples: 10, require_caption: false, "
        "max_sample: 1MiB}\n"
        "output: {url: d, format: webdataset, layout: legacy, embedding_dtype: bfloat16}\n"
        "catalog: {url: 'sqlite:/c'}\n"
        "image: {max_encoded: 5KiB, max_pixels: 6, max_side: 7, max_ratio: 8, min_side: 9,\n"
        "        apply_exif_orientation: true, fast_decode: true}\n"
        "views: {count: 3, size: 256, interpolation: lanczos, scale_min: 0.5, scale_max: 0.75,\n"
        "        ratio_min: 0.9, ratio_max: 1.1, rand_augment: false, rand_augment_p: 0.25,\n"
        "        num_ops: 1, magnitude: 4, num_magnitude_bins: 11}\n"
        "captioners:\n"
        "  - {name: c, model: m, activation: quick_gelu, column: syn_text, count: 5,\n"
        "     strategy: beam_open_clip, temperature: 0.5, top_k: 3, top_p: 0.7,\n"
        "     temperature_first: true, max_tokens: 77, min_tokens: 2, repetition_penalty: 1.5,\n"
        "     num_beams: 4, length_penalty: -1, mask_pad: false, post: first_sentence}\n"
        "teachers:\n"
        "  - {name: t, model: n, activation: gelu, clean: tokenizer_json,\n"
        "     special_tokens_in_text: true}\n"
        "workers: {count: 2, threads: 3, part_samples: 4, lease: 2min, max_attempts: 5,\n"
        "          queue_items: 6, memory: 1TiB}\n"
        "budget: {failure_fraction: 0.5, failure_window: 7}\n";
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load(text, NULL, &job, &err));
    assert_string_equal(job->name, "big_job");
    assert_true(job->seed == INT64_MAX);
    assert_string_equal(job->input.url, "s");
    assert_string_equal(job->input.format, "jsonl");
    assert_int_equal(job->input.shard_samples, 10);
    assert_false(job->input.require_caption);
    assert_int_equal(job->workers.max_sample_bytes, 1 << 20);
    assert_string_equal(job->output.layout, "legacy");
    assert_int_equal(job->output.embedding_dtype, RECORD_BF16);
    assert_string_equal(job->catalog.url, "sqlite:/c");
    assert_int_equal(job->limits.max_bytes, 5120);
    assert_int_equal(job->limits.max_pixels, 6);
    assert_int_equal(job->limits.max_side, 7);
    assert_int_equal(job->limits.max_ratio, 8);
    assert_int_equal(job->limits.min_side, 9);
    assert_true(job->apply_exif_orientation);
    assert_true(job->fast_decode);
    assert_int_equal(job->views.count, 3);
    assert_int_equal(job->views.augment.size, 256);
    assert_int_equal(job->views.augment.filter, RESAMPLE_LANCZOS);
    assert_true(job->views.augment.scale_min == 0.5 && job->views.augment.scale_max == 0.75);
    assert_true(job->views.augment.ratio_min == 0.9 && job->views.augment.ratio_max == 1.1);
    assert_false(job->views.augment.rand_augment);
    assert_true(job->views.augment.rand_augment_p == 0.25);
    assert_int_equal(job->views.augment.n_ops, 1);
    assert_int_equal(job->views.augment.magnitude, 4);
    assert_int_equal(job->views.augment.n_bins, 11);
    assert_string_equal(job->captioners[0].activation, "quick_gelu");
    assert_int_equal(job->captioners[0].how.n_captions, 5);
    assert_int_equal(job->captioners[0].how.strategy, CAPTION_BEAM_OPEN_CLIP);
    assert_true(job->captioners[0].how.temperature == 0.5);
    assert_int_equal(job->captioners[0].how.top_k, 3);
    assert_true(job->captioners[0].how.top_p == 0.7);
    assert_true(job->captioners[0].how.temperature_first);
    assert_int_equal(job->captioners[0].how.max_tokens, 77);
    assert_int_equal(job->captioners[0].how.min_tokens, 2);
    assert_true(job->captioners[0].how.repetition_penalty == 1.5);
    assert_int_equal(job->captioners[0].how.n_beams, 4);
    assert_true(job->captioners[0].how.length_penalty == -1);
    assert_false(job->captioners[0].how.mask_pad);
    assert_true(job->captioners[0].how.seed == INT64_MAX);
    assert_int_equal(job->captioners[0].post, JOB_POST_FIRST_SENTENCE);
    assert_string_equal(job->teachers[0].activation, "gelu");
    assert_int_equal(job->teachers[0].clean, TEACHER_CLEAN_TOKENIZER_JSON);
    assert_true(job->teachers[0].special_tokens_in_text);
    assert_int_equal(job->workers.count, 2);
    assert_int_equal(job->workers.threads, 3);
    assert_int_equal(job->workers.part_samples, 4);
    assert_int_equal(job->workers.lease_ms, 120000);
    assert_int_equal(job->workers.max_attempts, 5);
    assert_int_equal(job->workers.queue_items, 6);
    assert_true(job->workers.memory_bytes == (int64_t)1 << 40);
    assert_true(job->budget.failure_fraction == 0.5);
    assert_int_equal(job->budget.failure_window, 7);
    job_destroy(&job);
}

static void a_wrong_file_names_line_key_reason_and_remedy(void **state)
{
    static const struct {
        const char *text, *at, *reason;
    } cases[] = {
        {"views:\n  cout: 3\n", "dir/x.yaml:2:3: views.cout", "did you mean \"count\"?"},
        {"teacher:\n  - model: m\n", "dir/x.yaml:1:1: teacher", "did you mean \"teachers\"?"},
        {"sede: 1\n", "dir/x.yaml:1:1: sede", "did you mean \"seed\"?"},
        {"input: {url: a}\noutput: {url: b, embedding_dtype: float23}\n",
         "dir/x.yaml:2:18: output.embedding_dtype", "did you mean \"float32\"?"},
        {"input:\n  embedding_dtype: float32\n", "dir/x.yaml:2:3: input.embedding_dtype",
         "belongs under output"},
        {"captioners:\n  - model: m\n    weights: int8\n", "dir/x.yaml:3:5: captioners[0].weights",
         "did you mean \"dtype\"?"},
        {"input:\n  seed: 3\n", "dir/x.yaml:2:3: input.seed", "at the top level"},
        {"input:\n  zzzzzzzz: 3\n", "dir/x.yaml:2:3: input.zzzzzzzz", "docs/job-file.md"},
        {"captioners:\n  - model: m\n    top_pp: 1\n", "dir/x.yaml:3:5: captioners[0].top_pp",
         "did you mean \"top_p\"?"},
        {"seed: 1x\n", "dir/x.yaml:1:1: seed", "not an integer"},
        {"seed: -1\n", "dir/x.yaml:1:1: seed", "outside 0.."},
        {"seed: 9223372036854775808\n", "dir/x.yaml:1:1: seed", "outside"},
        {"seed: '1'\n", "dir/x.yaml:1:1: seed", "because of its quotes"},
        {"seed: [1]\n", "dir/x.yaml:1:1: seed", "is a list where one value is expected"},
        {"seed: {a: 1}\n", "dir/x.yaml:1:1: seed", "is a map where"},
        {"input: here\n", "dir/x.yaml:1:1: input", "single value where keys"},
        {"input: [a]\n", "dir/x.yaml:1:1: input", "list where keys"},
        {"- a\n", "dir/x.yaml:1:1", "list where keys"},
        {"just text\n", "dir/x.yaml:1:1", "single value where keys"},
        {"teachers: {model: m}\n", "dir/x.yaml:1:1: teachers", "begin every element with \"- \""},
        {"teachers: m\n", "dir/x.yaml:1:1: teachers", "single value where a list"},
        {"teachers: [m]\n", "dir/x.yaml:1:12: teachers[0]", "single value where keys"},
        {"", "dir/x.yaml:1:1: input.url", "is missing and has no default"},
        {"input:\n", "dir/x.yaml:1:1: input.url", "is missing"},
        {"input: {url: ''}\n", "dir/x.yaml:1:9: input.url", "is empty"},
        {"input: {url: \"a\\nb\"}\n", "dir/x.yaml:1:9: input.url", "control character"},
        {"input: {url: '${HOME}/x'}\n", "dir/x.yaml:1:9: input.url", "--set"},
        {"input: {url: a, require_caption: yes}\n", "dir/x.yaml:1:17: input.require_caption",
         "neither true nor false"},
        {"input: {url: a, max_sample: 512}\n", "dir/x.yaml:1:17: input.max_sample", "has no unit"},
        {"input: {url: a, max_sample: 512MB}\n", "", "unit \"MB\" is not known"},
        {"input: {url: a, max_sample: MiB}\n", "", "not a whole number"},
        {"input: {url: a, max_sample: 1.5GiB}\n", "", "unit \".5GiB\" is not known"},
        {"input: {url: a, max_sample: 99999999TiB}\n", "", "too large"},
        {"input: {url: a, max_sample: 1B}\n", "", "outside 1KiB..16GiB"},
        {"input: {url: a, format: webdatset}\n", "", "did you mean \"webdataset\"?"},
        {"input: {url: a, format: parquet}\n", "", "auto, webdataset, jsonl or folder"},
    };
    struct job *job;
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum status st = load(cases[i].text, NULL, &job, &err);

        if (st != ST_INVALID || (cases[i].at[0] != '\0' && strcmp(err.context, cases[i].at) != 0) ||
            strstr(err.message, cases[i].reason) == NULL)
            fail_msg("case %zu, %s: got %s: \"%s\": %s", i, cases[i].text, status_name(st),
                     err.context, err.message);
        assert_null(job);
    }
}

static void impossible_combinations_are_refused_with_reason_and_next_step(void **state)
{
    static const struct {
        const char *sets[MAX_OVERRIDES];
        const char *at, *reason;
    } cases[] = {
        {{"captioners=", "teachers="}, "dir/x.yaml:1:1", "nothing to do; add at least one"},
        {{"views.count=0"}, "views.count", "remove the teachers"},
        {{"teachers=", "views.count=2"}, "views.count", "add teachers"},
        {{"output.layout=legacy", "captioners[1]={model: b, column: syn_text_b}"},
         "output.layout",
         "one caption column, and there are 2"}, /* DR 10 */
        {{"output.layout=legacy", "captioners[0].column=syn_text_x"},
         "output.layout",
         "syn_text_x"},
        {{"captioners[1].model=b"}, "captioners[1]", "such as syn_text_b"},
        {{"captioners[1]={model: m/coca, column: syn_text_b}"}, "captioners[1]", "own `name`"},
        {{"teachers[2].model=x/clip-a"}, "teachers[2]", "own `name`"},
        {{"captioners[0].column=text"}, "captioners[0].column", "does not begin with syn_text"},
        {{"storage.endpoint=minio:9000"}, "storage.endpoint", "begins with neither http://"},
        {{"storage.endpoint=http://me:secret@h"}, "storage.endpoint", "keys come from"},
        {{"captioners[0].column=syn_text_emb"}, "captioners[0].column", "embedding"},
        {{"captioners[0].column=syn_text.b"}, "captioners[0].column", "not a column name"},
        {{"captioners[0].min_tokens=30"}, "captioners[0].min_tokens", "not below max_tokens"},
        {{"output.format=jsonl", "output.embedding_dtype=bfloat16"},
         "output.embedding_dtype",
         "no bfloat16; use float32"},
        {{"kafka.brokers=h:9092"}, "kafka.brokers", "such as kafka:TOPIC"},
        {{"input.url=kafka:images"}, "kafka.brokers", "HOST:PORT"},
        {{"input.url=kafka:a b", "kafka.brokers=h:9092"}, "input.url", "no topic's name"},
        {{"input.url=kafka:a,,b", "kafka.brokers=h:9092"}, "input.url", "no topic's name"},
        {{"input.url=kafka:a", "kafka.brokers=h:9092", "input.format=jsonl"},
         "input.format",
         "kafka.schema"},
        {{"input.url=kafka:a,dead", "kafka.brokers=h:9092", "kafka.dead_letters=dead"},
         "kafka.dead_letters",
         "would come back"},
        {{"input.url=kafka:a", "kafka.brokers=h:9092", "kafka.memory=2MiB"},
         "kafka.memory",
         "raise this or lower that"},
        {{"input.url=kafka:a", "kafka.brokers=h:9092", "kafka.properties=sasl.password=x"},
         "kafka.properties",
         "env:NAME"},
        {{"input.url=kafka:a", "kafka.brokers=h:9092", "kafka.properties=linger"},
         "kafka.properties",
         "NAME=VALUE"},
        {{"events.topic=e"}, "events.brokers", "HOST:PORT"},
        {{"events.brokers=h:9092"}, "events.topic", "the topic that events go to"},
        {{"events.topic=^e", "events.brokers=h:9092"}, "events.topic", "one topic"},
        {{"events.topic=a b", "events.brokers=h:9092"}, "events.topic", "no topic's name"},
        {{"events.topic=e", "events.brokers=h:9092", "events.properties=sasl.password=x"},
         "events.properties",
         "env:NAME"},
        {{"input.url=kafka:a,e", "kafka.brokers=h:9092", "events.topic=e"},
         "events.topic",
         "would come back"},
        {{"name=a/b"}, "name", "cannot be a name"},
        {{"name=.."}, "name", "cannot be a name"},
        {{"teachers[0].name=a b"}, "teachers[0].name", "cannot be a name"},
        {{"captioners[0].name=-x"}, "captioners[0].name", "cannot be a name"},
        {{"output.url=images/"}, "output.url", "is the input as well"},
        {{"output.url=mem:x"}, "catalog.url", "must be given"},
        {{"views.scale_min=0.9", "views.scale_max=0.5"}, "views.scale_min", "above scale_max"},
        {{"views.ratio_min=3"}, "views.ratio_min", "above ratio_max"},
        {{"views.magnitude=31"}, "views.magnitude", "num_magnitude_bins"},
        {{"workers.memory=100MiB"}, "workers.memory", "raise this or lower that"},
        {{"captioners[0].server=http://h/v1"}, "captioners[0].server", "needs `protocol`"},
        {{"captioners[0].protocol=openai"}, "captioners[0].protocol", "not to whom"},
        {{"captioners[0].protocol=oip"}, "captioners[0].protocol", "openai"},
        {{"captioners[0].protocol=openai", "captioners[0].server=gpu-1:8000"},
         "captioners[0].server",
         "neither http:// nor https://"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://me:secret@h/v1"},
         "captioners[0].server",
         "`token_env`"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://h/v1",
          "captioners[0].strategy=beam"},
         "captioners[0].strategy",
         "no beam search"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://h/v1",
          "captioners[0].activation=gelu"},
         "captioners[0].activation",
         "server's business"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://h/v1",
          "captioners[0].dtype=int8"},
         "captioners[0].dtype",
         "server's business"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://h/v1",
          "captioners[0].dtype=auto"},
         "captioners[0].dtype",
         "server's business"},
        {{"captioners[0].fidelity=0.5"}, "captioners[0].fidelity", "say `dtype: auto`"},
        {{"teachers[0].fidelity=0.5"}, "teachers[0].fidelity", "say `dtype: auto`"},
        {{"teachers[0].dtype=auto", "input.url=kafka:a", "kafka.brokers=h:9092"},
         "teachers[0].dtype",
         "name the dtype"},
        {{"captioners[0].dtype=int8", "captioners[0].fidelity=0.5", "input.url=kafka:a",
          "kafka.brokers=h:9092"},
         "captioners[0].fidelity",
         "name the dtype"},
        {{"captioners[0].protocol=openai", "captioners[0].server=http://h/v1",
          "captioners[0].kv_cache=bfloat16"},
         "captioners[0].kv_cache",
         "server's business"},
        {{"teachers[0].protocol=openai", "teachers[0].server=http://h/v1"},
         "teachers[0].image_size",
         "must be given"},
        {{"teachers[0].protocol=oip", "teachers[0].server=http://h", "teachers[0].clean=canonical"},
         "teachers[0].clean",
         "server's business"},
        {{"teachers[0].protocol=oip", "teachers[0].server=http://h", "teachers[0].mean=1 2"},
         "teachers[0].mean",
         "not three numbers"},
        {{"teachers[0].protocol=oip", "teachers[0].server=http://h", "teachers[0].mean=1 2 3 4"},
         "teachers[0].mean",
         "more than three"},
        {{"teachers[0].protocol=oip", "teachers[0].server=http://h", "teachers[0].std=1 0 1"},
         "teachers[0].std",
         "above 0"},
    };
    struct job *job;
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum status st = load(minimal, cases[i].sets, &job, &err);

        if (st != ST_INVALID || strstr(err.context, cases[i].at) == NULL ||
            strstr(err.message, cases[i].reason) == NULL)
            fail_msg("case %zu, %s: got %s: \"%s\": %s", i, cases[i].sets[0], status_name(st),
                     err.context, err.message);
    }
}

static void a_refused_combination_points_at_the_line(void **state)
{
    struct job *job;
    struct error err;

    (void)state;
    assert_status(load("input: {url: i}\noutput:\n  url: o\n  layout: legacy\n"
                       "captioners:\n  - model: a\n    column: syn_text_a\n",
                       NULL, &job, &err),
                  ST_INVALID);
    assert_string_equal(err.context, "dir/x.yaml:4:3: output.layout");
    assert_status(load("input: {url: i}\noutput: {url: o}\n"
                       "captioners:\n  - model: a\n  - model: b\n",
                       NULL, &job, &err),
                  ST_INVALID);
    assert_string_equal(err.context, "dir/x.yaml:5:5: captioners[1].column");
}

static void without_teachers_there_are_no_views(void **state)
{
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load_set("teachers=", &job, &err));
    assert_int_equal(job->views.count, 0);
    job_destroy(&job);
    assert_ok(load(minimal, (const char *const[]){"teachers=", "views.count=0", NULL}, &job, &err));
    assert_int_equal(job->views.count, 0);
    job_destroy(&job);
}

static void a_stream_has_topics_and_properties(void **state)
{
    static const char text[] = "input: {url: 'kafka:images,^more\\.[ab]$'}\n"
                               "output: {url: out}\n"
                               "teachers: [{model: m}]\n"
                               "kafka:\n"
                               "  brokers: h:9092\n"
                               "  properties: |\n"
                               "    linger.ms = 5\n"
                               "\n"
                               "    sasl.password=env:SECRET\n"
                               "    x=a=b\n";
    struct job_stream stream;
    struct arena arena;
    struct job *job;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(load(text, NULL, &job, &err));
    assert_true(job_is_stream(job));
    assert_string_equal(job->kafka.group, job->name);
    assert_ok(job_stream_parse(job, &arena, &stream, &err));
    assert_int_equal(stream.n_topics, 2);
    assert_string_equal(stream.topics[0], "images");
    assert_string_equal(stream.topics[1], "^more\\.[ab]$");
    assert_int_equal(stream.n_properties, 3);
    assert_string_equal(stream.properties[0].name, "linger.ms");
    assert_string_equal(stream.properties[0].value, "5");
    assert_string_equal(stream.properties[1].value, "env:SECRET");
    assert_string_equal(stream.properties[2].value, "a=b");
    job_destroy(&job);
    assert_ok(load(minimal, NULL, &job, &err));
    assert_false(job_is_stream(job));
    assert_null(job->kafka.group);
    job_destroy(&job);
    arena_release(&arena);
}

/* Brokers and how they are reached are those of the input, unless events have their own. */
static void events_go_where_the_stream_is_or_elsewhere(void **state)
{
    static const char text[] = "input: {url: 'kafka:images'}\n"
                               "output: {url: out}\n"
                               "teachers: [{model: m}]\n"
                               "kafka: {brokers: 'h:9092', properties: 'a=1'}\n"
                               "events: {topic: e, properties: 'b=2'}\n";
    static const char *const elsewhere[] = {"events.brokers=k:1", NULL};
    struct job_events events;
    struct arena arena;
    struct job *job;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(load(text, NULL, &job, &err));
    assert_ok(job_events_parse(job, &arena, &events, &err));
    assert_string_equal(events.brokers, "h:9092");
    assert_int_equal(events.n_properties, 2);
    assert_string_equal(events.properties[0].name, "a");
    assert_string_equal(events.properties[1].value, "2");
    assert_false(job->events.samples);
    job_destroy(&job);
    assert_ok(load(text, elsewhere, &job, &err));
    assert_ok(job_events_parse(job, &arena, &events, &err));
    assert_string_equal(events.brokers, "k:1");
    assert_int_equal(events.n_properties, 1);
    assert_string_equal(events.properties[0].name, "b");
    job_destroy(&job);
    assert_ok(load(minimal, NULL, &job, &err));
    assert_false(job_has_events(job));
    job_destroy(&job);
    arena_release(&arena);
}

static void overrides_reach_every_place(void **state)
{
    static const char *const sets[] = {"seed=5",
                                       "workers.count=4",
                                       "teachers[0].model=/x=1/m",
                                       "teachers[2]={model: c, name: third}",
                                       "seed=6",
                                       "workers.count=",
                                       "input.url=a: b # c",
                                       NULL};
    static const struct {
        const char *set, *at, *reason;
    } wrong[] = {
        {"workers.cout=4", "--set workers.cout=4: workers.cout", "did you mean \"count\"?"},
        {"workers.count=x", "--set workers.count=x: workers.count", "not an integer"},
        {"workers.count", "--set workers.count", "has no \"=\""},
        {"=4", "--set =4", "no key"},
        {"", "--set ", "has no \"=\""},
        {"sed.x=4", "--set sed.x=4: sed", "did you mean \"seed\"?"},
        {"input.url.x=4", "--set input.url.x=4", "single value in the job file, not a map"},
        {"input[0]=4", "--set input[0]=4", "map in the job file, not a list"},
        {"teachers.model=4", "--set teachers.model=4", "list in the job file, not a map"},
        {"teachers[3].model=4", "--set teachers[3].model=4", "past the end"},
        {"teachers[x].model=4", "--set teachers[x].model=4", "not an index"},
        {"teachers[99999999].model=4", "--set teachers[99999999].model=4", "not an index"},
        {"teachers[0=4", "--set teachers[0=4", "not an index"},
        {"teachers[0]model=4", "--set teachers[0]model=4", "is expected here"},
        {".seed=4", "--set .seed=4", "does not begin with a key"},
        {"teachers=[{model: a", "--set teachers=[{model: a", "not YAML"},
        {"name=\xff", "--set name=\xff", "UTF-8"},
    };
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load(minimal, sets, &job, &err));
    assert_int_equal(job->seed, 6);
    assert_int_equal(job->workers.count, 1);
    assert_string_equal(job->teachers[0].model, "/x=1/m");
    assert_int_equal(job->n_teachers, 3);
    assert_string_equal(job->teachers[2].name, "third");
    assert_string_equal(job->input.url, "a: b # c");
    job_destroy(&job);
    assert_ok(load(
        "", (const char *const[]){"input.url=i", "output.url=o", "captioners[0].model=c", NULL},
        &job, &err));
    assert_string_equal(job->captioners[0].model, "c");
    job_destroy(&job);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        enum status st = load_set(wrong[i].set, &job, &err);

        if (st != ST_INVALID || strstr(err.context, wrong[i].at) == NULL ||
            strstr(err.message, wrong[i].reason) == NULL)
            fail_msg("%s: got %s: \"%s\": %s", wrong[i].set, status_name(st), err.context,
                     err.message);
    }
}

static void the_digest_follows_what_changes_results_alone(void **state)
{
    static const char *const same[] = {"name=other",
                                       "output.url=elsewhere",
                                       "catalog.url=sqlite:c",
                                       "workers.count=8",
                                       "workers.threads=2",
                                       "workers.part_samples=7",
                                       "workers.lease=5s",
                                       "workers.memory=2GiB",
                                       "budget.failure_window=5",
                                       "captioners[0].name=c",
                                       "workers.max_attempts=9",
                                       "captioners[0].token_env=T",
                                       "captioners[0].concurrency=3",
                                       "teachers[0].timeout=1s",
                                       "teachers[0].batch=2"};
    static const char *const different[] = {"seed=1",
                                            "input.url=x",
                                            "input.max_sample=1MiB",
                                            "views.count=3",
                                            "captioners[0].top_p=0.8",
                                            "captioners[0].column=syn_text_x",
                                            "captioners[0].model=y",
                                            "teachers[0].model=z",
                                            "output.embedding_dtype=bfloat16",
                                            "output.format=jsonl",
                                            "image.max_side=100",
                                            "captioners[0].image_side=512",
                                            "teachers[0].text_model=t",
                                            "teachers[2].model=t"};
    char digest[SHA256_HEX_LEN + 1];
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load(minimal, NULL, &job, &err));
    memcpy(digest, job->digest, sizeof digest);
    assert_int_equal(strlen(digest), SHA256_HEX_LEN);
    job_destroy(&job);
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        assert_ok(load_set(same[i], &job, &err));
        if (strcmp(job->digest, digest) != 0)
            fail_msg("%s changes the digest", same[i]);
        job_destroy(&job);
    }
    for (size_t i = 0; i < ARRAY_LEN(different); i++) {
        assert_ok(load_set(different[i], &job, &err));
        if (strcmp(job->digest, digest) == 0)
            fail_msg("%s does not change the digest", different[i]);
        job_destroy(&job);
    }
}

static void differences_are_named_exactly_when_the_digest_differs(void **state)
{
    static const struct {
        const char *set, *want;
    } cases[] = {
        {"workers.count=8", ""},
        {"seed=7", "seed: 0 -> 7"},
        {"views.count=5", "views.count: 2 -> 5"},
        {"input.max_sample=1GiB", "input.max_sample: \"256MiB\" -> \"1GiB\""},
        {"captioners[0].activation=gelu", "captioners[0].activation: null -> \"gelu\""},
        {"teachers[1].model=x", "teachers[1].model: \"models/clip-b\" -> \"x\""},
        {"teachers[2].model=x", "teachers[2]: not set -> \"x\""},
        {"teachers=[{model: models/clip-a}]", "teachers[1]: \"clip-b\" -> not set"},
        {"teachers=[{model: models/clip-b}, {model: models/clip-a}]",
         "teachers[0].model: \"models/clip-a\" -> \"models/clip-b\"; "
         "teachers[1].model: \"models/clip-b\" -> \"models/clip-a\""},
    };
    struct job *before, *after;
    struct arena arena;
    struct error err;
    const char *text;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(load(minimal, NULL, &before, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(load(minimal, (const char *const[]){cases[i].set, "workers.memory=2GiB", NULL},
                       &after, &err));
        assert_ok(job_diff(before->effective_json, after->effective_json, &arena, &text, &err));
        assert_string_equal(text, cases[i].want);
        assert_int_equal(text[0] == '\0', strcmp(before->digest, after->digest) == 0);
        job_destroy(&after);
    }
    assert_ok(job_diff("{}", before->effective_json, &arena, &text, &err));
    assert_non_null(strstr(text, "seed: not set -> 0"));
    assert_status(job_diff("{", before->effective_json, &arena, &text, &err), ST_CORRUPT);
    assert_string_equal(err.context, "stored configuration");
    job_destroy(&before);
    arena_release(&arena);
}

/* CF-3: what is stored beside the output can be run again. */
static void the_effective_configuration_is_a_job_file(void **state)
{
    struct job *job, *again;
    struct error err;

    (void)state;
    assert_ok(load(minimal,
                   (const char *const[]){"workers.lease=90s",
                                         "input.url=a\\\"\xc3\xa9\xf0\x9f\x98\x80\\ud83d", NULL},
                   &job, &err));
    assert_ok(load(job->effective_json, NULL, &again, &err));
    assert_string_equal(again->effective_json, job->effective_json);
    assert_string_equal(again->input.url, "a\\\"\xc3\xa9\xf0\x9f\x98\x80\\ud83d");
    assert_string_equal(again->digest, job->digest);
    job_destroy(&again);
    job_destroy(&job);
}

static void a_column_keeps_its_random_numbers_when_captioners_move(void **state)
{
    struct job *a, *b;
    struct error err;

    (void)state;
    assert_ok(load_set("captioners=[{model: m}, {model: n, column: syn_text_n}]", &a, &err));
    assert_ok(load_set("captioners=[{model: n, column: syn_text_n}, {model: m}]", &b, &err));
    assert_int_equal(a->captioners[0].how.stream, b->captioners[1].how.stream);
    assert_int_equal(a->captioners[1].how.stream, b->captioners[0].how.stream);
    assert_int_not_equal(a->captioners[0].how.stream, a->captioners[1].how.stream);
    assert_true(a->captioners[0].how.stream <= 0xffff);
    job_destroy(&a);
    job_destroy(&b);
}

static void quantities_print_in_the_notation_they_are_read_in(void **state)
{
    static const struct {
        int64_t value;
        const char *bytes, *duration;
    } cases[] = {
        {0, "0", "0"},
        {1, "1B", "1ms"},
        {1000, "1000B", "1s"},
        {1024, "1KiB", "1024ms"},
        {60000, "60000B", "60s"},
        {3600000, "3600000B", "3600s"},
        {(int64_t)3 << 30, "3GiB", "3221225472ms"},
    };
    char text[JOB_QUANTITY_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        job_value_format_bytes(cases[i].value, text);
        assert_string_equal(text, cases[i].bytes);
        job_value_format_duration(cases[i].value, text);
        assert_string_equal(text, cases[i].duration);
    }
}

static void nearest_keys_are_slips_of_the_finger(void **state)
{
    static const struct {
        const char *section, *word, *want;
    } cases[] = {
        {"views", "cuont", "count"},
        {"views", "Count", "count"},
        {"views", "magnitud", "magnitude"},
        {"captioners", "topp", "top_p"},
        {"captioners", "n_beams", "num_beams"},
        {"workers", "memmory", "memory"},
        {"", "captoiners", "captioners"},
        {"views", "banana", NULL},
        {"views", "", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = job_nearest_key(
            &job_file_schema, job_section_find(&job_file_schema, cases[i].section), cases[i].word);

        if ((got == NULL) != (cases[i].want == NULL) ||
            (got != NULL && strcmp(got, cases[i].want) != 0))
            fail_msg("%s: got %s", cases[i].word, got != NULL ? got : "nothing");
    }
}

static void the_table_is_sound(void **state)
{
    (void)state;
    for (size_t s = 0; s < job_n_sections; s++) {
        const struct job_section *section = &job_sections[s];

        assert_ptr_equal(job_section_find(&job_file_schema, section->name), section);
        for (size_t i = 0; i < section->n_options; i++) {
            const struct job_option *option = &section->options[i];

            if (job_option_find(section, option->key) != option)
                fail_msg("%s.%s stands twice", section->name, option->key);
            if (option->help[strlen(option->help) - 1] != '.')
                fail_msg("%s.%s: help is not a sentence", section->name, option->key);
        }
    }
}

static void auto_has_a_fidelity_of_its_own_for_each_role(void **state)
{
    static const char *const as_auto[] = {"captioners[0].dtype=auto", "teachers[0].dtype=auto",
                                          "teachers[1].dtype=int8", NULL};
    static const char *const asked[] = {"captioners[0].dtype=auto", "teachers[0].dtype=auto",
                                        "teachers[0].fidelity=0.99", "teachers[1].dtype=int8",
                                        NULL};
    struct job *job, *again;
    struct error err;

    (void)state;
    assert_ok(load(minimal, as_auto, &job, &err));
    assert_int_equal(job->captioners[0].dtype, JOB_DTYPE_AUTO);
    assert_true(job->captioners[0].fidelity == 0.9);
    assert_true(job->teachers[0].fidelity == 0.999);
    assert_int_equal(job->teachers[1].dtype, JOB_DTYPE_INT8);
    assert_true(job->teachers[1].fidelity == 0); /* nothing is compared */
    assert_ok(job_load_text(bytes_of_string(job->effective_json), "x", NULL, 0, &again, &err));
    assert_string_equal(again->digest, job->digest);
    job_destroy(&again);
    assert_ok(load(minimal, asked, &again, &err));
    assert_true(again->teachers[0].fidelity == 0.99);
    assert_string_not_equal(again->digest, job->digest); /* it changes results */
    job_destroy(&again);
    job_destroy(&job);
}

static void the_reference_page_is_what_the_table_says(void **state)
{
    struct byte_buf page, stored;
    struct error err;

    (void)state;
    byte_buf_init(&page, 1 << 20);
    byte_buf_init(&stored, 1 << 20);
    assert_ok(job_write_reference(&page, &err));
    assert_ok(file_read("docs/job-file.md", &stored, &err));
    if (!bytes_equal(byte_buf_view(&page), byte_buf_view(&stored)))
        fail_msg("docs/job-file.md is old; run: reinforce help --job-file > docs/job-file.md");
    byte_buf_release(&stored);
    byte_buf_release(&page);
}

static void every_job_file_in_configs_loads(void **state)
{
    DIR *dir = opendir("configs");
    struct dirent *entry;
    size_t n = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        size_t len = strlen(entry->d_name);
        char path[300];
        struct job *job;
        struct error err;

        if (len < 5 || strcmp(entry->d_name + len - 5, ".yaml") != 0 ||
            strcmp(entry->d_name, "curate.yaml") == 0) /* test_curation.c loads it */
            continue;
        (void)snprintf(path, sizeof path, "configs/%s", entry->d_name);
        assert_ok(job_load(path, NULL, 0, &job, &err));
        job_destroy(&job);
        n++;
    }
    (void)closedir(dir);
    assert_true(n >= 2);
}

static void dfndr_is_the_published_recipe(void **state)
{
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(job_load("configs/dfndr.yaml", NULL, 0, &job, &err));
    assert_int_equal(job->views.count, 2);
    assert_int_equal(job->n_captioners, 1);
    assert_int_equal(job->captioners[0].how.n_captions, 5);
    assert_int_equal(job->captioners[0].how.strategy, CAPTION_SAMPLE);
    assert_true(job->captioners[0].how.top_p == 0.9);
    assert_int_equal(job->captioners[0].how.max_tokens, 30);
    assert_int_equal(job->captioners[0].how.min_tokens, 5);
    assert_string_equal(job->captioners[0].column, "syn_text");
    assert_int_equal(job->captioners[0].post, JOB_POST_FIRST_SENTENCE);
    assert_int_equal(job->n_teachers, 2);
    assert_non_null(strstr(job->teachers[0].model, "DFN2B-CLIP-ViT-L-14"));
    assert_non_null(strstr(job->teachers[1].model, "DFN2B-CLIP-ViT-L-14-39B"));
    assert_int_equal(job->output.embedding_dtype, RECORD_BF16);
    job_destroy(&job);
}

static void a_file_that_is_not_there_is_said_so(void **state)
{
    struct job *job;
    struct error err = {0};

    (void)state;
    assert_status(job_load("configs/none.yaml", NULL, 0, &job, &err), ST_NOT_FOUND);
    assert_string_equal(err.context, "job file");
    assert_non_null(strstr(err.message, "configs/none.yaml"));
    assert_null(job);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Bytes changed, dropped, doubled; lines moved: what a tired person or a broken disk does. */
static void mutate(char *text, size_t *len, size_t capacity, uint64_t *seed)
{
    static const char pool[] = "\n :-[]{}&*!|>'\"#%@`,?\t\x80\xff\0"
                               "0129eE.xyzMiBsnul~";
    size_t n = 1 + next_random(seed) % 6;

    for (size_t i = 0; i<n && * len> 1; i++) {
        size_t at = next_random(seed) % *len;
        size_t want = 1 + next_random(seed) % 12;
        size_t span = MIN(want, *len - at);

        switch (next_random(seed) % 4) {
        case 0:
            text[at] = pool[next_random(seed) % (sizeof pool - 1)];
            break;
        case 1:
            memmove(text + at, text + at + span, *len - at - span);
            *len -= span;
            break;
        case 2:
            if (*len + span <= capacity) {
                memmove(text + at + span, text + at, *len - at);
                *len += span;
            }
            break;
        default:
            text[at] = (char)next_random(seed);
        }
    }
}

static void a_thousand_mutated_files_give_a_job_or_a_reason(void **state)
{
    struct byte_buf file;
    struct error err;
    uint64_t seed = 2;
    size_t n_refused = 0;

    (void)state;
    byte_buf_init(&file, 1 << 16);
    assert_ok(file_read("configs/quickstart.yaml", &file, &err));
    for (int i = 0; i < 1000; i++) {
        char text[8192];
        size_t len = MIN(file.len, sizeof text / 2);
        struct job *job;
        enum status st;

        memcpy(text, file.data, len);
        mutate(text, &len, sizeof text, &seed);
        memset(&err, 0, sizeof err);
        st = job_load_text(bytes_view_of(text, len), "m.yaml", NULL, 0, &job, &err);
        if (st == ST_OK) {
            job_destroy(&job);
            continue;
        }
        n_refused++;
        if (st != ST_INVALID || err.message[0] == '\0' || strncmp(err.context, "m.yaml:", 7) != 0)
            fail_msg("mutation %d: %s: \"%s\": %s", i, status_name(st), err.context, err.message);
    }
    assert_true(n_refused > 200);
    byte_buf_release(&file);
}

static void every_allocation_may_fail_once(void **state)
{
    unsigned n = 1;

    (void)state;
    for (;; n++) {
        struct job *job;
        struct error err;
        enum status st;

        oom_fail_at(n);
        st = load_set("workers.count=2", &job, &err);
        oom_fail_at(0);
        job_destroy(&job);
        if (st == ST_OK)
            break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(every_value_can_be_given),
        cmocka_unit_test(a_wrong_file_names_line_key_reason_and_remedy),
        cmocka_unit_test(impossible_combinations_are_refused_with_reason_and_next_step),
        cmocka_unit_test(a_refused_combination_points_at_the_line),
        cmocka_unit_test(without_teachers_there_are_no_views),
        cmocka_unit_test(a_stream_has_topics_and_properties),
        cmocka_unit_test(events_go_where_the_stream_is_or_elsewhere),
        cmocka_unit_test(overrides_reach_every_place),
        cmocka_unit_test(the_digest_follows_what_changes_results_alone),
        cmocka_unit_test(differences_are_named_exactly_when_the_digest_differs),
        cmocka_unit_test(the_effective_configuration_is_a_job_file),
        cmocka_unit_test(a_column_keeps_its_random_numbers_when_captioners_move),
        cmocka_unit_test(quantities_print_in_the_notation_they_are_read_in),
        cmocka_unit_test(nearest_keys_are_slips_of_the_finger),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(auto_has_a_fidelity_of_its_own_for_each_role),
        cmocka_unit_test(the_reference_page_is_what_the_table_says),
        cmocka_unit_test(every_job_file_in_configs_loads),
        cmocka_unit_test(dfndr_is_the_published_recipe),
        cmocka_unit_test(a_file_that_is_not_there_is_said_so),
        cmocka_unit_test(a_thousand_mutated_files_give_a_job_or_a_reason),
        cmocka_unit_test(every_allocation_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
