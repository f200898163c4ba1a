/* SPDX-License-Identifier: Apache-2.0 */
/* What to call a model's quantisation, and how many parameters it has: labels for people, which
 * nothing computes with.  Any thread. */
#include "worker/model/gguf_int.h"

/* llama.cpp's file types, as general.file_type numbers them. */
static const char *const file_types[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",      [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M",    [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS",    [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL",    [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS",    [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4_MOE",
};

/* Set in general.file_type when the writer guessed it. */
#define FILE_TYPE_GUESSED 1024u

static const char *file_type_name(const struct gguf *g)
{
    const struct gguf_value *v = gguf_find(g, "general.file_type");
    if (!v || !gguf_type_is_int(v->type))
        return NULL;
    uint64_t id = gguf_item_u64(v, 0) & ~(uint64_t)FILE_TYPE_GUESSED;
    return id < ARRAY_LEN(file_types) ? file_types[id] : NULL;
}

/* The type of most of the weights' bytes, or NULL without weights.  Vectors do not count: they are
 * never quantised. */
static const struct dtype_info *type_of_most(const struct gguf *g)
{
    uint64_t bytes[DTYPE_N] = {0};
    enum dtype best = DTYPE_F32;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        if (t->n_dims > 1 && dtype_info(t->type)->is_weight)
            bytes[t->type] += t->n_bytes;
        if (bytes[t->type] > bytes[best])
            best = t->type;
    }
    return bytes[best] ? dtype_info(best) : NULL;
}

const char *gguf_quant_name(const struct gguf *g)
{
    const char *said = file_type_name(g);
    const struct dtype_info *most = type_of_most(g);
    if (!most)
        return said ? said : "unknown";
    /* Tools that quantise a converted file sometimes leave its old label: it calls itself plain and
     * is not, or the reverse.  Among quantised types the label knows best: it names the mixture. */
    bool is_plain = most->block_elements == 1;
    bool said_plain = said == file_types[0] || said == file_types[1] || said == file_types[32];
    return said && !said_plain && !is_plain ? said : most->name;
}

uint64_t gguf_n_params(const struct gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        const uint64_t *d = g->tensors[i].dims;
        sum += d[0] * d[1] * d[2] * d[3]; /* each at most 2^63: checked at open */
    }
    return sum;
}
