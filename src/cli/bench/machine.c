/* SPDX-License-Identifier: Apache-2.0 */
/* Implements machine.h. */
#include "cli/bench/machine.h"

#include <stdio.h>
#include <string.h>

#include "cli/self.h"

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

int machine_measure(struct machine *m, struct err *err)
{
    static const char *const argv[] = {"berth", "bench", "limits", "--json", NULL};
    size_t i;
    const json_t *peak;
    *m = (struct machine){.is_known = false};
    if (self_json(argv, "the measurement of the machine", &m->limits, err) < 0)
        return -err->code;
    m->read_bps = number(m->limits, "read_bytes_per_second");
    json_array_foreach(json_object_get(m->limits, "peaks"), i, peak)
    {
        const char *type = json_string_value(json_object_get(peak, "type"));
        double *to = !type                       ? NULL
                     : strcmp(type, "int8") == 0 ? &m->int8
                     : strcmp(type, "bf16") == 0 ? &m->bf16
                     : strcmp(type, "f32") == 0  ? &m->f32
                                                 : NULL;
        if (to && number(peak, "ops_per_second") > *to)
            *to = number(peak, "ops_per_second");
    }
    m->is_known = m->read_bps > 0;
    return 0;
}

void machine_release(struct machine *m)
{
    json_decref(m->limits);
}

/* A key of the model's own architecture, such as "llama.block_count". */
static const json_t *own(const json_t *file, const char *key)
{
    const json_t *metadata = json_object_get(file, "metadata");
    const char *arch = json_string_value(json_object_get(metadata, "general.architecture"));
    char name[160];
    snprintf(name, sizeof(name), "%.64s.%s", arch ? arch : "", key);
    return json_object_get(metadata, name);
}

/* Of a list, its first element: models whose layers differ in it are rare. */
static double own_number(const json_t *file, const char *key)
{
    const json_t *v = own(file, key);
    if (json_is_object(v))
        v = json_object_get(v, "first");
    return json_number_value(json_is_array(v) ? json_array_get(v, 0) : v);
}

/* Bytes of keys and values of one position as float16. */
static double kv_bytes_of(const json_t *file)
{
    double heads = own_number(file, "attention.head_count");
    double kv_heads = own_number(file, "attention.head_count_kv");
    double width = own_number(file, "embedding_length"), k, v;
    kv_heads = kv_heads > 0 ? kv_heads : heads;
    if (heads <= 0)
        return 0;
    k = own_number(file, "attention.key_length");
    v = own_number(file, "attention.value_length");
    k = k > 0 ? k : width / heads;
    v = v > 0 ? v : width / heads;
    return 2 * own_number(file, "block_count") * kv_heads * (k + v);
}

static void pick_peak(const char *type, const struct machine *m, struct work *w)
{
    bool is_half = strcmp(type, "F16") == 0 || strcmp(type, "BF16") == 0;
    if (strcmp(type, "F32") == 0 || (is_half && m->bf16 < m->f32)) {
        w->peak = m->f32;
        w->peak_name = "f32";
    } else if (is_half || m->int8 <= 0) {
        w->peak = MAX_OF(m->bf16, m->f32);
        w->peak_name = m->bf16 > m->f32 ? "bf16" : "f32";
    } else {
        w->peak = m->int8;
        w->peak_name = "int8";
    }
}

void work_of(const json_t *file, const struct machine *m, struct work *ret)
{
    const json_t *tensors = json_object_get(file, "tensors"), *t;
    double n_experts = own_number(file, "expert_count"),
           used = own_number(file, "expert_used_count");
    double most = 0;
    bool has_output = false;
    size_t i;
    *ret = (struct work){.is_known = json_array_size(tensors) > 0, .peak_name = ""};
    json_array_foreach((json_t *)tensors, i, t)
    {
        const char *name = json_string_value(json_object_get(t, "name"));
        has_output |= name && strcmp(name, "output.weight") == 0;
    }
    json_array_foreach((json_t *)tensors, i, t)
    {
        const json_t *shape = json_object_get(t, "shape");
        const char *name = json_string_value(json_object_get(t, "name"));
        const char *type = json_string_value(json_object_get(t, "type"));
        double share = name && strstr(name, "_exps.") && n_experts > 0 ? used / n_experts : 1;
        double n = 1, bytes = number(t, "bytes");
        size_t d;
        const json_t *side;
        json_array_foreach((json_t *)shape, d, side) n *= json_number_value(side);
        if (!name || !type || json_array_size(shape) < 2)
            continue;
        bool is_embedding = strcmp(name, "token_embd.weight") == 0;
        bool is_head = strcmp(name, "output.weight") == 0 || (is_embedding && !has_output);
        if (is_embedding && has_output)
            continue; /* one row a token */
        ret->step_bytes += bytes * share;
        if (!is_head)
            ret->prefill_flop += 2 * n * share;
        if (!is_head && bytes > most) { /* the type of the largest matrix stands for all */
            most = bytes;
            pick_peak(type, m, ret);
        }
    }
    ret->kv_bytes = kv_bytes_of(file);
}
