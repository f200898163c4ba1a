/* SPDX-License-Identifier: Apache-2.0 */
/* Prompt lookup: guesses how a text goes on from what followed the last time it said the same
 * (Saxena 2023, "Prompt Lookup Decoding").  A guess costs a row of the batch and changes no token:
 * each row is sampled as usual, and what follows a wrong guess is dropped (worker/engine/engine.c).
 * Any thread; allocates nothing. */
#ifndef WORKER_ENGINE_SPECULATE_H
#define WORKER_ENGINE_SPECULATE_H

#include "worker/engine/kv.h"

/* Writes up to n_most tokens that may follow the n_answer tokens of the answer in t to draft;
 * returns how many, 0 when the end of the text has not occurred before. */
uint32_t speculate(const struct kv_tokens *t, uint32_t n_answer, uint32_t n_most, int32_t *draft);

#endif
