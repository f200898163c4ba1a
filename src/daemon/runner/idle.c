/* SPDX-License-Identifier: Apache-2.0 */
/* How long a model stays: each has a timer that runs while it is loaded and nobody asks.  Loop
 * thread.
 *
 * What counts, the first that was said: the last request's keep-alive, the model's settings, the
 * daemon's option.  A pinned model stays. */
#include "daemon/runner/internal.h"
#include "lib/base/log.h"

#define LONGEST_S 3153600000ull /* a hundred years, so that milliseconds cannot overflow */

static uint64_t keep_alive_s(const struct model *m)
{
    const struct model_settings *s = &m->settings;
    if (s->pinned)
        return RUN_FOREVER;
    if (m->has_keep_alive)
        return m->keep_alive_s;
    return s->has_keep_alive ? s->keep_alive_s : m->runner->cfg.keep_alive_s;
}

static bool is_idle(const struct model *m)
{
    return m->worker && m->worker->state == WORKER_READY && m->n_requests == 0;
}

static void on_idle(void *ctx)
{
    struct model *m = ctx;
    struct err why = ERR_INIT;
    if (!is_idle(m))
        return;
    err_set(&why, E_UNLOADED, "model %s was unloaded after its keep-alive time", m->file.name);
    log_info("worker %d (%s): unloaded, nobody asked for it", (int)m->worker->child.pid,
             m->file.name);
    m->runner->stats.n_idle_unloads++;
    worker_retire(m->worker, &why);
}

void idle_update(struct model *m)
{
    uint64_t s = keep_alive_s(m);
    loop_timer_cancel(&m->idle);
    if (!is_idle(m) || s == RUN_FOREVER)
        return;
    uint64_t now = loop_now_ms(), grace = m->is_only_loaded ? m->runner->times.load_grace_ms : 0;
    uint64_t due = m->idle_since_ms + MAX_OF(MIN_OF(s, LONGEST_S) * 1000, grace);
    m->idle = (struct loop_timer){.fn = on_idle, .ctx = m};
    loop_timer_set(m->runner->loop, &m->idle, due > now ? due - now : 0);
}

uint64_t idle_expires_in_s(const struct model *m)
{
    uint64_t now = loop_now_ms();
    if (m->idle.loop)
        return m->idle.due_ms > now ? (m->idle.due_ms - now + 999) / 1000 : 0;
    uint64_t s = keep_alive_s(m); /* busy: counted from its end */
    return s == RUN_FOREVER ? RUN_FOREVER : s;
}
