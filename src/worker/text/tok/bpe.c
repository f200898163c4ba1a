/* SPDX-License-Identifier: Apache-2.0 */
/* BPE over bytes (Sennrich et al. 2016; the byte alphabet of Radford et al. 2019): pieces of the
 * pre-tokenizer, merged by rank.  Also its variant over characters of whole lines (gemma4). */
#include "worker/text/tok/tok.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"

/* The alphabet: printable bytes stand for themselves, the other 68 for U+0100 and up, in order. */
static bool is_printable(unsigned c)
{
    return (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE;
}

uint32_t tok_char_of_byte(unsigned char byte)
{
    if (is_printable(byte))
        return byte;
    if (byte <= ' ')
        return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int tok_byte_of_char(uint32_t cp)
{
    if (cp < 0x100)
        return is_printable(cp) ? (int)cp : -1;
    if (cp <= 0x120)
        return (int)(cp - 0x100);
    if (cp < 0x143)
        return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

static uint32_t pair_slot(const struct tok_pair_table *p, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ p->seed;
    h *= 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= p->seed | 1;
    return (uint32_t)(h >> 32) & p->mask;
}

static uint32_t pair_rank(const struct tokenizer *t, int32_t left, int32_t right)
{
    const struct tok_pair_table *p = &t->pair_table;
    for (uint32_t i = pair_slot(p, left, right);; i = (i + 1) & p->mask) {
        const uint32_t rank = p->slot[i];
        if (rank == SYM_END || (t->pairs[rank].left == left && t->pairs[rank].right == right))
            return rank;
    }
}

/* Of equal pairs the first counts. */
static void pair_insert(struct tokenizer *t, uint32_t rank)
{
    const struct tok_pair *q = &t->pairs[rank];
    struct tok_pair_table *p = &t->pair_table;
    uint32_t i = pair_slot(p, q->left, q->right);
    for (; p->slot[i] != SYM_END; i = (i + 1) & p->mask) {
        const struct tok_pair *old = &t->pairs[p->slot[i]];
        if (old->left == q->left && old->right == q->right)
            return;
    }
    p->slot[i] = rank;
}

/* "left right", where left itself may begin with a space. */
static int read_merge(struct tokenizer *t, struct str s, uint32_t rank, struct buf *joined,
                      struct err *err)
{
    const char *space = s.len > 1 ? memchr(s.p + 1, ' ', s.len - 1) : NULL;
    if (!space)
        return err_set(err, E_FORMAT,
                       "tokenizer.ggml.merges[%u] '%.*s' is not two tokens with a space between",
                       rank, STR_ARG(s));
    const struct str left = {s.p, (size_t)(space - s.p)};
    const struct str right = {space + 1, s.len - left.len - 1};
    buf_clear(joined);
    (void)buf_append(joined, left.p, left.len);
    (void)buf_append(joined, right.p, right.len);
    int rc = buf_status(joined, "a merge", err);
    if (rc < 0)
        return rc;
    const uint32_t l = map_get(&t->ids, left), r = map_get(&t->ids, right);
    const uint32_t whole = map_get(&t->ids, (struct str){joined->data, joined->len});
    if (l == MAP_NONE || r == MAP_NONE || whole == MAP_NONE)
        return err_set(err, E_FORMAT,
                       "tokenizer.ggml.merges[%u] '%.*s' needs the token '%.*s', which the "
                       "vocabulary lacks",
                       rank, STR_ARG(s),
                       STR_ARG((l == MAP_NONE   ? left
                                : r == MAP_NONE ? right
                                                : (struct str){joined->data, joined->len})));
    t->pairs[rank] = (struct tok_pair){(int32_t)l, (int32_t)r, (int32_t)whole};
    return 0;
}

static int load_merges(struct tokenizer *t, const struct gguf_value *v, struct err *err)
{
    if (v->n_items > LIMIT_MODEL_VOCAB * 2u)
        return err_set(err, E_LIMIT, "the vocabulary has %llu merges; the limit is %u",
                       (unsigned long long)v->n_items, LIMIT_MODEL_VOCAB * 2u);
    uint32_t n_slots = 16;
    while (n_slots < v->n_items * 2)
        n_slots *= 2;
    t->n_pairs = (uint32_t)v->n_items;
    t->pairs = mem_try_alloc(t->n_pairs, sizeof(*t->pairs), err);
    t->pair_table.slot = mem_try_alloc(n_slots, sizeof(uint32_t), err);
    if (!t->pairs || !t->pair_table.slot)
        return -E_NOMEM;
    memset(t->pair_table.slot, 0xFF, n_slots * sizeof(uint32_t));
    t->pair_table.mask = n_slots - 1;
    t->pair_table.seed = map_hash("pairs", 5);

    struct buf joined;
    buf_init(&joined, 2 * LIMIT_TOKEN_BYTES);
    size_t cursor = 0;
    struct str s;
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && gguf_next_str(v, &cursor, &s); rank++) {
        rc = read_merge(t, s, rank, &joined, err);
        if (rc == 0 && tok_is_plain(t, t->pairs[rank].result))
            pair_insert(t, rank); /* the others would let plain text spell a control token */
    }
    buf_release(&joined);
    return rc;
}

/* Which token each byte is: the alphabet's, or <0xXX> where the kind has no alphabet. */
static void load_bytes(struct tokenizer *t)
{
    if (t->is_char_bpe)
        return; /* tok_load_vocab has read <0xXX> */
    for (unsigned b = 0; b < 256; b++) {
        char c[UTF8_MAX_BYTES];
        const size_t n = utf8_put(tok_char_of_byte((unsigned char)b), c);
        /* A letter like U+00FF may also be an added token, which is that letter and no byte. */
        const int32_t id = tok_find_plain(t, c, n);
        t->byte_id[b] = id != TOKEN_NONE && t->attr[id] != TOKEN_USER_DEFINED ? id : TOKEN_NONE;
    }
}

int tok_bpe_load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct gguf_value *v = gguf_find(g, "tokenizer.ggml.merges");
    if (!v)
        return err_set(err, E_FORMAT,
                       "the vocabulary is of the kind gpt2 but tokenizer.ggml.merges is missing; "
                       "convert the model again");
    if (v->type != GGUF_ARRAY || v->item_type != GGUF_STRING)
        return err_set(err, E_FORMAT, "tokenizer.ggml.merges is not an array of strings");
    load_bytes(t);
    return load_merges(t, v, err);
}

static uint32_t bpe_find(const struct tok_merge *m, const struct tok_sym *a,
                         const struct tok_sym *b)
{
    return pair_rank(m->t, a->id, b->id);
}

static uint32_t bpe_prio(const struct tok_merge *m, uint32_t pair)
{
    (void)m;
    return pair;
}

static int32_t bpe_result(const struct tok_merge *m, uint32_t pair)
{
    return m->t->pairs[pair].result;
}

static int emit_merged(struct tok_run *r)
{
    struct tok_merge *m = &r->merge;
    if (m->n == 0)
        return 0;
    int rc = tok_merge_run(m, r->err);
    for (uint32_t i = 0; rc == 0 && i != SYM_END; i = m->syms[i].next) {
        const struct tok_sym *s = &m->syms[i];
        if (s->id != TOKEN_NONE)
            rc = token_vec_push(r->out, s->id, r->err);
        else
            rc = tok_push_bytes(r, m->chunk + s->start, tok_sym_end(m, s) - s->start);
    }
    m->n = 0;
    return rc;
}

/* The whole piece as one token, if the vocabulary has it. */
static int32_t find_whole(struct tok_run *r, const char *p, size_t n)
{
    if (r->t->is_char_bpe)
        return tok_find_plain(r->t, p, n);
    if (n > r->t->max_bytes)
        return TOKEN_NONE;
    buf_clear(&r->text);
    for (size_t i = 0; i < n; i++) {
        char c[UTF8_MAX_BYTES];
        (void)buf_append(&r->text, c, utf8_put(tok_char_of_byte((unsigned char)p[i]), c));
    }
    return r->text.failed ? TOKEN_NONE : tok_find_plain(r->t, r->text.data, r->text.len);
}

static int encode_piece(struct tok_run *r, const char *p, size_t n)
{
    const struct tokenizer *t = r->t;
    if (t->ignore_merges) {
        const int32_t id = find_whole(r, p, n);
        if (r->text.failed)
            return buf_status(&r->text, "a piece of text", r->err);
        if (id != TOKEN_NONE)
            return token_vec_push(r->out, id, r->err);
    }
    struct tok_merge *m = &r->merge;
    m->n = 0;
    m->chunk = p;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n;) {
        size_t len = 1;
        int32_t id = t->byte_id[(unsigned char)p[i]];
        if (t->is_char_bpe) {
            uint32_t cp;
            (void)utf8_next(p + i, n - i, &cp, &len);
            id = tok_find_plain(t, p + i, len);
        }
        rc = tok_merge_add(m, (uint32_t)i, (uint32_t)(i + len), id, r->err);
        i += len;
    }
    return rc < 0 ? rc : emit_merged(r);
}

/* gemma4: U+2581 for spaces, pieces are lines and runs of line ends. */
static int encode_lines(struct tok_run *r, struct str text)
{
    struct buf lines;
    buf_init(&lines, (size_t)LIMIT_TEXT_BYTES * TOK_SPACE_LEN);
    for (size_t i = 0; i < text.len; i++)
        (void)(text.p[i] == ' ' ? buf_append(&lines, TOK_SPACE, TOK_SPACE_LEN)
                                : buf_append_char(&lines, text.p[i]));
    int rc = buf_status(&lines, "text to tokenize", r->err);
    for (size_t i = 0; rc == 0 && i < lines.len;) {
        const bool at_end_of_line = lines.data[i] == '\n';
        size_t n = 1;
        while (i + n < lines.len && (lines.data[i + n] == '\n') == at_end_of_line)
            n++;
        rc = encode_piece(r, lines.data + i, n);
        i += n;
    }
    buf_release(&lines);
    return rc;
}

int tok_bpe_encode(struct tok_run *r, struct str text)
{
    struct tok_merge *m = &r->merge;
    m->t = r->t;
    m->pair_find = bpe_find;
    m->pair_prio = bpe_prio;
    m->pair_result = bpe_result;
    m->n_prio = r->t->n_pairs;
    m->is_costly = true;
    tok_merge_expect(m, text.len);
    if (r->t->is_char_bpe)
        return encode_lines(r, text);
    int rc = tok_pre_split(&r->t->pre, text, &r->split, r->err);
    const char *p = text.p;
    for (uint32_t i = 0; rc == 0 && i < r->split.n; i++) {
        rc = encode_piece(r, p, r->split.bytes[i]);
        p += r->split.bytes[i];
    }
    return rc;
}
