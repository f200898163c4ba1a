/* SPDX-License-Identifier: Apache-2.0 */
/* Implements facts.h. */
#include "cli/artifact/facts.h"

#include <stdio.h>
#include <string.h>

#include "cli/models.h"

void facts_of(const json_t *m, struct model_facts *ret)
{
    const json_t *config = json_object_get(m, "config");
    const json_t *inner = json_object_get(config, "config");
    bool is_pack = json_is_object(json_object_get(config, "modelfs")) ||
                   *answer_text(inner, "paramSize") ||
                   *answer_text(json_object_get(config, "descriptor"), "createdAt");
    const json_t *c = json_is_object(inner) ? inner : config;
    *ret = (struct model_facts){
        .format = answer_text(c, "format"),
        .architecture = answer_text(c, "architecture"),
        .parameters = answer_text(c, is_pack ? "paramSize" : "parameters"),
        .quantization = answer_text(c, "quantization"),
        .size = answer_text(c, "size"),
        .context_size = (int64_t)answer_number(c, "context_size"),
        .created_unix = (int64_t)answer_number(m, "created"),
        .config = c,
        .is_modelpack = is_pack,
    };
}

/* s without a prefix it has. */
static const char *without(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? s + n : s;
}

const char *facts_clear_name(const char *tag, char *ret, unsigned size)
{
    static const char latest[] = ":latest";
    const char *s = without(without(tag, "index.docker.io/"), "docker.io/");
    size_t n = strlen(s), n_latest = sizeof(latest) - 1;
    if (n > n_latest && strcmp(s + n - n_latest, latest) == 0)
        n -= n_latest;
    snprintf(ret, size, "%.*s", (int)n, s);
    return ret;
}

const char *facts_short_name(const char *tag, char *ret, unsigned size)
{
    facts_clear_name(tag, ret, size);
    const char *s = without(ret, "ai/");
    memmove(ret, s, strlen(s) + 1);
    return ret;
}
