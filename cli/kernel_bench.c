#include "cli/kernel_bench.h"

#include "cli/tool_io.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/philox.h"
#include "reinforce/models/fastvit.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/nn/blas.h"
#include "reinforce/nn/float_kernels.h"
#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/peaks.h"
#include "reinforce/nn/strassen.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_SHAPES = 16, MAX_BACK_ENDS = 8, N_CHECKED = 64, NAME_LEN = 48 };

/* x [rows, in] times w^T, w [out, in]. */
struct shape {
    char name[NAME_LEN];
    size_t rows, in, out;
    size_t group; /* of int8 */
    size_t T;     /* rows of a sample; 0: they do not come in samples */
};

struct shapes {
    struct shape list[MAX_SHAPES];
    size_t n;
};

static void add_shape(struct shapes *shapes, const char *tower, const char *layer, size_t rows,
                      size_t in, size_t out, size_t group, size_t T)
{
    struct shape *shape = &shapes->list[shapes->n];

    if (shapes->n == MAX_SHAPES)
        return;
    *shape = (struct shape){.rows = rows, .in = in, .out = out, .group = group, .T = T};
    (void)snprintf(shape->name, sizeof shape->name, "%s %s", tower, layer);
    shapes->n++;
}

static void add_tower(struct shapes *shapes, const char *name, size_t rows, size_t width,
                      size_t mlp_width, size_t T)
{
    if (rows == 0 || width == 0)
        return;
    add_shape(shapes, name, "qkv", rows, width, 3 * width, BLOCK_LINEAR_INT8_GROUP, T);
    add_shape(shapes, name, "out", rows, width, width, BLOCK_LINEAR_INT8_GROUP, T);
    add_shape(shapes, name, "fc", rows, width, mlp_width, BLOCK_LINEAR_INT8_GROUP, T);
    add_shape(shapes, name, "proj", rows, mlp_width, width, BLOCK_LINEAR_INT8_GROUP, T);
}

/* The MLPs, which are nearly all of it. */
static void add_fastvit(struct shapes *shapes, const struct fastvit_shape *fastvit, size_t side)
{
    char name[NAME_LEN];

    for (size_t s = 0; s < fastvit->n_stages; s++, side /= 2) {
        size_t images = side >= FASTVIT_ALONE_SIDE ? 1 : FASTVIT_IMAGES_AT_ONCE;
        size_t rows = MIN(images * side * side, (size_t)CONV_MLP_PIXELS);
        size_t T = MIN(rows, side * side);
        size_t width = fastvit->width << s, wide = width * fastvit->mlp_ratio;

        (void)snprintf(name, sizeof name, "image %zu", s + 1);
        add_shape(shapes, name, "fc", rows, width, wide, BLOCK_LINEAR_INT8_GROUP, T);
        add_shape(shapes, name, "proj", rows, wide, width, BLOCK_LINEAR_INT8_GROUP, T);
    }
}

static void add_gemma(struct shapes *shapes, size_t rows, const struct gemma_config *c)
{
    if (c->width == 0)
        return;
    add_shape(shapes, "decoder", "q", rows, c->width, c->n_heads * c->head_dim, INT8_CHUNK, 0);
    add_shape(shapes, "decoder", "k, v", rows, c->width, c->n_kv_heads * c->head_dim, INT8_CHUNK,
              0);
    add_shape(shapes, "decoder", "o", rows, c->n_heads * c->head_dim, c->width, INT8_CHUNK, 0);
    add_shape(shapes, "decoder", "gate, up", rows, c->width, c->mlp_width, INT8_CHUNK, 0);
    add_shape(shapes, "decoder", "down", rows, c->mlp_width, c->width, INT8_CHUNK, 0);
}

static enum status shapes_of(const char *dir, struct shapes *shapes, struct error *err)
{
    static const struct gemma_config gemma2_2b = {
        .width = 2304, .mlp_width = 9216, .n_heads = 8, .n_kv_heads = 4, .head_dim = 256};
    struct snapshot *s;
    enum status st;

    if (dir == NULL) {
        add_tower(shapes, "ViT-L/14", 257, 1024, 4096, 257);
        add_tower(shapes, "So400m/14", 256, 1152, 4304, 256);
        add_gemma(shapes, 260, &gemma2_2b);
        return ST_OK;
    }
    s = malloc(sizeof *s);
    if (s == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the snapshot's description");
    st = snapshot_read(dir, NULL, s, err);
    if (st == ST_OK) {
        size_t side =
            s->vision.patch_size > 0 ? (size_t)(s->vision.image_size / s->vision.patch_size) : 0;
        size_t patches = s->vision.naflex_patches > 0 ? s->vision.naflex_patches : side * side;
        size_t tokens = patches + (patches > 0 && s->vision.form != VIT_SIGLIP);

        if (s->vision.fastvit != NULL)
            add_fastvit(shapes, s->vision.fastvit, (size_t)s->vision.image_size / 4);
        else
            add_tower(shapes, "image", tokens, s->vision.shape.width, s->vision.shape.mlp_width,
                      tokens);
        add_tower(shapes, "text", s->text.context_length, s->text.shape.width,
                  s->text.shape.mlp_width, 0);
        add_tower(shapes, "decoder", s->text.context_length, s->multimodal.shape.width,
                  s->multimodal.shape.mlp_width, 0);
        add_gemma(shapes, tokens, &s->decoder);
        if (shapes->n == 0)
            st = error_set(err, ST_INVALID, "this model has no transformer to measure");
    }
    free(s);
    return st;
}

/* A shape's operands: the same random values in every form. */
struct operands {
    struct shape shape;
    float *x, *w, *y, *codes;
    struct weights *weights;
    struct packed_matrix packed, packed_bf16;
    struct strassen_matrix strassen; /* strips NULL: a model does not run it so */
    struct int8_matrix int8;
};

struct back_end {
    const char *type, *name; /* of the weights, and of the kernel */
    void (*run)(const struct back_end *self, const struct operands *o);
    const struct float_kernel *kernel; /* NULL: not one of ours in float32 */
    const struct int8_kernel *int8;    /* NULL: not in int8 */
    double tolerance;                  /* of errors */
};

static void run_strips(const struct float_kernel *kernel, const struct operands *o,
                       const struct packed_matrix *w)
{
    gemm_run_with(kernel,
                  &(struct gemm){.M = o->shape.rows,
                                 .N = w->out,
                                 .K = w->in,
                                 .a = o->x,
                                 .lda = w->in,
                                 .b = w->strips,
                                 .layout = w->dtype == TENSOR_F32 ? GEMM_STRIPS : GEMM_STRIPS_BF16,
                                 .c = o->y,
                                 .ldc = w->out});
}

static void run_float32(const struct back_end *self, const struct operands *o)
{
    run_strips(self->kernel, o, &o->packed);
}

static void run_strassen(const struct back_end *self, const struct operands *o)
{
    size_t rows = o->shape.rows, T = rows % o->shape.T == 0 ? o->shape.T : rows;

    (void)self;
    strassen_product(&o->strassen, o->y, o->x, rows / T, T, &(struct epilogue){.add = false});
}

static void run_bf16(const struct back_end *self, const struct operands *o)
{
    (void)self;
    packed_product(&o->packed_bf16, o->y, o->x, o->shape.rows, &(struct epilogue){.add = false});
}

static void run_blas(const struct back_end *self, const struct operands *o)
{
    (void)self;
    blas_linear(o->y, o->x, o->w, o->shape.rows, o->shape.out, o->shape.in);
}

/* As a model runs it: with the rows' quantisation. */
static void run_int8(const struct back_end *self, const struct operands *o)
{
    const struct int8_rows rows =
        int8_quantize(o->x, o->shape.in, o->shape.rows, o->shape.in, o->shape.group, o->codes);

    int8_product_with(self->int8, &o->int8, o->shape.out, o->y, o->shape.out, &rows,
                      &(struct epilogue){.add = false});
}

/* Of n kernels the ones that count: plain C where there is nothing else. */
static size_t n_measured(size_t n)
{
    return MAX(n - 1, (size_t)1);
}

static size_t list_back_ends(struct back_end list[MAX_BACK_ENDS])
{
    size_t n_float, n_int8, n = 0;
    const struct float_kernel *float32 = float_kernels(&n_float);
    const struct int8_kernel *int8 = int8_kernels(&n_int8);
    struct error ignored = {0};

    for (size_t i = 0; i < n_measured(n_float); i++)
        list[n++] =
            (struct back_end){"float32", float32[i].name, run_float32, &float32[i], NULL, 1e-6};
    list[n++] = (struct back_end){"float32", "strassen", run_strassen, NULL, NULL, 1e-5};
    if (blas_init(&ignored) == ST_OK)
        list[n++] = (struct back_end){"float32", "openblas", run_blas, NULL, NULL, 1e-6};
    list[n++] = (struct back_end){"bf16", gemm_bf16_kernel_name(), run_bf16, NULL, NULL, 0x1p-8};
    for (size_t i = 0; i < n_measured(n_int8); i++)
        list[n++] = (struct back_end){"int8", int8[i].name, run_int8, NULL, &int8[i], 0.02};
    return n;
}

static enum status operands_init(struct operands *o, const struct shape *shape, struct error *err)
{
    static const char *const name[] = {"w"};
    size_t n_x = shape->rows * shape->in, n_w = shape->out * shape->in;
    size_t n_codes = int8_rows_floats(shape->rows, shape->in);
    struct tensor tensor = {
        .name = name[0], .dtype = TENSOR_F32, .rank = 2, .shape = {shape->out, shape->in}};
    struct philox rng;
    enum status st;

    *o = (struct operands){.shape = *shape};
    o->x = malloc((n_x + n_w + shape->rows * shape->out + n_codes) * sizeof *o->x);
    if (o->x == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the product %s", shape->name);
    o->w = o->x + n_x;
    o->y = o->w + n_w;
    o->codes = o->y + shape->rows * shape->out;
    philox_init(&rng, 1, bytes_of_string(shape->name), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < n_x + n_w; i++)
        o->x[i] = philox_f32(&rng) - 0.5f;
    tensor.data = bytes_view_of(o->w, n_w * sizeof *o->w);
    st = weights_create(&tensor, 1, &o->weights, err);
    if (st == ST_OK)
        st = packed_matrix_load(o->weights, "", name, 1, shape->out, shape->in, NULL, TENSOR_F32,
                                &o->packed, err);
    if (st == ST_OK)
        st = packed_matrix_load(o->weights, "", name, 1, shape->out, shape->in, NULL, TENSOR_BF16,
                                &o->packed_bf16, err);
    if (st == ST_OK && shape->T > 0 && strassen_fits(shape->out, shape->in))
        st = strassen_matrix_load(
            o->weights, &(struct weights_stack){.w = o->w, .out = shape->out, .in = shape->in},
            &o->strassen, err);
    return st == ST_OK ? int8_matrix_load(o->weights, "", name, 1, shape->out, shape->in, NULL,
                                          &o->int8, err)
                       : st;
}

static void operands_release(struct operands *o)
{
    weights_destroy(&o->weights);
    free(o->x);
}

/* The largest of some elements' errors, as a share of the sum of magnitudes. */
static double largest_error(const struct operands *o)
{
    size_t K = o->shape.in, n = o->shape.rows * o->shape.out;
    double largest = 0;

    for (size_t i = 0; i < N_CHECKED; i++) {
        size_t at = (n - 1) * i / (N_CHECKED - 1);
        const float *x = o->x + at / o->shape.out * K, *w = o->w + at % o->shape.out * K;
        double sum = 0, magnitude = 0, error;

        for (size_t k = 0; k < K; k++) {
            sum += (double)x[k] * (double)w[k];
            magnitude += fabs((double)x[k] * (double)w[k]);
        }
        error = fabs((double)o->y[at] - sum) / magnitude;
        largest = error <= largest ? largest : error; /* a NaN stays */
    }
    return largest;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return values[n / 2];
}

struct timing {
    double rate[MAX_BACK_ENDS][KERNEL_BENCH_MAX_ROUNDS];
    double peak[MAX_BACK_ENDS][KERNEL_BENCH_MAX_ROUNDS]; /* of the registers, in the same round */
};

static bool is_run(const struct back_end *back_end, const struct operands *o)
{
    return back_end->run != run_strassen || o->strassen.strips != NULL;
}

static bool is_chosen(const struct back_end *back_end, const struct operands *o)
{
    if (back_end->kernel != NULL)
        return o->strassen.strips == NULL && strcmp(back_end->name, gemm_kernel_name()) == 0;
    return back_end->int8 != NULL ? back_end->int8 == int8_kernel_for(o->shape.rows)
                                  : back_end->run != run_blas;
}

/* float32: of this round. */
static double peak_of(const struct back_end *back_end, double float32)
{
    if (back_end->int8 != NULL)
        return peaks_int8(back_end->int8);
    return back_end->run == run_bf16 && strcmp(back_end->name, gemm_kernel_name()) != 0
               ? peaks_bf16(float_amx())
               : float32;
}

static json_t *back_end_json(const struct back_end *back_end, const struct operands *o, double rate,
                             double peak, double error)
{
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:b, s:b}", "type", back_end->type, "name",
                     back_end->name, "gops", rate * 1e-9, "peak", peak * 1e-9, "percent",
                     peak > 0 ? 100 * rate / peak : 0.0, "error", error, "right",
                     error <= back_end->tolerance, "chosen", is_chosen(back_end, o));
}

static enum status measure(const struct shape *shape, const struct back_end *back_ends, size_t n,
                           size_t rounds, struct timing *timing, json_t *shapes, struct error *err)
{
    double work = 2.0 * (double)shape->rows * (double)shape->in * (double)shape->out;
    double error[MAX_BACK_ENDS] = {0};
    struct operands o;
    json_t *list = json_array(), *entry;
    enum status st = operands_init(&o, shape, err);

    for (size_t b = 0; b < n && st == ST_OK; b++) { /* warms up, too */
        if (!is_run(&back_ends[b], &o))
            continue;
        back_ends[b].run(&back_ends[b], &o);
        error[b] = largest_error(&o);
    }
    for (size_t round = 0; round < rounds && st == ST_OK; round++) {
        double float32 = peaks_float32();

        for (size_t b = 0; b < n; b++) {
            int64_t begun = clock_cpu_ns();

            if (!is_run(&back_ends[b], &o))
                continue;
            back_ends[b].run(&back_ends[b], &o);
            timing->rate[b][round] = work / ((double)(clock_cpu_ns() - begun) * 1e-9);
            timing->peak[b][round] = peak_of(&back_ends[b], float32);
        }
    }
    for (size_t b = 0; b < n && st == ST_OK; b++)
        if (is_run(&back_ends[b], &o))
            st = tool_json_append(list,
                                  back_end_json(&back_ends[b], &o, median(timing->rate[b], rounds),
                                                median(timing->peak[b], rounds), error[b]),
                                  err);
    operands_release(&o);
    entry =
        json_pack("{s:s, s:I, s:I, s:I, s:o}", "name", shape->name, "rows", (json_int_t)shape->rows,
                  "in", (json_int_t)shape->in, "out", (json_int_t)shape->out, "back_ends", list);
    if (st != ST_OK) {
        json_decref(entry);
        return st;
    }
    return tool_json_append(shapes, entry, err);
}

enum status kernel_bench(const struct kernel_bench_options *options, json_t **answer,
                         struct error *err)
{
    struct timing *timing = malloc(sizeof *timing);
    struct back_end back_ends[MAX_BACK_ENDS];
    struct shapes shapes = {.n = 0};
    json_t *list = json_array();
    size_t n;
    enum status st = timing != NULL && list != NULL
                         ? gemm_init(err)
                         : error_set(err, ST_NO_MEMORY, "could not allocate the measurement");

    if (st == ST_OK)
        st = shapes_of(options->model_dir, &shapes, err);
    n = list_back_ends(back_ends);
    for (size_t i = 0; i < shapes.n && st == ST_OK; i++) {
        if (options->rows > 0)
            shapes.list[i].rows = options->rows;
        st = measure(&shapes.list[i], back_ends, n, options->rounds, timing, list, err);
    }
    free(timing);
    if (st != ST_OK) {
        json_decref(list);
        return st;
    }
    *answer = json_pack("{s:s, s:s, s:s, s:I, s:o}", "float32_kernel", gemm_kernel_name(),
                        "int8_kernel", int8_kernel_name(), "openblas", blas_core_name(), "rounds",
                        (json_int_t)options->rounds, "shapes", list);
    return *answer != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not allocate the answer");
}
