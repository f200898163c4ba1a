/* SPDX-License-Identifier: Apache-2.0 */
/* `berth keys`: which keys a daemon knows by name, and what they were used for. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/models.h"
#include "cli/table.h"

static void print_keys(const json_t *keys)
{
    static const char *const titles[] = {"KEY",    "SCOPES",    "REQUESTS",
                                         "PROMPT", "GENERATED", "LAST USED"};
    struct table t;
    size_t i;
    const json_t *k;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach(keys, i, k)
    {
        const json_t *scopes = json_object_get(k, "scopes");
        const char *first = json_string_value(json_array_get(scopes, 0)),
                   *second = json_string_value(json_array_get(scopes, 1));
        char text[64];
        snprintf(text, sizeof(text), "%s%s%s", first ? first : "", second ? "," : "",
                 second ? second : "");
        const char *name = json_string_value(json_object_get(k, "name"));
        table_add(&t, name ? name : "");
        table_add(&t, text);
        table_add_number(&t, answer_number(k, "requests"));
        table_add_number(&t, answer_number(k, "prompt_tokens"));
        table_add_number(&t, answer_number(k, "generated_tokens"));
        table_add_ago(&t, answer_number(k, "last_used"));
    }
    table_print(&t);
    table_release(&t);
}

int cmd_keys(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *answer = NULL;
    int rc = client_init(&c, &a->config, &err);
    if (rc == 0)
        rc = client_json(&c, "GET", "/berth/v1/keys", NULL, &answer, &err);
    if (rc < 0)
        return cli_fail(&err);
    if (cli_has(a, "json"))
        cli_print_json(answer);
    else if (!json_is_true(json_object_get(answer, "required")))
        puts("the daemon asks for no key (it was started without --api-keys)");
    else
        print_keys(json_object_get(answer, "keys"));
    json_decref(answer);
    return CLI_OK;
}
