/* SPDX-License-Identifier: Apache-2.0 */
/* Implements load.h: one thread per answer under way, one connection per request, as clients that
 * do not know each other would. */
#include "cli/bench/load.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

#define TICK_MS      100
#define MAX_FAILURES 3u /* in a row: what fails so often fails again, and at once */

struct shared {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct load_progress progress;
    uint32_t n_left;  /* threads */
    uint32_t n_taken; /* requests, over all threads */
    double due_ms;    /* when the next one arrives */
    double end_ms;    /* none begins later */
    uint64_t random;
};

struct worker {
    const struct load *load;
    struct shared *shared;
    pthread_t thread;
    struct client client; /* a copy with this thread's timer */
    struct bench_samples samples;
    struct err failure;
    /* of the request under way */
    struct bench_request request;
    bool has_token, has_usage;
};

double load_now_ms(void)
{
    return (double)clock_ns() / 1e6;
}

uint64_t load_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* Whether an event brings text: a completion's, a conversation's, or its reasoning. */
static bool has_text(const json_t *event)
{
    static const char *const names[] = {"content", "reasoning_content", "reasoning"};
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    if (json_string_length(json_object_get(choice, "text")))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (json_string_length(json_object_get(json_object_get(choice, "delta"), names[i])))
            return true;
    }
    return false;
}

static uint32_t count_of(const json_t *usage, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(usage, name));
    return n < 0 ? 0 : (uint32_t)MIN_OF(n, (json_int_t)UINT32_MAX);
}

static bool on_event(void *ctx, const json_t *event)
{
    struct worker *w = ctx;
    struct bench_request *r = &w->request;
    const json_t *usage = json_object_get(event, "usage");
    if (has_text(event)) {
        double now = load_now_ms() - w->shared->progress.begun_ms, gap = now - r->last_ms;
        if (w->has_token)
            buf_append(&w->samples.itl, &gap, sizeof(gap));
        else
            r->first_ms = now;
        r->last_ms = now;
        r->n_tokens += !w->has_usage;
        w->has_token = true;
        atomic_fetch_add_explicit(&w->shared->progress.n_pieces, 1, memory_order_relaxed);
    }
    if (json_is_object(usage)) { /* the last one counts: some send it with every event */
        w->has_usage = true;
        r->n_prompt = count_of(usage, "prompt_tokens");
        r->n_tokens = count_of(usage, "completion_tokens");
        r->n_cached = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    }
    return true;
}

/* Takes the number of the next request and when it arrives; false: there is none. */
static bool next_request(struct worker *w, uint32_t *ret, double *ret_due_ms)
{
    struct shared *s = w->shared;
    const struct load *l = w->load;
    pthread_mutex_lock(&s->lock);
    if (l->request_rate > 0) { /* the time between arrivals falls off exponentially */
        s->random = load_mix(s->random);
        double u = ((double)(s->random >> 11) + 1) * 0x1p-53;
        s->due_ms += s->n_taken ? -log(u) / l->request_rate * 1e3 : 0;
    }
    *ret_due_ms = MAX_OF(s->due_ms, load_now_ms());
    bool go_on = *ret_due_ms < s->end_ms && (!l->n_prompts || s->n_taken < l->n_prompts);
    *ret = l->first + s->n_taken;
    s->n_taken += go_on;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

static void sleep_until(double ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1e3)};
    t.tv_nsec = (long)((ms - (double)t.tv_sec * 1e3) * 1e6);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void timer_set(const struct worker *w)
{
    struct itimerspec t = {.it_value.tv_sec = w->load->timeout_s};
    if (w->client.has_cancel_fd)
        timerfd_settime(w->client.cancel_fd, 0, &t, NULL);
}

/* One request, measured.  False: it failed. */
static bool run_one(struct worker *w, uint32_t n)
{
    struct err err = ERR_INIT;
    struct load_progress *p = &w->shared->progress;
    json_t *body = w->load->body(w->load->body_ctx, n);
    w->has_token = w->has_usage = false;
    w->request = (struct bench_request){0};
    timer_set(w);
    atomic_fetch_add(&p->n_begun, 1);
    atomic_fetch_add(&p->n_active, 1);
    w->request.sent_ms = load_now_ms() - p->begun_ms;
    int rc = client_stream(&w->client, w->load->path, body, on_event, w, &err);
    atomic_fetch_sub(&p->n_active, 1);
    if (rc == -E_CANCELED)
        rc = err_set(&err, E_TIMEOUT, "no answer within %u s", w->load->timeout_s);
    if (rc == 0 && !w->has_token) { /* an answer without text: it ended now */
        w->request.first_ms = w->request.last_ms = load_now_ms() - p->begun_ms;
    }
    json_decref(body);
    if (rc < 0 && !w->failure.code)
        w->failure = err;
    w->samples.n_failed += rc < 0;
    atomic_fetch_add(rc < 0 ? &p->n_failed : &p->n_done, 1);
    if (rc == 0)
        buf_append(&w->samples.requests, &w->request, sizeof(w->request));
    return rc == 0;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct shared *s = w->shared;
    uint32_t n, n_failures = 0;
    double due_ms;
    while (n_failures < MAX_FAILURES && next_request(w, &n, &due_ms)) {
        if (due_ms > load_now_ms())
            sleep_until(due_ms);
        n_failures = run_one(w, n) ? 0 : n_failures + 1;
    }
    pthread_mutex_lock(&s->lock);
    s->n_left--;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int start(struct worker *w, struct err *err)
{
    bench_samples_init(&w->samples);
    w->client = *w->load->client;
    w->client.on_tick = NULL;
    if (w->load->timeout_s) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (fd < 0)
            return err_set_sys(err, E_IO, "a timer for a request");
        w->client.has_cancel_fd = true;
        w->client.cancel_fd = fd;
    }
    int e = pthread_create(&w->thread, NULL, run, w);
    if (e == 0)
        return 0;
    if (w->load->timeout_s)
        close(w->client.cancel_fd);
    return err_set(err, E_IO, "starting a thread for one of %u requests at once: %s",
                   w->load->concurrency, strerror(e));
}

/* Until all threads have ended, with a tick now and then. */
static void wait_for_all(const struct load *l, struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->n_left) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += TICK_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000L;
        t.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&s->ended, &s->lock, &t);
        if (l->on_tick) {
            pthread_mutex_unlock(&s->lock);
            l->on_tick(l->tick_ctx, &s->progress);
            pthread_mutex_lock(&s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static void shared_init(struct shared *s, const struct load *l)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->ended, &attr);
    pthread_condattr_destroy(&attr);
    s->random = l->seed;
    s->n_left = l->concurrency;
    s->progress.begun_ms = s->due_ms = load_now_ms();
    s->end_ms = s->due_ms + (double)l->duration_s * 1e3;
}

int load_run(const struct load *l, struct bench_samples *ret, struct err *ret_failure,
             struct err *err)
{
    struct worker *workers = mem_alloc(l->concurrency * sizeof(*workers));
    struct shared shared = {.n_left = 0};
    uint32_t n_started = 0;
    int rc = 0;
    bench_samples_init(ret);
    *ret_failure = (struct err)ERR_INIT;
    shared_init(&shared, l);
    for (; n_started < l->concurrency && rc == 0; n_started += rc == 0) {
        struct worker *w = &workers[n_started];
        *w = (struct worker){.load = l, .shared = &shared, .failure = ERR_INIT};
        rc = start(w, err);
    }
    if (rc < 0) { /* those that run take no more */
        pthread_mutex_lock(&shared.lock);
        shared.n_left -= l->concurrency - n_started;
        shared.end_ms = 0;
        pthread_mutex_unlock(&shared.lock);
    }
    wait_for_all(l, &shared);
    for (uint32_t i = 0; i < n_started; i++) {
        struct worker *w = &workers[i];
        pthread_join(w->thread, NULL);
        if (l->timeout_s)
            close(w->client.cancel_fd);
        if (rc == 0)
            rc = bench_samples_add(ret, &w->samples, err);
        if (w->failure.code && !ret_failure->code)
            *ret_failure = w->failure;
        bench_samples_release(&w->samples);
    }
    ret->duration_s = (load_now_ms() - shared.progress.begun_ms) / 1e3;
    pthread_cond_destroy(&shared.ended);
    pthread_mutex_destroy(&shared.lock);
    mem_free(workers);
    return rc;
}
