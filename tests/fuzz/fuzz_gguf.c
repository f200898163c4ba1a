/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF: opens the input as a file and looks at everything in it.  A sanitizer does not see a read
 * between the file's end and its last page's, so every view is also held to the file by its
 * address. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "worker/model/gguf_int.h"
#include "worker/model/gguf_show.h"
#include "worker/model/hparams.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum_bytes(const char *p, uint64_t n)
{
    unsigned sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += (unsigned char)p[i];
    return sum;
}

static bool is_inside(const struct gguf *g, const char *p, uint64_t n)
{
    const struct gguf_shard *s = &g->shards[0];
    return p >= s->base && n <= s->file_bytes && (uint64_t)(p - s->base) <= s->file_bytes - n;
}

static unsigned value_walk(const struct gguf *g, const struct gguf_value *v)
{
    BUG_ON(!is_inside(g, v->key.p, v->key.len) || !is_inside(g, v->data, v->data_bytes));
    unsigned sum = sum_bytes(v->key.p, v->key.len) + sum_bytes(v->data, v->data_bytes);
    struct str s;
    size_t cursor = 0;
    uint64_t n = 0;
    if (v->type == GGUF_ARRAY && v->item_type == GGUF_STRING) {
        for (; gguf_next_str(v, &cursor, &s); n++)
            sum += sum_bytes(s.p, s.len);
        BUG_ON(n != v->n_items || cursor != v->data_bytes);
    } else if (v->type != GGUF_STRING) {
        for (uint64_t i = 0; i < v->n_items; i++)
            sum += gguf_item_f64(v, i) > 0;
    }
    return sum;
}

static unsigned tensor_walk(const struct gguf *g, uint64_t size)
{
    unsigned sum = 0;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const struct dtype_info *ty = dtype_info(t->type);
        BUG_ON(t->offset > size || t->n_bytes > size - t->offset ||
               !is_inside(g, t->name.p, t->name.len));
        BUG_ON(dtype_row_bytes(ty, t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]) !=
               t->n_bytes);
        BUG_ON((uintptr_t)t->data % 8);
        sum += sum_bytes(t->data, t->n_bytes);
    }
    return sum;
}

static void hparams_check(const struct gguf *g, struct err *err)
{
    struct hparams h;
    if (hparams_from_gguf(g, &h, err) < 0)
        return;
    BUG_ON(!h.arch[0] || !h.n_layer || !h.n_embd || !h.n_vocab || !h.n_ctx_train || !h.k_dim ||
           !h.v_dim);
    BUG_ON(h.n_rot % 2 || h.n_rot > h.k_dim || !(h.rope_base > 0) || !(h.rope_factor > 0));
    for (uint32_t i = 0; i < h.n_layer; i++)
        BUG_ON(!h.layers[i].n_head || !h.layers[i].n_head_kv ||
               h.layers[i].n_head % h.layers[i].n_head_kv);
    BUG_ON(h.n_expert_used > h.n_expert || (h.n_expert && !h.n_expert_used));
    hparams_release(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* One anonymous file for all inputs: creating one costs more than reading one. */
    static int fd = -1;
    static volatile unsigned sink;
    const char *name = "fuzz.gguf";
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    if (gguf_open(&fd, &name, 1, size % 8 == 7 ? GGUF_HEADER_ONLY : 0, &g, &err) < 0) {
        BUG_ON(!err.msg[0] || !err.code);
        return 0;
    }
    for (uint32_t i = 0; i < gguf_n_values(g); i++)
        sink += value_walk(g, gguf_value_at(g, i));
    if (size % 8 != 7)
        sink += tensor_walk(g, size);
    hparams_check(g, &err);
    struct buf out;
    buf_init(&out, 4 << 20);
    int rc = gguf_show_json(g, size & 1 ? GGUF_SHOW_ALL : 0, &out, &err);
    BUG_ON(rc < 0 && rc != -E_LIMIT);
    buf_release(&out);
    gguf_close(g);
    return 0;
}
