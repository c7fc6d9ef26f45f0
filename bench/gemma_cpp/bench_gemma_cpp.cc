/*
 * PaliGemma 2 3B at 224 pixels in gemma.cpp with random weights, measured as ours is:
 *
 *   bench_gemma_cpp write FILE            writes random weights (4 GB): its 8-bit floats where it
 * takes them, else bfloat16 bench_gemma_cpp run FILE [THREADS [BATCHES [TOKENS]]]
 *
 * `run` prints one JSON object: seconds of the tower and of the prefill of one image with 260
 * tokens, tokens a second of TOKENS (8) decoded for each of BATCHES (1,8,32) rows behind copies of
 * it; the best of three, as the first chooses kernels. Built against a checkout of gemma.cpp by the
 * CMakeLists.txt beside it.
 */
#include "gemma/configs.h"
#include "gemma/gemma.h"
#include "gemma/gemma_args.h"
#include "gemma/kv_cache.h"
#include "gemma/model_store.h"
#include "gemma/tensor_info.h"
#include "gemma/weights.h"
#include "hwy/timer.h"
#include "io/blob_store.h"
#include "ops/matmul.h"
#include "paligemma/image.h"
#include "util/mat.h"
#include "util/threading_context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

using namespace gcpp;

namespace
{

constexpr size_t kPrefix = 260, kImageTokens = 256, kSide = 224;

/* A file has one of several ways to say the same; these are left to gemma.cpp to make. */
bool IsDerived(const std::string &name)
{
    for (const char *start : {"att_ein", "qkv1_w", "qkv2_w", "gating1_w", "gating2_w"})
        if (name.rfind(start, 0) == 0)
            return true;
    return false;
}

void Fill(MatPtr &mat)
{
    size_t bytes = mat.PackedBytes();
    uint8_t *to =
        static_cast<uint8_t *>(const_cast<void *>(static_cast<const void *>(mat.Packed())));
    uint32_t seed = 7;

    if (mat.GetType() == Type::kSFP)
        mat.SetScale(0.02f); /* its values are below 1.9 */
    for (size_t i = 0; i < bytes; i++) {
        seed = 1664525u * seed + 1013904223u;
        if (mat.GetType() == Type::kSFP)
            to[i] = (seed >> 24) == 0x80 ? 0 : static_cast<uint8_t>(seed >> 24);
        else { /* floats and their upper halves within 0.06 */
            size_t size = mat.ElementBytes(), at = i % size;
            to[i] = at + 1 == size ? static_cast<uint8_t>(0x3c | (seed >> 31 << 7))
                                   : static_cast<uint8_t>(seed >> 24);
        }
    }
}

void Write(const char *path)
{
    const ModelConfig config(Model::PALIGEMMA2_3B_224, Type::kSFP, PromptWrapping::PALIGEMMA);
    ThreadingContext ctx((ThreadingArgs()));
    const TensorInfoRegistry infos(config);
    BlobWriter writer((Path(path)), ctx);
    std::vector<uint32_t> serialized;
    WeightsPtrs weights(config);

    weights.ForEachTensor(nullptr, nullptr, [&](const TensorArgs &t) {
        MatOwner owner;

        if (IsDerived(t.mat.Name()))
            return;
        if (t.mat.GetType() == Type::kUnknown) {
            const Type least = infos.Find(t.mat.Name())->min_size;
            t.mat.SetType(least == Type::kBF16 || least == Type::kF32 ? least : Type::kSFP);
        }
        owner.AllocateFor(t.mat, ctx.allocator, MatPadding::kPacked);
        Fill(t.mat);
        writer.Add(t.mat.Name(), t.mat.Packed(), t.mat.PackedBytes());
        t.mat.AppendTo(serialized);
    });
    WriteSingleFile(config, GemmaTokenizer(kMockTokenizer), serialized, writer);
}

std::vector<int> Prompt()
{
    std::vector<int> prompt(kImageTokens, 0);

    for (int id : {2, 16995, 657, 108})
        prompt.push_back(id);
    return prompt;
}

void Run(const char *path, size_t threads, const std::vector<size_t> &batches, size_t tokens)
{
    ThreadingArgs threading;
    InferenceArgs inference;
    threading.max_lps = threads;
    inference.seq_len = 512;
    inference.verbosity = 0;
    inference.decode_qbatch_size = 64;
    inference.max_generated_tokens = tokens;
    ThreadingContext ctx(threading);
    MatMulEnv env(ctx);
    const LoaderArgs loader("", path);
    const Gemma gemma(loader, inference, ctx);
    const std::vector<int> prompt = Prompt();
    std::vector<float> pixels(3 * kSide * kSide, 0.25f);
    Image image;
    ImageTokens image_tokens("image_tokens", Extents2D(kImageTokens, gemma.Config().model_dim),
                             ctx.allocator, MatPadding::kOdd);
    RuntimeConfig runtime = {};

    image_tokens.AllocateAndAttachRowPtrs(env.row_ptrs);
    image.Set(kSide, kSide, pixels.data());
    inference.CopyTo(runtime);
    runtime.verbosity = 0;
    runtime.temperature = 0;
    runtime.prefill_tbatch_size = kPrefix;
    runtime.image_tokens = &image_tokens;
    runtime.batch_stream_token = [](size_t, size_t, int, float) { return true; };
    runtime.accept_token = [](int token, float) {
        return token != 1;
    }; /* nothing ends before it should */

    double image_seconds = 1e9, prefill_seconds = 1e9;
    KVCache prefix(gemma.Config(), inference, ctx.allocator);
    for (int round = 0; round < 2; round++) { /* the first chooses kernels */
        double begin = hwy::platform::Now();
        gemma.GenerateImageTokens(runtime, inference.seq_len, image, image_tokens, env);
        image_seconds = HWY_MIN(image_seconds, hwy::platform::Now() - begin);
    }
    runtime.max_generated_tokens = 1;
    for (int round = 0; round < 2; round++) {
        TimingInfo timing = {};
        gemma.Generate(runtime, PromptTokens(prompt.data(), prompt.size()), 0, kPrefix, prefix, env,
                       timing);
        prefill_seconds = HWY_MIN(prefill_seconds, timing.prefill_duration);
    }
    printf("{\"threads\": %zu, \"tower_seconds\": %.3f, \"prefill_seconds\": %.3f, \"tokens\": {",
           threads, image_seconds, prefill_seconds);
    runtime.max_generated_tokens = tokens;
    runtime.image_tokens = nullptr;
    for (size_t i = 0; i < batches.size(); i++) {
        std::vector<KVCache> caches;
        double best = 0;

        for (size_t b = 0; b < batches[i]; b++)
            caches.push_back(prefix.Copy());
        for (int round = 0; round < 3; round++) { /* the first chooses kernels */
            const PromptTokens last(prompt.data() + prompt.size() - 1,
                                    1); /* its keys are not made in the prefill */
            TimingInfo timing = {};
            AllQueries queries;

            queries.Reserve(batches[i]);
            for (KVCache &cache : caches)
                queries.Append(PerQuery{.prompt = last,
                                        .mutable_pos = kPrefix - 1,
                                        .initial_pos = kPrefix - 1,
                                        .prefix_end = 0,
                                        .kv_cache = cache});
            gemma.GenerateBatch(runtime, queries, env, timing);
            best = HWY_MAX(best,
                           static_cast<double>(timing.tokens_generated) / timing.generate_duration);
        }
        printf("%s\"%zu\": %.3f", i > 0 ? ", " : "", batches[i], best);
        fflush(stdout);
    }
    printf("}}\n");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        Write(argv[2]);
        return 0;
    }
    if (argc >= 3 && argc <= 6 && strcmp(argv[1], "run") == 0) {
        std::vector<size_t> batches;
        for (const char *at = argc > 4 ? argv[4] : "1,8,32"; *at != '\0';) {
            char *end;
            batches.push_back(strtoul(at, &end, 10));
            at = *end == ',' ? end + 1 : end;
        }
        Run(argv[2], argc > 3 ? strtoul(argv[3], nullptr, 10) : 2, batches,
            argc > 5 ? strtoul(argv[5], nullptr, 10) : 8);
        return 0;
    }
    fprintf(stderr, "usage: bench_gemma_cpp write FILE | run FILE [THREADS [BATCHES [TOKENS]]]\n");
    return 2;
}
