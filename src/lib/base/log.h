/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: one line to standard error per call, `time level component message`, or one JSON object.
 *
 * Never log a prompt, an answer, a key or a header.  Any thread; a line is one write. */
#ifndef LIB_BASE_LOG_H
#define LIB_BASE_LOG_H

#include "lib/base/compiler.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Before other threads start.  component: who speaks when a line names nobody ("serve", "worker").
 */
void log_init(enum log_level level, bool json, const char *component);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* 0 and the level for "error", "warn", "info" or "debug"; -1 otherwise. */
int log_level_parse(const char *s, enum log_level *ret);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
