/*
 * The process that computes references: it takes places of an input's examples from a socket,
 * embeds the examples as a job would, and writes the rows to a file that the curator maps.
 *
 * Both ends of the socket are of one program on one machine; every message is one packet. The
 * worker says a struct teacher_hello; then it takes places, a uint64 each, and says a struct
 * teacher_said when it begins with one and when that is over. It may die at any time: what it has
 * written is whole or not there.
 */
#ifndef REINFORCE_COORDINATOR_CURATOR_TEACHER_WORKER_H
#define REINFORCE_COORDINATOR_CURATOR_TEACHER_WORKER_H

#include "reinforce/base/sha256.h"
#include "worker/engine.h"

enum { TEACHER_MAX_THREADS = 256 };

struct teacher_hello {
    uint64_t D;
    uint32_t n_threads;
    float scale, bias;
    char name[64];                      /* of the teacher */
    char index_key[SHA256_HEX_LEN + 1]; /* input_index_path() */
    char rows_key[SHA256_HEX_LEN + 1];  /* teacher_rows_path() */
};

enum teacher_word {
    TEACHER_BEGINS = 1,
    TEACHER_HAS_WRITTEN = 2,
    TEACHER_CANNOT = 3, /* the example cannot be embedded, and that is written */
    TEACHER_FAILED = 4, /* this time: a store or a server is away */
};

struct teacher_said {
    uint64_t place;
    uint64_t word; /* enum teacher_word */
};

/** Where rows of that key are kept. ST_INVALID: the path is too long. */
NODISCARD enum status teacher_rows_path(const char *cache, const char *key, char *path, size_t size,
                                        struct error *err);

struct teacher_worker_options {
    const struct engine *engine; /* of a teacher_job(): one teacher */
    const char *cache;           /* folder of index and rows */
    int n_threads;               /* examples at a time, 1..TEACHER_MAX_THREADS */
    int socket;                  /* SOCK_SEQPACKET */
};

/** Runs until the socket's other end is closed. ST_INVALID, ST_NOT_FOUND, ...: the input cannot be
 * read. */
NODISCARD enum status teacher_worker_run(const struct teacher_worker_options *options,
                                         struct error *err);

#endif
