/* SPDX-License-Identifier: Apache-2.0 */
/* `berth show`: what an artifact says of itself, in the store or in a registry. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/artifact/facts.h"
#include "cli/artifact/artifact.h"
#include "cli/table.h"
#include "lib/base/limits.h"

static void print_pairs(const char *title, const json_t *pairs)
{
    const char *titles[] = {title, "VALUE"};
    struct table t;
    const char *key;
    json_t *v;
    if (json_object_size(pairs) == 0)
        return;
    table_init(&t, titles, 2);
    json_object_foreach((json_t *)pairs, key, v)
    {
        char cell[80];
        const char *text = json_is_string(v) ? json_string_value(v) : "";
        snprintf(cell, sizeof(cell), "%.60s%s", text, strlen(text) > 60 ? "..." : "");
        table_add(&t, key);
        table_add(&t, cell);
    }
    putchar('\n');
    table_print(&t);
    table_release(&t);
}

void show_facts(const json_t *m)
{
    struct model_facts f;
    const json_t *tag;
    size_t i;
    char ago[32];
    facts_of(m, &f);
    json_array_foreach(json_object_get(m, "tags"), i, tag)
        fact_print(i ? "" : "names", "%s", json_string_value(tag));
    fact_print("digest", "%s", answer_text(m, "id"));
    text_ago(f.created_unix, ago);
    if (*ago)
        fact_print("created", "%s", ago);
    const struct {
        const char *name, *value;
    } facts[] = {{"format", f.format},
                 {"architecture", f.architecture},
                 {"parameters", f.parameters},
                 {"size", f.size},
                 {"quantization", f.quantization}};
    for (i = 0; i < ARRAY_LEN(facts); i++) {
        if (*facts[i].value)
            fact_print(facts[i].name, "%s", facts[i].value);
    }
    if (f.context_size)
        fact_print("context", "%lld tokens", (long long)f.context_size);
}

void show_metadata(const json_t *m)
{
    struct model_facts f;
    facts_of(m, &f);
    print_pairs("GGUF", json_object_get(f.config, "gguf"));
    print_pairs("SAFETENSORS", json_object_get(f.config, "safetensors"));
    print_pairs("DIFFUSERS", json_object_get(f.config, "diffusers"));
}

int cmd_show(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *m = NULL;
    int rc = artifact_client(a, &c, &err);
    if (rc == 0)
        rc = artifact_model(&c, a->operands[0], cli_has(a, "remote"), &m, &err);
    if (rc == 0 && cli_has(a, "json"))
        cli_print_json(m);
    if (rc == 0 && !cli_has(a, "json")) {
        show_facts(m);
        show_metadata(m);
    }
    json_decref(m);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}
