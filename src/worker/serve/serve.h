/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of worker/serve: what its threads share.
 *
 *   reader (main thread)   frames in; decodes and checks requests; drains the outbox when the
 * socket has room intake thread          prompts: chat templates and tokenizing, which may take
 * long scheduler thread       loads the model, then owns the engine: steps it, turns its events
 * into frames
 *
 * A request goes reader -> intake -> scheduler, which ends it.  All that is shared is under
 * serve.lock; the model is read-only once loaded, but for the engine, which is the scheduler's
 * alone. */
#ifndef WORKER_SERVE_SERVE_H
#define WORKER_SERVE_SERVE_H

#include <pthread.h>

#include "lib/base/limits.h"
#include "worker/engine/engine.h"
#include "worker/serve/answer.h"
#include "worker/serve/outbox.h"
#include "worker/text/chat.h"

enum serve_phase { SERVE_FRESH, SERVE_LOADING, SERVE_READY };

/* LOAD as it arrived. */
struct load_job {
    struct arena arena; /* owns what msg points to */
    struct msg_load msg;
    int fds[LIMIT_MSG_FDS]; /* owned until loaded */
    uint32_t n_fds;
};

struct loaded_model {
    struct gguf *gguf;
    struct gguf *draft;  /* NULL: no second model guesses for it */
    char *draft_refusal; /* owned; why there is none although one was named; NULL otherwise */
    struct tokenizer *tok;
    struct chat_template *chat; /* NULL: has none */
    struct err chat_err; /* why its template cannot be used; code 0: it can, or there is none */
    struct engine *engine;
    int32_t *eog; /* owned */
    uint32_t n_eog, n_vocab, n_ctx;
    bool has_text;
};

enum job_kind { JOB_GENERATE, JOB_TOKENIZE, JOB_DETOKENIZE };

struct job {
    uint64_t id;
    enum job_kind kind;
    size_t n_bytes;                    /* of its frame, counted in serve.queued_bytes */
    bool is_canceled;                  /* under serve.lock */
    struct job *next, *next_in_bucket; /* queue; table of the living (under serve.lock) */

    struct gen_request gen; /* JOB_GENERATE */
    struct arena arena;     /* owns text and ids of the other kinds */
    struct str text;
    const int32_t *ids;
    uint32_t n_ids, flags;

    struct token_vec prompt; /* by intake */
    struct err err;          /* intake's failure; code 0: none */
    double arrived_ms;

    /* scheduler's */
    struct stop_set stops;
    struct answer *answers; /* [gen.params.n] */
    struct job *next_active;
    bool is_active;
    uint32_t n_answers, n_open, n_prompt, n_cached, n_generated;
    double started_ms, first_token_ms;
};

#define SERVE_BUCKETS 256u
#define SERVE_PINGS   16u

struct job_queue {
    struct job *first, **last;
};

struct serve {
    struct outbox out;
    struct loaded_model model;
    struct load_job load;

    pthread_mutex_t lock;
    pthread_cond_t for_intake, for_scheduler;
    enum serve_phase phase;
    bool is_ending; /* SHUTDOWN */
    bool is_over;   /* the load failed and was reported: the process ends */
    bool has_load, has_cancel;
    bool is_planned, is_admitted; /* PLAN has been sent; ADMIT has come */
    int attach_fd;                /* owned; -1: none has come */
    bool has_attach;              /* ATTACH has */
    enum weights_of attach_of;    /* whose it is */
    struct job *buckets[SERVE_BUCKETS];
    uint32_t n_requests;
    size_t queued_bytes;
    struct job_queue to_intake, to_scheduler;
    uint64_t pings[SERVE_PINGS];
    uint32_t n_pings;
};

/* model.c: opens the files of s->load, plans, waits for ADMIT, fills *ret, and says what was loaded
 * in *loaded (views of ret, the load and arena).  E_CANCELED: SHUTDOWN came instead. */
int model_load(struct serve *s, struct loaded_model *ret, struct arena *arena,
               struct msg_loaded *loaded, struct err *err) MUST_USE;
void model_release(struct loaded_model *m);

/* jobs.c: any thread, takes serve.lock where it must. */
struct job *job_new(uint64_t id, enum job_kind kind);
void job_free(struct job *r);
void job_queue_init(struct job_queue *q);
void job_queue_push(struct job_queue *q, struct job *r);
struct job *job_queue_pop(struct job_queue *q); /* NULL when empty */
/* All three under serve.lock. */
struct job *jobs_find(const struct serve *s, uint64_t id);
void jobs_add(struct serve *s, struct job *r);
void jobs_remove(struct serve *s, struct job *r);
/* Takes r out of the table, frees it, and tells the daemon: FAILED, or DONE with the counts so far.
 */
int job_fail(struct serve *s, struct job *r, const struct err *why, struct err *err) MUST_USE;
int job_done(struct serve *s, struct job *r, enum gen_finish finish, struct err *err) MUST_USE;
double serve_now_ms(void);

/* intake.c, scheduler.c, reader.c: the bodies of the three threads. */
void *intake_main(void *serve);
void *scheduler_main(void *serve);
/* Until SHUTDOWN (0) or a violation (negative).  Does not return when the daemon is gone: the
 * process ends. */
int reader_run(struct serve *s, struct err *err) MUST_USE;

/* Ends the process at once, saying why: the channel is unusable or memory for it is out. */
NORETURN void serve_die(const struct err *err);

#endif
