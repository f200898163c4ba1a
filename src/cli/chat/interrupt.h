/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C as something to wait for: a descriptor that is readable once the signal came, so that it
 * ends a request, or a line, instead of the process.  One per process; main thread. */
#ifndef CLI_CHAT_INTERRUPT_H
#define CLI_CHAT_INTERRUPT_H

#include "lib/base/err.h"

/* From now on SIGINT is remembered. */
int interrupt_start(struct err *err) MUST_USE;
int interrupt_fd(void); /* readable: it came */
/* Whether it came since the last call; forgets it. */
bool interrupt_take(void);
/* The process ends by a signal that asks for it (SIGTERM, SIGHUP, SIGQUIT): fn is called in the
 * signal handler before, and may only do what handlers may. */
void interrupt_at_end(void (*fn)(void));

#endif
