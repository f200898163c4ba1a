/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: text to token ids and back, as the model's own tokenizer does it.
 *
 * Kinds: SPM (llama), byte-level BPE (gpt2), WPM (bert), UGM (t5), and `test`/`none`, which have
 * ids but no text. Owns its tables; read-only after tokenizer_new: any thread.  Time is O(n log n)
 * in the text at worst, memory O(n). */
#ifndef WORKER_TEXT_TOKENIZER_H
#define WORKER_TEXT_TOKENIZER_H

#include "lib/base/buf.h"
#include "lib/base/str.h"
#include "worker/model/gguf.h"

#define TOKEN_NONE (-1)

enum token_attr {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
};

struct tokenizer;

/* From a GGUF's tokenizer.ggml.* keys.  E_FORMAT (what is wrong with the vocabulary), E_UNSUPPORTED
 * (an unknown tokenizer.ggml.model or .pre; the message lists the known ones), E_LIMIT, E_NOMEM. */
int tokenizer_from_gguf(const struct gguf *g, struct tokenizer **ret_tok, struct err *err) MUST_USE;
void tokenizer_free(struct tokenizer *t); /* NULL is fine */

/* How a run of text is to be read. */
enum {
    TOK_ADD_SPECIAL = 1, /* put BOS before and EOS/SEP after, where the model wants them */
    TOK_PARSE_SPECIAL =
        2, /* text that spells a control token is that token; without it, it is plain text */
};

struct token_vec {
    int32_t *ids; /* owned; release with token_vec_release */
    size_t len, cap;
    size_t max;      /* appends past it fail with E_LIMIT; set before use */
    size_t hopeless; /* a text whose length alone says that it has more is refused at once with
                        E_CONTEXT; 0: none is */
};
void token_vec_init(struct token_vec *v, size_t max);
void token_vec_release(struct token_vec *v);
int token_vec_push(struct token_vec *v, int32_t id, struct err *err) MUST_USE;

/* Appends the ids of text (any bytes; invalid UTF-8 becomes byte tokens or the unknown token).
 * flags: TOK_*. E_UNSUPPORTED when the vocabulary has no text; E_CONTEXT, E_LIMIT: out's limits;
 * E_NOMEM. */
int tokenizer_encode(const struct tokenizer *t, struct str text, unsigned flags,
                     struct token_vec *out, struct err *err) MUST_USE;

/* A text in runs of differing trust, as a chat template renders it: in the model's own runs control
 * tokens are read, in the user's they never are.  Runs are joined as one text for everything but
 * that. */
struct text_run {
    struct str text;
    bool is_trusted;
};
int tokenizer_encode_runs(const struct tokenizer *t, const struct text_run *runs, size_t n_runs,
                          unsigned flags, struct token_vec *out, struct err *err) MUST_USE;

/* Ids to text.  with_special: control tokens are written out; otherwise they are skipped.  Appends
 * raw bytes, which need not be valid UTF-8 at the ends; out-of-range ids are E_INVALID. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool with_special,
                     struct buf *out, struct err *err) MUST_USE;

/* One token's own bytes as they stand in the middle of a text: pieces joined give the text, but for
 * a space that the tokenizer had put before it. */
int tokenizer_token_bytes(const struct tokenizer *t, int32_t id, struct buf *out,
                          struct err *err) MUST_USE;

/* Streaming: feed one id at a time; text comes out in whole UTF-8 characters. */
struct detok {
    const struct tokenizer *tok; /* borrowed */
    bool with_special, at_start;
    unsigned char held[8]; /* an unfinished character */
    unsigned n_held;
};
void detok_init(struct detok *d, const struct tokenizer *t, bool with_special, bool at_start);
/* Appends what became certain.  Bytes that can no longer become a character are written as U+FFFD.
 */
int detok_feed(struct detok *d, int32_t id, struct buf *out, struct err *err) MUST_USE;
/* At the end: an unfinished character becomes U+FFFD. */
int detok_finish(struct detok *d, struct buf *out, struct err *err) MUST_USE;

/* Whether a model with vocabulary draft can guess for one with t: as many tokens, but for 128 at
 * the end, and each that is a word or a byte in both spelled alike; control tokens may differ,
 * which costs a guess and no more.  E_INVALID says what differs and what to do. */
int tokenizer_check_draft(const struct tokenizer *t, const struct tokenizer *draft,
                          struct err *err) MUST_USE;

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
bool tokenizer_has_text(const struct tokenizer *t);
const char *tokenizer_kind(const struct tokenizer *t); /* "spm", "bpe", "wpm", "ugm", "none" */
const char *tokenizer_pre(const struct tokenizer *t);  /* pre-tokenizer family, "" if none */
int32_t tokenizer_bos(const struct tokenizer *t);      /* or TOKEN_NONE */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t);
/* Whether generating id ends an answer (EOS, EOT, EOM and their like by name; engines.md A4.3). */
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id);
enum token_attr tokenizer_attr(const struct tokenizer *t, int32_t id);
/* The vocabulary's own spelling of id, borrowed; empty for a bad id. */
struct str tokenizer_piece(const struct tokenizer *t, int32_t id);
/* The id whose spelling is exactly piece, or TOKEN_NONE. */
int32_t tokenizer_find(const struct tokenizer *t, struct str piece);

#endif
