/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tensor descriptions: reads them, computes their sizes with checked arithmetic and holds
 * their places in the file to the format's rule: one after the other, each padded to the alignment,
 * nothing past the end. Private to worker/model; any thread. */
#include <stdio.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/gguf_int.h"

/* Types that other readers know and berth does not, for the message. */
static const char *foreign_type_name(uint32_t id)
{
    static const char *const names[] = {
        [9] = "Q8_1",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
        [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S",   [29] = "IQ1_M",  [34] = "TQ1_0",
        [35] = "TQ2_0", [40] = "NVFP4", [41] = "Q1_0",    [42] = "Q2_0",
    };
    return id < ARRAY_LEN(names) ? names[id] : NULL;
}

static int type_check(const struct gguf_tensor *t, uint32_t id, struct err *err)
{
    const char *foreign = foreign_type_name(id);
    if (dtype_info(id)->name)
        return 0;
    if (foreign)
        return err_set(err, E_UNSUPPORTED,
                       "tensor '%.*s': its type %s is not read by berth; take the model in F16, "
                       "Q8_0, Q4_K_M or "
                       "another quantisation without codebooks",
                       GGUF_NAME_ARG(t->name), foreign);
    return err_set(err, E_FORMAT, "tensor '%.*s': its type %u is unknown", GGUF_NAME_ARG(t->name),
                   id);
}

/* Elements and bytes of t, from its dimensions and type. */
static int size_compute(struct gguf_tensor *t, struct err *err)
{
    const struct dtype_info *ty = dtype_info(t->type);
    uint64_t n_rows = 1, n_blocks, n_elements;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0 || t->dims[d] > INT64_MAX)
            return err_set(err, E_FORMAT,
                           "tensor '%.*s': dimension %u is %lld; it must be at least 1",
                           GGUF_NAME_ARG(t->name), d, (long long)t->dims[d]);
    }
    if (t->dims[0] % ty->block_elements)
        return err_set(err, E_FORMAT,
                       "tensor '%.*s': its rows of %llu elements are not whole blocks of %u "
                       "elements of type %s",
                       GGUF_NAME_ARG(t->name), (unsigned long long)t->dims[0], ty->block_elements,
                       ty->name);
    bool fits = size_mul(t->dims[1], t->dims[2], &n_rows) &&
                size_mul(n_rows, t->dims[3], &n_rows) &&
                size_mul(n_rows, t->dims[0], &n_elements) && n_elements <= INT64_MAX &&
                size_mul(n_rows, t->dims[0] / ty->block_elements, &n_blocks) &&
                size_mul(n_blocks, ty->block_bytes, &t->n_bytes);
    if (!fits)
        return err_set(
            err, E_FORMAT, "tensor '%.*s': its dimensions %llu x %llu x %llu x %llu overflow",
            GGUF_NAME_ARG(t->name), (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
            (unsigned long long)t->dims[2], (unsigned long long)t->dims[3]);
    return 0;
}

static int tensor_read(struct gguf_tensor *t, struct gguf_reader *r, struct err *err)
{
    uint32_t type = 0;
    int rc = gguf_read_name(r, LIMIT_GGUF_TENSOR_NAME, &t->name, err);
    if (rc == 0)
        rc = gguf_read_u32(r, "number of dimensions", &t->n_dims, err);
    if (rc < 0)
        return rc;
    if (t->n_dims == 0)
        return err_set(err, E_FORMAT, "tensor '%.*s': it has no dimensions",
                       GGUF_NAME_ARG(t->name));
    if (t->n_dims > LIMIT_GGUF_DIMS)
        return err_set(err, E_LIMIT, "tensor '%.*s': it has %u dimensions; at most %u are read",
                       GGUF_NAME_ARG(t->name), t->n_dims, LIMIT_GGUF_DIMS);
    for (uint32_t d = 0; d < LIMIT_GGUF_DIMS; d++)
        t->dims[d] = 1;
    for (uint32_t d = 0; rc == 0 && d < t->n_dims; d++)
        rc = gguf_read_u64(r, "dimensions", &t->dims[d], err);
    if (rc == 0)
        rc = gguf_read_u32(r, "type", &type, err);
    if (rc == 0)
        rc = gguf_read_u64(r, "offset", &t->offset, err);
    if (rc == 0)
        rc = type_check(t, type, err);
    if (rc < 0)
        return rc;
    t->type = (enum dtype)type;
    return size_compute(t, err);
}

int gguf_tensors_read(struct gguf_tensor *t, struct gguf_reader *r, uint32_t n, uint32_t shard,
                      struct err *err)
{
    r->part = GGUF_PART_TENSOR;
    r->n = n;
    for (uint32_t i = 0; i < n; i++) {
        r->index = i;
        r->name = (struct str){0};
        t[i].shard = shard;
        int rc = tensor_read(&t[i], r, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int gguf_tensors_place(struct gguf_tensor *t, uint32_t n, uint64_t data_start, uint32_t alignment,
                       uint64_t file_bytes, struct err *err)
{
    uint64_t expected = 0; /* from data_start */
    for (uint32_t i = 0; i < n; i++) {
        uint64_t start, end;
        if (t[i].offset % alignment)
            return err_set(err, E_FORMAT,
                           "tensor '%.*s': its offset %llu is not a multiple of the alignment %u",
                           GGUF_NAME_ARG(t[i].name), (unsigned long long)t[i].offset, alignment);
        if (!size_add(data_start, t[i].offset, &start) || !size_add(start, t[i].n_bytes, &end) ||
            end > file_bytes)
            return err_set(
                err, E_FORMAT,
                "tensor '%.*s': its %llu bytes at offset %llu of the data end past the end of the "
                "file "
                "(%llu bytes, data from %llu); the file is damaged or was not copied whole",
                GGUF_NAME_ARG(t[i].name), (unsigned long long)t[i].n_bytes,
                (unsigned long long)t[i].offset, (unsigned long long)file_bytes,
                (unsigned long long)data_start);
        if (t[i].offset != expected)
            return err_set(err, E_FORMAT, "tensor '%.*s': its offset is %llu where %llu is due: %s",
                           GGUF_NAME_ARG(t[i].name), (unsigned long long)t[i].offset,
                           (unsigned long long)expected,
                           t[i].offset < expected ? "it overlaps the tensor before it"
                                                  : "there is a hole before it");
        /* end <= file_bytes, so the padded sum cannot overflow before the next check sees it. */
        expected += (t[i].n_bytes + alignment - 1) / alignment * alignment;
        t[i].offset = start;
    }
    /* One tensor fewer in the header, and all the data would be read from the wrong place: but then
     * the file is longer than its tensors. */
    uint64_t end = data_start + expected;
    if (file_bytes > end)
        return err_set(
            err, E_FORMAT,
            "header: the file has %llu bytes from offset %llu on, after all %u tensors, that "
            "nothing describes: the number of tensors is wrong or something was appended",
            (unsigned long long)(file_bytes - end), (unsigned long long)end, n);
    return 0;
}
