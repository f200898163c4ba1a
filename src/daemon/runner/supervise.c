/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a model whose worker crashes: a restart after a pause that grows, and a breaker.
 * Loop thread.
 *
 * A fault is an end that nobody asked for: a crash, a hang, a broken protocol.  A load that is
 * refused with a reason is none.  CRASHES_TO_BREAK of them within the window break the model: for a
 * time, which doubles each time, every request is refused at once with E_BROKEN; then one is let
 * through as a trial, and its answer mends the model. */
#include "daemon/runner/internal.h"
#include "lib/base/log.h"

static void on_restart(void *ctx)
{
    struct model *m = ctx;
    model_serve(m->runner, m);
}

static void model_break(struct model *m, const struct err *why)
{
    struct runner *r = m->runner;
    struct err refusal = ERR_INIT;
    uint64_t open_ms = r->times.open_ms;
    for (uint32_t i = 0; i < m->n_breaks && open_ms < r->times.open_max_ms; i++)
        open_ms *= 2;
    open_ms = MIN_OF(open_ms, r->times.open_max_ms);
    m->n_breaks++;
    m->is_broken = true;
    m->trial_id = 0;
    m->broken_until_ms = loop_now_ms() + open_ms;
    m->failure = *why;
    log_error("model %s is not tried for %llu seconds: its worker failed %u times in a row",
              m->file.name, (unsigned long long)(open_ms / 1000), CRASHES_TO_BREAK);
    BUG_ON(supervise_admit(m, NULL, &refusal) == 0);
    model_fail_all(r, m, &refusal);
}

void supervise_fault(struct model *m, const struct err *why)
{
    struct runner *r = m->runner;
    uint64_t now = loop_now_ms();
    for (size_t i = 1; i < CRASHES_TO_BREAK; i++)
        m->faults_ms[i - 1] = m->faults_ms[i];
    m->faults_ms[CRASHES_TO_BREAK - 1] = now;
    uint64_t first = m->faults_ms[0], pause_ms = 0;
    if (m->is_broken || (first && now - first <= r->times.window_ms)) {
        model_break(m, why);
        return;
    }
    if (m->n_faults_row++) {
        pause_ms = r->times.backoff_ms;
        for (uint32_t i = 2; i < m->n_faults_row && pause_ms < r->times.backoff_max_ms; i++)
            pause_ms *= 2;
        pause_ms = MIN_OF(pause_ms, r->times.backoff_max_ms);
    }
    m->restart_at_ms = now + pause_ms;
}

bool supervise_must_wait(struct model *m)
{
    uint64_t now = loop_now_ms();
    if (m->restart_at_ms <= now)
        return false;
    if (!m->restart.loop) {
        m->restart = (struct loop_timer){.fn = on_restart, .ctx = m};
        loop_timer_set(m->runner->loop, &m->restart, m->restart_at_ms - now);
    }
    return true;
}

void supervise_worked(struct model *m)
{
    if (m->is_broken)
        log_info("model %s works again", m->file.name);
    supervise_reset(m);
}

void supervise_reset(struct model *m)
{
    if (m->is_broken)
        m->failure.code = 0;
    m->is_broken = false;
    m->n_breaks = m->n_faults_row = 0;
    m->restart_at_ms = m->trial_id = 0;
    memset(m->faults_ms, 0, sizeof(m->faults_ms));
    loop_timer_cancel(&m->restart);
}

void supervise_request_over(struct model *m, uint64_t id)
{
    if (m->trial_id == id)
        m->trial_id = 0; /* it told nothing: the next one is the trial */
}

uint32_t supervise_retry_in_s(const struct model *m)
{
    uint64_t now = loop_now_ms();
    return m->broken_until_ms > now ? (uint32_t)((m->broken_until_ms - now + 999) / 1000) : 0;
}

int supervise_admit(struct model *m, const struct run_request *q, struct err *err)
{
    if (!m->is_broken)
        return 0;
    uint32_t left_s = supervise_retry_in_s(m);
    if (left_s)
        return err_set(err, E_BROKEN,
                       "model %s is broken: its worker failed %u times in a row, and is tried "
                       "again in %u seconds: %.200s",
                       m->file.name, CRASHES_TO_BREAK, left_s, m->failure.msg);
    if (m->trial_id || !q)
        return err_set(err, E_BROKEN,
                       "model %s was broken and is being tried with one request; try again when "
                       "that is answered",
                       m->file.name);
    m->trial_id = q->id;
    log_info("model %s is tried again with one request", m->file.name);
    return 0;
}
