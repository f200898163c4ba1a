/* SPDX-License-Identifier: Apache-2.0 */
/* Lines from a terminal, edited: history, bracketed paste, a hint in the empty line.  Through
 * libedit, which is loaded (dlopen) when a conversation begins, so that no other command pays for
 * it; plain lines where it is missing or the terminal cannot move its cursor.  Main thread;
 * interrupt.h must have been started. */
#ifndef CLI_CHAT_LINE_H
#define CLI_CHAT_LINE_H

#include "lib/base/buf.h"

struct line_reader;

enum line_result {
    LINE_TEXT,
    LINE_END,         /* Ctrl-D in an empty line, or the terminal is gone */
    LINE_INTERRUPTED, /* Ctrl-C: what was typed is discarded */
};

/* can_edit: the terminal moves its cursor.  has_color: and shows colours. */
struct line_reader *line_open(bool can_edit, bool has_color);
void line_close(struct line_reader *r);
/* Why lines are plain although can_edit was asked for: a sentence, or "". */
const char *line_plain_reason(const struct line_reader *r);
/* One line without its newline; it may hold newlines that were pasted.  prompt and hint are ASCII;
 * hint may be NULL.  *ret_had_text: whether an interrupted line had any. */
enum line_result line_read(struct line_reader *r, const char *prompt, const char *hint,
                           struct buf *out, bool *ret_had_text);
/* What arrow-up brings back; kept in memory. */
void line_remember(struct line_reader *r, const char *text);
/* The terminal as it was before; for a signal handler. */
void line_restore_terminal(void);

#endif
