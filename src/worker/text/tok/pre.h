/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers: how each family of byte-level BPE cuts a text into pieces before merging.
 *
 * A text is first written as one class byte per character (class.h), so that cutting works on plain
 * bytes: the common rules by hand, the others as PCRE2 patterns over class bytes, digits from the
 * right by hand.  A family is a row of steps; each step cuts the pieces of the step before.
 * Compiled families are read-only: any thread. */
#ifndef WORKER_TEXT_TOK_PRE_H
#define WORKER_TEXT_TOK_PRE_H

#include "lib/base/err.h"
#include "lib/base/str.h"

#define TOK_PRE_STEPS 6

enum tok_pre_flag {
    PRE_IGNORE_MERGES = 1, /* a piece that is a token is that token */
    PRE_ADD_BOS = 2,       /* unless the file says otherwise */
    PRE_CHARS = 4,         /* BPE over characters, not bytes */
};

struct tok_family; /* a row of family.c */

struct tok_pre {
    const struct tok_family *family; /* NULL: nothing is cut */
    void *code[TOK_PRE_STEPS];       /* owned pcre2_code, NULL for steps made by hand */
};

/* Scratch and result of one splitting. */
struct tok_split {
    unsigned char *cls;    /* owned: a class per character */
    uint32_t *ends, *next; /* owned: piece ends in characters, before and after a step */
    uint32_t *bytes;       /* the result: piece lengths in bytes (lies in ends or next) */
    uint32_t n;            /* pieces */
    uint32_t n_next, cap_cls, cap_ends, cap_next;
    void *match;   /* owned pcre2_match_data */
    void *context; /* owned pcre2_match_context */
};

/* E_UNSUPPORTED, listing the known names; E_NOMEM. */
int tok_pre_init(struct tok_pre *p, struct str name, struct err *err) MUST_USE;
void tok_pre_release(struct tok_pre *p);
unsigned tok_pre_flags(const struct tok_pre *p); /* enum tok_pre_flag */

void tok_split_init(struct tok_split *s);
void tok_split_release(struct tok_split *s);
/* Cuts text, giving s->bytes[0, s->n), which sum to text.len.  Time and memory are linear in the
 * text. */
int tok_pre_split(const struct tok_pre *p, struct str text, struct tok_split *s,
                  struct err *err) MUST_USE;

#endif
