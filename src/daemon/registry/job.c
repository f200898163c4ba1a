/* SPDX-License-Identifier: Apache-2.0 */
/* A call's progress, its end, and how long it waits for others. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/log.h"
#include "lib/sys/loop.h"

#define TELL_MS          100u
#define LONGEST_PAUSE_MS 30000u
#define LONGEST_WAIT_S   300u /* that a Retry-After may ask for */

void job_init(struct job *j, struct registry *r, const struct registry_options *o, bool is_push)
{
    *j = (struct job){.r = r, .o = o, .is_push = is_push};
    pthread_mutex_init(&j->lock, NULL);
}

void job_release(struct job *j)
{
    pthread_mutex_destroy(&j->lock);
}

static void tell_locked(struct job *j, const struct job_part *part, const char *note,
                        bool is_warning)
{
    const struct registry_progress p = {
        .phase = j->phase,
        .is_push = j->is_push,
        .layer = part ? part->name : "",
        .layer_done = part ? part->done : 0,
        .layer_bytes = part ? part->size : 0,
        .done_bytes = j->done_bytes,
        .total_bytes = j->total_bytes,
        .note = note,
        .is_warning = is_warning,
    };
    j->told_ms = loop_now_ms();
    if (j->o && j->o->on_progress && !j->o->on_progress(j->o->ctx, &p)) {
        atomic_store(&j->is_canceled, true);
        atomic_store(&j->is_over, true);
    }
}

void job_phase(struct job *j, enum registry_phase phase)
{
    pthread_mutex_lock(&j->lock);
    j->phase = phase;
    tell_locked(j, NULL, NULL, false);
    pthread_mutex_unlock(&j->lock);
}

void job_note(struct job *j, bool is_warning, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pthread_mutex_lock(&j->lock);
    tell_locked(j, NULL, text, is_warning);
    pthread_mutex_unlock(&j->lock);
}

bool job_tick(void *job)
{
    struct job *j = job;
    pthread_mutex_lock(&j->lock);
    if (!atomic_load(&j->is_over) && loop_now_ms() - j->told_ms >= 2 * TELL_MS)
        tell_locked(j, NULL, NULL, false);
    pthread_mutex_unlock(&j->lock);
    return !atomic_load(&j->is_over);
}

int job_check(struct job *j, struct err *err)
{
    return job_tick(j)
               ? 0
               : err_set(err, E_CANCELED, "it was stopped; what is here stays for the next try");
}

void job_moved(struct job *j, struct job_part *part, uint64_t done)
{
    uint64_t now = loop_now_ms();
    bool is_whole = done >= part->size && part->done < part->size;
    if (done <= part->done && !is_whole)
        return;
    pthread_mutex_lock(&j->lock);
    j->done_bytes += done - part->done;
    part->done = done;
    if (is_whole || now - part->told_ms >= TELL_MS) {
        part->told_ms = now;
        tell_locked(j, part, NULL, false);
    }
    pthread_mutex_unlock(&j->lock);
}

int job_fetch_new(struct job *j, struct fetch **ret, struct err *err)
{
    const struct fetch_config cfg = {
        .ca_file = j->r->cfg.ca_file,
        .user_agent = j->r->cfg.user_agent,
        .stall_ms = j->r->cfg.stall_ms,
        .on_tick = job_tick,
        .tick_ctx = j,
    };
    return fetch_new(&cfg, ret, err);
}

/* ---- patience ---- */

uint64_t retry_after_s(struct str value)
{
    char text[64];
    struct tm tm = {0};
    uint64_t n = 0;
    if (value.len == 0 || value.len >= sizeof(text))
        return 0;
    snprintf(text, sizeof(text), "%.*s", STR_ARG(value));
    size_t digits = strspn(text, "0123456789");
    if (digits == value.len && digits <= 9) {
        for (size_t i = 0; i < digits; i++)
            n = n * 10 + (uint64_t)(text[i] - '0');
        return n;
    }
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    time_t at = end && *end == '\0' ? timegm(&tm) : 0, now = time(NULL);
    return at > now ? (uint64_t)(at - now) : 0;
}

/* Whether the same request may go better next time. */
static bool is_passing(const struct err *err, const struct fetch_response *resp)
{
    static const int statuses[] = {408, 429, 500, 502, 503, 504};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (resp->status == statuses[i])
            return true;
    }
    return resp->status < 400 && (err->code == E_NET || err->code == E_TIMEOUT);
}

static bool wait_ms(struct job *j, uint64_t ms)
{
    uint64_t until = loop_now_ms() + ms;
    for (uint64_t now = loop_now_ms(); now < until; now = loop_now_ms()) {
        uint64_t left = MIN_OF(until - now, TELL_MS);
        const struct timespec t = {0, (long)left * 1000000};
        nanosleep(&t, NULL);
        if (!job_tick(j))
            return false;
    }
    return !atomic_load(&j->is_over);
}

bool patience_wait(struct job *j, struct patience *p, const struct fetch_response *resp,
                   struct err *err)
{
    struct str after;
    if (atomic_load(&j->is_over))
        return false;
    if (err->code == E_CORRUPT) { /* once more from the beginning, in case it was the way here */
        if (p->n_corrupt++ >= 1)
            return false;
    } else if (!is_passing(err, resp) || ++p->n_failed > j->r->cfg.n_retries) {
        return false;
    }
    uint32_t doublings = MIN_OF(p->n_failed, 8u);
    uint64_t ms = (uint64_t)j->r->cfg.pause_ms << (doublings ? doublings - 1 : 0);
    ms = MIN_OF(ms, LONGEST_PAUSE_MS);
    if (resp->status >= 400 && fetch_header(resp, "Retry-After", 0, &after)) {
        uint64_t s = retry_after_s(after);
        if (s > LONGEST_WAIT_S) {
            err_set(err, E_BUSY,
                    "the registry wants to be left alone for %llu seconds; try again then",
                    (unsigned long long)s);
            return false;
        }
        ms = MAX_OF(s * 1000, MIN_OF(ms, 1000u));
    }
    log_write(LOG_LEVEL_INFO, "%s: trying again in %.1f s", err->msg, (double)ms / 1000);
    job_note(j, true, "trying again in %.1f s: %s", (double)ms / 1000, err->msg);
    return wait_ms(j, ms);
}
