/* SPDX-License-Identifier: Apache-2.0 */
/* The start of a worker: its files opened, its process made, LOAD put on the way.  Loop thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/memory.h"

static const char *current_log_level(void)
{
    return log_enabled(LOG_LEVEL_DEBUG)  ? "debug"
           : log_enabled(LOG_LEVEL_INFO) ? "info"
           : log_enabled(LOG_LEVEL_WARN) ? "warn"
                                         : "error";
}

static int worker_put_load(struct worker *w, struct err *err)
{
    const struct runner_config *cfg = &w->runner->cfg;
    const struct model_files *draft = &w->draft.files;
    struct str names[LIMIT_MSG_FDS];
    for (uint32_t i = 0; i < w->files.n; i++)
        names[i] = str_from(w->files.paths[i]);
    for (uint32_t i = 0; i < draft->n; i++)
        names[w->files.n + i] = str_from(draft->paths[i]);
    const struct model_settings *set = &w->model->settings;
    const struct model_facts *facts = &w->model->file.facts;
    const struct buf *own_template = &w->opened.chat_template; /* the artifact's */
    bool has_template = set->chat_template_len > 0;
    uint32_t n_ctx = set->has_context_size ? set->context_size : cfg->n_ctx;
    const struct msg_load m = {
        .model_name = str_from(w->model->file.name),
        .n_fds = w->files.n + draft->n,
        .file_names = names,
        .n_draft_fds = draft->n,
        .may_lack_draft = w->draft.is_common,
        .n_threads = set->has_threads ? set->threads : cfg->n_threads,
        .n_ctx = n_ctx ? n_ctx : facts->declared_context,
        .max_num_seqs = set->has_max_num_seqs ? set->max_num_seqs : cfg->max_num_seqs,
        .max_num_batched_tokens = set->has_max_num_batched_tokens ? set->max_num_batched_tokens
                                                                  : cfg->max_num_batched_tokens,
        .block_size = cfg->block_size,
        .no_prefix_cache = cfg->no_prefix_cache,
        .has_prepared = {w->prepared.of[WEIGHTS_OF_MODEL].is_given,
                         w->prepared.of[WEIGHTS_OF_DRAFT].is_given},
        .n_speculate =
            set->has_speculative_num_tokens ? set->speculative_num_tokens : cfg->n_speculate,
        .min_acceptance = set->has_speculative_min_acceptance_rate
                              ? set->speculative_min_acceptance_rate
                              : RUN_MIN_ACCEPTANCE,
        .kv_type = set->has_kv_cache_type ? set->kv_cache_type : cfg->kv_type,
        .kv_cache_bytes = set->has_kv_cache_memory ? set->kv_cache_memory : cfg->kv_cache_bytes,
        .cpu_level = str_from(w->runner->cpu_level),
        .chat_template = {has_template ? set->chat_template : own_template->data,
                          has_template ? set->chat_template_len : own_template->len},
    };
    struct buf b;
    buf_init(&b, LIMIT_TEMPLATE_BYTES + LIMIT_MSG_SMALL_BYTES);
    int rc = msg_load_encode(&b, &m, err);
    if (rc == 0)
        rc = worker_put(w, MSG_LOAD, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

/* What the system refuses for lack of something: which limit it is. */
static void say_how_to_mend(struct err *err)
{
    if (err->sys == EMFILE || err->sys == ENFILE)
        err_wrap(err, "no descriptor is left for a worker (ulimit -n, LimitNOFILE=)");
    else if (err->sys == EAGAIN)
        err_wrap(err, "no further process may be started (ulimit -u, TasksMax=)");
    else if (err->sys == ENOMEM)
        err_wrap(err, "there is no memory to start a worker");
}

/* Starts the process; on success the descriptors are w's. */
static int worker_spawn(struct worker *w, const char *name, int worker_end_fd, int log_fd,
                        struct err *err)
{
    char memory[24];
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)w->runner->memory_bytes);
    const char *const argv[] = {"berth", "worker", name, current_log_level(), memory, NULL};
    const struct spawn_config cfg = {.argv = argv, .stderr_fd = log_fd, .frames_fd = worker_end_fd};
    int rc = spawn_self(&cfg, &w->child, err);
    if (rc < 0) {
        w->child.pidfd = -1;
        say_how_to_mend(err);
    }
    w->log.pid = (int)w->child.pid;
    return rc;
}

static int worker_connect(struct worker *w, struct err *err)
{
    int pair[2], log[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        err_set_sys(err, E_IO, "socketpair for a worker");
        say_how_to_mend(err);
        return -err->code;
    }
    w->fd = pair[0];
    if (pipe2(log, O_CLOEXEC) < 0) {
        err_set_sys(err, E_IO, "log pipe for a worker");
        say_how_to_mend(err);
        close(pair[1]);
        return -err->code;
    }
    fcntl(log[0], F_SETFL, O_NONBLOCK); /* our end alone: a worker waits rather than lose a line */
    int rc = log_pipe_open(&w->log, w->runner->loop, log[0], w->model->file.name, err);
    if (rc == 0)
        rc = worker_spawn(w, w->model->file.name, pair[1], log[1], err);
    close(pair[1]);
    close(log[1]);
    return rc;
}

static int worker_watch(struct worker *w, struct err *err)
{
    struct loop *l = w->runner->loop;
    int rc = loop_add_fd(l, w->fd, EPOLLIN, worker_on_socket, w, &w->watch, err);
    return rc < 0 ? rc
                  : loop_add_fd(l, w->child.pidfd, EPOLLIN, worker_on_process_end, w, &w->watch_end,
                                err);
}

/* The hashing thread's answer, on its way to the loop thread. */
struct digest_news {
    struct loop_task task;
    struct runner *r;
    uint64_t worker_id;
    bool is_drafts;
    char digest[DIGEST_BYTES];
};

static void take_digest(void *ctx)
{
    struct digest_news *n = ctx;
    for (struct worker *w = n->r->workers; w; w = w->next) {
        if (w->id != n->worker_id)
            continue;
        if (n->is_drafts)
            draft_set_digest(w, n->digest);
        else
            worker_set_digest(w, n->digest);
        break;
    }
    mem_free(n);
}

static void tell_digest(struct runner *r, uint64_t worker_id, bool is_drafts, const char *digest)
{
    struct digest_news *n = mem_alloc(sizeof(*n));
    *n = (struct digest_news){.r = r, .worker_id = worker_id, .is_drafts = is_drafts};
    n->task = (struct loop_task){.fn = take_digest, .ctx = n};
    snprintf(n->digest, sizeof(n->digest), "%s", digest);
    loop_post(r->loop, &n->task);
}

static void on_digest(void *ctx, uint64_t worker_id, const char *digest)
{
    tell_digest(ctx, worker_id, false, digest);
}

static void on_draft_digest(void *ctx, uint64_t worker_id, const char *digest)
{
    tell_digest(ctx, worker_id, true, digest);
}

/* Of a draft model only its prepared weights are looked for by it, and nothing waits for it. */
static void draft_digest_start(struct worker *w)
{
    bool is_small;
    if (w->draft.path && prepare_is_on(w, WEIGHTS_OF_DRAFT))
        digests_get(w->runner->digests, &w->draft.files, w->id, on_draft_digest, w->runner,
                    w->draft.file_digest, &is_small);
}

/* A small file is hashed while it is loaded, and its requests wait for that; a large one's digest
 * comes when it comes. */
static void digest_start(struct worker *w)
{
    bool is_small = false;
    if (w->model->file.digest[0]) { /* the manifest names every byte */
        snprintf(w->digest, sizeof(w->digest), "%s", w->model->file.digest);
        return;
    }
    int known = digests_get(w->runner->digests, &w->files, w->id, on_digest, w->runner, w->digest,
                            &is_small);
    w->is_digest_awaited = known == 0 && is_small;
    memcpy(w->model->digest, w->digest, sizeof(w->digest));
}

int model_files_copy(const struct model_files *from, struct model_files *ret, struct err *err)
{
    *ret = (struct model_files){.fds = mem_alloc(from->n * sizeof(*ret->fds)),
                                .paths = mem_alloc(from->n * sizeof(*ret->paths))};
    for (; ret->n < from->n; ret->n++) {
        int fd = fcntl(from->fds[ret->n], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            err_set_sys(err, E_IO, "a descriptor for a worker");
            model_files_close(ret);
            return -err->code;
        }
        ret->fds[ret->n] = fd;
        ret->paths[ret->n] = mem_dup(from->paths[ret->n], strlen(from->paths[ret->n]));
    }
    return 0;
}

void model_files_add(struct model_files *f, int fd)
{
    struct model_files more = {.n = f->n + 1,
                               .fds = mem_alloc((f->n + 1) * sizeof(*more.fds)),
                               .paths = mem_alloc((f->n + 1) * sizeof(*more.paths))};
    for (uint32_t i = 0; i < f->n; i++) {
        more.fds[i] = f->fds[i];
        more.paths[i] = f->paths[i];
    }
    more.fds[f->n] = fd;
    more.paths[f->n] = mem_dup("", 0);
    f->n = 0; /* what they name is more's now */
    model_files_close(f);
    *f = more;
}

static int stored_open(struct worker *w, struct err *err)
{
    struct store *s = w->runner->cfg.store;
    struct store_model m;
    int rc = store_model_read(s, w->model->file.digest, &m, err);
    if (rc == 0)
        rc = store_model_open(s, &m, &w->opened, err);
    store_model_release(&m);
    return rc < 0 ? err_wrap(err, "model %s", w->model->file.name)
                  : model_files_copy(&w->opened.files, &w->files, err);
}

int model_can_load(const struct model *m, struct err *err)
{
    const char *format = m->file.facts.format;
    if (!m->file.digest[0] || strcmp(format, "gguf") == 0)
        return 0;
    return err_set(err, E_UNSUPPORTED,
                   "model %s is a %s model, and the engines here load GGUF models only; it can be "
                   "kept, inspected, pulled and pushed",
                   m->file.name, format);
}

int worker_start(struct runner *r, struct model *m, struct err *err)
{
    struct worker *w = mem_alloc(sizeof(*w));
    *w = (struct worker){.runner = r,
                         .id = ++r->last_worker_id,
                         .started_ms = loop_now_ms(),
                         .oom_kills = memory_oom_kills(),
                         .model = m,
                         .fd = -1,
                         .child = {.pidfd = -1},
                         .log = {.fd = -1},
                         .was_loading = true};
    w->timer = (struct loop_timer){.fn = worker_on_timer, .ctx = w};
    w->pace = (struct loop_timer){.fn = worker_on_pace, .ctx = w};
    frame_reader_init(&w->in, MSG_TO_DAEMON);
    buf_init(&w->out, OUT_MAX_BYTES);
    int rc =
        m->file.digest[0] ? stored_open(w, err) : model_files_open(m->file.path, &w->files, err);
    if (rc == 0)
        rc = draft_open(w, err);
    if (rc < 0) {
        worker_free(w);
        return rc;
    }
    digest_start(w);
    draft_digest_start(w);
    int prepared_fds[WEIGHTS_N];
    prepare_open(w, prepared_fds);
    rc = worker_put_load(w, err);
    if (rc == 0)
        rc = worker_connect(w, err);
    if (rc == 0)
        rc = worker_watch(w, err);
    draft_hand_over(w);
    for (int of = 0; of < WEIGHTS_N; of++)
        if (prepared_fds[of] >= 0)
            model_files_add(&w->files, prepared_fds[of]);
    if (rc < 0)
        err_wrap(err, "model %s could not be started", m->file.name);
    if (rc < 0) {
        if (w->child.pidfd >= 0) {
            struct child_end end;
            child_kill(&w->child, SIGKILL);
            while (!child_reap(&w->child, &end))
                usleep(1000);
        }
        worker_free(w);
        return rc;
    }
    w->next = r->workers;
    r->workers = w;
    m->worker = w;
    m->is_only_loaded = true;
    loop_timer_set(r->loop, &w->timer, (uint64_t)r->cfg.load_timeout_s * 1000);
    worker_flush(w);
    log_info("worker %d (%s): started", (int)w->child.pid, m->file.name);
    return 0;
}
