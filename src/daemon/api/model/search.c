/* SPDX-License-Identifier: Apache-2.0 */
/* GET /berth/v1/search: what Docker Hub and Hugging Face have under a term. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/info.h"
#include "daemon/api/model/model_api.h"
#include "daemon/registry/search.h"

#define LIMIT_DEFAULT 32u

/* 1 to SEARCH_LIMIT_MAX in digits; 0: it is something else. */
static uint32_t limit_of(const char *text)
{
    uint32_t n = 0;
    size_t len = strlen(text);
    if (len > 3 || strspn(text, "0123456789") != len)
        return 0;
    for (; *text; text++)
        n = n * 10 + (uint32_t)(*text - '0');
    return n <= SEARCH_LIMIT_MAX ? n : 0;
}

static void search(struct api *a, struct httpd_request *r, const char *rest)
{
    const char *term = httpd_query_value(r, "q"), *source = httpd_query_value(r, "source"),
               *limit = httpd_query_value(r, "limit");
    unsigned sources = search_sources(source ? source : "");
    uint32_t n = limit ? limit_of(limit) : LIMIT_DEFAULT;
    char said[128];
    struct err err = ERR_INIT;
    struct buf out;
    (void)rest;
    if (!sources || !n || (term && strlen(term) > SEARCH_TERM_BYTES)) {
        if (!sources)
            snprintf(said, sizeof(said), "'source' is none of all, dockerhub and huggingface");
        else if (!n)
            snprintf(said, sizeof(said), "'limit' is not a number from 1 to %u", SEARCH_LIMIT_MAX);
        else
            snprintf(said, sizeof(said), "'q' has more than %u bytes", SEARCH_TERM_BYTES);
        model_fail_status(r, 400, "invalid_value", said);
        return;
    }
    buf_init(&out, INFO_LIST_MAX_BYTES);
    if (registry_search(a->cfg.registry, term ? term : "", sources, n, &out, &err) < 0)
        model_fail(r, &err);
    else
        api_answer_json(r, 200, &out);
    buf_release(&out);
}

void handle_search(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, search);
}
