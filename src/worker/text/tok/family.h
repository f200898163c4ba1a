/* SPDX-License-Identifier: Apache-2.0 */
/* The families of pre-tokenizers: which steps cut a text, by the name in tokenizer.ggml.pre.  Data
 * only. */
#ifndef WORKER_TEXT_TOK_FAMILY_H
#define WORKER_TEXT_TOK_FAMILY_H

#include "worker/text/tok/class.h"
#include "worker/text/tok/pre.h"

enum tok_step_kind {
    STEP_END,
    STEP_GPT2,    /* the rule of GPT-2, by hand */
    STEP_WORDS,   /* the rule of Llama 3 and Qwen 2, by hand; arg: WORDS_* */
    STEP_DIGITS,  /* digits in groups of three from the right; arg: DIGITS_* */
    STEP_PATTERN, /* matches and what lies between them */
};

enum {
    WORDS_ANY_DIGITS = 0, /* numbers of any length are one piece, */
    WORDS_1_DIGIT = 1,    /* or each digit, */
    WORDS_3_DIGITS = 3,   /* or up to three */
    WORDS_MARKS = 16,     /* marks belong to words */
    WORDS_SPACES = 32,    /* white space in powers of two (jais-2) */
};
enum {
    DIGITS_ASCII =
        1, /* only 0-9 (else any number), and whole groups are parted from what is before them */
};

struct tok_step {
    enum tok_step_kind kind;
    unsigned arg;
    const char *pattern; /* PCRE2 over class bytes; {..} see pre.c */
};

struct tok_family {
    const char *names; /* separated by spaces */
    unsigned flags;    /* enum tok_pre_flag */
    struct tok_step steps[TOK_PRE_STEPS + 1];
    const struct tok_range *ranges;
    size_t n_ranges;
};

extern const struct tok_family tok_families[];
extern const size_t tok_n_families;

#endif
