/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of one model as a whole: who gets a worker started, and who fails together.  Loop
 * thread. */
#include "daemon/runner/internal.h"
#include "lib/base/log.h"

#define DEFAULT_SEQS 8u /* of max-num-seqs 0, as its help says */

uint32_t model_max_seqs(const struct model *m)
{
    const struct worker *w = m->worker;
    uint32_t n =
        m->settings.has_max_num_seqs ? m->settings.max_num_seqs : m->runner->cfg.max_num_seqs;
    if (w && w->has_plan)
        n = w->plan.max_num_seqs;
    return n ? n : DEFAULT_SEQS;
}

void model_fail_all(struct runner *r, struct model *m, const struct err *why)
{
    while (m->first)
        run_request_end_failed(r, m->first, why);
}

void model_fail_sent(struct runner *r, struct model *m, const struct err *why)
{
    for (;;) {
        struct run_request *q = m->first;
        while (q && !q->is_sent)
            q = q->next;
        if (!q)
            return;
        run_request_end_failed(r, q, why);
    }
}

void model_cannot_start(struct runner *r, struct model *m, const struct err *why)
{
    m->failure = *why;
    r->stats.n_load_failures++;
    log_error("%s", why->msg);
    model_fail_all(r, m, why);
}

void model_serve(struct runner *r, struct model *m)
{
    struct err err = ERR_INIT;
    if (!m->first || r->is_stopping)
        return;
    if (m->worker) {
        if (m->worker->state == WORKER_READY && !m->worker->is_digest_awaited) {
            worker_loads_done(m->worker);
            worker_send_requests(m->worker);
        }
        return; /* LOADING: when it is loaded; ENDING: when it has ended */
    }
    if (supervise_must_wait(m))
        return;
    int rc = unpack_first(r, m, &err);
    if (rc == 0)
        rc = worker_start(r, m, &err);
    if (rc < 0)
        model_cannot_start(r, m, &err);
}
