/* SPDX-License-Identifier: Apache-2.0 */
/* Renders JSON lines: {"template": …, "context": {…}, "now": unix} each to {"output": …} or
 * {"error": …, "code": …}. The other side of dev/jinja_diff.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja.h"

static void answer(const json_t *req)
{
    struct err err = ERR_INIT;
    struct jinja *j = NULL;
    struct jinja_output out;
    const json_t *t = json_object_get(req, "template");
    struct jinja_options opt = {.context = json_object_get(req, "context"),
                                .input_keys = "messages,tools,documents",
                                .now_unix = json_integer_value(json_object_get(req, "now"))};
    json_t *res;
    jinja_output_init(&out);
    int rc = jinja_compile((struct str){json_string_value(t), json_string_length(t)}, &j, &err);
    if (rc == 0)
        rc = jinja_render(j, &opt, &out, &err);
    if (rc == 0)
        res = json_pack("{s:s%}", "output", buf_str(&out.text), out.text.len);
    else
        res = json_pack("{s:s, s:s}", "error", err.msg, "code", err_code_name(err.code));
    if (!res)
        res = json_pack("{s:s}", "error", "no valid JSON");
    json_dumpf(res, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(res);
    jinja_output_release(&out);
    jinja_free(j);
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        json_error_t e;
        json_t *req = json_loadb(line, (size_t)n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
        if (!req)
            printf("{\"error\":\"bad request\"}\n");
        else
            answer(req);
        json_decref(req);
    }
    free(line);
    return 0;
}
