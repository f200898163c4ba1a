/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation on a terminal: lines and commands in, answers out.  Main thread. */
#ifndef CLI_CHAT_REPL_H
#define CLI_CHAT_REPL_H

#include "cli/chat/ask.h"

struct repl_options {
    enum chat_mode mode; /* for models that /load brings */
    bool can_edit;       /* the terminal moves its cursor */
    bool keeps_history;
};

/* Until its user ends it.  The chat is loaded.  0, or a failure to write. */
int repl_run(struct chat *c, const struct repl_options *o, struct err *err) MUST_USE;

#endif
