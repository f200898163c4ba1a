/* SPDX-License-Identifier: Apache-2.0 */
/* What watches the daemon asks: probes, metrics, the log. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_impl.h"
#include "daemon/watch/watch.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define ALIVE_LIMIT_MS    1000u
#define METRICS_MAX_BYTES (64u << 20)
#define METRICS_TYPE      "text/plain; version=0.0.4; charset=utf-8"

/* {"status":…} or, with why, {"status":…,"reason":…}; never kept by a proxy. */
static void answer_probe(struct httpd_request *r, int status, const char *word, const char *why)
{
    struct buf out;
    buf_init(&out, 16 * ERR_MSG_MAX);
    buf_printf(&out, "{\"status\":\"%s\"", word);
    if (why) {
        buf_append_str(&out, ",\"reason\":");
        json_put_str(&out, str_from(why));
    }
    buf_append_char(&out, '}');
    httpd_set_header(r, "Cache-Control", "no-store");
    if (status == 503)
        httpd_set_header(r, "Retry-After", "1");
    api_answer_json(r, status, &out);
}

void handle_livez(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    if (runner_is_alive(a->cfg.runner, ALIVE_LIMIT_MS))
        answer_probe(r, 200, "ok", NULL);
    else
        answer_probe(r, 503, "stuck", "the runner's thread has not answered for a second");
}

/* Whether a request that came now would be answered; why not. */
static bool is_ready(struct api *a, char *ret_why, size_t size)
{
    if (atomic_load(&a->is_draining)) {
        snprintf(ret_why, size, "the daemon is stopping: it ends running answers and takes no new");
        return false;
    }
    if (!runner_is_alive(a->cfg.runner, ALIVE_LIMIT_MS)) {
        snprintf(ret_why, size, "the runner's thread has not answered for a second");
        return false;
    }
    return runner_is_ready(a->cfg.runner, ret_why, size);
}

void handle_readyz(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    char why[ERR_MSG_MAX];
    if (is_ready(a, why, sizeof(why)))
        answer_probe(r, 200, "ok", NULL);
    else
        answer_probe(r, 503, "unavailable", why);
}

/* The same in the words of llama.cpp's server, whose clients wait for "ok". */
void handle_health(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    char why[ERR_MSG_MAX];
    struct buf out;
    if (is_ready(a, why, sizeof(why))) {
        answer_probe(r, 200, "ok", NULL);
        return;
    }
    buf_init(&out, 16 * ERR_MSG_MAX);
    buf_append_str(&out, "{\"error\":{\"code\":503,\"message\":");
    json_put_str(&out, str_from(why));
    buf_append_str(&out, ",\"type\":\"unavailable_error\"}}");
    httpd_set_header(r, "Cache-Control", "no-store");
    httpd_set_header(r, "Retry-After", "1");
    api_answer_json(r, 503, &out);
}

static void answer_metrics(struct api *a, struct httpd_request *r, bool with_vllm)
{
    struct buf out;
    struct err err = ERR_INIT;
    if (!a->cfg.watch) {
        api_answer_status(r, 404, "this daemon counts nothing");
        return;
    }
    buf_init(&out, METRICS_MAX_BYTES);
    if (watch_metrics(a->cfg.watch, a->cfg.runner, atomic_load(&a->httpd), with_vllm, &out, &err) <
        0) {
        struct api_error e;
        api_error_from(&e, &err);
        api_error_answer(r, &e);
    } else {
        httpd_answer_buf(r, 200, METRICS_TYPE, &out);
    }
    buf_release(&out);
}

void handle_metrics(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    answer_metrics(a, r, false);
}

void handle_metrics_vllm(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    answer_metrics(a, r, true);
}
