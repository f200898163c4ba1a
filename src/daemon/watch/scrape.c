/* SPDX-License-Identifier: Apache-2.0 */
/* One scrape: puts what watch counted together with what runner, HTTP server and system tell at
 * this moment.  Implements watch_metrics. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/store/store.h"
#include "daemon/watch/internal.h"
#include "lib/base/log.h"
#include "lib/sys/file.h"
#include "lib/sys/log_file.h"

#define PROC_MAX_BYTES 4096u

/* Processor seconds and memory of a process, from /proc/PID/stat (proc(5)); false when it is gone.
 */
struct process {
    double cpu_seconds, resident_bytes, virtual_bytes;
};
static bool process_read(int pid, struct process *ret)
{
    char path[64];
    struct buf text;
    struct err err = ERR_INIT;
    unsigned long long utime = 0, stime = 0, vsize = 0, rss = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int rc = file_read_all(path, PROC_MAX_BYTES, &text, &err);
    /* The second field, the name, is in brackets and may hold anything. */
    const char *rest = rc < 0 ? NULL : strrchr(buf_str(&text), ')');
    int n = rest ? sscanf(rest,
                          ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d "
                          "%*d %*d %*d %*u %llu %llu",
                          &utime, &stime, &vsize, &rss)
                 : 0;
    buf_release(&text);
    *ret = (struct process){.cpu_seconds = (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK),
                            .resident_bytes = (double)rss * (double)sysconf(_SC_PAGESIZE),
                            .virtual_bytes = (double)vsize};
    return n == 4;
}

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the folder's own */
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return MAX_OF(n, 0);
}

static void put(struct metric_sheet *s, enum metric_id id, double value)
{
    metric_sheet_put(s, id, NULL, value);
}

static void put_process(struct watch *w, struct metric_sheet *s)
{
    struct process p;
    struct rlimit files;
    if (process_read((int)getpid(), &p)) {
        put(s, METRIC_process_cpu, p.cpu_seconds);
        put(s, METRIC_process_resident, p.resident_bytes);
        put(s, METRIC_process_virtual, p.virtual_bytes);
    }
    put(s, METRIC_process_fds, count_fds());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        put(s, METRIC_process_max_fds, (double)files.rlim_cur);
    put(s, METRIC_process_start, (double)w->started_ms / 1000);
}

static void put_own(struct watch *w, struct metric_sheet *s)
{
    const char *version = BERTH_VERSION;
    metric_sheet_put(s, METRIC_build_info, &version, 1);
    metric_sheet_collect(s, &w->metrics);
    put(s, METRIC_log_dropped, (double)logs_dropped(&w->logs));
    put(s, METRIC_audit_dropped, (double)atomic_load(&w->audit.n_dropped));
}

static void put_http(struct httpd *h, struct metric_sheet *s)
{
    struct httpd_stats now;
    httpd_stats(h, &now);
    put(s, METRIC_http_connections, now.n_connections);
    put(s, METRIC_http_requests_open, now.n_requests);
}

static void put_runner(const struct runner_stats *t, struct metric_sheet *s)
{
    put(s, METRIC_memory_planned, (double)t->planned_bytes);
    put(s, METRIC_memory_limit, (double)t->max_memory_bytes);
    put(s, METRIC_model_loads, (double)t->n_loads);
    put(s, METRIC_model_load_seconds, t->load_seconds);
    put(s, METRIC_model_load_failures, (double)t->n_load_failures);
    put(s, METRIC_model_loads_refused, (double)t->n_refused_memory);
    put(s, METRIC_model_evictions, (double)t->n_evictions);
    put(s, METRIC_model_idle_unloads, (double)t->n_idle_unloads);
    put(s, METRIC_prepared, (double)t->n_prepared);
    put(s, METRIC_prepare_failures, (double)t->n_prepare_failures);
    put(s, METRIC_worker_crashes, (double)t->n_crashes);
    put(s, METRIC_worker_hangs, (double)t->n_hangs);
}

static void put_pool(struct metric_sheet *s, const char *model, const char *pool, uint64_t bytes)
{
    const char *const labels[] = {model, pool};
    metric_sheet_put(s, METRIC_memory_bytes, labels, (double)bytes);
}

static void put_loaded(const struct model_info *m, struct metric_sheet *s)
{
    char ctx[16];
    struct process p;
    const char *name = m->name;
    snprintf(ctx, sizeof(ctx), "%u", m->n_ctx);
    const char *const labels[] = {name, m->digest, "berth", m->quant, ctx};
    metric_sheet_put(s, METRIC_model_loaded, labels, 1);
    metric_sheet_put(s, METRIC_kv_blocks_used, &name, m->blocks_used);
    metric_sheet_put(s, METRIC_kv_blocks, &name, m->blocks_total);
    metric_sheet_put(s, METRIC_vllm_kv_usage, &name,
                     m->blocks_total ? (double)m->blocks_used / m->blocks_total : 0);
    metric_sheet_put(s, METRIC_preemptions, &name, (double)m->n_preemptions);
    metric_sheet_put(s, METRIC_drafted, &name, (double)m->n_drafted);
    metric_sheet_put(s, METRIC_accepted, &name, (double)m->n_accepted);
    metric_sheet_put(s, METRIC_vllm_drafted, &name, (double)m->n_drafted);
    metric_sheet_put(s, METRIC_vllm_accepted, &name, (double)m->n_accepted);
    put_pool(s, name, "weights", m->weight_bytes);
    put_pool(s, name, "kv", m->kv_bytes);
    put_pool(s, name, "scratch", m->scratch_bytes);
    if (m->pid > 0 && process_read(m->pid, &p)) {
        metric_sheet_put(s, METRIC_worker_resident, &name, p.resident_bytes);
        metric_sheet_put(s, METRIC_worker_cpu, &name, p.cpu_seconds);
    }
}

static void put_models(struct watch *w, const struct model_list *list, struct metric_sheet *s)
{
    static const char *const states[] = {[MODEL_IDLE] = "idle",
                                         [MODEL_LOADING] = "loading",
                                         [MODEL_READY] = "ready",
                                         [MODEL_FAILED] = "failed",
                                         [MODEL_BROKEN] = "broken"};
    size_t n_in[ARRAY_LEN(states)] = {0};
    for (size_t i = 0; i < list->n; i++) {
        const struct model_info *m = &list->items[i];
        const char *name = m->name;
        n_in[m->state]++;
        if (m->state != MODEL_IDLE || m->n_requests)
            watch_model_label(w, name, true);
        if (m->state == MODEL_READY || m->state == MODEL_LOADING) {
            metric_sheet_put(s, METRIC_requests_running, &name, m->n_running);
            metric_sheet_put(s, METRIC_requests_waiting, &name, m->n_waiting);
        }
        if (m->state == MODEL_READY)
            put_loaded(m, s);
    }
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        metric_sheet_put(s, METRIC_models, &states[i], (double)n_in[i]);
}

static void put_aliases(struct metric_sheet *s)
{
    static const struct {
        enum metric_id own, vllm;
    } aliases[] = {{METRIC_requests_running, METRIC_vllm_running},
                   {METRIC_requests_waiting, METRIC_vllm_waiting},
                   {METRIC_prompt_tokens, METRIC_vllm_prompt_tokens},
                   {METRIC_generated_tokens, METRIC_vllm_generated_tokens},
                   {METRIC_ttft_seconds, METRIC_vllm_ttft},
                   {METRIC_tpot_seconds, METRIC_vllm_tpot},
                   {METRIC_e2e_seconds, METRIC_vllm_e2e},
                   {METRIC_preemptions, METRIC_vllm_preemptions}};
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        metric_sheet_alias(s, aliases[i].own, aliases[i].vllm);
}

static void put_store(struct store *store, const struct watch_jobs *jobs, struct metric_sheet *s)
{
    struct store_usage u;
    struct err err = ERR_INIT;
    put(s, METRIC_jobs_running, jobs->n_running);
    put(s, METRIC_jobs_waiting, jobs->n_waiting);
    if (!store || store_usage(store, &u, &err) < 0)
        return;
    put(s, METRIC_store_models, u.n_models);
    put(s, METRIC_store_bytes, (double)u.blob_bytes);
    put(s, METRIC_store_unused, (double)u.unused_bytes);
    put(s, METRIC_store_partial, (double)u.partial_bytes);
    put(s, METRIC_store_prepared, (double)u.prepared_bytes);
    put(s, METRIC_store_free, (double)u.free_bytes);
}

int watch_metrics(struct watch *w, struct runner *r, struct httpd *h, struct store *store,
                  const struct watch_jobs *jobs, bool with_vllm, struct buf *out, struct err *err)
{
    struct metric_sheet s;
    struct runner_stats stats;
    struct model_list list = {NULL, 0};
    int rc = runner_stats(r, &stats, err);
    if (rc == 0)
        rc = runner_list(r, &list, err);
    if (rc < 0)
        return rc;
    metric_sheet_init(&s);
    put_own(w, &s);
    put_runner(&stats, &s);
    put_models(w, &list, &s);
    if (h)
        put_http(h, &s);
    put_store(store, jobs, &s);
    put_process(w, &s);
    put_aliases(&s);
    rc = metric_sheet_write(&s, with_vllm ? METRIC_VLLM : METRIC_OWN, out, err);
    metric_sheet_release(&s);
    model_list_release(&list);
    return rc;
}
