/* SPDX-License-Identifier: Apache-2.0 */
/* Implements load.h: one thread per answer under way, one connection per request, as clients that
 * do not know each other would. */
#include "cli/bench/load.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/mem.h"

#define MAX_SAMPLES (64u << 20) /* bytes of times kept by one thread */

struct worker {
    const struct load *load;
    struct shared *shared;
    pthread_t thread;
    uint32_t n_requests, n_failed;
    uint64_t n_prompt_tokens, n_cached_tokens, n_tokens;
    struct buf ttft, itl; /* doubles, milliseconds */
    struct err failure;
    /* of the request under way */
    double begun_ms, last_ms;
    bool has_token;
};

struct shared {
    pthread_mutex_t lock;
    uint32_t n_begun; /* requests, over all threads */
    double end_ms;    /* none begins later */
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool on_event(void *ctx, const json_t *event)
{
    struct worker *w = ctx;
    const json_t *usage = json_object_get(event, "usage");
    const json_t *text =
        json_object_get(json_array_get(json_object_get(event, "choices"), 0), "text");
    if (json_string_length(text)) {
        double now = now_ms(), took = now - (w->has_token ? w->last_ms : w->begun_ms);
        buf_append(w->has_token ? &w->itl : &w->ttft, &took, sizeof(took));
        w->has_token = true;
        w->last_ms = now;
    }
    if (json_is_object(usage)) {
        w->n_prompt_tokens += (uint64_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
        w->n_tokens += (uint64_t)json_integer_value(json_object_get(usage, "completion_tokens"));
        w->n_cached_tokens += (uint64_t)json_integer_value(
            json_object_get(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"));
    }
    return true;
}

/* Numbers that look like chance and repeat: splitmix64's mixer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The n-th prompt: ids drawn from those of the text, so that no two begin alike. */
static json_t *request_body(const struct load *l, uint32_t n)
{
    json_t *ids = json_array();
    uint64_t state = mix(l->seed + n);
    for (uint32_t i = 0; i < l->prompt_len; i++) {
        state = mix(state);
        const json_t *id = json_array_get(l->tokens, state % json_array_size(l->tokens));
        /* a number of its own: threads must not share a count of references */
        json_array_append_new(ids, json_integer(json_integer_value(id)));
    }
    return json_pack("{s:s, s:o, s:i, s:i, s:b, s:b, s:{s:b}}", "model", l->model, "prompt", ids,
                     "max_tokens", (int)l->output_len, "temperature", 0, "ignore_eos", 1, "stream",
                     1, "stream_options", "include_usage", 1);
}

/* Takes the number of the next request; false: there is none. */
static bool next_request(struct worker *w, uint32_t *ret)
{
    struct shared *s = w->shared;
    pthread_mutex_lock(&s->lock);
    bool go_on = now_ms() < s->end_ms && (!w->load->n_prompts || s->n_begun < w->load->n_prompts);
    *ret = s->n_begun;
    s->n_begun += go_on;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    uint32_t n;
    while (next_request(w, &n)) {
        struct err err = ERR_INIT;
        json_t *body = request_body(w->load, n);
        w->has_token = false;
        w->begun_ms = now_ms();
        int rc = client_stream(w->load->client, "/v1/completions", body, on_event, w, &err);
        w->n_requests++;
        w->n_failed += rc < 0;
        if (rc < 0 && !w->failure.code)
            w->failure = err;
        json_decref(body);
        if (rc < 0)
            break; /* what fails now fails again, and at once */
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct load_quantiles quantiles(struct buf *samples)
{
    struct load_quantiles q = {0, 0, 0, 0};
    size_t n = samples->len / sizeof(double);
    double *v = (double *)(void *)samples->data, sum = 0;
    if (n == 0)
        return q;
    qsort(v, n, sizeof(*v), by_size);
    for (size_t i = 0; i < n; i++)
        sum += v[i];
    q.p50 = v[(n - 1) * 50 / 100];
    q.p90 = v[(n - 1) * 90 / 100];
    q.p99 = v[(n - 1) * 99 / 100];
    q.mean = sum / (double)n;
    return q;
}

static void add_up(struct worker *w, struct load_result *ret, struct buf *ttft, struct buf *itl)
{
    ret->n_requests += w->n_requests;
    ret->n_failed += w->n_failed;
    ret->n_prompt_tokens += w->n_prompt_tokens;
    ret->n_cached_tokens += w->n_cached_tokens;
    ret->n_tokens += w->n_tokens;
    if (w->failure.code && !ret->first_failure.code)
        ret->first_failure = w->failure;
    buf_append(ttft, buf_str(&w->ttft), w->ttft.len);
    buf_append(itl, buf_str(&w->itl), w->itl.len);
    buf_release(&w->ttft);
    buf_release(&w->itl);
}

int load_run(const struct load *l, struct load_result *ret, struct err *err)
{
    struct worker *workers = mem_alloc(l->concurrency * sizeof(*workers));
    struct shared shared = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct buf ttft, itl;
    double begun = now_ms();
    uint32_t n_started = 0;
    int rc = 0;
    buf_init(&ttft, MAX_SAMPLES);
    buf_init(&itl, (size_t)MAX_SAMPLES * 4);
    *ret = (struct load_result){.first_failure = ERR_INIT};
    shared.end_ms = begun + (double)l->duration_s * 1e3;
    for (; n_started < l->concurrency && rc == 0; n_started++) {
        struct worker *w = &workers[n_started];
        *w = (struct worker){.load = l, .shared = &shared, .failure = ERR_INIT};
        buf_init(&w->ttft, MAX_SAMPLES);
        buf_init(&w->itl, MAX_SAMPLES);
        int e = pthread_create(&w->thread, NULL, run, w);
        if (e)
            rc = err_set(err, E_IO, "starting thread %u of %u: %s", n_started + 1, l->concurrency,
                         strerror(e));
        n_started -= e != 0;
    }
    for (uint32_t i = 0; i < n_started; i++)
        pthread_join(workers[i].thread, NULL);
    ret->wall_s = (now_ms() - begun) / 1e3;
    for (uint32_t i = 0; i < n_started; i++)
        add_up(&workers[i], ret, &ttft, &itl);
    ret->ttft = quantiles(&ttft);
    ret->itl = quantiles(&itl);
    buf_release(&ttft);
    buf_release(&itl);
    mem_free(workers);
    return rc;
}
