/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of daemon/runner: what its files share.  Everything here belongs to the loop thread. */
#ifndef DAEMON_RUNNER_INTERNAL_H
#define DAEMON_RUNNER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/jobs/background.h"
#include "daemon/runner/digest.h"
#include "daemon/runner/models.h"
#include "daemon/runner/runner.h"
#include "daemon/runner/shelf.h"
#include "daemon/runner/state.h"
#include "daemon/runner/times.h"
#include "daemon/store/model.h"
#include "lib/base/limits.h"
#include "lib/ipc/frame.h"
#include "lib/sys/loop.h"
#include "lib/sys/model_files.h"
#include "lib/sys/spawn.h"

#define REQUEST_BUCKETS 1024u
#define UNPACKS_MAX     64u /* that wait, of one thread */
#define CHOICE_WORDS    ((LIMIT_REQUEST_CHOICES + 63) / 64)
/* Bytes on their way to a worker: no further request is put behind more than the first. */
#define OUT_HIGH_BYTES (1u << 20)
#define OUT_MAX_BYTES  (OUT_HIGH_BYTES + LIMIT_MSG_BYTES + LIMIT_MSG_SMALL_BYTES)

enum run_kind { RUN_GENERATE, RUN_LOAD, RUN_TOKENIZE, RUN_DETOKENIZE };

/* One request, from acceptance to its last event. */
struct run_request {
    uint64_t id;
    enum run_kind kind;
    struct model *model;
    struct run_request *next, *prev; /* of the model, oldest first */
    struct run_request *next_in_bucket;
    runner_event_fn fn;         /* RUN_GENERATE, RUN_LOAD */
    runner_tokens_fn tokens_fn; /* the others */
    void *ctx;
    struct buf payload; /* of its message, until it is sent; a RUN_LOAD has none and is not sent */
    bool is_sent, is_canceled;
    bool is_muted; /* its client has had its last event; the worker's is still to come */
    bool has_keep_alive;
    uint64_t keep_alive_s;
    struct loop_timer deadline; /* set when there is one */
    uint64_t deadline_ms;       /* from its acceptance; 0: none */
    /* what the worker said so far: its events are held to their order */
    bool is_started;
    uint32_t n_choices, n_open, n_stops;
    uint64_t done[CHOICE_WORDS];
    uint64_t n_text_bytes;
};

enum worker_state { WORKER_LOADING, WORKER_READY, WORKER_ENDING };

/* What a worker wrote to its standard error, line by line. */
struct log_pipe {
    int fd;
    struct loop_fd *watch;
    char line[1024];
    size_t len;
    uint32_t n_lines; /* in this period */
    uint64_t period_ms;
    const char *model_name; /* borrowed */
    int pid;
};

struct worker {
    struct worker *next;
    struct runner *runner;
    struct model *model;
    struct child child;
    int fd;
    struct loop_fd *watch, *watch_end;
    struct loop_timer timer; /* LOADING: load timeout; READY: next ping; ENDING: kill */
    struct frame_reader in;
    struct loop_timer pace; /* READY: reads again when it fires; see on_socket */
    struct buf out;
    size_t out_sent;
    struct model_files files;   /* until LOAD is on its way */
    struct store_opened opened; /* of a stored model: its blobs are held as long as the worker is */
    struct {                    /* draft.c */
        char *name;             /* owned; NULL: there is none */
        bool is_common;         /* the daemon's for all its models, not declared of this one */
        char *refusal;          /* owned; why this model is loaded without it; NULL: it is not */
        struct model_files files;          /* until LOAD is made */
        struct store_opened opened;        /* as above, of a stored one */
        char digest[OCI_DIGEST_CHARS + 1]; /* "": not the store's */
        char *path;                        /* owned; of a file beside the store; else NULL */
        char file_digest[DIGEST_BYTES];    /* of that file, "" as long as it is not known */
        bool no_prepare;                   /* declared of it when it was opened */
    } draft;
    struct { /* prepare.c */
        struct prepared_state {
            uint64_t n_bytes; /* of its prepared weights; 0: none are wanted */
            bool is_given;    /* a file went with LOAD */
            bool is_attached, has_failed;
        } of[WEIGHTS_N];
        bool is_asked; /* ATTACH has gone, ATTACHED has not come */
        enum weights_of asked;
    } prepared;
    enum worker_state state;
    bool was_loading; /* it never became READY */
    bool is_fault;    /* it ends by its own fault: counted against the model */
    uint64_t id;      /* unique in the runner's life */
    bool has_plan, is_admitted;
    bool is_waiting_room; /* others end for it; its plan counts already */
    struct msg_plan plan;
    uint64_t oom_kills;     /* of the system, when it started */
    bool is_digest_awaited; /* loaded, and held back until its small file is hashed */
    char digest[DIGEST_BYTES];
    uint64_t started_ms;
    struct err
        cause; /* why it is ending, when we know better than its exit status; code 0: unknown */
    uint64_t ping_cookie, ping_sent_ms; /* ping_sent_ms 0: none is unanswered */
    struct log_pipe log;

    struct {
        uint64_t weight_bytes, kv_bytes, scratch_bytes, draft_weight_bytes, n_params;
        uint32_t n_ctx;
        bool has_chat_template;
        char arch[64], quant[32];
        int64_t at_unix;
        char fingerprint[48];
        uint32_t blocks_used, blocks_total;
        uint64_t n_preemptions, n_drafted, n_accepted;
        char cpu_level[32];
    } loaded; /* READY */
};

/* Asks the loop thread for a sign of life; outlives who asks. */
struct probe {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool is_posted;
    uint64_t n_answers;
    struct loop_task task;
};

struct runner {
    struct runner_config cfg;
    char *models_dirs, *cpu_level; /* owned copies */
    struct loop *loop;
    pthread_t thread;
    atomic_uint_fast64_t next_id;
    uint64_t memory_bytes; /* limit for a worker's private memory */
    bool is_stopping;      /* takes nothing new */
    bool is_freeing;       /* ends with its last worker */
    struct models models;
    struct shelf *shelf;
    struct worker *workers;
    struct run_request *buckets[REQUEST_BUCKETS];
    struct runner_times times;
    uint64_t last_worker_id;
    struct digests *digests;
    struct background preparing, unpacking;
    struct preparer *preparer;
    struct unpack_job *unpack_jobs; /* unpack.c */
    struct state state;             /* under state_lock, which no callback and no loop task takes */
    pthread_mutex_t state_lock;
    json_t *declared;          /* state.models as the loop thread knows it */
    struct runner_stats stats; /* what only grows; the rest is counted when asked */
    struct probe probe;
};

/* runner.c */
/* Runs fn on the loop thread and waits for it; on that thread itself, runs it at once. */
int runner_call(struct runner *r, int (*fn)(struct runner *r, void *args, struct err *err),
                void *args, struct err *err) MUST_USE;

/* catalog.c: what runs on the loop thread about one model. */
typedef int (*with_model_fn)(struct runner *r, struct model *m, void *args, struct err *err);
/* Runs fn on the loop thread, and once more after looking into the folders if it did not know the
 * model. */
void models_moved(struct model *m); /* struct models' on_moved */
int runner_call_with_model(struct runner *r, const char *name, with_model_fn fn, void *args,
                           struct err *err) MUST_USE;

/* requests.c */
struct run_request *run_request_find(const struct runner *r, uint64_t id);
void run_request_add(struct runner *r, struct model *m, struct run_request *q);
/* Out of every list; fn is called with e, the request's last event, and q is freed. */
void run_request_end(struct runner *r, struct run_request *q, const struct gen_event *e);
void run_request_end_failed(struct runner *r, struct run_request *q, const struct err *why);
void run_request_end_canceled(struct runner *r, struct run_request *q);
void run_request_free(struct run_request *q);
/* Its deadline runs from now. */
void run_request_set_deadline(struct runner *r, struct run_request *q);
/* Holds e to the order of events, passes it on, and ends the request after its last.  E_FORMAT: a
 * violation. */
int run_request_take_event(struct runner *r, const struct gen_event *e, struct err *err) MUST_USE;
/* The answer of the TOKENIZE or DETOKENIZE with this id, which it ends.  E_FORMAT as above. */
int run_request_take_tokens(struct runner *r, uint64_t id, enum run_kind kind,
                            struct run_tokens *answer, struct err *err) MUST_USE;

/* process.c: a worker from its first frame to its end. */
int worker_put(struct worker *w, enum msg_type type, const void *payload, size_t n,
               struct err *err) MUST_USE;
void worker_flush(struct worker *w);
void worker_cancel(struct worker *w, uint64_t id);
/* There is room for its plan. */
void worker_admit(struct worker *w);
/* Its digest is known, or will not be. */
void worker_set_digest(struct worker *w, const char *digest);
void worker_tell_progress(struct worker *w, const struct msg_progress *p);
/* Sends what waits, as far as the worker keeps up. */
void worker_send_requests(struct worker *w);
/* Ends those that only wanted the model loaded. */
void worker_loads_done(struct worker *w);
/* Ends w; its requests end with cause.  Gently: it may free its memory first. */
void worker_stop(struct worker *w, const struct err *cause);
/* As worker_stop, for a worker that did nothing wrong: who asks meanwhile gets the next one. */
void worker_retire(struct worker *w, const struct err *cause);
void worker_free(struct worker *w);
void worker_on_socket(void *worker, uint32_t events);
void worker_on_process_end(void *worker, uint32_t events);
void worker_on_timer(void *worker);
void worker_on_pace(void *worker);

/* start.c */
/* E_UNSUPPORTED for a stored model that no engine here loads. */
int model_can_load(const struct model *m, struct err *err) MUST_USE;
int worker_start(struct runner *r, struct model *m, struct err *err) MUST_USE;
/* Copies of descriptors: a worker's go once LOAD is sent, those opened hold the blobs. */
int model_files_copy(const struct model_files *from, struct model_files *ret,
                     struct err *err) MUST_USE;
/* One more at its end, without a name; takes fd. */
void model_files_add(struct model_files *f, int fd);

/* unpack.c */
/* 1: m or its draft model is being unpacked, model_serve is called when that is done; 0: there is
 * nothing to unpack. */
int unpack_first(struct runner *r, struct model *m, struct err *err) MUST_USE;

/* draft.c */
/* What guesses for m when it is loaded, a name or an absolute path; NULL: no second model. */
const char *draft_of(const struct model *m);
/* Its digest, when it is a model of the store. */
bool draft_digest(const struct model *m, char ret[OCI_DIGEST_CHARS + 1]);
/* Opens it, if there is one. */
int draft_open(struct worker *w, struct err *err) MUST_USE;
/* Its files go with the model's from now on, behind them. */
void draft_hand_over(struct worker *w);
/* The worker is loaded without it, and says why: its files are not in use any more. */
void draft_refused(struct worker *w, struct str why);
/* The digest of its file is known, or (empty) will not be. */
void draft_set_digest(struct worker *w, const char *digest);
void draft_close(struct worker *w);

/* prepare.c */
struct preparer;
struct preparer *preparer_new(void) MUST_USE;
void preparer_free(struct preparer *p); /* NULL is fine */
/* Whether w computes from prepared weights where there are some. */
bool prepare_is_on(const struct worker *w, enum weights_of of);
/* Those of w's digests, if these are known and they are there: descriptors, else -1. */
void prepare_open(struct worker *w, int ret_fds[WEIGHTS_N]);
/* LOADED has come. */
void prepare_loaded(struct worker *w, const struct msg_prepared prepared[WEIGHTS_N]);
int prepare_on_attached(struct worker *w, struct str payload, struct err *err) MUST_USE;
/* Something has changed: hands over what there is, begins what is wanted. */
void prepare_next(struct runner *r);
/* m's settings have changed: where they say so, what is made of it goes, finished or not. */
void prepare_declared(struct model *m);
#define PREPARED_TEXT_BYTES 16u
void prepare_describe(const struct worker *w, enum weights_of of, char ret[PREPARED_TEXT_BYTES]);

/* queue.c: the requests of one model. */
/* Sends what waits for m, starting its worker when there is none.  A failure ends what waits. */
void model_serve(struct runner *r, struct model *m);
/* It has no worker and gets none: why is its failure, and its requests'. */
void model_cannot_start(struct runner *r, struct model *m, const struct err *why);
/* Ends every request of m with why. */
void model_fail_all(struct runner *r, struct model *m, const struct err *why);
/* Those that its worker had. */
void model_fail_sent(struct runner *r, struct model *m, const struct err *why);
/* So many requests may run at once: declared, or the default. */
uint32_t model_max_seqs(const struct model *m);

/* admission.c */
void admission_plan(struct worker *w); /* its PLAN has come */
void admission_room_changed(struct runner *r);
uint64_t admission_planned_bytes(const struct runner *r);

/* idle.c */
void idle_update(struct model *m); /* whenever its requests, settings or worker changed */
uint64_t idle_expires_in_s(const struct model *m);

/* supervise.c */
void supervise_fault(struct model *m, const struct err *why);
/* A restart is due later, and will come. */
bool supervise_must_wait(struct model *m);
void supervise_worked(struct model *m);
void supervise_reset(struct model *m);
void supervise_request_over(struct model *m, uint64_t id);
uint32_t supervise_retry_in_s(const struct model *m);
/* Whether m takes q, which becomes the trial of a broken one.  E_BROKEN. */
int supervise_admit(struct model *m, const struct run_request *q, struct err *err) MUST_USE;

/* fingerprint.c: of w, as loaded. */
void fingerprint_make(struct worker *w);

/* log_pipe.c */
int log_pipe_open(struct log_pipe *p, struct loop *l, int fd, const char *model_name,
                  struct err *err) MUST_USE;
void log_pipe_drain(struct log_pipe *p);
void log_pipe_close(struct log_pipe *p);

#endif
