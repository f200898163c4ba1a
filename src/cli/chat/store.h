/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversation leaves behind: the lines that were typed (history), and, on request, all of
 * it as JSON.  Files are their owner's alone (0600).  Main thread. */
#ifndef CLI_CHAT_STORE_H
#define CLI_CHAT_STORE_H

#include "cli/chat/ask.h"
#include "cli/chat/line.h"

/* Gives the reader the lines of earlier conversations.  A missing file holds none; one that cannot
 * be read is left alone, too. */
void history_load(struct line_reader *r);
/* Appends a line; failures are silent: it is a convenience. */
void history_add(const char *text);

/* Writes the conversation to path: model, digest, system message, parameters, messages with the
 * seeds of their answers.  Replaces a file only if it holds such a conversation. */
int conversation_save(const struct chat *c, const char *path, struct err *err) MUST_USE;
/* Takes system message, parameters and messages over; unchanged on failure.  notes gets a line for
 * each difference that makes answers differ. */
int conversation_load(struct chat *c, const char *path, struct buf *notes,
                      struct err *err) MUST_USE;

#endif
