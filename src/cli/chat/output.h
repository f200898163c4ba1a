/* SPDX-License-Identifier: Apache-2.0 */
/* Where an answer goes: byte for byte into a pipe or file; onto a terminal harmless, and with
 * colours and Markdown where they are wanted.  Main thread. */
#ifndef CLI_CHAT_OUTPUT_H
#define CLI_CHAT_OUTPUT_H

#include "cli/chat/markdown.h"

struct output { /* owns its buffers */
    int fd;
    bool is_terminal, has_color, has_markdown; /* may be changed between answers */
    struct markdown md;
    struct buf piece;
    enum { OUTPUT_NOTHING, OUTPUT_THINKING, OUTPUT_ANSWER } part; /* what was written last */
    char last;                                                    /* the last byte written */
    int write_errno; /* of the first failed write; nothing is written after it */
};

void output_init(struct output *o, int fd, bool has_color, bool has_markdown);
void output_release(struct output *o);
/* A piece of the answer, or of the reasoning before it: dim on a terminal, left out elsewhere. */
void output_text(struct output *o, const char *p, size_t n);
void output_thinking(struct output *o, const char *p, size_t n);
/* The answer has ended, or was stopped: shows the rest, and ends the line if there is one. */
void output_end(struct output *o);

#endif
