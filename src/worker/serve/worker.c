/* SPDX-License-Identifier: Apache-2.0 */
/* Implements worker.h: into the sandbox first, then threads, then frames.  See serve.h for who does
 * what. */
#include "worker/serve/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/sandbox.h"
#include "worker/serve/prepare.h"
#include "worker/serve/probe.h"
#include "worker/serve/serve.h"

#define FRAMES_FD    3
#define STACK_BYTES  (8u << 20) /* of our threads: template and JSON depth are bounded to fit */
#define EXIT_USAGE   2
#define EXIT_SANDBOX 3
#define EXIT_CHANNEL 4

/* How the daemon starts us: berth worker NAME LOG_LEVEL MEMORY_BYTES, or, daemon and command line,
 * berth worker --probe MEMORY_BYTES (probe.h); the daemon, berth worker --prepare FILE_BYTES
 * MEMORY_BYTES (prepare.h). */
struct worker_args {
    bool is_probe, is_prepare;
    enum log_level level;
    uint64_t memory_bytes, file_bytes;
};

NORETURN void serve_die(const struct err *err)
{
    log_error("worker ends: %s", err->msg);
    _exit(EXIT_CHANNEL);
}

static bool number_parse(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static int args_parse(int argc, char **argv, struct worker_args *ret, struct err *err)
{
    int type = 0;
    socklen_t len = sizeof(type);
    ret->is_probe = argc == 4 && strcmp(argv[2], "--probe") == 0;
    ret->is_prepare = argc == 5 && strcmp(argv[2], "--prepare") == 0;
    if ((argc != 5 && !ret->is_probe) ||
        getsockopt(FRAMES_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
        return err_set(
            err, E_INVALID,
            "this role is started by the daemon; `berth run` and `berth serve` start that");
    ret->level = LOG_LEVEL_WARN;
    bool ok = number_parse(argv[argc - 1], &ret->memory_bytes);
    if (ret->is_prepare)
        ok = ok && number_parse(argv[3], &ret->file_bytes);
    else if (!ret->is_probe)
        ok = ok && log_level_parse(argv[3], &ret->level) == 0;
    return ok ? 0
              : err_set(err, E_INVALID, "arguments are not what a daemon of this version gives");
}

static int serve_init(struct serve *s, struct err *err)
{
    *s = (struct serve){.phase = SERVE_FRESH, .attach_fd = -1};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->for_intake, NULL);
    pthread_cond_init(&s->for_scheduler, NULL);
    job_queue_init(&s->to_intake);
    job_queue_init(&s->to_scheduler);
    arena_init(&s->load.arena, LIMIT_MSG_SMALL_BYTES);
    return outbox_init(&s->out, FRAMES_FD, err);
}

static void serve_release(struct serve *s)
{
    for (uint32_t b = 0; b < SERVE_BUCKETS; b++) {
        while (s->buckets[b]) {
            struct job *r = s->buckets[b];
            s->buckets[b] = r->next_in_bucket;
            job_free(r);
        }
    }
    model_release(&s->model);
    arena_release(&s->load.arena);
    outbox_release(&s->out);
}

static int thread_start(pthread_t *t, void *(*fn)(void *), struct serve *s, struct err *err)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(t, &attr, fn, s);
    pthread_attr_destroy(&attr);
    errno = rc;
    return rc ? err_set_sys(err, E_NOMEM, "thread") : 0;
}

/* Lets both threads run to their end.  The scheduler finishes the step it is in. */
static void threads_end(struct serve *s, pthread_t intake, pthread_t scheduler)
{
    outbox_close(&s->out);
    pthread_mutex_lock(&s->lock);
    s->is_ending = true;
    bool is_loading = s->phase == SERVE_LOADING && !s->is_over;
    pthread_cond_broadcast(&s->for_intake);
    pthread_cond_broadcast(&s->for_scheduler);
    pthread_mutex_unlock(&s->lock);
    if (is_loading)
        _exit(0); /* a load cannot be stopped half way */
    pthread_join(scheduler, NULL);
    pthread_join(intake, NULL);
}

static int serve_run(struct serve *s, struct err *err)
{
    pthread_t intake, scheduler;
    int rc = thread_start(&intake, intake_main, s, err);
    if (rc == 0)
        rc = thread_start(&scheduler, scheduler_main, s, err);
    if (rc < 0)
        serve_die(err);
    rc = reader_run(s, err);
    if (rc < 0)
        serve_die(err);
    threads_end(s, intake, scheduler);
    return rc;
}

/* Behind everybody else, and with one file that may grow so far. */
static int prepare_limits(const struct worker_args *a, struct err *err)
{
    setpriority(PRIO_PROCESS, 0, PREPARE_NICE);
    signal(SIGXFSZ, SIG_IGN); /* an error instead, with a sentence */
    return sandbox_limit_files(a->file_bytes, err);
}

int worker_main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct worker_args args;
    struct sandbox_report report;
    if (args_parse(argc, argv, &args, &err) < 0) {
        fprintf(stderr, "berth worker: %s\n", err.msg);
        return EXIT_USAGE;
    }
    log_init(args.level, false, "worker");
    signal(SIGPIPE, SIG_IGN);
    fcntl(FRAMES_FD, F_SETFD, FD_CLOEXEC);
    json_object_seed(0); /* reads /dev/urandom, once, while it can */
    if ((args.is_prepare && prepare_limits(&args, &err) < 0) ||
        sandbox_apply_self(args.is_prepare ? SANDBOX_PREPARE : SANDBOX_WORKER, args.memory_bytes,
                           &report, &err) < 0) {
        log_error("no model is read without a sandbox: %s", err.msg);
        return EXIT_SANDBOX;
    }
    bool is_whole = report.has_landlock && report.has_seccomp;
    log_write(is_whole ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "%s", report.text);
    if (args.is_probe || args.is_prepare) {
        if ((args.is_probe ? worker_probe : worker_prepare)(FRAMES_FD, &err) < 0)
            serve_die(&err);
        return 0;
    }
    struct serve *s = mem_alloc(sizeof(*s));
    if (serve_init(s, &err) < 0)
        serve_die(&err);
    serve_run(s, &err);
    serve_release(s);
    mem_free(s);
    return 0;
}
