/* SPDX-License-Identifier: Apache-2.0 */
/* `berth debug …`: a worker without frames.  Opens the files it was given, shuts itself into the
 * worker's sandbox, and only then parses.  Results go to standard output (or the file asked for),
 * refusals into err.  Main thread, one call per process: the sandbox cannot be left again. */
#ifndef WORKER_SERVE_DEBUG_H
#define WORKER_SERVE_DEBUG_H

#include "worker/engine/engine.h"

enum debug_what {
    DEBUG_LOGITS,
    DEBUG_TOKENIZE,
    DEBUG_DETOKENIZE,
    DEBUG_RENDER,
    DEBUG_SHOW,
    DEBUG_PLAN
};

struct debug_request { /* borrows everything */
    enum debug_what what;
    const char *path;       /* the model, or the template */
    const char *draft_path; /* PLAN: the draft model; NULL: none */
    const char *tokens;     /* ids, separated by commas or spaces; NULL: read from input_path */
    const char *input_path; /* text, ids or JSON context; "-": standard input; NULL: none */
    const char *out_path;   /* LOGITS */
    bool with_special;
    int64_t now_unix;
    struct engine_config engine; /* LOGITS, PLAN */
};

int debug_main(const struct debug_request *r, struct err *err) MUST_USE;

#endif
