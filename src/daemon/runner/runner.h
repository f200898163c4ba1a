/* SPDX-License-Identifier: Apache-2.0 */
/* The runner: which models there are, which are loaded, and the workers that run them.
 *
 * Owns one loop thread, which owns every worker process, its socket and its requests.  All
 * functions below may be called from any thread; callbacks come on the loop thread, must not block,
 * and may call runner_cancel alone.  All but runner_cancel wait for that thread: hold no lock that
 * a callback takes.  A worker is hostile: its frames are checked, its death or silence ends its
 * requests with E_GONE and nothing else. */
#ifndef DAEMON_RUNNER_RUNNER_H
#define DAEMON_RUNNER_RUNNER_H

#include "lib/ipc/gen.h"

struct runner;

struct runner_config {
    const char
        *models_dirs; /* colon-separated folders whose *.gguf are models by file name; borrowed */
    uint32_t n_threads, n_ctx, max_num_seqs, max_num_batched_tokens,
        block_size;   /* 0: engine's constants */
    uint32_t kv_type; /* enum kv_type */
    uint64_t kv_cache_bytes;
    const char *cpu_level; /* NULL or "": best */
    uint32_t load_timeout_s, hang_timeout_s;
};

int runner_new(const struct runner_config *cfg, struct runner **ret_runner,
               struct err *err) MUST_USE;
/* Ends every worker and request (E_GONE), then the loop. */
void runner_free(struct runner *r);

/* Makes a file known under a name (NULL: the path's base name without .gguf).  path is absolute.
 * The name in use goes to ret_name[LIMIT_MODEL_NAME_BYTES + 1].  E_INVALID for what is not a
 * regular file ending in .gguf; E_EXISTS when the name means another file. */
int runner_register(struct runner *r, const char *path, const char *name, char *ret_name,
                    struct err *err) MUST_USE;

/* Declares a chat template for a model (len 0: its own again); a worker that runs it with another
 * one is unloaded. */
int runner_set_template(struct runner *r, const char *model, struct str chat_template,
                        struct err *err) MUST_USE;

enum model_state { MODEL_IDLE, MODEL_LOADING, MODEL_READY, MODEL_FAILED };

struct model_info {
    char *name, *path; /* owned by the list */
    enum model_state state;
    uint64_t file_bytes;
    int64_t modified_unix;
    /* when READY: */
    int pid;
    uint32_t n_ctx, n_running, n_waiting;
    uint64_t weight_bytes, kv_bytes, scratch_bytes, n_params;
    bool has_chat_template;
    char arch[64], quant[32];
    int64_t loaded_unix;
    uint64_t n_requests;
};
struct model_list {
    struct model_info *items; /* owned */
    size_t n;
};
/* Every known model, sorted by name.  Release with model_list_release. */
int runner_list(struct runner *r, struct model_list *ret, struct err *err) MUST_USE;
void model_list_release(struct model_list *l);

/* Events of one request, in order; the last is GEN_EVENT_DONE or GEN_EVENT_FAILED.  Loop thread;
 * views are valid during the call. */
typedef void (*runner_event_fn)(void *ctx, const struct gen_event *ev);

/* Starts a generation on the named model, loading it first when it is not.  Takes *req (also on
 * failure).  0 and *ret_id: fn will be called until the last event; negative: fn is never called.
 * E_NOTFOUND names near names; E_BUSY when the model's queue is full; E_INVALID from
 * gen_request_check. */
int runner_generate(struct runner *r, const char *model, struct gen_request *req,
                    runner_event_fn fn, void *ctx, uint64_t *ret_id, struct err *err) MUST_USE;
/* The client has left: the last event (GEN_EVENT_DONE with GEN_FINISH_CANCEL, or FAILED) still
 * comes. */
void runner_cancel(struct runner *r, uint64_t id);

/* Loads without generating; fn gets STARTED-less DONE or FAILED. */
int runner_load(struct runner *r, const char *model, runner_event_fn fn, void *ctx,
                struct err *err) MUST_USE;
/* Ends the model's worker; its requests end with E_GONE.  *ret_was_loaded tells whether there was
 * one. */
int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded,
                  struct err *err) MUST_USE;

#endif
