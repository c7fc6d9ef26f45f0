#include "storage/format/side_files.h"

#include "reinforce/base/json.h"
#include "reinforce/base/parse.h"

#include <inttypes.h>

enum { LIST_MAX_BYTES = 1 << 30 };

static enum status put_string(const char *text, struct byte_buf *out, struct error *err)
{
    return json_write_string(bytes_of_string(text), out, err);
}

/* `, "name": "text"` */
static enum status put_string_field(const char *name, const char *text, struct byte_buf *out,
                                    struct error *err)
{
    enum status st = byte_buf_printf(out, err, ", \"%s\": ", name);

    return st == ST_OK ? put_string(text, out, err) : st;
}

static const char *base_name(const char *key)
{
    const char *slash = strrchr(key, '/');

    return slash != NULL ? slash + 1 : key;
}

/* The object's key without the extension: what upstream calls a shard. */
static enum status put_shard_name(const struct side_dataset *dataset,
                                  const struct side_shard *shard, struct byte_buf *out,
                                  struct error *err)
{
    size_t len = strlen(shard->object_key), ext = strlen(dataset->extension);

    if (len > ext && strcmp(shard->object_key + len - ext, dataset->extension) == 0)
        len -= ext;
    return json_write_string(bytes_view_of(shard->object_key, len), out, err);
}

static enum status add_to_manifest(struct side_lists *lists, const struct side_shard *shard,
                                   struct error *err)
{
    struct byte_buf *out = &lists->manifest;
    enum status st = byte_buf_append_string(out, "{\"shard\": ", err);

    if (st == ST_OK)
        st = put_shard_name(lists->dataset, shard, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, ", \"num_uids\": %" PRId64, shard->n_done);
    if (st == ST_OK)
        st = put_string_field("object", shard->object_key, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, ", \"bytes\": %" PRIu64, shard->bytes);
    if (st == ST_OK)
        st = put_string_field("sha256", shard->sha256, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err,
                             ", \"n_done\": %" PRId64 ", \"n_quarantined\": %" PRId64
                             ", \"n_filtered\": %" PRId64,
                             shard->n_done, shard->n_quarantined, shard->n_filtered);
    if (st == ST_OK)
        st = put_string_field("config_digest", lists->dataset->config_digest, out, err);
    return st == ST_OK ? byte_buf_printf(out, err, ", \"gap_before\": %" PRId64 "}\n",
                                         shard->number - lists->previous - 1)
                       : st;
}

enum status side_lists_begin(struct side_lists *lists, const struct side_dataset *dataset,
                             struct error *err)
{
    enum status st;

    *lists = (struct side_lists){.dataset = dataset, .previous = -1};
    byte_buf_init(&lists->manifest, LIST_MAX_BYTES);
    byte_buf_init(&lists->info, LIST_MAX_BYTES);
    byte_buf_init(&lists->sizes, LIST_MAX_BYTES);
    st = byte_buf_append_string(&lists->info, "{\"name\": ", err);
    if (st == ST_OK)
        st = put_string(dataset->name, &lists->info, err);
    if (st == ST_OK)
        st = byte_buf_append_string(&lists->info, ", \"lengths\": {", err);
    return st == ST_OK ? byte_buf_append_string(&lists->sizes, "{", err) : st;
}

/* `, "00000000.tar"` */
static enum status put_entry(const struct side_lists *lists, const char *key, struct byte_buf *out,
                             struct error *err)
{
    enum status st = lists->n_shards > 0 ? byte_buf_append_string(out, ", ", err) : ST_OK;

    return st == ST_OK ? put_string(key, out, err) : st;
}

enum status side_lists_add(struct side_lists *lists, const struct side_shard *shard,
                           struct error *err)
{
    enum status st = add_to_manifest(lists, shard, err);

    if (st == ST_OK)
        st = put_entry(lists, shard->object_key, &lists->info, err);
    if (st == ST_OK)
        st = byte_buf_printf(&lists->info, err, ": \"%" PRId64 "\"", shard->n_done);
    if (st == ST_OK) /* loaders look names up without their folders */
        st = put_entry(lists, base_name(shard->object_key), &lists->sizes, err);
    if (st == ST_OK)
        st = byte_buf_printf(&lists->sizes, err, ": %" PRId64, shard->n_done);
    lists->n_shards++;
    lists->total += shard->n_done;
    lists->previous = shard->number;
    return st;
}

enum status side_lists_end(struct side_lists *lists, struct error *err)
{
    enum status st = byte_buf_append_string(&lists->sizes, "}\n", err);

    if (st == ST_OK)
        st =
            byte_buf_printf(&lists->info, err, "}, \"totalLength\": \"%" PRId64 "\"", lists->total);
    if (st == ST_OK)
        st = put_string_field("date", lists->dataset->date, &lists->info, err);
    return st == ST_OK ? byte_buf_append_string(&lists->info, "}\n", err) : st;
}

void side_lists_release(struct side_lists *lists)
{
    byte_buf_release(&lists->manifest);
    byte_buf_release(&lists->info);
    byte_buf_release(&lists->sizes);
}

static enum status put_three(const char *before, const double values[3], struct byte_buf *out,
                             struct error *err)
{
    enum status st = byte_buf_append_string(out, before, err);

    for (int i = 0; i < 3 && st == ST_OK; i++) {
        char text[32];

        format_f64(values[i], text);
        st = byte_buf_printf(out, err, "%s%s", i > 0 ? ", " : "", text);
    }
    return st;
}

static const char *filter_name(enum resample_filter filter)
{
    switch (filter) {
    case RESAMPLE_NEAREST:
        return "nearest";
    case RESAMPLE_BILINEAR:
        return "bilinear";
    case RESAMPLE_BICUBIC:
        return "bicubic";
    case RESAMPLE_BOX:
        return "box";
    case RESAMPLE_LANCZOS:
        return "lanczos";
    }
    return "bicubic";
}

/* Constructor arguments beside the defaults are only said when they are not the defaults, so that
 * the published recipe gives the published object. */
static enum status put_augmentation(const struct side_dataset *dataset, struct byte_buf *out,
                                    struct error *err)
{
    const struct augment_config *augment = dataset->augment;
    struct augment_config usual;
    char a[32], b[32];
    enum status st;

    augment_config_default(&usual);
    st = byte_buf_printf(out, err,
                         "{\"random_resized_crop\": {\"size\": %d, \"interpolation\": \"%s\"",
                         augment->size, filter_name(augment->filter));
    if (st == ST_OK &&
        (augment->scale_min != usual.scale_min || augment->scale_max != usual.scale_max)) {
        format_f64(augment->scale_min, a);
        format_f64(augment->scale_max, b);
        st = byte_buf_printf(out, err, ", \"scale\": [%s, %s]", a, b);
    }
    if (st == ST_OK &&
        (augment->ratio_min != usual.ratio_min || augment->ratio_max != usual.ratio_max)) {
        format_f64(augment->ratio_min, a);
        format_f64(augment->ratio_max, b);
        st = byte_buf_printf(out, err, ", \"ratio\": [%s, %s]", a, b);
    }
    format_f64(augment->rand_augment_p, a);
    if (st == ST_OK && augment->rand_augment)
        st = byte_buf_printf(out, err, "}, \"rand_augment\": {\"enable\": true, \"p\": %s", a);
    else if (st == ST_OK)
        st = byte_buf_append_string(out, "}, \"rand_augment\": {\"enable\": false", err);
    if (st == ST_OK && augment->rand_augment &&
        (augment->n_ops != usual.n_ops || augment->magnitude != usual.magnitude ||
         augment->n_bins != usual.n_bins))
        st = byte_buf_printf(out, err,
                             ", \"num_ops\": %d, \"magnitude\": %d, \"num_magnitude_bins\": %d",
                             augment->n_ops, augment->magnitude, augment->n_bins);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "}, \"to_tensor\": {\"enable\": true}", err);
    if (st == ST_OK)
        st = put_three(", \"normalize\": {\"mean\": [", dataset->mean, out, err);
    if (st == ST_OK)
        st = put_three("], \"std\": [", dataset->std, out, err);
    return st == ST_OK ? byte_buf_append_string(out, "]}, \"to_rgb\": {\"enable\": true}}", err)
                       : st;
}

enum status side_files_config(const struct side_dataset *dataset, struct byte_buf *out,
                              struct error *err)
{
    enum status st = put_augmentation(dataset, out, err);

    return st == ST_OK ? byte_buf_append_string(out, "\n", err) : st;
}

/* Upstream's form: names joined by commas; "N/A" for models whose name says where the weights are.
 */
static enum status put_models(const struct side_dataset *dataset, struct byte_buf *out,
                              struct error *err)
{
    struct byte_buf names;
    enum status st = ST_OK;

    byte_buf_init(&names, 1 << 20);
    for (size_t i = 0; i < dataset->n_models && st == ST_OK; i++) {
        if (i > 0)
            st = byte_buf_append_string(&names, ",", err);
        if (st == ST_OK)
            st = byte_buf_append_string(&names, dataset->models[i], err);
    }
    if (st == ST_OK)
        st = json_write_string(byte_buf_view(&names), out, err);
    byte_buf_release(&names);
    if (st == ST_OK)
        st = byte_buf_append_string(out, ", \"pretrained\": \"", err);
    for (size_t i = 0; i < dataset->n_models && st == ST_OK; i++)
        st = byte_buf_append_string(out, i > 0 ? ",N/A" : "N/A", err);
    return st == ST_OK ? byte_buf_append_string(out, "\"", err) : st;
}

enum status side_files_trainer_config(const struct side_dataset *dataset, struct byte_buf *out,
                                      struct error *err)
{
    enum status st = byte_buf_append_string(out, "{\"model_name\": ", err);

    if (st == ST_OK)
        st = put_models(dataset, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, ", \"num_samples\": %d", dataset->n_views);
    if (st == ST_OK)
        st = byte_buf_append_string(out, ", \"reinforce\": {\"image_augmentation\": ", err);
    if (st == ST_OK)
        st = put_augmentation(dataset, out, err);
    return st == ST_OK ? byte_buf_append_string(out, "}}\n", err) : st;
}
