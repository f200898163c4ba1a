/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel table: every numeric routine the engine calls, as function pointers.
 *
 * kern_init fills it with ref/ C and overlays what the machine has (x86/, arm/), up to the level
 * that BERTH_CPU allows.  Every slot is tested against ref/ on every level (tests/kernel).
 *
 * Static contract (DESIGN, promise 1): the value of one output element depends on its own row and
 * column of input alone, never on how many other rows are in the call, on the range of rows asked
 * for, or on the thread: each slot reduces in one fixed order per level.  Kernels allocate nothing,
 * keep no state, and may run on any thread. Shapes are in elements unless a name says bytes;
 * `restrict` is implied: outputs never overlap inputs. */
#ifndef WORKER_KERNEL_KERN_H
#define WORKER_KERNEL_KERN_H

#include "worker/kernel/dtype.h"

/* Cuts of the rows of a matrix at its multiples are the fast ones; any cut gives the same values.
 */
enum { KERN_ROW_STEP = 32 };

/* Elements of a long row (of logits) that block_max and exp_blocks tell of together. */
enum { KERN_ROW_BLOCK = 128 };

/* The forms a row of activations may take before a matrix product. */
enum act_format {
    ACT_F32,  /* float32, as it is: for F32, F16, BF16 weights */
    ACT_BF16, /* rounded to bfloat16, ties to even; zeros to a multiple of 32: with tiles for all */
    ACT_Q8, /* int8 in blocks of 32 with a float32 scale and sums (act_q8): for quantised weights */
    ACT_N
};

/* One ACT_Q8 group: 8 blocks of 32, split by field so that a vector register takes each at once.
 *
 * Element e = 16 h + 4 j + i (h < 2, j < 4, i < 4) of block b:  x ~= d[b] * q[64 j + 32 h + 4 b +
 * i]. So the four bytes of a 32-bit lane belong to one half block, and adding up over j needs no
 * step across lanes.  sum[2 b + h] is that of half h's q; off and off_half hold -128 times such
 * sums, where a product with weights + 128 begins; ds[b] = d[b] * (the sum of block b), rounded.
 *
 * d = max|x| / 127, q = x * (127 / max|x|) to the nearest, ties to even.  A block with max|x| <
 * 1e-30 is all zero; one with an infinity or a NaN has q = 0 and d = NaN.  Blocks past the row's
 * end in its last group are zero. */
struct act_q8 {
    float d[8], ds[8];
    int32_t off[8], off_half[16];
    int16_t sum[16];
    int8_t q[256];
};

/* Where element c of a row lies in the q of its group. */
static inline uint32_t act_q8_at(uint32_t c)
{
    return c % 16 / 4 * 64 + c % 32 / 16 * 32 + c % 256 / 32 * 4 + c % 4;
}

/* n_tok rows of n_cols activations, all in one format. */
struct kern_act {
    enum act_format format;
    uint32_t n_tok, n_cols;
    size_t row_bytes; /* from one row to the next */
    const void *rows; /* borrowed, 64-byte aligned */
};

/* A weight matrix: n_rows rows (outputs) of n_cols elements (inputs), rows contiguous as in the
 * file. */
struct kern_mat {
    enum dtype type;
    uint32_t n_rows, n_cols;
    size_t row_bytes;
    const void *data; /* borrowed: usually mmap'd; may be unaligned */
    /* NULL, or the same rows as strips of panels.h, (n_rows + 15) / 16 of them one after the other:
     * borrowed, 64-byte aligned.  What matmul_panels reads in place of data. */
    const void *panels;
};

/* y[t * ld_y + (r - row0)] = sum_c w[r][c] * x[t][c]   for rows row0 <= r < row1 and every t <
 * x->n_tok. */
typedef void (*kern_matmul_fn)(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                               const struct kern_act *x, float *y, size_t ld_y);

/* dst[0..n) = the elements of the packed row src (n a multiple of the type's block). */
typedef void (*kern_dequant_fn)(const void *src, float *dst, uint32_t n);

/* The number types of the key/value cache, in the order of the option kv-cache-type's choices. */
enum kv_type { KV_F32, KV_F16, KV_BF16, KV_Q8_0, KV_N };
const char *kv_type_name(enum kv_type type);

enum {
    KV_LANES = 16,    /* positions whose keys lie together; blocks hold a multiple of them */
    ATTN_ROWS = 32,   /* query rows (positions times heads) that one call takes at most */
    ATTN_RANGE = 256, /* positions that are reduced on their own before they are joined */
};

/* How the cache lies in memory.  Keys: of KV_LANES positions together, element d of lane l at item
 * d * KV_LANES + l, so that a vector holds one element of 16 positions.  Values: position by
 * position, v_dim items and zeros up to a multiple of 16.  KV_Q8_0, by 32 elements of one position:
 * keys 16 float16 scales, then 32 x KV_LANES int8; values a float16 scale, then 32 int8.  Nothing
 * in a cache is infinite or NaN: stores bring what is within the type's range. */
size_t kern_kv_group_bytes(enum kv_type type, uint32_t k_dim); /* keys of KV_LANES positions */
size_t kern_kv_row_bytes(enum kv_type type, uint32_t v_dim);   /* values of one position */

/* Attention of n_pos consecutive positions pos, pos + 1, ... of one sequence: of the n_group query
 * heads that share one key/value head, over the sequence's paged cache:
 *
 *   s[i][g][p] = cap(scale * q[i][g] . k[p])   for first_i <= p <= pos + i
 *   out[i][g] = softmax(s[i][g] (+ sink)) . v
 *   cap(s) = softcap > 0 ? softcap * tanh(s / softcap) : s
 *   first_i = window && pos + i >= window ? pos + i - window + 1 : 0
 *
 * Position p lies in block block_table[p / block_len], row p % block_len.  Positions are reduced
 * by ranges of ATTN_RANGE, cut at its multiples, each from its beginning in one order; ranges are
 * joined in ascending order.  So an output depends on its own position alone: not on n_pos, not on
 * how the prompt was cut, not on which ranges were computed apart. */
struct kern_attn {
    const float
        *q;     /* [n_pos] rows of q_stride floats, each begins with [n_group][k_dim]; rotated */
    float *out; /* [n_pos] rows of out_stride floats, each begins with [n_group][v_dim] */
    size_t q_stride, out_stride;
    const uint32_t *block_table;
    const char *k, *v; /* base of this layer and head in block 0 */
    size_t k_block_stride_bytes, v_block_stride_bytes, k_group_stride_bytes, v_row_stride_bytes;
    uint32_t n_group, k_dim, v_dim;
    uint32_t block_len;  /* a multiple of KV_LANES */
    uint32_t pos, n_pos; /* n_pos * n_group <= ATTN_ROWS, or n_pos is 1 */
    uint32_t window;     /* positions that a row sees; 0: all */
    float scale, softcap;
    const float *sinks; /* [n_group] or NULL */
    float *scratch;     /* kern_attn_scratch_floats, of the calling thread, 64-byte aligned */
};

size_t kern_attn_scratch_floats(uint32_t k_dim, uint32_t v_dim);
/* Of one head and range, in parts below. */
size_t kern_attn_part_floats(uint32_t v_dim);
/* The ranges that position pos looks at: *ret_first, and how many. */
uint32_t kern_attn_ranges(uint32_t pos, uint32_t window, uint32_t *ret_first);

struct kern {
    const char *level; /* "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx" */

    /* By weight type; NULL where dtype_info(t)->is_weight is false. */
    kern_matmul_fn matmul[DTYPE_N];
    /* The same values from w->panels, which must be there.  NULL: this level has none for the type. */
    kern_matmul_fn matmul_panels[DTYPE_N];
    kern_dequant_fn dequant[DTYPE_N];
    enum act_format act_for[DTYPE_N];

    /* Rows of one call that pay where it has many tokens: what a core has to bring near of their
     * activations is brought once a call.  0: any. */
    uint32_t many_rows;

    /* One row of n float32 to dst (kern_act_row_bytes(format, n) bytes).  n is a multiple of 32 for
     * ACT_Q8. */
    void (*act_prepare[ACT_N])(const float *src, void *dst, uint32_t n);

    /* Reductions below accumulate in float32 in a fixed order; y may equal x in all elementwise
     * slots. */
    /* y = x / sqrt(mean(x^2) + eps) * w; w NULL: ones */
    void (*rms_norm)(const float *x, const float *w, float eps, float *y, uint32_t n);
    /* y = (x - mean) / sqrt(var + eps) * w + b; w, b may be NULL */
    void (*layer_norm)(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n);
    void (*add)(const float *a, const float *b, float *y, uint32_t n);
    void (*scale)(const float *x, float s, float *y, uint32_t n);
    /* y = cap * tanh(x / cap) */
    void (*softcap)(const float *x, float cap, float *y, uint32_t n);
    /* y = silu(gate) * up;  y = gelu_tanh(gate) * up */
    void (*silu_mul)(const float *gate, const float *up, float *y, uint32_t n);
    void (*gelu_mul)(const float *gate, const float *up, float *y, uint32_t n);
    /* Rotates the first n_rot of head_dim elements of one head in place with cos_sin[n_rot] = {cos,
     * sin} pairs. _norm: pairs (2i, 2i+1); _neox: pairs (i, i + n_rot/2). */
    void (*rope_norm)(float *head, const float *cos_sin, uint32_t n_rot);
    void (*rope_neox)(float *head, const float *cos_sin, uint32_t n_rot);
    /* One position's key of n elements to its lane of a group; its value to its row.  n is a
     * multiple of 32 for KV_Q8_0. */
    void (*kv_store_k[KV_N])(const float *src, void *group, uint32_t lane, uint32_t n);
    void (*kv_store_v[KV_N])(const float *src, void *row, uint32_t n);
    void (*attn[KV_N])(const struct kern_attn *a);
    /* The same in pieces, for n_pos 1: range `range` to part[n_group], then all n_ranges of the
     * position, parts[n_ranges][n_group], to out. */
    void (*attn_part[KV_N])(const struct kern_attn *a, uint32_t range, float *part);
    void (*attn_join)(const struct kern_attn *a, uint32_t n_ranges, const float *parts);
    /* Index of the largest value, the first of equals. */
    uint32_t (*argmax)(const float *x, uint32_t n);
    /* max[b] = the largest of block b's KERN_ROW_BLOCK elements (fewer in the last); false, and max
     * says nothing, where an element is NaN or +infinity. */
    bool (*block_max)(const float *x, uint32_t n, float *max);
    /* y = exp((x - max) / t), exactly 0 below exp(-87), for x <= max; sums[b] = the sum of block b
     * of y.  y[i] is a function of x[i], max and t alone; y may be x. */
    void (*exp_blocks)(const float *x, float max, float t, float *y, float *sums, uint32_t n);
};

/* Bytes of one prepared activation row, a multiple of 64. */
size_t kern_act_row_bytes(enum act_format format, uint32_t n_cols);

/* Fills *k for the best level the machine has that max_level allows.  max_level: NULL for no limit,
 * or one of the level names; an unknown name or one the machine lacks is E_INVALID (the message
 * lists the machine's levels). */
struct err;
int kern_init(struct kern *k, const char *max_level, struct err *err) MUST_USE;

/* The level names this machine can run, lowest first ("ref" is always there); returns how many (<=
 * 16). */
int kern_levels(const char *names[16]);

#endif
