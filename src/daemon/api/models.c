/* SPDX-License-Identifier: Apache-2.0 */
/* What is there: the version, and the models as OpenAI's clients list them. */
#include "daemon/api/info.h"

void handle_root(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)a;
    (void)rest;
    httpd_answer(r, 200, "text/plain; charset=utf-8", STR_LIT("berth is running\n"));
}

void handle_version(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)a;
    (void)rest;
    httpd_answer(r, 200, API_JSON, STR_LIT("{\"version\":\"" BERTH_VERSION "\"}"));
}

void handle_models(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    if (!info_list(a, r, &list))
        return;
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_append_str(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < list.n; i++) {
        if (i)
            buf_append_char(&out, ',');
        info_put_openai(&list.items[i], &out);
    }
    buf_append_str(&out, "]}");
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}

void handle_model(struct api *a, struct httpd_request *r, const char *rest)
{
    info_answer(a, r, rest, info_put_openai);
}
