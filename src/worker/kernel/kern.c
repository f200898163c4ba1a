/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the level and puts the table together: ref/ first, then what each level up to the chosen
 * one adds. Any thread. */
#include "worker/kernel/kern.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/err.h"
#include "lib/sys/cpu.h"
#include "worker/kernel/attn.h"
#include "worker/kernel/ref/ref.h"
#if defined(__x86_64__)
#include "worker/kernel/x86/x86.h"
#elif defined(__aarch64__)
#include "worker/kernel/arm/arm.h"
#endif

static void fill_ref(struct kern *k)
{
    ref_matmul_fill(k);
    ref_dequant_fill(k);
    ref_rows_fill(k);
    ref_attn_fill(k);
}

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)

static bool has_avx2(void)
{
    return cpu_has(CPU_AVX2);
}

static void fill_avx2(struct kern *k)
{
    rows_avx2_fill(k);
    attn_avx2_fill(k);
    float_avx2_fill(k);
    quant_avx2_fill(k);
    panels_avx2_fill(k);
}

static bool has_avxvnni(void)
{
    return cpu_has(CPU_AVXVNNI);
}

static void fill_avxvnni(struct kern *k)
{
    quant_avxvnni_fill(k);
    panels_avxvnni_fill(k);
}

static bool has_avx512(void)
{
    return cpu_has(CPU_AVX512);
}

static void fill_avx512(struct kern *k)
{
    rows_avx512_fill(k);
    attn_avx512_fill(k);
    float_avx512_fill(k);
    quant_avx512_fill(k);
    panels_avx512_fill(k);
}

static bool has_avx512vnni(void)
{
    return cpu_has(CPU_AVX512VNNI);
}

static void fill_avx512vnni(struct kern *k)
{
    quant_avx512vnni_fill(k);
    panels_avx512vnni_fill(k);
}

static bool has_avx512bf16(void)
{
    return cpu_has(CPU_AVX512BF16);
}

static bool has_amx(void)
{
    return has_avx512vnni() && cpu_has(CPU_AMX_BF16);
}

static void fill_amx(struct kern *k)
{
    quant_amx_fill(k);
    panels_amx_fill(k);
}

#elif defined(__aarch64__)

static bool has_neon(void)
{
    return cpu_has(CPU_NEON);
}

static void fill_neon(struct kern *k)
{
    rows_neon_fill(k);
    attn_neon_fill(k);
    float_neon_fill(k);
    quant_neon_fill(k);
    panels_neon_fill(k);
}

static bool has_dotprod(void)
{
    return cpu_has(CPU_DOTPROD);
}

static void fill_dotprod(struct kern *k)
{
    quant_dotprod_fill(k);
    panels_dotprod_fill(k);
}

static bool has_i8mm(void)
{
    return cpu_has(CPU_I8MM);
}

static void fill_i8mm(struct kern *k)
{
    quant_i8mm_fill(k);
    panels_i8mm_fill(k);
}

#endif

/* Lowest first.  A level takes along all those above it in this list that the machine has. */
static const struct level {
    const char *name;
    bool (*available)(void);
    void (*fill)(struct kern *k);
} levels[] = {
    {"ref", always, fill_ref},
#if defined(__x86_64__)
    {"avx2", has_avx2, fill_avx2},
    {"avxvnni", has_avxvnni, fill_avxvnni},
    {"avx512", has_avx512, fill_avx512},
    {"avx512vnni", has_avx512vnni, fill_avx512vnni},
    {"avx512bf16", has_avx512bf16, float_avx512bf16_fill},
    {"amx", has_amx, fill_amx},
#elif defined(__aarch64__)
    {"neon", has_neon, fill_neon},
    {"dotprod", has_dotprod, fill_dotprod},
    {"i8mm", has_i8mm, fill_i8mm},
#endif
};

int kern_levels(const char *names[16])
{
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (levels[i].available())
            names[n++] = levels[i].name;
    return n;
}

static int refuse(const char *name, struct err *err)
{
    const char *names[16];
    char list[128] = "";
    int n = kern_levels(names);
    for (int i = 0, at = 0; i < n; i++)
        at += snprintf(list + at, sizeof(list) - (size_t)at, i ? ", %s" : "%s", names[i]);
    return err_set(err, E_INVALID, "CPU level '%s': this machine has %s", name, list);
}

int kern_init(struct kern *k, const char *max_level, struct err *err)
{
    const char *names[16];
    int n = kern_levels(names), top = n - 1;
    if (max_level)
        for (top = 0; top < n && strcmp(names[top], max_level) != 0; top++)
            ;
    if (top >= n)
        return refuse(max_level, err);
    memset(k, 0, sizeof(*k));
    for (size_t i = 0; k->level != names[top]; i++) {
        if (!levels[i].available())
            continue;
        levels[i].fill(k);
        k->level = levels[i].name;
    }
    return 0;
}

size_t kern_act_row_bytes(enum act_format format, uint32_t n_cols)
{
    if (format == ACT_Q8)
        return ((size_t)n_cols + 255) / 256 * sizeof(struct act_q8);
    const size_t n = ((size_t)n_cols * (format == ACT_BF16 ? 2 : sizeof(float)) + 63) / 64 * 64;
    /* An odd number of lines: the same column of many rows is not in the same few sets of a cache.
     */
    return format == ACT_BF16 ? n | 64 : n;
}

/* ---- the cache ---- */

const char *kv_type_name(enum kv_type type)
{
    static const char *const names[KV_N] = {
        [KV_F32] = "f32", [KV_F16] = "f16", [KV_BF16] = "bf16", [KV_Q8_0] = "q8_0"};
    return type < KV_N ? names[type] : "?";
}

size_t kern_kv_group_bytes(enum kv_type type, uint32_t k_dim)
{
    const size_t n = (size_t)k_dim * KV_LANES;
    switch (type) {
    case KV_F32: return 4 * n;
    case KV_Q8_0: return n + n / 32 * 2;
    default: return 2 * n;
    }
}

size_t kern_kv_row_bytes(enum kv_type type, uint32_t v_dim)
{
    const size_t n = ((size_t)v_dim + 15) / 16 * 16;
    switch (type) {
    case KV_F32: return 4 * n;
    case KV_Q8_0: return n + n / 32 * 2;
    default: return 2 * n;
    }
}

size_t kern_attn_part_floats(uint32_t v_dim)
{
    return attn_rec_floats(v_dim);
}

size_t kern_attn_scratch_floats(uint32_t k_dim, uint32_t v_dim)
{
    return (size_t)ATTN_ROWS * (ATTN_TILE + attn_q_floats(k_dim) + 2 * attn_rec_floats(v_dim)) +
           ATTN_TILE * attn_wide_floats(k_dim, v_dim) + ATTN_ROWS + 16;
}

uint32_t kern_attn_ranges(uint32_t pos, uint32_t window, uint32_t *ret_first)
{
    *ret_first = attn_first(pos, window) / ATTN_RANGE;
    return pos / ATTN_RANGE - *ret_first + 1;
}
