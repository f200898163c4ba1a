/* SPDX-License-Identifier: Apache-2.0 */
/* Running a program of the system: found by PATH, no shell, a few bytes in, bounded bytes out,
 * within a time.  It gets the environment as it is, since helpers of credentials need it, and
 * standard error is dropped.  Blocking; any thread. */
#ifndef LIB_SYS_COMMAND_H
#define LIB_SYS_COMMAND_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* 0 and its exit status in *ret_status (128 + n: killed by signal n).  out: its standard output, up
 * to the buf's maximum (E_LIMIT past it).  E_NOTFOUND when there is no such program, E_TIMEOUT (it
 * is killed then), E_IO. */
int command_run(const char *const *argv, struct str input, struct buf *out, uint32_t timeout_ms,
                int *ret_status, struct err *err) MUST_USE;

#endif
