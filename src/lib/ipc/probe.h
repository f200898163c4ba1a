/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is, read by a short-lived worker: the caller opens the files and never looks into
 * them.
 *
 * The worker is this program again (spawn.h), shut in before it reads the first byte, with a limit
 * of memory and of time; what it answers is bounded and checked like any hostile text.  Any thread;
 * the call blocks. */
#ifndef LIB_IPC_PROBE_H
#define LIB_IPC_PROBE_H

#include "lib/base/arena.h"
#include "lib/base/str.h"

#define PROBE_TIMEOUT_MS   60000u
#define PROBE_MEMORY_BYTES (1ull << 30)

/* name is the file's path inside the model; its ending tells what it is: the GGUF shards in order,
 * one .dduf, or of a safetensors model every .safetensors file, config.json and
 * *.safetensors.index.json (others are passed over).  Both are borrowed. */
struct probe_file {
    int fd;
    const char *name;
};

struct probe_pair {
    const char *key, *value;
};

/* Borrows from the arena. */
struct probe_facts {
    const char *format;       /* "gguf", "safetensors", "dduf" */
    const char *architecture; /* "" unknown */
    const char *quantization; /* "Q4_K_M", "BF16", "mixed"; "" unknown */
    uint64_t n_params, weight_bytes;
    uint32_t context_size; /* tokens that it was trained for; 0 unknown */
    struct probe_pair *metadata;
    uint32_t n_metadata;
};

/* Whether a file of this name is one that a probe reads. */
bool probe_wants(const char *name);

/* E_FORMAT, E_LIMIT, E_UNSUPPORTED with the worker's sentence about the file; E_TIMEOUT; E_GONE
 * when it died, with how. */
int probe_run(const struct probe_file *files, uint32_t n, struct arena *a, struct probe_facts *ret,
              struct err *err) MUST_USE;

#endif
