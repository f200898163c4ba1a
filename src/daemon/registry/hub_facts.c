/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to say of a model from a hub: read by a short-lived worker, or, where that cannot
 * make sense of the files, told by their names and sizes alone. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/registry/hub_files.h"
#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/ipc/probe.h"
#include "lib/oci/config.h"

static bool is_weights(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_DDUF;
}

static const char *format_of(enum oci_role role)
{
    return role == ROLE_GGUF ? "gguf" : role == ROLE_DDUF ? "dduf" : "safetensors";
}

static int dup_text(struct arena *a, const char *s, const char **ret, struct err *err)
{
    *ret = arena_try_dup(a, s, strlen(s), err);
    return *ret ? 0 : -err->code;
}

static int by_names(const struct hub_files *files, struct arena *a, struct oci_config *ret,
                    struct err *err)
{
    char text[OCI_HUMAN_CHARS];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < files->n; i++) {
        const struct hub_file *file = &files->items[i];
        if (!is_weights(file->role))
            continue;
        bytes += file->size;
        ret->format = format_of(file->role);
        if (file->role == ROLE_GGUF && !ret->quantization[0]) {
            struct str q = hub_quant_of(file->path);
            ret->quantization = arena_try_dup(a, q.p, q.len, err);
            if (!ret->quantization)
                return -err->code;
        }
    }
    oci_put_human_bytes(bytes, text);
    return dup_text(a, text, &ret->size, err);
}

/* What the worker read, in the words of a config. */
static int by_probe(const struct probe_facts *f, struct arena *a, struct oci_config *ret,
                    struct err *err)
{
    char text[OCI_HUMAN_CHARS];
    struct oci_pairs pairs = {.n = f->n_metadata};
    struct oci_pair *items = arena_try_alloc(a, MAX_OF(f->n_metadata, 1u) * sizeof(*items), err);
    if (!items)
        return -err->code;
    for (uint32_t i = 0; i < f->n_metadata; i++)
        items[i] = (struct oci_pair){f->metadata[i].key, f->metadata[i].value};
    pairs.items = items;
    ret->format = f->format;
    ret->architecture = f->architecture;
    ret->quantization = f->quantization[0] ? f->quantization : ret->quantization;
    ret->context_size = f->context_size;
    if (strcmp(f->format, "gguf") == 0)
        ret->gguf = pairs;
    else if (strcmp(f->format, "safetensors") == 0)
        ret->safetensors = pairs;
    else
        ret->diffusers = pairs;
    oci_put_human_bytes(f->weight_bytes, text);
    int rc = dup_text(a, text, &ret->size, err);
    if (rc == 0 && f->n_params) {
        oci_put_human_count(f->n_params, text);
        rc = dup_text(a, text, &ret->parameters, err);
    }
    return rc;
}

/* Descriptors of what a probe reads; *ret_n are open in any case. */
static int open_files(struct store *s, const struct hub_files *files, struct arena *a,
                      struct probe_file **ret, uint32_t *ret_n, struct err *err)
{
    int rc = 0;
    *ret_n = 0;
    *ret = arena_try_alloc(a, MAX_OF(files->n, 1u) * sizeof(**ret), err);
    if (!*ret)
        return -err->code;
    for (uint32_t i = 0; rc == 0 && i < files->n; i++) {
        const struct hub_file *file = &files->items[i];
        bool is_wanted = file->role != ROLE_MMPROJ && probe_wants(file->path);
        if (!is_wanted)
            continue;
        if (*ret_n == LIMIT_MSG_FDS)
            return err_set(err, E_LIMIT, "the model has more than %u files of weights",
                           LIMIT_MSG_FDS);
        struct probe_file *p = &(*ret)[*ret_n];
        p->name = file->path;
        rc = store_blob_open(s, file->digest, &p->fd, err);
        *ret_n += rc == 0;
    }
    return rc;
}

/* Files that a worker has read, and found to be something else: this says the same every time. */
static bool is_verdict(int code)
{
    return code == E_FORMAT || code == E_UNSUPPORTED || code == E_LIMIT || code == E_INVALID;
}

int hub_facts(struct job *j, const struct hub_files *files, struct arena *a, struct oci_config *ret,
              struct err *err)
{
    struct probe_file *probes;
    struct probe_facts facts;
    struct err e = ERR_INIT;
    uint32_t n;
    oci_config_init(ret, OCI_CONFIG_DOCKER_V01);
    int rc = by_names(files, a, ret, err);
    if (rc < 0)
        return rc;
    rc = open_files(j->r->store, files, a, &probes, &n, &e);
    if (rc == 0)
        rc = probe_run(probes, n, a, &facts, &e);
    for (uint32_t i = 0; i < n; i++)
        close(probes[i].fd);
    if (rc == 0)
        return by_probe(&facts, a, ret, err);
    if (is_verdict(e.code)) {
        job_note(j, true, "The model is described by its files' names alone: %s", e.msg);
        return 0;
    }
    *err = e;
    return rc;
}
