/* SPDX-License-Identifier: Apache-2.0 */
/* Class bytes: one per character, so that pre-tokenizer rules need no Unicode.
 *
 * ASCII stands for itself.  Any other character is 0x80 | set << 4 | category, where set is the
 * family's own (zero, or the value of the range that holds the character).  Pure functions: any
 * thread. */
#ifndef WORKER_TEXT_TOK_CLASS_H
#define WORKER_TEXT_TOK_CLASS_H

#include "lib/base/str.h"

enum tok_cat {
    CAT_SPACE,
    CAT_LU,
    CAT_LL,
    CAT_LT,
    CAT_LM,
    CAT_LO,
    CAT_M,
    CAT_N,
    CAT_P,
    CAT_S,
    CAT_OTHER,
    CAT_COUNT
};

/* Tests of a class byte: tok_class_bits[c] & CB_... */
enum {
    CB_L = 1,     /* letter */
    CB_M = 2,     /* mark */
    CB_N = 4,     /* number */
    CB_SPACE = 8, /* White_Space */
    CB_CRLF = 16,
    CB_DIGIT = 32, /* ASCII digit */
    CB_WORD = 64   /* ASCII letter, digit or _ */
};
extern const unsigned char tok_class_bits[256];

/* A range of characters that a family tells apart, ascending. */
struct tok_range {
    uint32_t lo, hi;
    unsigned char set; /* 1 to 7 */
};

enum tok_cat tok_category(uint32_t cp); /* of any code point */
unsigned char tok_class(uint32_t cp, const struct tok_range *ranges, size_t n_ranges);

#endif
