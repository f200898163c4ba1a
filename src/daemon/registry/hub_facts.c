/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a model from a hub before anything reads it: by its files' names and sizes. */
#include <stdio.h>
#include <string.h>

#include "daemon/registry/hub_files.h"
#include "daemon/registry/registry_impl.h"
#include "lib/oci/config.h"

static bool is_weights(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_DDUF;
}

int hub_facts(struct store *s, const struct hub_files *files, struct arena *a,
              struct oci_config *ret, struct err *err)
{
    (void)s;
    char text[OCI_HUMAN_CHARS];
    uint64_t bytes = 0;
    oci_config_init(ret, OCI_CONFIG_DOCKER_V01);
    for (uint32_t i = 0; i < files->n; i++) {
        const struct hub_file *file = &files->items[i];
        if (!is_weights(file->role))
            continue;
        bytes += file->size;
        ret->format = file->role == ROLE_GGUF   ? "gguf"
                      : file->role == ROLE_DDUF ? "dduf"
                                                : "safetensors";
        if (file->role == ROLE_GGUF && !ret->quantization[0]) {
            struct str q = hub_quant_of(file->path);
            ret->quantization = arena_try_dup(a, q.p, q.len, err);
            if (!ret->quantization)
                return -err->code;
        }
    }
    oci_put_human_bytes(bytes, text);
    ret->size = arena_try_dup(a, text, strlen(text), err);
    return ret->size ? 0 : -err->code;
}
