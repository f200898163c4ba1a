/* SPDX-License-Identifier: Apache-2.0 */
/* Implements watch.h: what is counted and said of each request. */
#include "daemon/watch/watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/watch/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/log_file.h"

#define STATUS_CLIENT_LEFT                                                                         \
    499 /* as nginx has it: no status was sent, or the answer was cut short */

int watch_new(const struct watch_config *cfg, struct watch **ret, struct err *err)
{
    struct watch *w = mem_alloc(sizeof(*w));
    metrics_init(&w->metrics);
    pthread_mutex_init(&w->names_lock, NULL);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    w->started_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    w->audit.fd = -1;
    int rc = logs_open(&w->logs, cfg, err);
    if (rc == 0)
        rc = audit_open(&w->audit, cfg->audit_path, err);
    if (rc < 0) {
        watch_free(w);
        return rc;
    }
    *ret = w;
    return 0;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    audit_close(&w->audit);
    logs_close(&w->logs);
    for (size_t i = 0; i < w->n_names; i++)
        mem_free(w->names[i]);
    pthread_mutex_destroy(&w->names_lock);
    metrics_release(&w->metrics);
    mem_free(w);
}

int watch_reopen(struct watch *w, struct err *err)
{
    int rc = w->logs.file ? log_file_reopen(w->logs.file, err) : 0;
    return rc < 0 ? rc : audit_reopen(&w->audit, err);
}

const char *watch_model_label(struct watch *w, const char *name, bool is_known)
{
    const char *found = "other";
    pthread_mutex_lock(&w->names_lock);
    size_t i = 0;
    while (i < w->n_names && strcmp(w->names[i], name) != 0)
        i++;
    if (i == w->n_names && is_known && i < WATCH_MAX_MODELS)
        w->names[w->n_names++] = mem_dup(name, strlen(name));
    if (i < w->n_names)
        found = w->names[i]; /* stays until watch_free */
    pthread_mutex_unlock(&w->names_lock);
    return found;
}

void watch_begin(struct watch *w, const char *api)
{
    metrics_add(&w->metrics, METRIC_requests_in_flight, &api, 1);
}

static bool was_cancelled(const struct watch_record *rec)
{
    return rec->code && (strcmp(rec->code, "cancelled") == 0 || strcmp(rec->code, "canceled") == 0);
}

static void count_times(struct metrics *m, const struct watch_record *rec, const char *model)
{
    uint32_t n_choices =
        MAX_OF(rec->n_prompts, 1u) * (rec->params ? MAX_OF(rec->params->n, 1u) : 1);
    double n_each = (double)rec->n_generated / n_choices;
    metrics_observe(m, METRIC_queue_seconds, &model, rec->queue_ms / 1000);
    if (rec->ttft_ms > 0)
        metrics_observe(m, METRIC_ttft_seconds, &model, rec->ttft_ms / 1000);
    if (n_each > 1 && rec->decode_ms > 0)
        metrics_observe(m, METRIC_tpot_seconds, &model, rec->decode_ms / 1000 / (n_each - 1));
    if (rec->status >= 200 && rec->status < 300 && !was_cancelled(rec))
        metrics_observe(m, METRIC_e2e_seconds, &model, rec->total_ms / 1000);
}

static void count_request(struct metrics *m, const struct watch_record *rec, const char *model)
{
    char status[16];
    bool left = was_cancelled(rec);
    snprintf(status, sizeof(status), "%d", left || !rec->status ? STATUS_CLIENT_LEFT : rec->status);
    const char *const labels[] = {model, rec->api, status, rec->code ? rec->code : ""};
    metrics_add(m, METRIC_requests, labels, 1);
    if (left)
        metrics_add(m, METRIC_requests_cancelled, &model, 1);
    if (!rec->params || rec->n_prompt == 0)
        return; /* it asked for no tokens, or never reached a model */
    metrics_add(m, METRIC_prompt_tokens, &model, rec->n_prompt);
    metrics_add(m, METRIC_cached_tokens, &model, rec->n_cached);
    metrics_add(m, METRIC_generated_tokens, &model, rec->n_generated);
    count_times(m, rec, model);
}

/* Names the model as the client did, but no more of it than makes a name. */
static void log_request(const struct watch_record *rec)
{
    const char *code = rec->code ? rec->code : "";
    char model[65];
    snprintf(model, sizeof(model), "%s", rec->model ? rec->model : "");
    const struct log_field fields[] = {
        LOG_TEXT("request_id", rec->request_id),
        LOG_TEXT("model", model),
        LOG_TEXT("api", rec->api),
        LOG_NUMBER("status", rec->status),
        LOG_TEXT("code", code),
        LOG_NUMBER("prompt_tokens", rec->n_prompt),
        LOG_NUMBER("cached_tokens", rec->n_cached),
        LOG_NUMBER("generated_tokens", rec->n_generated),
        LOG_NUMBER("queue_ms", rec->queue_ms),
        LOG_NUMBER("ttft_ms", rec->ttft_ms),
        LOG_NUMBER("total_ms", rec->total_ms),
        /* the last two at debug level only */
        LOG_TEXT("key", rec->key),
        LOG_TEXT("client", rec->client),
    };
    size_t n = ARRAY_LEN(fields) - (log_enabled(LOG_LEVEL_DEBUG) ? 0 : 2);
    log_write_fields(rec->status >= 500 ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, fields, n, "request");
}

/* Whether the runner has found the model: a worker has begun with it, or the refusal is one that
 * comes only after that (daemon/api/error.c has the codes). */
static bool is_found(const struct watch_record *rec)
{
    static const char *const later[] = {
        "worker_crashed", "insufficient_memory",    "corrupt_model", "queue_full", "model_broken",
        "timeout",        "context_length_exceeded"};
    if (rec->n_prompt || (rec->digest && rec->digest[0]))
        return true;
    for (size_t i = 0; rec->code && i < ARRAY_LEN(later); i++) {
        if (strcmp(rec->code, later[i]) == 0)
            return true;
    }
    return false;
}

void watch_request(struct watch *w, const struct watch_record *rec)
{
    const char *model = watch_model_label(w, rec->model ? rec->model : "", is_found(rec));
    count_request(&w->metrics, rec, model);
    metrics_add(&w->metrics, METRIC_requests_in_flight, &rec->api, -1);
    audit_write(&w->audit, rec);
    log_request(rec);
}

void watch_answer(struct watch *w, const char *request_id, const char *route, int status,
                  double total_ms)
{
    char code[16];
    snprintf(code, sizeof(code), "%d", status ? status : STATUS_CLIENT_LEFT);
    const char *const labels[] = {route, code};
    metrics_add(&w->metrics, METRIC_http_answers, labels, 1);
    const struct log_field fields[] = {LOG_TEXT("request_id", request_id), LOG_TEXT("route", route),
                                       LOG_NUMBER("status", status),
                                       LOG_NUMBER("total_ms", total_ms)};
    log_write_fields(LOG_LEVEL_DEBUG, fields, ARRAY_LEN(fields), "answer");
}

void watch_change(struct watch *w, const struct watch_change *c)
{
    const char *const labels[] = {c->action, c->code};
    const struct log_field fields[] = {LOG_TEXT("request_id", c->request_id),
                                       LOG_TEXT("operation", c->action),
                                       LOG_TEXT("model", c->model ? c->model : ""),
                                       LOG_TEXT("digest", c->digest ? c->digest : ""),
                                       LOG_NUMBER("bytes", (double)c->bytes),
                                       LOG_NUMBER("total_ms", c->total_ms),
                                       LOG_TEXT("code", c->code),
                                       LOG_TEXT("why", c->sentence)};
    metrics_add(&w->metrics, METRIC_store_changes, labels, 1);
    metrics_add(&w->metrics, METRIC_store_moved, &c->action, (int64_t)c->bytes);
    audit_change(&w->audit, c);
    log_write_fields(c->code[0] && strcmp(c->code, "cancelled") != 0 ? LOG_LEVEL_WARN
                                                                     : LOG_LEVEL_INFO,
                     fields, ARRAY_LEN(fields) - (c->code[0] ? 0 : 2), "store");
}

void watch_denied(struct watch *w, const char *rule)
{
    metrics_add(&w->metrics, METRIC_policy_denied, &rule, 1);
}
