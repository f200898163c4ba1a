/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there is room for a model, decided before its worker takes any: the sum of all plans
 * against the limit, and the number of models against theirs.  Loop thread.
 *
 * Least recently used models that are idle and not pinned make room; nothing that runs is ended.  A
 * worker that waits for others to end holds its place in the sum, so that two loads cannot be
 * promised the same memory. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"

#define EVICT_MAX 1024u /* candidates looked at; more models than that are not loaded at once */

static uint64_t plan_bytes(const struct worker *w)
{
    const struct msg_plan *p = &w->plan;
    return p->weight_bytes + p->kv_bytes + p->scratch_bytes + p->other_bytes;
}

static bool holds_place(const struct worker *w)
{
    return w->is_admitted || w->is_waiting_room;
}

uint64_t admission_planned_bytes(const struct runner *r)
{
    uint64_t sum = 0;
    for (const struct worker *w = r->workers; w; w = w->next)
        sum += holds_place(w) ? plan_bytes(w) : 0;
    return sum;
}

static bool is_evictable(const struct worker *w)
{
    return w->state == WORKER_READY && w->model->n_requests == 0 && !w->model->settings.pinned;
}

/* How it would be with w, and without those that are going already. */
struct room {
    uint64_t bytes, going_bytes;
    uint32_t n, n_going;
};

static struct room room_count(const struct runner *r, const struct worker *me)
{
    struct room room = {.bytes = plan_bytes(me), .n = 1};
    for (const struct worker *w = r->workers; w; w = w->next) {
        if (w == me || !holds_place(w))
            continue;
        room.bytes += plan_bytes(w);
        room.n++;
        if (w->state == WORKER_ENDING) {
            room.going_bytes += plan_bytes(w);
            room.n_going++;
        }
    }
    return room;
}

static bool fits(const struct runner *r, uint64_t bytes, uint32_t n)
{
    return bytes <= r->stats.max_memory_bytes && (r->cfg.max_loaded == 0 || n <= r->cfg.max_loaded);
}

static int compare_used(const void *a, const void *b)
{
    const struct worker *wa = *(struct worker *const *)a, *wb = *(struct worker *const *)b;
    return wa->model->idle_since_ms < wb->model->idle_since_ms   ? -1
           : wa->model->idle_since_ms > wb->model->idle_since_ms ? 1
                                                                 : 0;
}

/* Ends idle models, the longest unused first, until me would fit; false, and nothing ended, when
 * that is not enough. */
static bool make_room(struct runner *r, struct worker *me, const struct room *room)
{
    struct worker *list[EVICT_MAX];
    size_t n = 0, n_needed = 0;
    for (struct worker *w = r->workers; w && n < EVICT_MAX; w = w->next) {
        if (w != me && is_evictable(w))
            list[n++] = w;
    }
    qsort(list, n, sizeof(list[0]), compare_used);
    uint64_t bytes = room->bytes - room->going_bytes;
    uint32_t left = room->n - room->n_going;
    while (n_needed < n && !fits(r, bytes, left)) {
        bytes -= plan_bytes(list[n_needed++]);
        left--;
    }
    if (!fits(r, bytes, left))
        return false;
    for (size_t i = 0; i < n_needed; i++) {
        struct err why = ERR_INIT;
        err_set(&why, E_UNLOADED, "model %s was unloaded to make room for %s",
                list[i]->model->file.name, me->model->file.name);
        log_info("worker %d: %s", (int)list[i]->child.pid, why.msg);
        r->stats.n_evictions++;
        worker_retire(list[i], &why);
    }
    return true;
}

/* --- the refusal
 * ------------------------------------------------------------------------------------------------------
 */

static const char *print_bytes(uint64_t n, char out[24])
{
    if (n >= 1ull << 30)
        snprintf(out, 24, "%.2f GiB", (double)n / (double)(1ull << 30));
    else
        snprintf(out, 24, "%.1f MiB", (double)n / (double)(1ull << 20));
    return out;
}

/* Beside me, and not going: idle models would make room for it, and are no reason to refuse it. */
static bool stays(const struct worker *w, const struct worker *me)
{
    return w != me && holds_place(w) && w->state != WORKER_ENDING && !is_evictable(w);
}

static uint64_t staying_bytes(const struct runner *r, const struct worker *me)
{
    uint64_t sum = 0;
    for (const struct worker *w = r->workers; w; w = w->next)
        sum += stays(w, me) ? plan_bytes(w) : 0;
    return sum;
}

/* The models that stay, as many as there is room to name. */
static void print_holders(const struct runner *r, const struct worker *me, struct buf *out)
{
    char size[24];
    uint32_t n = 0;
    for (const struct worker *w = r->workers; w; w = w->next) {
        if (!stays(w, me))
            continue;
        if (++n > 3)
            continue;
        buf_printf(out, "%s%.40s %s%s", n > 1 ? ", " : "", w->model->file.name,
                   print_bytes(plan_bytes(w), size),
                   w->model->settings.pinned ? " (pinned)"
                   : w->model->n_requests    ? " (busy)"
                                             : "");
    }
    if (n > 3)
        buf_printf(out, " and %u more", n - 3);
}

/* What would fit, with its numbers; the plan's other parts shrink with it, so that it is enough. */
static void print_fixes(const struct runner *r, const struct worker *w, uint64_t taken,
                        struct buf *out)
{
    const struct msg_plan *p = &w->plan;
    char size[24];
    uint64_t limit = r->stats.max_memory_bytes;
    uint64_t fixed = plan_bytes(w) - p->kv_bytes + taken;
    if (fixed < limit && p->block_bytes && p->block_size && p->max_num_seqs) {
        uint64_t blocks = (limit - fixed) / p->block_bytes;
        uint64_t per_seq = (p->n_ctx + (uint64_t)p->block_size - 1) / p->block_size;
        uint64_t n_ctx = blocks / p->max_num_seqs * p->block_size;
        uint64_t seqs = per_seq ? blocks / per_seq : 0;
        if (n_ctx >= 2 * (uint64_t)p->block_size && n_ctx < p->n_ctx)
            buf_printf(out, "--max-model-len %llu (now %u) would fit, ", (unsigned long long)n_ctx,
                       p->n_ctx);
        if (seqs >= 1 && seqs < p->max_num_seqs)
            buf_printf(out, "--max-num-seqs %llu (now %u) would fit, ", (unsigned long long)seqs,
                       p->max_num_seqs);
        if (p->kv_type == 0 && fixed + p->kv_bytes / 2 <= limit)
            buf_append_str(out, "--kv-cache-type f16 would fit, ");
    }
    if (taken)
        buf_append_str(out, "unload another model, ");
    buf_printf(out, "or raise --max-memory to %s", print_bytes(plan_bytes(w) + taken, size));
}

static void refuse(struct runner *r, struct worker *w, const struct room *room)
{
    const struct msg_plan *p = &w->plan;
    struct err why = ERR_INIT;
    struct buf b;
    char sum[24], weights[24], kv[24], scratch[24], other[24], limit[24], taken[24];
    uint64_t others = staying_bytes(r, w);
    buf_init(&b, 4 * ERR_MSG_MAX);
    if (r->cfg.max_loaded && room->n > r->cfg.max_loaded) {
        buf_printf(&b, "%u models are loaded (", room->n - 1);
        print_holders(r, w, &b);
        buf_printf(&b, "), as many as --max-loaded %u allows, and none is idle and not pinned",
                   r->cfg.max_loaded);
    } else {
        buf_printf(&b, "model %.60s%s takes %s (weights %s, cache %s, activations %s, other %s)",
                   w->model->file.name, w->draft.name ? " with its draft model" : "",
                   print_bytes(plan_bytes(w), sum), print_bytes(p->weight_bytes, weights),
                   print_bytes(p->kv_bytes, kv), print_bytes(p->scratch_bytes, scratch),
                   print_bytes(p->other_bytes, other));
        buf_printf(&b, ", and of the limit of %s ", print_bytes(r->stats.max_memory_bytes, limit));
        if (others) {
            buf_printf(&b, "%s are planned: ", print_bytes(others, taken));
            print_holders(r, w, &b);
        } else {
            buf_append_str(&b, "nothing is taken");
        }
        buf_append_str(&b, "; ");
        print_fixes(r, w, others, &b);
    }
    err_set(&why, E_NOMEM, "%s", buf_str(&b));
    buf_release(&b);
    log_warn("worker %d: %s", (int)w->child.pid, why.msg);
    r->stats.n_refused_memory++;
    worker_stop(w, &why);
}

/* --- the decision
 * -----------------------------------------------------------------------------------------------------
 */

static void admission_try(struct runner *r, struct worker *w)
{
    struct room room = room_count(r, w);
    if (fits(r, room.bytes, room.n)) {
        w->is_waiting_room = false;
        w->is_admitted = true;
        worker_admit(w);
    } else if (w->is_waiting_room &&
               fits(r, room.bytes - room.going_bytes, room.n - room.n_going)) {
        return; /* those it waits for have not ended yet */
    } else if (make_room(r, w, &room)) {
        w->is_waiting_room = true;
        worker_tell_progress(w, &(struct msg_progress){.what = STR_LIT("waiting for room")});
    } else {
        w->is_waiting_room = false;
        refuse(r, w, &room);
    }
}

void admission_plan(struct worker *w)
{
    admission_try(w->runner, w);
}

void admission_room_changed(struct runner *r)
{
    struct worker *next;
    for (struct worker *w = r->workers; w; w = next) {
        next = w->next;
        if (w->is_waiting_room && w->state == WORKER_LOADING)
            admission_try(r, w);
    }
}
