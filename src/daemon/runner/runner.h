/* SPDX-License-Identifier: Apache-2.0 */
/* The runner: which models there are, which are loaded, and the workers that
 * run them.
 *
 * Owns one loop thread, which owns every worker process, its socket and its
 * requests.  All functions below may be called from any thread; callbacks come
 * on the loop thread, must not block, and may call runner_cancel alone.  All
 * but runner_cancel wait for that thread: hold no lock that a callback takes.
 * A worker is hostile: its frames are checked, its death or silence ends its
 * requests with E_GONE and nothing else (its end by wish: E_UNLOADED). */
#ifndef DAEMON_RUNNER_RUNNER_H
#define DAEMON_RUNNER_RUNNER_H

#include "daemon/runner/settings.h"
#include "lib/ipc/gen.h"

struct runner;
struct store;

/* Of a choice's guesses, the part that must come true where nothing was said about it. */
#define RUN_MIN_ACCEPTANCE 0.1f

struct runner_config {
    const char *models_dirs; /* colon-separated folders whose *.gguf are models by
                                file name; borrowed */
    uint32_t n_threads, n_ctx, max_num_seqs, max_num_batched_tokens,
        block_size;   /* 0: engine's constants */
    uint32_t kv_type; /* enum kv_type */
    bool no_prefix_cache;
    bool no_prepare; /* weights are used as their files have them */
    uint32_t n_speculate;
    const char *draft_model; /* of models that declare none: a name or an absolute path; NULL or "":
                                none; borrowed */
    uint64_t kv_cache_bytes;
    const char *cpu_level; /* NULL or "": best */
    uint32_t load_timeout_s, hang_timeout_s;
    uint64_t keep_alive_s;        /* idle time before a model is unloaded; RUN_FOREVER:
                                     never */
    uint64_t max_memory_bytes;    /* of all plans together; 0: nine tenths of machine
                                     or cgroup */
    uint32_t max_loaded;          /* 0: as many as fit */
    uint32_t max_waiting;         /* per model; 0: LIMIT_REQUESTS_QUEUED */
    struct store *store;          /* borrowed, outlives the runner; NULL: none */
    const char *default_registry; /* of short names; NULL: docker.io */
    const char *state_dir;        /* declared settings and known digests are kept there;
                                     NULL: nowhere */
};
#define RUN_FOREVER UINT64_MAX

int runner_new(const struct runner_config *cfg, struct runner **ret_runner,
               struct err *err) MUST_USE;
/* Fails what waits and runs with E_GONE ("the daemon is stopping") and takes
 * nothing new; their callbacks have been called when it returns, so that HTTP
 * can still answer.  Then runner_free. */
void runner_stop(struct runner *r);
/* Ends every worker and request (E_GONE), then the loop. */
void runner_free(struct runner *r);

/* Makes a file known under a name (NULL: the path's base name without .gguf).
 * path is absolute. The name in use goes to ret_name[LIMIT_MODEL_NAME_BYTES +
 * 1].  E_INVALID for what is not a regular file ending in .gguf; E_EXISTS when
 * the name means another file. */
int runner_register(struct runner *r, const char *path, const char *name, char *ret_name,
                    struct err *err) MUST_USE;

/* Declares settings of a model, all of them (settings.h); written to state_dir
 * before they count. A worker that runs with other ones that it was loaded with
 * is unloaded, at once or, with when_idle, refused with E_BUSY while it has
 * requests. */
int runner_settings_set(struct runner *r, const char *model, const struct model_settings *s,
                        bool when_idle, struct err *err) MUST_USE;
/* A copy; release with model_settings_release. */
int runner_settings_get(struct runner *r, const char *model, struct model_settings *ret,
                        struct err *err) MUST_USE;

enum model_state {
    MODEL_IDLE,
    MODEL_LOADING,
    MODEL_READY,
    MODEL_FAILED, /* the last load did */
    MODEL_BROKEN  /* crashed again and again: refused until retry_in_s has passed
                   */
};

/* What the store's config says of a model. */
struct model_facts {
    char format[16]; /* "gguf", "safetensors", "dduf" */
    char arch[64], quant[32], parameters[32], size[32];
    uint32_t context_size;     /* 0: it does not say */
    uint32_t declared_context; /* chosen by who packaged it, not just what it was trained for; 0 */
};
struct model_info {
    char *name, *path;        /* owned by the list; path "" of a model of the store */
    bool is_stored;           /* digest is its manifest's, what its config says stands below */
    bool is_moved;            /* loaded from bytes that its name does not mean any more */
    struct model_facts facts; /* of a stored one */
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
    uint32_t blocks_used, blocks_total; /* of its cache, as it last said */
    uint64_t n_preemptions, n_drafted, n_accepted;
    char prepared[16]; /* its weights in its kernels' layout: "yes", "no" (not yet, or it cannot
                          be), "42 %" on their way, "off", "none" (nothing to gain) */
    uint64_t prepared_bytes; /* what they take on the disk, once there */
    char *draft_model; /* READY, owned by the list: what guesses for it; NULL: no second model */
    char *draft_refusal; /* READY, owned by the list: why the daemon's own does not; NULL: no such */
    uint64_t draft_weight_bytes; /* of weight_bytes */
    char draft_prepared[16];     /* as prepared, of the draft model */
    uint64_t draft_prepared_bytes;
    /* ever, since the daemon started: */
    uint64_t n_requests, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_loads, n_crashes;
    int64_t last_used_unix;         /* 0: never */
    uint64_t expires_in_s;          /* READY: RUN_FOREVER, or until it is unloaded if
                                       nobody asks */
    uint32_t retry_in_s;            /* BROKEN */
    char digest[80];                /* "sha256:…" of the file's bytes, "" while unknown
                                       (digest.h); of the manifest for the store's */
    char failure[ERR_MSG_MAX];      /* FAILED, BROKEN: why */
    struct model_settings settings; /* owned */
};

/* The runner as a whole. */
struct runner_stats {
    uint64_t max_memory_bytes, planned_bytes; /* of loaded models */
    uint32_t n_loaded, n_running, n_waiting;
    uint64_t n_loads, n_load_failures, n_crashes, n_hangs, n_evictions, n_idle_unloads,
        n_refused_memory;
    uint64_t n_prepared, n_prepare_failures;
    double load_seconds; /* in sum */
    bool is_stopping;
};
int runner_stats(struct runner *r, struct runner_stats *ret, struct err *err) MUST_USE;
/* Whether a request could be answered now, as /readyz wants it: not stopping,
 * and no model broken that is pinned.  False: why in ret_why. */
bool runner_is_ready(struct runner *r, char *ret_why, size_t size);
/* No model's queue is full.  False: whose in ret_why. */
bool runner_has_room(struct runner *r, char *ret_why, size_t size);
/* The loop thread answered within limit_ms: /livez. */
bool runner_is_alive(struct runner *r, uint32_t limit_ms);
struct model_list {
    struct model_info *items; /* owned */
    size_t n;
};
/* Every known model, sorted by name.  Release with model_list_release. */
int runner_list(struct runner *r, struct model_list *ret, struct err *err) MUST_USE;
void model_list_release(struct model_list *l);

/* What the catalog calls the model that name means: a file's name means the file, else the store's
 * model is meant (shelf.h).  partial: failing that, one whose name ends so. */
int runner_resolve(struct runner *r, const char *name, bool partial, char *ret_name,
                   struct err *err) MUST_USE;
/* No worker has the stored model of this digest when it returns: idle ones are ended; with force
 * also those at work, else E_EXISTS.  Waits for their ends. */
int runner_give_up(struct runner *r, const char *digest, bool force, struct err *err) MUST_USE;
bool runner_uses(struct runner *r, const char *digest); /* loaded or asked for */

/* Events of one request, in order; the last is GEN_EVENT_DONE or
 * GEN_EVENT_FAILED.  Loop thread; views are valid during the call.  STARTED and
 * DONE carry model_digest and fingerprint. */
typedef void (*runner_event_fn)(void *ctx, const struct gen_event *ev);

/* opt may be NULL.  Starts a generation on the named model, loading it first
 * when it is not.  Takes *req (also on failure).  0 and *ret_id: fn will be
 * called until the last event; negative: fn is never called. E_NOTFOUND names
 * near names; E_BUSY when the model's queue is full; E_INVALID from
 * gen_request_check. */
struct run_options {
    bool has_keep_alive;
    uint64_t keep_alive_s; /* of the model from now on, until the next one says
                              otherwise */
    uint64_t deadline_ms;  /* from now: FAILED with E_TIMEOUT then; 0: none */
};
int runner_generate(struct runner *r, const char *model, struct gen_request *req,
                    const struct run_options *opt, runner_event_fn fn, void *ctx, uint64_t *ret_id,
                    struct err *err) MUST_USE;
/* The client has left: the last event (GEN_EVENT_DONE with GEN_FINISH_CANCEL,
 * or FAILED) still comes. */
void runner_cancel(struct runner *r, uint64_t id);

/* Loads without generating; fn gets PROGRESS events, then DONE or FAILED. */
int runner_load(struct runner *r, const char *model, const struct run_options *opt,
                runner_event_fn fn, void *ctx, struct err *err) MUST_USE;

/* Token ids of a text, or the text of ids, by the model's worker, loading it
 * when it is not.  fn is called once on the loop thread: err.code 0 and the
 * answer (a view), or why not. */
struct run_tokens {
    struct err err;
    const int32_t *tokens; /* of runner_tokenize */
    uint32_t n_tokens;
    struct str text; /* of runner_detokenize: raw bytes */
    uint32_t n_ctx;
};
typedef void (*runner_tokens_fn)(void *ctx, const struct run_tokens *t);
/* special: add what the model puts around a text; parse_special: text that
 * spells a control token is that token. */
int runner_tokenize(struct runner *r, const char *model, struct str text, bool special,
                    bool parse_special, runner_tokens_fn fn, void *ctx, struct err *err) MUST_USE;
int runner_detokenize(struct runner *r, const char *model, const int32_t *tokens, uint32_t n_tokens,
                      runner_tokens_fn fn, void *ctx, struct err *err) MUST_USE;
/* Ends the model's worker; its requests end with E_UNLOADED.  *ret_was_loaded tells
 * whether there was one. */
int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded,
                  struct err *err) MUST_USE;

#endif
