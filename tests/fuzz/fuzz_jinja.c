/* SPDX-License-Identifier: Apache-2.0 */
/* Jinja: any bytes as a template, rendered under a fixed conversation.  What comes out must be
 * valid UTF-8, and its runs must cover it. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/codec/utf8.h"
#include "worker/text/jinja.h"

static const char CONTEXT[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", "
    "\"content\": \"H\\u00e9 <b> {x}\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"c1\", \"type\": "
    "\"function\", \"function\":"
    " {\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": [1.5, true, null]}}}]},"
    " {\"role\": \"tool\", \"content\": [{\"type\": \"text\", \"text\": \"ok\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"d\", "
    "\"parameters\": {\"type\": \"object\","
    " \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}}}], "
    "\"add_generation_prompt\": true,"
    " \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"n\": 3, \"x\": 0.5, \"l\": [3, 1, 2], "
    "\"s\": \"one two  three\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *context;
    struct err err = ERR_INIT;
    struct jinja *j = NULL;
    struct jinja_output out;
    if (!context && !(context = json_loads(CONTEXT, 0, NULL)))
        abort();
    jinja_output_init(&out);
    struct jinja_options opt = {
        .context = context, .input_keys = "messages,tools", .now_unix = 1752148800};
    if (jinja_compile((struct str){(const char *)data, size}, &j, &err) == 0 &&
        jinja_render(j, &opt, &out, &err) == 0) {
        size_t sum = 0;
        for (size_t i = 0; i < out.n_runs; i++)
            sum += out.runs[i].len;
        if (sum != out.text.len || !utf8_is_valid((struct str){out.text.data, out.text.len}))
            abort();
    } else if (!err.code || err.code == E_INTERNAL || !err.msg[0]) {
        abort();
    }
    jinja_output_release(&out);
    jinja_free(j);
    return 0;
}
