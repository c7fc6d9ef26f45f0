/*
 * What torch.save() (1.6 and later) writes, read without torch and without executing anything.
 *
 * A zip archive of stored members under one folder, here "archive/":
 *   archive/data.pkl   a pickle of {name: _rebuild_tensor_v2(storage, offset, size, stride, ...)},
 *                      or of a dict that holds such a dict under "state_dict" or the like
 *   archive/data/0...  one storage each, raw, little endian; tensors may share one or be views
 *   archive/version, byteorder, ...
 *
 * Source: torch.serialization; the opcodes and globals that are read are lists in pickle.c and
 * torch_archive.c.
 */
#ifndef REINFORCE_NN_TORCH_ARCHIVE_H
#define REINFORCE_NN_TORCH_ARCHIVE_H

#include "reinforce/base/arena.h"
#include "reinforce/nn/safetensors.h"

/** True if bytes begin as a zip archive does. */
bool torch_archive_matches(struct bytes_view bytes);

/**
 * *tensors [*n] in `arena`, in the dict's order, names unique. Data is row-major: borrowed from
 * `bytes` where it is stored so, copied to `arena` where it is a view of another order.
 *
 * ST_CORRUPT, with the tensor's name as context: a global or opcode that is not on the list, a
 * stride that leaves its storage, a compressed or missing member, a TorchScript program, a file of
 * torch before 1.6, anything in the dict that is not a tensor; more than `max_tensors`.
 * ST_NO_MEMORY: the arena is full.
 */
NODISCARD enum status torch_archive_read(struct bytes_view bytes, size_t max_tensors,
                                         struct arena *arena, struct tensor **tensors, size_t *n,
                                         struct error *err);

#endif
