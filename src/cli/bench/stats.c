/* SPDX-License-Identifier: Apache-2.0 */
/* Implements stats.h. */
#include "cli/bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"

#define MAX_REQUEST_BYTES (256u << 20)
#define MAX_ITL_BYTES     (512u << 20)

void bench_samples_init(struct bench_samples *s)
{
    *s = (struct bench_samples){.n_failed = 0};
    buf_init(&s->requests, MAX_REQUEST_BYTES);
    buf_init(&s->itl, MAX_ITL_BYTES);
}

void bench_samples_release(struct bench_samples *s)
{
    buf_release(&s->requests);
    buf_release(&s->itl);
}

int bench_samples_add(struct bench_samples *s, const struct bench_samples *more, struct err *err)
{
    const struct bench_request *from = (const void *)buf_str(&more->requests);
    double later_ms = s->duration_s * 1e3;
    for (size_t i = 0; i < more->requests.len / sizeof(*from); i++) {
        struct bench_request r = from[i];
        r.sent_ms += later_ms;
        r.first_ms += later_ms;
        r.last_ms += later_ms;
        buf_append(&s->requests, &r, sizeof(r));
    }
    buf_append(&s->itl, buf_str(&more->itl), more->itl.len);
    s->n_failed += more->n_failed;
    s->duration_s += more->duration_s;
    int rc = buf_status(&s->requests, "the times of requests", err);
    return rc < 0 ? rc : buf_status(&s->itl, "the times between tokens", err);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* v sorted, n > 0 */
static double percentile(const double *v, size_t n, double p)
{
    double at = (double)(n - 1) * p / 100;
    size_t i = (size_t)at, j = MIN_OF(i + 1, n - 1);
    return v[i] + (v[j] - v[i]) * (at - (double)i);
}

/* Sorts v. */
static struct bench_times times_of(double *v, size_t n)
{
    struct bench_times t = {.n = (uint32_t)n};
    double sum = 0, dev = 0;
    if (n == 0)
        return t;
    qsort(v, n, sizeof(*v), by_size);
    for (size_t i = 0; i < n; i++)
        sum += v[i];
    t.mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        dev += (v[i] - t.mean) * (v[i] - t.mean);
    t.std = sqrt(dev / (double)n);
    t.p50 = percentile(v, n, 50);
    t.p90 = percentile(v, n, 90);
    t.p99 = percentile(v, n, 99);
    return t;
}

static double ttft(const struct bench_request *r)
{
    return r->first_ms - r->sent_ms;
}

static double e2el(const struct bench_request *r)
{
    return r->last_ms - r->sent_ms;
}

static double tpot(const struct bench_request *r)
{
    return r->n_tokens > 1 ? (r->last_ms - r->first_ms) / (r->n_tokens - 1) : -1;
}

/* f of every request for which it is not negative. */
static struct bench_times times_by(const struct bench_request *r, size_t n,
                                   double (*f)(const struct bench_request *), double *scratch)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        double v = f(&r[i]);
        if (v >= 0)
            scratch[m++] = v;
    }
    return times_of(scratch, m);
}

/* An answer that begins (+1) or ceases (-1) to be written, at so many tokens a millisecond. */
struct edge {
    double ms, rate;
    int step;
};

static int by_time(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;
    if (x->ms != y->ms)
        return x->ms > y->ms ? 1 : -1;
    return x->step - y->step;
}

static size_t edges_of(const struct bench_request *r, size_t n, struct edge *e)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        double took = r[i].last_ms - r[i].first_ms;
        if (r[i].n_tokens < 2 || took <= 0)
            continue;
        double rate = (r[i].n_tokens - 1) / took;
        e[m++] = (struct edge){r[i].first_ms, rate, 1};
        e[m++] = (struct edge){r[i].last_ms, -rate, -1};
    }
    qsort(e, m, sizeof(*e), by_time);
    return m;
}

/* Each answer is taken to come evenly between its first and its last token. */
static void decode_rate(const struct bench_request *r, size_t n, struct bench_stats *ret)
{
    struct edge *e = mem_alloc((2 * n + 1) * sizeof(*e));
    size_t m = edges_of(r, n, e);
    int active = 0, most = 0;
    double rate = 0, tokens = 0, ms = 0;
    for (size_t i = 0; i < m; i++) {
        active += e[i].step;
        most = MAX_OF(most, active);
    }
    active = 0;
    for (size_t i = 0; i + 1 < m; i++) {
        active += e[i].step;
        rate += e[i].rate;
        if (active == most) {
            tokens += rate * (e[i + 1].ms - e[i].ms);
            ms += e[i + 1].ms - e[i].ms;
        }
    }
    ret->n_decoding = (uint32_t)most;
    ret->decode_tps = ms > 0 ? tokens / ms * 1e3 : 0;
    mem_free(e);
}

void bench_stats_of(const struct bench_samples *s, struct bench_stats *ret)
{
    const struct bench_request *r = (const void *)buf_str(&s->requests);
    size_t n = s->requests.len / sizeof(*r), n_itl = s->itl.len / sizeof(double);
    double *scratch = mem_alloc((MAX_OF(n, n_itl) + 1) * sizeof(double)), first_ms = 0;
    *ret = (struct bench_stats){.n_completed = (uint32_t)n,
                                .n_failed = s->n_failed,
                                .duration_s = s->duration_s > 0 ? s->duration_s : 1e-9};
    for (size_t i = 0; i < n; i++) {
        ret->n_prompt += r[i].n_prompt;
        ret->n_cached += r[i].n_cached;
        ret->n_tokens += r[i].n_tokens;
        first_ms += ttft(&r[i]);
    }
    ret->ttft = times_by(r, n, ttft, scratch);
    ret->tpot = times_by(r, n, tpot, scratch);
    ret->e2el = times_by(r, n, e2el, scratch);
    memcpy(scratch, buf_str(&s->itl), n_itl * sizeof(double));
    ret->itl = times_of(scratch, n_itl);
    if (first_ms > 0 && ret->n_prompt > ret->n_cached)
        ret->prefill_tps = (double)(ret->n_prompt - ret->n_cached) / first_ms * 1e3;
    mem_free(scratch);
    decode_rate(r, n, ret);
}
