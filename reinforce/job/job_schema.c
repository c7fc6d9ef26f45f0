#include "reinforce/job/job_schema.h"

#include "reinforce/base/nearest.h"
#include "reinforce/job/job_table.h"

#include <limits.h>

static const struct job_option_name input_formats[] = {
    {"auto", 0}, {"webdataset", 1}, {"jsonl", 2}, {"folder", 3}, {NULL, 0}};
static const struct job_option_name stream_schemas[] = {
    {"auto", 0}, {"json", 1}, {"protobuf", 2}, {NULL, 0}};
static const struct job_option_name stream_starts[] = {{"earliest", 0}, {"latest", 1}, {NULL, 0}};
static const struct job_option_name event_formats[] = {{"json", 0}, {"protobuf", 0}, {NULL, 0}};
static const struct job_option_name stream_duplicates[] = {
    {"none", 0}, {"uid", 1}, {"content", 2}, {"both", 3}, {NULL, 0}};
static const struct job_option_name output_formats[] = {
    {"webdataset", 0}, {"jsonl", 1}, {"jsonl.gz", 2}, {"jsonl.zst", 3}, {NULL, 0}};
static const struct job_option_name addressings[] = {
    {"auto", 0}, {"path", 1}, {"virtual", 2}, {NULL, 0}};
static const struct job_option_name layouts[] = {{"current", 0}, {"legacy", 1}, {NULL, 0}};
static const struct job_option_name dtypes[] = {
    {"float32", RECORD_F32}, {"bfloat16", RECORD_BF16}, {NULL, 0}};
static const struct job_option_name filters[] = {
    {"nearest", RESAMPLE_NEAREST}, {"box", RESAMPLE_BOX},         {"bilinear", RESAMPLE_BILINEAR},
    {"bicubic", RESAMPLE_BICUBIC}, {"lanczos", RESAMPLE_LANCZOS}, {NULL, 0}};
static const struct job_option_name activations[] = {
    {"gelu", 0}, {"quick_gelu", 1}, {"gelu_tanh", 2}, {NULL, 0}};
static const struct job_option_name cleanings[] = {{"auto", TEACHER_CLEAN_AUTO},
                                                   {"open_clip", TEACHER_CLEAN_OPEN_CLIP},
                                                   {"tokenizer_json", TEACHER_CLEAN_TOKENIZER_JSON},
                                                   {"lower_ascii", TEACHER_CLEAN_LOWER_ASCII},
                                                   {"lower_unicode", TEACHER_CLEAN_LOWER_UNICODE},
                                                   {"canonical", TEACHER_CLEAN_CANONICAL},
                                                   {NULL, 0}};
static const struct job_option_name posts[] = {{"none", JOB_POST_NONE},
                                               {"trim", JOB_POST_TRIM},
                                               {"first_sentence", JOB_POST_FIRST_SENTENCE},
                                               {NULL, 0}};
static const struct job_option_name strategies[] = {{"greedy", CAPTION_GREEDY},
                                                    {"top_p", CAPTION_SAMPLE},
                                                    {"beam", CAPTION_BEAM},
                                                    {"beam_open_clip", CAPTION_BEAM_OPEN_CLIP},
                                                    {"beam_big_vision", CAPTION_BEAM_BIG_VISION},
                                                    {NULL, 0}};

static const struct job_option_name model_dtypes[] = {{"float32", JOB_DTYPE_FLOAT32},
                                                      {"bf16", JOB_DTYPE_BF16},
                                                      {"int8", JOB_DTYPE_INT8},
                                                      {"auto", JOB_DTYPE_AUTO},
                                                      {NULL, 0}};
static const struct job_option_name kv_types[] = {
    {"float32", KV_FLOAT32}, {"bfloat16", KV_BFLOAT16}, {"int8", KV_INT8}, {NULL, 0}};
static const struct job_option_name captioner_protocols[] = {{"openai", 0}, {NULL, 0}};
static const struct job_option_name teacher_protocols[] = {{"openai", 0}, {"oip", 1}, {NULL, 0}};
static const struct job_option_name image_formats[] = {{"jpeg", 0}, {"png", 1}, {NULL, 0}};
static const struct job_option_name image_forms[] = {
    {"data_url", 0}, {"object", 1}, {"messages", 2}, {NULL, 0}};

#define JOB(field)       FIELD(struct job, field)
#define CAPTIONER(field) FIELD(struct job_captioner, field)
#define TEACHER(field)   FIELD(struct job_teacher, field)

#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
#define TIB ((int64_t)1 << 40)

/* clang-format off: a table reads best with one entry a row and its sentence below */
static const struct job_option top_options[] = {
    TEXT("name", JOB(name), "", false,
         "Names the job in the catalog; default: the job file's name without its suffix."),
    INT("seed", JOB(seed), "0", 0, INT64_MAX, true,
        "Seeds every random draw, together with the sample's uid."),
};

static const struct job_option input_options[] = {
    TEXT("url", JOB(input.url), NULL, true,
         "Where the images are: a folder, a dataset's folder or file, a pattern such as "
         "data/{00000..00099}.tar, several of these joined by \"::\", or the manifest.jsonl or "
         "info.json of an earlier job; local, s3://bucket/... or https://host/... (named objects "
         "alone). kafka:TOPIC,TOPIC reads topics of Kafka, where ^... is a pattern of names."),
    CHOICE("format", JOB(input.format), "auto", input_formats, true,
           "How they are stored; auto looks at suffixes and first bytes."),
    INT("shard_samples", JOB(input.shard_samples), "1000", 1, 1000000, true,
        "Samples per output shard when the input has no shards of its own (folders, plain JSONL, "
        "Kafka)."),
    BOOL("require_caption", JOB(input.require_caption), "true", true,
         "Quarantine samples without a real caption, since trainers skip them; false: take them."),
    BYTES("max_sample", JOB(workers.max_sample_bytes), "256MiB", KIB, 16 * GIB, true,
          "A sample of more bytes, all members together, is quarantined."),
    TEXT("profile", JOB(input.profile), "", false,
         "S3: the profile of ~/.aws with key, region and endpoint; default: as AWS_PROFILE says."),
    BOOL("anonymous", JOB(input.anonymous), "false", false,
         "S3: send requests without a signature, as public buckets allow."),
};

static const struct job_option output_options[] = {
    TEXT("url", JOB(output.url), NULL, false,
         "Where the reinforced dataset is written to: a folder, or s3://bucket/prefix."),
    CHOICE("format", JOB(output.format), "webdataset", output_formats, true,
           "How it is stored; trainers read webdataset."),
    CHOICE("layout", JOB(output.layout), "current", layouts, true,
           "Embedding arrays: current has one per caption column; legacy (MobileCLIP v1) appends "
           "the synthetic rows to text_emb and allows one column, syn_text."),
    ENUM("embedding_dtype", JOB(output.embedding_dtype), "float32", dtypes, true,
         "Element type of stored embeddings: float32 in npz members, bfloat16 in pth.gz members."),
    TEXT("profile", JOB(output.profile), "", false,
         "S3: the profile of ~/.aws with key, region and endpoint; default: as AWS_PROFILE says."),
};

static const struct job_option storage_options[] = {
    TEXT("endpoint", JOB(storage.endpoint), "", false,
         "S3: where the store is, such as https://minio.example:9000; default: as "
         "AWS_ENDPOINT_URL_S3 or a profile says, else AWS's own."),
    TEXT("region", JOB(storage.region), "", false,
         "S3: the region requests are signed for; default: as AWS_REGION or a profile says, else "
         "us-east-1."),
    CHOICE("addressing", JOB(storage.addressing), "auto", addressings, false,
           "S3: whether the bucket is named in the path or in the host; auto: in the host for AWS, "
           "in the path elsewhere."),
    BYTES("part_size", JOB(storage.part_bytes), "8MiB", 5 * MIB, 512 * MIB, false,
          "S3: what is longer is sent and read in parts of so many bytes, side by side."),
    INT("connections", JOB(storage.connections), "16", 1, 1024, false,
        "Requests at once, for each of input and output; fewer while a store throttles."),
    INT("max_tries", JOB(storage.max_tries), "8", 1, 100, false,
        "Tries of one request, with growing pauses or those the server asks for."),
    DURATION("stale_upload", JOB(storage.stale_ms), "1h", 1, 86400000, false,
             "S3: an unfinished upload where nothing has come for so long is thrown away; those of "
             "a run that is the only writer at once."),
    BOOL("allow_private", JOB(storage.allow_private), "false", false,
         "Read http and https inputs from private addresses too (127.0.0.1, 10.x, a cloud's "
         "metadata service); false protects the network the job runs in from URLs in data."),
};

/* None is part of the digest: a stream goes on for years, and what it is read by changes. */
static const struct job_option kafka_options[] = {
    TEXT("brokers", JOB(kafka.brokers), "", false,
         "Where to begin to look for the cluster: HOST:PORT, several joined by \",\"."),
    TEXT("group", JOB(kafka.group), "", false,
         "Consumer group: its members share the partitions; default: the job's name."),
    CHOICE("schema", JOB(kafka.schema), "auto", stream_schemas, false,
           "How records are written; auto tells JSON from protobuf by the first byte."),
    CHOICE(
        "start", JOB(kafka.start), "earliest", stream_starts, false,
        "Where to begin in a partition that the catalog does not know yet; else it goes on where "
        "the catalog says."),
    BOOL("follow", JOB(kafka.follow), "true", false,
         "Wait for new records; false: the job is done when all that was there has been read."),
    TEXT("objects", JOB(kafka.objects), "", false,
         "The store where image_key of a record names an object: a folder, or s3://bucket/prefix; "
         "profile and anonymous of input hold for it."),
    TEXT("dead_letters", JOB(kafka.dead_letters), "", false,
         "Topic for records that cannot be taken, as they came, with the reason; default: they are "
         "counted and logged alone."),
    LINES("properties", JOB(kafka.properties), "", false,
          "Properties of librdkafka, NAME=VALUE a line, such as security.protocol=SASL_SSL; a "
          "secret's value is env:NAME or file:PATH."),
    BYTES("max_record", JOB(kafka.max_record_bytes), "16MiB", KIB, GIB, false,
          "A record of more bytes is refused."),
    BYTES("shard_bytes", JOB(kafka.shard_bytes), "64MiB", KIB, 4 * GIB, false,
          "A shard is cut when its records have so many bytes, or are input.shard_samples."),
    DURATION("shard_age", JOB(kafka.shard_age_ms), "30s", 1, 86400000, false,
             "A shard is cut when its oldest record has waited so long."),
    BYTES("memory", JOB(kafka.memory_bytes), "256MiB", MIB, 16 * TIB, false,
          "Records that wait, in bytes; past it partitions are paused."),
    CHOICE("duplicates", JOB(kafka.duplicates), "uid", stream_duplicates, false,
           "What makes a record a second one of its kind, which is dropped and counted: the uid, "
           "the image's content, either (both), or nothing."),
    INT("window", JOB(kafka.window), "10000", 1, 10000000, false,
        "Records of a partition among which seconds are told; over restarts, too."),
    DURATION(
        "latency_target", JOB(kafka.latency_ms), "0s", 0, 86400000, false,
        "What a record may wait: a warning comes when its shard was committed later, and `ingest "
        "status` compares when it was leased; 0s: any time."),
};

/* None is part of the digest here either. */
static const struct job_option event_options[] = {
    TEXT("topic", JOB(events.topic), "", false,
         "Kafka topic for an event per finished shard; default: nothing is told."),
    TEXT("brokers", JOB(events.brokers), "", false,
         "Where to begin to look for its cluster: HOST:PORT, several joined by \",\"; default: "
         "kafka.brokers, reached with kafka.properties."),
    LINES("properties", JOB(events.properties), "", false,
          "Properties of librdkafka, NAME=VALUE a line, as kafka.properties has them."),
    CHOICE("format", JOB(events.format), "json", event_formats, false, "How they are written."),
    BOOL("samples", JOB(events.samples), "false", false,
         "An event per sample, too: done, with its captions and scores, or quarantined."),
    BOOL("transactional", JOB(events.transactional), "false", false,
         "Publish by transactions of Kafka: readers of what is committed see no event of a "
         "publisher that was replaced."),
};

static const struct job_option catalog_options[] = {
    TEXT("url", JOB(catalog.url), "", false,
         "The database of shards, samples, captions and scores: sqlite:PATH, or "
         "postgres://USER@HOST:PORT/DATABASE (password in PGPASSWORD or ~/.pgpass); default: "
         "sqlite:<output.url>/catalog.sqlite."),
};

static const struct job_option image_options[] = {
    BYTES("max_encoded", JOB(limits.max_bytes), "64MiB", 0, 4 * GIB, true,
          "An encoded image of more bytes is quarantined; 0: no limit."),
    INT("max_pixels", JOB(limits.max_pixels), "89478485", 0, INT_MAX, true,
        "An image of more pixels is quarantined before it is decoded; 0: no limit."),
    INT("max_side", JOB(limits.max_side), "32767", 0, 65535, true,
        "An image with a longer side, in pixels, is quarantined; 0: no limit."),
    INT("max_ratio", JOB(limits.max_ratio), "0", 0, 65535, true,
        "An image whose longer side is more than so many times the shorter one is quarantined; 0: "
        "no limit."),
    INT("min_side", JOB(limits.min_side), "0", 0, 65535, true,
        "An image with a shorter side, in pixels, is quarantined; 0: no limit."),
    BOOL("apply_exif_orientation", JOB(apply_exif_orientation), "false", true,
         "Turn images upright by their EXIF tag and store them re-encoded; trainers ignore the "
         "tag, so without this the stored bytes stay as they are."),
    BOOL("fast_decode", JOB(fast_decode), "false", true,
         "Decode JPEG files at a half or a quarter of their sides where every view and captioner "
         "still has two pixels or more for each of its own: faster for photographs of 1,000 pixels "
         "and more, with pixels that differ a little from those that trainers decode. Boxes stay "
         "those of the stored image."),
};

static const struct job_option view_options[] = {
    INT("count", JOB(views.count), "2", 0, 1000, true,
        "Augmented views per image, each embedded by every teacher; 0 when there are no teachers."),
    INT("size", JOB(views.augment.size), "0", 0, 4096, true,
        "Side of a view in pixels; 0: the largest input of the teachers."),
    ENUM("interpolation", JOB(views.augment.filter), "bicubic", filters, true,
         "Filter that resizes the crop."),
    REAL("scale_min", JOB(views.augment.scale_min), "0.08", 1e-6, 1, true,
         "Smallest crop, as a share of the image's area."),
    REAL("scale_max", JOB(views.augment.scale_max), "1.0", 1e-6, 1, true,
         "Largest crop, as a share of the image's area."),
    REAL("ratio_min", JOB(views.augment.ratio_min), "0.75", 0.01, 100, true,
         "Smallest width / height of a crop."),
    REAL("ratio_max", JOB(views.augment.ratio_max), "1.3333333333333333", 0.01, 100, true,
         "Largest width / height of a crop."),
    BOOL("rand_augment", JOB(views.augment.rand_augment), "true", true,
         "Apply RandAugment after the crop."),
    REAL("rand_augment_p", JOB(views.augment.rand_augment_p), "1.0", 0, 1, true,
         "Probability of the RandAugment step as a whole."),
    INT("num_ops", JOB(views.augment.n_ops), "2", 1, AUGMENT_MAX_OPS, true,
        "RandAugment operators per view."),
    INT("magnitude", JOB(views.augment.magnitude), "9", 0, 999, true,
        "Strength of the operators, as a bin from 0 to num_magnitude_bins - 1."),
    INT("num_magnitude_bins", JOB(views.augment.n_bins), "31", 2, 1000, true,
        "Bins that the range of strengths is divided into."),
};

/* Of a served model, in both lists. */
#define REMOTE(at, protocols, kinds)                                                               \
    CHOICE("protocol", at(remote.protocol), "", protocols, true,                                   \
           "What the server of a served model speaks: " kinds "."),                                \
        TEXT("server", at(remote.server), "", false,                                               \
             "Where the model is served, such as http://gpu-1:8000/v1; model is then its name "    \
             "there. "                                                                             \
             "Not set: it runs here."),                                                            \
        TEXT("token_env", at(remote.token_env), "", false,                                         \
             "Served: the environment variable that holds the server's token."),                   \
        INT("concurrency", at(remote.concurrency), "8", 1, 1024, false,                            \
            "Served: requests at once, of all workers of the process."),                           \
        DURATION("timeout", at(remote.timeout_ms), "120s", 1, 86400000, false,                     \
                 "Served: how long an answer may take."),                                          \
        INT("max_tries", at(remote.max_tries), "6", 1, 100, false,                                 \
            "Served: tries of one request, with growing pauses or those the server asks for.")

static const struct job_option captioner_options[] = {
    TEXT("name", CAPTIONER(name), "", false,
         "Names the captioner in logs and scores; default: the last part of model."),
    TEXT("model", CAPTIONER(model), NULL, true,
         "Snapshot folder of the model, or hf://OWNER/NAME@REVISION of a hub; with `server` its "
         "name there."),
    CHOICE("activation", CAPTIONER(activation), "", activations, true,
           "Activation of the towers; default: as the snapshot's config says."),
    TEXT("column", CAPTIONER(column), "syn_text", true,
         "Caption column to write: syn_text, or syn_text and a suffix."),
    INT("count", CAPTIONER(how.n_captions), "1", 1, 1000, true, "Captions per image."),
    ENUM("strategy", CAPTIONER(how.strategy), "top_p", strategies, true,
         "How tokens are chosen: greedy, top_p (nucleus sampling), beam (as transformers), "
         "beam_open_clip (as open_clip 2.x and 3.x), beam_big_vision (as PaliGemma was "
         "evaluated: no length penalty)."),
    REAL("temperature", CAPTIONER(how.temperature), "1.0", 0.001, 100, true,
         "Divides the logits before sampling."),
    INT("top_k", CAPTIONER(how.top_k), "0", 0, 1000000, true,
        "Sample from the k most likely tokens; 0: from all."),
    REAL("top_p", CAPTIONER(how.top_p), "0.9", 1e-6, 1, true,
         "Sample from the most likely tokens that together hold this probability; 1: from all."),
    BOOL("temperature_first", CAPTIONER(how.temperature_first), "false", true,
         "Apply temperature before top_k and top_p, as transformers does; false: after them, as "
         "open_clip does."),
    INT("max_tokens", CAPTIONER(how.max_tokens), "30", 3, 4096, true,
        "Longest caption in tokens, start and end included."),
    INT("min_tokens", CAPTIONER(how.min_tokens), "5", 0, 4095, true,
        "A caption does not end before it has so many tokens, the start included."),
    REAL("repetition_penalty", CAPTIONER(how.repetition_penalty), "1.0", 0.01, 100, true,
         "Above 1 makes tokens that were already used less likely."),
    INT("num_beams", CAPTIONER(how.n_beams), "6", 1, 256, true,
        "Beams that the beam strategies follow."),
    REAL("length_penalty", CAPTIONER(how.length_penalty), "1.0", -100, 100, true,
         "Exponent of the length that a beam's score is divided by."),
    BOOL("mask_pad", CAPTIONER(how.mask_pad), "true", true,
         "Never emit the padding token, which CoCa's vocabulary shares with \"!\"; false: as the "
         "published captions were made."),
    LINES("prompt", CAPTIONER(how.prompt), "", true,
          "What the model is asked, such as PaliGemma's caption en, describe en, ocr, detect dog ; "
          "cat; one prompt a line, among which the captions are divided; default: caption en, and "
          "for served models: Describe this image in one sentence."),
    BOOL("attention_cap", CAPTIONER(attention_cap), "true", true,
         "PaliGemma 2: apply the soft cap of attention scores."),
    BOOL("final_cap", CAPTIONER(final_cap), "false", true,
         "PaliGemma 2: apply the soft cap of logits, which changes probabilities and no order."),
    BOOL("sliding_window", CAPTIONER(sliding_window), "false", true,
         "PaliGemma 2: apply the config's attention window, without which the model was trained."),
    ENUM(
        "dtype", CAPTIONER(dtype), "float32", model_dtypes, true,
        "float32 multiplies the weights as they are in the file, and takes up to 7/4 of their "
        "memory; bf16 rounds those of the blocks "
        "to bfloat16: half the memory, captions that may differ if the file has more digits; twice "
        "as fast on processors with AMX, whose sums differ in their last bits from those of others "
        "(float32 and int8 are the same everywhere); int8 "
        "quantises them when they are loaded, and every token's activations on the way: about "
        "three times as fast, a quarter of the memory, captions that may differ. auto is int8 if "
        "it keeps `fidelity`, else float32. `reinforce model fidelity` says how much int8 "
        "changes."),
    REAL("fidelity", CAPTIONER(fidelity), "0", 0, 1, true,
         "The least share of greedy captions that must be float32's word by word, of the first 32 "
         "images that can be decoded, for auto to be int8; 0: 0.9. With bf16 or int8 the share is "
         "measured and recorded and decides nothing; 0: nothing is measured. Kept in the output's "
         "_reinforce/models.json."),
    ENUM("kv_cache", CAPTIONER(kv_cache), "float32", kv_types, true,
         "PaliGemma: how keys and values of what is said are kept; bfloat16 takes half the memory "
         "of float32 and int8 a quarter, and captions may differ."),
    ENUM("post", CAPTIONER(post), "trim", posts, true,
         "What is done to a caption afterwards: none, trim (white space at both ends), "
         "first_sentence (up to the first full stop, as in the published datasets)."),
    REMOTE(CAPTIONER, captioner_protocols, "openai (chat completions with images)"),
    INT("image_side", CAPTIONER(image_side), "1024", 0, 16384, true,
        "Served: an image whose longer side has more pixels is scaled down to this before it is "
        "sent; 0: never."),
    CHOICE("image_format", CAPTIONER(image_format), "jpeg", image_formats, true,
           "Served: how the image is sent; png loses nothing."),
    INT("image_quality", CAPTIONER(image_quality), "92", 1, 100, true,
        "Served: quality of the JPEG that is sent."),
};

static const struct job_option teacher_options[] = {
    TEXT("name", TEACHER(name), "", false,
         "Names the teacher in logs and scores; default: the last part of model."),
    TEXT("model", TEACHER(model), NULL, true,
         "Snapshot folder of the model, or hf://OWNER/NAME@REVISION of a hub; with `server` its "
         "name there."),
    CHOICE("activation", TEACHER(activation), "", activations, true,
           "Activation of the towers; default: as the snapshot's config says."),
    ENUM(
        "clean", TEACHER(clean), "auto", cleanings, true,
        "How texts are cleaned before the tokenizer; auto: as the snapshot's family does. The last "
        "three are for SigLIP: lower case of A to Z only (as trained), of every letter, or that "
        "without punctuation (SigLIP 1)."),
    BOOL("special_tokens_in_text", TEACHER(special_tokens_in_text), "false", true,
         "Let text that spells a special token become that token; false is right for data you did "
         "not write."),
    ENUM(
        "dtype", TEACHER(dtype), "float32", model_dtypes, true,
        "float32 multiplies the weights as they are in the file, and takes up to 7/4 of their "
        "memory; bf16 rounds those of the blocks "
        "to bfloat16: half the memory, embeddings that differ a little; twice as fast on "
        "processors "
        "with AMX, whose sums differ in their last bits from those of others (float32 and int8 are "
        "the same everywhere); int8 quantises them when "
        "they are loaded, and every token's activations on the way: about three times as fast, a "
        "quarter of the memory, embeddings that differ a little more. auto is int8 if it keeps "
        "`fidelity`, else float32. `reinforce model fidelity` says how much int8 changes. "
        "Convolutions, as FastViT has them, are always float32."),
    REAL("fidelity", TEACHER(fidelity), "0", 0, 1, true,
         "The least mean cosine with float32's embeddings, of the first 32 images that can be "
         "decoded and of their captions, for auto to be int8; 0: 0.999. With bf16 or int8 it is "
         "measured and recorded and decides nothing; 0: nothing is measured. Kept in the output's "
         "_reinforce/models.json."),
    REMOTE(TEACHER, teacher_protocols,
           "openai (/embeddings), oip (Open Inference Protocol v2 over HTTP)"),
    TEXT("text_model", TEACHER(text_model), "", true,
         "Served: the model that takes the texts; default: model takes both."),
    INT("dim", TEACHER(dim), "0", 0, 65536, true,
        "Served: columns of an embedding, which the server must agree with; 0: as it says."),
    INT("image_size", TEACHER(image_size), "0", 0, 4096, true,
        "Served: side of the views that are sent, in pixels; 0: as an oip server's metadata says."),
    TEXT("mean", TEACHER(mean), "0.48145466, 0.4578275, 0.40821073", true,
         "Served: what is subtracted from red, green and blue in 0..1; an openai server does it "
         "itself, and the value is for the trainer's configuration."),
    TEXT("std", TEACHER(std), "0.26862954, 0.26130258, 0.27577711", true,
         "Served: what they are then divided by."),
    CHOICE("image_form", TEACHER(image_form), "data_url", image_forms, true,
           "Served, openai: how an image stands in the request, for which there is no standard: "
           "data_url (a string of `input`, as Infinity), object ({\"image\": URL} in `input`, as "
           "Jina and SGLang), messages (a chat message, as vLLM)."),
    TEXT("image_tensor", TEACHER(image_tensor), "image", true,
         "Served, oip: input for views, FP32 [n, 3, size, size]."),
    TEXT("text_tensor", TEACHER(text_tensor), "text", true,
         "Served, oip: input for texts, BYTES [n, 1] or [n]."),
    TEXT("output_tensor", TEACHER(output_tensor), "embedding", true,
         "Served, oip: output, floating point [n, dim]."),
    INT("batch", TEACHER(batch), "8", 1, 4096, false, "Served: rows of one request at most."),
};

static const struct job_option worker_options[] = {
    INT("count", JOB(workers.count), "1", 1, 256, false, "Workers in this process."),
    INT("threads", JOB(workers.threads), "0", 0, 1024, false,
        "Compute threads per worker; 0: processors divided by count."),
    INT("part_samples", JOB(workers.part_samples), "256", 1, 1000000, false,
        "Samples committed at a time: what a killed worker loses at most."),
    DURATION("lease", JOB(workers.lease_ms), "60s", 1000, 86400000, false,
             "Time a worker may hold a shard without a heartbeat."),
    INT("max_attempts", JOB(workers.max_attempts), "3", 1, 1000, false,
        "Times a shard is tried, without one more sample done, before it counts as failed."),
    INT("queue_items", JOB(workers.queue_items), "64", 1, 65536, false,
        "Samples that may wait between two stages."),
    BYTES("memory", JOB(workers.memory_bytes), "1GiB", 16 * MIB, 16 * TIB, false,
          "Cap for the samples in flight in one worker; models come on top."),
};

static const struct job_option budget_options[] = {
    REAL("failure_fraction", JOB(budget.failure_fraction), "0.25", 0, 1, false,
         "Stop when more than this share of a window's samples is quarantined; 1: never."),
    INT("failure_window", JOB(budget.failure_window), "1000", 1, 1000000000, false,
        "Samples in a window."),
};

static const struct job_option curate_options[] = {
    NODE("keep", "", 1,
         "Rules as in the file of `reinforce curate` (docs/curate-file.md), names included in what "
         "counts as result: a sample is filtered by the first that does not hold."),
};

const struct job_section job_sections[] = {
    SECTION("", top_options, "Which job this is."),
    SECTION("input", input_options, "What is read."),
    SECTION("output", output_options, "What is written."),
    SECTION("storage", storage_options,
            "How object stores and the web are reached; keys to sign with come from the "
            "environment or files alone."),
    SECTION("kafka", kafka_options,
            "Of inputs that begin with kafka: (docs/kafka.md says what is guaranteed)."),
    SECTION("events", event_options,
            "How results are told to a topic of Kafka (docs/kafka.md has the events)."),
    SECTION("catalog", catalog_options, "Where the job's state is kept."),
    SECTION("image", image_options, "Which images are taken."),
    SECTION("views", view_options,
            "How augmented views are drawn; the defaults are the published recipe."),
    {"captioners", captioner_options, ARRAY_LEN(captioner_options),
     "A list: the models that write synthetic captions, each into a column of its own.",
     sizeof(struct job_captioner), offsetof(struct job, captioners),
     offsetof(struct job, n_captioners), JOB_MAX_CAPTIONERS},
    {"teachers", teacher_options, ARRAY_LEN(teacher_options),
     "A list: the models that embed views and captions. Their order is the order of the slices in "
     "a stored row.",
     sizeof(struct job_teacher), offsetof(struct job, teachers), offsetof(struct job, n_teachers),
     JOB_MAX_TEACHERS},
    SECTION("curate", curate_options,
            "Which samples go on to the captioners (docs/jobs.md says what rules may look at)."),
    SECTION("workers", worker_options, "How the work is done; nothing here changes the output."),
    SECTION("budget", budget_options, "How much may go wrong."),
};
/* clang-format on */
const size_t job_n_sections = ARRAY_LEN(job_sections);
const struct job_schema job_file_schema = {job_sections, ARRAY_LEN(job_sections),
                                           "docs/job-file.md"};

const struct job_section *job_section_find(const struct job_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n_sections; i++)
        if (strcmp(schema->sections[i].name, name) == 0)
            return &schema->sections[i];
    return NULL;
}

const struct job_option *job_option_find(const struct job_section *section, const char *key)
{
    for (size_t i = 0; i < section->n_options; i++)
        if (strcmp(section->options[i].key, key) == 0)
            return &section->options[i];
    return NULL;
}

const struct job_section *job_section_with_key(const struct job_schema *schema, const char *key)
{
    for (size_t i = 0; i < schema->n_sections; i++)
        if (job_option_find(&schema->sections[i], key) != NULL)
            return &schema->sections[i];
    return NULL;
}

const char *job_nearest_key(const struct job_schema *schema, const struct job_section *section,
                            const char *word)
{
    struct nearest nearest;

    if (strcmp(word, "weights") == 0 && job_option_find(section, "dtype") != NULL)
        return "dtype"; /* what the key was called at first */
    nearest_begin(&nearest, word);
    for (size_t i = 0; i < section->n_options; i++)
        nearest_offer(&nearest, section->options[i].key);
    if (section->name[0] == '\0')
        for (size_t i = 0; i < schema->n_sections; i++)
            nearest_offer(&nearest, schema->sections[i].name);
    return nearest.best;
}

const char *job_nearest_name(const struct job_option_name *names, const char *word)
{
    struct nearest nearest;

    nearest_begin(&nearest, word);
    for (; names->name != NULL; names++)
        nearest_offer(&nearest, names->name);
    return nearest.best;
}
