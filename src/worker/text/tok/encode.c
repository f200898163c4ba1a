/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding: runs of text are joined, special tokens cut out of them, and what lies between goes to
 * the kind.
 *
 * A control or unknown token counts only where it lies within one trusted run; user-defined tokens
 * count anywhere. Of several at one place the longest counts, and the leftmost place first. */
#include "worker/text/tok/tok.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"

/* A byte that byte-level BPE has no token for.  Vocabularies leave out those that UTF-8 never has,
 * which are then read as U+FFFD; a few leave out more, which then vanish, as they did when the
 * model was trained. */
static int push_missing_byte(struct tok_run *r, unsigned char byte)
{
    static const unsigned char replacement[] = {0xEF, 0xBF, 0xBD};
    int rc = 0;
    if (byte != 0xC0 && byte != 0xC1 && byte < 0xF5)
        return 0;
    for (size_t i = 0; rc == 0 && i < sizeof(replacement); i++)
        if (r->t->byte_id[replacement[i]] != TOKEN_NONE)
            rc = token_vec_push(r->out, r->t->byte_id[replacement[i]], r->err);
    return rc;
}

int tok_push_bytes(struct tok_run *r, const char *p, size_t n)
{
    const struct tokenizer *t = r->t;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const unsigned char byte = (unsigned char)p[i];
        if (t->byte_id[byte] != TOKEN_NONE)
            rc = token_vec_push(r->out, t->byte_id[byte], r->err);
        else if (t->kind != TOK_BPE ||
                 t->is_char_bpe) /* no byte tokens: the character is unknown */
            return t->unk == TOKEN_NONE ? 0 : token_vec_push(r->out, t->unk, r->err);
        else
            rc = push_missing_byte(r, byte);
    }
    return rc;
}

static int encode_plain(struct tok_run *r, struct str text, bool at_start)
{
    if (text.len == 0)
        return 0;
    switch (r->t->kind) {
    case TOK_SPM: return tok_spm_encode(r, text, at_start);
    case TOK_BPE: return tok_bpe_encode(r, text);
    case TOK_WPM: return tok_wpm_encode(r, text);
    case TOK_UGM: return tok_ugm_encode(r, text);
    case TOK_NONE: break;
    }
    return err_set(r->err, E_UNSUPPORTED, "the model has no text vocabulary; give it token ids");
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The longest special token at p; bytes up to trusted may hold control tokens, bytes up to end
 * user-defined ones. */
static int32_t match_special(const struct tokenizer *t, const char *p, const char *trusted,
                             const char *end, size_t *ret_len)
{
    int32_t found = TOKEN_NONE;
    uint32_t node = 0;
    for (const char *q = p; q < end; q++) {
        node = tok_trie_step(&t->special, node, (unsigned char)*q);
        if (node == TRIE_DEAD)
            break;
        const int32_t id = t->special.nodes[node].id;
        if (id >= 0 && (t->attr[id] == TOKEN_USER_DEFINED || q < trusted)) {
            found = id;
            *ret_len = (size_t)(q - p) + 1;
        }
    }
    return found;
}

/* Walks the runs beside the joined text. */
struct trust {
    const struct text_run *runs;
    size_t n_runs,
        next;        /* the first run after the current ones, which are neighbours of one trust */
    size_t end;      /* of the current ones, in the joined text */
    bool is_trusted; /* they are */
};

/* Where the trust ends that holds at byte `at` (never less than at the last call); `at` itself when
 * none does. */
static size_t trust_end(struct trust *w, size_t at)
{
    while (at >= w->end && w->next < w->n_runs) {
        w->is_trusted = w->runs[w->next].is_trusted;
        while (w->next < w->n_runs && w->runs[w->next].is_trusted == w->is_trusted)
            w->end += w->runs[w->next++].text.len;
    }
    return w->is_trusted && at < w->end ? w->end : at;
}

static int encode_joined(struct tok_run *r, struct str text, struct trust *trust)
{
    const struct tokenizer *t = r->t;
    size_t plain = 0;
    bool at_start = true;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < text.len;) {
        if (t->special.n_nodes == 0 || t->special.root[(unsigned char)text.p[i]] == TRIE_DEAD) {
            i++;
            continue;
        }
        size_t len = 0;
        const int32_t id =
            match_special(t, text.p + i, text.p + trust_end(trust, i), text.p + text.len, &len);
        if (id == TOKEN_NONE) {
            i++;
            continue;
        }
        size_t end = i;
        while ((t->flags[id] & TF_LSTRIP) && end > plain && is_blank(text.p[end - 1]))
            end--;
        if (end > plain) {
            rc = encode_plain(r, (struct str){text.p + plain, end - plain}, at_start);
            at_start = false;
        }
        if (rc == 0)
            rc = token_vec_push(r->out, id, r->err);
        at_start = true;
        i += len;
        while ((t->flags[id] & TF_RSTRIP) && i < text.len && is_blank(text.p[i]))
            i++;
        plain = i;
    }
    return rc < 0 ? rc : encode_plain(r, (struct str){text.p + plain, text.len - plain}, at_start);
}

/* Whether some text may become fewer tokens than its bytes need: white space beside a special
 * token, bytes that the vocabulary cannot say. */
static bool text_may_vanish(const struct tokenizer *t)
{
    const bool has_unknown = t->unk != TOKEN_NONE && (t->kind != TOK_BPE || t->is_char_bpe);
    for (unsigned b = 0; b < 256 && !has_unknown; b++)
        if (t->byte_id[b] == TOKEN_NONE)
            return true;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (t->flags[i] & (TF_LSTRIP | TF_RSTRIP))
            return true;
    return false;
}

/* The fewest tokens that text can become, known before any work is done. */
static int refuse_early(struct tok_run *r, size_t bytes)
{
    const struct tokenizer *t = r->t;
    const size_t n = bytes / MAX_OF(t->max_bytes, (uint32_t)UTF8_MAX_BYTES) + r->out->len;
    const size_t max = r->out->hopeless ? MIN_OF(r->out->hopeless, r->out->max) : r->out->max;
    if ((t->kind != TOK_SPM && t->kind != TOK_BPE) || n <= max || text_may_vanish(t))
        return 0;
    return err_set(r->err, r->out->hopeless ? E_CONTEXT : E_LIMIT,
                   "the text has at least %zu tokens, and %zu fit", n, max);
}

static int encode_body(struct tok_run *r, const struct text_run *runs, size_t n_runs, size_t bytes)
{
    struct trust trust = {.runs = runs, .n_runs = n_runs};
    if (n_runs == 1)
        return encode_joined(r, runs[0].text, &trust);
    char *joined = mem_try_alloc(bytes + 1, 1, r->err);
    if (!joined)
        return -E_NOMEM;
    size_t at = 0;
    for (size_t i = 0; i < n_runs; i++) {
        if (runs[i].text.len)
            memcpy(joined + at, runs[i].text.p, runs[i].text.len);
        at += runs[i].text.len;
    }
    int rc = encode_joined(r, (struct str){joined, bytes}, &trust);
    mem_free(joined);
    return rc;
}

int tok_encode_runs(struct tok_run *r, const struct text_run *runs, size_t n_runs, unsigned flags)
{
    const struct tokenizer *t = r->t;
    size_t bytes = 0;
    for (size_t i = 0; i < n_runs; i++) {
        if (runs[i].text.len > LIMIT_TEXT_BYTES - bytes)
            return err_set(r->err, E_LIMIT, "the text is larger than %u bytes", LIMIT_TEXT_BYTES);
        bytes += runs[i].text.len;
    }
    int rc = refuse_early(r, bytes);
    const bool add = flags & TOK_ADD_SPECIAL;
    if (rc == 0 && add && t->add_bos && t->bos != TOKEN_NONE)
        rc = token_vec_push(r->out, t->bos, r->err);
    if (rc == 0 && bytes)
        rc = encode_body(r, runs, n_runs, bytes);
    const int32_t last = t->kind == TOK_WPM ? t->sep : t->eos;
    if (rc == 0 && add && (t->kind == TOK_WPM ? t->add_sep : t->add_eos) && last != TOKEN_NONE)
        rc = token_vec_push(r->out, last, r->err);
    return rc;
}
