/* SPDX-License-Identifier: Apache-2.0 */
/* A Compose file that berth lock reads: whatever it holds, the models that come out are texts and
 * lists of texts, and anything else is a sentence. */
#include <string.h>

#include "cli/lock/compose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *env(const char *name)
{
    return strcmp(name, "SET") == 0 ? "value" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static void note(void *ctx, const char *sentence)
{
    (void)ctx;
    BUG_ON(!*sentence);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    json_t *models = NULL;
    const json_t *m, *flag;
    size_t i, k;
    int rc = compose_models("compose.yaml", (struct str){(const char *)data, size}, env, note, NULL,
                            &models, &err);
    BUG_ON(rc < 0 && (!err.msg[0] || models));
    json_array_foreach(models, i, m)
    {
        BUG_ON(!json_is_string(json_object_get(m, "model")));
        json_array_foreach(json_object_get(m, "runtime_flags"), k, flag) BUG_ON(!json_is_string(flag));
    }
    json_decref(models);
    return 0;
}
