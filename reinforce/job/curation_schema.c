#include "reinforce/job/curation_schema.h"

#include "reinforce/job/job_reference.h"
#include "reinforce/job/job_table.h"

#include <limits.h>

#define TOP(field)       FIELD(struct curation, field)
#define RULE(field)      FIELD(struct curation_rule_keys, field)
#define SELECT(field)    FIELD(struct curation, select.field)
#define DUPLICATE(field) FIELD(struct curation_duplicates_keys, field)
#define ATTRIBUTE(field) FIELD(struct curation_attribute_keys, field)
#define BALANCE(field)   FIELD(struct curation_balance_keys, field)
#define MIX(field)       FIELD(struct curation_mix_keys, field)

const struct job_option_name curation_score_names[] = {{"similarity", SCORE_SIMILARITY},
                                                       {"learnability", SCORE_LEARNABILITY},
                                                       {"log_probability", SCORE_LOG_PROBABILITY},
                                                       {"words", SCORE_WORDS},
                                                       {"characters", SCORE_CHARACTERS},
                                                       {"tokens", SCORE_TOKENS},
                                                       {"script", SCORE_SCRIPT},
                                                       {"language", SCORE_LANGUAGE},
                                                       {"width", SCORE_WIDTH},
                                                       {"height", SCORE_HEIGHT},
                                                       {"min_side", SCORE_MIN_SIDE},
                                                       {"max_side", SCORE_MAX_SIDE},
                                                       {"pixels", SCORE_PIXELS},
                                                       {"aspect_ratio", SCORE_ASPECT_RATIO},
                                                       {NULL, 0}};
const struct job_option_name curation_take_names[] = {{"mean", SCORE_TAKE_MEAN},
                                                      {"max", SCORE_TAKE_MAX},
                                                      {"min", SCORE_TAKE_MIN},
                                                      {"first", SCORE_TAKE_FIRST},
                                                      {NULL, 0}};
static const struct job_option_name alike_names[] = {{"content", CURATION_ALIKE_CONTENT},
                                                     {"perceptual", CURATION_ALIKE_PERCEPTUAL},
                                                     {"embedding", CURATION_ALIKE_EMBEDDING},
                                                     {NULL, 0}};

static const struct job_option_name criterion_names[] = {{"learnability", SELECT_LEARNABILITY},
                                                         {"easy_reference", SELECT_EASY_REFERENCE},
                                                         {"hard_learner", SELECT_HARD_LEARNER},
                                                         {NULL, 0}};

/* clang-format off: a table reads best with one entry a row and its sentence below */
static const struct job_option top_options[] = {
    INT("seed", TOP(seed), "0", 0, INT64_MAX, true,
        "Seeds what is drawn by lot (select, balance, mix), together with the sample's uid."),
    INT("threads", TOP(threads), "0", 0, 1024, false,
        "Threads that compare embeddings; 0: one for each processor."),
};

static const struct job_option dataset_options[] = {
    TEXT("url", TOP(dataset.url), NULL, true,
         "What `reinforce run` has written: a folder, or s3://bucket/prefix."),
    TEXT("endpoint", TOP(dataset.endpoint), "", false,
         "S3: where the store is; default: as AWS_ENDPOINT_URL_S3 or a profile says, else AWS's "
         "own."),
    TEXT("region", TOP(dataset.region), "", false,
         "S3: the region requests are signed for; default: as AWS_REGION or a profile says."),
    TEXT("profile", TOP(dataset.profile), "", false,
         "S3: the profile of ~/.aws; default: as AWS_PROFILE says."),
};

static const struct job_option output_options[] = {
    TEXT("url", TOP(output.url), NULL, false,
         "Where the view is written to: a folder, or s3://bucket/prefix of the same store. Not the "
         "dataset's own."),
};

static const struct job_option rule_options[] = {
    TEXT("name", RULE(name), "", false,
         "What reports call the rule; default: its place, such as keep[0].any[1]."),
    CHOICE("score", RULE(score), "", curation_score_names, true,
           "What is compared; the table above says what each is."),
    TEXT("caption", RULE(caption), "", true,
         "Scores of captions: which ones; text is the real caption, else a captioner's column; "
         "default: text."),
    CHOICE("take", RULE(take), "", curation_take_names, true,
           "Scores of captions: what counts where there are several; default: mean."),
    TEXT("teacher", RULE(teacher), "", true,
         "similarity: the teacher by its name in the job; default: the mean of all."),
    TEXT("script", RULE(script), "", true,
         "script: a script's Unicode name, such as Latin, Han or Cyrillic."),
    TEXT("language", RULE(language), "", true,
         "language: a code, such as en, de or zh (zh-Hant is another)."),
    TEXT("tokenizer", RULE(tokenizer), "", true,
         "tokens: folder of a model whose tokenizer counts; special tokens do not."),
    TEXT("learner", RULE(learner), "", true, "learnability: the teacher that is to learn."),
    TEXT("reference", RULE(reference), "", true, "learnability: the teacher that knows."),
    REAL("learner_scale", RULE(learner_scale), "", -1e6, 1e6, true,
         "learnability: the learner's logit is scale * cosine + bias, with the scale as it is and "
         "not its logarithm; default: the model's own."),
    REAL("learner_bias", RULE(learner_bias), "", -1e6, 1e6, true,
         "learnability: see above; default: the model's own, if it was trained with a sigmoid "
         "loss, else it must be given."),
    REAL("reference_scale", RULE(reference_scale), "", -1e6, 1e6, true,
         "learnability: the same of the reference."),
    REAL("reference_bias", RULE(reference_bias), "", -1e6, 1e6, true,
         "learnability: the same of the reference."),
    REAL("min", RULE(min), "", -1e30, 1e30, true, "The score is at least this."),
    REAL("max", RULE(max), "", -1e30, 1e30, true, "The score is at most this."),
    REAL("top", RULE(top), "", 0, 1, true,
         "The score is among this fraction of the pool that has the highest: at least the value at "
         "place int(n * top) of the descending order, ties included, as in DataComp's baselines."),
    REAL("bottom", RULE(bottom), "", 0, 1, true,
         "The score is among this fraction of the pool that has the lowest."),
    TEXT("ids", RULE(ids), "", true,
         "Instead of a score: the sample is in this list, a NumPy file of sorted u8,u8 pairs, as "
         "DataComp and curate itself write them."),
    NODE("all", "", 1, "Instead of a score: all of these rules hold."),
    NODE("any", "", 1, "Instead of a score: one of these rules holds, or more."),
    NODE("not", "", 0, "Instead of a score: this rule does not hold."),
};

static const struct job_option duplicates_options[] = {
    TEXT("name", DUPLICATE(name), "", false, "What reports call the step; default: duplicates[0]."),
    ENUM("by", DUPLICATE(by), NULL, alike_names, true,
         "What makes samples alike: content (equal image bytes), perceptual (a hash of the decoded "
         "image), embedding (a teacher's embedding of the image, the mean over its views)."),
    INT("bits", DUPLICATE(bits), "0", 0, 15, true, "perceptual: of 64 bits, how many may differ."),
    REAL("radius", DUPLICATE(radius), "", 0, 2, true,
         "embedding: largest cosine distance, 1 - cosine; must be given. Equal embeddings may be "
         "1e-6 apart by rounding."),
    TEXT("teacher", DUPLICATE(teacher), "", true,
         "embedding: the teacher by its name in the job; default: its only one."),
    NODE("best", "", 0,
         "The sample to keep: a rule's score, caption, take and so on without bounds, the highest "
         "of which is kept; default: the first in the dataset."),
};

static const struct job_option select_options[] = {
    REAL("keep", SELECT(keep), NULL, 1e-9, 1, true, "The share of each super-batch that is kept."),
    ENUM("criterion", SELECT(criterion), "learnability", criterion_names, true,
         "learnability (the learner's loss less the reference's), easy_reference (the reference's "
         "loss is low), hard_learner (the learner's is high)."),
    TEXT("learner", SELECT(learner.teacher), "", true,
         "The teacher that is to learn; not for easy_reference."),
    REAL("learner_scale", SELECT(learner.scale), "", -1e6, 1e6, true,
         "As in learnability: logit = scale * cosine + bias."),
    REAL("learner_bias", SELECT(learner.bias), "", -1e6, 1e6, true, "See above."),
    TEXT("reference", SELECT(reference.teacher), "", true,
         "The teacher that knows; not for hard_learner."),
    REAL("reference_scale", SELECT(reference.scale), "", -1e6, 1e6, true, "See above."),
    REAL("reference_bias", SELECT(reference.bias), "", -1e6, 1e6, true, "See above."),
    TEXT("caption", SELECT(caption), "text", true,
         "text, or a captioner's column, of whose embeddings the mean is taken."),
    INT("super_batch", SELECT(super_batch), "65536", 2, 1 << 20, true,
        "Samples that are weighed against each other: so many that follow each other in the "
        "dataset."),
    INT("chunks", SELECT(chunks), "16", 1, 65534, true,
        "How many draws a super-batch's selection takes; 1: each sample by itself."),
    REAL("gain", SELECT(gain), "1.0", 0, 1e6, true,
         "Draws are in proportion to e^(gain * score); 0: uniform."),
    BOOL("top_k", SELECT(top_k), "false", true, "The highest scores instead of a draw."),
};

static const struct job_option balance_options[] = {
    TEXT("name", BALANCE(name), "", false, "What reports call the step; default: balance[0]."),
    NODE("attributes", NULL, 1, "Whose shares are set; see below."),
    NODE("concepts", "", 1,
         "A list of rules: kinds of samples in which no attribute shall be more frequent or rarer "
         "than its target."),
    REAL("representation", BALANCE(representation), NULL, 0, 1, true,
         "How far an attribute may stay from its target: |E[q (s - target)]|, where q is a "
         "sample's probability to be kept and s whether it has the attribute."),
    REAL("association", BALANCE(association), "", 0, 1, true,
         "The same within a concept: |E[q (s - target) y]|; must be given with concepts."),
    REAL("strength", BALANCE(strength), "1000000", 0, 1e12, true,
         "Bound of the multipliers: a smaller one lets constraints go that cost too many samples."),
};

static const struct job_option attribute_options[] = {
    REAL("target", ATTRIBUTE(target), NULL, 0, 1, true,
         "The share that samples with the attribute shall have."),
    NODE("which", NULL, 0, "A rule: which samples have the attribute."),
};

static const struct job_option mix_options[] = {
    TEXT("name", MIX(name), "", false, "What reports call the step; default: mix[0]."),
    REAL("share", MIX(share), NULL, 1e-9, 1 - 1e-9, true,
         "What samples that satisfy `which` shall be of all kept ones; what is too many of either "
         "kind is dropped."),
    NODE("which", NULL, 0, "A rule: the kind of sample whose share is set."),
    NODE("best", "", 0,
         "As in duplicates: what is too many is dropped from the lowest up; default: by lot."),
};
/* clang-format on */

static const struct job_section sections[] = {
    [CURATION_TOP] = SECTION("", top_options, "What holds for all of it."),
    [CURATION_DATASET] = SECTION("dataset", dataset_options, "What is read, and stays as it is."),
    [CURATION_OUTPUT] = SECTION("output", output_options, "What is written."),
    [CURATION_KEEP] = {"keep", rule_options, ARRAY_LEN(rule_options),
                       "A list of rules; a sample is kept when all of them hold.", 0, 0, 0, 0},
    [CURATION_DUPLICATES] = {"duplicates", duplicates_options, ARRAY_LEN(duplicates_options),
                             "A list of steps, one after the other, over what the rules have "
                             "kept: of samples that are alike one is kept.",
                             0, 0, 0, 0},
    [CURATION_SELECT] = SECTION("select", select_options,
                                "A step after those, which selects jointly: a sample's score "
                                "counts what was selected before it (JEST and ACID, with a frozen "
                                "learner). It reads embeddings of images and captions."),
    [CURATION_BALANCE] =
        {"balance", balance_options, ARRAY_LEN(balance_options),
         "A list of steps after those. Each gives every sample a probability to be "
         "kept, changed as little as the constraints allow, and draws. Labels come "
         "as rules, such as lists of ids.",
         0, 0, 0, 0},
    [CURATION_ATTRIBUTES] = {"balance.attributes", attribute_options, ARRAY_LEN(attribute_options),
                             "Under `attributes`, a list.", 0, 0, 0, 0},
    [CURATION_MIX] = {"mix", mix_options, ARRAY_LEN(mix_options),
                      "A list of steps, last of all, each of which sets the share of one kind of "
                      "sample.",
                      0, 0, 0, 0},
};

/* The attributes of a balance stand within it. */
const struct job_schema curation_schema = {sections, CURATION_ATTRIBUTES, "docs/curate-file.md"};

static const char introduction[] =
    "# The file of reinforce curate\n"
    "\n"
    "One YAML file says which samples of a written dataset are kept. It is checked as a whole "
    "before\n"
    "anything starts, and values are written as in [job files](job-file.md). "
    "`configs/curate.yaml`\n"
    "runs as it is; [curate.md](curate.md) tells what comes out. This page is made from the "
    "program's own\n"
    "table: `reinforce help --curate-file`.\n"
    "\n"
    "```yaml\n"
    "dataset:\n"
    "  url: build/quickstart/dataset\n"
    "output:\n"
    "  url: build/quickstart/curated\n"
    "keep:                                  # all of these hold\n"
    "  - {score: similarity, top: 0.8}      # the real caption, by the mean of the teachers\n"
    "  - any:\n"
    "      - {score: words, min: 2}\n"
    "      - {score: similarity, caption: syn_text, take: max, teacher: clip-a, min: 0.3}\n"
    "  - not: {ids: evaluation.npy}\n"
    "duplicates:                            # then, of what is left\n"
    "  - {by: perceptual, bits: 4, best: {score: pixels}}\n"
    "```\n"
    "\n"
    "| score | is |\n"
    "|---|---|\n"
    "| `similarity` | cosine of image and caption under `teacher`, the mean over the sample's "
    "views |\n"
    "| `learnability` | softplus(-x) of `learner` less that of `reference`, where x is a model's "
    "logit of image and caption: high when only the learner errs |\n"
    "| `log_probability` | mean per token of a synthetic caption, as its captioner said |\n"
    "| `words`, `characters`, `tokens` | length of the caption: between white space, in code "
    "points, by `tokenizer` |\n"
    "| `script` | share of the caption's letters that are of `script`, 0 to 1; a script is not a "
    "language |\n"
    "| `language` | share of the caption that is written in `language`, 0 to 1, as libcld2 "
    "guesses; "
    "a word or two are too short to tell, and have no such score |\n"
    "| `width`, `height`, `min_side`, `max_side`, `pixels` | size of the stored image, pixels |\n"
    "| `aspect_ratio` | longer side / shorter side |\n"
    "\n"
    "A sample without a score (no caption in that column, a caption without letters) does not "
    "satisfy a rule\n"
    "on it, and satisfies its `not`. Fractions are of all samples that have the score, whatever "
    "other rules\n"
    "say, so that the order of rules has no meaning. Scores and bounds are compared as float32.\n"
    "\n"
    "Keys marked *result* decide which samples are kept.\n";

enum status curation_write_reference(struct byte_buf *out, struct error *err)
{
    const struct job_schema all = {sections, CURATION_N_SECTIONS, curation_schema.page};

    return job_reference_write(introduction, &all, out, err);
}
