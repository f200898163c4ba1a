/* SPDX-License-Identifier: Apache-2.0 */
/* UGM (unigram language model, Kudo 2018): the segmentation of the normalised text with the best sum of scores,
 * found by Viterbi's algorithm. */
#include "worker/text/tok.h"

int tok_ugm_load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    (void)t;
    (void)g;
    return err_set(err, E_UNSUPPORTED, "UGM vocabularies are not supported yet");
}

int tok_ugm_encode(struct tok_run *r, struct str text)
{
    (void)text;
    return err_set(r->err, E_UNSUPPORTED, "UGM vocabularies are not supported yet");
}
