/* SPDX-License-Identifier: Apache-2.0 */
/* Implements rules.h.  Every rule is one pass: no character is looked at more than a fixed number
 * of times. */
#include "worker/text/tok/rules.h"

#include "worker/text/tok/class.h"
#include "worker/text/tok/family.h"

static inline unsigned bits(const struct tok_split *s, uint32_t i)
{
    return tok_class_bits[s->cls[i]];
}

/* The end of the run of characters with (or, negated, without) one of the bits. */
static uint32_t run_of(const struct tok_split *s, uint32_t i, uint32_t to, unsigned mask)
{
    while (i < to && (bits(s, i) & mask))
        i++;
    return i;
}

static uint32_t run_without(const struct tok_split *s, uint32_t i, uint32_t to, unsigned mask)
{
    while (i < to && !(bits(s, i) & mask))
        i++;
    return i;
}

/* The length of 's 't 'm 'd 're 've 'll at i, or 0. */
static uint32_t contraction(const struct tok_split *s, uint32_t i, uint32_t to, unsigned char fold)
{
    if (s->cls[i] != '\'' || i + 1 >= to)
        return 0;
    const unsigned char a = s->cls[i + 1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (i + 2 >= to)
        return 0;
    const unsigned char b = s->cls[i + 2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* White space from i: all of it at the end, else all but the last, which goes with what follows. */
static uint32_t spaces_end(const struct tok_split *s, uint32_t i, uint32_t to)
{
    const uint32_t end = run_of(s, i, to, CB_SPACE);
    return end == to || end == i + 1 ? end : end - 1;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\s L N]+|\s+(?!\S)|\s+ */
int tok_rule_gpt2(struct tok_split *s, uint32_t from, uint32_t to, struct err *err)
{
    int rc = 0;
    for (uint32_t i = from; rc == 0 && i < to;) {
        uint32_t end = i + contraction(s, i, to, 0);
        if (end == i) {
            const uint32_t word = i + (s->cls[i] == ' ' && i + 1 < to);
            const unsigned b = bits(s, word);
            if (b & CB_L)
                end = run_of(s, word, to, CB_L);
            else if (b & CB_N)
                end = run_of(s, word, to, CB_N);
            else if (!(b & CB_SPACE))
                end = run_without(s, word, to, CB_L | CB_N | CB_SPACE);
            else
                end = spaces_end(s, i, to);
        }
        rc = tok_split_cut(s, end, err);
        i = end;
    }
    return rc;
}

/* A run of white space that the rules below have looked at once: where it ends, and its last line
 * end. */
struct spaces {
    uint32_t end, after_newline; /* after_newline: 0 when it has none */
};

static void spaces_scan(struct spaces *w, const struct tok_split *s, uint32_t i, uint32_t to)
{
    if (i < w->end)
        return;
    w->after_newline = 0;
    uint32_t k = i;
    for (; k < to && (bits(s, k) & CB_SPACE); k++)
        if (bits(s, k) & CB_CRLF)
            w->after_newline = k + 1;
    w->end = k;
}

/* jais-2: white space that the next word does not take, in pieces of 512, 256, ... 4 and at most 2.
 */
static uint32_t spaces_in_powers(const struct spaces *w, uint32_t i, uint32_t to)
{
    const uint32_t n = w->end - i;
    const bool at_end = w->end == to;
    for (uint32_t size = 512; size >= 2; size /= 2)
        if (n > size || (n == size && at_end))
            return i + size;
    return i + 1;
}

static uint32_t words_spaces(const struct tok_split *s, struct spaces *w, uint32_t i, uint32_t to,
                             unsigned arg)
{
    spaces_scan(w, s, i, to);
    if (w->after_newline > i)
        return w->after_newline;
    if (arg & WORDS_SPACES)
        return spaces_in_powers(w, i, to);
    return w->end == to || w->end == i + 1 ? w->end : w->end - 1;
}

/* (contraction, any case)|[^\r\n L N]?L+|N{1,max}| ?[^\s L N]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
int tok_rule_words(struct tok_split *s, uint32_t from, uint32_t to, unsigned arg, struct err *err)
{
    const unsigned letter = CB_L | (arg & WORDS_MARKS ? CB_M : 0), max_digits = arg & 15;
    struct spaces w = {0, 0};
    int rc = 0;
    for (uint32_t i = from; rc == 0 && i < to;) {
        const unsigned b = bits(s, i), b1 = i + 1 < to ? bits(s, i + 1) : 0;
        uint32_t end = i + contraction(s, i, to, 0x20);
        if (end > i) {
            /* done */
        } else if ((b & letter) || (!(b & (CB_CRLF | CB_N | CB_L)) && (b1 & letter))) {
            end = run_of(s, i + 1, to, letter);
        } else if (b & CB_N) {
            end = run_of(s, i, max_digits ? MIN_OF(to, i + max_digits) : to, CB_N);
        } else {
            const uint32_t word = i + (s->cls[i] == ' ' && i + 1 < to);
            const unsigned none = CB_SPACE | CB_N | letter;
            if (!(bits(s, word) & none))
                end = run_of(s, run_without(s, word, to, none), to, CB_CRLF);
            else
                end = words_spaces(s, &w, i, to, arg);
        }
        rc = tok_split_cut(s, end, err);
        i = end;
    }
    return rc;
}

/* Digits in groups of three, counted from the right end of their run. */
int tok_rule_digits(struct tok_split *s, uint32_t from, uint32_t to, unsigned arg, struct err *err)
{
    const unsigned digit = arg & DIGITS_ASCII ? CB_DIGIT : CB_N;
    int rc = 0;
    for (uint32_t i = from; rc == 0 && i < to;) {
        const uint32_t start = run_without(s, i, to, digit), end = run_of(s, start, to, digit);
        uint32_t cut = start + (end - start) % 3;
        if (cut == start && !(arg & DIGITS_ASCII))
            cut += 3;
        for (; rc == 0 && cut < end; cut += 3)
            if (cut > from)
                rc = tok_split_cut(s, cut, err);
        if (rc == 0 && (end == to || !(arg & DIGITS_ASCII)))
            rc = tok_split_cut(s, end, err);
        i = end;
    }
    return rc;
}
