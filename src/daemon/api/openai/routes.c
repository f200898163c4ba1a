/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/completions and /v1/chat/completions: a body becomes a job (job.h), or only a load. */
#include <string.h>

#include "daemon/api/openai/job.h"
#include "daemon/api/load.h"

static int settings_of(void *ctx, const char *model, struct model_settings *ret, struct err *err)
{
    const struct api *a = ctx;
    return runner_settings_get(a->cfg.runner, model, ret, err);
}

/* DMR's header: the model is wanted in memory, an answer is not. */
static bool is_preload(const struct httpd_request *r)
{
    const char *v = httpd_header(r, "X-Preload-Only");
    return v && strcasecmp(v, "true") == 0;
}

static void generate(struct api *a, struct httpd_request *r, enum api_dialect dialect)
{
    struct api_body body;
    struct api_error e;
    api_watch_begin(api_call_of(r), dialect == API_CHAT ? "chat.completions" : "completions");
    if (api_body_parse(&body, dialect, httpd_body(r), settings_of, a, &e) < 0) {
        api_refuse_watched(r, NULL, &e);
        return;
    }
    httpd_body_release(r);
    if (is_preload(r)) {
        const struct run_options opt = {body.has_keep_alive, body.keep_alive_s, body.timeout_ms};
        load_start(a, r, body.model, &opt, LOAD_SILENT);
        api_body_release(&body);
        return;
    }
    job_start(a, r, &body);
}

void handle_completions(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    generate(a, r, API_COMPLETION);
}

void handle_chat_completions(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    generate(a, r, API_CHAT);
}
