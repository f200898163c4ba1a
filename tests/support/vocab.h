/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabularies for tests: those of the repository and small ones made on the spot. */
#ifndef TESTS_SUPPORT_VOCAB_H
#define TESTS_SUPPORT_VOCAB_H

#include "tests/support/gguf_build.h"
#include "worker/text/tokenizer.h"

/* The path of an unpacked vocabulary of tests/data/vocab, or of models/. */
const char *vocab_path(const char *name);
/* Opens a path or a built file and loads its tokenizer; dies when it cannot. */
struct tokenizer *vocab_load(const char *path);
struct tokenizer *vocab_from(const struct gguf_build *b);
/* Loads; the error code (positive) on failure, 0 and freed again on success. */
int vocab_try(const struct gguf_build *b, struct err *err);

/* All bytes and all pairs of them, merged in a scattered order (dev/tokenizer_texts.py makes the
 * same). */
void vocab_build_pairs(struct gguf_build *b, const char *pre);

/* Small vocabularies with control tokens <s> (1), </s> (2), <|end|> and a user-defined <tool>. */
void vocab_build_spm(struct gguf_build *b);
void vocab_build_bpe(struct gguf_build *b, const char *pre);
void vocab_build_wpm(struct gguf_build *b);
void vocab_build_ugm(struct gguf_build *b);

#endif
