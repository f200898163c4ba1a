/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean ...?": the name nearest to a word that is none.  Any thread; owns nothing. */
#ifndef LIB_BASE_NEAR_H
#define LIB_BASE_NEAR_H

#include "lib/base/compiler.h"

/* Edits (insert, delete, replace, swap of neighbours) from a to b: the restricted
 * Damerau-Levenshtein distance, by bytes.  NEAR_FAR where one of them is longer than
 * NEAR_WORD_BYTES. */
#define NEAR_WORD_BYTES 48u
#define NEAR_FAR        SIZE_MAX
size_t near_distance(const char *a, const char *b);

/* The name in names[n] nearest to word, or NULL when none is near: at most a third of the word is
 * otherwise, or the word is how the name begins. */
const char *near_name(const char *word, const char *const *names, size_t n);

#endif
