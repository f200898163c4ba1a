/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the tokenizers: the vocabulary's tables and what the kinds share.  For the files of
 * this folder alone. */
#ifndef WORKER_TEXT_TOK_TOK_H
#define WORKER_TEXT_TOK_TOK_H

#include "lib/base/map.h"
#include "worker/text/tok/charsmap.h"
#include "worker/text/tok/merge.h"
#include "worker/text/tok/pre.h"
#include "worker/text/tok/trie.h"
#include "worker/text/tokenizer.h"

enum tok_kind { TOK_NONE, TOK_SPM, TOK_BPE, TOK_WPM, TOK_UGM };

enum { /* vocab->flags[id] */
       TF_EOG = 1,
       TF_LSTRIP = 2, /* as a special token it takes the white space before it */
       TF_RSTRIP = 4, /* and after it */
};

/* The token that stands for a space at a word's start in SPM, WPM and UGM vocabularies: U+2581. */
#define TOK_SPACE     "\xe2\x96\x81"
#define TOK_SPACE_LEN 3

struct tok_pair { /* a merge of BPE; its rank is its place */
    int32_t left, right, result;
};

struct tokenizer {
    enum tok_kind kind;
    uint32_t n_vocab;
    char *text;         /* owned: all spellings, one after the other */
    uint32_t *offset;   /* owned: n_vocab + 1 */
    uint8_t *attr;      /* owned: enum token_attr */
    uint8_t *flags;     /* owned: TF_* */
    float *score;       /* owned: SPM and UGM, else NULL */
    uint32_t *prio;     /* owned: SPM; rank by score, equal scores share one, 0 is the best */
    uint32_t max_bytes; /* the longest spelling */
    struct map ids;     /* spelling -> id */
    int32_t byte_id[256];

    struct tok_pair *pairs; /* owned: BPE merges */
    uint32_t n_pairs;
    struct tok_pair_table {
        uint32_t *slot; /* owned: rank or UINT32_MAX */
        uint32_t mask;
        uint64_t seed;
    } pair_table;
    struct tok_pre pre; /* BPE */
    char pre_name[40];  /* its name in the file, "" for other kinds */
    uint8_t *bigrams;   /* owned: SPM; which neighbouring characters some token spans (spm.c) */

    struct tok_trie special; /* control, user-defined and unknown tokens */
    struct tok_trie words;   /* WPM, UGM: what text may become */
    struct tok_trie defined; /* UGM: user-defined tokens, which normalisation leaves alone */
    struct tok_charsmap charsmap;
    double unk_score; /* UGM */

    int32_t bos, eos, unk, sep, pad, cls, mask, eot, eom;
    bool add_bos, add_eos, add_sep, add_space_prefix, squeeze_spaces, ignore_merges, is_char_bpe;
    bool lowercase, strip_accents; /* WPM */
};

/* One encoding under way: its output and its scratch memory. */
struct tok_run {
    const struct tokenizer *t;
    struct token_vec *out;
    struct err *err;
    struct buf text; /* SPM, UGM, WPM: the normalised fragment */
    struct tok_merge merge;
    struct tok_split split; /* BPE */
};

static inline struct str tok_text(const struct tokenizer *t, int32_t id)
{
    return (struct str){t->text + t->offset[id], t->offset[id + 1] - t->offset[id]};
}
/* Whether merging or matching plain text may produce id: control and unknown tokens never come from
 * text. */
static inline bool tok_is_plain(const struct tokenizer *t, int32_t id)
{
    const uint8_t a = t->attr[id];
    return a == TOKEN_NORMAL || a == TOKEN_USER_DEFINED || a == TOKEN_UNUSED;
}
/* The plain token spelled so, or TOKEN_NONE. */
static inline int32_t tok_find_plain(const struct tokenizer *t, const char *p, size_t n)
{
    if (n > t->max_bytes)
        return TOKEN_NONE;
    const uint32_t id = map_get(&t->ids, (struct str){p, n});
    return id != MAP_NONE && tok_is_plain(t, (int32_t)id) ? (int32_t)id : TOKEN_NONE;
}

/* load.c: the parts of tokenizer_from_gguf */
int tok_load_vocab(struct tokenizer *t, const struct gguf *g, struct err *err) MUST_USE;
void tok_load_bytes(struct tokenizer *t); /* after tok_special_load */
/* special.c: ids and flags by key and by name, the trie of special tokens */
int tok_special_load(struct tokenizer *t, const struct gguf *g, struct err *err) MUST_USE;

/* Each kind: prepares its tables (after tok_load_vocab and tok_special_load), and encodes a
 * fragment of plain text. at_start: nothing or a special token stands before it. */
int tok_spm_load(struct tokenizer *t, struct err *err) MUST_USE;
int tok_spm_encode(struct tok_run *r, struct str text, bool at_start) MUST_USE;
int tok_bpe_load(struct tokenizer *t, const struct gguf *g, struct err *err) MUST_USE;
int tok_bpe_encode(struct tok_run *r, struct str text) MUST_USE;
int tok_wpm_load(struct tokenizer *t, struct err *err) MUST_USE;
int tok_wpm_encode(struct tok_run *r, struct str text) MUST_USE;
int tok_ugm_load(struct tokenizer *t, const struct gguf *g, struct err *err) MUST_USE;
int tok_ugm_encode(struct tok_run *r, struct str text) MUST_USE;

/* Emits the byte tokens of p[0, n), or the unknown token where the vocabulary has none. */
int tok_push_bytes(struct tok_run *r, const char *p, size_t n) MUST_USE;
/* The byte behind a character of the printable alphabet of byte-level BPE, or -1; and the way back.
 */
int tok_byte_of_char(uint32_t cp);
uint32_t tok_char_of_byte(unsigned char byte);

/* encode.c: cuts the text of runs at its special tokens and encodes what lies between. */
int tok_encode_runs(struct tok_run *r, const struct text_run *runs, size_t n_runs,
                    unsigned flags) MUST_USE;

#endif
