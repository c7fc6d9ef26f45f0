/* pth.gz: a gzip'd torch checkpoint that is a dict of name -> 2-D tensor, read without torch. */
#ifndef REINFORCE_STORAGE_TORCH_PTH_H
#define REINFORCE_STORAGE_TORCH_PTH_H

#include "storage/format/array_limits.h"

/**
 * Appends the gzip'd checkpoint: contiguous CPU tensors, each in its own dtype (RECORD_BF16:
 * torch.bfloat16, RECORD_F32: torch.float32), in the order given. Loads in torch 1.13 and later,
 * weights-only on or off. The bytes depend on the arrays alone (gzip time 0).
 *
 * arrays  [n]  names: 1 to 255 bytes of UTF-8 without '/', '\' and control characters, all
 * different
 *
 * ST_INVALID: a name or size that cannot be written. ST_NO_MEMORY. On failure `out` is as it was.
 */
NODISCARD enum status torch_pth_write(const struct record_embedding *arrays, size_t n,
                                      struct byte_buf *out, struct error *err);

/**
 * Reads what torch_pth_write() and torch.save() (1.6 and later) write, gzip'd or bare. bfloat16
 * stays RECORD_BF16; float16 (exactly), float32 and float64 (rounded to nearest) become RECORD_F32.
 * Strided views and tensors sharing a storage come out contiguous. Refused by name: anything in
 * the dict that is not such a 2-D tensor, any pickle opcode or global that is not on the list.
 *
 * *arrays, their names and data live in `arena`, in the dict's order; `bytes` is not kept.
 * ST_CORRUPT says what and at which offset. ST_NO_MEMORY: the arena is full.
 */
NODISCARD enum status torch_pth_read(struct bytes_view bytes, const struct array_limits *limits,
                                     struct arena *arena, struct record_embedding **arrays,
                                     size_t *n, struct error *err);

#endif
