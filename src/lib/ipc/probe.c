/* SPDX-License-Identifier: Apache-2.0 */
/* Implements probe.h: one PROBE to the worker with the descriptors beside it, one FACTS or
 * LOAD_FAILED back.  docs/PROTOCOL-ipc.md. */
#include "lib/ipc/probe.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/ipc/errand.h"

static bool has_ending(const char *s, const char *ending)
{
    size_t n = strlen(s), len = strlen(ending);
    return n >= len && strcasecmp(s + n - len, ending) == 0;
}

bool probe_wants(const char *name)
{
    return has_ending(name, ".gguf") || has_ending(name, ".dduf") ||
           has_ending(name, ".safetensors") || has_ending(name, ".safetensors.index.json") ||
           strcmp(name, "config.json") == 0;
}

/* ---- the exchange ---- */

static int request_make(const struct probe_file *files, uint32_t n, struct buf *out,
                        struct err *err)
{
    struct buf payload;
    buf_init(&payload, LIMIT_MSG_SMALL_BYTES);
    put_u32(&payload, n);
    for (uint32_t i = 0; i < n; i++)
        put_str(&payload, str_from(files[i].name));
    int rc = buf_status(&payload, "message PROBE", err);
    if (rc == 0)
        rc = frame_write(out, MSG_PROBE, payload.data, payload.len, err);
    buf_release(&payload);
    return rc;
}

/* ---- the answer ---- */

static int word_take(const json_t *root, const char *name, struct arena *a, const char **ret,
                     struct err *err)
{
    struct str s = STR_LIT("");
    int rc = json_field_str(root, name, &s, err);
    *ret = rc < 0 ? NULL : arena_try_dup(a, s.p, s.len, err);
    return *ret ? 0 : -err->code;
}

static int metadata_take(const json_t *root, struct arena *a, struct probe_facts *ret,
                         struct err *err)
{
    const json_t *map = NULL;
    const char *key;
    json_t *v;
    int rc = json_field_obj(root, "metadata", &map, err);
    if (rc < 1)
        return rc;
    ret->metadata =
        arena_try_alloc(a, MAX_OF(json_object_size(map), 1) * sizeof(*ret->metadata), err);
    if (!ret->metadata)
        return -err->code;
    json_object_foreach((json_t *)(uintptr_t)map, key, v)
    {
        struct probe_pair *p = &ret->metadata[ret->n_metadata];
        if (!json_is_string(v))
            return err_set(err, E_FORMAT, "'metadata' holds %s", json_kind(v));
        p->key = arena_try_dup(a, key, strlen(key), err);
        p->value = arena_try_dup(a, json_string_value(v), json_string_length(v), err);
        if (!p->key || !p->value)
            return -err->code;
        ret->n_metadata++;
    }
    return 0;
}

static int facts_take(struct str text, struct arena *a, struct probe_facts *ret, struct err *err)
{
    static const char *const formats[] = {"gguf", "safetensors", "dduf"};
    int64_t n_params = 0, n_bytes = 0, context = 0;
    json_t *root = NULL;
    bool known = false;
    *ret = (struct probe_facts){0};
    int rc = json_parse(text, &root, err);
    if (rc == 0)
        rc = word_take(root, "format", a, &ret->format, err);
    if (rc == 0)
        rc = word_take(root, "architecture", a, &ret->architecture, err);
    if (rc == 0)
        rc = word_take(root, "quantization", a, &ret->quantization, err);
    if (rc == 0)
        rc = json_field_int(root, "parameters", 0, INT64_MAX, &n_params, err);
    if (rc >= 0)
        rc = json_field_int(root, "bytes", 0, INT64_MAX, &n_bytes, err);
    if (rc >= 0)
        rc = json_field_int(root, "context_size", 0, INT32_MAX, &context, err);
    if (rc >= 0)
        rc = metadata_take(root, a, ret, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(formats); i++)
        known = known || strcmp(ret->format, formats[i]) == 0;
    if (rc == 0 && !known)
        rc = err_set(err, E_FORMAT, "'format' is none that was asked for");
    json_decref(root);
    ret->n_params = (uint64_t)n_params;
    ret->weight_bytes = (uint64_t)n_bytes;
    ret->context_size = (uint32_t)context;
    return rc < 0 ? err_wrap(err, "a worker's answer") : 0;
}

static int exchange(struct errand *e, const struct probe_file *files, uint32_t n, struct arena *a,
                    struct probe_facts *ret, struct err *err)
{
    struct buf out;
    struct frame f;
    int fds[LIMIT_MSG_FDS];
    for (uint32_t i = 0; i < n; i++)
        fds[i] = files[i].fd;
    buf_init(&out, 2 * LIMIT_MSG_SMALL_BYTES);
    int rc = request_make(files, n, &out, err);
    if (rc == 0)
        rc = errand_send(e, &out, fds, n, err);
    buf_release(&out);
    if (rc == 0)
        rc = errand_read(e, &f, err);
    if (rc == 0)
        return err_set(err, E_GONE, "the worker that read the model");
    if (rc < 0)
        return rc;
    if (f.type == MSG_FACTS)
        return facts_take(f.payload, a, ret, err);
    return f.type == MSG_LOAD_FAILED
               ? errand_refusal(f.payload, err)
               : err_set(err, E_FORMAT, "a worker answers with %s", msg_name(f.type));
}

int probe_run(const struct probe_file *files, uint32_t n, struct arena *a, struct probe_facts *ret,
              struct err *err)
{
    struct errand e = {.what = "reading the model", .timeout_ms = PROBE_TIMEOUT_MS};
    char memory[24];
    const char *const argv[] = {"berth", "worker", "--probe", memory, NULL};
    struct probe_file chosen[LIMIT_MSG_FDS];
    uint32_t n_chosen = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!probe_wants(files[i].name))
            continue;
        if (n_chosen == LIMIT_MSG_FDS)
            return err_set(err, E_LIMIT, "the model has more than %u files of weights",
                           LIMIT_MSG_FDS);
        chosen[n_chosen++] = files[i];
    }
    if (n_chosen == 0)
        return err_set(err, E_UNSUPPORTED,
                       "there are no weights that berth knows: no .gguf, .safetensors or .dduf");
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)PROBE_MEMORY_BYTES);
    int rc = errand_start(&e, argv, err);
    if (rc < 0)
        return rc;
    return errand_finish(&e, exchange(&e, chosen, n_chosen, a, ret, err), err);
}
